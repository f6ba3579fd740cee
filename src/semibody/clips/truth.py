"""What is known of every frame of a clip beyond its joints: the mouth's opening and boxes of the parts.

It is exact for rendered clips; for real ones it is what a detector found.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semibody.files import atomic_write
from semibody.types import Floats, SemibodyError

BOXES = ("lips", "face", "head", "left_hand", "right_hand")
_SMALLEST = 0.004
"""A box below this share of the picture's width or height counts as not in view."""

Curve = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Truth:
    """What is known of every frame of a clip, in the precision of its file.

    ``jaw``    (f,) opening of the mouth: 0 closed, 1 the widest the face can speak.
    ``boxes``  part → (f, 4) x0, y0, x1, y1 as fractions of the picture; NaN where the part is not in view.
    """

    jaw: Curve
    boxes: Mapping[str, Curve]

    def __post_init__(self) -> None:
        frames = len(self.jaw)
        if self.jaw.shape != (frames,):
            raise ValueError(f"Truth.jaw must be (f,), got {self.jaw.shape}")
        for part, boxes in self.boxes.items():
            if part not in BOXES or boxes.shape != (frames, 4):
                raise ValueError(f"Truth.boxes[{part!r}] must be ({frames}, 4) for a part of {BOXES}")

    def save(self, path: Path) -> None:
        arrays: dict[str, Any] = {f"boxes/{part}": boxes for part, boxes in self.boxes.items()}
        with atomic_write(path) as unfinished:
            np.savez_compressed(unfinished, jaw=self.jaw, **arrays)

    @classmethod
    def load(cls, path: Path) -> Truth:
        """Raises SemibodyError if the file cannot be read, lacks the jaw or has boxes of another length."""
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                boxes = {part: arrays[f"boxes/{part}"] for part in BOXES if f"boxes/{part}" in arrays}
                return cls(arrays["jaw"], boxes)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise SemibodyError(
                f"{path}: not a truth file ({error}); delete it and make the data again"
            ) from None


def box_around(
    points: Floats, margin: float, seen: NDArray[np.bool_] | None = None, *, least: int = 1
) -> NDArray[np.float32]:
    """(f, 4) around points (f, k, 2), grown by ``margin`` of its longer side, cut to the picture.

    Points that are not ``seen`` (f, k) do not count. NaN where fewer than ``least`` count, and where the
    box lies outside the picture.
    """
    known = np.ones(points.shape[:2], bool) if seen is None else seen
    enough = known.sum(axis=1) >= least
    points = np.where(enough[:, None, None], points, 0.0)
    out = (enough[:, None] & ~known)[..., None]
    low = np.where(out, np.inf, points).min(axis=1)
    high = np.where(out, -np.inf, points).max(axis=1)
    grow = margin * (high - low).max(axis=1, keepdims=True)
    boxes = np.concatenate([low - grow, high + grow], axis=1).clip(0, 1)
    boxes[~enough | ((boxes[:, 2:] - boxes[:, :2]) < _SMALLEST).any(axis=1)] = np.nan
    return boxes.astype(np.float32)


def boxes_at(boxes: Mapping[str, Curve], frame: int) -> dict[str, Curve]:
    """The boxes (4,) of one frame; parts without a value there are left out."""
    unseen = np.full(4, math.nan)
    at = {part: rows[frame] if frame < len(rows) else unseen for part, rows in boxes.items()}
    return {part: box for part, box in at.items() if np.isfinite(box).all()}
