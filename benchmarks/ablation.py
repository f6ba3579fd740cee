"""Train without one idea at a time, same budget and seeds, and measure; a JSON line each, then a table.

    python benchmarks/ablation.py --out DIR                                  # drawn people, tiny networks
    python benchmarks/ablation.py --out DIR --packed CLIPS                   # rendered people, tiny networks
    python benchmarks/ablation.py --out DIR --recipe R --packed CLIPS        # one's own recipe and clips

CLIPS are packed clips (``semibody data people``); measured is on everybody who is not in the split ``train``.
What does not depend on the ideas (autoencoder, keypoint network, audio encoder) is trained once, in
``DIR/base``; the denoising stage is trained for every variant and seed. Run it again to continue.

Hands and lips are measured by a keypoint network of another seed than the one of L_pose, so that no
variant is measured by the network that it was trained with. The second table is the difference of the full
method to each variant of the same seed, with its 95 % interval over the seeds (Student's t).
"""

import argparse
import json
import statistics
from pathlib import Path

from causality import causality, load_keypoint_meter

from semibody.animator import Animator
from semibody.training.curriculum import BLOCKS
from semibody.training.drawn import make_drawn_clips
from semibody.training.recipe import Recipe, load_recipe
from semibody.training.trainer import Training, split, train

VARIANTS: dict[str, tuple[str, ...]] = {
    "full": (),
    "without L_pose": ("loss.pose=0",),
    "without L_detail": ("loss.detail=0",),
    "without L_low": ("loss.low=0",),
    "without APDH": tuple(f"curriculum.{b}=0" for b in BLOCKS if b != "body"),
    "without HPA": ("curriculum.partial_attention=false",),
    "without head clips": ("curriculum.head_share=0",),
}
SHOWN = ("psnr", "hands_own", "hands_new", "mouth_own", "mouth_new", "sharpness", "person_new")
SMALL = (
    "model.audio.mouth_token=true", "model.unet.audio_time_tokens=5", "keypoints.optimiser.steps=600",
    "audio.optimiser.steps=300", "loss.lips=20", "curriculum.head_share=0.3",
)  # fmt: skip
"""What ``tiny`` lacks: a pretrained audio encoder, and a keypoint network for the measurement."""
PEOPLE, HEADS, HELD_OUT, FRAMES = 60, 20, 10, 48
BASE = ("vae", "keypoints", "audio")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipe", default="tiny")
    parser.add_argument("--packed", type=Path, help="packed clips (default: people are drawn)")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--clips", type=int, default=HELD_OUT)
    parser.add_argument("--only", action="append", choices=VARIANTS, help="variants (default: all)")
    parser.add_argument("--set", dest="changes", action="append", default=[])
    asked = parser.parse_args()
    changes = [*(SMALL if asked.recipe == "tiny" else ()), *asked.changes]
    packed, meter_run = asked.packed or asked.out / "packed", asked.out / "judge"
    recipe = load_recipe(asked.recipe, [*changes, stages(*BASE)])
    if asked.packed is None:
        make_drawn_clips(packed, recipe, people=PEOPLE, frames=FRAMES, heads=HEADS, held_out=HELD_OUT)
    train(recipe, asked.out / "base", packed=packed, resume=True)
    another = load_recipe(asked.recipe, [*changes, stages("keypoints"), "seed=1000"])
    train(another, meter_run, packed=packed, resume=True)
    block = max(1, asked.steps // len(BLOCKS))
    schedule = [f"curriculum.{b}={block}" for b in BLOCKS]
    rows: dict[str, list[dict[str, float]]] = {}
    for seed in asked.seeds:
        for name in asked.only or VARIANTS:
            one = load_recipe(
                asked.recipe,
                [*changes, *schedule, *VARIANTS[name], stages(*BASE, "still"), f"seed={seed}",
                 f"still.optimiser.steps={asked.steps}", "run.validate_every=0"],
            )  # fmt: skip
            figures = measure(one, asked.out, name, packed, meter_run, asked.clips)
            rows.setdefault(name, []).append(figures)
            rounded = {key: round(value, 4) for key, value in figures.items()}
            print(json.dumps({"variant": name, "seed": seed, **rounded}), flush=True)
    print_table(rows)


def stages(*names: str) -> str:
    return f"stages={json.dumps(names)}"


def measure(
    recipe: Recipe, out: Path, name: str, packed: Path, meter_run: Path, clips: int
) -> dict[str, float]:
    """Train one variant with one seed, unless it is there, and measure what follows its inputs."""
    run = out / f"{name.replace(' ', '-')}-{recipe.seed}"
    kept = run / "figures.json"
    if kept.exists():
        return dict(json.loads(kept.read_text(encoding="utf-8")))
    run.mkdir(parents=True, exist_ok=True)
    # Finished stages and their latents are taken from the base.
    for part in [out / "base" / stage for stage in BASE] + list((out / "base").glob("latents-*")):
        if not (run / part.name).exists():
            (run / part.name).symlink_to(part.resolve())
    train(recipe, run, packed=packed, resume=True)
    if not list((out / "base").glob("latents-*")):
        for latents in run.glob("latents-*"):
            latents.rename(out / "base" / latents.name)
    clips_there = Training(recipe, run).packed(packed)
    held_out = [c for c in clips_there if c.split != "train" and c.kind == "full"] or split(clips_there)[1]
    meter = load_keypoint_meter(meter_run, recipe)
    figures = causality(Animator.load(run / "weights"), meter, held_out[:clips], length=FRAMES)
    kept.write_text(json.dumps(figures), encoding="utf-8")
    return figures


def print_table(rows: dict[str, list[dict[str, float]]]) -> None:
    print("| variant | " + " | ".join(SHOWN) + " |\n|---" + "|---" * len(SHOWN) + "|")
    for name, runs in rows.items():
        cells = []
        for key in SHOWN:
            values = [run[key] for run in runs if key in run]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{statistics.mean(values):.3f} ± {spread:.3f}" if values else "–")
        print(f"| {name} | " + " | ".join(cells) + " |")
    print_differences(rows)


def print_differences(rows: dict[str, list[dict[str, float]]]) -> None:
    """What each idea adds: the full method less a variant, paired by seed, with its 95 % interval."""
    from scipy import stats

    print("\n| full less | " + " | ".join(SHOWN) + " |\n|---" + "|---" * len(SHOWN) + "|")
    for name, runs in rows.items():
        cells = []
        for key in SHOWN:
            pairs = zip(rows.get("full", []), runs, strict=False)
            gains = [a[key] - b[key] for a, b in pairs if key in a and key in b]
            if name == "full" or len(gains) < 2:
                continue
            half = stats.t.ppf(0.975, len(gains) - 1) * stats.sem(gains)
            cells.append(f"{statistics.mean(gains):+.3f} ± {half:.3f}")
        if cells:
            print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
