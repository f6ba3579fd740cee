"""Portrait + speech + gesture -> clip. The file to open first.

    animator = Animator.load("official")            # a name or a weights folder
    clip = animator.animate("portrait.png", "speech.wav", "hands/")
    write_clip(clip, "out.mp4")                      # or: animator.animate_to("out.mp4", ...)

What happens, in order: the inputs are read and fitted to each other (``prepare``); the portrait
becomes latents and an Appearance; noise is denoised window by window (``denoise``); finished latents
become pixels a few frames at a time (``decode``). Pixels, pose maps and pose features never exist for
the whole clip, only latents do.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from semibody import media, runtime
from semibody.diffusion.guidance import guide
from semibody.diffusion.sample import sample
from semibody.diffusion.schedule import ScheduleConfig, Solver, build_scheduler, initial_noise
from semibody.diffusion.windows import Window, ring_windows
from semibody.networks.audio_encoders import RATE, frame_count
from semibody.networks.loading import load_model
from semibody.networks.model import Conditions, Model, ModelConfig
from semibody.pose import timing
from semibody.pose.draw import draw_pose
from semibody.pose.files import load_gesture
from semibody.types import Clip, Gesture, Progress, SemibodyError, Speech, silent
from semibody.weights.hub import find_weights
from semibody.weights.official import Variant

Picture = NDArray[np.uint8]
POSE_CACHE_BYTES = 256 * 2**20
"""Pose features kept between steps; beyond it they are drawn and encoded again."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a clip is made. Weights bring defaults of their own; what the user sets goes over them."""

    width: int = 768
    height: int = 768
    fps: float = 24.0
    steps: int = 30
    """denoising steps"""
    guidance: float = 2.5
    """1.0: none (twice as fast); 1.5 to 3.0: higher is livelier lips, lower a cleaner picture"""
    solver: Solver = "ddim"
    """ddim as published; dpm++ or unipc need fewer steps"""
    seed: int = 3407
    length: int | None = None
    """most frames to make; None: as long as the speech"""
    window: int = 12
    """frames denoised together"""
    overlap: int = 3
    """frames that neighbouring windows share"""
    shift: int = 3
    """frames by which windows move on after every step"""
    on_short_gesture: timing.OnShort = "pingpong"
    """what to do when the poses end before the speech: pingpong, loop, hold or stop"""
    frame: Literal["auto", "keep"] = "auto"
    """auto: crop the portrait to the wanted aspect; keep: scale all of it, with bars where needed"""
    allow_silence: bool = False
    """animate even if nothing can be heard"""


PRESETS: dict[str, tuple[Variant, dict[str, Any]]] = {
    "official": ("official", {"steps": 30, "guidance": 2.5}),
    "accelerated": ("accelerated", {"steps": 6, "guidance": 1.0}),
}
"""One switch for weights, steps and guidance, which only work together."""

SHORTEST_SECONDS = 0.1
SILENT_BELOW = 1e-3
"""RMS level under which a recording counts as silent (−60 dB)."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The user's files, read and fitted to each other."""

    portrait: Picture
    """(height, width, 3)"""
    speech: Speech
    gesture: Gesture
    """exactly as many poses as the clip has frames"""
    notices: tuple[str, ...] = ()
    """what was changed to make them fit, a line each"""

    def __len__(self) -> int:
        return len(self.gesture)


