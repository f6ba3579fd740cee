"""Measuring all files of an evaluation, once: in parallel, resumably, through the cache."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from semibody.clips.truth import Truth
from semibody.evaluation import extract, frames
from semibody.evaluation.cache import Arrays, Cache, key_of
from semibody.evaluation.protocol import Item, Problem, Protocol, probe
from semibody.files import digest, foreign_failure
from semibody.media import read_image
from semibody.pose.files import load_gesture
from semibody.processes import Workers, run_jobs
from semibody.types import Gesture, Progress, SemibodyError, silent

Side = Literal["generated", "real", "portrait"]


@dataclass
class Gathered:
    """What was found in every clip, read from the cache when a metric needs it."""

    items: list[Item]
    rules: Protocol
    cache: Cache
    fps: dict[str, float]
    keys: dict[tuple[str, Side, str], str] = field(default_factory=dict)
    scheduled: set[str] = field(default_factory=set)
    """keys that a job will fill, so that a file that occurs twice is measured once"""
    _small: dict[str, Arrays] = field(default_factory=dict, repr=False)

    def missing(self, keys: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
        """Those (kind, key) that neither the cache holds nor a job will fill; they count as scheduled now."""
        new = tuple((k, key) for k, key in keys if key not in self.scheduled and not self.cache.has(key))
        self.scheduled |= {key for _, key in new}
        return new

    def arrays(self, name: str, side: Side, kind: str) -> Arrays | None:
        """The arrays of one kind, or None where it was not measured.

        Raises SemibodyError for an entry that was found damaged: without it a metric would leave out a clip.
        """
        key = self.keys.get((name, side, kind))
        if key is None:
            return None
        if key in self._small:
            return self._small[key]
        found = self.cache.load(key)
        if found is None:
            raise SemibodyError(
                f"{self.cache.folder}: what was measured in {name} is damaged; run it again to redo it"
            )
        if "features" not in found:  # small, and read by many metrics
            self._small[key] = found
        return found

    def gesture(self, item: Item) -> Gesture | None:
        return load_gesture(item.gesture) if item.gesture is not None else None

    def truth(self, item: Item) -> Truth | None:
        return Truth.load(item.truth) if item.truth is not None else None


@dataclass(frozen=True)
class _Job:
    """The work of one worker on one file (or pair): ``keys`` are (kind, key in the cache)."""

    name: str
    keys: tuple[tuple[str, str], ...]
    work: Callable[[Protocol], Mapping[str, Arrays]]


def gather(
    items: Sequence[Item],
    rules: Protocol,
    kinds: Iterable[str],
    *,
    cache: Cache,
    pairs: bool,
    workers: int | Workers = 1,
    progress: Progress = silent,
) -> tuple[Gathered, list[Problem]]:
    """Measure what the cache does not hold. Damaged files become Problems and their clips are left out.

    ``kinds`` names of ``extract.KINDS`` (all must be available); ``pairs`` compare pixels with REAL.
    Every finished file is kept at once, so an interrupted run can continue.
    """
    names = sorted(kinds)
    gathered = Gathered(list(items), rules, cache, {})
    problems: list[Problem] = []
    jobs: list[_Job] = []
    for item in items:
        with _into(problems, item.name, cache.log):
            jobs += _file_jobs(gathered, item, names)
    _drop(gathered, problems)
    problems += _run(jobs, cache, rules, workers, progress, "measure clips")
    _drop(gathered, problems)
    if pairs:
        pair_jobs: list[_Job] = []
        for item in gathered.items:
            if item.real is not None:
                with _into(problems, item.name, cache.log):
                    pair_jobs += _pair_job(gathered, item)
        problems += _run(pair_jobs, cache, rules, workers, progress, "compare pairs")
        _drop(gathered, problems)
    return gathered, problems


@contextlib.contextmanager
def _into(problems: list[Problem], name: str, log: Path) -> Iterator[None]:
    try:
        yield
    except SemibodyError as error:
        problems.append(Problem(name, str(error), fatal=True))
    except Exception as error:
        problems.append(Problem(name, foreign_failure(error, log), fatal=True))


def _drop(gathered: Gathered, problems: Sequence[Problem]) -> None:
    gone = {problem.name for problem in problems if problem.fatal}
    gathered.items = [item for item in gathered.items if item.name not in gone]


def _file_jobs(gathered: Gathered, item: Item, names: Sequence[str]) -> Iterator[_Job]:
    sides: dict[Side, Path] = {"generated": item.generated}
    if item.real is not None:
        sides["real"] = item.real
    facts = {side: probe(path) for side, path in sides.items()}
    fps = gathered.fps[item.name] = facts["generated"].fps
    # Read now, so that their mistakes are reported before the work, with the clip's name.
    gathered.truth(item), gathered.gesture(item)
    spoken = item.speech or next((path for side, path in sides.items() if facts[side].sound), None)
    for side, path in sides.items():
        sound = path if facts[side].sound else spoken
        source = extract.SampledVideo(path, fps, sound, side == "real")
        yield from _job(gathered, item.name, side, source, names)
    embedders = [name for name in names if name in ("dlib", "arcface")]
    if item.portrait is not None and embedders:
        yield from _portrait_job(gathered, item.name, item.portrait, embedders)


def _key(gathered: Gathered, name: str, side: Side, *content: str | float) -> str:
    kind = extract.KINDS[name]
    settings = {setting: getattr(gathered.rules, setting) for setting in kind.settings}
    beside: list[str] = [side] if kind.by_side else []
    device = gathered.rules.device.partition(":")[0]
    if kind.on_device and device != "cpu":
        beside.append(device)
    return key_of(name, kind.version, settings, kind.model(), *content, *beside)


def _job(
    gathered: Gathered, name: str, side: Side, source: extract.SampledVideo, kinds: Sequence[str]
) -> Iterator[_Job]:
    sound = digest(source.sound) if source.sound else ""
    content = digest(source.path), round(source.fps, 4), sound
    keys = [(kind, _key(gathered, kind, side, *content)) for kind in kinds]
    gathered.keys |= {(name, side, kind): key for kind, key in keys}
    missing = gathered.missing(keys)
    if missing:
        yield _Job(name, missing, functools.partial(_measure, source, [kind for kind, _ in missing]))


def _measure(source: extract.SampledVideo, kinds: Sequence[str], rules: Protocol) -> Mapping[str, Arrays]:
    return extract.measure(source, [extract.KINDS[name] for name in kinds], rules)


def _portrait_job(gathered: Gathered, name: str, portrait: Path, kinds: Sequence[str]) -> Iterator[_Job]:
    content = digest(portrait), "picture"
    keys = [(kind, _key(gathered, kind, "portrait", *content)) for kind in kinds]
    gathered.keys |= {(name, "portrait", kind): key for kind, key in keys}
    missing = gathered.missing(keys)
    if missing:
        yield _Job(
            name, missing, functools.partial(_measure_portrait, portrait, [kind for kind, _ in missing])
        )


def _measure_portrait(portrait: Path, kinds: Sequence[str], rules: Protocol) -> Mapping[str, Arrays]:
    source = extract.SampledVideo(portrait, 1.0, None)
    frame = extract.Frame(0, read_image(portrait))
    found = {}
    for kind in kinds:
        extractor = extract.KINDS[kind].open(source, rules)
        extractor.add(frame)
        found[kind] = extractor.finish()
    return found


def _pair_job(gathered: Gathered, item: Item) -> Iterator[_Job]:
    assert item.real is not None
    boxes = _boxes(gathered, item)
    print_of_boxes = key_of({name: rows.tobytes().hex() for name, rows in boxes.items()})
    every, start = gathered.rules.pixels_every, gathered.rules.pixels_from
    key = key_of(
        "pixels",
        frames.VERSION,
        frames.COLUMNS,
        every,
        start,
        digest(item.generated),
        digest(item.real),
        print_of_boxes,
    )
    gathered.keys[item.name, "generated", "pixels"] = key
    if gathered.missing([("pixels", key)]):
        work = functools.partial(_compare, item.generated, item.real, boxes, every, start)
        yield _Job(item.name, (("pixels", key),), work)


def _compare(
    generated: Path, real: Path, boxes: Mapping[str, NDArray[Any]], every: int, start: int, _: Protocol
) -> Mapping[str, Arrays]:
    return {"pixels": frames.compare(generated, real, boxes, every=every, start=start)}


def _boxes(gathered: Gathered, item: Item) -> dict[str, NDArray[Any]]:
    """Where face and hands are: from truth, else from what was found in REAL."""
    truth = gathered.truth(item)
    if truth is not None:
        return {part: rows.astype(np.float64) for part, rows in truth.boxes.items()}
    joints = gathered.arrays(item.name, "real", "joints-dwpose") or gathered.arrays(
        item.name, "real", "joints"
    )
    return extract.regions_of(gathered.arrays(item.name, "real", "faces"), joints)


def _run(
    jobs: Sequence[_Job],
    cache: Cache,
    rules: Protocol,
    workers: int | Workers,
    progress: Progress,
    stage: str,
) -> list[Problem]:
    problems: list[Problem] = []
    calls = [(job, cache, rules) for job in jobs]
    where = workers if isinstance(workers, Workers) else Workers(workers=workers)
    if where.ray is None and (where.workers == 1 or len(jobs) < 2):
        done: Iterator[tuple[str, str]] = itertools.starmap(_do, calls)
    else:
        done = run_jobs(_do, calls, where, gpu=True, given_up=_give_up)
    for number, (name, mistake) in enumerate(done):
        if mistake:
            problems.append(Problem(name, mistake, fatal=True))
        progress(stage, number + 1, len(jobs))
    return problems


def _do(job: _Job, cache: Cache, rules: Protocol) -> tuple[str, str]:
    """Runs in a worker; returns the clip's name and its mistake (empty: none)."""
    try:
        found = job.work(rules)
        for kind, key in job.keys:
            cache.save(key, found[kind])
    except SemibodyError as error:
        return job.name, str(error)
    except Exception as error:
        return job.name, foreign_failure(error, cache.log)
    return job.name, ""


def _give_up(job: _Job, *_: Any) -> tuple[str, str]:
    return (
        job.name,
        "its process died twice, perhaps for lack of memory; try fewer --workers, or leave it out",
    )
