"""Hands: confidence (HKC), variation (HKV), errors (PCK)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semibody.evaluation import distributions
from semibody.evaluation.gather import Gathered, Side
from semibody.evaluation.measures import Measure, Measured, OneClip, over_clips
from semibody.evaluation.protocol import Item
from semibody.pose.hands import hand_confidence, hand_variation
from semibody.types import LEFT_HAND, RIGHT_HAND, Floats


def hand_size(hands: Floats, confidence: Floats, *, threshold: float) -> Floats:
    """(hand=2,) the median over frames of the longer side of each hand's box; NaN for one never complete."""
    sides = (hands.max(axis=2) - hands.min(axis=2)).max(axis=-1)
    whole = (confidence >= threshold).mean(axis=2) > 0.5
    return np.array([np.median(sides[whole[:, k], k]) if whole[:, k].any() else math.nan for k in (0, 1)])


@dataclass(frozen=True)
class HandErrors:
    """``pck`` share of keypoints within the tolerance, of all visible ones · ``error`` mean distance of those
    found, in the unit of the hands · ``missed`` share of the visible keypoints that were not found. Visible:
    by the truth."""

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

    ``tolerance`` is a share of each true hand's size (``hand_size``). Keypoints that are not visible by the
    truth are left out. All NaN when no hand is visible.
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


@dataclass(frozen=True)
class Hands:
    """``points`` (f, 2, 21, 2) in pixels of the protocol's crop · ``confidence`` (f, 2, 21) · ``frame``
    (f,)."""

    points: Floats
    confidence: Floats
    frame: NDArray[Any]


def _hands(gathered: Gathered, item: Item, side: Side, kind: str) -> Hands | None:
    arrays = gathered.arrays(item.name, side, kind)
    if arrays is None:
        return None
    scale = arrays["size"] / max(arrays["size"]) * gathered.rules.crop
    joints, confidence = arrays["joints"].astype(np.float64), arrays["confidence"].astype(np.float64)
    both = [joints[:, LEFT_HAND], joints[:, RIGHT_HAND]]
    sure = np.stack([confidence[:, LEFT_HAND], confidence[:, RIGHT_HAND]], axis=1)
    return Hands(np.stack(both, axis=1) * scale, sure, arrays["frame"])


def _unseen(found: Hands, threshold: float) -> dict[str, int]:
    seen = (found.confidence >= threshold).any(axis=2)
    none, one = int((~seen.any(axis=1)).sum()), int((seen.sum(axis=1) == 1).sum())
    return {"frames measured": len(seen), "of them without a hand": none, "with one hand": one}


def hkc(kind: str) -> Measure:
    """Mean confidence of the hands that a detector finds."""

    def one(gathered: Gathered, item: Item, side: Side) -> OneClip | None:
        found = _hands(gathered, item, side, kind)
        if found is None:
            return None
        series = (found.frame, found.confidence.mean(axis=(1, 2)))
        return OneClip(
            hand_confidence(found.confidence), series, _unseen(found, gathered.rules.hand_threshold)
        )

    return lambda gathered: over_clips(gathered, one, real=True)


def hkv(kind: str, *, normalised: bool = False) -> Measure:
    """Spread of the hands over time, in pixels of the protocol's crop or (``normalised``) in hand sizes."""

    def one(gathered: Gathered, item: Item, side: Side) -> OneClip | None:
        found = _hands(gathered, item, side, kind)
        if found is None:
            return None
        threshold = gathered.rules.hand_threshold
        variation = hand_variation(found.points, found.confidence, threshold=threshold)
        if normalised:
            sizes = distributions.finite(hand_size(found.points, found.confidence, threshold=threshold))
            variation = variation / sizes.mean() if len(sizes) else math.nan
        return OneClip(variation, None, _unseen(found, threshold))

    return lambda gathered: over_clips(gathered, one, real=True)


