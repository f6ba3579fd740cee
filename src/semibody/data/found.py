"""Poses of packed clips as a detector finds them, beside the exact ones they come with.

    find_poses(clips, workers=2)
    clips[0].portrait_pose(3)       # as the detector finds it in that frame

For a user's portrait only a detected pose is known: joints are off by some hundredths of the shoulders'
width, a hand may be missed. Networks that are conditioned on the portrait's pose must be trained with such
poses.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from semibody.data.dataset import PackedClip
from semibody.files import atomic_write, path_of
from semibody.pose.detectors import Detector, open_detector
from semibody.processes.local import in_processes
from semibody.types import Progress, silent


def find_poses(clips: Sequence[PackedClip], *, workers: int = 1, progress: Progress = silent) -> None:
    """Detect the person in every frame, once, and use the detected poses for the clips' portraits.

    It is kept beside each clip, in ``<id>.found.safetensors``: ``joints`` (f, 128, 2) and ``confidence``
    (f, 128) of the largest person, the exact ones where no person was found. Raises MissingPartError without
    the detector's package.
    """
    missing = [clip for clip in clips if not _path(clip).exists()]
    jobs = [(clip,) for clip in missing]
    for done, _ in enumerate(in_processes(_find, jobs, workers), start=1):
        progress("find poses", done, len(missing))
    for clip in clips:
        clip.found = _path(clip)


def _path(clip: PackedClip) -> Path:
    return path_of(clip.path.parent, clip.id, ".found.safetensors")


@cache
def _detector() -> Detector:
    return open_detector()  # one for each worker


def _find(clip: PackedClip) -> None:
    """Runs in a worker."""
    from safetensors.numpy import save_file

    poses = []
    for frame, picture in enumerate(clip.pictures(range(len(clip)))):
        people = _detector().people(picture)
        poses.append(people[0] if people else clip.pose(frame))
    arrays = {
        "joints": np.stack([pose.joints for pose in poses]).astype(np.float32),
        "confidence": np.stack([pose.confidence for pose in poses]).astype(np.float32),
    }
    with atomic_write(_path(clip)) as unfinished:
        save_file(arrays, unfinished)
