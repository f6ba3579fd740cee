"""The clean plate: the portrait without its arms and hands, painted once per clip.

    plate = model.plate(portrait, hidden)      # hidden: where arms and hands are, from the portrait's pose

When hands leave their place, what was behind them must appear: shirt, trousers, background. Asked for it
frame by frame, a small denoiser leaves ghosts of the old arms behind, another one in every frame. What is
behind them does not depend on the frame, though, so it is painted once, by a network that does nothing
else, and the restorer takes it wherever the arms have gone.

Each pixel is mixed from three: the portrait's own, the colours around the arms that flow into their place
(``surround``), and the portrait taken from elsewhere; and a correction is added. Film makers call a picture
of the scene without the actor a clean plate; here only the arms are gone. It belongs to small models and is
neither in the paper nor in the published code.
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
    """Sizes of the network that paints the clean plate."""

    widths: tuple[int, ...] = (24, 48, 96, 112, 112)
    """channels of each level, finest first; all but the last halve the size"""
    groups: int = 8
    """groups of the group norms"""
    middle: int = 1
    """blocks of the coarsest level"""
    patch: int = 2
    """side of the pixel blocks that are folded into channels first"""
    reach: float = 0.3
    """from how far pixels are taken, as a share of the picture's sides"""

    def __post_init__(self) -> None:
        if any(width % self.groups for width in self.widths):
            raise ValueError("plate.widths must be multiples of plate.groups")
        if self.middle < 0:
            raise ValueError("plate.middle must not be negative")


class CleanPlate(PixelUNet):
    """Where it begins, the colours around the arms fill their place and the rest is the portrait."""

    def __init__(self, config: PlateConfig) -> None:
        folded, cells = 3 * config.patch**2, config.patch**2
        self._said = [folded, cells, cells, 2]  # correction, two shares, flow
        super().__init__(
            config.widths, groups=config.groups, middle=config.middle, patch=config.patch,
            out=sum(self._said),
        )  # fmt: skip
        self.config = config
        # The portrait, the colours around, where they are the same, and where the arms are.
        self.conv_in = nn.Conv2d(2 * folded + cells, config.widths[0], 3, padding=1)
        self.begin([0.0] * folded + [-3.0] * cells * 2 + [0.0] * 2)

    def forward(
        self, portrait: Float[Tensor, "n 3 H W"], hidden: Float[Tensor, "n 1 H W"]
    ) -> Float[Tensor, "n 3 H W"]:
        """The portrait (−1..1) as it would be without arms; ``hidden`` (0..1) is about where they are."""
        portrait, hidden = portrait.float(), hidden.float()
        around = surround(portrait, hidden)
        seen = [self.fold(x) for x in (portrait, around, hidden)]
        correction, share, share_of_far, flow = self.say(self.conv_in(torch.cat(seen, dim=1))).split(
            self._said, dim=1
        )
        far = warp(portrait, 2 * self.config.reach * flow.tanh())
        filled = torch.lerp(around, far, self.unfold(share_of_far).sigmoid())
        # As the arms are told of with a wide margin, so much of it that is none is the portrait's again.
        plate = torch.lerp(filled + self.unfold(correction), portrait, self.unfold(share).sigmoid())
        return torch.lerp(portrait, plate, hidden)


def surround(pixels: Float[Tensor, "n c H W"], hidden: Float[Tensor, "n 1 H W"]) -> Float[Tensor, "n c H W"]:
    """What is known flows into what is hidden: ever coarser means of the known pixels, then back to ever
    finer ones (pull-push; Gortler et al. 1996, "The Lumigraph", Sec. 3.4)."""
    known = 1 - hidden
    sums, shares = [pixels * known], [known]
    while max(sums[-1].shape[2:]) > 1:
        sums, shares = ([*x, F.avg_pool2d(x[-1], 2, ceil_mode=True)] for x in (sums, shares))
    colours = sums.pop() / shares.pop().clamp(min=1e-6)
    for total, share in zip(reversed(sums), reversed(shares), strict=True):
        coarser = F.interpolate(colours, size=total.shape[2:], mode="bilinear", align_corners=False)
        colours = total + (1 - share) * coarser
    return colours
