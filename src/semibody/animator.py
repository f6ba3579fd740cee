"""Portrait + speech + gesture -> clip. The file to open first.

    animator = Animator.load("starter")             # a name or a weights folder
    clip = animator.animate("portrait.png", "speech.wav", "hands/")
    write_clip(clip, "out.mp4")                      # or: animator.animate_to("out.mp4", ...)

What happens, in order: the inputs are read and fitted to each other (``prepare``); the portrait
becomes latents and an Appearance; noise is denoised window by window (``denoise``); finished latents
become pixels a few frames at a time (``decode``), in small models restored from the portrait. Pixels,
pose maps and pose features never exist for the whole clip, only latents do.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from semibody import media, runtime
from semibody.diffusion.guidance import guide
from semibody.diffusion.sample import sample
from semibody.diffusion.schedule import ScheduleConfig, build_scheduler, initial_noise
from semibody.diffusion.windows import Window, ring_windows
from semibody.files import refuse_input
from semibody.inputs import Inputs, Settings, check_settings, prepare
from semibody.networks.audio_encoders import LogMelEncoder
from semibody.networks.loading import load_model
from semibody.networks.model import Conditions, Model, ModelConfig
from semibody.pose.draw import draw_parts
from semibody.pose.limbs import carry_limbs, limb_cover, move_limbs
from semibody.pose.regions import audio_mask
from semibody.types import Clip, Gesture, Picture, Pose, Progress, SemibodyError, Speech, silent
from semibody.weights.hub import default_weights, find_weights
from semibody.weights.official import Variant

POSE_CACHE_BYTES = 256 * 2**20
"""Pose features kept between steps; beyond it they are drawn and encoded again."""


PRESETS: dict[str, tuple[Variant, dict[str, Any]]] = {
    "official": ("official", {"steps": 30, "guidance": 2.5}),
    "accelerated": ("accelerated", {"steps": 6, "guidance": 1.0}),
}
"""One switch for weights, steps and guidance, which only work together."""


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
        weights: str | Path | None = None,
        *,
        preset: str | None = None,
        precision: str = "auto",
        device: str = "auto",
        progress: Progress = silent,
    ) -> Animator:
        """Load weights by name (``starter``, ``official``, ``accelerated``) or from a folder.

        None takes what ``hub.default_weights`` names. ``preset`` picks the variant of a published folder
        and its steps and guidance; by default it follows the name. Raises SemibodyError if weights are
        missing or do not fit.
        """
        from semibody import config

        target = runtime.choose_device(device)
        dtype = runtime.choose_dtype(precision, target)
        folder, named = find_weights(str(weights or preset or default_weights()))
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
        gesture: str | Path | Gesture = "auto",
        *,
        progress: Progress = silent,
        **settings: Any,
    ) -> Clip:
        """Make a clip in memory. ``settings`` are fields of Settings; inputs as for ``inputs.prepare``."""
        chosen = self.settings(**settings)
        inputs = prepare(portrait, speech, gesture, chosen)
        frames = np.concatenate(list(self.frames(inputs, chosen, progress=progress)))
        return Clip(frames, chosen.fps, _cut(inputs.speech, len(frames) / chosen.fps), self.metadata(chosen))

    def animate_to(
        self,
        path: str | Path,
        portrait: str | Path | Picture,
        speech: str | Path | Speech,
        gesture: str | Path | Gesture = "auto",
        *,
        crf: int = 18,
        progress: Progress = silent,
        **settings: Any,
    ) -> Inputs:
        """Make a clip straight into a video file: memory grows by the latents only, whatever the length."""
        refuse_input(path, *(given for given in (portrait, speech, gesture) if isinstance(given, str | Path)))
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
        conditions = self.conditions(inputs, settings, progress)
        latents = self.denoise(conditions, settings, progress)
        yield from self.decode(latents, conditions, progress)

    def conditions(self, inputs: Inputs, settings: Settings, progress: Progress = silent) -> ClipConditions:
        """Encode what stays the same for the whole clip; the rest is made when a window asks."""
        progress("prepare", 0, 2)
        waveform = torch.from_numpy(inputs.speech.waveform).to(self.device)
        rows = self.model.audio_encoder.rows(waveform)
        progress("prepare", 1, 2)

        def audio(frames: Sequence[int]) -> Tensor:
            return self.model.audio_encoder.tokens(rows, torch.tensor(frames), settings.fps)

        def mouth(frames: Sequence[int]) -> Tensor:
            ear = self.model.audio_encoder
            assert isinstance(ear, LogMelEncoder)
            return ear.mouth_heard(ear.windows(rows, torch.tensor(frames), settings.fps))

        def pose_map(pose: Pose, parts: Collection[str] = ("hands",)) -> Tensor:
            drawn = draw_parts(pose, settings.height, settings.width, parts)
            return torch.from_numpy(drawn).permute(2, 0, 1)[None].float() / 255

        def pose_maps(frames: Sequence[int]) -> Tensor:
            return torch.cat([pose_map(inputs.gesture[i]) for i in frames])

        pixels = torch.from_numpy(inputs.portrait.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
        config, own = self.model.config, inputs.portrait_pose
        limbs, carried = (None, None) if own is None else _limbs(inputs, config, own)
        portrait_map = None
        if config.reference_pose:
            # Nobody was looked for or found: then the portrait is taken to begin the gesture.
            portrait_map = pose_map(own, config.portrait_parts) if own else pose_map(inputs.gesture[0])
        made = ClipConditions(
            self,
            pixels,
            len(inputs),
            audio=audio,
            pose_maps=pose_maps,
            portrait_map=portrait_map,
            change=config.pose_change and own is not None,
            audio_mask=self._audio_mask(inputs.portrait_pose, settings),
            mouth=mouth if config.restorer is not None and config.restorer.heard else None,
            limbs=limbs,
            carried=carried,
            hidden=limb_cover(own, settings.height, settings.width) if own and config.plate else None,
        )
        progress("prepare", 2, 2)
        return made

    def _audio_mask(self, portrait: Pose | None, settings: Settings) -> Float[Tensor, "h w"] | None:
        """Where audio may write, for models that are told; everywhere when no face was found."""
        config = self.model.config
        if config.audio_region == "body" or portrait is None:
            return None
        cells = settings.height // config.vae.factor, settings.width // config.vae.factor
        mask = audio_mask(portrait, config.audio_region, *cells, config.audio_dilation)
        return torch.from_numpy(mask) if mask.any() else None

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
            shared=settings.shared_noise,
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
    def decode(
        self, latents: Float[Tensor, "f c h w"], conditions: ClipConditions, progress: Progress = silent
    ) -> Iterator[Picture]:
        """The latents of a whole clip to pixels, a few frames at a time."""
        for start in range(0, len(latents), self._decode_slice):
            frames = range(start, min(start + self._decode_slice, len(latents)))
            pixels = self.model.decode(latents[start : frames.stop].to(self.dtype))
            yield to_uint8(_unit(conditions.restored(pixels, frames)))
            progress("decode", frames.stop, len(latents))

    def decode_pixels(self, latents: Float[Tensor, "f c h w"]) -> Float[Tensor, "f 3 H W"]:
        """Latents to pixels in 0..1, float32, as the autoencoder alone gives them."""
        return _unit(self.model.decode(latents.to(self.dtype)))

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
        portrait_map: Float[Tensor, "1 3 H W"] | None = None,
        change: bool = False,
        audio_mask: Float[Tensor, "h w"] | None = None,
        mouth: Callable[[Sequence[int]], Tensor] | None = None,
        limbs: Callable[[Sequence[int]], Tensor] | None = None,
        carried: Callable[[Sequence[int]], Tensor] | None = None,
        hidden: Float[NDArray[np.float32], "H W"] | None = None,
    ) -> None:
        """``portrait`` in −1..1; ``audio`` gives (f, l, d), ``pose_maps`` (f, 3, H, W) in 0..1.

        ``portrait_map`` is the portrait's own pose, for models whose reference network sees it;
        ``change`` whether the frames' pose features are given less its own;
        ``audio_mask`` where audio attention may write, None: everywhere;
        ``mouth`` gives (f, 2), what is heard of the mouth, for restorers that are told;
        ``limbs`` gives (f, 3, h, w) and ``carried`` (f, 4, H, W), how the portrait's arms and hands come to
        where they should be, and the picture of that (``pose.limbs``), for networks that see them;
        ``hidden`` is where the portrait's own are, for models that paint what is behind them.
        """
        self._model, self._dtype, self._device = animator.model, animator.dtype, animator.device
        self._frames, self._audio, self._pose_maps, self._mouth = frames, audio, pose_maps, mouth
        self._limbs, self._carried = limbs, carried
        self._audio_mask = None if audio_mask is None else audio_mask.to(self._device, self._dtype)
        pixels = portrait.to(self._device, self._dtype)
        self.portrait = self._model.encode(pixels)
        own_pose = self._on_device(portrait_map) if portrait_map is not None else None
        self._reference = self._model.remember(self.portrait, own_pose)
        self._own_features = self._model.pose_encoder(own_pose) if change else None
        plate = None
        if self._model.plate is not None and hidden is not None:
            plate = self._model.plate(pixels, torch.from_numpy(hidden)[None, None].to(self._device))
        self._plate = None
        if plate is not None and self._model.config.plate_latents:
            self._plate = self._model.encode(plate.to(self._dtype))
        self._view = None
        if self._model.restorer is not None:
            assert own_pose is not None, "the restorer needs the portrait's own pose map"
            lips = None if self._audio_mask is None else self._audio_mask[None, None]
            decoded = self._model.decode(self.portrait)
            self._view = self._model.restorer.look(pixels, decoded, own_pose, lips, plate)
        self._features: OrderedDict[int, Tensor] = OrderedDict()

    def __len__(self) -> int:
        return self._frames

    def of(self, window: Window) -> Conditions:
        """Everything the window is denoised towards."""
        return Conditions(
            portrait=self.portrait,
            plate=self._plate,
            reference=self._reference,
            audio=self._audio(window)[None].to(self._device, self._dtype),
            audio_mask=None if self._audio_mask is None else self._audio_mask.expand(1, len(window), -1, -1),
            pose=self._pose_features(window)[None],
            limbs=None if self._limbs is None else self._limbs(window)[None].to(self._device),
        )

    def none(self) -> Conditions:
        """The unconditional half of guidance."""
        return Conditions(portrait=self.portrait, plate=self._plate).unconditional()

    def restored(self, pixels: Float[Tensor, "f 3 H W"], frames: Sequence[int]) -> Float[Tensor, "f 3 H W"]:
        """Decoded frames with the portrait's fine detail, if the model has a restorer."""
        if self._model.restorer is None or self._view is None:
            return pixels
        mouth = None if self._mouth is None else self._mouth(frames)
        carried = None if self._carried is None else self._carried(frames).to(self._device)
        maps = self._on_device(self._pose_maps(frames))
        return self._model.restorer(pixels, maps, self._view, mouth, carried)

    def _pose_features(self, window: Window) -> Float[Tensor, "f c h w"]:
        missing = [i for i in window if i not in self._features]
        if missing:
            made = self._model.pose_encoder(self._on_device(self._pose_maps(missing)))
            self._features |= dict(zip(missing, made, strict=True))
        features = torch.stack([self._features[i] for i in window])
        if self._own_features is not None:
            features = features - self._own_features
        keep = max(len(window), POSE_CACHE_BYTES // features[0].nbytes)
        while len(self._features) > keep:
            self._features.popitem(last=False)
        return features

    def _on_device(self, maps: Float[Tensor, "f 3 H W"]) -> Float[Tensor, "f 3 H W"]:
        return maps.to(self._device, self._dtype).contiguous(memory_format=torch.channels_last)


def _limbs(
    inputs: Inputs, config: ModelConfig, own: Pose
) -> tuple[Callable[[Sequence[int]], Tensor] | None, Callable[[Sequence[int]], Tensor] | None]:
    """For models that see them: how the portrait's arms and hands move, for latents and as pictures."""
    height, width = inputs.portrait.shape[:2]
    h, w = height // config.vae.factor, width // config.vae.factor

    def limbs(frames: Sequence[int]) -> Tensor:
        moved = [move_limbs(own, inputs.gesture[i], h, w, width / height).planes for i in frames]
        return torch.from_numpy(np.stack(moved))

    def carried(frames: Sequence[int]) -> Tensor:
        made = [carry_limbs(inputs.portrait, own, inputs.gesture[i]) for i in frames]
        return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2)

    in_pictures = config.restorer is not None and config.restorer.limbs
    return limbs if config.limbs else None, carried if in_pictures else None


def _unit(pixels: Float[Tensor, "f 3 H W"]) -> Float[Tensor, "f 3 H W"]:
    """About −1..1 to 0..1, float32."""
    return (pixels.float() / 2 + 0.5).clamp(0, 1)


def to_uint8(pixels: Float[Tensor, "f 3 H W"]) -> Picture:
    """0..1 to 0..255, rounded (the published code truncates, which darkens by half a level)."""
    return (pixels * 255).round().to("cpu", torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def _cut(speech: Speech, seconds: float) -> Speech:
    return dataclasses.replace(speech, waveform=speech.waveform[: int(seconds * speech.rate)])
