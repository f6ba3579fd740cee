"""Settings that all stages of a training share; each stage's own are in its file in ``training.stages``."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from semibody.data.dataset import Packing
from semibody.diffusion.schedule import ScheduleConfig
from semibody.networks.model import ModelConfig
from semibody.training.curriculum import Curriculum
from semibody.training.losses import LossSettings


@dataclass(frozen=True, kw_only=True)
class Optimiser:
    """How one stage is optimised: AdamW, warm-up, a constant learning rate, a decay at the end."""

    steps: int = 1000
    """optimiser steps in all, over any number of runs"""
    batch: int = 8
    """samples of one optimiser step, over all processes and accumulation"""
    accumulate: int = 1
    """micro-batches whose gradients are accumulated to those of the batch, to save memory"""
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
    """decay of the EMA of the weights, which is exported; 0: no EMA"""

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
    """side of the pictures in pixels; larger clips are scaled"""
    fps: float = 24.0
    """clips of other rates are resampled"""
    enlarge: bool = False
    """take clips whose pictures are smaller than size, too, and enlarge them; else they are refused"""
    quality: int = 97
    """of the JPEGs that clips are packed as"""
    chroma: Literal["444", "420"] = "444"
    """their colour at full size, or at half of it in both directions"""
    latents: str = ""
    """folder of latents and audio rows that trainings share; empty: in the training's own"""
    gap: int = 8
    """fewest frames between the portrait and any frame to be generated"""
    other_clip: float = 0.0
    """share of samples whose portrait comes from another clip of the person, where there is one"""
    calm: float = 1.0
    """share of a clip's frames that stills are drawn from, those whose head is nearest to the portrait's: no
    condition gives the head's place, and a small model blurs what no condition determines"""
    found_portraits: bool = False
    """portraits come with the pose that the detector finds in them, as when animating, instead of the true
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
        if not 1 <= self.quality <= 100:
            raise ValueError("data.quality must be from 1 to 100")

    @property
    def packing(self) -> Packing:
        """How clips are packed for a training."""
        return Packing(
            size=self.size, fps=self.fps, head_height=self.head_height, enlarge=self.enlarge,
            quality=self.quality, chroma=self.chroma,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class NoiseSettings:
    """Which timesteps and noise samples have."""

    power: float = 1.0
    """timesteps are drawn as T·u^(1/power): 1 is uniform, more favours noise"""
    sampler_steps: int = 0
    """steps of the sampler the weights are trained for"""
    sampler_share: float = 0.0
    """share of samples whose timestep is one of the sampler's"""
    refine: float = 0.0
    """last share of a stage's steps in which that is true of all samples: few-step refinement"""
    clamp: float = 0.0
    """noise is clamped to ± this, as the sampler clamps its first noise to ±1.5; 0: not"""
    offset: float = 0.0
    """weight of noise that is constant over a channel, added to the noise of each cell"""
    shared: float = 0.0
    """share of a window's noise (in variance) that is the same in all its frames, in the stage motion"""
    unconditional: float = 0.05
    """share of steps trained without portrait, audio and pose, which guidance needs"""
    drop_audio: float = 0.0
    """share of samples without audio, which guidance needs: they are denoised as its unconditional half is"""

    def __post_init__(self) -> None:
        if not (0 <= self.sampler_share <= 1 and 0 <= self.refine <= 1):
            raise ValueError("noise.sampler_share and noise.refine must be from 0 to 1")
        if max(self.sampler_share, self.refine) > 0 and self.sampler_steps < 1:
            raise ValueError("noise.sampler_share and noise.refine need noise.sampler_steps")


PUBLIC_SOURCES = ("vae", "audio", "unet", "reference", "motion")
"""The fields of ``StartSettings`` that name public weights."""


