"""Many small files in few large ones: tar shards, each with an index of what lies where in it.

    gather(folder, ".clip.safetensors", largest=2**30)     # files that lie there alone go into shards
    members = read_shards(folder, ".clip.safetensors")     # name -> Member
    with members["p00001"].open() as file: file.get_slice("joints")[3:5]

A quarter of a million clips are a quarter of a million files, twice: file systems of clusters are slow with
them, copying them is, and so is opening each to see what it holds. A shard is an ordinary tar, so that any
tool unpacks it; its members are the same safetensors files, uncompressed, so that a sample reads the rows it
needs and no more. Its index (JSON lines beside it) holds place, size and header facts of each member: a
training starts by reading the indices alone. WebDataset's own format was not taken because its readers go
through shards in their order, while here every random choice is a function of (seed, stage, step, sample).

A shard is written under another name and renamed; its index follows; only then the single files go. A run
that is killed anywhere loses nothing, and the next one continues.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from semibody.data.folder import disk_errors_named
from semibody.files import atomic_write, first_line, numbered_lines, parse_json
from semibody.types import Progress, SemibodyError, silent

INDEX = ".index.jsonl"
_LARGEST_HEADER = 16 * 2**20
_DTYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32,
    "I16": np.int16, "U8": np.uint8,
}  # fmt: skip


@dataclass(frozen=True)
class Member:
    """A safetensors file inside a shard."""

    shard: Path
    start: int
    """its first byte in the shard"""
    size: int
    facts: dict[str, str] = field(default_factory=dict)
    """its header's metadata"""

    def open(self) -> Tensors:
        """Its tensors, of which only what is asked for is read."""
        return Tensors(self.shard, self.start, self.size)


class Tensors:
    """Reads a safetensors file that lies within another, as ``safetensors.safe_open`` reads one alone.

    Raises ValueError where header and size do not fit, OSError where the file cannot be read.
    """

    def __init__(self, path: Path, start: int, size: int) -> None:
        self._file: IO[bytes] = path.open("rb", buffering=0)
        try:
            length = int.from_bytes(self._read(start, 8), "little")
            if length > min(size - 8, _LARGEST_HEADER):
                raise ValueError("its header is longer than it is")
            header = json.loads(self._read(start + 8, length))
            self._facts: dict[str, str] = header.pop("__metadata__", {})
            self._start, self._size, self._header = start + 8 + length, size - 8 - length, header
        except BaseException:
            self._file.close()
            raise

    def metadata(self) -> dict[str, str]:
        return self._facts

    def get_slice(self, name: str) -> Slice:
        entry = self._header[name]
        shape = tuple(int(side) for side in entry["shape"])
        first, last = (int(place) for place in entry["data_offsets"])
        dtype = np.dtype(_DTYPES[entry["dtype"]])
        whole = math.prod(shape) * dtype.itemsize
        if not (0 <= first <= last <= self._size and last - first == whole and min(shape, default=0) >= 0):
            raise ValueError(f"'{name}' does not fit into it")
        return Slice(self, entry["dtype"], dtype, shape, self._start + first)

    def get_tensor(self, name: str) -> NDArray[Any]:
        return self.get_slice(name).rows(0, None)

    def _read(self, start: int, count: int) -> bytes:
        content = (
            os.pread(self._file.fileno(), count, start) if hasattr(os, "pread") else self._seek(start, count)
        )
        if len(content) != count:
            raise ValueError("it ends too soon")
        return content

    def _seek(self, start: int, count: int) -> bytes:
        self._file.seek(start)
        return self._file.read(count)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


@dataclass(frozen=True)
class Slice:
    """One tensor, of which rows are read."""

    tensors: Tensors
    name: str
    """its dtype, as safetensors calls it"""
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int

    def get_shape(self) -> list[int]:
        return list(self.shape)

    def get_dtype(self) -> str:
        return self.name

    def rows(self, first: int, last: int | None) -> NDArray[Any]:
        """Rows ``first`` to ``last`` in one read."""
        first, last, _ = slice(first, last).indices(self.shape[0])
        last = max(first, last)
        each = math.prod(self.shape[1:]) * self.dtype.itemsize
        content = self.tensors._read(self.start + first * each, (last - first) * each)
        return np.frombuffer(content, self.dtype).reshape(last - first, *self.shape[1:]).copy()

    def __getitem__(self, which: int | slice) -> NDArray[Any]:
        if isinstance(which, slice):
            if which.step not in (None, 1):
                raise ValueError("rows are read in their order")
            return self.rows(which.start or 0, which.stop)
        if not -self.shape[0] <= which < self.shape[0]:
            raise IndexError(f"row {which} of {self.shape[0]}")
        first = which % self.shape[0]
        return self.rows(first, first + 1)[0]


# -- reading ----------------------------------------------------------------------------------


