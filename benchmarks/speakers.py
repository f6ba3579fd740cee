"""How good a set of synthetic speakers is, as one JSON line.

    semibody data synthesise SET --people 20 --clips 2 --assets PACK
    python benchmarks/speakers.py SET --every 12              # does the detector agree with the truth?
    python benchmarks/speakers.py SET --identity              # are people distinguishable?

``found``: of the frames whose truth shows the face and both hands, in how many the detector finds all three.
Errors are mean distances between detected and true joints, in widths of the true shoulders; ``face_inner``
leaves out the jaw line, whose points annotators place differently. ``same_person``: share of clips whose
nearest other clip, by dlib's face network, shows the same person.
"""

import argparse
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semibody.clips.manifest import ClipEntry, read_manifest
from semibody.data.inspect import SEEN
from semibody.media import VideoReader
from semibody.pose.body import face_found, hands_found, shoulder_width
from semibody.pose.detectors import open_detector
from semibody.pose.files import load_gesture
from semibody.types import FACE, LEFT_HAND, RIGHT_HAND, Gesture, Pose

INNER = slice(FACE.start + 17, FACE.stop)
FIVE = (45, 42, 36, 39, 33)
"""dlib's five points in the order of the 68: outer and inner corners of the eyes, base of the nose."""


def frames(entry: ClipEntry, every: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    with VideoReader(entry.video) as video:
        for number, frame in enumerate(video):
            if number % every == 0:
                yield number, frame


def visible(truth: Pose, part: slice) -> bool:
    return bool(np.median(truth.confidence[part] >= SEEN) >= 1)


def distance(truth: Pose, found: Pose, part: slice) -> float:
    both = (truth.confidence[part] >= SEEN) & (found.confidence[part] > 0)
    width = shoulder_width(truth.joints[None], truth.confidence[None] > 0)
    if width is None or not both.any():
        return float("nan")
    off = np.hypot(*(truth.joints[part] - found.joints[part])[both].T)
    return float(off.mean() / width)


def agreement(entries: list[ClipEntry], every: int) -> dict[str, Any]:
    wanted = found = looked = 0
    errors: dict[str, list[float]] = {"hands": [], "face": [], "face_inner": []}
    with open_detector("mediapipe") as detector:
        for entry in entries:
            gesture = load_gesture(entry.gesture)
            for number, frame in frames(entry, every):
                truth, people = gesture[number], detector.people(frame)
                looked += 1
                complete = visible(truth, FACE) and visible(truth, LEFT_HAND) and visible(truth, RIGHT_HAND)
                wanted += complete
                if not people:
                    continue
                one = people[0]
                hands = hands_found(one)
                found += complete and face_found(one) and all(hands)
                for seen, part in zip(hands, (LEFT_HAND, RIGHT_HAND), strict=True):
                    if seen and visible(truth, part):
                        errors["hands"].append(distance(truth, one, part))
                if face_found(one):
                    errors["face"].append(distance(truth, one, FACE))
                    errors["face_inner"].append(distance(truth, one, INNER))
    means = {name: round(float(np.nanmean(values)), 4) for name, values in errors.items()}
    return {"frames": looked, "complete": wanted, "found": round(found / max(wanted, 1), 4), **means}


def identity(entries: list[ClipEntry], every: int) -> dict[str, Any]:
    import dlib

    package = importlib.util.find_spec("face_recognition_models")
    assert package is not None and package.submodule_search_locations
    folder = Path(package.submodule_search_locations[0]) / "models"
    network = dlib.face_recognition_model_v1(str(folder / "dlib_face_recognition_resnet_model_v1.dat"))
    vectors = []
    for entry in entries:
        gesture = load_gesture(entry.gesture)
        each = [embed(network, frame, gesture, number) for number, frame in frames(entry, every)]
        vectors.append(np.mean(each, axis=0))
    people = np.array([entry.person for entry in entries])
    table = np.stack(vectors)
    apart = np.linalg.norm(table[:, None] - table[None], axis=-1)
    same = people[:, None] == people[None]
    np.fill_diagonal(apart, np.inf)
    nearest = people[apart.argmin(axis=1)] == people
    own = apart[same & np.isfinite(apart)]
    return {
        "clips": len(entries), "people": len(set(people)), "same_person": round(float(nearest.mean()), 4),
        "distance_same": round(float(own.mean()), 3), "distance_other": round(float(apart[~same].mean()), 3),
    }  # fmt: skip


def embed(network: Any, frame: NDArray[np.uint8], gesture: Gesture, number: int) -> NDArray[np.float64]:
    import dlib

    size = np.array([frame.shape[1], frame.shape[0]])
    face = gesture.joints[number][FACE] * size
    points = [dlib.point(*(int(v) for v in np.rint(face[k]))) for k in FIVE]
    box = dlib.rectangle(*(int(v) for v in np.rint([*face.min(axis=0), *face.max(axis=0)])))
    chip = dlib.get_face_chip(np.ascontiguousarray(frame), dlib.full_object_detection(box, points), 150, 0.25)
    return np.array(network.compute_face_descriptor(chip))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("set", type=Path)
    parser.add_argument("--identity", action="store_true")
    parser.add_argument("--every", type=int, default=24, help="measure every n-th frame")
    given = parser.parse_args()
    entries = read_manifest(given.set)
    if given.identity:
        print(json.dumps(identity(entries, given.every)))
    else:
        print(json.dumps(agreement([e for e in entries if e.kind == "full"], given.every)))


if __name__ == "__main__":
    main()
