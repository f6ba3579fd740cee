"""Facts about this machine and this installation, for the user and for bug reports."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from semibody import memory, plan, runtime
from semibody.networks.model import ModelConfig
from semibody.pose.detectors import open_detector
from semibody.pose.detectors.dwpose import DWPOSE_VARIABLE
from semibody.settings import PRESETS, Settings, Source, resolve
from semibody.types import SemibodyError
from semibody.weights.hub import DWPOSE, SETS, complete_weights, default_weights, home

PACKAGES = ("torch", "diffusers", "transformers", "av", "opencv-contrib-python-headless", "numpy")
EXTRAS = {
    "pose": "mediapipe", "train": "accelerate", "eval": "scikit-image", "synth": "moderngl",
    "web": "gradio", "voice": "espeakng-loader", "provenance": "c2pa-python", "cluster": "ray",
}  # fmt: skip


@dataclass(frozen=True)
class Fact:
    """One line of the list; ``ok`` False: needs attention."""

    name: str
    value: str
    ok: bool = True


def examine() -> list[Fact]:
    """Find versions, devices, memory, disk, weights; estimate the speed. Takes a few seconds."""
    return [*_versions(), _detector(), *_machine(), *_weights(), *_speed()]


def as_dict(facts: list[Fact]) -> dict[str, Any]:
    return {fact.name: {"value": fact.value, "ok": fact.ok} for fact in facts}


def _versions() -> list[Fact]:
    import semibody

    found = [Fact("semibody", semibody.__version__), Fact("python", platform.python_version())]
    for package in PACKAGES:
        found.append(_version(package, missing="not installed"))
    for extra, package in EXTRAS.items():
        found.append(_version(package, missing=f"not installed (pip install 'semibody[{extra}]')", ok=True))
    return found


def _version(package: str, missing: str, ok: bool = False) -> Fact:
    try:
        return Fact(package, importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        return Fact(package, missing, ok)


def _detector() -> Fact:
    """Which detector finds people here; it is opened, because files may be missing that the package needs."""
    try:
        with open_detector() as detector:
            stands_in = detector.name == DWPOSE and not os.environ.get(DWPOSE_VARIABLE)
            return Fact("detector", "dwpose, because mediapipe is not here" if stands_in else detector.name)
    except SemibodyError as error:
        return Fact("detector", f"none, so portraits and gestures are used as they are: {error}", ok=False)


def _machine() -> list[Fact]:
    import psutil
    import torch

    of_machine = psutil.virtual_memory()
    where = home() if home().exists() else home().anchor
    disk = shutil.disk_usage(where)
    gib = 2**30
    bf16 = "with" if runtime.cpu_has_bf16() else "without"
    found = [
        Fact("cpu", f"{torch.get_num_threads()} threads, {bf16} bf16"),
        Fact(
            "memory", f"{of_machine.available / gib:.1f} of {of_machine.total / gib:.1f} GiB free",
            of_machine.available > 6 * gib,
        ),
        Fact("disk", f"{disk.free / gib:.0f} GiB free for weights in {home()}", disk.free > 12 * gib),
    ]  # fmt: skip
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        bf16 = "bf16 yes" if runtime.cuda_has_bf16() else "bf16 no"
        size = properties.total_memory / gib
        found.append(Fact(f"gpu {number}", f"{properties.name}, {size:.0f} GiB, {bf16}"))
    if not torch.cuda.device_count():
        apple = torch.backends.mps.is_available()
        unused = runtime.unused_gpu()
        found.append(Fact("gpu", unused or ("Apple" if apple else "none; the CPU is used"), not unused))
    return found


def _weights() -> list[Fact]:
    found = []
    for name in ("starter", *SETS):
        try:
            found.append(Fact(f"weights {name}", f"complete, in {complete_weights(name)}"))
        except SemibodyError as error:
            found.append(Fact(f"weights {name}", str(error), ok=False))
    return [*found, Fact("default weights", default_weights())]


def _speed() -> list[Fact]:
    device = runtime.choose_device()
    dtype = runtime.choose_dtype("auto", device)
    rate = runtime.matmul_tflops(dtype, device)
    found = [
        Fact("matmul", f"{rate:.2f} TFLOP/s in {str(dtype).removeprefix('torch.')} on {device}"),
        Fact("attention", f"{', '.join(runtime.attention_kernels(dtype, device))} on {device}"),
    ]
    for name, model, settings in _samples():
        frames = int(settings.fps) * 5
        fits = memory.choose("auto", memory.sizes(model), settings, frames, dtype, device)
        found.append(Fact(f"{name} at {settings.width}², memory", fits.table(), fits.fits("lowest")))
        tflop, _ = plan.estimate_work(model, settings, frames, bytes_per_number=dtype.itemsize)
        seconds = plan.format_seconds(tflop / (rate * plan.EFFICIENCY) / 5)
        found.append(Fact(f"{name} at {settings.width}²", f"about {seconds} per second of video"))
    return found


def _samples() -> Iterator[tuple[str, ModelConfig, Settings]]:
    """What the speed is estimated for: the starter where it is, the published weights at two sizes."""
    with contextlib.suppress(SemibodyError):
        starter = resolve(Source(weights="starter"))
        yield "starter", starter.info.model, starter.settings({})
    for name, (_, preset) in PRESETS.items():
        for side in (512, 768):
            yield name, ModelConfig(), Settings(width=side, height=side, **preset)
