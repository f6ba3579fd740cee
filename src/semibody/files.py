"""Files read within limits and written whole or not at all (floor 0).

Whatever comes from outside passes a gate of its kind: ``read_json``, ``parse_toml``, ``read_npz``. A gate
checks sizes before memory is taken, and whatever goes wrong in it is a SemibodyError that names the file.
``atomic_write`` is how files are made, ``path_of`` how ids become their names."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import socket
import time
import tomllib
import traceback
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from semibody.types import SemibodyError

T = TypeVar("T")

LARGEST_TEXT = 256 * 2**20
"""Bytes of a JSON, TOML or text file; an hour of OpenPose JSON has about 200 MB."""
LARGEST_NPZ = 2 * 2**30
"""Bytes of all arrays of an ``.npz`` together, unpacked; an hour of poses at 60 fps has 660 MB."""
MOST_ARRAYS = 4096
"""Arrays in an ``.npz``."""
_LONGEST_NAME = 20
"""Bytes of the final name, and of its ending, that the temporary one repeats."""
_LONGEST_ID = 180
"""Bytes of an id that is part of a file's name; file systems allow 255 for the whole."""
DISK_ERRORS = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO,
)  # fmt: skip
"""Errors of the disk or the folder rather than of one name: the next file would fail too."""
_ABANDONED = 7 * 24 * 3600.0
"""Seconds after which an unfinished file of another machine is taken for a killed run's."""
_DEEPEST = 64
"""Tables within tables in a TOML file."""
_PLAIN = "biufUS"
"""Kinds of numbers and strings an array may hold: nothing that is a pointer or has fields."""

