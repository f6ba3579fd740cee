"""A small U-Net without time, on pictures whose pixels are folded into channels: what restorer and clean
plate have in common.

    x = ... a first convolution of ``fold(picture)``, as each of them needs it
    prediction = network.predict_blocks(x)       # float32, ``out`` channels at the folded size
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from semibody.networks.layers import Downsample, Upsample


class PixelUNet(nn.Module):
    """Levels of one residual block each. The last convolution's weight is initialised to zero, so the first
    prediction is its bias everywhere."""

    def __init__(self, widths: tuple[int, ...], *, groups: int, middle: int, patch: int, out: int) -> None:
        """``widths``: channels of each level, finest first; ``middle``: blocks of the coarsest;
        ``patch``: side of the blocks of pixels that become channels; ``out``: channels of the
        prediction."""
        super().__init__()
        self.patch = patch
        steps = list(itertools.pairwise(widths))
        self.downs = nn.ModuleList([Downsample(narrow) for narrow, _ in steps])
        self.down_blocks = nn.ModuleList([Residual(a, b, groups) for a, b in steps])
        self.mid_blocks = nn.Sequential(*(Residual(widths[-1], widths[-1], groups) for _ in range(middle)))
        self.ups = nn.ModuleList([Upsample(wide) for _, wide in reversed(steps)])
        self.up_blocks = nn.ModuleList([Residual(a + b, a, groups) for a, b in reversed(steps)])
        self.norm_out = nn.GroupNorm(groups, widths[0])
        self.conv_out = nn.Conv2d(widths[0], out, 3, padding=1)

    def initialise(self, bias: list[float]) -> None:
        """Set the last convolution's weight to zero and its bias (``out`` numbers) to ``bias``."""
        # Not zeros_like: on the meta device torch would import sympy for it.
        zeros = torch.zeros(self.conv_out.weight.shape)
        self.conv_out.load_state_dict({"weight": zeros, "bias": torch.tensor(bias)})

    def predict_blocks(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h w"]:
        """From the first level's features to a prediction for every block of pixels."""
        skips = []
        for down, block in zip(self.downs, self.down_blocks, strict=True):
            skips.append(x)
            x = block(down(x))
        x = self.mid_blocks(x)
        for up, block in zip(self.ups, self.up_blocks, strict=True):
            skip = skips.pop()
            x = block(torch.cat([up(x, (skip.shape[2], skip.shape[3])), skip], dim=1))
        # In float32, because rounding pixels to bfloat16 is an error of one level of 256 or more. Contiguous,
        # because two or four channels of channels-last data take several times as long.
        return self.conv_out(F.silu(self.norm_out(x))).contiguous().float()

    def fold(self, pixels: Float[Tensor, "n c H W"]) -> Float[Tensor, "n d h w"]:
        """Blocks of pixels as channels, in the precision of the weights."""
        return F.pixel_unshuffle(pixels.to(self.conv_out.weight.dtype), self.patch)

    def unfold(self, prediction: Float[Tensor, "n d h w"]) -> Float[Tensor, "n c H W"]:
        """The inverse of ``fold``."""
        return F.pixel_shuffle(prediction, self.patch)


class Residual(nn.Module):
    """Group norm, SiLU, convolution, twice, beside a shortcut."""

    def __init__(self, c_in: int, c_out: int, groups: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(groups, c_in), nn.GroupNorm(groups, c_out)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.shortcut = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h w"]:
        h = self.conv1(F.silu(self.norm1(x)))
        return self.shortcut(x) + self.conv2(F.silu(self.norm2(h)))


def warp(pixels: Float[Tensor, "n 3 H W"], flow: Float[Tensor, "n 2 h w"]) -> Float[Tensor, "n 3 H W"]:
    """Sample every pixel at ``x + flow``: (right, down) in units of half the picture; the border repeats."""
    size = (pixels.shape[2], pixels.shape[3])
    moved = F.interpolate(flow, size=size, mode="bilinear", align_corners=False)
    ys, xs = (torch.arange(n, device=flow.device, dtype=flow.dtype) * (2 / n) + (1 / n - 1) for n in size)
    where = torch.stack([xs[None, None, :] + moved[:, 0], ys[None, :, None] + moved[:, 1]], dim=-1)
    return F.grid_sample(pixels, where, padding_mode="border", align_corners=False)
