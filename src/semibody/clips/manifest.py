"""The manifest: one JSON line a clip, shared by data sets, the evaluation and the benchmarks.

A manifest is a text file, ``manifest.jsonl`` in the folder of its clips. A line names files by paths relative
to that folder:

``video``     the picture: any format PyAV reads.
``audio``     16 kHz mono wav; empty when the clip has no sound.
``gesture``   npz of ``pose.files.save_gesture``: joints in image space, visibility as confidence.
``truth``     npz: ``jaw`` (f,) opening 0..1 and ``boxes/<part>`` (f, 4), see ``truth.Truth``; may be empty.
``portrait``  a picture of the person.

``id`` is the clip's name and ``person`` whom it shows. ``read_lines`` reads any manifest, also one whose
lines leave fields out; ``read_manifest`` reads that of a data set, each line of which is a complete
``ClipEntry``. There ``person`` decides the ``split``: no person is in two of them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from semibody.files import atomic_write, numbered_lines, parse_json
from semibody.types import SemibodyError

VERSION = 1
NAME = "manifest.jsonl"

Split = Literal["train", "val", "test"]
Kind = Literal["full", "head"]
Origin = Literal["synthetic", "real"]
File = Literal["video", "audio", "gesture", "truth", "portrait"]

_CHOICES: dict[str, tuple[str, ...]] = {
    "split": get_args(Split),
    "kind": get_args(Kind),
    "source": get_args(Origin),
}
_PATHS = ("video", "audio", "gesture", "truth")


# -- any manifest --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """One line of a manifest as it is written: ``values`` of the JSON object, paths relative to ``folder``.

    ``where`` is the file with the line's number, for messages.
    """

    values: Mapping[str, Any]
    folder: Path
    where: str

    @property
    def id(self) -> str:
        """The clip's ``id``; without one, the name of its video or gesture."""
        file = self.file("video") or self.file("gesture")
        return str(self.values.get("id") or (file.stem if file else ""))

    @property
    def person(self) -> str:
        return str(self.values.get("person") or "")

    def file(self, kind: File) -> Path | None:
        """The path of a file; None where the line names none. Raises SemibodyError for what is no path."""
        value = self.values.get(kind)
        if value is not None and not isinstance(value, str):
            raise SemibodyError(f"{self.where}: {kind} = {value!r} is not a path; correct or remove the line")
        return self.folder / value if value else None

    def require(self, kind: File) -> Path:
        """The path of a file that must be named. Raises SemibodyError naming the line."""
        path = self.file(kind)
        if path is None:
            raise SemibodyError(f'{self.where}: names no {kind}; add "{kind}": path')
        return path


def find_manifest(path: Path | str) -> Path:
    """The manifest's file: ``path`` itself, or the one in the folder ``path``."""
    path = Path(path)
    return path / NAME if path.is_dir() else path


def read_lines(path: Path, remedy: str) -> list[Line]:
    """The lines of a manifest file, empty ones left out.

    Raises SemibodyError: with ``remedy`` if the file cannot be read; naming file and line number for a line
    that is no JSON object or repeats an id. Whether the files exist is not checked here.
    """
    numbered = numbered_lines(path, remedy)
    lines = [parse_line(text, path.parent, f"{path}:{number}") for number, text in numbered]
    ids = set()
    for line in lines:
        if line.id and line.id in ids:
            raise SemibodyError(f"{line.where}: the id {line.id} occurs twice; remove one of the lines")
        ids.add(line.id)
    return lines


def parse_line(text: str, folder: Path, where: str) -> Line:
    """One line of a manifest in ``folder``; ``where`` is named in errors. Raises SemibodyError."""
    values = parse_json(text, where, "correct or remove the line")
    if not isinstance(values, dict):
        raise SemibodyError(f'{where}: names no video: it is no JSON object; write {{"video": path}}')
    return Line(values, folder, where)


