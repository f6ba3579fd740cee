"""The clean plate: the portrait without its arms and hands, predicted once per clip.

    plate = model.plate(portrait, hidden)      # hidden: where arms and hands are, from the portrait's pose

When hands move away, what was behind them becomes visible: shirt, trousers, background. A small denoiser that
predicts it frame by frame leaves remains of the old arms, different ones in every frame. What is behind the
arms does not depend on the frame, so this network predicts it once, and the restorer takes it wherever the
arms have moved away.

Each pixel is mixed from three: the portrait's own, the colours around the arms extended into their place
(``surround``), and the portrait sampled elsewhere; and a correction is added. "Clean plate" is the visual
effects term for the scene without the actor; here only arms and hands are missing. It belongs to small models
and is neither in the paper nor in the published code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from semibody.networks.pixels import PixelUNet, warp


@dataclass(frozen=True, kw_only=True)
class PlateConfig:
    """Sizes of the network that predicts the clean plate."""

    widths: tuple[int, ...] = (24, 48, 96, 112, 112)
    """channels of each level, finest first; all but the last halve the size"""
    groups: int = 8
    """groups of the group norms"""
    middle: int = 1
    """blocks of the coarsest level"""
    patch: int = 2
    """side of the pixel blocks that are folded into channels first"""
    reach: float = 0.3
    """longest flow, as a share of the picture's sides"""

    def __post_init__(self) -> None:
        if any(width % self.groups for width in self.widths):
            raise ValueError("plate.widths must be multiples of plate.groups")
        if self.middle < 0:
            raise ValueError("plate.middle must not be negative")


class CleanPlate(PixelUNet):
    """Predicts the clean plate; as initialised, mostly the colours around the arms in their place."""

    def __init__(self, config: PlateConfig) -> None:
        folded, cells = 3 * config.patch**2, config.patch**2
        self._channels = [folded, cells, cells, 2]  # correction, two shares, flow
        super().__init__(
            config.widths, groups=config.groups, middle=config.middle, patch=config.patch,
            out=sum(self._channels),
        )  # fmt: skip
        self.config = config
        # The portrait, the colours around, where they are the same, and where the arms are.
        self.conv_in = nn.Conv2d(2 * folded + cells, config.widths[0], 3, padding=1)
        self.initialise([0.0] * folded + [-3.0] * cells * 2 + [0.0] * 2)

    def forward(
        self, portrait: Float[Tensor, "n 3 H W"], hidden: Float[Tensor, "n 1 H W"]
    ) -> Float[Tensor, "n 3 H W"]:
        """The portrait (−1..1) without arms and hands; ``hidden`` (0..1) covers them with a margin."""
        portrait, hidden = portrait.float(), hidden.float()
        around = surround(portrait, hidden)
        inputs = torch.cat([self.fold(x) for x in (portrait, around, hidden)], dim=1)
        prediction = self.predict_blocks(self.conv_in(inputs))
        correction, share, share_of_far, flow = prediction.split(self._channels, dim=1)
        far = warp(portrait, 2 * self.config.reach * flow.tanh())
        filled = torch.lerp(around, far, self.unfold(share_of_far).sigmoid())
        # ``hidden`` has a wide margin about the arms; where there is no arm, the portrait itself is kept.
        plate = torch.lerp(filled + self.unfold(correction), portrait, self.unfold(share).sigmoid())
        return torch.lerp(portrait, plate, hidden)


def surround(pixels: Float[Tensor, "n c H W"], hidden: Float[Tensor, "n 1 H W"]) -> Float[Tensor, "n c H W"]:
    """Fill hidden pixels from known ones: means of the known pixels at ever coarser sizes, then interpolated
    back to ever finer ones (pull-push; Gortler et al. 1996, "The Lumigraph", Sec. 3.4)."""
    known = 1 - hidden
    sums, shares = [pixels * known], [known]
    while max(sums[-1].shape[2:]) > 1:
        sums, shares = ([*x, F.avg_pool2d(x[-1], 2, ceil_mode=True)] for x in (sums, shares))
    colours = sums.pop() / shares.pop().clamp(min=1e-6)
    for total, share in zip(reversed(sums), reversed(shares), strict=True):
        coarser = F.interpolate(colours, size=total.shape[2:], mode="bilinear", align_corners=False)
        colours = total + (1 - share) * coarser
    return colours
