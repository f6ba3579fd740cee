"""The card of a trained model: its data, training and measured results. All numbers are read from files.

    write_card(run, weights=weights, out=weights / "MODEL_CARD.md", packed=packed, bench=results,
               pictures=Path("docs/starter"))

``run``      a training folder: ``recipe.json`` and ``log.jsonl`` give the budget and the curves
``weights``  the weights folder: ``semibody.json`` and the sizes of its files
``packed``   the clips it was trained on, counted
``bench``    ``results.json`` of ``semibody bench-quality``, with the clips beside it
``notes``    observations on its pictures, written by hand: Markdown for the section "Limits"

The card states what was not given or not measured.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semibody.clips.manifest import Line, find_manifest, read_lines
from semibody.data.crowd import RECORD
from semibody.data.dataset import clips_in
from semibody.evaluation.report import show
from semibody.files import atomic_write, first_line, read_json, read_text
from semibody.media import VideoReader, read_image, resize_image, write_image
from semibody.training.checkpoint import STATE, checkpoints
from semibody.training.report import Curves, read_log, require_pyplot
from semibody.training.stages import STAGES
from semibody.types import SemibodyError
from semibody.weights.store import read_index

_RANKED_BY = "PSNR-face"
"""The metric by which typical and worst cases are chosen, because a person is recognised by the face."""
_CASES = 3
_SIDE = 192


def write_card(
    run: Path,
    *,
    weights: Path,
    out: Path,
    packed: Path | None = None,
    bench: Path | None = None,
    notes: Path | None = None,
    pictures: Path | None = None,
) -> list[Path]:
    """Write the card; returns the files that were written.

    ``pictures`` is the start of its pictures' names: ``docs/starter`` → ``docs/starter-curves.png``. Raises
    SemibodyError for a folder that is not a training or not weights.
    """
    recipe, index, curves = _read_json(run / "recipe.json"), read_index(weights), read_log(run)
    results = _read_json(bench) if bench is not None else {}
    written = [out]
    with _as_written(run / "recipe.json"):
        lines = [f"# {recipe['name'].capitalize()}: model card", "", str(recipe["about"])]
        budget = list(_budget(run, recipe, curves))
    with _as_written(weights):
        lines += [*_use(index), "", "## Size", "", *_sizes(weights)]
    lines += ["", "## Data", "", *_data(packed), "", "## Training", "", *budget]
    if pictures is not None and curves:
        drawn = pictures.with_name(f"{pictures.name}-curves.png")
        plot_curves(curves, drawn)
        written.append(drawn)
        lines += ["", f"![held-out figures over the steps of each stage]({_link(drawn, out)})"]
    with _as_written(bench or run):
        lines += ["", "## Numbers", "", *_numbers(results)]
        if pictures is not None and bench is not None and (chosen := cases(results)):
            drawn, names = pictures.with_name(f"{pictures.name}-cases.png"), itertools.chain(*chosen.values())
            write_image(drawn, draw_cases(bench.parent, list(names)))
            written.append(drawn)
            lines += ["", f"![typical and worst cases]({_link(drawn, out)})", "", *_captions(results, chosen)]
        lines += ["", "## Limits", "", *_limits(results, notes), "", "## Licence", "", *_LICENCE]
    with atomic_write(out) as unfinished:
        unfinished.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return written


# -- the model ----------------------------------------------------------------------------------------


def _use(index: Mapping[str, Any]) -> Iterator[str]:
    defaults = index.get("defaults", {})
    yield ""
    yield f"Origin of the weights: {index.get('origin') or 'not recorded'}. To be used with:"
    yield ""
    yield ", ".join(f"{name} {value}" for name, value in sorted(defaults.items())) + "."


def _sizes(weights: Path) -> Iterator[str]:
    yield "| network | parameters | precision | MB |"
    yield "|---|---|---|---|"
    total, megabytes = 0, 0.0
    for path in sorted(weights.glob("*.safetensors")):
        count, kinds = _tensors(path)
        size = path.stat().st_size / 1e6
        total, megabytes = total + count, megabytes + size
        yield f"| {path.stem} | {count:,} | {', '.join(kinds)} | {size:.1f} |"
    yield f"| all | {total:,} | | {megabytes:.1f} |"


def _tensors(path: Path) -> tuple[int, list[str]]:
    """How many numbers a file holds, and in which precisions."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            tensors = [file.get_slice(name) for name in file.keys()]  # noqa: SIM118 - not a mapping
            count = sum(int(np.prod(tensor.get_shape(), dtype=np.int64)) for tensor in tensors)
            return count, sorted({str(tensor.get_dtype()) for tensor in tensors})
    except SafetensorError as error:
        raise SemibodyError(f"{path}: is no weights file ({first_line(error)}); remove it") from None


