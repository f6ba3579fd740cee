"""Train a small model further in so many minutes: render people, train stage after stage, write its weights.

    python tools/train_in_minutes.py OUT --minutes 9 --assets MAKEHUMAN    # the starter, on a GPU
    python tools/train_in_minutes.py OUT --minutes 2 --toy                 # the same in small, on any CPU

People are rendered by all cores for the first part of the time (EGL: on the GPU where there is one), into
``OUT/packed``. Every stage then has its share of what is left: it trains for a fourth of it to see how fast
it is, and gets as many steps as fit, so that its learning rate falls to the end. It starts from the weights
named by ``--start``; with ``--start ''`` from nothing, autoencoder and audio encoder included. The same call
continues a stopped one. ``OUT/weights`` holds the result in bf16, ``OUT/minutes.json`` what was done when.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from semibody.cli.progress import progress_bar
from semibody.data.crowd import pack_crowd
from semibody.data.synthetic.order import Order
from semibody.files import atomic_write, read_json
from semibody.networks.loading import convert
from semibody.processes import Workers
from semibody.runtime import choose_device
from semibody.training.checkpoint import STATE, checkpoints
from semibody.training.recipe import load_recipe
from semibody.training.trainer import Training, train

SHARES = {
    "vae": 0.2, "keypoints": 0.05, "audio": 0.05, "plate": 0.15, "still": 0.4, "restore": 0.35,
}  # fmt: skip
"""Relative shares of the time for training, by stage."""
GPU_BATCHES = {"vae": 96, "keypoints": 64, "audio": 256, "plate": 64, "still": 64, "restore": 24}
_LOOK = 0.25
"""Share of a stage's time after which its speed is read."""
_ROOM = 0.92
"""Share of the time left that its steps are to fill: validation and the last checkpoint take the rest."""


@dataclass(frozen=True)
class Budget:
    """When rendering ends and when each stage does, in seconds since the beginning."""

    render: float
    stages: dict[str, float]

    @classmethod
    def of(cls, minutes: float, stages: tuple[str, ...], render: float) -> Budget:
        """``render``: share of the minutes for rendering."""
        total, shares = sum(SHARES[name] for name in stages), 0.0
        ends = {}
        for name in stages:
            shares += SHARES[name] / total
            ends[name] = 60 * minutes * (render + (1 - render) * shares)
        return cls(60 * minutes * render, ends)


def main() -> None:
    asked = _arguments()
    begun = time.monotonic()
    recipe_name, changes, order = _toy() if asked.toy else _starter(asked)
    stages = tuple(asked.stages.split(",")) if asked.stages else _stages(asked)
    budget = Budget.of(asked.minutes, stages, asked.render_share)
    packed, done = asked.out / "packed", {}
    changes += [f"stages={json.dumps(stages)}"] + ([f"start.weights={asked.start}"] if asked.start else [])
    with progress_bar() as progress:
        made = pack_crowd(
            packed,
            asked.assets,
            order,
            where=Workers(workers=asked.workers),
            minutes=budget.render / 60,
            progress=progress,
        )
        done["render"] = {"people": made, "seconds": round(time.monotonic() - begun, 1)}
        for name, end in budget.stages.items():
            done[name] = _train_stage(name, recipe_name, changes, asked, begun + end)
            _note(asked.out, done)
    convert(asked.out / "run" / "weights", asked.out / "weights", dtype=torch.bfloat16)
    print(
        f"{asked.out / 'weights'}: weights; use them with: semibody animate … --weights {asked.out}/weights"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--assets", help="MakeHuman data folder")
    parser.add_argument("--start", default="starter", help="weights to start from")
    parser.add_argument("--stages", help="separated by commas; default: all that follow the autoencoder")
    parser.add_argument("--render-share", type=float, default=0.3, help="of the minutes")
    parser.add_argument("--workers", type=int, default=0, help="processes that render; 0: one a core")
    parser.add_argument("--seed", type=int, default=811, help="other people")
    parser.add_argument("--set", dest="changes", action="append", default=[], help="a setting of the recipe")
    parser.add_argument("--toy", action="store_true", help="small pictures and networks, from nothing")
    asked = parser.parse_args()
    if asked.toy:
        asked.start = ""
    return asked


def _stages(asked: argparse.Namespace) -> tuple[str, ...]:
    if asked.toy:
        return ("vae", "keypoints", "still")
    later = ("keypoints", "plate", "still", "restore")
    return later if asked.start else ("vae", "keypoints", "audio", *later[1:])


def _toy() -> tuple[str, list[str], Order]:
    changes = ["data.size=64", "data.fps=4", "run.tensorboard=false", "vae.crop=32", "keypoints.crop=48"]
    return "tiny", changes, Order(people=6, clips=1, seconds=1.5, fps=4.0, size=64)


def _starter(asked: argparse.Namespace) -> tuple[str, list[str], Order]:
    changes = ["data.fps=4", "data.gap=5"]
    if choose_device("auto").type == "cuda":
        changes += [f"{name}.optimiser.batch={batch}" for name, batch in GPU_BATCHES.items()]
        changes += ["run.precision=bf16", "data.workers=12", "data.prefetch=16"]
    order = Order(
        people=100_000, clips=1, seconds=6.0, fps=4.0, seed=asked.seed, head_share=0.12, sway=0.12,
        articulation=1.8, photographed=0.6,
    )  # fmt: skip
    return "starter", [*changes, *asked.changes], order


def _train_stage(
    name: str, recipe_name: str, changes: list[str], asked: argparse.Namespace, end: float
) -> dict[str, float]:
    """Train one stage until about ``end`` (of ``time.monotonic``)."""
    out, packed, begun = asked.out / "run", asked.out / "packed", time.monotonic()

    def until(moment: float, steps: int) -> bool:
        recipe = load_recipe(recipe_name, [*changes, f"{name}.optimiser.steps={steps}"])
        minutes = max(0.0, moment - time.monotonic()) / 60
        with progress_bar() as progress:
            train(recipe, out, packed=packed, resume=True, max_minutes=minutes, progress=progress)
        return Training(recipe, out).final(name) is not None

    if not until(begun + _LOOK * (end - begun), 10**6):
        steps, seconds = _trained(out, name)
        left = _ROOM * (end - time.monotonic())
        if not until(end, max(steps + 1, int(steps + left * steps / max(seconds, 1e-3)))):
            until(end, _trained(out, name)[0] + 1)
    steps, seconds = _trained(out, name)
    return {"steps": steps, "training": round(seconds, 1), "seconds": round(time.monotonic() - begun, 1)}


def _trained(out: Path, name: str) -> tuple[int, float]:
    """(steps, seconds of training) of a stage, from its newest checkpoint or its end."""
    newest = checkpoints(out / name)
    if not newest:
        return 0, 0.0
    facts = read_json(newest[-1] / STATE, "delete the training")
    return int(facts["step"]), float(facts["seconds"])


def _note(out: Path, done: dict[str, dict[str, float]]) -> None:
    with atomic_write(out / "minutes.json") as unfinished:
        unfinished.write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
