"""The autoencoder between pixels and latents, as in latent diffusion (Rombach et al. 2022, arXiv 2112.10752).

Residual blocks at every level, half the size from one to the next, self-attention in the middle; parameters
have the names of diffusers' AutoencoderKL, so its checkpoints load as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from semibody.networks.layers import Downsample, ResnetBlock, Upsample

EPS = 1e-6
"""What group norms add to the variance."""


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

    @property
    def is_of_stable_diffusion(self) -> bool:
        """Whether the latents are those of Stable Diffusion, which other decoders know too."""
        theirs = VAEConfig()
        return all(
            getattr(self, name) == getattr(theirs, name) for name in ("latent_channels", "factor", "scale")
        )

    @property
    def folded_channels(self) -> int:
        """Channels of a picture whose blocks of pixels are folded into channels."""
        return 3 * self.patch**2


class VAE(nn.Module):
    """Pixels in −1..1 <-> scaled latents at an eighth of the size (for four levels)."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        latents = config.latent_channels
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.quant_conv = nn.Conv2d(2 * latents, 2 * latents, 1)
        self.post_quant_conv = nn.Conv2d(latents, latents, 1)

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


class Encoder(nn.Module):
    """Folded pixels to mean and log variance of the latents, before ``quant_conv``."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        widths = config.widths
        self.conv_in = nn.Conv2d(config.folded_channels, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList()
        above = widths[0]
        for i, width in enumerate(widths):
            level: Any = Level(config, above, width, config.layers)
            if i < len(widths) - 1:
                level.downsamplers = nn.ModuleList([Downsample(width, symmetric=False)])
            self.down_blocks.append(level)
            above = width
        self.mid_block = Middle(config)
        self.conv_norm_out = _norm(config, widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], 2 * config.latent_channels, 3, padding=1)

    def forward(self, pixels: Float[Tensor, "n p H W"]) -> Float[Tensor, "n c2 h w"]:
        x = self.conv_in(pixels)
        for level in self.down_blocks:
            x = level(x)
        return self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))


class Decoder(nn.Module):
    """Latents after ``post_quant_conv`` to folded pixels."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        widths = config.widths
        self.conv_in = nn.Conv2d(config.latent_channels, widths[-1], 3, padding=1)
        self.up_blocks = nn.ModuleList()
        self.mid_block = Middle(config)
        above = widths[-1]
        for i, width in reversed(list(enumerate(widths))):
            level: Any = Level(config, above, width, config.layers + 1)
            if i > 0:
                level.upsamplers = nn.ModuleList([Upsample(width)])
            self.up_blocks.append(level)
            above = width
        self.conv_norm_out = _norm(config, widths[0])
        self.conv_out = nn.Conv2d(widths[0], config.folded_channels, 3, padding=1)

    def forward(self, latents: Float[Tensor, "n c h w"]) -> Float[Tensor, "n p H W"]:
        x = self.mid_block(self.conv_in(latents))
        for level in self.up_blocks:
            x = level(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


class Level(nn.Module):
    """The residual blocks of one resolution, then the step to the next one, if there is one."""

    def __init__(self, config: VAEConfig, c_in: int, width: int, layers: int) -> None:
        super().__init__()
        inputs = [c_in] + [width] * (layers - 1)
        self.resnets = nn.ModuleList([ResnetBlock(c, width, None, config.groups, EPS) for c in inputs])

    # A level may also have `downsamplers` or `upsamplers`, a list of one.

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h2 w2"]:
        for resnet in self.resnets:
            x = resnet(x)
        for downsample in getattr(self, "downsamplers", ()):
            x = downsample(x)
        for upsample in getattr(self, "upsamplers", ()):
            x = upsample(x, (2 * x.shape[2], 2 * x.shape[3]))
        return x


class Middle(nn.Module):
    """Residual block, self-attention where the config asks for it, residual block."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        width = config.widths[-1]
        before = ResnetBlock(width, width, None, config.groups, EPS)
        self.attentions = nn.ModuleList([PixelAttention(config)] if config.middle_attention else [])
        self.resnets = nn.ModuleList([before, ResnetBlock(width, width, None, config.groups, EPS)])

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        before, after = self.resnets
        x = before(x)
        for attention in self.attentions:
            x = attention(x)
        return after(x)


class PixelAttention(nn.Module):
    """Group norm, then attention of every pixel to all of its picture with a single head; residual."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        width = config.widths[-1]
        self.group_norm = _norm(config, width)
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        tokens = self.group_norm(x.flatten(2)).transpose(1, 2)
        q, k, v = (project(tokens)[:, None] for project in (self.to_q, self.to_k, self.to_v))
        # Fused, with gradients too: at 768 x 768 the weights of one picture would take 340 MB in float32.
        attended = self.to_out[0](F.scaled_dot_product_attention(q, k, v)[:, 0])
        # In this order the sum has the tokens' layout (channels last), which convolutions round differently.
        return attended.transpose(1, 2).unflatten(2, x.shape[2:]) + x


def _norm(config: VAEConfig, channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(config.groups, channels, eps=EPS)
