"""Animate every case of a test set with given weights, evaluate the clips, compare.

    # bench.toml
    cases = "emtd/manifest.jsonl"
    weights = "official"
    out = "out/bench-official"
    [settings]
    width = 512
    height = 512

A case is a line of a manifest: ``portrait``, ``audio``, ``gesture`` and, as far as known, ``video`` (the
real clip), ``truth``, ``person`` and ``id``. Without a portrait the first frame of the real clip is taken,
without audio its sound. The manifest of rendered people (``semibody data synthesise``) is one. With
``videos`` in place of ``cases`` the cases are made first, of a folder of videos, as EMTD's are.

Recipes that come with the package are named by their file (``starter``, ``emtd``); their paths are relative
to the current folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semibody import config, runtime
from semibody.animator import Animator
from semibody.clips.manifest import NAME, Line, read_lines, write_lines
from semibody.evaluation import emtd
from semibody.evaluation.protocol import Protocol
from semibody.evaluation.run import Evaluation, evaluate
from semibody.evaluation.tables import as_latex, as_markdown, write_table
from semibody.files import atomic_write, exists, foreign_failure, path_of, read_json, require_name
from semibody.media import VideoReader, VideoWriter, read_speech, resize_image, write_image
from semibody.processes import Workers
from semibody.quality.baselines import Baseline, write_ceiling, write_repeat
from semibody.quality.goals import Row, as_lines, make_rows, parse_goals
from semibody.settings import Settings
from semibody.types import MissingPartError, Progress, SemibodyError, silent
from semibody.weights import hub

_GRID_CASES, _GRID_SIDE = 4, 256
_SWAPPED = 60
"""Most cases that are animated with another clip's speech."""
_LARGE = 100 * 2**20


@dataclass(frozen=True, kw_only=True)
class BenchRecipe:
    """What is benchmarked. Paths are relative to the recipe's folder."""

    cases: str = ""
    """manifest of the test set"""
    videos: str = ""
    """folder of videos to make the test set of, as ``semibody build-emtd`` does, in ``out``/cases; instead of
    cases"""
    listing: str = ""
    """EMTD's table of addresses and times, where those are whole videos"""
    detector: str = "auto"
    """what finds the poses of those videos: auto, mediapipe or dwpose"""
    weights: str = "official"
    """name or folder of the weights"""
    out: str = "out/bench-quality"
    """folder of clips and results; run it again to continue"""
    limit: int | None = None
    """at most this many cases; None: all"""
    metrics: tuple[str, ...] = ()
    """names or families; none: all that can be computed"""
    crf: int = 18
    """video quality of the clips: 0 to 51, lower is better and larger"""
    baselines: tuple[Baseline, ...] = ()
    """repeat: the portrait all the time; ceiling: the real clip through the autoencoder; swapped: with the
    speech of another case"""
    speed: bool = False
    """also measure the computing of a second of video, in each precision this machine has"""
    goals: dict[str, dict[str, str]] = field(default_factory=dict)
    """what to reach: model, ceiling, swapped or speed, then the metric: ``">= 24"``, ``"0.8 .. 1.2"``"""
    settings: dict[str, Any] = field(default_factory=dict)
    """settings of animate: width, height, steps, guidance, seed …"""
    protocol: Protocol = field(default_factory=Protocol)
    """rules of the evaluation"""


@dataclass(frozen=True)
class Case:
    """One clip to animate, and what it is compared with."""

    name: str
    person: str
    portrait: Path | None
    audio: Path
    gesture: Path
    video: Path | None
    truth: Path | None


@dataclass(frozen=True)
class Benchmark:
    """``found`` of the model, ``baselines`` by name, ``speed`` in seconds of computing per second of video by
    precision, ``rows`` of the table of goals."""

    found: Evaluation
    baselines: dict[str, Evaluation]
    speed: dict[str, float]
    rows: tuple[Row, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    """cases and videos that could not be used, with the reason"""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            **self.found.as_dict(),
            "baselines": {name: found.as_dict()["metrics"] for name, found in self.baselines.items()},
            "speed": self.speed,
            "table": [row.as_dict() for row in self.rows],
        }


def bundled() -> dict[str, Path]:
    """Benchmarks that come with the package, by name."""
    folder = Path(str(resources.files("semibody"))) / "recipes" / "bench"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def find_recipe(recipe: Path | str) -> tuple[Path, Path]:
    """The file of a recipe given by path or bundled name, and the folder its paths start from."""
    packaged = bundled().get(str(recipe))
    return (packaged, Path()) if packaged else (Path(recipe), Path(recipe).parent)


