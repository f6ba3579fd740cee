"""How far a mouth is open, frame by frame, and the correlation of two curves.

Every opening is a distance of the inner lips over another distance of the same face, so that it depends
neither on the size of the picture nor on that of the face. The divisor depends on what was found:

``opening``        any two pairs of points: what the others are made of.
``mouth_opening``  over the width of the mouth. Rendered mouths have one width, so it follows the true jaw.
``jaw_opening``    over the height of the face. A detected mouth narrows and widens as it speaks and smiles,
                   so real video uses this one.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semibody.types import FACE, Floats, Gesture

SHAPES = ("jaw", "round", "wide", "press", "lower", "upper")
"""Columns of a mouth's shape, 0..1: jaw open, lips forward, lips spread, lips pressed, lower lip behind the
upper teeth, upper lip up."""

_CORNERS, _MIDDLES = (48, 54), (62, 66)
"""Places among the 68 points of a face: corners of the mouth, middles of the upper and lower inner lip."""
_LIPS = slice(48, 68)
_INNER_LIPS = ((61, 67), (62, 66), (63, 65))
_CHIN, _BROWS = 8, (19, 24)
_WIDEST = 0.22
"""Gap of the inner lips, in heights of the face from brows to chin, that counts as 1."""
_SEEN = 0.05


def opening(
    points: NDArray[Any], lips: tuple[int, int], over: tuple[int, int], least: float = 1e-6
) -> Floats:
    """(f,) distance of the two ``lips`` over that of the two points ``over``, of points (f, k, 2).

    A distance below ``least`` divides as ``least``.
    """
    apart, length = (np.linalg.norm(points[:, a] - points[:, b], axis=1) for a, b in (lips, over))
    return apart / np.maximum(length, least)


def mouth_opening(gesture: Gesture) -> NDArray[np.float32]:
    """(f,) distance of the inner lips over the mouth's width, at most 1; 0 where no lips were seen."""
    seen = gesture.confidence[:, FACE][:, _LIPS].min(axis=1) > _SEEN
    apart = opening(gesture.joints[:, FACE], _MIDDLES, _CORNERS)
    return np.where(seen, apart.clip(0, 1), 0).astype(np.float32)


def jaw_opening(face: Floats) -> NDArray[np.float32]:
    """(f,) mean of three gaps of the inner lips over the height of the face (f, 68, 2): 0..1."""
    gaps = [np.hypot(*(face[:, below] - face[:, above]).T) for above, below in _INNER_LIPS]
    tall = np.hypot(*(face[:, _CHIN] - face[:, _BROWS].mean(axis=1)).T)
    return np.clip(np.mean(gaps, axis=0) / np.maximum(_WIDEST * tall, 1e-6), 0, 1).astype(np.float32)


def correlation(a: NDArray[Any], b: NDArray[Any], *, least: int = 2) -> float:
    """Pearson's r of two curves (f,); NaN for fewer than ``least`` frames or when one does not change."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if len(a) < least or min(np.std(a), np.std(b)) < 1e-6:
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])
