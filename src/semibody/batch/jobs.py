"""What is to be made: jobs, and the files that list them.

A line of a ``.jsonl`` file is one clip, paths as seen from the file's folder; every setting of a clip may
stand in it. A ``.csv`` file has the same names in its first row; an empty cell is a setting not changed:

    {"portrait": "ann.png", "speech": "hello.mp3", "out": "ann-hello.mp4"}
    {"portrait": "ann.png", "speech": "bye.wav", "gesture": "wave", "out": "ann-bye.mp4", "seed": 7}
    {"portrait": "ann.png", "say": "Guten Morgen!", "voice": "de+f3", "out": "ann-morgen.mp4"}

    portrait,speech,gesture,out,seed
    ann.png,hello.mp3,,ann-hello.mp4,
    ann.png,bye.wav,wave,ann-bye.mp4,7
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from semibody import config, media
from semibody.files import digest, exists, first_line, numbered_lines, parse_json, refuse_input
from semibody.settings import AUTO, Settings, Words
from semibody.types import SemibodyError

_PATHS, _WORDS = ("portrait", "speech", "out"), ("say", "voice")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One clip to be made."""

    portrait: Path
    out: Path
    speech: Path | None = None
    """None: ``words`` are spoken"""
    words: Words = field(default_factory=Words)
    gesture: str = AUTO
    """auto, still, the name of a gesture of the library, or a path"""
    settings: dict[str, Any] = field(default_factory=dict)
    """fields of ``Settings`` that differ from the weights' own"""
    line: int = 0
    """in the file, from 1; 0: it is from none"""

    def key(self, identity: Mapping[str, Any]) -> str:
        """The hash of what decides the video: contents of the inputs, settings, and ``identity``, which holds
        what else does, and the default settings. Where files lie and what they are called does not matter.
        Raises SemibodyError for an input that cannot be read."""
        settings = {**identity["settings"], **self.settings}
        decides = {
            "portrait": digest(self.portrait),
            "speech": asdict(self.words) if self.speech is None else digest(self.speech),
            "gesture": _content(self.gesture),
            "ending": self.out.suffix.lower(),
            **identity,
            "settings": {**settings, "background": _content(str(settings["background"]))},
        }
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:32]


def _content(given: str) -> str:
    """The hash of a file or folder; of what is none, the text itself."""
    return digest(Path(given)) if exists(Path(given)) else given


@dataclass(frozen=True, kw_only=True)
class BadLine:
    """A line that is no job."""

    line: int
    why: str


def read_jobs(path: Path) -> list[Job]:
    """The clips that a file lists; empty lines do not count.

    Raises SemibodyError naming the first line that is no job, as ``sort_jobs`` finds them.
    """
    jobs, bad = sort_jobs(path)
    if bad:
        raise SemibodyError(bad[0].why)
    return jobs


def sort_jobs(path: Path) -> tuple[list[Job], list[BadLine]]:
    """The clips that a file lists, and the lines that are none.

    A bad line cannot be parsed, has an unknown key, names a file that is not there, or the same video as
    a line before it. Raises SemibodyError for a file that cannot be read or lists nothing.
    """
    rows = _csv_rows(path) if path.suffix.lower() == ".csv" else _json_rows(path)
    jobs: list[Job] = []
    bad: list[BadLine] = []
    first: dict[Path, int] = {}
    for number, values in rows:
        try:
            if isinstance(values, SemibodyError):
                raise values
            job = _job(values, path, number)
            if first.setdefault(job.out, number) != number:
                raise SemibodyError(f"{path}:{number}: makes the same video as line {first[job.out]}")
            jobs.append(job)
        except SemibodyError as error:
            bad.append(BadLine(line=number, why=str(error)))
    if not jobs and not bad:
        raise SemibodyError(f"{path}: is empty; write a line for each clip")
    return jobs, bad


Row = tuple[int, dict[str, Any] | SemibodyError]


def _json_rows(path: Path) -> Iterator[Row]:
    for number, text in numbered_lines(path, "give a file of JSON lines or a .csv"):
        source = f"{path}:{number}"
        try:
            values = parse_json(text, source, "write an object of JSON in each line")
            if not isinstance(values, dict):
                raise SemibodyError(f'{source}: write an object, for example {{"portrait": "a.png", …}}')
            yield number, values
        except SemibodyError as error:
            yield number, error


def _csv_rows(path: Path) -> Iterator[Row]:
    first, *lines = numbered_lines(path, "give a .csv or a file of JSON lines") or [(1, "")]
    names = _cells(first[1], f"{path}:{first[0]}")
    named = set(names)
    if len(named) < len(names) or not {"portrait", "out"} <= named or not {"speech", "say"} & named:
        raise SemibodyError(
            f"{path}: its first row must name portrait, speech (or say) and out, and each name once"
        )
    for number, text in lines:
        source = f"{path}:{number}"
        try:
            cells = _cells(text, source)
            if len(cells) > len(names):
                raise SemibodyError(f"{source}: has {len(cells)} cells, the first row {len(names)}")
            yield number, {name: cell for name, cell in zip(names, cells, strict=False) if cell}
        except SemibodyError as error:
            yield number, error


def _cells(text: str, source: str) -> list[str]:
    try:
        return next(csv.reader([text], skipinitialspace=True, strict=True), [])
    except csv.Error as error:
        raise SemibodyError(f"{source}: not CSV that can be read ({first_line(error)})") from None


def _job(values: dict[str, Any], path: Path, number: int) -> Job:
    source = f"{path}:{number}"
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
    built = config.build(Settings, values, source)
    media.require_video_name(out, f"{source}: ", alpha=built.alpha)
    chosen = {name: getattr(built, name) for name in values}
    return Job(
        line=number, portrait=portrait, speech=speech, words=words, out=out, gesture=gesture, settings=chosen
    )
