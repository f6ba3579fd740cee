"""The stage that trains the network behind the clean plate, on moments of one clip.

Nobody ever sees a person without arms. But where the arms of one moment were, other moments show what is
behind them: shirt, trousers, background. So a sample is a portrait, what other frames of its clip uncover
of it, put together, and what nobody knows, which is left out of the loss.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from semibody.training.critic import Critic, duel, with_critic
from semibody.training.losses import of_mean_one, picture_terms
from semibody.training.pictures import channels_last, grid, to_picture, to_pixels
from semibody.training.settings import RecipeBase, StageSettings
from semibody.training.stages.base import Context, Stage
from semibody.training.validation import psnr
from semibody.types import Picture, SemibodyError

_TRUNK = (1, 2, 5)
"""Neck and shoulders: moments are alike where these are."""


@dataclass(frozen=True, kw_only=True)
class PlateSettings(StageSettings):
    """The network that predicts the portrait without arms and hands."""

    moments: int = 4
    """other frames of the clip that tell what is behind the arms"""
    uncovered: float = 6.0
    """factor where they do"""
    tint: float = 0.2
    """how much brighter or darker the channels of a sample may become"""
    gradient: float = 1.0
    """weight of the multi-scale gradient difference"""
    ssim: float = 0.1
    """weight of 1 − SSIM"""
    rival: float = 0.0
    """weight of leaving a critic in doubt which plate is real (``training.critic``); 0: without one"""


@dataclass(frozen=True, kw_only=True)
class PlateBatch(Batch):
    """Portraits and what is known of them without arms."""

    portrait: Tensor
    """(b, 3, H, W) uint8"""
    hidden: Float[Tensor, "b 1 H W"]
    """1 about the arms"""
    truth: Tensor
    """(b, 3, H, W) uint8: the portrait, and where its arms are, what other moments show there"""
    weight: Float[Tensor, "b 1 H W"]
    """0 where nobody knows what is behind the arms"""


class Painting(nn.Module):
    """Paint the plate, and the critic beside it if there is one: as one module, to be distributed."""

    def __init__(self, plate: CleanPlate, critic: Critic | None) -> None:
        super().__init__()
        self.plate, self.critic = plate, critic

    def forward(self, batch: PlateBatch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The plate, its truth, and the terms of ``critic.duel`` where there is a critic."""
        portrait = channels_last(to_pixels(batch.portrait))
        plate = self.plate(portrait, batch.hidden)
        # Where nothing is known there is no error, so that slopes and windows at its border see none, and
        # nothing that would tell a critic which is which, or that could be painted to please it.
        known = batch.weight > 0
        truth = torch.where(known, to_pixels(batch.truth), plate.detach())
        if self.critic is None or not self.training:
            return plate, truth, {}
        shown = torch.where(known, plate, plate.detach())
        beside = torch.cat([portrait, batch.hidden], dim=1)
        return plate, truth, duel(self.critic, shown, truth, beside, batch.hidden * known)


