"""Paths of the camera as HumanVid publishes them: how far it turns in a piece of a video.

A text file for each video has a line for each of its frames: number, place (3), rotation as a quaternion
x y z w (the TUM format), then the focal lengths and in some files a scale. Places have no common unit (they
come from a monocular reconstruction), so only rotations are read. The collection's poses are published as
drawn videos and not as joints: an ingest finds joints itself.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from semibody.files import numbered_lines
from semibody.types import Floats, SemibodyError

_REMEDY = "give HumanVid's file of the camera"
_LEAST, _MOST = 8, 11


def read_rotations(path: Path) -> Floats:
    """(f, 4) unit quaternions, x y z w, of every frame. Raises SemibodyError naming file and line."""
    rows = []
    for number, line in numbered_lines(path, _REMEDY):
        if line.startswith("#"):
            continue
        try:
            values = [float(word) for word in line.split()]
        except ValueError:
            values = []
        length = float(np.linalg.norm(values[4:8])) if _LEAST <= len(values) <= _MOST else 0.0
        if not 0.5 < length < 2:
            raise SemibodyError(f"{path}:{number}: is no frame of a camera's path; {_REMEDY}")
        rows.append(np.array(values[4:8]) / length)
    if not rows:
        raise SemibodyError(f"{path}: lists no frame; {_REMEDY}")
    return np.stack(rows)


def turn(rotations: Floats) -> float:
    """The largest angle, in degrees, between the first of some frames (f, 4) and another; 0 without any."""
    if not len(rotations):
        return 0.0
    # q and −q are the same rotation; the angle between two is twice that of the quaternions.
    cosines = np.abs(rotations @ rotations[0]).clip(0, 1)
    return float(np.degrees(2 * np.arccos(cosines.min())))
