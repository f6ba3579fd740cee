"""Work that a later run continues where a killed one stopped (floor 0).

    with unfinished_work(out, digest(inputs, settings, weights)) as work:
        state = work.load("latents")                  # None: not saved, damaged, or of other work
        ...
        work.save("latents", arrays, {"step": 3})     # complete on the disk, or as it was before
    # the folder is gone

The state lies in a hidden folder beside ``out``, one file a name. A file is written under another name,
forced to the disk and renamed, and it ends with the checksum of its content: after a power cut it is whole,
or the one before, or none. The folder holds the key of what the work is made from; another key empties it.
Whoever saves bounds what is saved: ``drop`` what is no longer needed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from semibody import files
from semibody.files import atomic_write, held_alone, is_folder
from semibody.types import SemibodyError

Arrays = Mapping[str, NDArray[Any]]

SAVE_SECONDS = 60.0
"""Least time between two saves of what is not yet a finished step."""
SAVE_SHARE = 0.05
"""Most of the time that such saves may take."""
_KINDS = {"float32", "float64", "int64", "int32", "uint8"}
_LARGEST_HEADER = 64 * 2**20
_CHUNK = 16 * 2**20


@dataclass(frozen=True)
class Saved:
    """What was saved under a name."""

    arrays: dict[str, NDArray[Any]]
    facts: dict[str, Any]
    """plain values, as JSON holds them"""


class Unfinished:
    """The state of one piece of work, in a folder that this process alone uses."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._saved, self._took = time.monotonic(), 0.0

    def load(self, name: str) -> Saved | None:
        """What was last saved under ``name``; None if nothing was, or if it is damaged."""
        try:
            with (self.folder / name).open("rb") as file:
                return _read(file)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def save(self, name: str, arrays: Arrays, facts: Mapping[str, Any]) -> None:
        """Replace what is saved under ``name``. Raises OSError on a full disk; then the old one stays."""
        started = time.monotonic()
        with atomic_write(self.folder / name) as unfinished, unfinished.open("wb") as file:
            _write(file, arrays, facts)
        _force_to_disk(self.folder)
        self._saved = time.monotonic()
        self._took = self._saved - started

    def due(self) -> bool:
        """Whether it is time to save what would be computed again otherwise."""
        return time.monotonic() - self._saved >= max(SAVE_SECONDS, self._took / SAVE_SHARE)

    def drop(self, name: str) -> None:
        """Remove what is saved under ``name``, if anything is."""
        (self.folder / name).unlink(missing_ok=True)


@contextlib.contextmanager
def unfinished_work(out: Path, key: str) -> Iterator[Unfinished]:
    """The state of the work that makes ``out`` from what ``key`` is the digest of.

    It is removed when the work is done, or was found to be impossible (SemibodyError); whatever else ends the
    work leaves it. Raises SemibodyError if another process is making ``out``.
    """
    folder = folder_of(out)
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder, out):
        work = Unfinished(folder)
        found = work.load("work")
        if found is None or found.facts != {"key": key}:
            _empty(folder)
            work.save("work", {}, {"key": key})
        try:
            yield work
        except SemibodyError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)


def forget(out: Path) -> None:
    """Remove the state of an earlier run that was to make ``out``, unless one is at it now."""
    folder = folder_of(out)
    if is_folder(folder):
        with contextlib.suppress(SemibodyError, OSError), _alone(folder, out):
            shutil.rmtree(folder, ignore_errors=True)


def folder_of(out: Path) -> Path:
    """The hidden folder beside ``out``, of a short name that no other ``out`` has."""
    start = os.fsencode(out.stem)[:20].decode(errors="ignore")
    return out.with_name(f".{start}-{hashlib.sha256(os.fsencode(out.name)).hexdigest()[:8]}.resume")


def _alone(folder: Path, out: Path) -> contextlib.AbstractContextManager[None]:
    return held_alone(folder / "lock", f"{out}: another run is making it; wait for its end")


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name != "lock":
            path.unlink(missing_ok=True)


# -- a file of arrays, with its checksum -------------------------------------------------------------------


