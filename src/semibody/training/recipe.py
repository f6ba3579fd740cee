"""A recipe: everything that decides a training, as frozen dataclasses filled from a TOML file.

    recipe = load_recipe("tiny", ["still.steps=50"])

Recipes that come with the package are named by their file: ``official``, ``starter``, ``finetune``,
``tiny``. A path to a TOML file of one's own works as well. Default < recipe < ``--set a.b=c``.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from semibody import config
from semibody.diffusion.schedule import ScheduleConfig
from semibody.networks.model import ModelConfig
from semibody.training.curriculum import Curriculum
from semibody.training.losses import LossSettings
from semibody.types import SemibodyError

StageName = Literal["vae", "keypoints", "audio", "plate", "still", "motion", "restore"]
STAGES: tuple[StageName, ...] = ("vae", "keypoints", "audio", "plate", "still", "motion", "restore")


@dataclass(frozen=True, kw_only=True)
class Optimiser:
    """How one stage is optimised: AdamW, warm-up, a flat stretch, a fall at the end."""

    steps: int = 1000
    """optimiser steps in all, over as many runs as it takes"""
    batch: int = 8
    """samples of one optimiser step, over all processes and accumulation"""
    accumulate: int = 1
    """parts the batch is worked through in, to save memory"""
    lr: float = 1e-3
    """learning rate after the warm-up"""
    warmup: int = 100
    """steps over which the learning rate rises from 0"""
    cooldown: float = 0.0
    """share of the steps, at the end, over which it falls to lr_end"""
    lr_end: float = 0.05
    """learning rate at the very end, as a share of lr"""
    weight_decay: float = 0.0
    beta1: float = 0.9
    """decay of AdamW's first moment"""
    beta2: float = 0.99
    """decay of AdamW's second moment"""
    clip: float = 1.0
    """largest norm of the gradient; 0: unlimited"""
    ema: float = 0.999
    """decay of the average of the weights that is exported; 0: no average"""

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.accumulate) < 1:
            raise ValueError("steps, batch and accumulate must be at least 1")
        if self.batch % self.accumulate:
            raise ValueError(f"batch ({self.batch}) must be a multiple of accumulate ({self.accumulate})")
        decays = (self.ema, self.beta1, self.beta2)
        if not (self.lr > 0 and 0 <= self.cooldown <= 1 and all(0 <= decay < 1 for decay in decays)):
            raise ValueError("lr must be positive; ema, cooldown, beta1 and beta2 must be from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """What samples are made of."""

    size: int = 256
    """side of the pictures in pixels; clips of other sizes are scaled"""
    fps: float = 24.0
    """clips of other rates are resampled"""
    gap: int = 8
    """fewest frames between the portrait and any frame to be generated"""
    other_clip: float = 0.0
    """share of samples whose portrait comes from another clip of the person, where there is one"""
    calm: float = 1.0
    """share of a clip's frames that stills are drawn from, those whose head is nearest to the portrait's: no
    condition says where the head goes, and a small model smears what it cannot know"""
    found_portraits: bool = False
    """portraits come with the pose that the detector finds in them, as when animating, instead of the exact
    one (needs the extra ``pose``)"""
    head_height: float = 0.3
    """height of the head in a padded head clip, as a share of the frame"""
    workers: int = 2
    """threads that prepare samples"""
    prefetch: int = 4
    """batches prepared ahead"""

    def __post_init__(self) -> None:
        if self.size % 8 or self.size < 64:
            raise ValueError("data.size must be a multiple of 8, at least 64")


@dataclass(frozen=True, kw_only=True)
class NoiseSettings:
    """Which noise is learned."""

    power: float = 1.0
    """timesteps are drawn as T·u^(1/power): 1 evenly, more prefers noise"""
    sampler_steps: int = 0
    """number of steps the weights are meant to be sampled with"""
    sampler_share: float = 0.0
    """share of samples whose timestep is one of those the sampler will visit"""
    refine: float = 0.0
    """last share of a stage's steps in which that is true of all samples: few-step refinement"""
    clamp: float = 0.0
    """noise is cut to ± this, as the sampler cuts its first noise to ±1.5; 0: not"""
    offset: float = 0.0
    """noise that is constant over a channel, beside the noise of each cell"""
    shared: float = 0.0
    """share of a window's noise (in variance) that is the same in all its frames, in the stage motion"""
    unconditional: float = 0.05
    """share of steps trained without portrait, audio and pose, which guidance needs"""
    drop_audio: float = 0.0
    """share of samples whose audio attention is muted"""

    def __post_init__(self) -> None:
        if not (0 <= self.sampler_share <= 1 and 0 <= self.refine <= 1):
            raise ValueError("noise.sampler_share and noise.refine must be from 0 to 1")
        if max(self.sampler_share, self.refine) > 0 and self.sampler_steps < 1:
            raise ValueError("noise.sampler_share and noise.refine need noise.sampler_steps")


@dataclass(frozen=True, kw_only=True)
class VAESettings:
    """The autoencoder's training."""

    optimiser: Optimiser = field(default_factory=Optimiser)
    crop: int = 128
    """side of the crops it is trained on, in pixels"""
    on_parts: float = 0.65
    """share of crops placed on faces and hands"""
    noise: float = 0.1
    """noise on the latents before decoding, in units of their spread"""
    kl: float = 1e-6
    gradient: float = 1.0
    """weight of the multi-scale gradient difference"""
    ssim: float = 0.1
    """weight of 1 − SSIM"""
    parts: float = 3.0
    """factor on faces and hands"""


@dataclass(frozen=True, kw_only=True)
class KeypointSettings:
    """The small frozen network whose heat maps L_pose compares."""

    optimiser: Optimiser = field(default_factory=lambda: Optimiser(steps=3000, batch=16))
    width: int = 32
    """channels at a quarter of the picture; doubled at each further halving"""
    crop: int = 128
    """side of the crops in pixels"""


@dataclass(frozen=True, kw_only=True)
class ListeningSettings:
    """What a small audio encoder learns before it steers a picture: jaw and mouth from sound."""

    optimiser: Optimiser = field(default_factory=lambda: Optimiser(steps=1500, batch=64))


@dataclass(frozen=True, kw_only=True)
class PlateSettings:
    """The network that paints the portrait without arms and hands."""

    optimiser: Optimiser = field(default_factory=Optimiser)
    moments: int = 4
    """other frames of the clip that tell what is behind the arms"""
    uncovered: float = 6.0
    """factor where they do"""
    tint: float = 0.2
    """how much brighter or darker the channels of a sample may become"""
    gradient: float = 1.0
    """weight of the multi-scale gradient difference"""
    ssim: float = 0.1
    """weight of 1 − SSIM"""
    rival: float = 0.0
    """weight of leaving a critic in doubt which plate is real (``training.critic``); 0: without one"""


@dataclass(frozen=True, kw_only=True)
class StillSettings:
    """First stage, single frames: both U-Nets, pose encoder, audio."""

    optimiser: Optimiser = field(default_factory=Optimiser)
    frames: int = 1
    """frames of a clip, anywhere in it, that share one portrait: the reference network runs once for all"""


@dataclass(frozen=True, kw_only=True)
class MotionSettings:
    """Second stage, clips: motion modules alone."""

    optimiser: Optimiser = field(default_factory=Optimiser)
    frames: int = 24
    """frames of a window"""


@dataclass(frozen=True, kw_only=True)
class RestoreSettings:
    """The restorer, on what the finished denoiser generates; everything else rests."""

    optimiser: Optimiser = field(default_factory=Optimiser)
    frames: int = 2
    """frames of a clip that share one portrait"""
    pool: int = 2500
    """samples that are generated before the first step, each with its own clip, frames and portrait"""
    crops: float = 0.0
    """share of steps on crops about a face or a hand instead of whole pictures"""
    crop_samples: int = 4
    """samples in such a step for each sample of a whole one"""
    crop_cells: int = 16
    """side of such a crop in latent cells"""
    gradient: float = 1.0
    """weight of the multi-scale gradient difference"""
    ssim: float = 0.1
    """weight of 1 − SSIM"""
    change: float = 0.0
    """weight of the mean absolute error of what changes from one frame to the next"""
    rival: float = 0.0
    """weight of leaving a critic in doubt which picture is real (``training.critic``); 0: without one"""
    lips: float = 1.0
    """factor in the box of the lips"""
    face: float = 1.0
    """factor in the box of the face"""
    hands: float = 1.0
    """factor in the boxes of the hands, and where the portrait's hands were"""
    arms: float = 1.0
    """factor along the arms, and where the portrait's arms were"""


@dataclass(frozen=True, kw_only=True)
class StartSettings:
    """Weights to begin from."""

    weights: str = ""
    """a weights folder or name: whole networks; must fit the recipe's model"""
    unet: str = ""
    """a Stable Diffusion U-Net file: what fits by name and shape, for both U-Nets"""
    train: tuple[str, ...] = ()
    """patterns of the parameters to train (``denoising_unet.*attn2*``); empty: all of the stage's"""
    lora_rank: int = 0
    """rank of adapters beside the projections of attention that ``train`` names, trained in place of the
    weights; 0: none"""

    def __post_init__(self) -> None:
        if self.lora_rank < 0:
            raise ValueError("start.lora_rank must not be negative")
        if self.lora_rank and not self.weights:
            raise ValueError("start.lora_rank adapts given weights: set start.weights too")

    def trains(self, name: str) -> bool:
        """Whether a parameter is among those to train."""
        return not self.train or any(fnmatch.fnmatch(name, pattern) for pattern in self.train)


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """How a run is kept and watched."""

    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    checkpoint_minutes: float = 10.0
    keep: int = 2
    """checkpoints kept"""
    log_every: int = 10
    """steps between log lines"""
    validate_every: int = 500
    """steps between validations; 0: only at the end"""
    validation_clips: int = 8
    """held-out clips that are generated and measured"""
    recompute: bool = False
    """forget activations and compute them again in the backward pass: less memory, more time"""
    tensorboard: bool = True


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A whole training."""

    name: str = "custom"
    about: str = ""
    seed: int = 0
    stages: tuple[StageName, ...] = ("vae", "keypoints", "still", "motion")
    """what is trained, in the order vae, keypoints, audio, plate, still, motion, restore"""
    model: ModelConfig = field(default_factory=ModelConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    defaults: dict[str, Any] = field(default_factory=dict)
    """settings of ``animate`` the finished weights are meant for: steps, guidance, …"""
    perceptual: Literal["auto", "lpips", "efficientnet"] = "auto"
    """the network behind L_low"""
    data: DataSettings = field(default_factory=DataSettings)
    curriculum: Curriculum = field(default_factory=Curriculum)
    noise: NoiseSettings = field(default_factory=NoiseSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    start: StartSettings = field(default_factory=StartSettings)
    vae: VAESettings = field(default_factory=VAESettings)
    keypoints: KeypointSettings = field(default_factory=KeypointSettings)
    audio: ListeningSettings = field(default_factory=ListeningSettings)
    plate: PlateSettings = field(default_factory=PlateSettings)
    still: StillSettings = field(default_factory=StillSettings)
    motion: MotionSettings = field(default_factory=MotionSettings)
    restore: RestoreSettings = field(default_factory=RestoreSettings)
    run: RunSettings = field(default_factory=RunSettings)

    def __post_init__(self) -> None:
        positions = [STAGES.index(stage) for stage in self.stages]
        if positions != sorted(set(positions)):
            raise ValueError(f"stages must be in the order {', '.join(STAGES)}, each once")
        ear = self.model.audio
        if "audio" in self.stages and not (ear.kind == "logmel" and ear.mouth_token):
            raise ValueError(
                'the stage audio teaches model.audio.kind = "logmel" with mouth_token = true; other encoders '
                "come trained"
            )
        if "motion" in self.stages and not self.model.unet.motion:
            raise ValueError("the stage motion needs model.unet.motion = true")
        if "motion" in self.stages and self.motion.frames > self.model.unet.motion_frames:
            raise ValueError("motion.frames is longer than model.unet.motion_frames")
        if "restore" in self.stages and self.model.restorer is None:
            raise ValueError("the stage restore needs model.restorer, for example model.restorer = {}")
        if "plate" in self.stages and self.model.plate is None:
            raise ValueError("the stage plate needs model.plate, for example model.plate = {}")
        if self.model.hints.portrait == "residual" and self.schedule.prediction != "sample":
            raise ValueError('model.hints.portrait = "residual" needs schedule.prediction = "sample"')
        if self.data.size % self.model.vae.factor:
            raise ValueError("data.size must be a multiple of the pixels of a latent cell")

    def optimiser(self, stage: StageName) -> Optimiser:
        optimiser: Optimiser = getattr(self, stage).optimiser
        return optimiser


def bundled() -> dict[str, Path]:
    """Recipes that come with the package, by name."""
    folder = Path(str(resources.files("semibody"))) / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_recipe(name: str | Path, overrides: tuple[str, ...] | list[str] = ()) -> Recipe:
    """A recipe by name or file, with ``a.b=c`` overrides. Raises SemibodyError."""
    path = bundled().get(str(name), Path(name))
    if not path.is_file():
        raise SemibodyError(f"recipe {name}: no such recipe; choose {', '.join(bundled())} or a TOML file")
    return config.load(Recipe, toml=path, overrides=overrides)
