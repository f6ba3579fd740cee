"""Benchmark of quality: animate every case of a test set with given weights, evaluate the clips (floor 5).

    # bench.toml
    cases = "emtd/manifest.jsonl"
    weights = "official"
    out = "out/bench-official"
    [settings]
    width = 512
    height = 512

A case is a line of a manifest: ``portrait``, ``audio``, ``gesture`` and, as far as known, ``video`` (the
real clip), ``truth`` and ``id``. Without a portrait the first frame of the real clip is taken, without
audio its sound.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semibody import config
from semibody.animator import Animator
from semibody.evaluation.metrics import METRICS
from semibody.evaluation.protocol import MANIFEST, Protocol
from semibody.evaluation.report import ARROWS, show, write_report
from semibody.evaluation.run import Evaluation, evaluate
from semibody.media import VideoReader, VideoWriter, atomic_write, read_speech, resize_image, write_image
from semibody.types import Progress, SemibodyError, silent

_GRID_CASES, _GRID_SIDE = 4, 256


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is benchmarked. Paths are relative to the recipe's folder."""

    cases: str
    """manifest of the test set"""
    weights: str = "official"
    """name or folder of the weights"""
    out: str = "out/bench-quality"
    """folder of clips and results; running again goes on"""
    limit: int | None = None
    """only the first so many cases"""
    metrics: tuple[str, ...] = ()
    """names or families; none: all that can be had"""
    settings: dict[str, Any] = field(default_factory=dict)
    """settings of animate: width, height, steps, guidance, seed …"""
    protocol: Protocol = field(default_factory=Protocol)
    """rules of the evaluation"""


@dataclass(frozen=True)
class Case:
    """One thing to animate, and what it is judged by."""

    name: str
    portrait: Path | None
    audio: Path
    gesture: Path
    video: Path | None
    truth: Path | None


def bench_quality(
    recipe: Path, *, overrides: Sequence[str] = (), workers: int = 0, animator: Animator | None = None,
    progress: Progress = silent,
) -> Evaluation:  # fmt: skip
    """Run a recipe: ``clips/*.mp4``, ``results.json``, ``results.md``, ``report.html`` and ``grid.mp4`` in
    its ``out``.

    Clips that exist are not made again. Raises SemibodyError for mistakes in the recipe or its cases.
    """
    rules = config.load(Recipe, toml=recipe, overrides=overrides)
    out = recipe.parent / rules.out
    cases = read_cases(recipe.parent / rules.cases)[: rules.limit]
    waiting = [case for case in cases if not _clip(out, case).exists()]
    if waiting:
        opened = animator or Animator.load(rules.weights, progress=progress)
        for number, case in enumerate(waiting):
            progress("animate", number, len(waiting))
            opened.animate_to(
                _clip(out, case), _portrait(out, case), case.audio, case.gesture, **rules.settings
            )
        progress("animate", len(waiting), len(waiting))
    _write_manifest(out / "clips" / MANIFEST, out, cases)
    real = None
    if all(case.video for case in cases):
        real = out / "real" / MANIFEST
        _write_real(real, cases)
    found = evaluate(
        out / "clips" / MANIFEST,
        real,
        metrics=rules.metrics,
        protocol=rules.protocol,
        workers=workers,
        progress=progress,
    )
    with atomic_write(out / "results.json") as unfinished:
        facts = {"recipe": config.to_dict(rules), **found.as_dict()}
        unfinished.write_text(json.dumps(facts, indent=1), encoding="utf-8")
    with atomic_write(out / "results.md") as unfinished:
        unfinished.write_text(as_markdown(found), encoding="utf-8")
    write_report(found, out / "report.html")
    write_grid(out / "grid.mp4", [_panels(out, case) for case in cases[:_GRID_CASES]], cases[0].audio)
    return found


