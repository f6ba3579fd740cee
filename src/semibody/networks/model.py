"""The networks together, and the conditioning that training and inference share.

``Model`` holds five parts: ``vae``, ``audio_encoder``, ``pose_encoder``, ``reference_unet`` and
``denoising_unet``; small models may also have ``plate`` and ``restorer``. A clip is made in this order:

    portrait  = model.encode(picture)              # latents of the portrait, once
    look      = model.remember(portrait)           # its keys and values for the denoiser, once
    rows      = model.audio_encoder.rows(waveform) # once
    plate     = model.plate(picture, hidden)       # once, where there is one
    ...for every window and step:
    v         = model.denoise(latents, t, Conditions(...))
    ...
    pixels    = model.decode(latents)
    pixels    = model.restorer(pixels, maps, view)   # where there is one
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from semibody.networks.audio_encoders import AudioConfig, build_audio_encoder
from semibody.networks.pixels import warp
from semibody.networks.plate import CleanPlate, PlateConfig
from semibody.networks.pose_encoder import PoseEncoder, PoseEncoderConfig
from semibody.networks.restorer import Restorer, RestorerConfig
from semibody.networks.unet import Appearance, Memory, UNet, UNetConfig
from semibody.networks.vae import VAE, VAEConfig

PARTS = ("reference_unet", "denoising_unet", "pose_encoder", "vae", "audio_encoder")
"""What every model has."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Everything that decides the shapes of the networks; the defaults are the published ones."""

    unet: UNetConfig = field(default_factory=UNetConfig)
    """the denoising network; the reference network follows from it"""
    pose_encoder: PoseEncoderConfig = field(default_factory=PoseEncoderConfig)
    vae: VAEConfig = field(default_factory=VAEConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)
    concat_portrait: bool = False
    """portrait latents also concatenated with the noisy latents (small models)"""
    residual_portrait: bool = False
    """the denoiser says what to add to the portrait's latents, for weights that predict the sample: what does
    not move is right from the start (small models)"""
    reference_pose: bool = False
    """the portrait's own pose map also given to the reference network (small models)"""
    portrait_parts: tuple[str, ...] = ("hands",)
    """parts (lips, head, body, hands) that are drawn in the portrait's own pose map: unlike the frames to be
    made, the portrait shows where its arms are"""
    pose_change: bool = False
    """the denoiser is given the pose features less those of the portrait's own map: where hands come, and
    where hands and arms go from (small models, which else leave the old ones standing)"""
    plate_latents: bool = False
    """for ``concat_portrait`` and ``residual_portrait`` the clean plate's latents (``networks.plate``) stand
    where the portrait's do: the denoiser need not take the portrait's arms away, only put the frame's in"""
    limbs: bool = False
    """the denoiser is also given the portrait's latents with arms and hands carried to where the frame's pose
    has them (``pose.limbs``; small models, which else learn for long to move things far)"""
    audio_region: Literal["body", "face", "lips"] = "body"
    """where audio attention may write: everywhere, as published, or about the portrait's face or lips, which
    tells small models where the mouth is"""
    audio_dilation: float = 0.5
    """how far the hull of face or lips grows for that, as a share of its longer side"""
    restorer: RestorerConfig | None = None
    """gives decoded frames the portrait's fine detail (small models); None: there is no such network"""
    plate: PlateConfig | None = None
    """paints the portrait without arms and hands, for ``plate_latents`` and the restorer; None: there is no
    such network"""
    half_appearance: bool = True
    """round the Appearance to float16, as the published code does whatever the precision"""

    def __post_init__(self) -> None:
        copies = 1 + self.concat_portrait + self.limbs
        expected = self.vae.latent_channels * copies + self.limbs
        if self.unet.in_channels != expected:
            raise ValueError(f"unet.in_channels is {self.unet.in_channels}, these settings need {expected}")
        if self.residual_portrait and not self.concat_portrait:
            raise ValueError("residual_portrait needs concat_portrait")
        if self.limbs and not self.concat_portrait:
            raise ValueError("limbs needs concat_portrait")
        if self.plate_latents and not (self.concat_portrait and self.plate):
            raise ValueError("plate_latents needs concat_portrait and the network plate")
        if self.pose_change and not self.reference_pose:
            raise ValueError("pose_change needs reference_pose")
        if self.restorer is not None and not self.reference_pose:
            raise ValueError("restorer needs reference_pose")
        hears_mouth = self.audio.kind == "logmel" and self.audio.mouth_token and self.audio_region == "lips"
        if self.restorer is not None and self.restorer.heard and not hears_mouth:
            raise ValueError('restorer.heard needs logmel audio with mouth_token and audio_region = "lips"')
        if self.restorer is not None and self.restorer.plate and self.plate is None:
            raise ValueError("restorer.plate needs the network plate, for example plate = {}")
        if self.restorer is not None and self.vae.factor % self.restorer.factor:
            raise ValueError("restorer folds and halves the picture further than the autoencoder does")
        if self.unet.widths[0] != self.pose_encoder.out_channels:
            raise ValueError("pose_encoder.out_channels must be the U-Net's first width")

    @property
    def parts(self) -> tuple[str, ...]:
        """The networks of this model, by name."""
        more = {"plate": self.plate, "restorer": self.restorer}
        return (*PARTS, *(name for name, config in more.items() if config is not None))


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What a window is denoised towards. None leaves a condition out (guidance's unconditional half)."""

    portrait: Tensor | None = None
    """(b, c, h, w) portrait latents, for models that concatenate them"""
    plate: Tensor | None = None
    """(b, c, h, w) latents of the clean plate, for models with ``plate_latents``; None: the portrait's own"""
    reference: Memory | None = None
    """the portrait's keys and values, from ``Model.remember``"""
    audio: Tensor | None = None
    """(b, f, l, d) audio tokens"""
    audio_mask: Tensor | None = None
    """(b, f, h, w) 0..1 weight of the audio attention's output"""
    pose: Tensor | None = None
    """(b, f, c, h, w) pose features"""
    limbs: Tensor | None = None
    """(b, f, 3, h, w) flow and cover of arms and hands (``pose.limbs.Limbs.planes``), for models that take
    them; None: nothing is known of them"""

    def unconditional(self) -> Conditions:
        """The other half of guidance: no audio, no pose, no reference; concatenated latents stay."""
        return Conditions(portrait=self.portrait, plate=self.plate)


class Model(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.reference_unet = UNet(config.unet.as_reference(config.vae.latent_channels))
        self.denoising_unet = UNet(config.unet)
        self.pose_encoder = PoseEncoder(config.pose_encoder)
        self.vae = VAE(config.vae)
        self.audio_encoder = build_audio_encoder(config.audio)
        self.plate = None if config.plate is None else CleanPlate(config.plate)
        self.restorer = None if config.restorer is None else Restorer(config.restorer)

    def encode(self, pixels: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n c h w"]:
        """Pixels in −1..1 to scaled latents."""
        return self.vae.encode(pixels)

    def decode(self, latents: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 3 H W"]:
        """Scaled latents to pixels, about −1..1."""
        return self.vae.decode(latents)

    def appearance(
        self, portrait: Float[Tensor, "b c h w"], pose_map: Float[Tensor, "b 3 H W"] | None = None
    ) -> Appearance:
        """The portrait as the reference network sees it. ``pose_map`` only with ``reference_pose``."""
        pose = None
        if self.config.reference_pose and pose_map is not None:
            pose = self.pose_encoder(pose_map)
        seen = self.reference_unet.appearance(portrait, pose)
        if self.config.half_appearance:
            seen = {name: tokens.half().to(tokens.dtype) for name, tokens in seen.items()}
        return seen

    def remember(
        self, portrait: Float[Tensor, "b c h w"], pose_map: Float[Tensor, "b 3 H W"] | None = None
    ) -> Memory:
        """Keys and values of the portrait for every layer of the denoiser, computed once per clip."""
        return self.denoising_unet.remember(self.appearance(portrait, pose_map))

    def pose_features(
        self, maps: Float[Tensor, "b f 3 H W"], portrait_map: Float[Tensor, "b 3 H W"] | None = None
    ) -> Float[Tensor, "b f c h w"]:
        """Drawn pose maps in 0..1 to features; with ``pose_change`` less the portrait's own if known."""
        features = self.pose_encoder(maps.flatten(0, 1)).unflatten(0, maps.shape[:2])
        if self.config.pose_change and portrait_map is not None:
            features = features - self.pose_encoder(portrait_map)[:, None]
        return features

    def denoise(
        self, latents: Float[Tensor, "b f c h w"], t: Float[Tensor, " b"], conditions: Conditions
    ) -> Float[Tensor, "b f c h w"]:
        """One call of the denoising network: its prediction (v, in published weights) for a window."""
        b, f = latents.shape[:2]
        x = latents.flatten(0, 1)
        portrait = still = conditions.portrait
        if self.config.plate_latents and conditions.plate is not None:
            still = conditions.plate
        if self.config.concat_portrait:
            assert portrait is not None and still is not None, "this model needs the portrait's latents"
            x = torch.cat([x, still.repeat_interleave(f, dim=0)], dim=1)
            if self.config.limbs:
                carried = _carried(portrait.repeat_interleave(f, dim=0), conditions.limbs)
                x = torch.cat([x, carried], dim=1)
        audio, audio_time = None, None
        if conditions.audio is not None:
            audio, audio_time = self.denoising_unet.remember_audio(conditions.audio.flatten(0, 1))
        mask = conditions.audio_mask
        out = self.denoising_unet(
            x,
            t,
            frames=f,
            pose=None if conditions.pose is None else conditions.pose.flatten(0, 1),
            reference=conditions.reference,
            audio=audio,
            audio_time=audio_time,
            audio_mask=None if mask is None else mask.flatten(0, 1)[:, None],
        )
        out = out.unflatten(0, (b, f))
        if self.config.residual_portrait:
            assert still is not None
            out = out.float() + still[:, None].float()
        return out


def _carried(
    portrait: Float[Tensor, "n c h w"], limbs: Float[Tensor, "b f 3 h w"] | None
) -> Float[Tensor, "n c+1 h w"]:
    """The portrait's latents, arms and hands where ``limbs`` carries them, zeros elsewhere; and the cover."""
    if limbs is None:
        return portrait.new_zeros(len(portrait), portrait.shape[1] + 1, *portrait.shape[2:])
    # In float32: a flow rounded to bfloat16 would miss by quarters of a pixel.
    flow, cover = limbs.flatten(0, 1).float().split([2, 1], dim=1)
    return torch.cat([warp(portrait.float(), flow) * cover, cover], dim=1).to(portrait.dtype)


def small_config(unet: UNetConfig, **changes: object) -> ModelConfig:
    """A ModelConfig whose pose encoder fits ``unet``."""
    pose = PoseEncoderConfig(out_channels=unet.widths[0])
    return replace(ModelConfig(unet=unet, pose_encoder=pose), **changes)  # type: ignore[arg-type]
