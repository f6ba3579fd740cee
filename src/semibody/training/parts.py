"""Where lips, face, hands and arms are, and how much more they count in a loss.

    weights = part_weights(recipe.loss, clip.labels([12, 18]), clip.labels([0])[0], 32, 32)

A part of the body is weighted where it is in the true frame. Hands and arms are also weighted where they are
in the portrait, because the network must generate what they cover there.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from semibody.data.dataset import Labels
from semibody.pose.body import SEEN, shoulder_width
from semibody.pose.skeleton import ARMS
from semibody.types import Pose

HANDS = ("left_hand", "right_hand")
_BOXES = {"lips": ("lips",), "face": ("face",), "hands": HANDS}
"""The boxes of a clip that belong to a factor."""
_THICK = 0.2
"""Half the thickness of an arm with its sleeve, in shoulder widths."""


class Factors(Protocol):
    """How much more a part of the body is weighted than the rest; 1: as much."""

    @property
    def lips(self) -> float: ...
    @property
    def face(self) -> float: ...
    @property
    def hands(self) -> float: ...
    @property
    def arms(self) -> float: ...


def part_weights(
    factors: Factors, frames: Sequence[Labels], portrait: Labels, height: int, width: int
) -> NDArray[np.float32]:
    """(f, height, width): 1, or the largest factor of the parts in a cell, by the share they cover of it."""
    at_portrait = _frame_weights(factors, portrait, ("hands",), height, width)
    at_frames = [_frame_weights(factors, labels, tuple(_BOXES), height, width) for labels in frames]
    return np.maximum(np.stack(at_frames), at_portrait)


def _frame_weights(
    factors: Factors, labels: Labels, parts: tuple[str, ...], height: int, width: int
) -> NDArray[np.float32]:
    """The weight of one frame, for the boxes of ``parts`` and for the arms."""
    weight, boxes = np.ones((height, width), np.float32), labels.boxes
    for part in parts:
        factor = getattr(factors, part)
        for box in [boxes[name] for name in _BOXES[part] if name in boxes and factor != 1.0]:
            weight = np.maximum(weight, 1 + (factor - 1) * coverage(box, height, width))
    if factors.arms != 1.0:
        cover = arm_coverage(labels.pose, height, width)
        weight = np.maximum(weight, 1 + (factors.arms - 1) * cover)
    return weight


def coverage(box: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Share of each cell (height, width) that the box x0, y0, x1, y1 (fractions) covers."""

    def along(low: float, high: float, cells: int) -> NDArray[np.float32]:
        edges = np.arange(cells + 1, dtype=np.float32) / cells
        overlap = np.minimum(edges[1:], high) - np.maximum(edges[:-1], low)
        return np.clip(overlap * cells, 0, 1).astype(np.float32)

    x0, y0, x1, y1 = (float(v) for v in box)
    return np.outer(along(y0, y1, height), along(x0, x1, width)).astype(np.float32)


def arm_coverage(pose: Pose, height: int, width: int) -> NDArray[np.float32]:
    """(height, width): 1 on the lines from shoulders over elbows to wrists, 0 from an arm's edge on."""
    joints, found = pose.joints, pose.confidence >= SEEN  # occluded joints too
    cover = np.zeros((height, width), np.float32)
    shoulders = shoulder_width(joints[None], found[None])
    if shoulders is None:
        return cover
    reach = _THICK * shoulders
    ys, xs = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
    cells = np.stack(np.meshgrid(xs, ys), axis=-1)
    for a, b in (pair for _, *arm in ARMS for pair in itertools.pairwise(arm)):
        if found[a] and found[b]:
            start, along = joints[a], joints[b] - joints[a]
            share = ((cells - start) @ along / max(float(along @ along), 1e-9)).clip(0, 1)
            away = np.linalg.norm(cells - start - share[..., None] * along, axis=-1)
            cover = np.maximum(cover, (2 - 2 * away / reach).clip(0, 1).astype(np.float32))
    return cover
