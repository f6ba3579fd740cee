"""What only rendered clips can tell: the true jaw, where the parts are, the true joints. Only read here."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from semibody.types import Floats, SemibodyError


@dataclass(frozen=True)
class Truth:
    """``jaw`` (f,) opening 0..1 · ``boxes`` part → (f, 4) x0, y0, x1, y1 in fractions, NaN where unseen."""

    jaw: Floats
    boxes: Mapping[str, Floats]


def read_truth(path: Path) -> Truth:
    """Read a truth file (npz with ``jaw`` and ``boxes/<part>``). Raises SemibodyError naming it."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            boxes = {
                name.removeprefix("boxes/"): arrays[name].astype(np.float64)
                for name in arrays.files
                if name.startswith("boxes/")
            }
            return Truth(arrays["jaw"].astype(np.float64), boxes)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise SemibodyError(f"{path}: not a truth file ({error}); make the data again") from None


def boxes_at(boxes: Mapping[str, Floats], frame: int) -> dict[str, Floats]:
    """The boxes of one frame; parts without a value there are left out."""
    unseen = np.full(4, math.nan)
    at = {part: rows[frame] if frame < len(rows) else unseen for part, rows in boxes.items()}
    return {part: box for part, box in at.items() if np.isfinite(box).all()}
