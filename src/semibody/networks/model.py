"""The networks together, and the conditioning that training and inference share.

``Model`` holds five networks: ``vae``, ``audio_encoder``, ``pose_encoder``, ``reference_unet`` and
``denoising_unet``; small models may also have ``plate``, ``restorer`` and ``lips``. A clip is made
in this order:

    portrait  = model.encode(picture)                  # latents of the portrait, once
    reference = model.project_reference(portrait)      # its keys and values for the denoiser, once
    rows      = model.audio_encoder.rows(waveform)     # once
    plate     = model.predict_plate(picture, hidden)   # once, where there is one
    ...for every window and step:
    v         = model.denoise(latents, t, Conditions(...))
    ...
    pixels    = model.decode(latents)
    pixels    = model.restorer(pixels, maps, encoded)  # where there is one

``conditioning.clip`` does this for a whole clip.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from semibody.networks.audio_encoders import AudioConfig, AudioEncoder, build_audio_encoder
from semibody.networks.hints import Hints, read_old_keys
from semibody.networks.lips import LipsConfig, LipShapes
from semibody.networks.pixels import warp
from semibody.networks.plate import CleanPlate, PlateConfig
from semibody.networks.pose_encoder import PoseEncoder, PoseEncoderConfig
from semibody.networks.restorer import Restorer, RestorerConfig
from semibody.networks.turns import Turns
from semibody.networks.unet import Appearance, AudioProjection, DeepFeatures, KeyValues, UNet, UNetConfig
from semibody.networks.vae import VAE, VAEConfig

LARGEST_SIZE, MOST_LAYERS, MOST_LEVELS = 16384, 64, 12
"""Bounds of a model's sizes: channels, frames and tokens; layers of a level; levels."""
NETWORKS = ("reference_unet", "denoising_unet", "pose_encoder", "vae", "audio_encoder")
"""What every model has."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Everything that decides the shapes of the networks; the defaults are the published ones."""

    unet: UNetConfig = field(default_factory=UNetConfig)
    """the denoising network; the reference network follows from it"""
    pose_encoder: PoseEncoderConfig = field(default_factory=PoseEncoderConfig)
    vae: VAEConfig = field(default_factory=VAEConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)
    hints: Hints = field(default_factory=Hints)
    """what the denoiser is conditioned on beside the published conditions"""
    restorer: RestorerConfig | None = None
    """adds the portrait's fine detail to decoded frames (small models); None: there is no such network"""
    plate: PlateConfig | None = None
    """predicts the portrait without arms and hands, for ``hints.base`` and the restorer; None: there is no
    such network"""
    lips: LipsConfig | None = None
    """predicts from speech the shapes of the lips with which a portrait is moved (small models); None: there
    is no such network"""
    side: int | None = None
    """side in pixels of the square pictures the networks were trained on, for small models: pictures of other
    sizes are scaled to the same area, and finished at their own size; None: networks take any size"""
    half_appearance: bool = True
    """round the Appearance to float16, as the published code does whatever the precision"""

    read_old_keys = staticmethod(read_old_keys)

    def __post_init__(self) -> None:
        for fault in itertools.chain(_sizes_out_of_bounds(self), self._faults()):
            raise ValueError(fault)

    def _faults(self) -> Iterator[str]:
        """Combinations that cannot work."""
        hints, restorer = self.hints, self.restorer
        predicts_mouth = self.audio.kind == "logmel" and self.audio.mouth_token
        if self.unet.widths[0] != self.pose_encoder.out_channels:
            yield "pose_encoder.out_channels must be the U-Net's first width"
        if hints.base == "plate" and self.plate is None:
            yield 'hints.base = "plate" needs the network plate, for example plate = {}'
        if self.lips is not None and not predicts_mouth:
            yield "lips needs logmel audio with mouth_token"
        if restorer is None:
            return
        if not hints.own_pose:
            yield 'restorer needs hints.pose = "own" or "change"'
        if restorer.heard and not (predicts_mouth and hints.audio_region == "lips"):
            yield 'restorer.heard needs logmel audio with mouth_token and hints.audio_region = "lips"'
        if restorer.plate and self.plate is None:
            yield "restorer.plate needs the network plate, for example plate = {}"
        if self.vae.factor % restorer.factor:
            yield "restorer folds and halves the picture further than the autoencoder does"

    def working_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width at which the networks work on pictures of this size: whole latent cells."""
        if self.side is None:
            return height, width
        scale, cell = self.side / (height * width) ** 0.5, self.vae.factor
        return max(1, round(height * scale / cell)) * cell, max(1, round(width * scale / cell)) * cell

    @property
    def networks(self) -> tuple[str, ...]:
        """The networks of this model, by name."""
        more = {"plate": self.plate, "restorer": self.restorer, "lips": self.lips}
        return (*NETWORKS, *(name for name, config in more.items() if config is not None))


def _sizes_out_of_bounds(config: Any, prefix: str = "") -> Iterator[str]:
    """Sizes that no network has: building it, even without memory for its weights, would never end."""
    for item in fields(config):
        name, value = f"{prefix}{item.name}", getattr(config, item.name)
        if is_dataclass(value):
            yield from _sizes_out_of_bounds(value, f"{name}.")
            continue
        values = value if isinstance(value, tuple) else (value,)
        if len(values) > MOST_LEVELS:
            yield f"{name} has more than {MOST_LEVELS} entries"
        counts_layers = item.name in ("layers", "middle")
        largest = MOST_LAYERS if counts_layers else LARGEST_SIZE
        smallest = 0 if item.name in ("before", "after", "middle") else 1
        for number in values:
            if isinstance(number, int) and not isinstance(number, bool) and not smallest <= number <= largest:
                yield f"{name} must be from {smallest} to {largest}"
            if isinstance(number, float) and not math.isfinite(number):
                yield f"{name} must be a number"


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What a window is denoised towards. None leaves a condition out (guidance's unconditional half)."""

    base: Float[Tensor, "b c h w"] | None = None
    """latents of the portrait or its clean plate, for models that concatenate them (``Model.base``)"""
    reference: KeyValues | None = None
    """the portrait's keys and values, from ``Model.project_reference``"""
    audio: AudioProjection | None = None
    """each frame's keys and values, from ``Model.project_audio``, n = (b f)"""
    audio_mask: Float[Tensor, "b f h w"] | None = None
    """0..1 weight of the audio attention's output"""
    pose: Float[Tensor, "b f d h w"] | None = None
    """pose features"""
    concatenated: Float[Tensor, "b f _ h w"] | None = None
    """what hints concatenate beside the base (``Model.concatenated``); None: not known"""

    def unconditional(self) -> Conditions:
        """The other half of guidance: no audio, no pose, no reference; the base stays."""
        return Conditions(base=self.base)