def write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write a manifest of these JSON objects, all or nothing."""
    text = "".join(f"{json.dumps(line, ensure_ascii=False, allow_nan=False)}\n" for line in lines)
    with atomic_write(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


# -- the manifest of a data set ------------------------------------------------------------------------


@dataclass(frozen=True)
class ClipEntry:
    """One clip of a data set, with absolute paths.

    ``frames`` at ``fps``, each ``width`` × ``height`` pixels; ``seconds`` = frames / fps. ``audio`` and
    ``truth`` are None where the clip has none. ``parameters`` holds everything that was drawn or found.
    """

    id: str
    split: Split
    person: str
    kind: Kind
    source: Origin
    video: Path
    audio: Path | None
    gesture: Path
    truth: Path | None
    frames: int
    fps: float
    width: int
    height: int
    seconds: float
    seed: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_line(cls, line: Line) -> ClipEntry:
        """Raises SemibodyError naming file, line and field for a line that is incomplete or not valid."""
        if line.values.get("version") != VERSION:
            raise SemibodyError(f"{line.where}: not a line of version {VERSION}; make the manifest again")
        fields = [item.name for item in dataclasses.fields(cls)]
        missing = [n for n in fields if n not in line.values and n not in ("seed", "parameters")]
        if missing:
            raise SemibodyError(f"{line.where}: lacks {', '.join(missing)}; make the manifest again")
        kept = {name: line.values[name] for name in fields if name in line.values}
        _require_kinds(kept, line.where)
        for name in _PATHS:
            kept[name] = (line.folder / kept[name]).absolute() if kept[name] else None
        return cls(**kept)

    def as_values(self, folder: Path) -> dict[str, Any]:
        """The entry as the JSON object of its line in the manifest of ``folder``."""
        values: dict[str, Any] = {"version": VERSION}
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if item.name in _PATHS:
                value = _relative(value, folder) if value is not None else ""
            values[item.name] = dict(value) if isinstance(value, Mapping) else value
        return values


def read_manifest(path: Path | str) -> list[ClipEntry]:
    """Read the manifest of a data set: ``path`` is the file or the folder that holds it.

    Raises SemibodyError naming file, line and field for a line that is broken, of another version, or
    repeats an id, and for a person in two splits. Whether the clips' files exist is not checked here.
    """
    path = find_manifest(path)
    lines = read_lines(path, "make data with `semibody data synthesise`")
    entries = [ClipEntry.from_line(line) for line in lines]
    _require_consistent(entries, path)
    return entries


def write_manifest(entries: Iterable[ClipEntry], path: Path | str) -> None:
    """Write the manifest (``path`` is the file or its folder), sorted by id, all or nothing."""
    path = Path(path)
    if path.suffix != ".jsonl":
        path = path / NAME
    ordered = sorted(entries, key=lambda entry: entry.id)
    _require_consistent(ordered, path)
    write_lines(path, [entry.as_values(path.parent) for entry in ordered])


def read_entry(file: Path, folder: Path) -> ClipEntry:
    """The entry of one clip, kept as a file of its own while the manifest of ``folder`` is being made."""
    return ClipEntry.from_line(parse_line(file.read_text(encoding="utf-8"), folder, str(file)))


def write_entry(entry: ClipEntry, file: Path, folder: Path) -> None:
    """Write what ``read_entry`` reads, all or nothing."""
    write_lines(file, [entry.as_values(folder)])


def split_of(person: str, val: float = 0.05, test: float = 0.05) -> Split:
    """The split a person belongs to, from the name alone: stable when a set grows."""
    share = int.from_bytes(hashlib.sha256(person.encode()).digest()[:8], "big") / 2**64
    if share < val:
        return "val"
    return "test" if share < val + test else "train"


def _relative(path: Path, folder: Path) -> str:
    try:
        return path.absolute().relative_to(folder.absolute()).as_posix()
    except ValueError:
        raise SemibodyError(f"{path}: lies outside the data folder {folder}; move it inside") from None


def _require_kinds(values: Mapping[str, Any], where: str) -> None:
    wrong = [name for name, choices in _CHOICES.items() if values[name] not in choices]
    wrong += [n for n in ("id", "person", *_PATHS) if not isinstance(values[n], str)]
    wrong += [n for n in ("id", "person", "video", "gesture") if not values[n]]
    wrong += [n for n in _PATHS if _leaves_folder(values[n])]
    for name in ("frames", "width", "height", "fps", "seconds"):
        value = values[name]
        whole = name in ("frames", "width", "height")
        good = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        if not good or not value > 0:
            wrong.append(name)
    if wrong:
        raise SemibodyError(
            f"{where}: {wrong[0]} = {values[wrong[0]]!r} is not valid; correct or remove the line"
        )


def _leaves_folder(path: Any) -> bool:
    return isinstance(path, str) and (Path(path).is_absolute() or ".." in Path(path).parts)


def _require_consistent(entries: Iterable[ClipEntry], path: Path) -> None:
    ids: set[str] = set()
    splits: dict[str, str] = {}
    for entry in entries:
        if entry.id in ids:
            raise SemibodyError(f"{path}: the id {entry.id} occurs twice; remove one of the lines")
        ids.add(entry.id)
        if splits.setdefault(entry.person, entry.split) != entry.split:
            raise SemibodyError(f"{path}: person {entry.person} is in two splits; keep one")
