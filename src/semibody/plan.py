"""What an animation will need, before it starts: frames, windows, memory, time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semibody import memory, runtime
from semibody.conditioning.flops import Work, count_work
from semibody.conditioning.movement import draws_nothing
from semibody.diffusion.guidance import Interval
from semibody.diffusion.windows import ring_windows
from semibody.inputs import prepare
from semibody.networks.model import ModelConfig
from semibody.settings import Settings, Source, resolve
from semibody.types import Gesture, Memory, Picture, Speech

EFFICIENCY = 0.45
"""Share of the machine's measured matmul rate that a step reaches (``make bench-step`` prints it)."""
START_SECONDS = 2.5
"""What every clip takes beside the networks: imports, reading, writing (``benchmarks/estimates.py``)."""
DETECT_SECONDS = 2.0
"""Opening the detector and the search for the person (the same)."""
LOAD_SECONDS = 6.0
"""Building the networks, beside reading their weights (the same)."""
LOAD_RATE = 0.5e9
"""Bytes of weights that are read and converted in a second (the same)."""
FRAME_SECONDS = 0.008
"""Seconds of a frame beside its matmuls, in models with a restorer: poses, fields of movement (CPU)."""
PIXEL_SECONDS = 1.4e-7
"""Seconds of a pixel of a finished frame there: restoring, moving, encoding (the same)."""
ENCODE_SECONDS = 3e-8
"""Seconds of a pixel in models that draw every frame themselves: encoding (the same)."""
TINY_DECODER = 0.056
"""Work of the tiny decoder over that of Stable Diffusion's own (counted)."""
RESIDENT = 0.56 * 2**30
"""Bytes of a process that has imported torch and diffusers and keeps freed memory, measured."""
DETECTOR = 0.35 * 2**30
"""Bytes of the open detector, measured."""
SPEECH_SECOND = 0.25e6
"""Bytes of a second of speech: the waveform, what the model hears of it, and the poses planned for it."""


@dataclass(frozen=True)
class Plan:
    """The figures of an animation; times and memory are estimates."""

    settings: Settings
    frames: int
    windows: int
    tflop: float
    seconds: float
    memory_gib: float
    memory: memory.Choice
    device: str
    precision: str
    notices: tuple[str, ...] = ()

    def lines(self) -> list[tuple[str, str]]:
        s = self.settings
        made = [
            ("frames", f"{self.frames} at {s.fps:g} fps ({self.frames / s.fps:.1f} s)"),
            ("size", f"{s.width} x {s.height}"),
            ("steps, guidance", f"{s.steps}, {s.guidance:g} ({s.solver})"),
            ("windows", f"{self.windows} of {min(s.window, self.frames)} frames in each step"),
            ("device", f"{self.device}, {self.precision}"),
            ("work", f"{self.tflop:,.0f} TFLOP"),
            ("estimated time", f"{format_seconds(self.seconds)}"),
            ("estimated memory", f"{self.memory_gib:.1f} GiB with --memory {self.memory.memory}"),
            ("memory", self.memory.table()),
        ]
        return [*made, *(("note", notice) for notice in self.notices)]


def make_plan(
    source: Source,
    changes: dict[str, Any],
    *,
    portrait: str | Path | Picture,
    speech: str | Path | Speech,
    gesture: str | Path | Gesture,
) -> Plan:
    """Plan without loading weights. Raises SemibodyError for whatever would stop the real run."""
    target = runtime.choose_device((source.devices or source.device).split(",")[0])
    dtype = runtime.choose_dtype(source.precision, target)
    found = resolve(source, need_files=False)
    settings, model = found.settings(changes), found.info.model
    inputs = prepare(portrait, speech, gesture, settings)
    choice = memory.choose(source.memory, memory.sizes(model), settings, len(inputs), dtype, target)
    tflop, taken = estimate_work(
        model, settings, len(inputs), bytes_per_number=dtype.itemsize, mode=choice.memory
    )
    if draws_nothing(model.restorer, inputs.portrait_pose, inputs.gesture, settings.arms):
        tflop = 0.0
    taken += inputs.speech.seconds * SPEECH_SECOND
    weights = sum(memory.sizes(model).held.values()) * dtype.itemsize
    rate = runtime.matmul_tflops(dtype, target) * EFFICIENCY
    beside = start_seconds(settings) + LOAD_SECONDS + weights / LOAD_RATE
    return Plan(
        settings=settings,
        frames=len(inputs),
        windows=len(ring_windows(len(inputs), settings.window, settings.overlap)),
        tflop=tflop,
        seconds=beside + finishing_seconds(model, settings, len(inputs)) + tflop / rate,
        memory_gib=taken / 2**30,
        memory=choice,
        device=str(target),
        precision=str(dtype).removeprefix("torch."),
        notices=inputs.notices,
    )


def start_seconds(settings: Settings) -> float:
    """What a clip takes before its first and after its last step, beside loading the weights."""
    return START_SECONDS + (DETECT_SECONDS if settings.looks_for_person else 0.0)


def finishing_seconds(model: ModelConfig, settings: Settings, frames: int) -> float:
    """What decoded frames take until they are written."""
    pixels = settings.width * settings.height
    if model.restorer is None:
        return frames * pixels * ENCODE_SECONDS
    return frames * (FRAME_SECONDS + pixels * PIXEL_SECONDS)


def work_of_stages(work: Work, settings: Settings, frames: int) -> dict[str, float]:
    """FLOP of each stage of a clip of ``frames`` frames, by the stage's name as ``Progress`` has it.

    ``work`` is that of a window of ``min(settings.window, frames)`` frames.
    """
    windows = len(ring_windows(frames, settings.window, settings.overlap))
    interval = Interval(settings.guidance_start, settings.guidance_stop)
    steps = work.steps(
        settings.steps,
        cache=settings.cache,
        guided=lambda done: settings.guidance > 1 and interval.holds(done),
    )
    return {
        "prepare": work.reference,
        "denoise": windows * (steps + settings.steps * work.frames),
        "decode": frames * work.decode_frame * (TINY_DECODER if settings.decoder == "tiny" else 1.0),
    }


def estimate_work(
    model: ModelConfig,
    settings: Settings,
    frames: int,
    *,
    bytes_per_number: int,
    mode: Memory = "full",
) -> tuple[float, float]:
    """(TFLOP, bytes of memory) of a clip of ``frames`` frames, made with that ``--memory``."""
    work = count_work(model, settings.height, settings.width, min(settings.window, frames))
    total = sum(work_of_stages(work, settings, frames).values())
    resident = RESIDENT + (DETECTOR if settings.looks_for_person else 0)
    needed = memory.needed(memory.sizes(model), settings, frames, bytes_per_number=bytes_per_number)
    return total / 1e12, resident + needed[mode]


def format_seconds(seconds: float) -> str:
    """90 -> ``1 min 30 s``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