class PlateStage(Stage[PlateSettings]):
    """Trains the clean plate on L1, slopes, SSIM and an adversarial term, above all where the arms were."""

    name: ClassVar[str] = "plate"
    source: ClassVar[int] = 6
    part: ClassVar[str] = "plate"
    missing: ClassVar[str] = (
        "there is no network for the clean plate: add the stage plate, or set start.weights to weights that "
        "have one"
    )
    columns: ClassVar[str] = "portrait | colours around the arms | clean plate | truth (held-out people)"
    telling: ClassVar[tuple[str, ...]] = ("psnr",)

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
        """Raises SemibodyError without half-body clips: heads alone show no arms."""
        super().__init__(context)
        self.clips = [clip for clip in self.clips if clip.kind == "full"]
        if not self.clips:
            raise SemibodyError(f"the stage {self.name} needs half-body clips; the data has heads alone")
        self.plate = plate
        critic = Critic(known=4) if self.settings.rival > 0 else None
        self.module = Painting(plate, critic)

    def batch(self, step: int, samples: Sequence[int]) -> PlateBatch:
        draws = [generator(self.recipe.seed, self.source, step, number) for number in samples]
        return PlateBatch.stacked([self._sample(draw) for draw in draws])

    def _sample(self, rng: Generator) -> dict[str, Any]:
        clip, settings = self.clips[rng.integers(len(self.clips))], self.settings
        made = uncovered(clip, int(rng.integers(len(clip))), settings.moments, settings.uncovered, rng)
        return varied(made, rng, settings.tint)

    def losses(self, module: nn.Module, batch: PlateBatch) -> dict[str, Tensor]:
        settings = self.settings
        plate, truth, judged = module(batch)
        weight = of_mean_one(batch.weight)
        terms = picture_terms(plate, truth, weight, gradient=settings.gradient, ssim_share=settings.ssim)
        return with_critic(terms, judged, settings.rival)

    @torch.no_grad()
    def validate(self) -> tuple[dict[str, float], Picture | None]:
        """PSNR where arms uncover something: of the plate, of the colours ``around``, of the portrait."""
        device = next(self.module.parameters()).device
        rows: list[list[Picture]] = []
        scores: dict[str, list[float]] = {"psnr": [], "around": [], "repeat": []}
        for number, clip in enumerate(self.held_out[: self.recipe.run.validation_clips]):
            made = uncovered(clip, 0, len(clip), 2.0, np.random.default_rng([7, number]))
            portrait, truth = (made[name].transpose(1, 2, 0) for name in ("portrait", "truth"))
            pixels = to_pixels(torch.from_numpy(made["portrait"])[None].to(device))
            hidden = torch.from_numpy(made["hidden"])[None].to(device)
            plate, around = (to_picture(x)[0] for x in (self.plate(pixels, hidden), surround(pixels, hidden)))
            where = made["weight"][0] > 1
            if where.any():
                for name, picture in zip(scores, (plate, around, portrait), strict=True):
                    scores[name].append(psnr(picture[where], truth[where]))
            rows.append([portrait, around, plate, truth])
        figures = {name: float(np.mean(values)) for name, values in scores.items() if values}
        return figures, grid(rows[:8]) if rows else None


def uncovered(clip: PackedClip, portrait: int, moments: int, factor: float, rng: Generator) -> dict[str, Any]:
    """A frame of a clip as ``portrait``, where its arms are ``hidden``, and the ``truth`` behind them as
    ``moments`` other frames show it, ``weight`` times ``factor`` there; arrays (c, h, w)."""
    side = clip.size
    hidden = limb_cover(clip.portrait_pose(portrait), side, side)
    others = alike(clip, portrait, moments, rng)
    pictures = clip.pictures([portrait, *others])
    truth = pictures[0].copy()
    weight = np.where(hidden > 0, np.float32(0), np.float32(1))
    for frame, picture in zip(others, pictures[1:], strict=True):
        shown = (weight == 0) & (limb_cover(clip.pose(frame), side, side) == 0)
        truth[shown] = picture[shown]
        weight[shown] = factor
    return {
        "portrait": pictures[0].transpose(2, 0, 1),
        "hidden": hidden[None],
        "truth": truth.transpose(2, 0, 1),
        "weight": weight[None],
        "name": f"{clip.id}:{portrait}",
    }


def varied(made: dict[str, Any], rng: Generator, tint: float) -> dict[str, Any]:
    """A sample in another light, its channels up to ``tint`` brighter or darker, and half of them mirrored:
    what a fold of cloth looks like does not depend on either, and rendered rooms have few lights."""
    levels = np.arange(256)[None] * (1 + tint * rng.uniform(-1, 1, (3, 1)))
    table = np.rint(levels.clip(0, 255)).astype(np.uint8)
    lit = {name: np.stack([table[c][made[name][c]] for c in range(3)]) for name in ("portrait", "truth")}
    made = {**made, **lit}
    if rng.random() < 0.5:
        made |= {name: value[..., ::-1] for name, value in made.items() if name != "name"}
    return {name: value if name == "name" else np.ascontiguousarray(value) for name, value in made.items()}


def alike(clip: PackedClip, portrait: int, moments: int, rng: Generator) -> list[int]:
    """Up to ``moments`` other frames of the half whose shoulders are nearest to where the portrait has them,
    the nearest first: what another moment shows must be in its place."""
    trunk: NDArray[np.float32] = clip.gesture().joints[:, _TRUNK].astype(np.float32)
    away = np.linalg.norm(trunk - trunk[portrait], axis=-1).mean(axis=-1)
    near = [int(frame) for frame in np.argsort(away, kind="stable") if frame != portrait]
    near = near[: max(1, len(near) // 2)]
    chosen = rng.choice(len(near), min(moments, len(near)), replace=False)
    return [near[k] for k in sorted(chosen)]
