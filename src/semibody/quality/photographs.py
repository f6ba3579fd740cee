"""Animate photographs with everything at its default, measure what became of them, hold it against goals.

    semibody bench-quality photographs --set portraits=FOLDER --set speech=RECORDING_OR_FOLDER

Every picture of the folder is animated with the first seconds of every recording. ``out`` gets for each size
``384x512/NAME.mp4``, ``.json`` (values) and ``.png`` (the portrait and frames of the clip), and of all clips
``results.json``, ``results.md``, ``report.html`` and ``sheet-384x512.png``: a row a clip, to be looked at.
Clips that exist are not made again.

A recipe of one's own is a TOML file with ``portraits``; its paths start from its folder. Portraits of people
are nobody's to publish: numbers are.
"""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from semibody import config
from semibody.animator import Animator
from semibody.evaluation.distributions import bootstrap_mean
from semibody.evaluation.protocol import PICTURES, list_files
from semibody.evaluation.report import show
from semibody.evaluation.run import plain
from semibody.files import read_json
from semibody.inputs import prepare
from semibody.media import (
    VideoWriter,
    atomic_write,
    read_image,
    read_speech,
    resize_image,
    write_image,
)
from semibody.pose.overlay import contact_sheet
from semibody.quality.bench import claim, find_recipe
from semibody.quality.goals import Goal, Row, as_lines, parse_goal
from semibody.quality.likeness import LIKENESSES, Observer
from semibody.settings import AUTO, Settings, Source, resolve
from semibody.types import MissingPartError, Picture, Progress, SemibodyError, Speech, silent
from semibody.weights import hub

SHOWN = 8
"""Frames of a clip on the sheet, beside the portrait."""
_SHEET_SIDE = 256
_RECORDINGS = frozenset({".wav", ".mp3", ".flac", ".ogg", ".m4a"})


@dataclass(frozen=True, kw_only=True)
class Photographs:
    """What is animated and measured. Paths are relative to the recipe's folder."""

    portraits: str
    """folder of pictures"""
    speech: str | tuple[str, ...] = ""
    """recordings, or folders of them; empty: the one that comes with the starter"""
    weights: str = "starter"
    """name or folder of the weights"""
    out: str = "out/photographs"
    """folder of clips and results; running again goes on"""
    seconds: float = 3.0
    """of each recording, from its beginning"""
    sizes: tuple[tuple[int, int], ...] = ()
    """width and height of the clips, one set of clips for each; none: the weights' own"""
    limit: int | None = None
    """only the first so many portraits"""
    crf: int = 18
    """how finely clips are kept: 0 to 51, lower is better and larger; what is measured are frames before"""
    goals: dict[str, str] = field(default_factory=dict)
    """what to reach: ``">= 0.97"``, ``"<= 5"``, ``"0.9 .. 1.1"``"""
    settings: dict[str, Any] = field(default_factory=dict)
    """settings of animate: liveliness, seed …"""


@dataclass(frozen=True, kw_only=True)
class Shot:
    """A clip that is to be made: one portrait, one recording, one size."""

    portrait: Path
    speech: Path
    folder: Path
    settings: Settings

    def file(self, ending: str) -> Path:
        return self.folder / f"{self.portrait.stem}+{self.speech.stem}{ending}"


@dataclass(frozen=True)
class Measured:
    """A clip's ``values`` by the names of ``LIKENESSES``, NaN for none; empty when it could not be made, and
    ``said`` why, or what was noticed of its inputs."""

    portrait: str
    speech: str
    size: str
    values: dict[str, float]
    said: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = {name: plain(value) for name, value in self.values.items()}
        return {**vars(self), "values": values, "said": list(self.said)}

    @classmethod
    def read(cls, path: Path) -> Measured:
        kept = read_json(path, "delete it")
        try:
            values = {k: math.nan if value is None else float(value) for k, value in kept["values"].items()}
            portrait, speech, size = (str(kept[name]) for name in ("portrait", "speech", "size"))
            return cls(portrait, speech, size, values, tuple(map(str, kept["said"])))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            raise SemibodyError(f"{path}: is no record of a clip; delete it") from None


