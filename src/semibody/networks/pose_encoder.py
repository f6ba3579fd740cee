"""Eight convolutions that turn a drawn pose map into features for the U-Net's first level."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class PoseEncoderConfig:
    """Sizes of the pose encoder."""

    out_channels: int = 320
    """the U-Net's first width"""
    widths: tuple[int, ...] = (16, 32, 96, 256)
    """channels at 1, 1/2, 1/4 and 1/8 of the picture"""


class PoseEncoder(nn.Module):
    """Pose map (n, 3, H, W) in 0..1 -> features (n, c, H/8, W/8), frame by frame."""

    def __init__(self, config: PoseEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.conv_in = nn.Conv2d(3, config.widths[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for c_in, c_out in itertools.pairwise(config.widths):
            self.blocks.append(nn.Conv2d(c_in, c_in, 3, padding=1))
            self.blocks.append(nn.Conv2d(c_in, c_out, 3, padding=1, stride=2))
        self.conv_out = nn.Conv2d(config.widths[-1], config.out_channels, 3, padding=1)

    def forward(self, maps: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n c h w"]:
        x = F.silu(self.conv_in(maps))
        for block in self.blocks:
            x = F.silu(block(x))
        return self.conv_out(x)