def read_shards(folder: Path, ending: str) -> dict[str, Member]:
    """Name (without ``ending``) -> member, of all shards in a folder.

    An index that is lost is made again from its shard. Raises SemibodyError for a shard that is missing, or
    shorter than its index says, or an index that is damaged.
    """
    members: dict[str, Member] = {}
    shards = {path.with_suffix("") for path in folder.glob("*.tar")}
    shards |= {path.with_name(path.name.removesuffix(INDEX)) for path in folder.glob(f"*{INDEX}")}
    for base in sorted(shards):
        shard, index = base.with_name(f"{base.name}.tar"), base.with_name(f"{base.name}{INDEX}")
        if not shard.is_file():
            raise SemibodyError(
                f"{shard}: is missing; copy it again, or delete {index.name} to go on without what it holds"
            )
        if not index.is_file():
            _write_index(index, _scan(shard))
        for name, member in _read_index(index, shard).items():
            if name.endswith(ending):
                members[name.removesuffix(ending)] = member
    return members


def _read_index(index: Path, shard: Path) -> dict[str, Member]:
    remedy = f"delete it, it is made again from {shard.name}"
    size = shard.stat().st_size
    members = {}
    for number, line in numbered_lines(index, remedy):
        values = parse_json(line, f"{index}:{number}", remedy)
        try:
            name, start, length, facts = (values[key] for key in ("name", "start", "size", "facts"))
            good = all(type(value) is int and value >= 0 for value in (start, length)) and isinstance(
                facts, dict
            )
        except (KeyError, TypeError):
            good = False
        if not good:
            raise SemibodyError(f"{index}:{number}: is no line of an index; {remedy}")
        if start + length > size:
            raise SemibodyError(f"{shard}: is shorter than its index says; copy it again")
        members[str(name)] = Member(shard, start, length, facts)
    return members


def _scan(shard: Path) -> dict[str, Member]:
    """What a shard holds, from its own headers. Raises SemibodyError for one that is damaged."""
    members = {}
    try:
        with tarfile.open(shard, "r:") as tar:
            for item in tar:
                if item.isfile():
                    member = Member(shard, item.offset_data, item.size)
                    with member.open() as tensors:
                        members[item.name] = Member(shard, item.offset_data, item.size, tensors.metadata())
        if shard.stat().st_size % tarfile.RECORDSIZE:
            raise ValueError("it ends too soon")
    except (tarfile.TarError, OSError, ValueError, KeyError) as error:
        raise SemibodyError(
            f"{shard}: is no shard that can be read ({first_line(error)}); copy it again"
        ) from None
    return members


def _write_index(index: Path, members: dict[str, Member]) -> None:
    lines = [
        json.dumps({"name": name, "start": one.start, "size": one.size, "facts": one.facts})
        for name, one in members.items()
    ]
    with atomic_write(index) as unfinished:
        unfinished.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


# -- gathering --------------------------------------------------------------------------------


def gather(folder: Path, ending: str, *, largest: int = 2**30, progress: Progress = silent) -> int:
    """Put the files of a folder that end in ``ending`` into shards of about ``largest`` bytes; returns how
    many. Files that an earlier run has put into one already are removed.

    Raises SemibodyError on a full disk: what was gathered stays so, the rest stays as files.
    """
    with disk_errors_named(folder):
        there = read_shards(folder, ending)
        singles = sorted(folder.glob(f"*{ending}"))
        kept = [path for path in singles if path.name.removesuffix(ending) not in there]
        for path in set(singles) - set(kept):
            path.unlink()
        number, done = len(list(folder.glob("*.tar"))), 0
        for batch in _batches(kept, largest):
            while (base := folder / f"{ending.split('.')[1]}s-{number:05d}").with_suffix(".tar").exists():
                number += 1
            _write_shard(base, batch)
            for path in batch:
                path.unlink()
            done += len(batch)
            progress("gather", done, len(kept))
    return done


def _batches(paths: Sequence[Path], largest: int) -> Iterator[list[Path]]:
    batch: list[Path] = []
    size = 0
    for path in paths:
        if batch and size + path.stat().st_size > largest:
            yield batch
            batch, size = [], 0
        batch.append(path)
        size += path.stat().st_size
    if batch:
        yield batch


def _write_shard(base: Path, paths: Sequence[Path]) -> None:
    """Write and check a shard and its index; the same files give the same bytes."""
    shard = base.with_name(f"{base.name}.tar")
    with atomic_write(shard) as unfinished:
        with tarfile.open(unfinished, "w", format=tarfile.PAX_FORMAT) as tar:
            for path in paths:
                info = tarfile.TarInfo(path.name)
                info.size = path.stat().st_size
                with path.open("rb") as file:
                    tar.addfile(info, file)
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
    members = _scan(shard)
    if list(members) != [path.name for path in paths]:
        with contextlib.suppress(OSError):
            shard.unlink()
        raise SemibodyError(f"{shard}: does not hold what was written; check the disk and run it again")
    _write_index(base.with_name(f"{base.name}{INDEX}"), members)
