"""Pages and plots: the plan of a recipe, the report of a training."""

from __future__ import annotations

import html
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from semibody.media import atomic_write
from semibody.training.curriculum import AUDIO_REGION, BLOCKS, Curriculum, at
from semibody.training.losses import phase_of
from semibody.training.recipe import Recipe
from semibody.types import MissingPartError

Curves = dict[str, dict[str, tuple[list[int], list[float]]]]
"""stage -> figure -> (steps, values)"""


def require_pyplot() -> Any:
    """matplotlib's pyplot, drawing into files. Raises MissingPartError without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        raise MissingPartError("plots need matplotlib; pip install 'semibody[train]'") from None
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


# -- the plan ---------------------------------------------------------------------------------


def plan_lines(recipe: Recipe) -> list[tuple[str, str]]:
    """The schedule of a recipe in words: one line per stage and block."""
    lines: list[tuple[str, str]] = []
    for stage in recipe.stages:
        o = recipe.optimiser(stage)
        lines.append((stage, f"{o.steps:,} steps of {o.batch} samples, lr {o.lr:g}"))
        if stage == "still":
            lines += [(f"  {name}", text) for name, text in _blocks(recipe.curriculum, o.steps)]
    lines.append(
        (
            "loss",
            f"pose from t={recipe.loss.pose_from}, detail from t={recipe.loss.detail_from}, quality below",
        )
    )
    return lines


def _blocks(curriculum: Curriculum, steps: int) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    start = 0
    for block, length in zip(BLOCKS, curriculum.lengths, strict=True):
        if length and start < steps:
            last = start + length == sum(curriculum.lengths)
            end = steps if last else min(steps, start + length)
            middle = at(curriculum, start + length // 2)
            drawn = [g for g, p in middle.keep.items() if p > 0]
            audio = {"none": "muted", "body": "everywhere"}.get(AUDIO_REGION[block], AUDIO_REGION[block])
            found.append((block, f"{start:,} … {end:,}: draws {', '.join(drawn)}; audio {audio}"))
        start += length
    return found


def plot_plan(recipe: Recipe, path: Path) -> None:
    """Draw every probability, mask and frozen set over the steps, and the loss over the timesteps."""
    plt = require_pyplot()
    stills = recipe.still.optimiser.steps if "still" in recipe.stages else 0
    clips = recipe.motion.optimiser.steps if "motion" in recipe.stages else 0
    total = max(1, stills + clips)
    steps = np.unique(np.linspace(0, max(0, stills - 1), 2000).astype(int))
    moments = [at(recipe.curriculum, int(step)) for step in steps]
    figure, axes = plt.subplots(5, 1, figsize=(11, 12), height_ratios=(3, 2, 2, 3, 2))
    figure.suptitle(f"{recipe.name}: {stills:,} steps of stills, {clips:,} of clips")

    for group in ("lips", "head", "body", "hands"):
        axes[0].plot(steps, [m.keep[group] for m in moments], label=f"{group} drawn", lw=2)
    axes[0].plot(steps, [m.pose_dropout for m in moments], "k--", label="whole map dropped")
    axes[0].set(ylabel="probability", ylim=(-0.05, 1.1), title="pose steps back")
    regions = ("none", "lips", "face", "body")
    axes[1].step(steps, [regions.index(m.region) for m in moments], where="post", color="tab:red", lw=2)
    axes[1].set_yticks(range(4), ["muted", "lips", "face", "everywhere"])
    axes[1].set(title="audio steps forward: where its attention writes")
    axes[2].plot(steps, [m.head_share for m in moments], color="tab:purple", label="padded heads")
    axes[2].set(ylabel="share", ylim=(-0.05, 1.05), title="data mix")

    rows = ["motion modules", "audio", "pose encoder", "denoising U-Net", "reference U-Net"]
    muted = [(float(s), AUDIO_REGION[m.block] == "none") for s, m in zip(steps, moments, strict=True)]
    change = next((s for s, quiet in muted if not quiet), float(stills))
    for row in range(2, 5):
        axes[3].barh(row, stills, color="tab:green")
    axes[3].barh(1, stills - change, left=change, color="tab:green")
    axes[3].barh(0, clips, left=stills, color="tab:green")
    axes[3].set_yticks(range(5), rows)
    axes[3].set(title="what trains (green), what rests", xlabel="step", xlim=(0, total))
    for axis in axes[:3]:
        axis.set_xlim(0, total)
        axis.axvspan(stills, total, color="0.9")
    for axis in (axes[0], axes[2]):
        axis.legend(loc="center right")

    names = {"pose": recipe.loss.pose, "detail": recipe.loss.detail, "quality": recipe.loss.low}
    t = np.arange(recipe.schedule.train_steps)
    for name, weight in names.items():
        inside = np.array([phase_of(int(x), recipe.loss) == name for x in t])
        axes[4].fill_between(t, 0, weight * inside, step="mid", label=f"{name} {weight:g}", alpha=0.6)
    axes[4].set(xlabel="timestep (right: noise)", ylabel="weight", title="phase-specific loss")
    axes[4].legend(loc="upper left")
    figure.tight_layout()
    with atomic_write(path) as unfinished:
        figure.savefig(unfinished, dpi=100)
    plt.close(figure)


# -- the report -------------------------------------------------------------------------------


def read_log(out: Path) -> Curves:
    """Every figure of ``log.jsonl``; a step that was logged twice (after a resume) counts once."""
    found: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    path = out / "log.jsonl"
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # the line a killed process was writing
            stage, step = entry.pop("stage"), entry.pop("step")
            for name, value in entry.items():
                found[stage][name][step] = value
    return {
        stage: {name: (sorted(v), [v[s] for s in sorted(v)]) for name, v in figures.items()}
        for stage, figures in found.items()
    }


def write_report(out: Path, recipe: Recipe) -> Path:
    """``report.html``: curves, last figures and last pictures of every stage."""
    plt = require_pyplot()
    curves = read_log(out)
    parts = [f"<h1>{html.escape(recipe.name)}</h1><p>{html.escape(recipe.about)}</p>"]
    for stage, figures in curves.items():
        parts.append(f"<h2>{html.escape(stage)}</h2>")
        losses = [n for n in figures if not n.startswith("val/") and n not in _NOT_LOSSES]
        validated = [n for n in figures if n.startswith("val/")]
        figure, axes = plt.subplots(1, 2, figsize=(12, 4))
        for axis, names, title in ((axes[0], losses, "training"), (axes[1], validated, "held out")):
            for name in names:
                axis.plot(*figures[name], label=name.removeprefix("val/"))
            axis.set(title=title, xlabel="step")
            if names:
                axis.legend(fontsize=7)
        if losses and all(v > 0 for v in figures["loss"][1]):
            axes[0].set_yscale("log")
        figure.tight_layout()
        picture = out / "pictures" / f"{stage}-curves.png"
        with atomic_write(picture) as unfinished:
            figure.savefig(unfinished, dpi=90)
        plt.close(figure)
        parts.append(f'<img src="pictures/{picture.name}">')
        rows = "".join(
            f"<tr><td>{html.escape(n)}</td><td>{v[1][-1]:.4g}</td><td>{v[0][-1]}</td></tr>"
            for n, v in sorted(figures.items())
        )
        parts.append(f"<table><tr><th>figure</th><th>last</th><th>step</th></tr>{rows}</table>")
        if (out / "pictures" / f"{stage}-latest.png").exists():
            parts.append(f'<p>{_COLUMNS.get(stage, "")}</p><img src="pictures/{stage}-latest.png">')
    page = (
        f"<!doctype html><meta charset=utf-8><title>{html.escape(recipe.name)}</title><style>{_STYLE}</style>"
    )
    with atomic_write(out / "report.html") as unfinished:
        unfinished.write_text(page + "\n".join(parts), encoding="utf-8")
    return out / "report.html"


_STYLE = "body{font:15px sans-serif;margin:2em}img{max-width:100%}td,th{padding:0 1em;text-align:left}"
_NOT_LOSSES = {"lr", "frames_per_second", "waited", "peak_share", "minutes", "gradient"}
_COLUMNS = {
    "vae": "truth | autoencoder",
    "still": "portrait | pose | generated | truth (held-out people)",
    "motion": "portrait | pose | generated | truth (held-out people)",
    "plate": "portrait | colours around the arms | clean plate | truth (held-out people)",
    "restore": "portrait | generated | restored | truth (held-out people)",
}
