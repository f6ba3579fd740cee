"""Whole-body pose: a picture in; body 18, face 68 and hands 2 x 21 of every person out.

    with open_detector() as detector:
        people = detector.people(image)            # the largest first
        pose = detector.follow(image, people[0])   # the same person in the next frame

``mediapipe`` works offline and is the default; ``dwpose`` is the published system's detector and
needs its two ONNX files. For a whole video see ``pose.track``.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from semibody.pose.skeleton import HAND_EDGES
from semibody.types import BODY, FACE, LEFT_HAND, RIGHT_HAND, Floats, Picture, Pose, SemibodyError

SEEN = 0.3
"""Confidence from which a joint counts as found, as in the published code."""

DETECTORS = ("auto", "mediapipe", "dwpose")
DWPOSE_FILES = ("yolox_l.onnx", "dw-ll_ucoco_384.onnx")
DWPOSE_VARIABLE = "SEMIBODY_DWPOSE"


class Detector(Protocol):
    """Finds people in pictures. A context manager: closing it frees its networks' memory."""

    name: str

    def people(self, image: Picture) -> list[Pose]:
        """Everyone in the picture, the largest first; empty when there is nobody."""
        ...

    def follow(self, image: Picture, last: Pose) -> Pose | None:
        """The person who was at ``last`` in the frame before; None when not in view."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_detector(name: str = "auto", folder: Path | str | None = None) -> Detector:
    """Open a detector by name.

    ``folder`` holds DWPose's two ONNX files (default: the folder named by SEMIBODY_DWPOSE). ``auto``
    takes DWPose when that folder is given, else mediapipe. Raises MissingPartError when the package or
    the files are missing.
    """
    if name not in DETECTORS:
        raise SemibodyError(f"--detector {name} is unknown; choose {', '.join(DETECTORS)}")
    given = folder or os.environ.get(DWPOSE_VARIABLE)
    if name == "dwpose" or (name == "auto" and given):
        from semibody.pose.dwpose import DWPose

        return DWPose(Path(given) if given else None)
    from semibody.pose.mediapipe_detector import MediapipeDetector

    return MediapipeDetector()


def detect_pose(image: Picture, detector: Detector | None = None, person: int = 0) -> Pose:
    """The pose of one person: ``person`` 0 is the largest. Raises SemibodyError when there is none."""
    opened = detector or open_detector()
    try:
        people = opened.people(image)
    finally:
        if detector is None:
            opened.close()
    if person >= len(people):
        found = f"{len(people)} people were" if people else "nobody was"
        raise SemibodyError(f"person {person} was asked for, but {found} found in the picture")
    return people[person]


def face_found(pose: Pose) -> bool:
    return bool(pose.confidence[FACE].mean() >= SEEN)


def hands_found(pose: Pose) -> tuple[bool, bool]:
    """Whether the left and the right hand were found: most of their joints seen."""
    left, right = pose.confidence[LEFT_HAND], pose.confidence[RIGHT_HAND]
    return bool(np.median(left) >= SEEN), bool(np.median(right) >= SEEN)


USUAL_SHOULDERS = 0.3
"""Width of the shoulders in heights of the picture where none are seen."""


def shoulder_width(points: Floats, seen: NDArray[np.bool_]) -> float | None:
    """Median distance of the shoulders over the frames that show both; None when none does.

    ``points`` (f, 128, 2) in one unit for both axes, the unit of the result; ``seen`` (f, 128).
    """
    both = seen[:, [2, 5]].all(axis=1)
    if not both.any():
        return None
    across = points[both, 2] - points[both, 5]
    return max(float(np.median(np.hypot(across[:, 0], across[:, 1]))), 1e-3)


def person_size(pose: Pose, aspect: float = 1.0) -> float:
    """How large a person appears, for ranking: the diagonal of face, neck and shoulders."""
    points = pose.joints[: FACE.stop][pose.confidence[: FACE.stop] >= SEEN]
    if len(points) == 0:
        return 0.0
    upper = points[points[:, 1] <= np.median(points[:, 1]) + np.ptp(pose.joints[FACE][:, 1]) * 3]
    return float(np.hypot(*(np.ptp(upper, axis=0) * (aspect, 1.0))))


def anchor(pose: Pose) -> Floats:
    """One point by which a person is recognised in the next frame: the mean of the seen face, or body."""
    for part in (FACE, BODY):
        seen = pose.confidence[part] >= SEEN
        if seen.any():
            return np.asarray(pose.joints[part][seen].mean(axis=0))
    return np.array([0.5, 0.5])


def hand_length(hand: Floats) -> float:
    """Length of a hand (21, 2) in the units of its joints: wrist to middle fingertip along the bones."""
    bones = [np.hypot(*(hand[b] - hand[a])) for a, b in HAND_EDGES[8:12]]
    return float(np.sum(bones))