# -- data and training -----------------------------------------------------------------------------------


def _data(packed: Path | None) -> Iterator[str]:
    if packed is None:
        yield "Not counted for this card."
        return
    yield "Rendered people who speak synthesised sentences and gesture; no real person is in it."
    yield ""
    yield "| frames a second | people: train, held out | clips | of them heads | frames | rendered with |"
    yield "|---|---|---|---|---|---|"
    for folder in sorted(p for p in packed.iterdir() if p.is_dir()):
        clips = clips_in(folder)
        if not clips:
            continue
        people = {side: len({c.person for c in clips if (c.split == "train") == (side == "train")})
                  for side in ("train", "held out")}  # fmt: skip
        heads = sum(clip.kind == "head" for clip in clips)
        frames = sum(len(clip) for clip in clips)
        record = folder / RECORD
        how = _read_json(record) if record.exists() else {}
        named = ("seed", "sway", "photographed", "articulation")
        style = ", ".join(f"{name} {how[name]:g}" for name in named if name in how)
        cells = (
            f"{clips[0].fps:g}", f"{people['train']:,}, {people['held out']:,}", f"{len(clips):,}",
            f"{heads:,}", f"{frames:,}", style,
        )  # fmt: skip
        yield f"| {' | '.join(cells)} |"


def _recipe_of(run: Path, stage: str, otherwise: Mapping[str, Any]) -> Mapping[str, Any]:
    """The recipe a stage was trained with; ``recipe.json`` holds that of the last command only."""
    found = checkpoints(run / stage)
    kept: Mapping[str, Any] = _read_json(found[-1] / STATE).get("recipe", otherwise) if found else otherwise
    return kept


def _budget(run: Path, recipe: Mapping[str, Any], curves: Curves) -> Iterator[str]:
    yield "| stage | steps | samples a step | learning rate | hours of computing | held out, at the end |"
    yield "|---|---|---|---|---|---|"
    total = 0.0
    for stage, figures in curves.items():
        optimiser = _recipe_of(run, stage, recipe)[stage]["optimiser"]
        hours = max(figures["minutes"][1]) / 60 if "minutes" in figures else 0.0
        total += hours
        last = {
            n.removeprefix("val/"): v[1][-1] for n, v in figures.items() if n.startswith(_card_figures(stage))
        }
        values = ", ".join(
            f"{name} {show(value)}{' dB' if name.startswith('psnr') else ''}"
            for name, value in sorted(last.items())
        )
        steps = max(max(steps) for steps, _ in figures.values())
        yield f"| {stage} | {steps:,} | {optimiser['batch']} | {optimiser['lr']:g} | {hours:.2f} | {values} |"
    yield f"| all | | | | {total:.2f} | |"


def _card_figures(stage: str) -> tuple[str, ...]:
    """How the names of the figures in the table of stages start."""
    return tuple(f"val/{name}" for name in STAGES[stage].card_figures) if stage in STAGES else ()


def plot_curves(curves: Curves, path: Path) -> None:
    """One panel a stage: held-out figures of model, repeated portrait and autoencoder alone."""
    plt = require_pyplot()
    stages = [s for s, figures in curves.items() if any(name.startswith("val/") for name in figures)]
    figure, axes = plt.subplots(1, max(1, len(stages)), figsize=(5 * max(1, len(stages)), 3.6), squeeze=False)
    for axis, stage in zip(axes[0], stages, strict=True):
        validated = {
            n.removeprefix("val/"): v for n, v in sorted(curves[stage].items()) if n.startswith("val/")
        }
        pictures = {
            n: v for n, v in validated.items() if n.startswith(("psnr", "ceiling", "plain", "repeat"))
        }
        for label, (steps, values) in (pictures or validated).items():
            style = ":" if label.startswith("ceiling") else "--" if label.startswith("repeat") else "-"
            axis.plot(steps, values, style, label=label, lw=1.2)
        axis.set(title=stage, xlabel="step", ylabel="PSNR in dB" if pictures else "held out")
        axis.legend(fontsize=6)
    figure.tight_layout()
    with atomic_write(path) as unfinished:
        # Without this, matplotlib writes its version into the file.
        figure.savefig(unfinished, dpi=90, metadata={"Software": None})
    plt.close(figure)


# -- results -----------------------------------------------------------------------------------


