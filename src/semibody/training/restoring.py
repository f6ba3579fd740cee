"""The stage that trains the restorer, on frames the finished denoiser generates.

A restorer that had only seen what the autoencoder makes of true pictures would trust every decoded frame.
So each batch is generated from noise, with the sampler the weights are meant for; then only the restorer
learns, on whole pictures.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from semibody.data.dataset import PackedClip
from semibody.networks.model import Model
from semibody.networks.restorer import Restorer
from semibody.training.losses import picture_terms
from semibody.training.recipe import Recipe, StageName
from semibody.training.samples import DenoisingBatch, DenoisingSamples, generator, part_weight
from semibody.training.tasks import Denoiser, Picture, Scores, generate, grid, to_picture, to_pixels


@dataclass(frozen=True, kw_only=True)
class RestoringBatch:
    """What the denoiser is told, and the pictures that should come of it."""

    told: DenoisingBatch
    portrait: Tensor
    """(b, 3, H, W) uint8"""
    truth: Tensor
    """(b, f, 3, H, W) uint8"""
    weight: Float[Tensor, "b f 1 H W"]

    @property
    def names(self) -> list[str]:
        return self.told.names

    def to(self, device: torch.device) -> Self:
        moved = {name: getattr(self, name).to(device) for name in ("told", "portrait", "truth", "weight")}
        return dataclasses.replace(self, **moved)


class _Restoring(nn.Module):
    """Look at the portraits, restore their frames: as one module, so that it can be distributed."""

    def __init__(self, restorer: Restorer) -> None:
        super().__init__()
        self.restorer = restorer

    def forward(
        self,
        decoded: Float[Tensor, "n 3 H W"],
        decoded_portrait: Float[Tensor, "b 3 H W"],
        batch: RestoringBatch,
    ) -> Float[Tensor, "n 3 H W"]:
        view = self.restorer.look(
            to_pixels(batch.portrait), decoded_portrait, batch.told.portrait_pose.float() / 255
        )
        return self.restorer(decoded, batch.told.pose.flatten(0, 1).float() / 255, view)


class RestoringTask:
    """L1, multi-scale gradients and SSIM of restored frames; lips, face and hands counting more."""

    stage: StageName = "restore"

    def __init__(
        self,
        recipe: Recipe,
        model: Model,
        samples: DenoisingSamples,
        held_out: Sequence[PackedClip],
        *,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        assert model.restorer is not None
        self.recipe, self.settings, self.model = recipe, recipe.restore, model
        self.samples, self.held_out = samples, list(held_out)
        self.frames = samples.window
        model.requires_grad_(False)
        model.restorer.requires_grad_(True)
        self.denoiser = Denoiser(model)
        self.module: nn.Module = _Restoring(model.restorer)
        self.autocast = autocast

    def batch(self, step: int, samples: Sequence[int]) -> RestoringBatch:
        return self._stack([self._sample(step, number) for number in samples])

    def _sample(self, step: int, number: int) -> dict[str, Any]:
        rng = generator(self.recipe.seed, self.stage, step, number)
        # No padded heads: their border is no picture, and what is in the middle full clips show as well.
        clip, frames, portrait_clip, portrait_frame = self.samples.choose(rng, 0.0)
        return self._given(clip, frames, portrait_clip, portrait_frame, rng)

    def _given(
        self,
        clip: PackedClip,
        frames: list[int],
        portrait_clip: PackedClip,
        portrait_frame: int,
        rng: np.random.Generator,
    ) -> dict[str, Any]:
        told = self.samples.given(clip, frames, portrait_clip, portrait_frame, rng)
        told["noise"] = told["noise"].clip(-1.5, 1.5)  # as diffusion.schedule.initial_noise
        factors = {part: getattr(self.settings, part) for part in ("lips", "face", "hands")}
        gone, size = portrait_clip.boxes(portrait_frame), clip.size
        weight = [part_weight(clip.boxes(frame), gone, factors, size, size) for frame in frames]
        return {
            "told": told,
            "portrait": portrait_clip.pictures([portrait_frame])[0].transpose(2, 0, 1),
            "truth": clip.pictures(frames).transpose(0, 3, 1, 2),
            "weight": np.stack(weight)[:, None],
        }

    def _stack(self, made: Sequence[dict[str, Any]]) -> RestoringBatch:
        def stack(name: str) -> Tensor:
            return torch.from_numpy(np.stack([one[name] for one in made]))

        return RestoringBatch(
            told=self.samples.stack([one["told"] for one in made], conditional=True),
            portrait=stack("portrait"),
            truth=stack("truth"),
            weight=stack("weight"),
        )

    def losses(self, module: nn.Module, batch: RestoringBatch) -> dict[str, Tensor]:
        decoded, decoded_portrait = self._decoded(batch)
        restored = module(decoded, decoded_portrait, batch).float()
        truth, weight = to_pixels(batch.truth.flatten(0, 1)), batch.weight.flatten(0, 1)
        terms = picture_terms(restored, truth, weight / weight.mean(dim=(1, 2, 3), keepdim=True))
        settings = self.settings
        total = terms["l1"] + settings.gradient * terms["slopes"] + settings.ssim * terms["ssim"]
        return {"loss": total, **terms}

    @torch.no_grad()
    def _decoded(self, batch: RestoringBatch) -> tuple[Float[Tensor, "n 3 H W"], Float[Tensor, "b 3 H W"]]:
        """Generated frames, and the portraits, as the autoencoder gives them."""
        with self.autocast():
            latents = generate(self.denoiser, self.recipe, batch.told)
            decoded = self.model.decode(latents.flatten(0, 1))
            return decoded.float(), self.model.decode(batch.told.portrait).float()

    def frozen(self, step: int) -> list[str]:  # noqa: ARG002 - all of it trains all the time
        return []

    @torch.no_grad()
    def validate(self) -> tuple[dict[str, float], Picture | None]:
        """Held-out clips; PSNR of ``psnr*`` restored, ``plain*`` unrestored, ``repeat*`` the portrait."""
        device = next(self.module.parameters()).device
        scores, rows = Scores(), []
        for number, clip in enumerate(self.held_out[: self.recipe.run.validation_clips]):
            # The last frames: farthest from the portrait, which is the first.
            frames = list(range(len(clip) - self.frames, len(clip)))
            rng = np.random.default_rng([7, number])
            batch = self._stack([self._given(clip, frames, clip, 0, rng)]).to(device)
            decoded, decoded_portrait = self._decoded(batch)
            with self.autocast():
                restored = to_picture(self.module(decoded, decoded_portrait, batch))
            plain, truth, portrait = to_picture(decoded), clip.pictures(frames), clip.pictures([0])[0]
            for i, frame in enumerate(frames):
                scores.add("psnr", restored[i], truth[i], clip, frame)
                scores.add("plain", plain[i], truth[i], clip, frame)
                scores.add("repeat", portrait, truth[i], clip, frame)
            rows.append([portrait, plain[-1], restored[-1], truth[-1]])
        return scores.means(), grid(rows[:8]) if rows else None
