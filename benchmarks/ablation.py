"""Train without one idea at a time, same budget and seeds, and measure; a JSON line each, then a table.

    python benchmarks/ablation.py tiny --from RUN --out DIR --steps 600 --seeds 3

RUN is a training folder with a finished autoencoder and keypoint network and its packed clips; the
denoising stage is trained anew for every variant and seed. Stopped runs go on when called again.
"""

import argparse
import json
import statistics
from pathlib import Path

from causality import load_judge

from semibody.animator import Animator
from semibody.training.measures import causality
from semibody.training.recipe import load_recipe
from semibody.training.trainer import Training, split, train

VARIANTS: dict[str, tuple[str, ...]] = {
    "full": (),
    "without L_pose": ("loss.pose=0",),
    "without L_detail": ("loss.detail=0",),
    "without L_low": ("loss.low=0",),
    "without APDH": tuple(f"curriculum.{b}=0" for b in ("initial", "iterative", "lips", "head", "mixed")),
    "without HPA": ("curriculum.partial_attention=false",),
}
SHOWN = ("hands_own", "hands_new", "mouth_own", "mouth_new", "sharpness", "person_new")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe")
    parser.add_argument("--from", dest="source", type=Path, required=True)
    parser.add_argument("--packed", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--only", action="append", choices=VARIANTS, help="variants (default: all)")
    parser.add_argument("--set", dest="changes", action="append", default=[])
    asked = parser.parse_args()
    packed = asked.packed or asked.source / "packed"
    block = max(1, asked.steps // 6)
    schedule = [f"curriculum.{b}={block}" for b in ("initial", "iterative", "lips", "head", "body", "mixed")]
    rows: dict[str, list[dict[str, float]]] = {}
    for name, changes in VARIANTS.items():
        if asked.only and name not in asked.only:
            continue
        for seed in range(asked.seeds):
            out = asked.out / f"{name.replace(' ', '-')}-{seed}"
            recipe = load_recipe(
                asked.recipe,
                [
                    *asked.changes, *schedule, *changes, f"seed={seed}", 'stages=["vae","keypoints","still"]',
                    f"still.optimiser.steps={asked.steps}", "run.validate_every=0",
                ],
            )  # fmt: skip
            out.mkdir(parents=True, exist_ok=True)
            for stage in ("vae", "keypoints"):
                if not (out / stage).exists():
                    (out / stage).symlink_to((asked.source / stage).resolve())
            train(recipe, out, packed=packed, resume=True)
            _, held_out = split(Training(recipe, out).pack(None, packed, lambda *_: None))
            figures = causality(
                Animator.load(out / "weights"), load_judge(out, recipe), held_out[: asked.clips]
            )
            rows.setdefault(name, []).append(figures)
            print(json.dumps({"variant": name, "seed": seed, **{k: round(v, 4) for k, v in figures.items()}}))
    print_table(rows)


def print_table(rows: dict[str, list[dict[str, float]]]) -> None:
    print("| variant | " + " | ".join(SHOWN) + " |\n|---" + "|---" * len(SHOWN) + "|")
    for name, runs in rows.items():
        cells = []
        for key in SHOWN:
            values = [run[key] for run in runs if key in run]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{statistics.mean(values):.3f} ± {spread:.3f}" if values else "–")
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
