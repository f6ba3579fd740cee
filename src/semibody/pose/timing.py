"""Poses in time: another frame rate, gestures shorter than the clip, gaps."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from semibody.types import BODY, FACE, LEFT_HAND, RIGHT_HAND, Floats, Gesture

OnShort = Literal["pingpong", "loop", "hold", "stop"]
LONGEST_GAP = 0.4
"""Longest gap in seconds over which a missing hand is interpolated."""


def resample(gesture: Gesture, fps: float) -> Gesture:
    """The same motion at ``fps``: joints interpolated in between, confidence the lower neighbour's."""
    if fps == gesture.fps or len(gesture) == 1:
        return Gesture(gesture.joints, gesture.confidence, fps, gesture.aspect, gesture.name)
    count = max(1, round(len(gesture) * fps / gesture.fps))
    position = np.clip(np.arange(count) * gesture.fps / fps, 0, len(gesture) - 1)
    before = np.minimum(position.astype(int), len(gesture) - 2)
    weight = (position - before)[:, None, None]
    joints = (1 - weight) * gesture.joints[before] + weight * gesture.joints[before + 1]
    # A joint that was not found cannot be interpolated: the nearer neighbour's is taken.
    first, second = gesture.confidence[before], gesture.confidence[before + 1]
    unseen = np.minimum(first, second) <= 0
    nearer = gesture.joints[np.rint(position).astype(int)]
    joints = np.where(unseen[..., None], nearer, joints)
    confidence = np.where(weight[..., 0] == 0, first, np.minimum(first, second))
    return Gesture(joints, confidence, fps, gesture.aspect, gesture.name)


def fill(gesture: Gesture, frames: int, how: OnShort = "pingpong") -> Gesture:
    """Exactly ``frames`` poses (fewer with ``stop``).

    A gesture that is too short goes back and forth (``pingpong``: never a jump), starts over
    (``loop``), stays at its last pose (``hold``) or ends the clip (``stop``).
    """
    index = fill_index(len(gesture), frames, how)
    return Gesture(
        gesture.joints[index], gesture.confidence[index], gesture.fps, gesture.aspect, gesture.name
    )


def fill_index(length: int, frames: int, how: OnShort) -> NDArray[np.int_]:
    """Which pose each frame shows. Raises ValueError for an unknown ``how``."""
    number = np.arange(frames)
    if frames <= length:
        return number
    if how == "hold" or length == 1:
        return np.minimum(number, length - 1) if how != "stop" else number[:length]
    if how == "loop":
        return number % length
    if how == "stop":
        return number[:length]
    if how == "pingpong":
        # The turning points are shown once: 0 1 2 3 2 1 0 1 …
        round_trip = 2 * (length - 1)
        return (length - 1) - np.abs(number % round_trip - (length - 1))
    raise ValueError(f"unknown way to fill: {how}")


def fill_short_gaps(joints: Floats, confidence: Floats, fps: float) -> int:
    """Fill gaps of at most ``LONGEST_GAP`` in (f, 128, 2), (f, 128) in place; gives hand poses filled.

    Each hand and the face are missing as a whole, joints of the body one by one.
    """
    filled = 0
    for part in (LEFT_HAND, RIGHT_HAND, FACE, *(slice(i, i + 1) for i in range(BODY.stop))):
        count = fill_gaps(joints[:, part], confidence[:, part], round(LONGEST_GAP * fps))
        filled += count if part in (LEFT_HAND, RIGHT_HAND) else 0
    return filled


def fill_gaps(joints: Floats, confidence: Floats, longest: int) -> int:
    """Fill gaps of at most ``longest`` frames of a part (f, k, 2), (f, k) in place; gives frames filled.

    Joints are interpolated linearly; confidence falls towards the middle of the gap.
    """
    seen = confidence.max(axis=1) > 0
    filled = 0
    for start, stop in runs(~seen):
        if start == 0 or stop == len(seen) or stop - start > longest:
            continue
        weight = (np.arange(start, stop) - start + 1) / (stop - start + 1)
        before, after = joints[start - 1], joints[stop]
        joints[start:stop] = before + weight[:, None, None] * (after - before)
        edge = np.minimum(confidence[start - 1], confidence[stop])
        falling = 1 - 0.8 * (1 - np.abs(2 * weight - 1))
        confidence[start:stop] = edge * falling[:, None]
        filled += stop - start
    return filled


def runs(mask: NDArray[Any]) -> list[tuple[int, int]]:
    """(start, end) of every stretch of True in ``mask`` (f,), the end being the first that is not."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(int)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
