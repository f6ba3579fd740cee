"""Our own ``.npz``: ``joints`` (f, 128, 2), ``confidence`` (f, 128), ``fps``, ``aspect``, ``version``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semibody.files import atomic_write, read_npz
from semibody.pose.formats.reading import Found, number_in
from semibody.types import N_JOINTS, Gesture, Pose, SemibodyError

VERSION = 1


def write(gesture: Gesture, path: Path) -> None:
    with atomic_write(path) as unfinished, unfinished.open("wb") as file:
        np.savez_compressed(
            file,
            joints=gesture.joints,
            confidence=gesture.confidence,
            fps=np.float64(gesture.fps),
            aspect=np.float64(gesture.aspect),
            version=np.int64(VERSION),
        )


def read(path: Path) -> Found:
    """Raises SemibodyError, naming the file, for anything damaged or of wrong shape."""
    arrays = read_npz(path, "give a gesture written by Semibody")
    for key in ("joints", "confidence", "fps"):
        if key not in arrays:
            raise SemibodyError(f"{path}: is an .npz without '{key}'; not a gesture written by Semibody")
    if _number(arrays, "version", path, VERSION) > VERSION:
        raise SemibodyError(f"{path}: written by a newer Semibody; update this one")
    joints, confidence = arrays["joints"], arrays["confidence"]
    frames = len(joints) if joints.ndim else 0
    if joints.shape != (frames, N_JOINTS, 2) or confidence.shape != (frames, N_JOINTS) or not frames:
        raise SemibodyError(
            f"{path}: joints and confidence have shapes {joints.shape} and {confidence.shape}, "
            f"not (frames, {N_JOINTS}, 2) and (frames, {N_JOINTS})"
        )
    if joints.dtype.kind not in "biuf" or confidence.dtype.kind not in "biuf":
        raise SemibodyError(f"{path}: joints or confidence hold no numbers")
    joints, confidence = joints.astype(np.float64), confidence.astype(np.float64)
    if (confidence < 0).any():
        raise SemibodyError(f"{path}: holds confidences below 0; they go from 0 to 1")
    return Found(
        source=str(path),
        frames=[[Pose(j, c)] for j, c in zip(joints, confidence, strict=True)],
        fps=_number(arrays, "fps", path),
        aspect=_number(arrays, "aspect", path, 1.0),
        name=path.stem,
    )


def _number(arrays: dict[str, NDArray[Any]], key: str, path: Path, otherwise: float | None = None) -> float:
    if key not in arrays and otherwise is not None:
        return otherwise
    array = arrays[key]
    if array.shape != () or array.dtype.kind not in "iuf":
        raise SemibodyError(f"{path}: '{key}' is not a number")
    return number_in(array.item(), f"'{key}'", str(path))
