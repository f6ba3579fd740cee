"""Everything that is to be known of a GPU in one run of at most nine minutes, as JSON and Markdown.

    python benchmarks/gpu.py --out OUT               # OUT/gpu.json and OUT/gpu.md, written after every row
    python benchmarks/gpu.py --out OUT --toy         # on any machine in a minute: small networks, few rows

    parity    errors of single forwards against the published code's recorded ones, by precision
    step      seconds of a guided 12-frame step, share of the measured matmul peak, peak memory: size x mode
    decode    frames a second, of the autoencoder and the tiny decoder
    starter   frames a second of a whole clip, and until its first frame
    train     a training step of the recipe ``official`` at 768 x 768, with memory

A row that fails or takes too long says so, and the next ones run.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

import torch

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests"), str(HERE.parent / "src")]

from machine import commit  # noqa: E402
from step import GuidedStep, random_denoiser  # noqa: E402 - found by the lines above

from semibody import runtime  # noqa: E402
from semibody.conditioning.flops import count_work  # noqa: E402
from semibody.files import atomic_write, first_line  # noqa: E402
from semibody.networks import quantised  # noqa: E402
from semibody.networks.model import ModelConfig  # noqa: E402
from semibody.networks.unet import DeepFeatures, UNet, UNetConfig  # noqa: E402
from semibody.networks.vae import VAE, VAEConfig  # noqa: E402

MODES = ("exact", "cache 3", "compile", "int8", "fp8")
LEAST_SECONDS = 15.0
"""A row does not begin with less time left."""
TOY_PATIENCE = 5
"""Limits are those of a GPU; a busy machine's CPU gets as many times that."""
Row = dict[str, Any]


