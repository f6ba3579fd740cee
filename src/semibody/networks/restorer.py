"""The restorer: gives decoded frames back what the portrait shows and latents lose.

    view   = restorer.look(portrait, decoded_portrait, portrait_map, lips)   # once per clip
    pixels = restorer(decoded, maps, view, mouth)                            # any number of frames

A small autoencoder blurs eyes, texture and edges, and a small denoiser blurs more; most of a frame,
though, is the portrait moved by a few pixels. For every pixel the restorer says three things: from where
in the portrait to take it (a flow), how much of it to take (a share), and what to add (a correction):

    out = (1 - share) * decoded + share * portrait(x + flow) + correction

It sees the decoded frame, the portrait, the portrait as the autoencoder gives it back, so that it can tell
what the autoencoder lost from what has changed, and the pose maps of both. With ``heard`` it is also told
how open and wide the mouth sounds: a mouth is two or three cells of the latents, but hundreds of pixels.
With ``limbs`` it is given the portrait's arms and hands, carried to where the pose has them, and says the
same of them: how far off they are, and how much of them to take.
It belongs to small models and is neither in the paper nor in the published code.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from semibody.networks.layers import Downsample, Upsample


@dataclass(frozen=True, kw_only=True)
class RestorerConfig:
    """Sizes of the restorer."""

    widths: tuple[int, ...] = (24, 64, 96)
    """channels of each level, finest first; all but the last halve the size"""
    groups: int = 8
    """groups of the group norms"""
    middle: int = 1
    """blocks of the coarsest level"""
    patch: int = 2
    """side of the pixel blocks that are folded into channels first"""
    reach: float = 0.06
    """longest flow, as a share of the picture's sides"""
    heard: bool = False
    """told what the audio encoder hears of the mouth (``LogMelEncoder.mouth_heard``), about the lips"""
    limbs: bool = False
    """given the portrait's arms and hands where the pose has them (``pose.limbs``)"""

    def __post_init__(self) -> None:
        if any(width % self.groups for width in self.widths):
            raise ValueError("restorer.widths must be multiples of restorer.groups")
        if self.middle < 0:
            raise ValueError("restorer.middle must not be negative")

    @property
    def factor(self) -> int:
        """What the sides of a picture must be multiples of."""
        return self.patch * 2 ** (len(self.widths) - 1)


@dataclass(frozen=True)
class View:
    """A portrait as the restorer knows it."""

    pixels: Float[Tensor, "b 3 H W"]
    features: Float[Tensor, "b c h w"]
    """its share of the first convolution's output"""
    lips: Float[Tensor, "b 1 h w"] | None = None
    """0..1, where the mouth is, at any size; None: not known"""


