"""Pages and plots: the plan of a recipe, the report of a training."""

from __future__ import annotations

import contextlib
import html
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semibody.files import LARGEST_TEXT, atomic_write, parse_json, read_bytes, require_name
from semibody.training import sources
from semibody.training.curriculum import AUDIO_REGION, CurriculumStep, at
from semibody.training.losses import phase_of
from semibody.training.recipe import Recipe
from semibody.training.stages import STAGES
from semibody.training.stages.denoise import MotionStage, StillStage
from semibody.types import MissingPartError, SemibodyError

Figures = dict[str, tuple[list[int], list[float]]]
"""figure -> (steps, values)"""
Curves = dict[str, Figures]
"""stage -> its figures"""


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
    lines = [line for name in recipe.stages for line in STAGES[name].plan(recipe)]
    lines.append(
        (
            "loss",
            f"pose from t={recipe.loss.pose_from}, detail from t={recipe.loss.detail_from}, quality below",
        )
    )
    return lines


def start_lines(recipe: Recipe) -> list[tuple[str, str]]:
    """What the networks will take from public weights, or what to fetch first."""
    try:
        return [("start", one.line()) for one in sources.check(recipe.model, recipe.start)]
    except SemibodyError as error:
        return [("start", str(error))]


def plot_plan(recipe: Recipe, path: Path) -> None:
    """Draw every probability, mask and frozen set over the steps, and the loss over the timesteps."""
    plt = require_pyplot()
    stills, clips = (
        stage.settings_in(recipe).optimiser.steps if stage.name in recipe.stages else 0
        for stage in (StillStage, MotionStage)
    )
    steps = np.unique(np.linspace(0, max(0, stills - 1), 2000).astype(int))
    decided = [at(recipe.curriculum, int(step)) for step in steps]
    figure, axes = plt.subplots(5, 1, figsize=(11, 12), height_ratios=(3, 2, 2, 3, 2))
    figure.suptitle(f"{recipe.name}: {stills:,} steps of stills, {clips:,} of clips")
    _plot_curriculum(axes[:3], steps, decided)
    _plot_trained(axes[3], steps, decided, stills, clips)
    _plot_phases(axes[4], recipe)
    for axis in axes[:3]:
        axis.set_xlim(0, max(1, stills + clips))
        axis.axvspan(stills, stills + clips, color="0.9")
    for axis in (axes[0], axes[2]):
        axis.legend(loc="center right")
    figure.tight_layout()
    with atomic_write(path) as unfinished:
        figure.savefig(unfinished, dpi=100)
    plt.close(figure)


def _plot_curriculum(axes: Any, steps: NDArray[np.int64], decided: Sequence[CurriculumStep]) -> None:
    """Which keypoints are drawn, where audio attention writes, how many samples are heads."""
    for group in ("lips", "head", "body", "hands"):
        axes[0].plot(steps, [one.keep[group] for one in decided], label=f"{group} drawn", lw=2)
    axes[0].plot(steps, [one.pose_dropout for one in decided], "k--", label="whole map dropped")
    axes[0].set(ylabel="probability", ylim=(-0.05, 1.1), title="keypoints drawn")
    regions = ("none", "lips", "face", "body")
    axes[1].step(steps, [regions.index(one.region) for one in decided], where="post", color="tab:red", lw=2)
    axes[1].set_yticks(range(4), ["muted", "lips", "face", "everywhere"])
    axes[1].set(title="where audio attention writes")
    axes[2].plot(steps, [one.head_share for one in decided], color="tab:purple", label="padded heads")
    axes[2].set(ylabel="share", ylim=(-0.05, 1.05), title="data mix")


def _plot_trained(
    axis: Any, steps: NDArray[np.int64], decided: Sequence[CurriculumStep], stills: int, clips: int
) -> None:
    """Which networks are trained in the two stages that denoise."""
    rows = ["motion modules", "audio", "pose encoder", "denoising U-Net", "reference U-Net"]
    muted = [AUDIO_REGION[one.block] == "none" for one in decided]
    unmuted = next((float(s) for s, mute in zip(steps, muted, strict=True) if not mute), float(stills))
    for row in range(2, 5):
        axis.barh(row, stills, color="tab:green")
    axis.barh(1, stills - unmuted, left=unmuted, color="tab:green")
    axis.barh(0, clips, left=stills, color="tab:green")
    axis.set_yticks(range(5), rows)
    total = max(1, stills + clips)
    axis.set(title="trained (green) and frozen networks", xlabel="step", xlim=(0, total))


