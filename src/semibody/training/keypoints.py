"""A small network that predicts joints as soft heat maps; L_pose compares them, with the network frozen.

It is trained on true joints (of rendered people, or detected ones), in seconds to minutes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from semibody.types import FACE, HANDS, N_JOINTS

JOINTS: tuple[int, ...] = (
    *range(8),  # nose, neck, arms
    *range(14, 18),  # eyes, ears
    *(FACE.start + i for i in (8, 48, 54, 62, 66)),  # chin, corners of the mouth, middle of the inner lips
    *range(HANDS.start, N_JOINTS),
)
"""The joints it predicts: upper body, a few of the face, both hands."""
UPPER_LIP, LOWER_LIP, CHIN = (JOINTS.index(FACE.start + i) for i in (62, 66, 8))
HAND_ROWS = slice(JOINTS.index(HANDS.start), len(JOINTS))
SPREAD = 1.2
"""Standard deviation of a joint's blob, in cells."""


class KeypointNetwork(nn.Module):
    """Pixels (n, 3, H, W) in −1..1 -> logits of heat maps (n, k, H/4, W/4): a small hourglass."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        w = width
        self.stem = nn.Sequential(
            nn.Conv2d(3, w, 3, padding=1, stride=2), _Act(w), nn.Conv2d(w, w, 3, padding=1, stride=2), _Act(w)
        )
        self.down = nn.ModuleList([_Step(w, 2 * w), _Step(2 * w, 3 * w), _Step(3 * w, 4 * w)])
        self.up = nn.ModuleList([_Merge(4 * w, 3 * w), _Merge(3 * w, 2 * w), _Merge(2 * w, w)])
        self.head = nn.Conv2d(w, len(JOINTS), 1)
        assert self.head.bias is not None
        nn.init.constant_(self.head.bias, -4.0)  # most of a picture has no joint

    def forward(self, pixels: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n k h w"]:
        x = self.stem(pixels)
        skips = [x]
        for step in self.down:
            x = step(x)
            skips.append(x)
        skips.pop()
        for merge in self.up:
            x = merge(x, skips.pop())
        return self.head(x)

    def heat_maps(self, pixels: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n k h w"]:
        """Heat maps in 0..1."""
        return torch.sigmoid(self(pixels).float())


class _Act(nn.Sequential):
    def __init__(self, width: int) -> None:
        super().__init__(nn.GroupNorm(8, width), nn.SiLU())


class _Step(nn.Module):
    """Halve the size, then a residual block."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.shrink = nn.Sequential(nn.Conv2d(c_in, c_out, 3, padding=1, stride=2), _Act(c_out))
        self.block = nn.Sequential(
            nn.Conv2d(c_out, c_out, 3, padding=1), _Act(c_out), nn.Conv2d(c_out, c_out, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.shrink(x)
        return x + self.block(x)


class _Merge(nn.Module):
    """Double the size and join the skip."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(c_in, c_out, 1)
        self.block = nn.Sequential(_Act(c_out), nn.Conv2d(c_out, c_out, 3, padding=1), _Act(c_out))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = skip + F.interpolate(self.narrow(x), size=skip.shape[2:], mode="nearest")
        return x + self.block(x)


def blobs(
    joints: Float[Tensor, "n k 2"], strength: Float[Tensor, "n k"], height: int, width: int
) -> Float[Tensor, "n k h w"]:
    """Gaussian heat maps of ``joints`` in cells (x, y), each as high as its ``strength``."""
    y = torch.arange(height, dtype=torch.float32, device=joints.device) + 0.5
    x = torch.arange(width, dtype=torch.float32, device=joints.device) + 0.5
    across = torch.exp(-((x - joints[..., :1]) ** 2) / (2 * SPREAD**2))
    down = torch.exp(-((y - joints[..., 1:]) ** 2) / (2 * SPREAD**2))
    return down[..., :, None] * across[..., None, :] * strength[..., None, None]


def heat_map_loss(
    logits: Float[Tensor, "n k h w"], wanted: Float[Tensor, "n k h w"], known: Float[Tensor, "n k"]
) -> Tensor:
    """Cross-entropy where blobs weigh 20 times the empty rest; joints not ``known`` have no weight."""
    loss = F.binary_cross_entropy_with_logits(logits.float(), wanted, reduction="none")
    loss = (loss * (1 + 20 * wanted)).mean(dim=(2, 3))
    return (loss * known).sum() / known.sum().clamp(min=1)


def find(heat: Float[Tensor, "n k h w"]) -> tuple[Float[Tensor, "n k 2"], Float[Tensor, "n k"]]:
    """Joints as fractions of the picture (centre of mass around the peak) and peak heights, for measuring."""
    height, width = heat.shape[2:]
    peak, where = heat.flatten(2).max(dim=2)
    py, px = where // width, where % width
    y = torch.arange(height, device=heat.device)[None, None, :, None]
    x = torch.arange(width, device=heat.device)[None, None, None]
    near = ((y - py[..., None, None]).abs() <= 2) & ((x - px[..., None, None]).abs() <= 2)
    mass = heat * near
    total = mass.sum(dim=(2, 3)).clamp(min=1e-9)
    cx = (mass * (x + 0.5)).sum(dim=(2, 3)) / total / width
    cy = (mass * (y + 0.5)).sum(dim=(2, 3)) / total / height
    return torch.stack([cx, cy], dim=2), peak