def bench_quality(
    recipe: Path | str, *, overrides: Sequence[str] = (), workers: int | Workers = 0,
    animator: Animator | None = None, device: str = "auto", progress: Progress = silent,
) -> Benchmark:  # fmt: skip
    """Run a recipe: ``clips/*.mp4``, ``results.json``, ``.md`` and ``.tex``, ``report.html`` and
    ``grid.mp4`` in its ``out``.

    Clips that exist are not made again. Raises SemibodyError for mistakes in the recipe or its cases.
    """
    path, base = find_recipe(recipe)
    rules = config.load(BenchRecipe, toml=path, overrides=overrides)
    goals = parse_goals(rules.goals)
    cases, left_out = find_cases(recipe, rules, base, progress)
    run = _Run(rules, base / rules.out, read_cases(cases), animator, workers, device, progress)
    run.failed |= left_out
    run.claim()
    found = run.model()
    compared: dict[str, Evaluation] = {name: run.baseline(name) for name in rules.baselines}
    if "swapped" in compared:
        compared["swapped, own"] = run.swapped(own=True)
    speed = run.speed() if rules.speed else {}
    made = Benchmark(found, compared, speed, tuple(make_rows(goals, found, compared, speed)), run.failed)
    run.write(made)
    return made


def find_cases(
    recipe: Path | str, rules: BenchRecipe, base: Path, progress: Progress = silent
) -> tuple[Path, dict[str, str]]:
    """The manifest of a recipe's test set, made first if the recipe names videos, and the videos that could
    not be used, with the reason. Raises SemibodyError when there is no test set."""
    if bool(rules.cases) == bool(rules.videos):
        both = "both cases and videos are" if rules.cases else "neither cases nor videos is"
        raise SemibodyError(
            f"{recipe}: {both} set; give one of them: --set videos=FOLDER or --set cases=MANIFEST"
        )
    if rules.videos:
        folder = base / rules.out / "cases"
        listing = base / rules.listing if rules.listing else None
        problems = emtd.build(
            base / rules.videos, folder, listing=listing, detector=rules.detector, progress=progress
        )
        return folder / NAME, {problem.name: problem.what for problem in problems}
    if str(recipe) in bundled() and not (base / rules.cases).exists():
        raise SemibodyError(f"{rules.cases}: no test set is here; `make bench-{recipe}` renders it first")
    return base / rules.cases, {}


