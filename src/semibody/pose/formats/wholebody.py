"""COCO-WholeBody: 133 points a person, as mmpose predicts them and COCO's annotations store them.

The order is body 17, feet 6, face 68, left hand 21, right hand 21. mmpose writes ``instances`` with
``keypoints`` (133, 2) and ``keypoint_scores`` (133,); COCO writes x, y, score one after the other, in
one list or in one a part, and names the picture they belong to. All are in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from semibody.pose.body import SEEN
from semibody.pose.formats.published import pose_from_official
from semibody.pose.formats.reading import Size, mapping, number_in, require_size
from semibody.types import Floats, Pose, SemibodyError

N_POINTS = 133
_BODY_FROM_COCO = (
    (1, 2, 3, 4, 6, 7, 8, 9, 10, 12, 13, 14, 15, 16, 17),
    (17, 6, 8, 10, 7, 9, 12, 14, 16, 13, 15, 2, 1, 4, 3),
)
"""OpenPose body joints, and their indices in COCO order with the neck inserted at 17."""
_COCO_PARTS = (
    ("keypoints", 17), ("foot_kpts", 6), ("face_kpts", 68), ("lefthand_kpts", 21), ("righthand_kpts", 21)
)  # fmt: skip
_MOST_FRAMES = 10**6


def to_official(points: Floats, scores: Floats, width: float, height: float) -> dict[str, Any]:
    """Points (n, 133, 2) in pixels and scores (n, 133) to the published dict, all people in it."""
    people = len(points)
    shoulders = [5, 6]
    neck = points[:, shoulders].mean(axis=1, keepdims=True)
    seen = (scores[:, shoulders] > SEEN).all(axis=1, keepdims=True).astype(np.float64)
    joints = np.insert(points, 17, neck[:, 0], axis=1)
    score = np.insert(scores.astype(np.float64), 17, seen[:, 0], axis=1)
    openpose, coco = (list(order) for order in _BODY_FROM_COCO)
    joints[:, openpose], score[:, openpose] = joints[:, coco], score[:, coco]
    joints = joints / (width, height)
    body_score = score[:, :18]
    subset = np.where(body_score > SEEN, 18.0 * np.arange(people)[:, None] + np.arange(18), -1.0)
    return {
        "bodies": {"candidate": joints[:, :18].reshape(-1, 2), "subset": subset, "score": body_score},
        "hands": np.concatenate([joints[:, 92:113], joints[:, 113:134]]),
        "hands_score": np.concatenate([score[:, 92:113], score[:, 113:134]]),
        "faces": joints[:, 24:92],
        "faces_score": score[:, 24:92],
    }


def is_frames(content: Any) -> bool:
    """Whether JSON looks like mmpose's or COCO's rather than OpenPose's."""
    if isinstance(content, dict):
        return any(key in content for key in ("instance_info", "instances", "annotations", "keypoints"))
    first = mapping(content[0]) if isinstance(content, list) and content else {}
    return "keypoints" in first or "instances" in first


def frames_of(content: Any, source: str) -> list[list[Pose]]:
    """Every person of every frame, in pixels. Raises SemibodyError for anything but 133 points a person."""
    # mmpose's demos write the frames of a video under instance_info, its inferencer as a plain list.
    listed = isinstance(content, list) and bool(content) and "instances" in mapping(content[0])
    if listed or (isinstance(content, dict) and "instance_info" in content):
        frames = content if listed else _listed(content["instance_info"], "instance_info", source)
        pairs = [(mapping(frame).get("frame_id"), mapping(frame).get("instances")) for frame in frames]
        return _by_frame(pairs, source)
    if isinstance(content, dict) and "annotations" in content:
        return _by_picture(_listed(content["annotations"], "annotations", source), source)
    people = [content] if isinstance(content, dict) and "keypoints" in content else content
    people = people.get("instances") if isinstance(people, dict) else people
    if isinstance(people, list) and people and "image_id" in mapping(people[0]):
        return _by_picture(people, source)
    return [_people(people, source)]


