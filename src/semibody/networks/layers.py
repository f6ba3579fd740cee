"""The convolutional parts of U-Net and autoencoder: residual block, resampling, timestep embedding."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from semibody.networks.slices import in_slices, repeat_rows


class ResnetBlock(nn.Module):
    """Group norm, SiLU, convolution, twice, with the timestep added between (per frame, 2D).

    ``time_width`` None: there is no timestep.
    """

    def __init__(self, c_in: int, c_out: int, time_width: int | None, groups: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, c_in, eps=eps)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        if time_width is not None:
            self.time_emb_proj = nn.Linear(time_width, c_out)
        self.norm2 = nn.GroupNorm(groups, c_out, eps=eps)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)
        if c_in != c_out:
            self.conv_shortcut = nn.Conv2d(c_in, c_out, 1)

    def forward(
        self,
        x: Float[Tensor, "n c h w"],
        time: Float[Tensor, "m d"] | None = None,
        local: tuple[Float[Tensor, "n d"], Float[Tensor, "n 1 h w"]] | None = None,
    ) -> Float[Tensor, "n e h w"]:
        """``time`` is SiLU(timestep embedding); m divides n: one row serves n/m consecutive pictures.

        ``local`` is another embedding and how much of it, 0..1, takes the place of ``time`` at each pixel.
        """
        there, share = (None, None) if local is None else local
        return in_slices(self._of_slice, x, time, there, share)

    def _of_slice(
        self, x: Tensor, time: Tensor | None, there: Tensor | None, share: Tensor | None
    ) -> Float[Tensor, "n e h w"]:
        h = self.conv1(F.silu(self.norm1(x)))
        if time is not None:
            added = repeat_rows(self.time_emb_proj(time), len(x))[:, :, None, None]
            if there is not None and share is not None:
                added = added + share.to(h.dtype) * (self.time_emb_proj(there)[:, :, None, None] - added)
            h = h + added
        h = self.conv2(F.silu(self.norm2(h)))
        shortcut = self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x
        return shortcut + h


class Downsample(nn.Module):
    """Half the size. ``symmetric`` False: padded with zeros below and on the right only."""

    def __init__(self, channels: int, *, symmetric: bool = True) -> None:
        super().__init__()
        self.symmetric = symmetric
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1 if symmetric else 0)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
        return self.conv(x if self.symmetric else F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "n c h w"], size: tuple[int, int]) -> Float[Tensor, "n c h2 w2"]:
        """``size`` is that of the skip to join, so sizes that do not halve evenly work too."""
        return in_slices(lambda part: self.conv(F.interpolate(part, size=size, mode="nearest")), x, growth=4)


class TimestepEmbedding(nn.Module):
    """Sinusoids of the timestep (cosine first, ``flip_sin_to_cos``), then two linear layers."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.channels = channels
        self.linear_1 = nn.Linear(channels, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, t: Float[Tensor, " b"]) -> Float[Tensor, "b d"]:
        waves = sinusoids(t, self.channels).to(self.linear_1.weight.dtype)
        return self.linear_2(F.silu(self.linear_1(waves)))


def sinusoids(t: Float[Tensor, " b"], channels: int, longest: float = 10000.0) -> Float[Tensor, "b c"]:
    """cos then sin of ``t`` at ``channels / 2`` geometric frequencies, in float32."""
    half = channels // 2
    rates = torch.exp(torch.arange(half, device=t.device, dtype=torch.float32) * (-math.log(longest) / half))
    angles = t.float()[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], dim=1)
