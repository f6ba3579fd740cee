"""The restorer: adds the portrait's fine detail, which latents lose, to decoded frames.

    encoded = restorer.encode(portrait, decoded_portrait, portrait_map, lips)   # once per clip
    pixels  = restorer(decoded, maps, encoded, mouth)                           # any number of frames

A small autoencoder blurs eyes, texture and edges, and a small denoiser blurs more. Most of a frame is the
portrait moved by a few pixels, so for every pixel the restorer predicts where in the portrait to sample it
(a flow), how much of that to take (a share), and what to add (a correction):

    out = (1 - share) * decoded + share * portrait(x + flow) + correction

It is conditioned on the decoded frame, the portrait, the portrait encoded and decoded by the autoencoder (so
that it can distinguish what the autoencoder lost from what has changed), and the pose maps of both. With
``heard`` it is also conditioned on the mouth's opening and width as predicted from speech: a mouth is two or
three latent cells, but hundreds of pixels. With ``limbs`` it is given the portrait's arms and hands, carried
to where the pose has them, and with ``plate`` the portrait without them (``networks.plate``), and predicts a
flow and a share of each. It belongs to small models and is neither in the paper nor in the published code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from semibody.networks.pixels import PixelUNet, warp


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
    """conditioned, about the lips, on the mouth predicted from speech (``LogMelEncoder.predict_mouth``)"""
    limbs: bool = False
    """given the portrait's arms and hands where the pose has them (``pose.limbs``)"""
    plate: bool = False
    """given the portrait without its arms and hands (``networks.plate``)"""

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
class Mixture:
    """How n frames are mixed from pictures: predicted at the size the restorer works at, usable at any."""

    correction: Float[Tensor, "n 3 H W"]
    shares: tuple[Float[Tensor, "n 1 H W"], ...]
    """0..1, of the portrait, of the carried limbs and of the plate, of those a restorer is given"""
    flows: tuple[Float[Tensor, "n 2 h w"], ...]
    """where each of them is taken from, as ``warp`` takes it"""


@dataclass(frozen=True)
class PortraitDetail:
    """What the restorer computes of b portraits once per clip."""

    pixels: Float[Tensor, "b 3 H W"]
    features: Float[Tensor, "b c h w"]
    """its share of the first convolution's output"""
    lips: Float[Tensor, "b 1 h w"] | None = None
    """0..1, where the mouth is, at any size; None: not known"""
    plate: Float[Tensor, "b 3 H W"] | None = None
    """the clean plate, for restorers that are given it"""