class Animator:
    """A model with its schedule and default settings, on one device in one precision."""

    def __init__(
        self,
        model: Model,
        *,
        schedule: ScheduleConfig | None = None,
        defaults: Settings | None = None,
        origin: str = "",
    ) -> None:
        self.model = model.eval()
        self.schedule = schedule or ScheduleConfig()
        self.defaults = defaults or Settings()
        self.origin = origin
        weight = model.denoising_unet.conv_in.weight
        self.device, self.dtype = weight.device, weight.dtype
        if self.device.type == "cpu":
            runtime.prepare_cpu()

    @classmethod
    def load(
        cls,
        weights: str | Path = "official",
        *,
        preset: str | None = None,
        precision: str = "auto",
        device: str = "auto",
        progress: Progress = silent,
    ) -> Animator:
        """Load weights by name (``official``, ``accelerated``) or from a folder.

        ``preset`` picks the variant of a published folder and its steps and guidance; by default it
        follows the name. Raises SemibodyError if weights are missing or do not fit.
        """
        from semibody import config

        target = runtime.choose_device(device)
        dtype = runtime.choose_dtype(precision, target)
        folder, named = find_weights(str(weights))
        preset = preset or named
        if preset is not None and preset not in PRESETS:
            raise SemibodyError(f"--preset {preset} is unknown; choose {' or '.join(PRESETS)}")
        variant, preset_settings = PRESETS[preset or "official"]
        if target.type == "cpu":
            runtime.prepare_cpu()
        model, info = load_model(folder, variant=variant, dtype=dtype, device=target, progress=progress)
        chosen = {**(preset_settings if preset else {}), **info.defaults}
        defaults = config.build(Settings, chosen, str(folder))
        schedule = config.build(ScheduleConfig, info.schedule, str(folder))
        return cls(model, schedule=schedule, defaults=defaults, origin=info.origin or folder.name)

    @classmethod
    def random(cls, config: ModelConfig, *, seed: int = 0, **settings: Any) -> Animator:
        """Seeded random weights: no picture comes of it, but everything runs."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = Model(config)
        return cls(model.requires_grad_(False), defaults=Settings(**settings), origin="random weights")

    # -- the public verbs ------------------------------------------------------------------

    def animate(
        self,
        portrait: str | Path | Picture,
        speech: str | Path | Speech,
        gesture: str | Path | Gesture,
        *,
        progress: Progress = silent,
        **settings: Any,
    ) -> Clip:
        """Make a clip in memory. ``settings`` are fields of Settings."""
        chosen = self.settings(**settings)
        inputs = prepare(portrait, speech, gesture, chosen)
        frames = np.concatenate(list(self.frames(inputs, chosen, progress=progress)))
        return Clip(frames, chosen.fps, _cut(inputs.speech, len(frames) / chosen.fps), self.metadata(chosen))

    def animate_to(
        self,
        path: str | Path,
        portrait: str | Path | Picture,
        speech: str | Path | Speech,
        gesture: str | Path | Gesture,
        *,
        crf: int = 18,
        progress: Progress = silent,
        **settings: Any,
    ) -> Inputs:
        """Make a clip straight into a video file: memory grows by the latents only, whatever the length."""
        chosen = self.settings(**settings)
        inputs = prepare(portrait, speech, gesture, chosen)
        self.write(path, inputs, chosen, crf=crf, progress=progress)
        return inputs

    def write(
        self,
        path: str | Path,
        inputs: Inputs,
        settings: Settings,
        *,
        crf: int = 18,
        progress: Progress = silent,
    ) -> None:
        """Make prepared inputs into a video file."""
        slices = self.frames(inputs, settings, progress=progress)
        with media.VideoWriter(
            path,
            fps=settings.fps,
            width=settings.width,
            height=settings.height,
            speech=inputs.speech,
            crf=crf,
            metadata=self.metadata(settings),
        ) as video:
            for pixels in slices:
                video.write(pixels)

    def settings(self, **changes: Any) -> Settings:
        """The defaults of these weights with ``changes``, checked. Raises SemibodyError."""
        from semibody import config

        given = {key: value for key, value in changes.items() if value is not None}
        chosen = config.build(Settings, {**dataclasses.asdict(self.defaults), **given})
        return check_settings(chosen, self.model.config)

    def info(self) -> dict[str, Any]:
        """What a weights folder says of these weights beside their sizes."""
        return {
            "schedule": dataclasses.asdict(self.schedule),
            "defaults": dataclasses.asdict(self.defaults),
            "origin": self.origin,
        }

    def metadata(self, settings: Settings) -> dict[str, Any]:
        import semibody

        return {
            "semibody": semibody.__version__,
            "weights": self.origin,
            "precision": str(self.dtype).removeprefix("torch."),
            "settings": dataclasses.asdict(settings),
        }

    # -- the stages ------------------------------------------------------------------------

    @torch.inference_mode()
    def frames(self, inputs: Inputs, settings: Settings, *, progress: Progress = silent) -> Iterator[Picture]:
        """Yield the clip as slices of frames, uint8 (f, height, width, 3)."""
        latents = self.denoise(self.conditions(inputs, settings, progress), settings, progress)
        yield from self.decode(latents, progress)

    def conditions(self, inputs: Inputs, settings: Settings, progress: Progress = silent) -> ClipConditions:
        """Encode what stays the same for the whole clip; the rest is made when a window asks."""
        progress("prepare", 0, 2)
        waveform = torch.from_numpy(inputs.speech.waveform).to(self.device)
        rows = self.model.audio_encoder.rows(waveform)
        progress("prepare", 1, 2)

        def audio(frames: Sequence[int]) -> Tensor:
            return self.model.audio_encoder.tokens(rows, torch.tensor(frames), settings.fps)

        def pose_maps(frames: Sequence[int]) -> Tensor:
            maps = [draw_pose(inputs.gesture[i], settings.height, settings.width) for i in frames]
            return torch.from_numpy(np.stack(maps)).permute(0, 3, 1, 2).float() / 255

        pixels = torch.from_numpy(inputs.portrait.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
        made = ClipConditions(self, pixels, len(inputs), audio=audio, pose_maps=pose_maps)
        progress("prepare", 2, 2)
        return made

    @torch.inference_mode()
    def denoise(
        self, conditions: ClipConditions, settings: Settings, progress: Progress = silent
    ) -> Float[Tensor, "f c h w"]:
        """From seeded noise to the latents of the whole clip."""
        factor = self.model.vae.factor
        noise = initial_noise(
            len(conditions),
            self.model.config.vae.latent_channels,
            settings.height // factor,
            settings.width // factor,
            seed=settings.seed,
            dtype=torch.float16 if self.dtype == torch.float16 else torch.float32,
        ).to(self.device)

        def conditional(latents: Tensor, t: Tensor, window: Window) -> Tensor:
            return self._predict(latents, t, conditions.of(window))

        def unconditional(latents: Tensor, t: Tensor, window: Window) -> Tensor:  # noqa: ARG001
            return self._predict(latents, t, conditions.none())

        return sample(
            guide(conditional, unconditional, settings.guidance),
            noise,
            build_scheduler(self.schedule, settings.solver, settings.steps),
            lambda step: ring_windows(
                len(conditions), settings.window, settings.overlap, shift=settings.shift * step
            ),
            progress=progress,
        )

    def _predict(self, latents: Tensor, t: Tensor, conditions: Conditions) -> Tensor:
        return self.model.denoise(latents[None].to(self.dtype), t, conditions)[0]

    @torch.inference_mode()
    def decode(self, latents: Float[Tensor, "f c h w"], progress: Progress = silent) -> Iterator[Picture]:
        """Latents to pixels, a few frames at a time."""
        for start in range(0, len(latents), self._decode_slice):
            part = latents[start : start + self._decode_slice]
            yield to_uint8(self.decode_pixels(part))
            progress("decode", start + len(part), len(latents))

    def decode_pixels(self, latents: Float[Tensor, "f c h w"]) -> Float[Tensor, "f 3 H W"]:
        """Latents to pixels in 0..1, float32."""
        return (self.model.decode(latents.to(self.dtype)).float() / 2 + 0.5).clamp(0, 1)

    @property
    def _decode_slice(self) -> int:
        # On CPUs a batch is no faster than single frames, and takes its multiple of memory.
        return 1 if self.device.type == "cpu" and self.model.config.vae.widths[0] >= 128 else 4


class ClipConditions:
    """The conditions of a clip: the portrait's encoded once, audio and pose per window on demand."""

    def __init__(
        self,
        animator: Animator,
        portrait: Float[Tensor, "1 3 H W"],
        frames: int,
        *,
        audio: Callable[[Sequence[int]], Tensor],
        pose_maps: Callable[[Sequence[int]], Tensor],
    ) -> None:
        """``portrait`` in −1..1; ``audio`` gives (f, l, d), ``pose_maps`` (f, 3, H, W) in 0..1."""
        self._model, self._dtype, self._device = animator.model, animator.dtype, animator.device
        self._frames, self._audio, self._pose_maps = frames, audio, pose_maps
        pixels = portrait.to(self._device, self._dtype)
        self.portrait = self._model.encode(pixels)
        first_pose = self._encoded_maps([0]) if self._model.config.reference_pose else None
        self._reference = self._model.remember(self.portrait, first_pose)
        self._features: OrderedDict[int, Tensor] = OrderedDict()

    def __len__(self) -> int:
        return self._frames

    def of(self, window: Window) -> Conditions:
        """Everything the window is denoised towards."""
        return Conditions(
            portrait=self.portrait,
            reference=self._reference,
            audio=self._audio(window)[None].to(self._device, self._dtype),
            pose=self._pose_features(window)[None],
        )

    def none(self) -> Conditions:
        """The unconditional half of guidance."""
        return Conditions(portrait=self.portrait).unconditional()

    def _pose_features(self, window: Window) -> Float[Tensor, "f c h w"]:
        missing = [i for i in window if i not in self._features]
        if missing:
            made = self._model.pose_encoder(self._encoded_maps(missing))
            self._features |= dict(zip(missing, made, strict=True))
        features = torch.stack([self._features[i] for i in window])
        keep = max(len(window), POSE_CACHE_BYTES // features[0].nbytes)
        while len(self._features) > keep:
            self._features.popitem(last=False)
        return features

    def _encoded_maps(self, frames: Sequence[int]) -> Float[Tensor, "f 3 H W"]:
        maps = self._pose_maps(frames).to(self._device, self._dtype)
        return maps.contiguous(memory_format=torch.channels_last)


def to_uint8(pixels: Float[Tensor, "f 3 H W"]) -> Picture:
    """0..1 to 0..255, rounded (the published code truncates, which darkens by half a level)."""
    return (pixels * 255).round().to("cpu", torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


# -- preparing the inputs ----------------------------------------------------------------------


def prepare(
    portrait: str | Path | Picture,
    speech: str | Path | Speech,
    gesture: str | Path | Gesture,
    settings: Settings,
) -> Inputs:
    """Read the inputs and fit them to the settings and to each other. Raises SemibodyError."""
    notices: list[str] = []
    sound = speech if isinstance(speech, Speech) else media.read_speech(speech, RATE)
    _check_speech(sound, _name(speech, "the speech"), settings)
    picture = portrait if isinstance(portrait, np.ndarray) else media.read_image(portrait)
    picture = fit_portrait(picture, settings, _name(portrait, "the portrait"))
    poses = gesture if isinstance(gesture, Gesture) else load_gesture(gesture)
    poses = timing.resample(poses, settings.fps)

    frames = max(1, frame_count(sound.seconds, settings.fps))
    if settings.length is not None:
        frames = min(frames, settings.length)
    if len(poses) < frames:
        notices.append(_short_gesture_notice(_name(gesture, "the gesture"), len(poses), frames, settings))
    poses = timing.fill(poses, frames, settings.on_short_gesture)
    return Inputs(portrait=picture, speech=sound, gesture=poses, notices=tuple(notices))


def _short_gesture_notice(name: str, poses: int, frames: int, settings: Settings) -> str:
    if poses == 1:
        return f"{name}: has one pose, so the hands stay still"
    does = {
        "pingpong": "they go back and forth",
        "loop": "they start over",
        "hold": "the last one is held",
        "stop": "the video ends with them",
    }[settings.on_short_gesture]
    return f"{name}: {poses} poses for {frames} frames; {does} (--on-short-gesture)"


def _check_speech(speech: Speech, name: str, settings: Settings) -> None:
    if speech.rate != RATE:
        raise SemibodyError(f"{name}: has {speech.rate} samples a second; read it with media.read_speech")
    if speech.seconds < SHORTEST_SECONDS:
        raise SemibodyError(
            f"{name}: lasts {speech.seconds:.2f} s; give at least {SHORTEST_SECONDS} s of speech"
        )
    level = float(np.sqrt(np.mean(np.square(speech.waveform, dtype=np.float64))))
    if not np.isfinite(level):
        raise SemibodyError(f"{name}: holds samples that are not numbers; export it again")
    if level < SILENT_BELOW and not settings.allow_silence:
        raise SemibodyError(f"{name}: is silent; give a recording of speech, or add --allow-silence")


SMALLEST_SIDE = 64
LARGEST_ASPECT = 4.0


def fit_portrait(picture: Picture, settings: Settings, name: str = "the portrait") -> Picture:
    """Bring a picture to the wanted size without stretching it.

    ``auto`` crops to the wanted aspect (evenly at the sides, from the bottom in height, because heads
    are at the top); ``keep`` scales the whole picture and repeats its border into the bars.
    """
    height, width = picture.shape[:2]
    aspect = width / height
    if min(height, width) < SMALLEST_SIDE or not 1 / LARGEST_ASPECT <= aspect <= LARGEST_ASPECT:
        raise SemibodyError(
            f"{name}: is {width} x {height} pixels; give a half-body picture of at least "
            f"{SMALLEST_SIDE} x {SMALLEST_SIDE} that is at most {LARGEST_ASPECT:g} times longer than wide"
        )
    wanted = settings.width / settings.height
    if settings.frame == "keep":
        pad_x = max(0, round(height * wanted) - width)
        pad_y = max(0, round(width / wanted) - height)
        sides = ((pad_y // 2, pad_y - pad_y // 2), (pad_x // 2, pad_x - pad_x // 2), (0, 0))
        picture = np.pad(picture, sides, mode="edge")
    elif aspect > wanted:
        keep = max(1, round(height * wanted))
        left = (width - keep) // 2
        picture = picture[:, left : left + keep]
    else:
        picture = picture[: max(1, round(width / wanted))]
    return media.resize_image(np.ascontiguousarray(picture), settings.width, settings.height)


def check_settings(settings: Settings, model: ModelConfig) -> Settings:
    """Raise SemibodyError for settings that cannot work together; round the size to multiples of 8."""
    grid = model.vae.factor
    fault = None
    if min(settings.width, settings.height) < 8 * grid:
        fault = f"--size {settings.width}x{settings.height} is too small; use at least {8 * grid}"
    elif settings.steps < 1 or settings.steps > 1000:
        fault = f"--steps {settings.steps} must be from 1 to 1000"
    elif not 1.0 <= settings.fps <= 120.0:
        fault = f"--fps {settings.fps:g} must be from 1 to 120"
    elif not 0.0 <= settings.guidance <= 30.0:
        fault = f"--guidance {settings.guidance:g} must be from 0 to 30"
    elif settings.length is not None and settings.length < 1:
        fault = f"--length {settings.length} must be at least 1 frame"
    elif not 0 <= settings.overlap < settings.window:
        fault = f"--overlap {settings.overlap} must be smaller than --context {settings.window}"
    elif model.unet.motion and settings.window > model.unet.motion_frames:
        fault = f"--context {settings.window} is more than these weights allow ({model.unet.motion_frames})"
    elif not 0 <= settings.seed < 2**63:
        fault = f"--seed {settings.seed} must be a positive whole number"
    if fault:
        raise SemibodyError(fault)
    return dataclasses.replace(
        settings, width=_to_grid(settings.width, grid), height=_to_grid(settings.height, grid)
    )


def _to_grid(length: int, grid: int) -> int:
    return max(grid, round(length / grid) * grid)


def _cut(speech: Speech, seconds: float) -> Speech:
    return Speech(speech.waveform[: int(seconds * speech.rate)], speech.rate)


def _name(source: object, otherwise: str) -> str:
    return str(source) if isinstance(source, str | Path) else otherwise
