"""The autoencoder between pixels and latents: diffusers' AutoencoderKL, sized by a config."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """Sizes of the autoencoder; the defaults are sd-vae-ft-mse's."""

    latent_channels: int = 4
    widths: tuple[int, ...] = (128, 256, 512, 512)
    """channels of each level; all but the last halve the picture"""
    layers: int = 2
    """resnets per level"""
    groups: int = 32
    scale: float = 0.18215
    """factor that brings latents to about unit variance"""
    middle_attention: bool = True
    """self-attention at the coarsest resolution"""
    patch: int = 1
    """side of the pixel blocks that are folded into channels first: small models skip the costly full size"""

    @property
    def factor(self) -> int:
        """Pixels per latent, along each side."""
        return self.patch * 2 ** (len(self.widths) - 1)


class VAE(nn.Module):
    """Pixels in −1..1 <-> scaled latents at an eighth of the size (for four levels)."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        from diffusers import AutoencoderKL

        self.config = config
        levels = len(config.widths)
        folded = 3 * config.patch**2
        kl = AutoencoderKL(
            in_channels=folded,
            out_channels=folded,
            latent_channels=config.latent_channels,
            block_out_channels=config.widths,
            layers_per_block=config.layers,
            norm_num_groups=config.groups,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            mid_block_add_attention=config.middle_attention,
        )
        # Its four parts are ours directly, so that key names are those of the checkpoints.
        self.encoder, self.decoder = kl.encoder, kl.decoder
        self.quant_conv, self.post_quant_conv = kl.quant_conv, kl.post_quant_conv

    @property
    def factor(self) -> int:
        """Pixels per latent, along each side."""
        return self.config.factor

    def encode(self, pixels: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n c h w"]:
        """The distribution's mean, scaled (the published code never samples here)."""
        mean, _ = self.distribution(pixels)
        return mean * self.config.scale

    def distribution(
        self, pixels: Float[Tensor, "n 3 H W"]
    ) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n c h w"]]:
        """Unscaled mean and log variance, for training the autoencoder."""
        mean, log_variance = self.quant_conv(self.encoder(self._fold(pixels))).chunk(2, dim=1)
        return mean, torch.clamp(log_variance, -30.0, 20.0)

    def decode(self, latents: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 3 H W"]:
        """Scaled latents to pixels, about −1..1 (not clamped)."""
        folded = self.decoder(self.post_quant_conv(latents / self.config.scale))
        return F.pixel_shuffle(folded, self.config.patch) if self.config.patch > 1 else folded

    def _fold(self, pixels: Tensor) -> Tensor:
        return F.pixel_unshuffle(pixels, self.config.patch) if self.config.patch > 1 else pixels