class Restorer(PixelUNet):
    """As initialised, it returns decoded frames almost unchanged: shares are 5 %, flows and corrections 0."""

    def __init__(self, config: RestorerConfig) -> None:
        widths, folded, cells = config.widths, 3 * config.patch**2, config.patch**2
        # A correction; a share and a flow of the portrait, and of each other picture it is given.
        others = 1 + config.limbs + config.plate
        self._channels = [folded, *[cells, 2] * others]
        super().__init__(
            widths, groups=config.groups, middle=config.middle, patch=config.patch, out=sum(self._channels)
        )
        self.config = config
        # Two halves of one convolution: the portrait's is computed once.
        self.frame_in = nn.Conv2d(2 * folded, widths[0], 3, padding=1)
        self.portrait_in = nn.Conv2d(3 * folded, widths[0], 3, padding=1, bias=False)
        if config.limbs:
            self.limbs_in = nn.Conv2d(4 * cells, widths[0], 3, padding=1, bias=False)
        if config.plate:
            self.plate_in = nn.Conv2d(folded, widths[0], 3, padding=1, bias=False)
        if config.heard:
            self.mouth_in = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.initialise([0.0] * folded + [*[-3.0] * cells, 0.0, 0.0] * others)  # sigmoid(-3) = 5 %

    def encode(
        self,
        portrait: Float[Tensor, "b 3 H W"],
        decoded_portrait: Float[Tensor, "b 3 H W"],
        portrait_map: Float[Tensor, "b 3 H W"],
        lips: Float[Tensor, "b 1 h w"] | None = None,
        plate: Float[Tensor, "b 3 H W"] | None = None,
    ) -> PortraitDetail:
        """Encode portraits: pixels (−1..1), the same encoded and decoded by the autoencoder, the pose map
        (0..1), where the lips are (0..1), and the clean plate; without ``plate`` the portrait is its own."""
        inputs = torch.cat([self.fold(x) for x in (portrait, decoded_portrait, portrait_map)], dim=1)
        features = self.portrait_in(inputs)
        if not self.config.plate:
            return PortraitDetail(portrait, features, lips)
        plate = portrait if plate is None else plate
        return PortraitDetail(portrait, features + self.plate_in(self.fold(plate)), lips, plate)

    def forward(
        self,
        decoded: Float[Tensor, "n 3 H W"],
        maps: Float[Tensor, "n 3 H W"],
        encoded: PortraitDetail,
        mouth: Float[Tensor, "n 2"] | None = None,
        limbs: UInt8[Tensor, "n 4 H W"] | None = None,
    ) -> Float[Tensor, "n 3 H W"]:
        """Decoded frames (−1..1), their pose maps (0..1), opening and width of the mouth predicted from
        speech, and the portrait's arms and hands carried to the pose's place (``pose.limbs.carry_limbs``).

        n/b consecutive frames belong to each of b portraits. Without ``mouth`` or ``encoded.lips`` the mouth
        comes from the decoded frame alone; without ``limbs`` so do arms and hands.
        """
        return self.mix(decoded, self.predict(decoded, maps, encoded, mouth, limbs), encoded, limbs)

    def predict(
        self,
        decoded: Float[Tensor, "n 3 H W"],
        maps: Float[Tensor, "n 3 H W"],
        encoded: PortraitDetail,
        mouth: Float[Tensor, "n 2"] | None = None,
        limbs: UInt8[Tensor, "n 4 H W"] | None = None,
    ) -> Mixture:
        """Predict flows, shares and correction; arguments as for ``forward``."""
        times = len(decoded) // len(encoded.pixels)
        x = self.frame_in(torch.cat([self.fold(decoded), self.fold(maps)], dim=1))
        x = x + encoded.features.repeat_interleave(times, dim=0)
        if self.config.heard and mouth is not None and encoded.lips is not None:
            x = x + self.mouth_in(_spread(mouth.to(x.dtype), encoded.lips.to(x.dtype), x))
        if self.config.limbs and limbs is not None:
            cover = limbs[:, 3:].float() / 255
            x = x + self.limbs_in(self.fold(torch.cat([_carried(limbs), cover], dim=1)))
        correction, *mixing = self.predict_blocks(x).split(self._channels, dim=1)
        return Mixture(
            self.unfold(correction),
            tuple(self.unfold(share).sigmoid() for share in mixing[::2]),
            tuple(2 * self.config.reach * flow.tanh() for flow in mixing[1::2]),
        )

    def mix(
        self,
        pixels: Float[Tensor, "n 3 H W"],
        mixture: Mixture,
        encoded: PortraitDetail,
        limbs: UInt8[Tensor, "n 4 H W"] | None = None,
    ) -> Float[Tensor, "n 3 H W"]:
        """Frames (−1..1) mixed with the pictures of ``encoded`` and ``limbs``. Their size may differ
        from the size that ``mixture`` was predicted at."""
        times = len(pixels) // len(encoded.pixels)
        mixed = pixels.float()
        pictures = [(0, encoded.pixels.float().repeat_interleave(times, dim=0))]
        if encoded.plate is not None:
            pictures.append((-1, encoded.plate.float().repeat_interleave(times, dim=0)))
        if self.config.limbs and limbs is not None:
            pictures.append((1, _carried(limbs)))
        for number, picture in pictures:
            share = resized(mixture.shares[number], mixed)
            mixed = mixed + share * (warp(picture, mixture.flows[number]) - mixed)
        return mixed + resized(mixture.correction, mixed)


def _carried(limbs: UInt8[Tensor, "n 4 H W"]) -> Float[Tensor, "n 3 H W"]:
    """The picture of carried limbs in −1..1."""
    return limbs[:, :3].float() / 127.5 - 1


def resized(x: Float[Tensor, "n c h w"], like: Float[Tensor, "n d H W"]) -> Float[Tensor, "n c H W"]:
    """``x`` resized to the size of ``like``."""
    size = (like.shape[2], like.shape[3])
    if x.shape[2:] == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def _spread(
    mouth: Float[Tensor, "n 2"], lips: Float[Tensor, "b 1 h w"], like: Float[Tensor, "n c H W"]
) -> Float[Tensor, "n 3 H W"]:
    """The lips' region, and inside it the mouth's opening and width, at the size of ``like``."""
    size = (like.shape[2], like.shape[3])
    region = F.interpolate(lips, size=size, mode="bilinear", align_corners=False)
    region = region.repeat_interleave(len(mouth) // len(lips), dim=0)
    return torch.cat([region, region * mouth[:, :, None, None]], dim=1)