def size_of(content: Any, source: str) -> Size | None:
    """Width and height of the first picture, where COCO's ``images`` give them."""
    images = content.get("images") if isinstance(content, dict) else None
    first = mapping(images[0]) if isinstance(images, list) and images else {}
    if "width" not in first or "height" not in first:
        return None
    width, height = (number_in(first[side], f"an image's {side}", source) for side in ("width", "height"))
    return require_size((width, height), source)


def _by_frame(pairs: Sequence[tuple[Any, Any]], source: str) -> list[list[Pose]]:
    """mmpose numbers its frames; those without people may be left out."""
    frames = [_people(instances, f"{source}, frame {number}") for number, instances in pairs]
    numbers = [number for number, _ in pairs]
    if not numbers or not all(isinstance(n, int) and not isinstance(n, bool) for n in numbers):
        return frames
    first, last = min(numbers), max(numbers)
    if len(set(numbers)) < len(numbers) or last - first >= _MOST_FRAMES:
        raise SemibodyError(f"{source}: frame_id is no numbering of frames; predict the poses again")
    known = dict(zip(numbers, frames, strict=True))
    return [known.get(number, []) for number in range(first, last + 1)]


def _by_picture(people: Sequence[Any], source: str) -> list[list[Pose]]:
    """COCO lists people, each with the number of its picture; pictures are in the order of their numbers."""
    pictures: dict[int | str, list[Any]] = {}
    for person in people:
        key = mapping(person).get("image_id")
        if not isinstance(key, int | str):
            raise SemibodyError(f"{source}: image_id is neither number nor name; not COCO-WholeBody JSON")
        pictures.setdefault(key, []).append(person)
    ordered = sorted(pictures, key=lambda key: str(key).rjust(32))
    return [_people(pictures[key], f"{source}, image {key}") for key in ordered]


def _people(instances: Any, source: str) -> list[Pose]:
    found = [_points(person, source) for person in _listed(instances, "instances", source)]
    if not found:
        return []
    points, scores = (np.stack(part) for part in zip(*found, strict=True))
    value = to_official(points, scores.clip(min=0), 1, 1)
    return [pose_from_official(value, source, person) for person in range(len(found))]


def _points(person: Any, source: str) -> tuple[Floats, Floats]:
    """Points (133, 2) and scores (133,) of one person."""
    values = mapping(person)
    keypoints = _numbers(values, "keypoints", source)
    if "keypoint_scores" in values:
        scores = _numbers(values, "keypoint_scores", source)
        points = keypoints.reshape(-1, 2) if keypoints.size == 2 * scores.size else keypoints
    elif "face_kpts" in values:
        rows = [_numbers(values, key, source) for key, _ in _COCO_PARTS]
        if any(row.size != 3 * count for row, (_, count) in zip(rows, _COCO_PARTS, strict=True)):
            raise SemibodyError(f"{source}: a part has not the points of COCO-WholeBody; predict it again")
        triples = np.concatenate([row.reshape(-1, 3) for row in rows])
        points, scores = triples[:, :2], triples[:, 2]
    else:
        triples = keypoints.reshape(-1, 3) if keypoints.size % 3 == 0 else keypoints
        points, scores = triples[..., :2], triples[..., -1]
    if points.shape != (N_POINTS, 2) or scores.size != N_POINTS:
        raise SemibodyError(
            f"{source}: holds {scores.size} points, not the {N_POINTS} of COCO-WholeBody; "
            "use a whole-body model, so that hands are found"
        )
    return points, scores.reshape(N_POINTS)


def _numbers(values: Any, key: str, source: str) -> Floats:
    try:
        return np.asarray(values.get(key, []), dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise SemibodyError(f"{source}: '{key}' holds no numbers") from None


def _listed(value: Any, key: str, source: str) -> list[Any]:
    if not isinstance(value, list):
        raise SemibodyError(f"{source}: '{key}' is no list; not COCO-WholeBody JSON")
    return value
