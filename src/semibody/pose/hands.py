"""Confidence (HKC) and variation over time (HKV) of hand keypoints.

The paper names HKC and HKV but prints no formula. Ours: HKC is the mean confidence of the 42 hand keypoints
over all frames, a hand that is not found counting 0. HKV is the root of the mean over keypoints and axes of
the variance over time, in pixels of a 768² picture: the paper's 25.28 fits a standard deviation (published
gestures of plain talking give about 40), not a variance (1800).
"""

from __future__ import annotations

import math

import numpy as np

from semibody.types import Floats


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
