"""Crops of single pictures, for the autoencoder and the keypoint network; squares about faces and hands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from semibody.data.dataset import PackedClip
from semibody.training.batches import Batch, Generator, generator
from semibody.training.parts import HANDS, coverage
from semibody.training.settings import RecipeBase

FACE_AND_HANDS = ("face", *HANDS)


def face_or_hand(rng: Generator, boxes: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32] | None:
    """The box of the face or a hand, whichever ``rng`` draws of those in view; None where none is."""
    visible = [part for part in FACE_AND_HANDS if part in boxes]
    return boxes[visible[rng.integers(len(visible))]] if visible else None


@dataclass(frozen=True, kw_only=True)
class CropBatch(Batch):
    """Crops of single pictures."""

    pixels: Tensor
    """(n, 3, s, s) uint8"""
    weight: Float[Tensor, "n 1 s s"]
    """1, and more on faces and hands; 0 in the padding"""
    joints: Float[Tensor, "n j 2"]
    """all joints, as fractions of the crop"""
    confidence: Float[Tensor, "n j"]


@dataclass(frozen=True, kw_only=True)
class CropSamples:
    """Draws crops of pictures, many of them on faces and hands."""

    recipe: RecipeBase
    source: int
    """the stage's number, see ``batches.generator``"""
    clips: Sequence[PackedClip]
    side: int
    """of a crop, in pixels"""
    on_parts: float
    """share of crops placed on faces and hands"""
    factor: float = 1.0
    """weight of faces and hands"""
    mirrored: bool = False
    """mirror half of the crops. This swaps a person's left and right joints, so it is only for networks that
    are not trained on joints"""

    def batch(self, step: int, samples: Sequence[int]) -> CropBatch:
        draws = [generator(self.recipe.seed, self.source, step, number) for number in samples]
        return CropBatch.stacked([self._crop(draw) for draw in draws])

    def _crop(self, rng: Generator) -> dict[str, Any]:
        clip = self.clips[rng.integers(len(self.clips))]
        frame = int(rng.integers(len(clip)))
        picture, (pose, boxes) = clip.pictures([frame])[0], clip.labels([frame])[0]
        total, side = clip.size, min(self.side, self.recipe.data.size)
        left, top = self._place(rng, boxes, total, side)
        weight = np.ones((total, total), np.float32)
        for part in FACE_AND_HANDS:
            if part in boxes:
                weight = np.maximum(weight, 1 + (self.factor - 1) * coverage(boxes[part], total, total))
        weight *= coverage(np.array(clip.valid, np.float32), total, total)
        cut = (slice(top, top + side), slice(left, left + side))
        pixels, weight = picture[cut].transpose(2, 0, 1), weight[cut]
        joints = (pose.joints * total - [left, top]) / side
        if rng.random() < 0.5 and self.mirrored:
            pixels, weight = pixels[:, :, ::-1], weight[:, ::-1]
        return {
            "pixels": pixels,
            "weight": weight[None],
            "joints": joints.astype(np.float32),
            "confidence": pose.confidence.astype(np.float32),
            "name": f"{clip.id}:{frame}",
        }

    def _place(
        self, rng: Generator, boxes: Mapping[str, NDArray[np.float32]], total: int, side: int
    ) -> tuple[int, int]:
        """Left and top of a crop in pixels: anywhere, or with its middle in the face or a hand."""
        cx, cy = rng.random(2)
        if any(part in boxes for part in FACE_AND_HANDS) and rng.random() < self.on_parts:
            box = face_or_hand(rng, boxes)
            assert box is not None
            x0, y0, x1, y1 = box
            cx, cy = x0 + (x1 - x0) * cx, y0 + (y1 - y0) * cy
        left = int(np.clip(round(cx * total - side / 2), 0, total - side))
        top = int(np.clip(round(cy * total - side / 2), 0, total - side))
        return left, top