@dataclass(frozen=True)
class Album:
    """What was found of all clips: ``rows`` of the table of goals, what is ``without`` a value and why."""

    clips: tuple[Measured, ...]
    rows: tuple[Row, ...]
    without: dict[str, str]

    def lines(self) -> list[str]:
        """The table of goals in Markdown, what was not measured, and the clips that were not made."""
        notes = [f"{name}: not measured: {why}" for name, why in self.without.items()]
        failed = [f"not made: {c.portrait}, {c.speech}, {c.size}: {c.said[0]}" for c in self.failed]
        return [*(as_lines(self.rows) if self.rows else []), *notes, *failed]

    @property
    def failed(self) -> list[Measured]:
        return [clip for clip in self.clips if not clip.values]


def is_of_photographs(recipe: Path | str) -> bool:
    """Whether a recipe asks for this benchmark, by its key ``portraits``. Raises SemibodyError."""
    return "portraits" in config.read_toml(find_recipe(recipe)[0])


def bench_photographs(
    recipe: Path | str = "photographs",
    *,
    overrides: Sequence[str] = (),
    animator: Animator | None = None,
    observer: Observer | None = None,
    progress: Progress = silent,
) -> Album:
    """Run a recipe. Raises SemibodyError for mistakes in it and for a folder without pictures."""
    path, base = find_recipe(recipe)
    rules = config.load(Photographs, toml=path, overrides=overrides)
    goals = read_goals(rules.goals)
    if not rules.portraits:
        raise SemibodyError("portraits is empty; add --set portraits=FOLDER_OF_PICTURES")
    portraits = _distinct(list_files(base / rules.portraits, PICTURES, "pictures"))[: rules.limit]
    run = _Run(rules, base / rules.out, animator, observer)
    made_with = {key: value for key, value in config.to_dict(rules).items() if key in ("settings", "seconds")}
    claim(run.out, rules.weights, made_with)
    shots = list(run.shots(portraits, _recordings(rules.speech, base)))
    clips = []
    try:
        for number, shot in enumerate(shots):
            progress("photographs", number, len(shots))
            clips.append(run.measure(shot))
    finally:
        run.close()
    progress("photographs", len(shots), len(shots))
    album = Album(tuple(clips), tuple(make_rows(goals, clips)), run.without)
    write(album, rules, run.out, shots)
    return album


def read_goals(texts: Mapping[str, str]) -> dict[str, Goal]:
    """Goals by name. Raises SemibodyError for an unknown name or a goal that is no range."""
    for name in texts:
        if name not in LIKENESSES:
            raise SemibodyError(f"goals.{name}: unknown; choose from {', '.join(LIKENESSES)}")
    return {name: parse_goal(text, f"goals.{name}") for name, text in texts.items()}


def _recordings(speech: str | tuple[str, ...], base: Path) -> list[Path]:
    given = [speech] if isinstance(speech, str) else list(speech)
    if given in ([], [""]):
        return [hub.STARTER / "speech.wav"]
    found: list[Path] = []
    for path in (base / name for name in given):
        found += list_files(path, _RECORDINGS, "recordings") if path.is_dir() else [path]
    return _distinct(found)


def _distinct(paths: list[Path]) -> list[Path]:
    first: dict[str, Path] = {}
    for path in paths:
        if first.setdefault(path.stem, path) != path:
            raise SemibodyError(f"{path}: {first[path.stem]} has the same name; rename one")
    return paths


# -- making and measuring ------------------------------------------------------------------


