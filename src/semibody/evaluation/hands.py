"""Hands that should be somewhere: how many keypoints are there (PCK), and how far off the others are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from semibody.types import Floats


def hand_size(hands: Floats, confidence: Floats, *, threshold: float) -> Floats:
    """(hand=2,) the median over frames of the longer side of each hand's box; NaN for a hand never whole."""
    sides = (hands.max(axis=2) - hands.min(axis=2)).max(axis=-1)
    whole = (confidence >= threshold).mean(axis=2) > 0.5
    return np.array([np.median(sides[whole[:, k], k]) if whole[:, k].any() else math.nan for k in (0, 1)])


@dataclass(frozen=True)
class HandErrors:
    """``pck`` share of keypoints within the tolerance, of all that should be seen · ``error`` mean distance
    of those found, in the unit of the hands · ``missed`` share of keypoints that should be seen but were
    not found."""

    pck: float
    error: float
    missed: float


def hand_errors(
    hands: Floats,
    confidence: Floats,
    true: Floats,
    true_confidence: Floats,
    *,
    tolerance: float,
    threshold: float,
) -> HandErrors:
    """Compare hands (f, 2, 21, 2) with where they should be, in the same unit.

    ``tolerance`` is a share of each true hand's size (``hand_size``). Keypoints that are not seen in truth
    are not asked for. All NaN when truth shows no hand.
    """
    frames = min(len(hands), len(true))
    hands, confidence = hands[:frames], confidence[:frames]
    true, true_confidence = true[:frames], true_confidence[:frames]
    size = hand_size(true, true_confidence, threshold=threshold)
    wanted = (true_confidence >= threshold) & np.isfinite(size)[None, :, None]
    if not wanted.any():
        return HandErrors(math.nan, math.nan, math.nan)
    found = wanted & (confidence >= threshold)
    distance = np.linalg.norm(hands - true, axis=-1)
    right = found & (distance <= tolerance * np.nan_to_num(size)[None, :, None])
    error = float(distance[found].mean()) if found.any() else math.nan
    return HandErrors(right.sum() / wanted.sum(), error, 1 - found.sum() / wanted.sum())