class _Summed:
    """A file whose content is added to a checksum on its way."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.sum = file, hashlib.sha256()

    def write(self, content: bytes | memoryview) -> None:
        self.sum.update(content)
        self._file.write(content)

    def read_into(self, target: memoryview) -> None:
        for start in range(0, len(target), _CHUNK):
            part = target[start : start + _CHUNK]
            if self._file.readinto(part) != len(part):  # type: ignore[attr-defined]
                raise ValueError("ends too soon")
            self.sum.update(part)


def _write(file: IO[bytes], arrays: Arrays, facts: Mapping[str, Any]) -> None:
    """Length and text of the header, the arrays' bytes, the checksum of all; then force it to the disk."""
    listed = [[name, array.dtype.name, list(array.shape)] for name, array in arrays.items()]
    header = json.dumps({"facts": dict(facts), "arrays": listed}).encode()
    summed = _Summed(file)
    summed.write(len(header).to_bytes(8, "little"))
    summed.write(header)
    for array in arrays.values():
        if array.dtype.name not in _KINDS:
            raise TypeError(f"cannot save {array.dtype}")
        summed.write(_bytes_of(np.ascontiguousarray(array)))
    file.write(summed.sum.digest())
    file.flush()
    os.fsync(file.fileno())


def _read(file: IO[bytes]) -> Saved:
    """The reverse of ``_write``; foreign errors for a file that is not whole. Sizes are checked before memory
    is taken."""
    size, summed = os.fstat(file.fileno()).st_size, _Summed(file)
    length = bytearray(8)
    summed.read_into(memoryview(length))
    header = bytearray(min(int.from_bytes(length, "little"), _LARGEST_HEADER, size))
    summed.read_into(memoryview(header))
    content = json.loads(header)
    listed = [(str(name), np.dtype(kind), tuple(map(int, shape))) for name, kind, shape in content["arrays"]]
    if any(dtype.name not in _KINDS or min(shape, default=0) < 0 for _, dtype, shape in listed):
        raise ValueError("not arrays of numbers")
    taken = sum(math.prod(shape) * dtype.itemsize for _, dtype, shape in listed)
    if taken + len(header) + len(length) + summed.sum.digest_size != size:
        raise ValueError("not as long as it says")
    arrays = {name: np.empty(shape, dtype) for name, dtype, shape in listed}
    for array in arrays.values():
        summed.read_into(_bytes_of(array))
    if file.read() != summed.sum.digest():
        raise ValueError("damaged")
    return Saved(arrays, dict(content["facts"]))


def _bytes_of(array: NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _force_to_disk(folder: Path) -> None:
    """Have the names in a folder survive a power cut (where folders can be opened as files)."""
    with contextlib.suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


# -- what work is made from --------------------------------------------------------------------------------


def digest(*parts: Any) -> str:
    """A checksum of content: arrays, the files that paths name, plain values, and whatever holds these."""
    total = hashlib.sha256()
    for part in parts:
        _add(part, total)
    return total.hexdigest()


def _add(part: Any, total: Any) -> None:
    """Add a part with its kind and size before it, so that no two different parts give the same bytes."""
    if isinstance(part, np.ndarray):
        total.update(f"array {part.dtype} {part.shape};".encode())
        total.update(_bytes_of(np.ascontiguousarray(part)))
    elif isinstance(part, Path):
        total.update(f"file {files.digest(part)};".encode())
    elif dataclasses.is_dataclass(part) and not isinstance(part, type):
        _add({item.name: getattr(part, item.name) for item in dataclasses.fields(part)}, total)
    elif isinstance(part, Mapping):
        total.update(f"map {len(part)};".encode())
        for key, value in part.items():
            _add(str(key), total)
            _add(value, total)
    elif part is None or isinstance(part, bool | int | float | str):
        text = f"{type(part).__name__} {part!r}".encode(errors="surrogatepass")
        total.update(f"{len(text)};".encode() + text)
    elif isinstance(part, Iterable):
        total.update(b"list;")
        for item in part:
            _add(item, total)
        total.update(b"end;")
    else:
        raise TypeError(f"no digest of {type(part).__name__}")
