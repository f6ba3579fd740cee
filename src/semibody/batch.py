"""Many clips with one loading of the weights, from a file that lists them.

    jobs = read_jobs(Path("jobs.jsonl"))
    for result in run_jobs(animator, jobs): ...

A line of the file is one clip, paths as seen from the file's folder; every setting of a clip may stand in it:

    {"portrait": "ann.png", "speech": "hello.mp3", "out": "ann-hello.mp4"}
    {"portrait": "ann.png", "speech": "bye.wav", "gesture": "wave", "out": "ann-bye.mp4", "seed": 7}
    {"portrait": "ann.png", "say": "Guten Morgen!", "voice": "de+f3", "out": "ann-morgen.mp4"}

Clips that exist are not made again, so a stopped batch continues when it is run again; a clip that fails
does not stop the others.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from semibody import config, media
from semibody.animator import Animator
from semibody.files import exists, foreign_failure, numbered_lines, parse_json, refuse_input
from semibody.inputs import AUTO, choose_speech
from semibody.settings import Settings, Words
from semibody.types import Progress, SemibodyError, silent

_PATHS, _WORDS = ("portrait", "speech", "out"), ("say", "voice")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One clip to be made."""

    line: int
    """in the file, from 1"""
    portrait: Path
    out: Path
    speech: Path | None = None
    """None: ``words`` are spoken"""
    words: Words = field(default_factory=Words)
    gesture: str = AUTO
    """auto, the name of a gesture of the library, or a path"""
    settings: dict[str, Any] = field(default_factory=dict)
    """fields of ``Settings`` that differ from the weights' own"""


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a job ended."""

    job: Job
    state: Literal["made", "kept", "failed"]
    """kept: it was there before"""
    seconds: float = 0.0
    """of computing"""
    notices: tuple[str, ...] = ()
    """what the user should know, or why it failed"""


def read_jobs(path: Path) -> list[Job]:
    """The clips that a file of JSON lines lists; empty lines do not count.

    Raises SemibodyError naming the line that is no job, has an unknown key, names a file that is not there,
    or the same video as another line.
    """
    lines = numbered_lines(path, "give a file of JSON lines")
    jobs = [_job(text, path, number) for number, text in lines]
    if not jobs:
        raise SemibodyError(f"{path}: is empty; write a line of JSON for each clip")
    first: dict[Path, int] = {}
    for job in jobs:
        if first.setdefault(job.out, job.line) != job.line:
            raise SemibodyError(f"{path}:{job.line}: makes the same video as line {first[job.out]}")
    return jobs


def _job(text: str, path: Path, number: int) -> Job:
    source = f"{path}:{number}"
    values = parse_json(text, source, "write an object of JSON in each line")
    if not isinstance(values, dict):
        raise SemibodyError(f'{source}: write an object, for example {{"portrait": "a.png", …}}')
    for key in (*_PATHS, *_WORDS, "gesture"):
        if key in values and not isinstance(values[key], str):
            raise SemibodyError(f"{source}: {key} must be text")
    words = Words(**{key: values.pop(key) for key in _WORDS if key in values})
    if words != Words() and "speech" in values:
        raise SemibodyError(f"{source}: give either speech, or say and voice")
    missing = [key for key in _PATHS if key not in values and (key != "speech" or words.say is None)]
    if missing:
        raise SemibodyError(f"{source}: {' and '.join(missing)} missing")
    portrait, out = (path.parent / values.pop(key) for key in ("portrait", "out"))
    speech = path.parent / values.pop("speech") if words.say is None else None
    for file in (portrait, speech):
        if file is not None and not (exists(file) and file.is_file()):
            raise SemibodyError(f"{source}: {file}: no such file")
    gesture = values.pop("gesture", AUTO)
    if exists(path.parent / gesture):
        gesture = str(path.parent / gesture)
    background = path.parent / str(values.get("background", ""))
    if "background" in values and exists(background):
        values["background"] = str(background)
    refuse_input(out, portrait, speech, gesture, values.get("background"))
    chosen = config.build(Settings, values, source)
    media.require_video_name(out, f"{source}: ", alpha=chosen.alpha)
    return Job(
        line=number, portrait=portrait, speech=speech, words=words, out=out, gesture=gesture, settings=values
    )


def run_jobs(
    animator: Animator, jobs: Sequence[Job], *, again: bool = False, progress: Progress = silent
) -> Iterator[Result]:
    """Make the clips one after the other; ``again`` makes those anew that exist.

    What goes wrong with a job is its result, with the traceback of what nobody expected in ``errors.log``
    beside its video; only what would befall the next job too (a full disk) ends the batch.
    """
    for done, job in enumerate(jobs):
        progress("clips", done, len(jobs))
        if job.out.exists() and not again:
            yield Result(job=job, state="kept")
            continue
        started = time.monotonic()
        try:
            sound = choose_speech(job.speech, job.words)
            assert sound is not None  # read_jobs refuses a line with neither
            inputs = animator.animate_to(
                job.out, job.portrait, sound, job.gesture, progress=progress, **job.settings
            )
        except SemibodyError as error:
            yield Result(job=job, state="failed", notices=(str(error),))
        except Exception as error:
            why = foreign_failure(error, job.out.with_name("errors.log"))
            yield Result(job=job, state="failed", notices=(why,))
        else:
            seconds = time.monotonic() - started
            yield Result(job=job, state="made", seconds=seconds, notices=inputs.notices)
    progress("clips", len(jobs), len(jobs))
