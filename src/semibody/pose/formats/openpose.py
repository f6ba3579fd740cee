"""OpenPose JSON: ``people`` of a frame, with x, y and confidence of every joint in pixels.

OpenPose itself writes a file a frame without the size of its picture. Other tools, and ``write``, put
``canvas_width`` and ``canvas_height`` beside ``people``, and all frames into one file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from semibody.files import atomic_write
from semibody.pose.formats.reading import Size, number_in, require_finite, require_size
from semibody.types import (
    BODY,
    FACE,
    LEFT_HAND,
    N_FACE,
    RIGHT_HAND,
    Floats,
    Gesture,
    Pose,
    SemibodyError,
)

_OPENPOSE_FACE = 70
"""OpenPose's face has two points more, the pupils: they are left empty."""
_BODY_25 = (*range(8), 9, 10, 11, 12, 13, 14, 15, 16, 17, 18)
"""Indices of the 18 body joints among OpenPose's 25 (number 8 there is the middle of the hips)."""
_PARTS = (
    ("pose_keypoints_2d", BODY),
    ("face_keypoints_2d", FACE),
    ("hand_left_keypoints_2d", LEFT_HAND),
    ("hand_right_keypoints_2d", RIGHT_HAND),
)


def people_of(frame: Any, source: str) -> list[Pose]:
    """All people of a frame, in the file's units. Raises SemibodyError."""
    people = frame.get("people") if isinstance(frame, dict) else None
    if not isinstance(people, list):
        raise SemibodyError(f"{source}: has no 'people'; not OpenPose JSON")
    return [_pose(person, source) for person in people]


def canvas_of(content: Any, source: str) -> Size | None:
    """Width and height of the picture, where a file or a frame gives them. Raises SemibodyError."""
    if not isinstance(content, dict) or not content.get("canvas_width") or not content.get("canvas_height"):
        return None
    width, height = (
        number_in(content[f"canvas_{side}"], f"canvas_{side}", source) for side in ("width", "height")
    )
    return require_size((width, height), source)


def _pose(person: Any, source: str) -> Pose:
    if not isinstance(person, dict):
        raise SemibodyError(f"{source}: 'people' holds something other than people; give OpenPose JSON")
    pose = Pose.empty()
    for key, part in _PARTS:
        points = _triples(person.get(key), key, source)
        if len(points) == 25 and part is BODY:
            points = points[list(_BODY_25)]
        count = part.stop - part.start
        if len(points) == 0:
            continue
        if len(points) < count:
            raise SemibodyError(f"{source}: '{key}' holds {len(points)} points, not {count}")
        pose.joints[part] = points[:count, :2]
        pose.confidence[part] = points[:count, 2].clip(min=0)
    require_finite(source, pose.joints, pose.confidence)
    return pose


def _triples(values: Any, key: str, source: str) -> Floats:
    try:
        return np.asarray(values or [], dtype=np.float64).reshape(-1, 3)
    except (TypeError, ValueError, OverflowError):
        raise SemibodyError(f"{source}: '{key}' is not a list of x, y, confidence") from None


def write(gesture: Gesture, path: Path) -> None:
    """One file: ``canvas_width``, ``canvas_height`` and for each frame OpenPose's ``people`` in pixels."""
    height = 1024
    width = max(1, round(height * gesture.aspect))
    frames = [_frame(gesture[i], width, height) for i in range(len(gesture))]
    content = {
        "version": 1.3, "fps": gesture.fps, "aspect": gesture.aspect,
        "canvas_width": width, "canvas_height": height, "frames": frames,
    }  # fmt: skip
    with atomic_write(path) as unfinished:
        unfinished.write_text(json.dumps(content), encoding="utf-8")


def _frame(pose: Pose, width: int, height: int) -> dict[str, Any]:
    def flat(part: slice, padding: int = 0) -> list[float]:
        points = np.column_stack([pose.joints[part] * (width, height), pose.confidence[part]])
        return [*points.ravel().tolist(), *([0.0] * (3 * padding))]

    person = {
        "pose_keypoints_2d": flat(BODY),
        "face_keypoints_2d": flat(FACE, _OPENPOSE_FACE - N_FACE),
        "hand_left_keypoints_2d": flat(LEFT_HAND),
        "hand_right_keypoints_2d": flat(RIGHT_HAND),
    }
    return {"people": [person]}
