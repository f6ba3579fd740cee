"""Poses of packed clips as a detector finds them, beside the exact ones they come with.

    found = FoundPoses(Path("run/found-mediapipe-24fps"))
    found.fill(clips, workers=2)
    clips[0].found = found
    clips[0].portrait_pose(3)       # as it would be found in a user's portrait of that moment

Who animates a picture has nobody's exact pose: joints are off by some hundredths of the shoulders' width, a
hand may be missed. Networks that are shown the portrait's pose must have met such poses in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from semibody.media import atomic_write
from semibody.pose.detect import Detector, open_detector
from semibody.processes import in_processes
from semibody.types import Pose, Progress, silent

if TYPE_CHECKING:
    from semibody.data.dataset import PackedClip


class FoundPoses:
    """A folder with a file a clip: ``joints`` (f, 128, 2) and ``confidence`` (f, 128), float32."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, clip: PackedClip) -> Path:
        return self.folder / f"{clip.id}.found.safetensors"

    def fill(self, clips: Sequence[PackedClip], *, workers: int = 1, progress: Progress = silent) -> None:
        """Look for the person in every frame of clips that are not done. Raises MissingPartError without the
        detector's package."""
        missing = [clip for clip in clips if not self.path(clip).exists()]
        jobs = [(str(clip.path), str(self.path(clip))) for clip in missing]
        for done, _ in enumerate(in_processes(_find, jobs, workers), start=1):
            progress("find poses", done, len(missing))

    def pose(self, clip: PackedClip, frame: int) -> Pose:
        """The largest person's; the exact one where nobody was found."""
        from safetensors import safe_open

        with safe_open(str(self.path(clip)), framework="np") as file:
            joints, confidence = (file.get_slice(k)[frame] for k in ("joints", "confidence"))
        return Pose(joints.astype(np.float64), confidence.astype(np.float64))


@cache
def _detector() -> Detector:
    return open_detector()  # a worker's, for all of its clips


def _find(clip_path: str, path: str) -> None:
    """Runs in a worker."""
    from safetensors.numpy import save_file

    from semibody.data.dataset import PackedClip

    clip = PackedClip(Path(clip_path))
    poses = []
    for frame, picture in enumerate(clip.pictures(range(len(clip)))):
        people = _detector().people(picture)
        poses.append(people[0] if people else clip.pose(frame))
    arrays = {
        "joints": np.stack([pose.joints for pose in poses]).astype(np.float32),
        "confidence": np.stack([pose.confidence for pose in poses]).astype(np.float32),
    }
    with atomic_write(Path(path)) as unfinished:
        save_file(arrays, unfinished)