class _Run:
    """A running benchmark: ``out`` holds what is finished, so that it continues where it stopped."""

    def __init__(
        self, rules: BenchRecipe, out: Path, cases: Sequence[Case], animator: Animator | None,
        workers: int | Workers, device: str, progress: Progress,
    ) -> None:  # fmt: skip
        self.rules, self.out, self.progress = rules, out, progress
        self.workers, self.device = workers, device
        self.protocol = rules.protocol if device == "auto" else replace(rules.protocol, device=device)
        self.cases = spread(cases)[: rules.limit]
        self.failed: dict[str, str] = {}
        """case -> why it is left out"""
        self.given = animator

    def claim(self) -> None:
        claim(self.out, self.rules.weights, {"settings": self.rules.settings} if self.rules.settings else {})

    @cache  # noqa: B019 - a run lives as long as its animator
    def animator(self) -> Animator:
        return self.given or Animator.load(self.rules.weights, device=self.device, progress=self.progress)

    def model(self) -> Evaluation:
        """The model's own clips against the real ones."""
        for case in self.missing("clips", "animate"):
            with self._or_leave_out(case):
                self.animate(_clip(self.out, case), case, case.audio)
        return self.evaluate("clips", self.rules.metrics)

    def baseline(self, name: Baseline) -> Evaluation:
        if name == "swapped":
            return self.swapped(own=False)
        if not all(case.video for case in self.cases):
            raise SemibodyError(f"baselines: {name} needs the real clip of every case; leave it out")
        for case in self.missing(name, name):
            path = path_of(self.out / name, case.name, ".mp4")
            with self._or_leave_out(case):
                if name == "repeat":
                    portrait, clip = _portrait(self.out, case), _clip(self.out, case)
                    write_repeat(path, portrait, clip, self.settings(), self.rules.crf)
                else:
                    assert case.video is not None
                    write_ceiling(path, self.animator(), case.video, self.settings(), self.rules.crf)
        wanted = self.rules.goals.get(name if name == "ceiling" else "model")
        return self.evaluate(name, tuple(wanted) if wanted else self.rules.metrics)

    def swapped(self, *, own: bool) -> Evaluation:
        """Clips with another clip's speech, compared with that clip's truth, or with their ``own``."""
        cases = self.cases[:_SWAPPED]
        others = cases[len(cases) // 2 :] + cases[: len(cases) // 2]
        for number, (case, other) in enumerate(zip(cases, others, strict=True)):
            path = _swapped(self.out, case)
            if not path.exists():
                self.progress("swapped", number, len(cases))
                with self._or_leave_out(case):
                    self.animate(path, case, other.audio)
        lines = [
            _line(case.name, video=_swapped(self.out, case),
                  truth=(case if own else other).truth, audio=other.audio)
            for case, other in zip(cases, others, strict=True)
            if case.name not in self.failed
        ]  # fmt: skip
        manifest = self.out / ("swapped-own" if own else "swapped") / NAME
        write_lines(manifest, lines)
        return evaluate(
            manifest, metrics=["mouth-correlation"], protocol=self.protocol, workers=self.workers,
            progress=self.progress,
        )  # fmt: skip

    def missing(self, folder: str, stage: str) -> Iterator[Case]:
        """The cases whose clip is not in a folder yet, with progress."""
        waiting = [c for c in self.cases if not path_of(self.out / folder, c.name, ".mp4").exists()]
        for number, case in enumerate(waiting):
            self.progress(stage, number, len(waiting))
            yield case
        if waiting:
            self.progress(stage, len(waiting), len(waiting))

    @contextlib.contextmanager
    def _or_leave_out(self, case: Case) -> Iterator[None]:
        """Leave ``case`` out, with the reason, when its clip cannot be made; the others go on.

        Raises SemibodyError when none is left.
        """
        try:
            yield
            return
        except MissingPartError:
            raise
        except SemibodyError as error:
            self.failed[case.name] = str(error)
        except Exception as error:
            self.failed[case.name] = foreign_failure(error, self.out / "errors.log")
        self.cases = [other for other in self.cases if other.name != case.name]
        if not self.cases:
            raise SemibodyError(f"no case is left: {case.name}: {self.failed[case.name]}")

    def settings(self) -> Settings:
        return self.animator().settings(**self.rules.settings)

    def animate(self, path: Path, case: Case, audio: Path) -> None:
        portrait = _portrait(self.out, case)
        self.animator().animate_to(
            path, portrait, audio, case.gesture, crf=self.rules.crf, **self.rules.settings
        )

    def evaluate(self, folder: str, metrics: tuple[str, ...]) -> Evaluation:
        _write_manifest(self.out / folder / NAME, self.out, self.cases, folder)
        real = None
        if all(case.video for case in self.cases):
            real = self.out / "real" / NAME
            write_lines(real, [_line(case.name, video=case.video) for case in self.cases])
        return evaluate(
            self.out / folder / NAME,
            real,
            metrics=metrics,
            protocol=self.protocol,
            workers=self.workers,
            progress=self.progress,
        )

    def speed(self) -> dict[str, float]:
        """Seconds of computing for a second of video of the bundled portrait and speech, loading included."""
        portrait, speech = hub.STARTER / "portrait.png", hub.STARTER / "speech.wav"
        seconds = read_speech(speech).seconds
        kept = self.out / "speed.json"
        if kept.exists():
            known = read_json(kept, "delete it")
            if isinstance(known, dict) and all(type(seconds) is float for seconds in known.values()):
                return known
        measured = {}
        for precision in (*(["bf16"] if runtime.cpu_has_bf16() else []), "fp32"):
            started = time.monotonic()
            animator = self.given or Animator.load(self.rules.weights, precision=precision, device="cpu")
            animator.animate_to(self.out / f"speed-{precision}.mp4", portrait, speech, fps=24.0)
            measured[precision] = (time.monotonic() - started) / seconds
        with atomic_write(kept) as unfinished:
            unfinished.write_text(json.dumps(measured, indent=1), encoding="utf-8")
        return measured

    def write(self, made: Benchmark) -> None:
        """Numbers, tables, page and grid."""
        with atomic_write(self.out / "results.json") as unfinished:
            facts = {"recipe": config.to_dict(self.rules), "failed": self.failed, **made.as_dict()}
            unfinished.write_text(json.dumps(facts, indent=1), encoding="utf-8")
        with atomic_write(self.out / "results.md") as unfinished:
            goals = "\n".join(as_lines(made.rows)) + "\n\n" if made.rows else ""
            unfinished.write_text(goals + as_markdown(made.found), encoding="utf-8")
        with atomic_write(self.out / "results.tex") as unfinished:
            unfinished.write_text(as_latex(made.found), encoding="utf-8")
        write_table(made.found, self.out / "report.html")
        panels = [_panels(self.out, case) for case in self.cases[:_GRID_CASES]]
        write_grid(self.out / "grid.mp4", panels, self.cases[0].audio)


def claim(out: Path, weights: str, facts: Mapping[str, Any]) -> None:
    """Refuse a folder whose clips other weights or settings (``facts``) made. Raises SemibodyError."""
    try:
        made_with: dict[str, Any] = {"weights": _fingerprint(hub.find_weights(weights)[0]), **facts}
    except SemibodyError:  # without weights no clip can be made, but existing ones can be measured
        return
    record = out / "made_with.json"
    if record.exists() and read_json(record, "delete it") != made_with:
        raise SemibodyError(f"{out}: holds clips of other weights or settings; delete it or set another out")
    with atomic_write(record) as unfinished:
        unfinished.write_text(json.dumps(made_with, indent=1), encoding="utf-8")


def _fingerprint(folder: Path) -> str:
    """Names the content of a weights folder; of large files their size alone."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".json", ".safetensors", ".pth", ".pt")):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}".encode())
        if size < _LARGE:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def spread(cases: Sequence[Case]) -> list[Case]:
    """In another order: everybody's first case, everybody's second … so that a limit leaves all people."""
    seen: Counter[str] = Counter()
    turn = {}
    for case in cases:
        turn[case.name] = seen[case.person or case.name]
        seen[case.person or case.name] += 1
    return sorted(cases, key=lambda case: turn[case.name])


def read_cases(path: Path) -> list[Case]:
    """The cases of a manifest. Raises SemibodyError naming the line that lacks something."""
    cases = [_case(line) for line in read_lines(path, "name the manifest as cases = …")]
    if not cases:
        raise SemibodyError(f"{path}: lists no case")
    return cases


def _case(line: Line) -> Case:
    portrait, video, gesture = line.file("portrait"), line.file("video"), line.file("gesture")
    audio, truth = line.file("audio") or video, line.file("truth")
    if audio is None or gesture is None or (portrait or video) is None:
        raise SemibodyError(f"{line.where}: a case needs gesture, and portrait and audio or a video")
    for file in filter(None, (portrait, audio, gesture, video, truth)):
        if not exists(file):
            raise SemibodyError(f"{line.where}: {file} does not exist; correct the path")
    require_name(line.id, line.where)
    return Case(line.id, line.person, portrait, audio, gesture, video, truth)


def _clip(out: Path, case: Case) -> Path:
    return path_of(out / "clips", case.name, ".mp4")


def _swapped(out: Path, case: Case) -> Path:
    return path_of(out / "swapped", case.name, ".mp4")


def _portrait(out: Path, case: Case) -> Path:
    """The case's portrait; the first frame of the real clip, written once, if it has none."""
    if case.portrait is not None:
        return case.portrait
    path = path_of(out / "portraits", case.name, ".png")
    if not path.exists():
        assert case.video is not None
        with VideoReader(case.video) as video:
            write_image(path, next(iter(video)))
    return path


def _write_manifest(path: Path, out: Path, cases: Sequence[Case], folder: str) -> None:
    write_lines(
        path,
        [
            _line(
                case.name, person=case.person, video=path_of(out / folder, case.name, ".mp4"),
                portrait=_portrait(out, case), audio=case.audio, gesture=case.gesture, truth=case.truth,
            )
            for case in cases
        ],
    )  # fmt: skip


def _line(name: str, person: str | None = None, **files: Path | None) -> dict[str, str]:
    """A manifest line that may lie in any folder: files by their full paths."""
    paths = {kind: str(path.resolve()) for kind, path in files.items() if path is not None}
    return {"id": name, **({} if person is None else {"person": person}), **paths}


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
