"""Where the time of one training step goes, as a table; random weights, drawn people.

    OMP_NUM_THREADS=1 python benchmarks/train_step.py starter --batch 8
    OMP_NUM_THREADS=1 python benchmarks/train_step.py starter --stage restore --batch 4

Prints seconds of the samples, of the gradients (forward, loss, backward, clipping), of the update (optimiser,
EMA), the share of the measured matrix peak, and the costliest operations. ``cpu_seconds`` are those of all
threads together: with one thread they mean something on a machine that others use as well, and ``peak_share``
is made of them then.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from semibody import config, runtime
from semibody.networks.loading import save_model
from semibody.networks.model import Model
from semibody.training.drawn import make_drawn_clips
from semibody.training.loop import Log, StageRun
from semibody.training.recipe import load_recipe
from semibody.training.trainer import Training


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", nargs="?", default="starter")
    parser.add_argument("--stage", choices=["still", "motion", "restore"], default="still")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=3, help="whose median is taken")
    parser.add_argument("--set", dest="changes", action="append", default=[])
    parser.add_argument("--rows", type=int, default=15)
    asked = parser.parse_args()
    changes = [
        "loss.pose=0", f"{asked.stage}.optimiser.batch={asked.batch}", "restore.pool=4",
        "data.found_portraits=false", *asked.changes,
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        # Random weights in place of trained ones: a step takes as long with them.
        weights, recipe = Path(folder) / "weights", load_recipe(asked.recipe, changes)
        save_model(weights, Model(recipe.model), {"schedule": config.to_dict(recipe.schedule)})
        recipe = load_recipe(asked.recipe, [*changes, f"start.weights={weights}"])
        training = Training(recipe, Path(folder) / "run")
        clips = make_drawn_clips(Path(folder) / "packed", recipe, frames=2 * recipe.motion.frames)
        stage = training.build(asked.stage, clips)
        run = StageRun(
            stage, recipe, Path(folder), training.accelerator, Log(folder=Path(folder), active=False)
        )
        measure(run, asked.steps, asked.rows)


def measure(run: StageRun, steps: int, rows: int) -> None:
    stage, device = run.stage, run.accelerator.device
    # The first batch counts the floating point operations; later ones are timed.
    run._one_step([stage.batch(0, range(run.settings.batch))])
    samples, work, update = [], [], []
    for step in range(1, steps + 1):
        batch, seconds = timed(partial(stage.batch, step, range(run.settings.batch)))
        samples.append(seconds)
        _, seconds = timed(partial(run._gradients, [batch]))
        work.append(seconds)
        _, seconds = timed(partial(update_weights, run))
        update.append(seconds)
    precision = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(
        run.accelerator.mixed_precision, torch.float32
    )
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        run._one_step([batch])
    print(profiled.key_averages().table(sort_by="self_cpu_time_total", row_limit=rows))
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    peak = matmul_rate(precision) if alone else 1e12 * runtime.matmul_tflops(precision, device)
    taken = [sorted(part)[len(part) // 2] for part in (samples, work, update)]
    frames = run.settings.batch * stage.frames
    step_seconds = taken[1][alone] + taken[2][alone]
    figures = {
        "stage": stage.name, "frames": frames, "precision": run.accelerator.mixed_precision,
        "parameters_million": round(sum(p.numel() for p in run.parameters.values()) / 1e6, 2),
        **{
            f"{kind}_{name}": round(value, 4)
            for name, pair in zip(("samples", "gradients", "update"), taken, strict=True)
            for kind, value in zip(("seconds", "cpu_seconds"), pair, strict=True)
        },
        "gflop": round(run._flops / 1e9, 2), "peak_tflops": round(peak / 1e12, 4),
        "peak_share": round(run._flops / step_seconds / peak, 3),
    }  # fmt: skip
    print(json.dumps(figures))


def update_weights(run: StageRun) -> None:
    run.optimiser.step()
    run.optimiser.zero_grad(set_to_none=True)
    run._update_ema()


def timed(function: Callable[[], Any]) -> tuple[Any, tuple[float, float]]:
    """The result; (seconds, seconds of all threads)."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    wall, cpu = time.perf_counter(), time.process_time()
    made = function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return made, (time.perf_counter() - wall, time.process_time() - cpu)


def matmul_rate(dtype: torch.dtype, side: int = 1024) -> float:
    """FLOP in a second of this thread's time, in the best of some matrix products."""
    a, b = (torch.randn(side, side, dtype=dtype) for _ in range(2))
    return 2 * side**3 / min(timed(lambda: a @ b)[1][1] for _ in range(12))


if __name__ == "__main__":
    main()
