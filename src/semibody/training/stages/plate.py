"""The stage that trains the network of the clean plate, on frames of one clip.

No frame shows a person without arms. But what the arms cover in one frame (shirt, trousers, background),
other frames show. So the truth of a portrait is put together from other frames of its clip, where their arms
are elsewhere. What no frame shows has no weight in the loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from semibody.data.dataset import PackedClip
from semibody.networks.plate import CleanPlate, surround
from semibody.pose.limbs import limb_cover
from semibody.training.batches import Batch, Generator, generator
from semibody.training.critic import Critic, add_adversarial, adversarial_losses
from semibody.training.losses import of_mean_one, picture_terms
from semibody.training.pictures import channels_last, to_picture, to_pixels
from semibody.training.settings import RecipeBase, StageSettings, renamed
from semibody.training.stages.base import Context, Stage
from semibody.training.validation import Scores, psnr
from semibody.types import Picture, SemibodyError

_TRUNK = (1, 2, 5)
"""Neck and shoulders, by which frames are compared."""


@dataclass(frozen=True, kw_only=True)
class PlateSettings(StageSettings):
    """The network that predicts the portrait without arms and hands."""

    other_frames: int = 4
    """other frames of the clip that the truth behind the arms is taken from"""
    uncovered: float = 6.0
    """factor in the loss where they show it"""
    tint: float = 0.2
    """how much brighter or darker the channels of a sample may become"""
    gradient: float = 1.0
    """weight of the multi-scale gradient difference"""
    ssim: float = 0.1
    """weight of 1 − SSIM"""
    adversarial: float = 0.0
    """weight of the adversarial loss (``training.critic``); 0: without a critic"""

    @staticmethod
    def read_old_keys(values: Mapping[str, Any]) -> dict[str, Any]:
        """``rival`` and ``moments`` under their names of today."""
        return renamed(values, {"rival": "adversarial", "moments": "other_frames"})


@dataclass(frozen=True, kw_only=True)
class PlateBatch(Batch):
    """Portraits, and the truth behind their arms as far as other frames show it."""

    portrait: Tensor
    """(b, 3, H, W) uint8"""
    hidden: Float[Tensor, "b 1 H W"]
    """1 about the arms"""
    truth: Tensor
    """(b, 3, H, W) uint8: the portrait, and where its arms are, what other frames show there"""
    weight: Float[Tensor, "b 1 H W"]
    """0 where no frame shows what is behind the arms"""


class PlatePrediction(nn.Module):
    """The plate's network and the critic, if there is one, as one module, so that it can be distributed."""

    def __init__(self, plate: CleanPlate, critic: Critic | None) -> None:
        super().__init__()
        self.plate, self.critic = plate, critic

    def forward(self, batch: PlateBatch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The plate, its truth, and the terms of ``critic.adversarial_losses`` where there is a critic."""
        portrait = channels_last(to_pixels(batch.portrait))
        plate = self.plate(portrait, batch.hidden)
        # Where the truth is unknown, both pictures are the prediction, without gradient. So gradients and
        # SSIM windows at the border have no error from there, the critic cannot distinguish the pictures
        # by it, and the adversarial loss does not train it.
        known = batch.weight > 0
        truth = torch.where(known, to_pixels(batch.truth), plate.detach())
        if self.critic is None or not self.training:
            return plate, truth, {}
        predicted = torch.where(known, plate, plate.detach())
        condition = torch.cat([portrait, batch.hidden], dim=1)
        weight = batch.hidden * known
        return plate, truth, adversarial_losses(self.critic, predicted, truth, condition, weight)


class PlateStage(Stage[PlateSettings]):
    """Trains the clean plate on L1, gradients, SSIM and an adversarial loss, weighted where the arms are."""

    name: ClassVar[str] = "plate"
    source: ClassVar[int] = 6
    network_name: ClassVar[str] = "plate"
    missing: ClassVar[str] = (
        "there is no network for the clean plate: add the stage plate, or set start.weights to weights that "
        "have one"
    )
    columns: ClassVar[str] = "portrait | colours around the arms | clean plate | truth (held-out people)"
    card_figures: ClassVar[tuple[str, ...]] = ("psnr",)

    @classmethod
    def check(cls, recipe: RecipeBase) -> None:
        if recipe.model.plate is None:
            raise ValueError(f"the stage {cls.name} needs model.plate, for example model.plate = {{}}")

    @classmethod
    def build(cls, context: Context) -> Self:
        context.find_portraits()
        sizes = context.recipe.model.plate
        assert sizes is not None
        with context.seeded():
            given = None if context.given is None else context.given.plate
            plate = CleanPlate(sizes) if given is None else given.requires_grad_(True)
            return cls(context, plate)

    def __init__(self, context: Context, plate: CleanPlate) -> None:
        """Raises SemibodyError without half-body clips: padded heads have no arms."""
        super().__init__(context)
        self.clips = [clip for clip in self.clips if clip.kind == "full"]
        if not self.clips:
            raise SemibodyError(f"the stage {self.name} needs half-body clips; the data has heads only")
        self.plate = plate
        critic = Critic(condition=4) if self.settings.adversarial > 0 else None
        self.module = PlatePrediction(plate, critic)

    def batch(self, step: int, samples: Sequence[int]) -> PlateBatch:
        draws = [generator(self.recipe.seed, self.source, step, number) for number in samples]
        return PlateBatch.stacked([self._sample(draw) for draw in draws])

    def _sample(self, rng: Generator) -> dict[str, Any]:
        clip, settings = self.clips[rng.integers(len(self.clips))], self.settings
        made = uncovered(clip, int(rng.integers(len(clip))), settings.other_frames, settings.uncovered, rng)
        return augmented(made, rng, settings.tint)

    def losses(self, module: nn.Module, batch: PlateBatch) -> dict[str, Tensor]:
        settings = self.settings
        plate, truth, adversarial = module(batch)
        weight = of_mean_one(batch.weight)
        terms = picture_terms(plate, truth, weight, gradient=settings.gradient, ssim_share=settings.ssim)
        return add_adversarial(terms, adversarial, settings.adversarial)

    def validate_clip(self, clip: PackedClip, number: int, scores: Scores) -> list[Picture]:
        """PSNR where other frames show what arms cover: of plate, colours ``around`` and portrait. Returns
        portrait, colours around the arms, plate and truth."""
        device = next(self.module.parameters()).device
        made = uncovered(clip, 0, len(clip), 2.0, np.random.default_rng([7, number]))
        portrait, truth = (made[name].transpose(1, 2, 0) for name in ("portrait", "truth"))
        pixels = to_pixels(torch.from_numpy(made["portrait"])[None].to(device))
        hidden = torch.from_numpy(made["hidden"])[None].to(device)
        plate, around = (to_picture(x)[0] for x in (self.plate(pixels, hidden), surround(pixels, hidden)))
        where = made["weight"][0] > 1
        if where.any():
            pictures = {"psnr": plate, "around": around, "repeat": portrait}
            scores.update({name: psnr(one[where], truth[where]) for name, one in pictures.items()})
        return [portrait, around, plate, truth]


def uncovered(clip: PackedClip, portrait: int, count: int, factor: float, rng: Generator) -> dict[str, Any]:
    """A frame of a clip as ``portrait``, where its arms are ``hidden``, and the ``truth`` behind them as
    ``count`` other frames show it, with the ``weight`` ``factor`` there; arrays (c, h, w)."""
    side = clip.size
    hidden = limb_cover(clip.portrait_pose(portrait), side, side)
    others = similar_frames(clip, portrait, count, rng)
    pictures = clip.pictures([portrait, *others])
    truth = pictures[0].copy()
    weight = np.where(hidden > 0, np.float32(0), np.float32(1))
    for frame, picture in zip(others, pictures[1:], strict=True):
        visible = (weight == 0) & (limb_cover(clip.pose(frame), side, side) == 0)
        truth[visible] = picture[visible]
        weight[visible] = factor
    return {
        "portrait": pictures[0].transpose(2, 0, 1),
        "hidden": hidden[None],
        "truth": truth.transpose(2, 0, 1),
        "weight": weight[None],
        "name": f"{clip.id}:{portrait}",
    }


def augmented(made: dict[str, Any], rng: Generator, tint: float) -> dict[str, Any]:
    """A sample with its channels up to ``tint`` brighter or darker, and half of the samples mirrored, because
    rendered rooms have few kinds of light and the plate must not depend on either."""
    levels = np.arange(256)[None] * (1 + tint * rng.uniform(-1, 1, (3, 1)))
    table = np.rint(levels.clip(0, 255)).astype(np.uint8)
    lit = {name: np.stack([table[c][made[name][c]] for c in range(3)]) for name in ("portrait", "truth")}
    made = {**made, **lit}
    if rng.random() < 0.5:
        made |= {name: value[..., ::-1] for name, value in made.items() if name != "name"}
    return {name: value if name == "name" else np.ascontiguousarray(value) for name, value in made.items()}


def similar_frames(clip: PackedClip, portrait: int, count: int, rng: Generator) -> list[int]:
    """Up to ``count`` other frames, of the half whose shoulders are nearest to the portrait's, nearest first.
    Their pixels replace the portrait's, so the body must be in the same place."""
    trunk: NDArray[np.float32] = clip.gesture().joints[:, _TRUNK].astype(np.float32)
    away = np.linalg.norm(trunk - trunk[portrait], axis=-1).mean(axis=-1)
    near = [int(frame) for frame in np.argsort(away, kind="stable") if frame != portrait]
    near = near[: max(1, len(near) // 2)]
    chosen = rng.choice(len(near), min(count, len(near)), replace=False)
    return [near[k] for k in sorted(chosen)]
