"""Peak memory of a clip by --memory, size and length, at full size with seeded random weights.

    python benchmarks/memory.py --size 256 768 --frames 24 --memory full low lowest

Weights are written to a folder (``--weights``, 4.6 GB in bf16, kept for the next call). Every clip is made
in a process of its own, which prints one JSON line; the table follows. ``runtime`` is what a process holds
that has made a tiny clip: Python, torch and the other libraries. ``beside`` is the peak less that. On a CPU
memory is the resident size as the system counts it, mapped files included; on a GPU what torch's allocator
has reserved.
"""

import argparse
import dataclasses
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from semibody import runtime
from semibody.animator import Animator
from semibody.demo import small_model
from semibody.inputs import Inputs, prepare
from semibody.networks.model import ModelConfig, build_network
from semibody.settings import Settings
from semibody.types import N_JOINTS, Gesture, Speech
from semibody.weights import store

FPS = 24.0


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, nargs="+", default=[256])
    parser.add_argument("--frames", type=int, nargs="+", default=[24])
    parser.add_argument("--memory", nargs="+", default=["full", "low", "lowest"])
    parser.add_argument("--steps", type=int, default=2, help="with one, nothing is kept between steps")
    parser.add_argument("--guidance", type=float, default=1.0, help="above 1 takes twice the time")
    parser.add_argument("--decode", type=int, help="frames to decode: each takes the same (default: all)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--weights", type=Path, default=Path("/tmp/semibody-random-weights"))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.one:
        print(json.dumps(measure(json.loads(asked.one))))
        return
    if not store.is_store(asked.weights):
        write_random(asked.weights, ModelConfig())
    rows = []
    for size in asked.size:
        for frames in asked.frames:
            for memory in asked.memory:
                given = {
                    "weights": str(asked.weights), "memory": memory, "size": size, "frames": frames,
                    "steps": asked.steps, "guidance": asked.guidance, "device": asked.device,
                    "decode": asked.decode or frames,
                }  # fmt: skip
                command = [sys.executable, __file__, "--one", json.dumps(given)]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                print(done.stdout.strip(), flush=True)
                rows.append(json.loads(done.stdout))
    print(table(rows))


def write_random(folder: Path, config: ModelConfig, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write seeded random weights, network by network."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in config.networks:
        with torch.device("meta"):
            network = build_network(name, config)
        generator = torch.Generator().manual_seed(0)
        state = {}
        for key, value in network.state_dict().items():
            made = torch.zeros(value.shape, dtype=dtype)
            if value.ndim >= 2:
                made.normal_(0.0, float(made[0].numel()) ** -0.5, generator=generator)
            elif key.endswith("weight"):
                made.fill_(1.0)
            state[key] = made
        store.write_network(folder, name, state, None)
    from semibody import config as settings

    store.write_index(folder, {"model": settings.to_dict(config), "origin": "random"})


def measure(given: dict[str, Any]) -> dict[str, Any]:
    """Make one clip in this process, and say what it took."""
    device, frames = given["device"], given["frames"]
    torch.manual_seed(0)
    tiny = Animator.random(small_model(), width=64, height=64, steps=1, frame="keep", align="none")
    list(tiny.frames(made_inputs(tiny.defaults, 4), tiny.defaults))
    held, target = peak(runtime.choose_device(device)), runtime.choose_device(device)
    started, cpu = time.perf_counter(), time.process_time()
    precision = "bf16" if target.type == "cpu" else "auto"
    animator = Animator.load(given["weights"], precision=precision, device=device, memory=given["memory"])
    changes = {name: given[name] for name in ("steps", "guidance")}
    settings = animator.settings(
        width=given["size"], height=given["size"], frame="keep", align="none", **changes
    )
    inputs = made_inputs(settings, frames)
    stages = {"load": peak(target)}

    def note(stage: str, done: int, total: int) -> None:
        if done == total:
            stages[stage] = peak(target)

    digest, made = hashlib.sha256(), 0
    for pixels in animator.frames(inputs, settings, progress=note):
        digest.update(pixels.tobytes())
        made += len(pixels)
        if made >= given["decode"]:
            break
    stages["decode"] = peak(target)
    return {
        **{name: value for name, value in given.items() if name != "weights"},
        "runtime_gib": gib(held),
        "peak_gib": gib(peak(target)),
        "beside_gib": gib(peak(target) - held),
        "up_to_gib": {stage: gib(value - held) for stage, value in stages.items()},
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "frames_sha256": digest.hexdigest()[:16],
    }


def made_inputs(settings: Settings, frames: int) -> Inputs:
    """A picture, a tone and moving joints."""
    side = settings.height
    y, x = np.mgrid[0:side, 0:side]
    picture = np.stack([x * 255 // side, y * 255 // side, (x + y) % 256], axis=2).astype(np.uint8)
    seconds = np.arange(int(16000 * frames / FPS)) / 16000
    speech = Speech((0.3 * np.sin(2 * np.pi * 220 * seconds)).astype(np.float32), 16000)
    moves = np.random.default_rng(0).normal(0, 0.02, (frames, N_JOINTS, 2)).cumsum(axis=0)
    gesture = Gesture(0.5 + 0.2 * moves, np.ones((frames, N_JOINTS)), FPS)
    return prepare(picture, speech, gesture, dataclasses.replace(settings, fps=FPS, length=frames))


def peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    return runtime.peak_memory()


def gib(count: float) -> float:
    return round(count / 2**30, 2)


def table(rows: list[dict[str, Any]]) -> str:
    """Memory beside the runtime in GiB by size and length, a column for each --memory."""
    modes = list(dict.fromkeys(row["memory"] for row in rows))
    lines = ["", f"| size | frames | {' | '.join(modes)} |", "|---|---|" + "---|" * len(modes)]
    for size, frames in dict.fromkeys((row["size"], row["frames"]) for row in rows):
        here = {row["memory"]: row for row in rows if (row["size"], row["frames"]) == (size, frames)}
        lines.append(
            f"| {size}² | {frames} | "
            + " | ".join(f"{here[mode]['beside_gib']:.2f}" if mode in here else "" for mode in modes)
            + " |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
