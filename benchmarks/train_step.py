"""Where the time of one training step goes, as a table; random weights, drawn people.

    python benchmarks/train_step.py starter --batch 8

Prints seconds of the batch, the step (forward, loss, backward) and the optimiser, the share of the measured
matrix peak, and the costliest operations. Measure on a quiet machine.
"""

import argparse
import dataclasses
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from semibody import runtime
from semibody.networks.model import Model
from semibody.training.drawn import make_drawn_clips
from semibody.training.losses import perceptual_network
from semibody.training.recipe import load_recipe
from semibody.training.samples import DenoisingSamples
from semibody.training.stages import STAGES
from semibody.training.stages.denoise import DenoisingStage, MotionStage, StillStage
from semibody.training.trainer import Training


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", nargs="?", default="starter")
    parser.add_argument("--stage", choices=["still", "motion"], default="still")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--set", dest="changes", action="append", default=[])
    parser.add_argument("--rows", type=int, default=15)
    asked = parser.parse_args()
    recipe = load_recipe(asked.recipe, ["loss.pose=0", *asked.changes])
    with tempfile.TemporaryDirectory() as folder:
        training = Training(recipe, Path(folder))
        make_drawn_clips(Path(folder) / "packed", recipe, frames=2 * recipe.motion.frames)
        clips = training.packed(None)
        # Stills are trained without motion modules, as the trainer does it.
        unet = dataclasses.replace(recipe.model.unet, motion=asked.stage == "motion")
        sizes = dataclasses.replace(recipe.model, unet=unet)
        model = Model(sizes).to(training.device)
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        context, kind = training.context(asked.stage, clips), STAGES[asked.stage]
        assert issubclass(kind, StillStage | MotionStage)
        samples = DenoisingSamples(
            recipe, kind.drawing(recipe), model.config, clips, context.encode(model), model.audio_encoder
        )
        stage = kind(context, model, samples)
        stage.perceptual = perceptual_network("efficientnet").to(training.device)
        measure(stage, training, asked.batch, asked.rows)


def measure(stage: DenoisingStage[Any], training: Training, batch_size: int, rows: int) -> None:
    weights = [p for p in stage.module.parameters() if p.requires_grad]
    adam = torch.optim.AdamW(weights, lr=1e-9, fused=True)
    start = time.perf_counter()
    batch = stage.batch(0, range(batch_size)).to(training.device)
    seconds_data = time.perf_counter() - start

    def step() -> None:
        with training.accelerator.autocast():
            loss = stage.losses(stage.module, batch)["loss"]
        loss.backward()

    with FlopCounterMode(display=False) as counter:
        step()
    start = time.perf_counter()
    step()
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    adam.step()
    seconds_adam = time.perf_counter() - start
    precision = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(
        training.accelerator.mixed_precision, torch.float32
    )
    peak = 1e12 * runtime.matmul_tflops(precision, training.device)
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        step()
    print(profiled.key_averages().table(sort_by="self_cpu_time_total", row_limit=rows))
    frames = batch_size * stage.frames
    work = counter.get_total_flops()
    figures = {
        "frames": frames, "precision": training.accelerator.mixed_precision,
        "parameters_million": round(sum(p.numel() for p in weights) / 1e6, 2),
        "seconds_data": round(seconds_data, 3), "seconds_step": round(seconds, 3),
        "seconds_optimiser": round(seconds_adam, 3), "frames_per_second": round(frames / seconds, 2),
        "gflop_per_frame": round(work / frames / 1e9, 2), "peak_tflops": round(peak / 1e12, 3),
        "peak_share": round(work / seconds / peak, 3),
    }  # fmt: skip
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
