"""How fast a training's samples are read, beside what a step consumes.

    python benchmarks/loader.py official --workers 1 4
    python benchmarks/loader.py starter --workers 1 4 --step-seconds 0.9

Makes a few clips of the recipe's size (cartoons with noise on them, so that a JPEG has a photograph's bytes)
and latents of its shape, puts them into shards, and writes an index of ``--clips`` clips, 100 000, whose
lines lie in those shards. Prints one JSON line each: the start (reading the index), bytes of a packed frame
and of its latents, then for each number of workers and each stage frames a second, the CPU seconds of a
sample, and by how many times that exceeds what a step consumes. A step's seconds are given, or those that
``train --plan`` counts on (``run.gpu_tflops``).
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from semibody.data.dataset import CLIP, LATENTS, LatentStore, PackedClip, clips_in, pack_clip
from semibody.data.shards import INDEX, gather
from semibody.networks.audio_encoders import build_audio_encoder
from semibody.training.drawn import draw_clip
from semibody.training.recipe import Recipe, load_recipe
from semibody.training.samples import DenoisingSamples
from semibody.training.stages import STAGES
from semibody.training.stages.denoise import MotionStage, StillStage
from semibody.types import Speech


def make(folder: Path, recipe: Recipe, clips: int, frames: int) -> None:
    """A few real clips and latents in shards."""
    data, sizes = recipe.data, recipe.model
    place = folder / data.packing.key
    side, rng = data.size // sizes.vae.factor, np.random.default_rng(0)
    ear = build_audio_encoder(sizes.audio)

    def hear(speech: Speech) -> Any:
        if sizes.audio.kind == "logmel":
            import torch

            return ear.rows(torch.from_numpy(speech.waveform)).numpy().astype(np.float16)
        rows = round(len(speech.waveform) / speech.rate * 50)
        shape = (5, 384) if sizes.audio.kind == "whisper" else (12, 768)
        return rng.standard_normal((rows, *shape)).astype(np.float16)

    for number in range(clips):
        pictures, gesture, speech, truth = draw_clip(0, number, frames, data.size, data.fps)
        grain = rng.normal(0, 3, pictures.shape[1:])
        noisy = (pictures + grain).clip(0, 255).astype(np.uint8)
        pack_clip(
            place, f"made{number}", noisy, gesture, speech, truth, person=f"p{number}", kind="full",
            split="train", packing=data.packing, source="made",
        )  # fmt: skip
    store = LatentStore(folder / "latents")
    shape = (frames, sizes.vae.latent_channels, side, side)
    store.fill(clips_in(place), lambda _: rng.standard_normal(shape).astype(np.float16), hear)
    gather(place, CLIP)
    gather(folder / "latents", LATENTS)


def repeat_index(place: Path, clips: int) -> None:
    """Write an index of so many clips over the members that are there."""
    index = next(place.glob(f"*{INDEX}"))
    lines = [json.loads(line) for line in index.read_text(encoding="utf-8").splitlines()]
    made = []
    for number in range(clips):
        line = lines[number % len(lines)]
        stem, _, ending = line["name"].partition(".")
        name = f"{stem}-{number:06d}"
        facts = {**line["facts"], "id": name, "person": f"p{number // 2}"} if line["facts"] else {}
        made.append(json.dumps({**line, "name": f"{name}.{ending}", "facts": facts}))
    index.write_text("\n".join(made) + "\n", encoding="utf-8")


def drawn_frames(samples: DenoisingSamples, numbers: Sequence[int], workers: int) -> tuple[float, float]:
    """Seconds by the clock and of the processor that these samples take."""
    started, spent = time.monotonic(), time.process_time()
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(lambda number: samples.sample(samples.drawing.steps - 1, number), numbers):
            pass
    return time.monotonic() - started, time.process_time() - spent


def step_seconds(recipe: Recipe, stage: str) -> float:
    """As ``train --plan`` counts."""
    from semibody.training.estimate import estimate_stage

    found = estimate_stage(recipe, stage)
    assert found is not None
    return found.tflop / (recipe.run.gpus * recipe.run.gpu_tflops)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", nargs="?", default="official")
    parser.add_argument("--clips", type=int, default=100_000)
    parser.add_argument("--made", type=int, default=8, help="clips that are really made")
    parser.add_argument("--frames", type=int, default=72, help="of a clip")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--step-seconds", type=float, help="of a step; default: as train --plan counts")
    parser.add_argument("--set", dest="changes", action="append", default=[])
    asked = parser.parse_args()
    recipe = load_recipe(asked.recipe, asked.changes)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, recipe, asked.made, asked.frames)
        place = folder / recipe.data.packing.key
        sizes = [sum(p.stat().st_size for p in where.glob("*.tar")) for where in (place, folder / "latents")]
        frames = asked.made * asked.frames
        repeat_index(place, asked.clips)
        repeat_index(folder / "latents", asked.clips)
        started = time.process_time()
        clips: list[PackedClip] = clips_in(place)
        store = LatentStore(folder / "latents")
        print(
            json.dumps(
                {
                    "recipe": recipe.name,
                    "clips": len(clips),
                    "index, CPU s": round(time.process_time() - started, 2),
                    "bytes a frame": round(sizes[0] / frames),
                    "latents and audio, bytes a frame": round(sizes[1] / frames),
                }
            )
        )
        ear = build_audio_encoder(recipe.model.audio)
        for stage in ("still", "motion"):
            if stage not in recipe.stages:
                continue
            kind = STAGES[stage]
            assert issubclass(kind, StillStage | MotionStage)
            samples = DenoisingSamples(recipe, kind.drawing(recipe), recipe.model, clips, store, ear)
            seconds = asked.step_seconds or step_seconds(recipe, stage)
            # Each GPU's process reads its own share of a step's samples.
            batch = getattr(recipe, stage).optimiser.batch / recipe.run.gpus
            consumed = batch * samples.window / seconds
            for workers in asked.workers:
                drawn_frames(samples, range(4), workers)
                clock, spent = drawn_frames(samples, range(10, 10 + asked.samples), workers)
                rate = asked.samples * samples.window / clock
                print(
                    json.dumps(
                        {
                            "stage": stage,
                            "workers": workers,
                            "frames a second": round(rate, 1),
                            "CPU s a sample": round(spent / asked.samples, 4),
                            "a step, s": round(seconds, 3),
                            "a step consumes, frames a second": round(consumed, 1),
                            "times faster": round(rate / consumed, 1),
                        }
                    )
                )


if __name__ == "__main__":
    main()
