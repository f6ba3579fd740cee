"""Whole-body pose: a picture in; body 18, face 68 and hands 2 x 21 of every person out.

    with open_detector() as detector:
        people = detector.people(image)            # the largest first
        pose = detector.follow(image, people[0])   # the same person in the next frame

    with shared_detector() as detector: ...        # the one that the process keeps open

``mediapipe`` works offline and is the default where Python has it (up to 3.12); ``dwpose`` is the published
system's detector and needs its two ONNX files (`semibody weights fetch dwpose`). For a whole video see
``pose.track``.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from semibody.pose.detectors.dwpose import DWPOSE_VARIABLE, DWPose
from semibody.pose.detectors.mediapipe import MediapipeDetector
from semibody.types import MissingPartError, Picture, Pose, SemibodyError
from semibody.weights.hub import find_dwpose

DETECTORS = ("auto", "mediapipe", "dwpose")


class Detector(Protocol):
    """Finds people in pictures. A context manager: closing it frees its networks' memory."""

    name: str

    def people(self, image: Picture) -> list[Pose]:
        """All people in the picture, the largest first; empty when there are none."""
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

    ``folder`` holds DWPose's two ONNX files (default: the folder named by SEMIBODY_DWPOSE, else where they
    were fetched to). ``auto`` takes DWPose when a folder is given, else mediapipe, else DWPose if it was
    fetched. Raises MissingPartError when the package or the files are missing.
    """
    if name not in DETECTORS:
        raise SemibodyError(f"--detector {name} is unknown; choose {', '.join(DETECTORS)}")
    given = folder or os.environ.get(DWPOSE_VARIABLE)
    if name == "dwpose" or (name == "auto" and given):
        return DWPose(Path(given) if given else None)
    try:
        return MediapipeDetector()
    except MissingPartError:
        if name == "mediapipe" or not _dwpose_is_here():
            raise
    return DWPose()


def _dwpose_is_here() -> bool:
    try:
        find_dwpose()
    except MissingPartError:
        return False
    return True


_shared: dict[tuple[int, str, str | None], Detector] = {}
_one_at_a_time = threading.RLock()


@contextlib.contextmanager
def shared_detector(name: str = "auto") -> Iterator[Detector]:
    """The process's own detector, for one thread at a time: opened at its first use, closed at exit.

    Opening one takes seconds, and its native library keeps megabytes of every one that is closed. Raises
    MissingPartError as ``open_detector`` does.
    """
    with _one_at_a_time:
        # A forked process has none of the threads of its parent's detector.
        key = (os.getpid(), name, os.environ.get(DWPOSE_VARIABLE))
        if key not in _shared:
            _shared[key] = detector = open_detector(name)
            atexit.register(detector.close)
        yield _shared[key]


def detect_pose(image: Picture, detector: Detector | None = None, person: int = 0) -> Pose:
    """The pose of one person: ``person`` 0 is the largest. Raises SemibodyError when there is none."""
    with contextlib.nullcontext(detector) if detector is not None else shared_detector() as opened:
        people = opened.people(image)
    if person >= len(people):
        found = f"{len(people)} people were" if people else "no person was"
        raise SemibodyError(f"person {person} was asked for, but {found} found in the picture")
    return people[person]
