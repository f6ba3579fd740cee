"""The stage of the autoencoder: L1, gradients and SSIM on crops, faces and hands weighted more."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from semibody.data.dataset import PackedClip
from semibody.networks.model import ModelConfig
from semibody.networks.vae import VAE
from semibody.training import checkpoint
from semibody.training.crops import CropBatch, CropSamples
from semibody.training.losses import picture_terms
from semibody.training.pictures import channels_last, to_picture, to_pixels
from semibody.training.settings import StageSettings
from semibody.training.stages.base import Context, Stage
from semibody.training.validation import Scores
from semibody.types import Picture, SemibodyError

_NOISE = 101
"""The source of the noise on the latents, beside that of the crops."""
_MEASURED = 64
"""The spread of the latents is estimated on about as many clips."""


@dataclass(frozen=True, kw_only=True)
class VAESettings(StageSettings):
    """The training of the autoencoder."""

    crop: int = 128
    """side of the crops it is trained on, in pixels"""
    on_parts: float = 0.65
    """share of crops placed on faces and hands"""
    noise: float = 0.1
    """noise on the latents before decoding, in units of their spread"""
    kl: float = 1e-6
    gradient: float = 1.0
    """weight of the multi-scale gradient difference"""
    ssim: float = 0.1
    """weight of 1 − SSIM"""
    parts: float = 3.0
    """factor on faces and hands"""


@dataclass(frozen=True, kw_only=True)
class NoisyBatch(CropBatch):
    """Crops, and noise for their latents."""

    noise: Float[Tensor, "n c h w"]


class Autoencoding(nn.Module):
    """Encode, add noise to the latents, decode: as one module, so that it can be distributed."""

    def __init__(self, vae: VAE) -> None:
        super().__init__()
        self.vae = vae

    def forward(
        self, pixels: Float[Tensor, "n 3 H W"], noise: Float[Tensor, "n c h w"]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The decoded pixels; mean and log variance of the latents."""
        mean, log_variance = self.vae.distribution(pixels)
        spread = mean.detach().float().std()
        latents = mean + noise.to(mean.dtype) * spread
        return self.vae.decode(latents * self.vae.config.scale), mean, log_variance


class VAEStage(Stage[VAESettings]):
    """Trains the autoencoder, with noise on its latents."""

    name: ClassVar[str] = "vae"
    source: ClassVar[int] = 0
    network_name: ClassVar[str] = "vae"
    missing: ClassVar[str] = (
        "there is no autoencoder: add the stage vae, or set start.vae, or start.weights to a weights folder"
    )
    columns: ClassVar[str] = "truth | autoencoder"
    card_figures: ClassVar[tuple[str, ...]] = ("psnr",)

    @classmethod
    def build(cls, context: Context) -> Self:
        with context.seeded():
            given = context.given
            vae = VAE(context.recipe.model.vae) if given is None else given.vae.requires_grad_(True)
        return cls(context, vae)

    def __init__(self, context: Context, vae: VAE) -> None:
        super().__init__(context)
        self.vae, settings = vae, self.settings
        self.module = Autoencoding(vae)
        for name, parameter in self.module.named_parameters():
            parameter.requires_grad_(self.recipe.start.trains(name))
        self.samples = CropSamples(
            recipe=self.recipe,
            source=self.source,
            clips=self.clips,
            side=settings.crop,
            on_parts=settings.on_parts,
            factor=settings.parts,
            mirrored=True,
        )

    @classmethod
    def sized(cls, sizes: ModelConfig, final: checkpoint.Snapshot) -> ModelConfig:
        scale = final.facts.get("scale")
        if not isinstance(scale, float) or not 0 < scale < math.inf:
            raise SemibodyError("the stage vae is finished without a scale of its latents; train it again")
        return dataclasses.replace(sizes, vae=dataclasses.replace(sizes.vae, scale=scale))

    def facts(self) -> dict[str, Any]:
        return {"scale": self.latent_scale()}

    def latent_scale(self) -> float:
        """The factor that brings the latents of the training pictures to unit variance; of a frozen encoder,
        its own, with which other networks were trained."""
        if not any(p.requires_grad for p in self.vae.encoder.parameters()):
            return self.vae.config.scale
        device = next(self.vae.parameters()).device
        means = []
        with torch.inference_mode():
            for clip in self.clips[:: max(1, len(self.clips) // _MEASURED)]:
                pixels = torch.from_numpy(clip.pictures([len(clip) // 2])).permute(0, 3, 1, 2)
                means.append(self.vae.distribution(to_pixels(pixels.to(device)))[0].float().cpu())
        return 1.0 / max(1e-3, float(torch.cat(means).std()))

    def batch(self, step: int, samples: Sequence[int]) -> NoisyBatch:
        crops = self.samples.batch(step, samples)
        side = crops.pixels.shape[-1] // self.vae.factor
        shape = (self.vae.config.latent_channels, side, side)
        seeds = [[self.recipe.seed, _NOISE, step, number] for number in samples]
        noise = np.stack([np.random.default_rng(s).standard_normal(shape, np.float32) for s in seeds])
        return NoisyBatch(**vars(crops), noise=torch.from_numpy(noise) * self.settings.noise)

    def losses(self, module: nn.Module, batch: NoisyBatch) -> dict[str, Tensor]:
        pixels, weight, settings = to_pixels(batch.pixels), batch.weight, self.settings
        decoded, mean, log_variance = module(channels_last(pixels), batch.noise)
        terms = picture_terms(
            decoded.float(), pixels, weight, gradient=settings.gradient, ssim_share=settings.ssim
        )
        mean, log_variance = mean.float(), log_variance.float()
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        return {**terms, "loss": terms["loss"] + settings.kl * kl, "kl": kl}

    def validate_clip(self, clip: PackedClip, number: int, scores: Scores) -> list[Picture]:  # noqa: ARG002
        """PSNR of its middle frame. Returns true and decoded picture."""
        device = next(self.vae.parameters()).device
        frame = len(clip) // 2
        truth = clip.pictures([frame])[0]
        pixels = to_pixels(torch.from_numpy(truth).permute(2, 0, 1)[None]).to(device)
        decoded = to_picture(self.vae.decode(self.vae.encode(pixels)))[0]
        scores.add("psnr", decoded, truth, clip, frame)
        return [truth, decoded]
