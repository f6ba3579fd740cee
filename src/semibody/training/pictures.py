"""Pictures between files (uint8, height × width × 3) and networks (−1..1, 3 × height × width)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from semibody.types import Picture


def to_pixels(pictures: Tensor) -> Float[Tensor, "n 3 H W"]:
    """uint8 (n, 3, H, W) to −1..1."""
    return pictures.float() / 127.5 - 1


def to_picture(pixels: Float[Tensor, "n 3 H W"]) -> Picture:
    """−1..1 to uint8 (n, H, W, 3)."""
    levels = ((pixels.float() / 2 + 0.5).clamp(0, 1) * 255).round()
    return levels.to("cpu", torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def grid(rows: Sequence[Sequence[Picture]]) -> Picture:
    """Pictures of one size side by side and below each other."""
    return np.ascontiguousarray(np.concatenate([np.concatenate(list(row), axis=1) for row in rows]))