@dataclass(frozen=True, kw_only=True)
class StartSettings:
    """Weights to start from: whole networks (``weights``), or public ones for each network.

    Of the public ones each is a name (``semibody weights fetch NAME``), ``owner/name`` of the Hub, a folder
    or a file, as its authors publish it; ``training.sources`` says what is taken. Empty: initialised at
    random.
    """

    weights: str = ""
    """a weights folder or name: all networks; must fit the recipe's model"""
    vae: str = ""
    """the autoencoder: sd-vae-ft-mse"""
    audio: str = ""
    """the audio encoder: whisper-tiny (also OpenAI's tiny.pt) or wav2vec2-base-960h, as model.audio.kind"""
    unet: str = ""
    """both U-Nets: sd15, image-variations, or a single file of Stable Diffusion 1.5"""
    reference: str = ""
    """the reference network, if it is to start from another U-Net than the denoiser"""
    motion: str = ""
    """the motion modules: animatediff (version 2), animatediff-v3, animatediff-v1"""
    train: tuple[str, ...] = ()
    """patterns of the parameters to train (``denoising_unet.*attn2*``); empty: all of the stage's"""
    lora_rank: int = 0
    """rank of adapters for the projections of attention that ``train`` names, trained instead of the weights;
    0: none"""

    def __post_init__(self) -> None:
        if self.lora_rank < 0:
            raise ValueError("start.lora_rank must not be negative")
        if self.weights and self.public:
            clear = " ".join(f"--set start.{name}=" for name in self.public)
            raise ValueError(f"start.weights has all networks; leave the other sources out: {clear}")
        if self.lora_rank and not self.weights:
            raise ValueError("start.lora_rank adapts given weights: set start.weights too")

    @property
    def public(self) -> dict[str, str]:
        """The public sources that are named, by setting."""
        return {name: source for name in PUBLIC_SOURCES if (source := getattr(self, name))}

    def trains(self, name: str) -> bool:
        """Whether a parameter is among those to train."""
        return not self.train or any(fnmatch.fnmatch(name, pattern) for pattern in self.train)


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """How a run is saved, logged and validated."""

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
    """discard activations and compute them again in the backward pass: less memory, more time"""
    shard: bool = False
    """shard AdamW's moments, the EMA and, between steps, the weights over the processes (FSDP2,
    ``training.sharded``) instead of keeping all in each"""
    tensorboard: bool = True
    gpus: int = 1
    """GPUs that ``--plan`` counts on; a training takes as many processes as it is started with"""
    gpu_tflops: float = 120.0
    """rate that each of them keeps up in training, in TFLOP/s, for the hours of ``--plan``: about 0.4 of an
    A100's peak in bf16"""


def renamed(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """``values`` with the old keys in ``names`` under their names of today, for ``read_old_keys``.

    Of a setting under both names the later value is taken: overrides come after the recipe.
    """
    return {names.get(key, key): value for key, value in values.items()}


@dataclass(frozen=True, kw_only=True)
class StageSettings:
    """Settings every stage has; its own are added to these."""

    optimiser: Optimiser = field(default_factory=Optimiser)


@dataclass(frozen=True, kw_only=True)
class RecipeBase:
    """A recipe without the settings of single stages (``recipe.Recipe`` adds them)."""

    name: str = "custom"
    about: str = ""
    seed: int = 0
    stages: tuple[str, ...] = ("vae", "keypoints", "still", "motion")
    """what is trained, in the order of ``training.stages``"""
    model: ModelConfig = field(default_factory=ModelConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    defaults: dict[str, Any] = field(default_factory=dict)
    """settings of ``animate`` the weights are trained for: steps, guidance, …"""
    perceptual: Literal["auto", "lpips", "efficientnet"] = "auto"
    """the network behind L_low"""
    data: DataSettings = field(default_factory=DataSettings)
    curriculum: Curriculum = field(default_factory=Curriculum)
    noise: NoiseSettings = field(default_factory=NoiseSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    start: StartSettings = field(default_factory=StartSettings)
    run: RunSettings = field(default_factory=RunSettings)