def build_network(name: str, config: ModelConfig) -> nn.Module:
    """One of ``config.networks``, initialised."""
    latents = config.vae.latent_channels
    builders: dict[str, Callable[[], nn.Module]] = {
        "reference_unet": lambda: UNet(config.unet.as_reference(), latents),
        "denoising_unet": lambda: UNet(config.unet, config.hints.channels(latents)),
        "pose_encoder": lambda: PoseEncoder(config.pose_encoder),
        "vae": lambda: VAE(config.vae),
        "audio_encoder": lambda: build_audio_encoder(config.audio),
        "plate": lambda: CleanPlate(config.plate or PlateConfig()),
        "restorer": lambda: Restorer(config.restorer or RestorerConfig()),
        "lips": lambda: LipShapes(config.lips or LipsConfig()),
    }
    return builders[name]()


class Model(nn.Module):
    reference_unet: UNet
    denoising_unet: UNet
    pose_encoder: PoseEncoder
    vae: VAE
    audio_encoder: AudioEncoder
    plate: CleanPlate | None
    restorer: Restorer | None
    lips: LipShapes | None

    def __init__(self, config: ModelConfig, networks: Mapping[str, nn.Module] | None = None) -> None:
        """``networks`` are used where they are given; the others are initialised."""
        super().__init__()
        self.config = config
        self.plate = self.restorer = self.lips = None
        self.turns: Turns | None = None
        """which networks are in memory, where not all of them are"""
        given = networks or {}
        for name in config.networks:
            setattr(self, name, given[name] if name in given else build_network(name, config))

    def __getattr__(self, name: str) -> Any:
        """A network, which comes into memory by being asked for if they take turns."""
        turns: Turns | None = self.__dict__.get("turns")
        if turns is not None:
            turns.take(name)
        return super().__getattr__(name)

    @property
    def device(self) -> torch.device:
        """Where the networks compute."""
        return self.denoising_unet.conv_in.weight.device if self.turns is None else self.turns.device

    @property
    def dtype(self) -> torch.dtype:
        """What the networks compute in."""
        return self.denoising_unet.conv_in.weight.dtype if self.turns is None else self.turns.dtype

    def encode(self, pixels: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n c h w"]:
        """Pixels in −1..1 to scaled latents."""
        return self.vae.encode(pixels)

    def decode(self, latents: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 3 H W"]:
        """Scaled latents to pixels, about −1..1."""
        return self.vae.decode(latents)

    # -- conditions: of the portrait, once per clip; of frames, once per frame ---------------

    def appearance(
        self, portrait: Float[Tensor, "b c h w"], own_map: Float[Tensor, "b 3 H W"] | None = None
    ) -> Appearance:
        """The portrait's Appearance; ``own_map`` is its pose map, where one is drawn."""
        pose = None if own_map is None else self.pose_encoder(own_map)
        tokens = self.reference_unet.appearance(portrait, pose)
        if self.config.half_appearance:
            tokens = {name: half_rounded(exact) for name, exact in tokens.items()}
        return tokens

    def project_reference(
        self, portrait: Float[Tensor, "b c h w"], own_map: Float[Tensor, "b 3 H W"] | None = None
    ) -> KeyValues:
        """Keys and values of the portrait for every layer of the denoiser."""
        appearance = self.appearance(portrait, own_map)  # before the denoiser is asked for: they take turns
        return self.denoising_unet.project_reference(appearance)

    def project_audio(self, tokens: Float[Tensor, "n l d"]) -> AudioProjection:
        """Keys and values of frames' audio tokens for every layer of the denoiser."""
        return self.denoising_unet.project_audio(tokens)

    def predict_plate(
        self, pixels: Float[Tensor, "b 3 H W"], hidden: Float[Tensor, "b 1 H W"] | None
    ) -> Float[Tensor, "b 3 H W"] | None:
        """The portrait (−1..1) without arms and hands, which are where ``hidden`` is 1. None without the
        network or without ``hidden``."""
        return None if self.plate is None or hidden is None else self.plate(pixels, hidden)

    def base(
        self, portrait: Float[Tensor, "b c h w"], plate: Float[Tensor, "b 3 H W"] | None
    ) -> Float[Tensor, "b c h w"] | None:
        """The latents to concatenate with noisy ones: of the portrait or of its clean plate; None: none."""
        if not self.config.hints.concatenates:
            return None
        if self.config.hints.base == "portrait" or plate is None:
            return portrait
        return self.encode(plate.to(portrait.dtype)).to(portrait.dtype)

    def concatenated(
        self, portrait: Float[Tensor, "b c h w"], hints: Mapping[str, Float[Tensor, "b f _ h w"]]
    ) -> Float[Tensor, "b f _ h w"] | None:
        """What frames' ``hints`` (``conditioning.evidence``) concatenate beside the base; None: nothing."""
        return self.carry(portrait, hints["limbs"]) if "limbs" in hints else None

    def carry(
        self, portrait: Float[Tensor, "b c h w"], limbs: Float[Tensor, "b f 3 h w"]
    ) -> Float[Tensor, "b f c+1 h w"]:
        """The portrait's latents, arms and hands where ``limbs`` (flow and cover, ``pose.limbs``) carries
        them, zeros elsewhere; and the cover."""
        b, f = limbs.shape[:2]
        # In float32: a flow rounded to bfloat16 is off by quarters of a pixel.
        flow, cover = limbs.flatten(0, 1).float().split([2, 1], dim=1)
        latents = portrait.repeat_interleave(f, dim=0).float()
        carried = torch.cat([warp(latents, flow) * cover, cover], dim=1)
        return carried.to(portrait.dtype).unflatten(0, (b, f))

    # -- the prediction ----------------------------------------------------------------------

    def denoise(
        self,
        latents: Float[Tensor, "b f c h w"],
        t: Float[Tensor, " b"],
        conditions: Conditions,
        deep: DeepFeatures | None = None,
    ) -> Float[Tensor, "b f c h w"]:
        """One call of the denoising network: its prediction (v, in published weights) for a window.

        ``deep``: of the same window and conditions in an earlier step, or where to keep them for later ones.
        """
        b, f = latents.shape[:2]
        base, mask = conditions.base, conditions.audio_mask
        out = self.denoising_unet(
            torch.cat([latents.flatten(0, 1), *self._concatenated(conditions, b, f)], dim=1),
            t,
            frames=f,
            pose=None if conditions.pose is None else conditions.pose.flatten(0, 1),
            reference=conditions.reference,
            audio=conditions.audio,
            audio_mask=None if mask is None else mask.flatten(0, 1)[:, None],
            deep=deep,
        )
        out = out.unflatten(0, (b, f))
        if self.config.hints.portrait == "residual":
            assert base is not None
            out = out.float() + base[:, None].float()
        return out

    def _concatenated(self, conditions: Conditions, b: int, f: int) -> Iterator[Float[Tensor, "n _ h w"]]:
        """What is concatenated with the noisy latents of b windows of f frames."""
        base, hints = conditions.base, self.config.hints
        if not hints.concatenates:
            return
        assert base is not None, "this model needs the portrait's latents"
        yield base.repeat_interleave(f, dim=0)
        if conditions.concatenated is not None:
            yield conditions.concatenated.flatten(0, 1)
        else:
            latents = base.shape[1]
            yield base.new_zeros(b * f, hints.channels(latents) - 2 * latents, *base.shape[2:])


def half_rounded(x: Tensor) -> Tensor:
    """``x`` rounded to float16 and back; its gradient is not rounded (straight-through).

    Small gradients are 0 in float16.
    """
    rounded: Tensor = _HalfRounded.apply(x) if x.requires_grad else x.half().to(x.dtype)
    return rounded


class _HalfRounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004
        return x.half().to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
        return gradient


def small_config(unet: UNetConfig, **changes: object) -> ModelConfig:
    """A ModelConfig whose pose encoder fits ``unet``."""
    pose = PoseEncoderConfig(out_channels=unet.widths[0])
    return replace(ModelConfig(unet=unet, pose_encoder=pose), **changes)  # type: ignore[arg-type]