class _Run:
    """One benchmark on its way: ``out`` holds what is done, so that it goes on where it stopped."""

    def __init__(
        self, rules: Photographs, out: Path, animator: Animator | None, observer: Observer | None
    ) -> None:
        self.rules, self.out = rules, out
        self._animator, self._loading = animator, 0.0
        self._observer, self._opened = observer, observer is None

    @cached_property
    def animator(self) -> Animator:
        if self._animator is not None:
            return self._animator
        started = time.monotonic()
        loaded = Animator.load(self.rules.weights)
        self._loading = time.monotonic() - started
        return loaded

    @property
    def observer(self) -> Observer:
        self._observer = self._observer or Observer()
        return self._observer

    @property
    def without(self) -> dict[str, str]:
        """What the clips made in this run have no value of, and why."""
        return self._observer.without if self._observer is not None else {}

    def close(self) -> None:
        """Close the detectors that this run opened."""
        if self._observer is not None and self._opened:
            self._observer.close()

    def settings(self, changes: Mapping[str, Any]) -> Settings:
        """Of a clip; no tensor is read for them."""
        if self._animator is not None:
            return self._animator.settings(**changes)
        return resolve(Source(weights=self.rules.weights)).settings(changes)

    def shots(self, portraits: list[Path], recordings: list[Path]) -> Iterator[Shot]:
        """Every portrait with every recording, size by size."""
        for size in self.rules.sizes or (None,):
            chosen = {} if size is None else {"width": size[0], "height": size[1]}
            settings = self.settings({**self.rules.settings, **chosen})
            folder = self.out / f"{settings.width}x{settings.height}"
            for portrait, speech in product(portraits, recordings):
                yield Shot(portrait=portrait, speech=speech, folder=folder, settings=settings)

    def measure(self, shot: Shot) -> Measured:
        """Make and measure a clip, or read what was found of it before."""
        record = shot.file(".json")
        if record.exists():
            return Measured.read(record)
        known = Measured(shot.portrait.name, shot.speech.name, shot.folder.name, {})
        try:
            found = self._make(shot, known)
        except MissingPartError:
            raise
        except SemibodyError as error:
            found = replace(known, said=(str(error),))
        with atomic_write(record) as unfinished:
            unfinished.write_text(json.dumps(found.as_dict(), indent=1), encoding="utf-8")
        return found

    def _make(self, shot: Shot, known: Measured) -> Measured:
        animator, settings, started = self.animator, shot.settings, time.monotonic()
        inputs = prepare(shot.portrait, cut(read_speech(shot.speech), self.rules.seconds), AUTO, settings)
        slices = []
        with VideoWriter(
            shot.file(".mp4"), fps=settings.fps, width=settings.width, height=settings.height,
            speech=inputs.speech, crf=self.rules.crf, metadata=animator.metadata(settings),
        ) as video:  # fmt: skip
            for pixels in animator.frames(inputs, settings):
                video.write(pixels)
                slices.append(pixels)
        computing = time.monotonic() - started + self._loading
        frames = np.concatenate(slices)
        values = self.observer.measure(frames, inputs)
        values["seconds"] = computing * settings.fps / len(frames)
        chosen = np.linspace(0, len(frames) - 1, SHOWN).round().astype(int)
        write_image(shot.file(".png"), np.hstack([inputs.portrait, *frames[chosen]]))
        return replace(known, values=values, said=inputs.notices)


def cut(speech: Speech, seconds: float) -> Speech:
    """The first seconds of a recording."""
    return Speech(speech.waveform[: round(seconds * speech.rate)], speech.rate)


# -- tables and pictures -------------------------------------------------------------------


def make_rows(goals: Mapping[str, Goal], clips: Sequence[Measured]) -> Iterator[Row]:
    """A row for every goal and size: the mean over portraits of the mean over their recordings."""
    sizes = list(dict.fromkeys(clip.size for clip in clips))
    for size in sizes:
        for name, goal in goals.items():
            per_portrait = means([clip for clip in clips if clip.size == size], name)
            value = float(np.mean(per_portrait)) if per_portrait else math.nan
            interval = bootstrap_mean(per_portrait)
            likeness = LIKENESSES[name]
            yield Row(
                likeness.title if len(sizes) == 1 else f"{size}: {likeness.title}",
                likeness.unit,
                None,
                value,
                (interval.low, interval.high) if interval else None,
                None,
                str(goal),
                goal.reached_by(value),
            )


def means(clips: Sequence[Measured], name: str) -> list[float]:
    """A likeness of every portrait that has it, over its recordings."""
    of: dict[str, list[float]] = defaultdict(list)
    for clip in clips:
        if math.isfinite(clip.values.get(name, math.nan)):
            of[clip.portrait].append(clip.values[name])
    return [float(np.mean(values)) for values in of.values()]