# -- writing -------------------------------------------------------------------------------


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; on success rename it to ``path``, on failure remove it.

    An existing file at ``path`` stays unchanged until the new one is complete. Where ``path`` is a
    symbolic link, the file it points to is replaced and the link stays. Raises SemibodyError if nothing
    can be written there.

        with atomic_write(out) as unfinished:
            unfinished.write_bytes(data)
    """
    with _named(path):
        target = Path(os.path.realpath(path, strict=False)) if path.is_symlink() else path
        if target.is_symlink():
            raise SemibodyError(f"{path}: is a link that points to itself; remove it")
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(target.parent.absolute())
        unfinished = unfinished_name(target)
        unfinished.touch()
    try:
        permissions = unfinished.stat().st_mode
        yield unfinished
        unfinished.chmod(permissions)  # safetensors makes its files for the owner alone
        with _named(path):
            unfinished.replace(target)
    except BaseException as error:
        unfinished.unlink(missing_ok=True)
        # safetensors reports the system's errors under its own class, with their number in the text.
        if type(error).__name__ == "SafetensorError" and (code := re.search(r"os error (\d+)", str(error))):
            raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from None
        raise
    finally:
        _ours.discard(unfinished.name)


def require_writable(path: Path) -> None:
    """Check whether ``path`` can be written, before the work; raises as ``atomic_write``."""

    class _EnoughError(Exception):
        pass

    with contextlib.suppress(_EnoughError), atomic_write(path):
        raise _EnoughError


@contextlib.contextmanager
def held_alone(lock: Path, busy: str) -> Iterator[None]:
    """Hold a file's lock, which ends with the process in whatever way that ends. Raises SemibodyError with
    ``busy`` where another process holds it."""
    with lock.open("w") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # Windows has no such lock
            pass
        except BlockingIOError:
            raise SemibodyError(busy) from None
        yield


def require_space(path: Path, size: float) -> None:
    """Raise SemibodyError if the disk on which ``path`` will be has less than ``size`` bytes to spare."""
    place = path.absolute().parent
    while not exists(place) and place != place.parent:
        place = place.parent
    with contextlib.suppress(OSError):  # where the system does not tell, writing will
        free = shutil.disk_usage(place).free
        if free < size:
            raise SemibodyError(
                f"{path}: takes about {size / 2**20:,.0f} MB or more, and {free / 2**20:,.0f} MB are free "
                "there; make room, or choose another place with -o"
            )


def unfinished_name(path: Path) -> Path:
    """A hidden name beside ``path`` for an unfinished file or folder, different at each call.

    It is short, whatever the final name's length: a file system allows names of 255 bytes at most. The
    ending stays, because writers choose the format by it. Machine and process stand in it, so that
    ``remove_leftovers`` knows whether anyone still writes to it.
    """
    start = os.fsencode(path.stem)[:_LONGEST_NAME].decode(errors="ignore")
    ending = path.suffix if len(os.fsencode(path.suffix)) <= _LONGEST_NAME else ""
    owner = f"{_machine()}-{os.getpid():x}-{secrets.token_hex(2)}"
    made = path.with_name(f".{start}.{owner}.unfinished{ending}")
    _ours.add(made.name)
    return made


@contextlib.contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """Give an empty hidden folder beside ``path`` that is removed at the end, or by a later run."""
    with _named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent.absolute())
        unfinished = unfinished_name(path)
        unfinished.mkdir()
    try:
        yield unfinished
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


@functools.lru_cache(maxsize=4096)
def remove_leftovers(folder: Path) -> None:
    """Remove the unfinished files and folders that killed processes left, once in a process.

    Those of another machine, or container, cannot be asked for: they go when a week old.
    """
    for path in folder.glob(".*.unfinished*"):
        owner = _OWNED.search(path.name)
        if owner is not None and not _is_used(path, owner["machine"], int(owner["process"], 16)):
            remove(path)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all in it, if it is there and can be removed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _is_used(path: Path, machine: str, process: int) -> bool:
    if machine != _machine():
        with contextlib.suppress(OSError):
            return time.time() - path.lstat().st_mtime < _ABANDONED
        return True
    if process == os.getpid():  # in containers the next run often has the number of the last
        return path.name in _ours
    return _is_alive(process)


_ours: set[str] = set()
"""The names that this process has given to unfinished files."""
_OWNED = re.compile(r"\.(?P<machine>[0-9a-f]{4})-(?P<process>[0-9a-f]{1,8})-[0-9a-f]{4}\.unfinished")


@functools.cache
def _machine() -> str:
    """Four letters for this machine: a shared folder may hold the unfinished files of another."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:4]


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's process, or no number a process can have
        return True
    return True


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn errors of a name into a SemibodyError; that of a full or read-only disk stays an OSError."""
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a NUL or half a surrogate pair in the name
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            raise
        raise SemibodyError(
            f"{printable(path)}: cannot be written ({_reason(error)}); choose another name or place with -o"
        ) from None


def refuse_input(output: Path | str, *inputs: Path | str | None) -> None:
    """Raise SemibodyError if writing ``output`` would destroy one of ``inputs``.

    Compared are the files, not their names: links count. None among the inputs is left out, as are names
    that are no file.
    """
    target = Path(output)
    for source in inputs:
        if source is None:
            continue
        with contextlib.suppress(OSError, ValueError):
            given = Path(source)
            same = given.exists() and (
                given.resolve() == target.resolve() or (target.exists() and given.samefile(target))
            )
            if same:
                raise SemibodyError(
                    f"{target}: would overwrite the input {given}; choose another name with -o"
                )


def path_of(folder: Path, name: str, ending: str) -> Path:
    """The file of what is called ``name`` (an id from a manifest, a clip, a log) in ``folder``.

    Raises SemibodyError as ``require_name``: no id leads out of the folder.
    """
    require_name(name, str(folder))
    return folder / f"{name}{ending}"


def require_name(name: str, source: str) -> None:
    """Raise SemibodyError, naming ``source``, unless ``name`` can be part of a file's name anywhere."""
    bad = not name or name in (".", "..") or any(c in "/\\\0" or not c.isprintable() for c in name)
    try:
        bad = bad or len(name.encode()) > _LONGEST_ID
    except UnicodeEncodeError:  # half a surrogate pair
        bad = True
    if bad:
        shown = name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"
        raise SemibodyError(
            f"{source}: the id {shown!r} cannot be a file's name; write letters, digits, - and _ in its place"
        )


# -- one job of many -----------------------------------------------------------------------


def foreign_failure(error: Exception, log: Path) -> str:
    """Why one of many jobs failed, in a line, when nobody expected that; the traceback goes to ``log``.

    Raises ``error`` again if it would befall the next job too: the disk is full or read-only.
    """
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        raise error
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8", errors="backslashreplace") as file:
        file.writelines(traceback.format_exception(error))
    return f"{type(error).__name__}: {first_line(error)}; {log} has the details"