def errors(value: Callable[[HandErrors], float]) -> Measure:
    """A value of the distances of found hands from the true ones."""

    def one(gathered: Gathered, item: Item, side: Side) -> OneClip | None:
        both, rules = _both_hands(gathered, item, side), gathered.rules
        if both is None:
            return None
        found, wanted = both
        off = hand_errors(
            found.points, found.confidence, wanted.points, wanted.confidence,
            tolerance=rules.pck, threshold=rules.hand_threshold,
        )  # fmt: skip
        return OneClip(value(off))

    return lambda gathered: over_clips(gathered, one, real=True)


def _true_hands(gathered: Gathered, item: Item, kind: str) -> Hands | None:
    """From the clip's gesture file, else as found in REAL."""
    gesture = gathered.gesture(item)
    if gesture is None:
        return _hands(gathered, item, "real", kind)
    longer = max(gesture.aspect, 1.0)
    scale = np.array([gesture.aspect / longer, 1 / longer]) * gathered.rules.crop
    # Joints that the rendering hides have the confidence 0.3 at most: they are left out.
    known = np.isfinite(gesture.hands).all(axis=-1) & (gesture.hands_confidence > 0.3)
    sure = np.where(known, gesture.hands_confidence, 0.0)
    fps = gathered.fps[item.name]
    frame = np.floor(np.arange(int(gesture.seconds * fps + 1e-6)) / fps * gesture.fps + 1e-6).astype(int)
    frame = frame.clip(0, len(gesture) - 1)
    return Hands(np.nan_to_num(gesture.hands[frame]) * scale, sure[frame], np.arange(len(frame)))


def share_found(gathered: Gathered) -> Measured:
    """Of the hands that are visible by the truth, the share that the detector finds."""

    def one(gathered: Gathered, item: Item, side: Side) -> OneClip | None:
        both = _both_hands(gathered, item, side)
        if both is None:
            return None
        found, wanted = both
        threshold = gathered.rules.hand_threshold
        visible = (wanted.confidence >= threshold).mean(axis=2) > 0.5
        detected = (found.confidence >= threshold).mean(axis=2) > 0.5
        if not visible.any():
            return OneClip(math.nan)
        return OneClip(float(detected[visible].mean()), None, {"hands shown": int(visible.sum())})

    return over_clips(gathered, one, real=True)


def error_in_shoulders(gathered: Gathered) -> Measured:
    """Mean distance of found hand keypoints from the truth, in percent of the true shoulders' width."""

    def one(gathered: Gathered, item: Item, side: Side) -> OneClip | None:
        both, gesture = _both_hands(gathered, item, side), gathered.gesture(item)
        if both is None or gesture is None:
            return None
        found, wanted = both
        threshold = gathered.rules.hand_threshold
        known = (found.confidence >= threshold) & (wanted.confidence >= threshold)
        scale = np.array([gesture.aspect, 1.0]) / max(gesture.aspect, 1.0) * gathered.rules.crop
        shoulders = np.linalg.norm((gesture.joints[:, 2] - gesture.joints[:, 5]) * scale, axis=1)
        width = float(np.median(shoulders))
        if not known.any() or not width > 0:
            return OneClip(math.nan)
        distance = np.linalg.norm(found.points - wanted.points, axis=-1)
        return OneClip(100 * float(distance[known].mean()) / width)

    return over_clips(gathered, one, real=True)


def _both_hands(gathered: Gathered, item: Item, side: Side) -> tuple[Hands, Hands] | None:
    """The hands that are found in a clip and those that should be, in the frames that have both."""
    kind = "joints-dwpose" if (item.name, side, "joints-dwpose") in gathered.keys else "joints"
    found, wanted = _hands(gathered, item, side, kind), _true_hands(gathered, item, kind)
    if found is None or wanted is None:
        return None
    both = np.intersect1d(found.frame, wanted.frame)
    return tuple(  # type: ignore[return-value]
        Hands(h.points[at], h.confidence[at], h.frame[at])
        for h in (found, wanted)
        for at in [np.isin(h.frame, both)]
    )