@dataclass
class Run:
    """What is asked for, and what is found."""

    out: Path
    toy: bool
    device: torch.device
    until: float
    peaks: dict[str, float] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)

    @property
    def left(self) -> float:
        return self.until - time.monotonic()

    @property
    def dtype(self) -> torch.dtype:
        return runtime.choose_dtype("auto", self.device)

    def row(self, kind: str, name: str, make: Callable[[], Row], limit: float) -> None:
        """Make a row in at most ``limit`` seconds; its failure is a row too."""
        limit *= TOY_PATIENCE if self.toy else 1
        if self.left < LEAST_SECONDS:
            self.rows.append({"kind": kind, "name": name, "skipped": "no time was left"})
            return self.write()
        self._forget()
        started = time.monotonic()
        try:
            with ends_within(min(limit, self.left)):
                found = make()
        except Exception as error:  # whatever fails, the next rows are worth having
            found = {"failed": f"{type(error).__name__}: {first_line(error)}"}
        took = round(time.monotonic() - started, 1)
        self.rows.append({"kind": kind, "name": name, **found, "took": took})
        return self.write()

    def _forget(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def memory(self) -> float:
        """GiB at the peak of this row."""
        peak = torch.cuda.max_memory_allocated() if self.device.type == "cuda" else runtime.peak_memory()
        return round(peak / 2**30, 2)

    def write(self) -> None:
        """Both files, as far as the run has come."""
        found = {"machine": machine(self.device), "peaks_tflops": self.peaks, "rows": self.rows}
        for name, text in (("gpu.json", json.dumps(found, indent=1) + "\n"), ("gpu.md", markdown(found))):
            with atomic_write(self.out / name) as unfinished:
                unfinished.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def ends_within(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in what takes longer."""

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        raise TimeoutError(f"took more than {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def machine(device: torch.device) -> dict[str, Any]:
    about: dict[str, Any] = {"torch": torch.__version__, "commit": commit(), "device": str(device)}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        about["device"] = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
        about["capability"] = f"{properties.major}.{properties.minor}"
    return about


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(run: Run, call: Callable[[], object], repeats: int) -> float:
    """The median, after one call that is not counted."""
    call()
    times = []
    for _ in range(repeats):
        synchronise(run.device)
        start = time.perf_counter()
        call()
        synchronise(run.device)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


# -- parity --------------------------------------------------------------------------------------------


@torch.inference_mode()
def parity(run: Run, name: str, precision: str) -> Row:
    """Largest error of the guided prediction at the first recorded timestep, over its root mean square."""
    from parity import golden

    dtype = getattr(torch, runtime.PRECISIONS[precision])
    case = golden.Case(golden.folder() / f"{name}_inputs.npz")
    config = UNetConfig(widths=tuple(case.meta["block_out_channels"]))

    def placed(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(run.device, dtype)

    reference = golden.fill(UNet(config.as_reference()), "reference_unet/").to(run.device, dtype)
    bank = {
        k: v.half().to(dtype) for k, v in reference.appearance(placed(case.tensor("ref_latents"))).items()
    }
    del reference
    from semibody.networks.pose_encoder import PoseEncoder, PoseEncoderConfig

    encoder = golden.fill(PoseEncoder(PoseEncoderConfig(out_channels=config.widths[0])), "pose_encoder/")
    pose = encoder.to(run.device, dtype)(placed(case.tensor("pose_u8").float()[0].transpose(0, 1) / 255))
    denoiser = golden.fill(UNet(config), "denoising_unet/").to(run.device, dtype)
    outputs = case.sibling("outputs")
    key = next(key for key in outputs.names("cond/bank16/"))
    t = torch.tensor([float(key.rsplit("/t", 1)[1])], device=run.device)
    latents = placed(case.tensor("latents")[0].transpose(0, 1))
    found = denoiser(
        latents, t, frames=len(latents), pose=pose, reference=denoiser.project_reference(bank),
        audio=denoiser.project_audio(placed(case.tensor("audio")[0])),
    )  # fmt: skip
    recorded = outputs.tensor(key)[0].transpose(0, 1)
    error = (found.float().cpu() - recorded).abs().max() / recorded.square().mean().sqrt()
    return {"precision": precision, "timestep": key, "error": float(error)}


# -- steps ---------------------------------------------------------------------------------------------


@torch.inference_mode()
def guided_step(run: Run, size: int, mode: str) -> Row:
    """Of 12 frames; with ``cache 3`` the mean of a step that computes all and two that reuse."""
    config = ModelConfig() if not run.toy else toy_config()
    network, frames = random_denoiser(run.dtype, run.device, config.unet), 12 if not run.toy else 2
    began = time.monotonic()
    if mode in runtime.EIGHT_BITS:
        runtime.choose_dtype(mode, run.device)
        quantised.quantise(network, mode)
    if mode == "compile":
        for _, layer in network.transformers():
            layer.compile(dynamic=False)
    step = GuidedStep(network, size, frames)
    call: Callable[[], None] = step
    steps = 1
    if mode == "cache 3":
        steps = 3

        def call() -> None:
            deep = DeepFeatures(), DeepFeatures()
            for _ in range(steps):
                step(deep)

    seconds = seconds_of(run, call, 1 if run.toy else 3) / steps
    exact = count_work(config, size, size, frames)
    work = exact.steps(steps, cache=steps, guided=lambda done: done >= 0) / steps / 1e12
    peak = run.peaks.get(runtime.name_of(run.dtype), float("nan"))
    return {
        "size": size, "mode": mode, "seconds": round(seconds, 4), "tflop": round(work, 6),
        "peak_share": round(work / seconds / peak, 3), "memory_gib": run.memory(),
        "until_first": round(time.monotonic() - began - seconds, 1),
    }  # fmt: skip


def toy_config() -> ModelConfig:
    from semibody.demo import small_model

    return small_model()


# -- decoding, the starter, training ---------------------------------------------------------------------


@torch.inference_mode()
def decoding(run: Run, size: int, decoder: str) -> Row:
    batch = 4 if not run.toy else 1
    latents = torch.randn(batch, 4, size // 8, size // 8, device=run.device).to(run.dtype)
    decode: Callable[[torch.Tensor], object]
    if decoder == "tiny":
        from diffusers import AutoencoderTiny

        network = AutoencoderTiny().to(run.device, run.dtype).eval()
        decode = network.decode
    else:
        vae = VAE(VAEConfig()).to(run.device, run.dtype).eval()
        decode = vae.decode
    seconds = seconds_of(run, lambda: decode(latents), 1 if run.toy else 5)
    return {"size": size, "decoder": decoder, "fps": round(batch / seconds, 2), "memory_gib": run.memory()}


def starter(run: Run) -> Row:
    """The bundled portrait with its speech, without loading and without a video codec."""
    from semibody.animator import Animator
    from semibody.inputs import prepare
    from semibody.weights.hub import STARTER

    animator = Animator.load("starter", device=str(run.device))
    settings = animator.settings(
        length=4 if run.toy else None, **({"width": 64, "height": 64} if run.toy else {})
    )
    inputs = prepare(STARTER / "portrait.png", STARTER / "speech.wav", "auto", settings)
    started, first, frames = time.perf_counter(), 0.0, 0
    for made in animator.frames(inputs, settings):
        first = first or time.perf_counter() - started
        frames += len(made)
    took = time.perf_counter() - started
    return {"frames": frames, "fps": round(frames / took, 2), "first_frame": round(first, 2),
            "memory_gib": run.memory()}  # fmt: skip


def training(run: Run, recipe: str) -> Row:
    """``benchmarks/train_step.py``, in this process."""
    import train_step

    said = io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["train_step", recipe, "--batch", "1"]),
        contextlib.redirect_stdout(said),
    ):
        train_step.main()
    figures = json.loads(said.getvalue().strip().splitlines()[-1])
    return {"recipe": recipe, **figures, "memory_gib": run.memory()}


# -- the run ---------------------------------------------------------------------------------------------


def fill(run: Run) -> None:
    """All rows, the most wanted first."""
    precisions = ("fp32", "bf16") if run.device.type == "cpu" else ("fp32", "fp16", "bf16")
    for precision in precisions:
        dtype = getattr(torch, runtime.PRECISIONS[precision])
        seconds = 0.1 if run.toy else 1.0
        largest = 256 if run.toy else 8192
        run.peaks[precision] = round(runtime.matmul_tflops(dtype, run.device, seconds, largest=largest), 3)
    for precision in precisions:
        run.row("parity", f"small_a {precision}", lambda p=precision: parity(run, "small_a", p), 40)  # type: ignore[misc]
    sizes = (64,) if run.toy else (512, 768, 256)
    modes = [mode for mode in MODES if mode != "compile" or not run.toy]  # compiling takes a CPU minutes
    for size in sizes:
        for mode in modes:
            limit = 120 if mode == "compile" else 60
            run.row("step", f"{size} {mode}", lambda s=size, m=mode: guided_step(run, s, m), limit)  # type: ignore[misc]
    run.row("starter", "starter", lambda: starter(run), 60)
    for size in sizes[:2]:
        for decoder in ("own", "tiny"):
            run.row("decode", f"{size} {decoder}", lambda s=size, d=decoder: decoding(run, s, d), 30)  # type: ignore[misc]
    recipe = "tiny" if run.toy else "official"
    run.row("train", recipe, lambda: training(run, recipe), 120)


def markdown(found: dict[str, Any]) -> str:
    """A table for each kind of row."""
    about = ", ".join(f"{key} {value}" for key, value in found["machine"].items())
    peaks = ", ".join(f"{name} {rate:g}" for name, rate in found["peaks_tflops"].items())
    lines = [about, "", f"Measured matmul peaks (TFLOP/s): {peaks}", ""]
    for kind in dict.fromkeys(row["kind"] for row in found["rows"]):
        rows = [row for row in found["rows"] if row["kind"] == kind]
        keys = list(dict.fromkeys(key for row in rows for key in row if key != "kind"))
        lines += [f"| {' | '.join(keys)} |", "|---" * len(keys) + "|"]
        lines += [f"| {' | '.join(str(row.get(key, '')) for key in keys)} |" for row in rows]
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "out/gpu")))
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--toy", action="store_true", help="small networks, on the CPU")
    asked = parser.parse_args()
    device = runtime.choose_device("cpu" if asked.toy else asked.device)
    runtime.prepare(device)
    asked.out.mkdir(parents=True, exist_ok=True)
    run = Run(asked.out, asked.toy, device, time.monotonic() + 60 * asked.minutes)
    fill(run)
    print(markdown(json.loads((asked.out / "gpu.json").read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