def read_cases(path: Path) -> list[Case]:
    """The cases of a manifest. Raises SemibodyError naming the line that lacks something."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SemibodyError(f"{path}: cannot be read ({error}); name the manifest as cases = …") from None
    cases = [_case(line, path, number) for number, line in enumerate(lines, start=1) if line.strip()]
    if not cases:
        raise SemibodyError(f"{path}: lists no case")
    names = [case.name for case in cases]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise SemibodyError(f"{path}: the id {min(twice)} occurs twice; remove one of the lines")
    return cases


def _case(line: str, path: Path, number: int) -> Case:
    try:
        values = json.loads(line)
    except json.JSONDecodeError as error:
        raise SemibodyError(f"{path}:{number}: not JSON ({error.msg}); mend or remove the line") from None
    files = {
        kind: path.parent / values[kind] if values.get(kind) else None
        for kind in ("portrait", "audio", "gesture", "video", "truth")
    }
    audio, gesture, video = files["audio"] or files["video"], files["gesture"], files["video"]
    if audio is None or gesture is None or (files["portrait"] or video) is None:
        raise SemibodyError(f"{path}:{number}: a case needs gesture, and portrait and audio or a video")
    for file in filter(None, files.values()):
        if not file.exists():
            raise SemibodyError(f"{path}:{number}: {file} does not exist; mend the path")
    name = str(values.get("id") or (video or gesture).stem)
    return Case(name, files["portrait"], audio, gesture, video, files["truth"])


def _clip(out: Path, case: Case) -> Path:
    return out / "clips" / f"{case.name}.mp4"


def _portrait(out: Path, case: Case) -> Path:
    """The case's portrait; the first frame of the real clip, written once, if it has none."""
    if case.portrait is not None:
        return case.portrait
    path = out / "portraits" / f"{case.name}.png"
    if not path.exists():
        assert case.video is not None
        with VideoReader(case.video) as video:
            write_image(path, next(iter(video)))
    return path


def _write_manifest(path: Path, out: Path, cases: Sequence[Case]) -> None:
    lines = []
    for case in cases:
        files = {"video": _clip(out, case), "portrait": _portrait(out, case), "audio": case.audio,
                 "gesture": case.gesture, "truth": case.truth}  # fmt: skip
        lines.append(
            {"id": case.name, **{kind: str(p.resolve()) for kind, p in files.items() if p is not None}}
        )
    _write_lines(path, lines)


def _write_real(path: Path, cases: Sequence[Case]) -> None:
    _write_lines(
        path, [{"id": case.name, "video": str(case.video.resolve())} for case in cases if case.video]
    )


def _write_lines(path: Path, lines: Sequence[dict[str, str]]) -> None:
    with atomic_write(path) as unfinished:
        unfinished.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def as_markdown(found: Evaluation) -> str:
    """The results as a table, with 95 % intervals over clips."""
    lines = ["| metric | value | 95 % interval | of the real clips |", "|---|---|---|---|"]
    for name, measured in found.results.items():
        interval = measured.interval
        between = f"{show(interval.low)} … {show(interval.high)}" if interval else ""
        real = show(measured.real) if measured.real is not None else ""
        lines.append(
            f"| {name} {ARROWS[METRICS[name].better]} | {show(measured.value)} | {between} | {real} |"
        )
    lines += [f"\n{name}: not computed: {why}" for name, why in found.not_computed.items()]
    return "\n".join(lines) + "\n"


def _panels(out: Path, case: Case) -> list[Path]:
    """Portrait, generated and, where there is one, real clip."""
    return [_portrait(out, case), _clip(out, case), *([case.video] if case.video else [])]


def write_grid(path: Path, rows: Sequence[Sequence[Path]], sound: Path) -> None:
    """Pictures and videos side by side, a row a case; ended clips hold their last frame. Sound of the first
    case."""
    from semibody.media import read_image

    side = _GRID_SIDE
    fps = next(video.fps for row in rows for p in row if p.suffix == ".mp4" for video in [VideoReader(p)])
    columns = max(len(row) for row in rows)
    canvas = np.zeros((side * len(rows), side * columns, 3), np.uint8)
    streams = []
    for y, row in enumerate(rows):
        for x, file in enumerate(row):
            place = canvas[y * side : (y + 1) * side, x * side : (x + 1) * side]
            if file.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp"):
                place[...] = _fit(read_image(file), side)
            else:
                streams.append((place, VideoReader(file).frames(fps)))
    height, width = canvas.shape[:2]
    with VideoWriter(path, fps=fps, width=width, height=height, speech=read_speech(sound)) as writer:
        for frames in itertools.zip_longest(*(stream for _, stream in streams)):
            for (place, _), picture in zip(streams, frames, strict=True):
                if picture is not None:
                    place[...] = _fit(picture, side)
            writer.write(canvas)


def _fit(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Scaled to fit a square, black around."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    small = resize_image(picture, max(round(width * scale), 1), max(round(height * scale), 1))
    square = np.zeros((side, side, 3), np.uint8)
    top, left = (side - small.shape[0]) // 2, (side - small.shape[1]) // 2
    square[top : top + small.shape[0], left : left + small.shape[1]] = small
    return square