def write(album: Album, rules: Photographs, out: Path, shots: Sequence[Shot]) -> None:
    """Numbers, tables, page and contact sheets."""
    facts = {
        "recipe": config.to_dict(rules),
        "table": [row.as_dict() for row in album.rows],
        "clips": [clip.as_dict() for clip in album.clips],
        "without": album.without,
    }
    with atomic_write(out / "results.json") as unfinished:
        unfinished.write_text(json.dumps(facts, indent=1), encoding="utf-8")
    with atomic_write(out / "results.md") as unfinished:
        text = "\n".join([*album.lines(), "", *clip_lines(album.clips)]) + "\n"
        unfinished.write_text(text, encoding="utf-8")
    sheets = []
    for folder in dict.fromkeys(shot.folder for shot in shots):
        strips = [s for s in shots if s.folder == folder and s.file(".png").exists()]
        if strips:
            sheets.append(f"sheet-{folder.name}.png")
            write_image(out / sheets[-1], sheet(strips))
    _write_page(album, sheets, out / "report.html")


def clip_lines(clips: Sequence[Measured]) -> list[str]:
    """A line of values for every clip, and their mean, in Markdown."""
    lines = [
        f"| clip | {' | '.join(LIKENESSES)} | portraits with a value, noticed |",
        "|" + "---|" * (len(LIKENESSES) + 2),
    ]
    for clip in clips:
        values = " | ".join(show(clip.values.get(name, math.nan)) for name in LIKENESSES)
        lines.append(f"| {clip.portrait}, {clip.speech}, {clip.size} | {values} | {'; '.join(clip.said)} |")
    for size in dict.fromkeys(clip.size for clip in clips):
        of = [means([clip for clip in clips if clip.size == size], name) for name in LIKENESSES]
        values = " | ".join(show(float(np.mean(some)) if some else math.nan) for some in of)
        lines.append(f"| mean, {size} | {values} | {', '.join(str(len(some)) for some in of)} |")
    return lines


def sheet(shots: Sequence[Shot]) -> Picture:
    """The portrait and frames of each clip, a row a clip."""
    pictures, labels = [], []
    for shot in shots:
        panels = np.split(read_image(shot.file(".png")), SHOWN + 1, axis=1)
        longer = max(panels[0].shape[:2])
        side = min(_SHEET_SIDE, longer)
        height, width = (max(1, round(length * side / longer)) for length in panels[0].shape[:2])
        pictures += [resize_image(panel, width, height) for panel in panels]
        labels += [shot.file("").name, *[""] * SHOWN]
    return contact_sheet(pictures, labels, columns=SHOWN + 1, side=_SHEET_SIDE)


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Photographs</title>
<style>
  body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem; color-scheme: light dark; }
  table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1rem 0; }
  th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid #8884; }
  img { max-width: 100%; }
</style>
</head>
<body>
<h1>Photographs</h1>
{% for table in tables %}<table>
{% for row in table %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table>
{% endfor %}{% for line in notes %}<p>{{ line }}</p>
{% endfor %}{% for name in sheets %}<img src="{{ name }}" alt="{{ name }}">
{% endfor %}</body>
</html>
"""


def _write_page(album: Album, sheets: Sequence[str], path: Path) -> None:
    """The tables and the contact sheets as a page. Raises MissingPartError without jinja2."""
    try:
        import jinja2
    except ImportError:
        raise MissingPartError("the report needs jinja2; run: pip install 'semibody[eval]'") from None
    lines = album.lines()
    tables = [_split(lines), _split(clip_lines(album.clips))]
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    page = environment.from_string(_PAGE).render(
        tables=tables, notes=[line for line in lines if not line.startswith("|")], sheets=sheets
    )
    with atomic_write(path) as unfinished:
        unfinished.write_text(page, encoding="utf-8")


def _split(lines: Sequence[str]) -> list[list[str]]:
    """The cells of a table in Markdown."""
    rows = [line.strip("|").split("|") for line in lines if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in rows]