def _plot_phases(axis: Any, recipe: Recipe) -> None:
    """The weights of the phase-specific terms over the timesteps."""
    names = {"pose": recipe.loss.pose, "detail": recipe.loss.detail, "quality": recipe.loss.low}
    t = np.arange(recipe.schedule.train_steps)
    for name, weight in names.items():
        inside = np.array([phase_of(int(x), recipe.loss) == name for x in t])
        axis.fill_between(t, 0, weight * inside, step="mid", label=f"{name} {weight:g}", alpha=0.6)
    axis.set(xlabel="timestep (right: noise)", ylabel="weight", title="phase-specific loss")
    axis.legend(loc="upper left")


# -- the report -------------------------------------------------------------------------------


def read_log(out: Path) -> Curves:
    """Every figure of ``log.jsonl``; a step that was logged twice (after a resume) counts once.

    Lines that are no entry of a log are left out, as is the one that a killed process was writing.
    """
    found: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    path = out / "log.jsonl"
    if path.is_file():
        content = read_bytes(path, "name the folder of a training", LARGEST_TEXT)
        for line in content.decode(errors="replace").split("\n"):
            with contextlib.suppress(SemibodyError):
                stage, step, figures = _read_entry(line)
                for name, value in figures.items():
                    found[stage][_OLD_NAMES.get(name, name)][step] = value
    return {
        stage: {name: (sorted(v), [v[s] for s in sorted(v)]) for name, v in figures.items()}
        for stage, figures in found.items()
    }


def _read_entry(line: str) -> tuple[str, int, dict[str, float]]:
    """Stage, step and figures of a line. Raises SemibodyError for what is no entry."""
    entry = parse_json(line, "log.jsonl", "it is left out")
    stage, step = (entry.pop(key, None) for key in ("stage", "step")) if isinstance(entry, dict) else (0, 0)
    if not isinstance(stage, str) or type(step) is not int or not 0 <= step < 2**53:
        raise SemibodyError("log.jsonl: holds a line without stage and step; it is left out")
    require_name(stage, "log.jsonl")  # its curves are a file of that name
    figures = {name: value for name, value in entry.items() if type(value) in (int, float)}
    return stage, step, {name: float(value) for name, value in figures.items() if abs(value) < 1e300}


def write_report(out: Path, recipe: Recipe) -> Path:
    """``report.html``: curves, last figures and last pictures of every stage."""
    title = html.escape(recipe.name)
    sections = [f"<h1>{title}</h1><p>{html.escape(recipe.about)}</p>"]
    for stage, figures in read_log(out).items():
        picture = out / "pictures" / f"{stage}-curves.png"
        _plot_figures(figures, picture)
        sections.append(f"<h2>{html.escape(stage)}</h2>")
        sections.append(f'<img src="pictures/{picture.name}">')
        rows = "".join(
            f"<tr><td>{html.escape(n)}</td><td>{v[1][-1]:.4g}</td><td>{v[0][-1]}</td></tr>"
            for n, v in sorted(figures.items())
        )
        sections.append(f"<table><tr><th>figure</th><th>last</th><th>step</th></tr>{rows}</table>")
        if (out / "pictures" / f"{stage}-latest.png").exists():
            columns = STAGES[stage].columns if stage in STAGES else ""
            sections.append(f'<p>{columns}</p><img src="pictures/{stage}-latest.png">')
    page = f"<!doctype html><meta charset=utf-8><title>{title}</title><style>{_STYLE}</style>"
    with atomic_write(out / "report.html") as unfinished:
        unfinished.write_text(page + "\n".join(sections), encoding="utf-8")
    return out / "report.html"


def _plot_figures(figures: Figures, picture: Path) -> None:
    """A stage's losses, and its figures of held-out clips, over the steps."""
    plt = require_pyplot()
    losses = [n for n in figures if not n.startswith("val/") and n not in _NOT_LOSSES]
    validated = [n for n in figures if n.startswith("val/")]
    figure, axes = plt.subplots(1, 2, figsize=(12, 4))
    for axis, names, title in ((axes[0], losses, "training"), (axes[1], validated, "held out")):
        for name in names:
            axis.plot(*figures[name], label=name.removeprefix("val/"))
        axis.set(title=title, xlabel="step")
        if names:
            axis.legend(fontsize=7)
    if "loss" in figures and all(v > 0 for v in figures["loss"][1]):
        axes[0].set_yscale("log")
    figure.tight_layout()
    with atomic_write(picture) as unfinished:
        figure.savefig(unfinished, dpi=90)
    plt.close(figure)


_STYLE = "body{font:15px sans-serif;margin:2em}img{max-width:100%}td,th{padding:0 1em;text-align:left}"
_OLD_NAMES = {"rival": "adversarial"}
"""Figures in logs of earlier versions -> their names today."""
_NOT_LOSSES = {"lr", "frames_per_second", "waited", "peak_share", "minutes", "gradient"}