def _numbers(results: Mapping[str, Any]) -> Iterator[str]:
    table = results.get("table", [])
    if not table:
        yield "Not measured for this card."
        return
    yield f"{len(results['clips'])} clips of held-out people; intervals are 95 % over clips."
    yield ""
    yield "| measure | repeat the portrait | this model | 95 % interval | real clips | goal | reached |"
    yield "|---|---|---|---|---|---|---|"
    for row in table:
        interval = row["interval"]
        between = f"{show(interval[0])} … {show(interval[1])}" if interval else ""
        name = f"{row['measure']} ({row['unit']})" if row["unit"] else row["measure"]
        value = _cell(row["value"]) or "not measured"
        reached = "yes" if row["reached"] else "**no**"
        cells = (name, _cell(row["repeat"]), value, between, _cell(row["real"]), row["goal"], reached)
        yield f"| {' | '.join(cells)} |"
    for name, why in results.get("not_computed", {}).items():
        yield f"\n{name}: not computed: {why}"


def _cell(value: Any) -> str:
    return "∞" if value == "inf" else "" if value is None else show(float(value))


def cases(results: Mapping[str, Any]) -> dict[str, list[str]]:
    """Names of the ``typical`` cases (nearest to the median face) and the ``worst``; none if not measured."""
    values = results.get("metrics", {}).get(_RANKED_BY, {}).get("clips", {})
    known = {name: value for name, value in values.items() if isinstance(value, int | float)}
    if len(known) < 2 * _CASES:
        return {}
    worst = sorted(known, key=lambda name: known[name])[:_CASES]
    middle = float(np.median(list(known.values())))
    rest = [name for name in known if name not in worst]
    return {"typical": sorted(rest, key=lambda name: abs(known[name] - middle))[:_CASES], "worst": worst}


def draw_cases(bench: Path, names: Sequence[str]) -> NDArray[np.uint8]:
    """A row a case: portrait, and the generated above the real frame at three times."""
    rows = []
    for name in names:
        made, real = (_line(bench / folder, name) for folder in ("clips", "real"))
        pictures = [_three_frames(line.require("video")) for line in (made, real)]
        portrait = resize_image(read_image(made.require("portrait")), 2 * _SIDE, 2 * _SIDE)
        strips = [np.concatenate(row, axis=1) for row in pictures]
        rows.append(np.concatenate([portrait, np.concatenate(strips)], axis=1))
    return np.concatenate(rows)


def _three_frames(video: Path) -> list[NDArray[np.uint8]]:
    with VideoReader(video) as reader:
        frames = list(reader)
    return [resize_image(frames[round(k * (len(frames) - 1))], _SIDE, _SIDE) for k in (0.33, 0.67, 1.0)]


def _line(folder: Path, name: str) -> Line:
    manifest = find_manifest(folder)
    lines = {line.id: line for line in read_lines(manifest, "run the benchmark again")}
    if name not in lines:
        raise SemibodyError(f"{manifest}: does not list {name}; run the benchmark again")
    return lines[name]


def _captions(results: Mapping[str, Any], chosen: Mapping[str, Sequence[str]]) -> Iterator[str]:
    yield (
        "Each row: the portrait; above, generated frames at a third, two thirds and the end of the clip; "
        f"below, the true frames. Chosen by {_RANKED_BY} alone:"
    )
    yield ""
    for kind, names in chosen.items():
        values = (show(results["metrics"][_RANKED_BY]["clips"][name]) for name in names)
        yield f"- {kind}: {', '.join(values)} dB"


def _limits(results: Mapping[str, Any], notes: Path | None) -> Iterator[str]:
    missed: dict[str, list[str]] = defaultdict(list)
    for row in results.get("table", []):
        if not row["reached"]:
            kind = "goals not reached" if row["value"] is not None else "goals not measured"
            missed[kind].append(row["measure"])
    for kind, measures in missed.items():
        yield f"- {kind.capitalize()}: {', '.join(measures)}."
    if notes is not None:
        yield read_text(notes, "name the notes").strip()


_LICENCE = (
    "Apache-2.0, like the program. The people are rendered from MakeHuman's assets (CC0) by Semibody; "
    "no real picture or voice was used. Portraits and voices belong to people: ask before you animate them.",
)


# -- files ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _as_written(path: Path) -> Iterator[None]:
    """Turn what a record lacks, or has of another kind, into a SemibodyError."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        why = f"{type(error).__name__}: {first_line(error)}"
        raise SemibodyError(
            f"{path}: is not as it was written ({why}); name the right folder or file"
        ) from None


def _read_json(path: Path) -> dict[str, Any]:
    remedy = "name the right folder or file"
    found = read_json(path, remedy)
    if not isinstance(found, dict):
        raise SemibodyError(f"{path}: is no record of a training; {remedy}")
    return found


def _link(picture: Path, card: Path) -> str:
    return Path(os.path.relpath(picture, card.parent)).as_posix()