class Restorer(nn.Module):
    """A small U-Net without time; where it begins, it gives decoded frames back almost as they are."""

    def __init__(self, config: RestorerConfig) -> None:
        super().__init__()
        self.config = config
        widths, folded = config.widths, 3 * config.patch**2
        # Two halves of one convolution: the portrait's is computed once.
        self.frame_in = nn.Conv2d(2 * folded, widths[0], 3, padding=1)
        self.portrait_in = nn.Conv2d(3 * folded, widths[0], 3, padding=1, bias=False)
        if config.limbs:
            self.limbs_in = nn.Conv2d(4 * config.patch**2, widths[0], 3, padding=1, bias=False)
        if config.heard:
            self.mouth_in = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        steps = list(itertools.pairwise(widths))
        self.downs = nn.ModuleList([Downsample(narrow) for narrow, _ in steps])
        self.down_blocks = nn.ModuleList([Residual(a, b, config.groups) for a, b in steps])
        self.mid_blocks = nn.Sequential(
            *(Residual(widths[-1], widths[-1], config.groups) for _ in range(config.middle))
        )
        self.ups = nn.ModuleList([Upsample(wide) for _, wide in reversed(steps)])
        self.up_blocks = nn.ModuleList([Residual(a + b, a, config.groups) for a, b in reversed(steps)])
        self.norm_out = nn.GroupNorm(config.groups, widths[0])
        # A correction; a share of the portrait and its flow; with limbs the same of what was carried.
        others, cells = (2 if config.limbs else 1), config.patch**2
        self._said = [folded, *[cells, 2] * others]
        self.conv_out = nn.Conv2d(widths[0], sum(self._said), 3, padding=1)
        bias = torch.tensor([0.0] * folded + [*[-3.0] * cells, 0.0, 0.0] * others)  # shares begin at 5 %
        self.conv_out.load_state_dict({"weight": torch.zeros_like(self.conv_out.weight), "bias": bias})

    def look(
        self,
        portrait: Float[Tensor, "b 3 H W"],
        decoded_portrait: Float[Tensor, "b 3 H W"],
        portrait_map: Float[Tensor, "b 3 H W"],
        lips: Float[Tensor, "b 1 h w"] | None = None,
    ) -> View:
        """The portrait (−1..1), its picture by the autoencoder, its pose map (0..1), where its lips are."""
        seen = torch.cat([self._fold(x) for x in (portrait, decoded_portrait, portrait_map)], dim=1)
        return View(portrait, self.portrait_in(seen), lips)

    def forward(
        self,
        decoded: Float[Tensor, "n 3 H W"],
        maps: Float[Tensor, "n 3 H W"],
        view: View,
        mouth: Float[Tensor, "n 2"] | None = None,
        limbs: UInt8[Tensor, "n 4 H W"] | None = None,
    ) -> Float[Tensor, "n 3 H W"]:
        """Decoded frames (−1..1), their pose maps (0..1), how open and wide their mouth sounds, and the
        portrait's arms and hands carried to where they should be, as ``pose.limbs.carry_limbs`` gives them.

        n/b frames in a row belong to each of b portraits. Without ``mouth``, or where nobody knows the lips,
        the mouth is what the decoded frame shows; without ``limbs`` arms and hands are.
        """
        times = len(decoded) // len(view.pixels)
        x = self.frame_in(torch.cat([self._fold(decoded), self._fold(maps)], dim=1))
        x = x + view.features.repeat_interleave(times, dim=0)
        if self.config.heard and mouth is not None and view.lips is not None:
            x = x + self.mouth_in(_spread(mouth.to(x.dtype), view.lips.to(x.dtype), x))
        carried = None
        if self.config.limbs and limbs is not None:
            carried = limbs[:, :3].float() / 127.5 - 1
            x = x + self.limbs_in(self._fold(torch.cat([carried, limbs[:, 3:].float() / 255], dim=1)))
        skips = []
        for down, block in zip(self.downs, self.down_blocks, strict=True):
            skips.append(x)
            x = block(down(x))
        x = self.mid_blocks(x)
        for up, block in zip(self.ups, self.up_blocks, strict=True):
            skip = skips.pop()
            x = block(torch.cat([up(x, (skip.shape[2], skip.shape[3])), skip], dim=1))
        # Pixels are mixed in float32: rounding them to bfloat16 would cost a level of 256 or more.
        said = self.conv_out(F.silu(self.norm_out(x))).float()
        correction, *parts = said.split(self._said, dim=1)
        portrait = view.pixels.float().repeat_interleave(times, dim=0)
        mixed = self._mix(decoded.float(), portrait, *parts[:2])
        if carried is not None:
            mixed = self._mix(mixed, carried, *parts[2:])
        return mixed + F.pixel_shuffle(correction, self.config.patch)

    def _mix(self, pixels: Tensor, other: Tensor, share: Tensor, flow: Tensor) -> Tensor:
        """The share of the other picture, each pixel taken from where the flow says."""
        moved = warp(other, 2 * self.config.reach * flow.tanh())
        return pixels + F.pixel_shuffle(share, self.config.patch).sigmoid() * (moved - pixels)

    def _fold(self, pixels: Tensor) -> Tensor:
        return F.pixel_unshuffle(pixels.to(self.frame_in.weight.dtype), self.config.patch)


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


def _spread(
    mouth: Float[Tensor, "n 2"], lips: Float[Tensor, "b 1 h w"], like: Float[Tensor, "n c H W"]
) -> Float[Tensor, "n 3 H W"]:
    """The lips' region, and what is heard of the mouth inside it, at the size of ``like``."""
    size = (like.shape[2], like.shape[3])
    region = F.interpolate(lips, size=size, mode="bilinear", align_corners=False)
    region = region.repeat_interleave(len(mouth) // len(lips), dim=0)
    return torch.cat([region, region * mouth[:, :, None, None]], dim=1)


def warp(pixels: Float[Tensor, "n 3 H W"], flow: Float[Tensor, "n 2 h w"]) -> Float[Tensor, "n 3 H W"]:
    """Take every pixel from ``x + flow``: (right, down) in units of half the picture; the border repeats."""
    size = (pixels.shape[2], pixels.shape[3])
    moved = F.interpolate(flow, size=size, mode="bilinear", align_corners=False)
    ys, xs = (torch.arange(n, device=flow.device, dtype=flow.dtype) * (2 / n) + (1 / n - 1) for n in size)
    where = torch.stack([xs[None, None, :] + moved[:, 0], ys[None, :, None] + moved[:, 1]], dim=-1)
    return F.grid_sample(pixels, where, padding_mode="border", align_corners=False)
