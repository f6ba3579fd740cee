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

import contextlib
import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from semibody import media, runtime, scratch
from semibody import memory as memories
from semibody import resume as resuming
from semibody.conditioning.clip import ClipConditions
from semibody.conditioning.movement import Movement, can_move, draws_nothing
from semibody.diffusion.guidance import Denoise, Interval, guide
from semibody.diffusion.reuse import Reuse, SavedBetween, first_step
from semibody.diffusion.sample import AfterStep, sample
from semibody.diffusion.schedule import ScheduleConfig, build_scheduler, initial_noise
from semibody.diffusion.spread import Each, Spread
from semibody.diffusion.stream import FrameNoise, ahead, parts, row_windows, stream
from semibody.diffusion.windows import Window, ring_windows
from semibody.files import first_line, refuse_input, require_space
from semibody.inputs import Inputs, prepare
from semibody.media.provenance import notes_of
from semibody.memory import MEMORIES
from semibody.networks import quantised
from semibody.networks.compiling import compile_blocks, restore
from semibody.networks.loading import build_model, fill_model
from semibody.networks.model import Conditions, Model, ModelConfig
from semibody.networks.tiny_decoder import TinyDecoder
from semibody.networks.unet import DeepFeatures
from semibody.resume import Unfinished
from semibody.settings import Settings, Source, change, resolve
from semibody.types import Clip, Gesture, Memory, Picture, Progress, SemibodyError, Speech, silent
from semibody.weights.state import content_of


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
        self.device, self.dtype = model.device, model.dtype
        self.precision = str(self.dtype).removeprefix("torch.")
        """what the networks compute in, for metadata"""
        self._further: Sequence[str] = ()
        self._load_again: Callable[..., Animator] | None = None
        """loads the same weights in another process"""
        self.memory: Memory = "full"
        """how much of the weights is in memory at a time"""
        self.say: Callable[[str], None] = lambda text: None  # noqa: ARG005
        """told, in one line, what the user should know while a clip is made"""
        self._compiles = False
        self._compiled: set[Any] = set()
        """shapes for which the denoiser's blocks are compiled"""
        self.why_memory = ""
        """why that, where it was chosen when they were loaded"""
        self._may_lower = False
        self._fill_again: Callable[..., None] | None = None
        """fills the model with another ``memory``"""
        runtime.prepare(self.device)

    @classmethod
    def load(
        cls,
        weights: str | Path | None = None,
        *,
        preset: str | None = None,
        precision: str = "auto",
        device: str = "auto",
        devices: str | None = None,
        memory: str = "auto",
        compile: bool = False,
        progress: Progress = silent,
    ) -> Animator:
        """Load weights by name (``starter``, ``official``, ``accelerated``) or from a folder.

        None takes what ``hub.default_weights`` names. ``preset`` picks the variant of a published folder
        and its steps and guidance; by default it follows the name. ``devices`` (``cuda:0,cuda:1``) share
        the windows of a clip; the first takes the place of ``device``. ``memory`` is auto, full, low or
        lowest (``networks.turns``); auto is what fits, for the weights' default size and then for every clip.
        ``compile`` compiles the denoiser's blocks when a size is first made (``networks.compiling``). Raises
        SemibodyError if weights are missing or do not fit, or a device is not there or too small.
        """
        from semibody import config

        first, *further = runtime.several_devices(devices) if devices else (device,)
        _check_compile(memory, compiles=compile, devices=1 + len(further))
        target = runtime.choose_device(first)
        dtype = runtime.choose_dtype(precision, target)
        eight_bits = precision in runtime.EIGHT_BITS
        if eight_bits:
            memory = quantised.require(precision, memory)
        found = resolve(Source(weights=str(weights) if weights else None, preset=preset))
        folder = found.folder
        runtime.prepare(target)
        model, info = build_model(folder, found.variant)
        choice = memories.choose(
            memory, memories.sizes_of(model), found.defaults, found.defaults.window, dtype, target
        )
        place = functools.partial(
            fill_model, model, folder.absolute(), found.variant, dtype=dtype, device=target
        )
        kept = _what_fits(place, choice.memory, progress, may_lower=memory == "auto")
        schedule = config.build(ScheduleConfig, info.schedule, str(folder))
        made = cls(model, schedule=schedule, defaults=found.defaults, origin=info.origin or folder.name)
        if eight_bits:
            quantised.quantise(model.denoising_unet, precision)
            made.precision = precision
        made.memory, made._may_lower = kept, memory == "auto"
        made.why_memory = choice.line()
        made._compiles = compile and kept != MEMORIES[-1]
        made._fill_again = place
        if further:
            made._further = further
            made._load_again = functools.partial(
                cls.load,
                folder.absolute(),
                preset=found.variant,
                precision=precision if eight_bits else runtime.name_of(dtype),
                memory=memory,
            )
        return made

    @classmethod
    def random(cls, config: ModelConfig, *, seed: int = 0, **settings: Any) -> Animator:
        """Seeded random weights: the output is noise, but every stage runs."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = Model(config)
        return cls(model.requires_grad_(False), defaults=Settings(**settings), origin="random weights")

    # -- making clips ----------------------------------------------------------------------

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
        return Clip(frames, chosen.fps, cut(inputs.speech, len(frames) / chosen.fps), self.metadata(chosen))

    def animate_to(
        self,
        path: str | Path,
        portrait: str | Path | Picture,
        speech: str | Path | Speech,
        gesture: str | Path | Gesture = "auto",
        *,
        crf: int = 18,
        resume: bool = False,
        progress: Progress = silent,
        **settings: Any,
    ) -> Inputs:
        """Make a clip directly into a video file: only the latents' memory grows with the length."""
        require = media.require_video_name
        inputs, chosen = self._prepared(path, portrait, speech, gesture, settings, require)
        self.write(path, inputs, chosen, crf=crf, resume=resume, progress=progress)
        return inputs

    def write(
        self,
        path: str | Path,
        inputs: Inputs,
        settings: Settings,
        *,
        crf: int = 18,
        notes: Mapping[str, Any] | None = None,
        resume: bool = False,
        progress: Progress = silent,
        watch: Callable[[Picture], None] = lambda pixels: None,  # noqa: ARG005
    ) -> None:
        """Make prepared inputs into a video file; a transparent one where they have a matte.

        ``notes`` go into its metadata; ``watch`` is given each slice of frames that is written.
        With ``resume`` the state is saved beside it after every step and slice, and what a killed run of the
        same inputs, settings and weights has saved is continued: to the same bytes. Without it, such a state
        is removed once the file is written. Raises SemibodyError if the disk is too small.
        """
        path, matte = Path(path), inputs.matte
        metadata = self._metadata_of(inputs, settings, notes)
        require_space(path, self._least_bytes(len(inputs), settings, crf, resume=resume))
        with contextlib.ExitStack() as stack:
            work = None
            if resume:
                key = resuming.digest(self._identity(), inputs, metadata, crf, path.suffix)
                work = stack.enter_context(resuming.unfinished_work(path, key))
            video = stack.enter_context(
                media.VideoWriter(
                    path,
                    fps=settings.fps,
                    width=settings.width,
                    height=settings.height,
                    speech=inputs.speech,
                    crf=crf,
                    alpha=matte is not None,
                    metadata=metadata,
                )
            )
            if work is not None:
                video.go_on(work)
            for pixels in self.frames(
                inputs, settings, first=video.frames_written, unfinished=work, progress=progress
            ):
                video.write(pixels if matte is None else matte.cut(pixels))
                watch(pixels)
        resuming.forget(path)

    def stream_to(
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
        """``animate_to``, into a video that can be played while it is made; see ``write_stream``."""
        require = media.require_stream_name
        inputs, chosen = self._prepared(path, portrait, speech, gesture, settings, require)
        self.write_stream(path, inputs, chosen, crf=crf, progress=progress)
        return inputs

    def write_stream(
        self,
        path: str | Path,
        inputs: Inputs,
        settings: Settings,
        *,
        crf: int = 18,
        notes: Mapping[str, Any] | None = None,
        progress: Progress = silent,
    ) -> None:
        """Make prepared inputs into a fragmented mp4, a second at a time (``media.VideoStream``).

        ``path`` may be ``-``: standard output.
        A stopped run leaves what there is by then, which can be played, or no file if there is nothing.
        """
        with media.VideoStream(
            path,
            fps=settings.fps,
            width=settings.width,
            height=settings.height,
            speech=inputs.speech,
            crf=crf,
            metadata=self._metadata_of(inputs, settings, notes),
        ) as video:
            for pixels in self.stream(inputs, settings, progress=progress):
                video.write(pixels)

    def _prepared(
        self,
        path: str | Path,
        portrait: str | Path | Picture,
        speech: str | Path | Speech,
        gesture: str | Path | Gesture,
        changes: Mapping[str, Any],
        require_name: Callable[..., None],
    ) -> tuple[Inputs, Settings]:
        """What a file is made from, once ``require_name`` has found that it can be written to."""
        refuse_input(path, *(given for given in (portrait, speech, gesture) if isinstance(given, str | Path)))
        chosen = self.settings(**changes)
        require_name(Path(path), alpha=chosen.alpha)
        return prepare(portrait, speech, gesture, chosen), chosen

    def _metadata_of(
        self, inputs: Inputs, settings: Settings, notes: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        return {**self.metadata(settings), **notes_of(inputs.sources), **(notes or {})}

    def _least_bytes(self, frames: int, settings: Settings, crf: int, *, resume: bool) -> float:
        """Bytes of the disk that making a video takes at least."""
        video = media.least_bytes(settings.width, settings.height, frames, crf)
        if not resume:
            return video
        vae = self.model.config.vae
        height, width = self.model.config.working_size(settings.height, settings.width)
        latents = 4 * frames * vae.latent_channels * height * width / vae.factor**2
        return 2 * video + 2 * latents  # the state of the step before stays until the new one is saved

    def _identity(self) -> list[Any]:
        """What the same bits depend on beside inputs and settings: weights, version, machine."""
        import semibody

        return [
            content_of(self.model, turns.tensor if (turns := self.model.turns) else None),
            self.info(),
            semibody.__version__,
            torch.__version__,
            str(self.device),
            torch.get_num_threads(),
        ]

    def settings(self, **changes: Any) -> Settings:
        """The defaults of these weights with ``changes``, checked. Raises SemibodyError."""
        return change(self.defaults, changes, self.model.config)

    def info(self) -> dict[str, Any]:
        """The description of these weights in a weights folder, without their sizes."""
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
            "precision": self.precision,
            "settings": dataclasses.asdict(settings),
        }

    # -- the stages ------------------------------------------------------------------------

    @torch.inference_mode()
    def frames(
        self,
        inputs: Inputs,
        settings: Settings,
        *,
        first: int = 0,
        unfinished: Unfinished | None = None,
        progress: Progress = silent,
    ) -> Iterator[Picture]:
        """Yield the clip from frame ``first`` as slices of frames, uint8 (f, height, width, 3).

        ``first`` is where a slice ended; ``unfinished`` holds the state of a killed run, or will.
        """
        self._fit(settings, len(inputs), progress)
        conditions = latents = None
        while True:
            try:
                if first == 0 and unfinished is None and self._decodes_meanwhile(settings):
                    conditions = self.conditions(inputs, settings, progress)
                    for pixels in self._decoded_meanwhile(conditions, settings, progress):
                        yield pixels
                        first += len(pixels)
                    return
                if latents is None:
                    with self._spread(inputs, settings) as each:
                        conditions = self.conditions(inputs, settings, progress)
                        latents = self.denoise(
                            conditions, settings, progress, unfinished=unfinished, each=each
                        )
                conditions = conditions or self.conditions(inputs, settings, progress)
                for pixels in self.decode(latents, conditions, progress, first):
                    yield pixels
                    first += len(pixels)
                return
            except (MemoryError, RuntimeError) as error:
                if not runtime.is_out_of_memory(error):
                    raise
            # Here what the error holds of the failed pass is free.
            conditions = None
            self._lower(self._next_lower, progress)

    @torch.inference_mode()
    def stream(self, inputs: Inputs, settings: Settings, *, progress: Progress = silent) -> Iterator[Picture]:
        """``frames``, but each part of the clip is finished before the next is begun, and then forgotten.

        Where windows share no frame, do not move on, and all of their noise is shared, as in the starter, the
        frames are those of ``frames``, to the bit if a window is whole slices of 4 frames. Else the noise is
        another one, and parts are joined by the frames they share (``diffusion.stream``).
        """
        self._fit(settings, len(inputs), progress)
        with self._told_of_full_memory():
            conditions = self.conditions(inputs, settings, progress)
            try:
                for frames, latents in self._denoised_parts(conditions, settings, progress):
                    yield from self.decode(latents, conditions, progress, start=frames.start)
            except FloatingPointError as error:
                raise self._not_finite(f"denoising, {error}") from None

    def _denoised_parts(
        self, conditions: ClipConditions, settings: Settings, progress: Progress
    ) -> Iterator[tuple[range, Float[Tensor, "f c h w"]]]:
        """Frames and their latents, part by part."""
        window, shift = settings.window, settings.shift
        if not conditions.draws:
            starts = range(0, len(conditions), window)
            whole = (range(start, min(start + window, len(conditions))) for start in starts)
            return ((frames, conditions.undrawn(len(frames))) for frames in whole)
        self._compile_for(conditions, settings, progress)
        return stream(
            lambda: self.denoiser(conditions, settings),
            self._frame_noise(conditions, settings),
            lambda: build_scheduler(self.schedule, settings.solver, settings.steps),
            parts(len(conditions), window, alone=settings.overlap == shift == 0),
            lambda frames, step: row_windows(
                frames, window, settings.overlap, shift * first_step(step, settings.cache)
            ),
        )

    def _decodes_meanwhile(self, settings: Settings) -> bool:
        """Whether frames are the same bits if each window is decoded while the next is denoised, and it pays:
        not on a GPU, and not where devices share the windows, or networks take turns."""
        alone = settings.overlap == settings.shift == 0 and settings.shared_noise == 1
        whole = settings.window % self._decode_slice == 0
        here = self.device.type == "cpu" and self._load_again is None and self.memory == MEMORIES[0]
        return alone and whole and here

    def _decoded_meanwhile(
        self, conditions: ClipConditions, settings: Settings, progress: Progress
    ) -> Iterator[Picture]:
        made = ahead(self._denoised_parts(conditions, settings, progress))
        try:
            # Closed: whatever happens, nothing is denoised any more afterwards.
            with contextlib.closing(made):
                for frames, latents in made:
                    progress("denoise", frames.stop, len(conditions))
                    yield from self.decode(latents, conditions, progress, start=frames.start)
        except FloatingPointError as error:
            raise self._not_finite(f"denoising, {error}") from None

    def _frame_noise(
        self, conditions: ClipConditions, settings: Settings
    ) -> Callable[[Sequence[int]], Tensor]:
        noise = FrameNoise(
            (self.model.config.vae.latent_channels, *conditions.cells),
            seed=settings.seed,
            shared=settings.shared_noise,
            frames=len(conditions),
            dtype=self._noise_dtype,
        )
        return lambda frames: noise(frames).to(self.device)

    @property
    def _noise_dtype(self) -> torch.dtype:
        """What noise is drawn in, as the published code does."""
        return torch.float16 if self.dtype == torch.float16 else torch.float32

    @contextlib.contextmanager
    def _told_of_full_memory(self) -> Iterator[None]:
        """Make one line of an error that means a full memory."""
        try:
            yield
            return
        except (MemoryError, RuntimeError) as error:
            if not runtime.is_out_of_memory(error):
                raise
        # Frames that were given out are not made again, so a full memory ends the stream.
        runtime.give_back(self.device)
        raise SemibodyError(runtime.out_of_memory(lower=self._next_lower))

    def _fit(self, settings: Settings, frames: int, progress: Progress) -> None:
        """Keep less in memory where that is allowed and a clip needs it."""
        if not self._may_lower or self.memory == MEMORIES[-1]:
            return
        held = sum(value.nbytes for value in self.model.state_dict().values() if not value.is_meta)
        choice = memories.choose(
            "auto", memories.sizes_of(self.model), settings, frames, self.dtype, self.device, held=held
        )
        if MEMORIES.index(choice.memory) > MEMORIES.index(self.memory):
            self._lower(choice.memory, progress)

    @property
    def _next_lower(self) -> Memory | None:
        """The ``memory`` that takes less; None where there is none, or weights cannot be read again."""
        return None if self._fill_again is None else memories.lower(self.memory)

    def _lower(self, memory: Memory | None, progress: Progress) -> None:
        """Keep less in memory from now on. Raises SemibodyError where that may not be, or nothing is less."""
        runtime.give_back(self.device)
        if memory is None or self._fill_again is None or not self._may_lower:
            raise SemibodyError(runtime.out_of_memory(lower=memory))
        progress("less memory", 0, 1)
        self.memory = _what_fits(self._fill_again, memory, may_lower=True)
        self.say(f"too little memory: goes on with --memory {self.memory}")
        if self.memory == MEMORIES[-1]:
            self._leave_uncompiled("with --memory lowest blocks come one by one")
        progress("less memory", 1, 1)

    def _spread(self, inputs: Inputs, settings: Settings) -> contextlib.AbstractContextManager[Each]:
        """How a step's windows are shared among the devices."""
        restorer, own = self.model.config.restorer, inputs.portrait_pose
        # Where nothing is denoised, others would read the weights for nothing.
        if self._load_again is None or draws_nothing(restorer, own, inputs.gesture, settings.arms):
            return contextlib.nullcontext(itertools.starmap)
        seen = dataclasses.replace(inputs, matte=None, findings=(), sources={})
        return Spread(functools.partial(_denoiser_on, self._load_again, seen, settings), self._further)

    def conditions(self, inputs: Inputs, settings: Settings, progress: Progress = silent) -> ClipConditions:
        """Encode what is the same for the whole clip; the rest is computed for each window."""
        progress("prepare", 0, 1)
        conditions = ClipConditions(
            self.model, inputs.portrait, inputs.portrait_pose, inputs.gesture, inputs.speech, settings.fps,
            settings.steps, self._movement(inputs, deform_arms=settings.arms != "networks"),
        )  # fmt: skip
        if settings.decoder == "tiny":
            conditions.decode = self._tiny_decoder
        progress("prepare", 1, 1)
        return conditions

    @functools.cached_property
    def _tiny_decoder(self) -> TinyDecoder:
        return TinyDecoder.load(self.dtype, self.device)

    def _movement(self, inputs: Inputs, *, deform_arms: bool) -> Movement | None:
        """How finished frames are moved; None for models that draw every frame themselves."""
        own = inputs.portrait_pose
        if own is None or not can_move(self.model.config.restorer, own):
            return None
        return Movement(
            inputs.portrait,
            own,
            inputs.gesture,
            inputs.life,
            inputs.person,
            deform_arms=deform_arms,
        )

    @torch.inference_mode()
    def denoise(
        self,
        conditions: ClipConditions,
        settings: Settings,
        progress: Progress = silent,
        *,
        scheduler: Any = None,
        after_step: AfterStep | None = None,
        unfinished: Unfinished | None = None,
        each: Each = itertools.starmap,
    ) -> Float[Tensor, "f c h w"]:
        """From seeded noise, or from where a killed run was, to the latents of the whole clip.

        ``scheduler`` (of diffusers, with its timesteps set) takes the place of ``settings.solver``;
        ``after_step`` and ``each`` as for ``sample``.
        """
        if not conditions.draws:
            progress("denoise", len(conditions), len(conditions))
            return conditions.undrawn(len(conditions))
        noise = initial_noise(
            len(conditions),
            self.model.config.vae.latent_channels,
            *conditions.cells,
            seed=settings.seed,
            shared=settings.shared_noise,
            dtype=self._noise_dtype,
        ).to(self.device)

        def windows(step: int) -> list[Window]:
            shift = settings.shift * first_step(step, settings.cache)
            return ring_windows(len(conditions), settings.window, settings.overlap, shift=shift)

        self._compile_for(conditions, settings, progress)
        try:
            return sample(
                self.denoiser(conditions, settings),
                noise,
                scheduler or build_scheduler(self.schedule, settings.solver, settings.steps),
                windows,
                after_step=after_step,
                unfinished=unfinished and SavedBetween(unfinished, settings.cache),
                each=each,
                progress=progress,
            )
        except FloatingPointError as error:
            raise self._not_finite(f"denoising, {error}") from None

    def _compile_for(self, conditions: ClipConditions, settings: Settings, progress: Progress) -> None:
        """Compile the denoiser's blocks for the shapes of this clip, by a prediction that is thrown away."""
        window = list(range(min(settings.window, len(conditions))))
        shapes = (len(window), conditions.cells, settings.guidance > 1)
        if not self._compiles or shapes in self._compiled:
            return
        if not self._compiled:
            compile_blocks(self.model.denoising_unet)
        channels = self.model.config.vae.latent_channels
        whole = dataclasses.replace(settings, cache=1, guidance_start=0.0, guidance_stop=1.0)
        progress("compile", 0, 1)
        try:
            latents = torch.zeros(len(window), channels, *conditions.cells, device=self.device)
            self.denoiser(conditions, whole)(latents, torch.zeros(1, device=self.device), window)
        except Exception as error:  # compilers fail in many ways
            if runtime.is_out_of_memory(error):
                raise
            self._leave_uncompiled(f"compiling failed, {first_line(error)}")
        self._compiled.add(shapes)
        progress("compile", 1, 1)

    def _leave_uncompiled(self, why: str) -> None:
        if self._compiles:
            restore(self.model.denoising_unet)
            self._compiles = False
            self.say(f"--compile: {why}; goes on without")

    def denoiser(self, conditions: ClipConditions, settings: Settings) -> Denoise:
        """The guided prediction of a window of this clip."""
        reuse = Reuse(DeepFeatures, settings.cache)
        interval = Interval(settings.guidance_start, settings.guidance_stop)

        def conditional(latents: Tensor, t: Tensor, window: Window) -> Tensor:
            return self._predict(latents, t, conditions.of(window), reuse.of(window, t, "conditional"))

        def unconditional(latents: Tensor, t: Tensor, window: Window) -> Tensor:
            return self._predict(latents, t, conditions.none(), reuse.of(window, t, "unconditional"))

        def guided(t: Tensor) -> bool:
            return interval.holds(1 - (float(t) + 1) / self.schedule.train_steps)

        return guide(conditional, unconditional, settings.guidance, guided)

    def _predict(
        self, latents: Tensor, t: Tensor, conditions: Conditions, deep: DeepFeatures | None
    ) -> Tensor:
        return self.model.denoise(latents[None].to(self.dtype), t, conditions, deep)[0]

    @torch.inference_mode()
    def decode(
        self,
        latents: Float[Tensor, "f c h w"],
        conditions: ClipConditions,
        progress: Progress = silent,
        first: int = 0,
        start: int = 0,
    ) -> Iterator[Picture]:
        """Latents to pixels from frame ``first`` on, a few frames at a time: those of a whole clip, or of its
        frames from ``start`` on."""
        stop = start + len(latents)
        for begin in range(max(first, start), stop, self._decode_slice):
            frames = range(begin, min(begin + self._decode_slice, stop))
            pixels = conditions.finish(latents, frames, start)
            # What is not finite makes the sum so, which takes a fifth of the time of looking at each.
            if not math.isfinite(float(pixels.sum(dtype=torch.float32))):
                raise self._not_finite(f"decoding frame {begin}")
            scratch.let_go()
            yield to_uint8(_unit(pixels))
            progress("decode", frames.stop, len(conditions))

    def _not_finite(self, where: str) -> SemibodyError:
        """What to do about values that would make a black video."""
        remedy = {
            torch.float16: "use --precision bf16, or fp32 where that is unknown to the GPU",
            torch.bfloat16: "use --precision fp32",
        }.get(self.dtype, "the weights may be damaged: run `semibody weights verify`")
        name = str(self.dtype).removeprefix("torch.")
        return SemibodyError(f"{where}: the networks gave values that are not finite in {name}; {remedy}")

    def decode_pixels(self, latents: Float[Tensor, "f c h w"]) -> Float[Tensor, "f 3 H W"]:
        """Latents to pixels in 0..1, float32, as the autoencoder alone gives them."""
        return _unit(self.model.decode(latents.to(self.dtype)))

    @property
    def _decode_slice(self) -> int:
        # On CPUs a batch is no faster than single frames and needs several times their memory.
        return 1 if self.device.type == "cpu" and self.model.config.vae.widths[0] >= 128 else 4


def _denoiser_on(
    load_again: Callable[..., Animator], inputs: Inputs, settings: Settings, device: str
) -> Denoise:
    """``Animator.denoiser`` on another device, in a process of its own."""
    animator = load_again(device=device)
    return animator.denoiser(animator.conditions(inputs, settings), settings)


def _check_compile(memory: str, *, compiles: bool, devices: int) -> None:
    """Raises SemibodyError for what --compile cannot go together with."""
    if compiles and memory == MEMORIES[-1]:
        raise SemibodyError("--compile needs whole networks; use --memory low, or leave out --compile")
    if compiles and devices > 1:
        raise SemibodyError("--compile works on one device; leave out --compile, or name one device")


def _what_fits(
    fill: Callable[..., None], memory: Memory, progress: Progress = silent, *, may_lower: bool
) -> Memory:
    """``fill`` with ``memory``, or with the first lower one with which the device is not full."""
    while True:
        try:
            fill(memory=memory, progress=progress)
            return memory
        except (MemoryError, RuntimeError) as error:
            if not runtime.is_out_of_memory(error):
                raise
        lower = memories.lower(memory)
        if lower is None or not may_lower:
            raise SemibodyError(runtime.out_of_memory(lower=lower))
        memory = lower


def _unit(pixels: Float[Tensor, "f 3 H W"]) -> Float[Tensor, "f 3 H W"]:
    """About −1..1 to 0..1, float32."""
    return (pixels.float() / 2).add_(0.5).clamp_(0, 1)


def to_uint8(pixels: Float[Tensor, "f 3 H W"]) -> Picture:
    """0..1 to 0..255, rounded (the published code truncates, which darkens by half a level)."""
    return (pixels * 255).round_().to("cpu", torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def cut(speech: Speech, seconds: float) -> Speech:
    """The speech's first ``seconds``."""
    return dataclasses.replace(speech, waveform=speech.waveform[: int(seconds * speech.rate)])
