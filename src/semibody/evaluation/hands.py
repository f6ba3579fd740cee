"""Hands: how surely they are seen (HKC), how richly they move (HKV), how far from where they should be (PCK).

The paper names HKC and HKV but prints no formula. Ours: HKC is the mean confidence of the 42 hand keypoints
over all frames, a hand that is not found counting 0. HKV is the root of the mean over keypoints and axes of
the variance over time, in pixels of a 768² picture: the paper's 25.28 fits a standard deviation (published
gestures of plain talking give about 40), not a variance (1800).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def hand_confidence(confidence: Floats) -> float:
    """HKC: mean of (f, hand=2, j=21); NaN without frames. Values above 1 (SimCC maxima) count 1."""
    return float(np.minimum(confidence, 1.0).mean()) if len(confidence) else math.nan


def hand_variation(hands: Floats, confidence: Floats, *, threshold: float) -> float:
    """HKV of (f, hand=2, j=21, 2) in any unit, in that unit: √ mean of the variance over time.

    A keypoint counts in the frames where its confidence reaches ``threshold``, and if there are at least two.
    NaN when no keypoint does.
    """
    seen = np.where((confidence >= threshold)[..., None], hands, np.nan)
    enough = np.isfinite(seen).all(axis=-1).sum(axis=0) >= 2
    if not enough.any():
        return math.nan
    return float(np.sqrt(np.nanvar(seen[:, enough], axis=0).mean()))


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