# -- reading -------------------------------------------------------------------------------


def digest(path: Path) -> str:
    """SHA-256 of a file's content, or of a folder's files by name and content. Raises SemibodyError."""
    try:
        if path.is_dir():
            inner = [one for one in sorted(path.rglob("*")) if one.is_file()]
            parts = [f"{one.relative_to(path).as_posix()}\0{digest(one)}\n" for one in inner]
            return hashlib.sha256("".join(parts).encode(errors="surrogateescape")).hexdigest()
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError) as error:
        reason = _reason(error)
        raise SemibodyError(f"{printable(path)}: cannot be read ({reason}); check its name") from None


def require_file(path: Path, what: str) -> None:
    """Raise SemibodyError unless ``path`` is a readable file with something in it."""
    try:
        if path.is_dir():
            raise SemibodyError(f"{path}: is a folder; give {what}")
        with path.open("rb") as file:
            empty = not file.read(1)
    except FileNotFoundError:
        if _ADDRESS.match(str(path)):
            raise SemibodyError(f"{printable(path)}: is an address; download the file first") from None
        raise SemibodyError(f"{printable(path)}: no such file; check the path of {what}") from None
    except (OSError, ValueError) as error:
        reason = _reason(error)
        raise SemibodyError(f"{printable(path)}: cannot be read ({reason}); check its permissions") from None
    if empty:
        raise SemibodyError(f"{path}: is empty; give {what}")


_ADDRESS = re.compile(r"(https?|ftp):/", re.IGNORECASE)


def exists(path: Path) -> bool:
    """Whether something is there; False for a name that nothing can have, where pathlib raises."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Whether a folder is there; False for a name that nothing can have, where pathlib raises."""
    return exists(path) and path.is_dir()


def read_bytes(path: Path, remedy: str, largest: int) -> bytes:
    """The content of a file of at most ``largest`` bytes. Raises SemibodyError with ``remedy``."""
    try:
        with path.open("rb") as file:
            content = file.read(largest + 1)  # a device or a pipe has no size to ask for
    except FileNotFoundError:
        raise SemibodyError(f"{printable(path)}: cannot be read (no such file); {remedy}") from None
    except (OSError, ValueError) as error:
        raise SemibodyError(f"{printable(path)}: cannot be read ({_reason(error)}); {remedy}") from None
    if len(content) > largest:
        raise SemibodyError(f"{path}: is larger than {largest / 2**20:g} MB; {remedy}")
    return content


def read_text(path: Path, remedy: str) -> str:
    """A UTF-8 file as text. Raises SemibodyError with ``remedy``."""
    try:
        return read_bytes(path, remedy, LARGEST_TEXT).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SemibodyError(f"{path}: cannot be read (not UTF-8 text); {remedy}") from None


