"""The manifest: one JSON line a clip, shared by synthetic people, ingested video and the trainer.

A data folder holds ``manifest.jsonl`` and the files its lines name, by paths relative to the folder:

``video``    the picture: any format PyAV reads.
``audio``    16 kHz mono wav; empty when the clip has no sound.
``gesture``  npz of ``pose.files.save_gesture``: joints in image space, visibility as confidence.
``truth``    npz: ``jaw`` (f,) opening 0..1 and ``boxes/<part>`` (f, 4), see ``Truth``; may be empty.

``person`` decides the ``split``: no person is in two of them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from semibody.files import atomic_write
from semibody.types import SemibodyError

VERSION = 1
NAME = "manifest.jsonl"
BOXES = ("lips", "face", "head", "left_hand", "right_hand")

Split = Literal["train", "val", "test"]
Kind = Literal["full", "head"]
Source = Literal["synthetic", "real"]

_CHOICES: dict[str, tuple[str, ...]] = {
    "split": get_args(Split),
    "kind": get_args(Kind),
    "source": get_args(Source),
}
_PATHS = ("video", "audio", "gesture", "truth")


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
    source: Source
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

    def as_line(self, folder: Path) -> str:
        """The entry as a line of the manifest in ``folder``."""
        values: dict[str, Any] = {"version": VERSION}
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if item.name in _PATHS:
                value = _relative(value, folder) if value is not None else ""
            values[item.name] = dict(value) if isinstance(value, Mapping) else value
        return json.dumps(values, ensure_ascii=False, allow_nan=False)


@dataclass(frozen=True)
class Truth:
    """What is known of every frame of a clip.

    ``jaw``    (f,) opening of the mouth: 0 closed, 1 the widest the face can speak.
    ``boxes``  part → (f, 4) x0, y0, x1, y1 as fractions of the picture; NaN where the part is not in view.
    """

    jaw: NDArray[np.float32]
    boxes: Mapping[str, NDArray[np.float32]]

    def __post_init__(self) -> None:
        frames = len(self.jaw)
        if self.jaw.shape != (frames,):
            raise ValueError(f"Truth.jaw must be (f,), got {self.jaw.shape}")
        for part, boxes in self.boxes.items():
            if part not in BOXES or boxes.shape != (frames, 4):
                raise ValueError(f"Truth.boxes[{part!r}] must be ({frames}, 4) for a part of {BOXES}")

    def save(self, path: Path) -> None:
        arrays = {f"boxes/{part}": boxes for part, boxes in self.boxes.items()}
        with atomic_write(path) as unfinished:
            np.savez_compressed(unfinished, jaw=self.jaw, **arrays)

    @classmethod
    def load(cls, path: Path) -> Truth:
        """Raises SemibodyError if the file cannot be read or lacks an array."""
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                boxes = {part: arrays[f"boxes/{part}"] for part in BOXES if f"boxes/{part}" in arrays}
                return cls(arrays["jaw"], boxes)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise SemibodyError(
                f"{path}: not a truth file ({error}); delete it and make the data again"
            ) from None


def box_around(points: NDArray[np.float64], margin: float) -> NDArray[np.float32]:
    """(f, 4) around points (f, k, 2), grown by ``margin`` of its size, cut to the picture; NaN outside it."""
    low, high = points.min(axis=1), points.max(axis=1)
    grow = margin * (high - low).max(axis=1, keepdims=True)
    boxes = np.concatenate([low - grow, high + grow], axis=1).clip(0, 1)
    gone = (boxes[:, 2] - boxes[:, 0] < 0.004) | (boxes[:, 3] - boxes[:, 1] < 0.004)
    boxes[gone] = np.nan
    return boxes.astype(np.float32)


def read_manifest(path: Path | str) -> list[ClipEntry]:
    """Read a manifest: ``path`` is the file or the folder that holds it.

    Raises SemibodyError naming file, line and field for a line that is broken, of another version, or
    repeats an id, and for a person in two splits. Whether the clips' files exist is not checked here.
    """
    path = Path(path)
    if path.is_dir():
        path = path / NAME
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SemibodyError(
            f"{path}: no readable manifest ({reason}); make data with `semibody data synthesise`"
        ) from None
    entries = [
        parse_line(line, path.parent, f"{path}:{number}")
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    _require_consistent(entries, path)
    return entries


def write_manifest(entries: Iterable[ClipEntry], path: Path | str) -> None:
    """Write the manifest (``path`` is the file or its folder), sorted by id, all or nothing."""
    path = Path(path)
    if path.suffix != ".jsonl":
        path = path / NAME
    ordered = sorted(entries, key=lambda entry: entry.id)
    _require_consistent(ordered, path)
    text = "".join(f"{entry.as_line(path.parent)}\n" for entry in ordered)
    with atomic_write(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


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


def parse_line(line: str, folder: Path, where: str) -> ClipEntry:
    """One line of a manifest in ``folder``; ``where`` is named in errors."""
    try:
        values = json.loads(line)
    except json.JSONDecodeError as error:
        raise SemibodyError(f"{where}: not JSON ({error.msg}); remove the line") from None
    if not isinstance(values, dict) or values.pop("version", None) != VERSION:
        raise SemibodyError(f"{where}: not a line of version {VERSION}; make the manifest again")
    hints = {item.name: item for item in dataclasses.fields(ClipEntry)}
    missing = [n for n, i in hints.items() if n not in values and n not in ("seed", "parameters")]
    if missing:
        raise SemibodyError(f"{where}: lacks {', '.join(missing)}; make the manifest again")
    kept = {name: values[name] for name in hints if name in values}
    _require_kinds(kept, where)
    for name in _PATHS:
        kept[name] = (folder / kept[name]).absolute() if kept[name] else None
    return ClipEntry(**kept)


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
            f"{where}: {wrong[0]} = {values[wrong[0]]!r} is not valid; mend or remove the line"
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