def numbered_lines(path: Path, remedy: str) -> list[tuple[int, str]]:
    """The lines of a text file that are not empty, with their numbers from 1.

    Only a line feed ends a line: str.splitlines would also cut at U+2028, which may stand in a name.
    Raises SemibodyError with ``remedy`` if the file cannot be read.
    """
    lines = read_text(path, remedy).split("\n")
    return [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def read_json(path: Path, remedy: str) -> Any:
    """The content of a JSON file. Raises SemibodyError, naming the file, with ``remedy``."""
    return parse_json(read_text(path, remedy), str(path), remedy)


def parse_json(text: str, source: str, remedy: str) -> Any:
    """Parse JSON; ``source`` is named in errors. Raises SemibodyError with ``remedy``.

    Text with NUL or half a surrogate pair is refused: neither can stand in a file's name or be written.
    """
    try:
        value = json.loads(text)
        if "\\u" in text:
            _require_plain_text(value)
    except RecursionError:
        raise SemibodyError(f"{source}: is nested too deeply; {remedy}") from None
    except ValueError as error:
        raise SemibodyError(f"{source}: not JSON that can be read ({_wrong(error)}); {remedy}") from None
    return value


def _require_plain_text(value: Any) -> None:
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError("a NUL character")
        value.encode()  # UnicodeEncodeError is a ValueError
    elif isinstance(value, dict):
        for key, item in value.items():
            _require_plain_text(key)
            _require_plain_text(item)
    elif isinstance(value, list):
        for item in value:
            _require_plain_text(item)


def parse_toml(text: str, source: str) -> dict[str, Any]:
    """Parse TOML; ``source`` is named in errors. Raises SemibodyError."""
    try:
        values = tomllib.loads(text)
        _require_shallow(values, _DEEPEST)
        return values
    except RecursionError:
        raise SemibodyError(f"{source}: is nested too deeply; write plain keys and values") from None
    except ValueError as error:  # TOMLDecodeError is one; so are numbers of thousands of digits
        raise SemibodyError(f"{source}: not valid TOML: {_wrong(error)}") from None


def _wrong(error: ValueError) -> str:
    """What a parser found; Python's own words on long numbers advise to change Python."""
    said = first_line(error)
    return "a number of thousands of digits" if "integer string conversion" in said else said


def _require_shallow(value: Any, levels: int) -> None:
    if levels == 0:
        raise RecursionError
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _require_shallow(item, levels - 1)


def read_npz(path: Path, remedy: str, *, largest: int = LARGEST_NPZ) -> dict[str, NDArray[Any]]:
    """The arrays of an ``.npz``, of numbers or strings, ``largest`` bytes in all when unpacked.

    Sizes are compared with what the archive and each array's header state before any memory is taken.
    Nothing is unpickled. Raises SemibodyError, naming the file, with ``remedy``.
    """
    return _open_npz(path, remedy, largest, _read_member)


def is_npz(path: Path, *, largest: int = LARGEST_NPZ) -> bool:
    """Whether ``read_npz`` would read it, as far as its directory and its arrays' headers tell."""
    try:
        _open_npz(path, "", largest, _member_header)
    except SemibodyError:
        return False
    return True


def _open_npz(path: Path, remedy: str, largest: int, read: Callable[..., T]) -> dict[str, T]:
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if len(members) > MOST_ARRAYS or sum(member.file_size for member in members) > largest:
                raise SemibodyError(f"{path}: unpacks to more than {largest / 2**20:g} MB; {remedy}")
            for member in members:
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise SemibodyError(f"{path}: is packed in a way that numpy does not; {remedy}")
            found = {}
            for member in members:
                with archive.open(member) as content:
                    found[member.filename.removesuffix(".npy")] = read(content, member, path, remedy)
            return found
    except SemibodyError:
        raise
    except FileNotFoundError:
        raise SemibodyError(f"{printable(path)}: no such file; {remedy}") from None
    except Exception as error:  # zipfile, zlib, tokenize and ast have no error in common
        raise SemibodyError(
            f"{printable(path)}: not an .npz that can be read ({first_line(error)}); {remedy}"
        ) from None


def _member_header(
    file: IO[bytes], member: zipfile.ZipInfo, path: Path, remedy: str
) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    shape, fortran, dtype = read_npy_header(file)
    if dtype.kind not in _PLAIN or dtype.fields or dtype.subdtype:
        raise SemibodyError(f"{path}: '{member.filename}' holds {dtype}, not plain numbers; {remedy}")
    if math.prod(shape) * dtype.itemsize > member.file_size:
        raise SemibodyError(f"{path}: '{member.filename}' states a larger size than it has; {remedy}")
    return shape, fortran, dtype


def _read_member(file: IO[bytes], member: zipfile.ZipInfo, path: Path, remedy: str) -> NDArray[Any]:
    shape, fortran, dtype = _member_header(file, member, path, remedy)
    count, content = math.prod(shape), file.read()
    array = np.frombuffer(content, dtype, count) if count else np.zeros(0, dtype)
    return array.reshape(shape, order="F" if fortran else "C").copy()


def read_npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, Fortran order and dtype at the head of an ``.npy``; foreign errors for any error."""
    version = npy_format.read_magic(file)
    read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if any(side < 0 for side in shape):
        raise ValueError("negative shape")
    return shape, fortran, dtype


# -- in messages ---------------------------------------------------------------------------


def printable(path: Path | str) -> str:
    """A path as it can be printed, with undecodable bytes as numbers."""
    return str(path).replace("\0", "\\0").encode(errors="backslashreplace").decode()


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or first_line(error)


def first_line(error: BaseException) -> str:
    """The message of another library's error, in one line of at most 200 characters."""
    return ((str(error) or type(error).__name__).splitlines() or [""])[0][:200]
