"""Writing files so that an incomplete one never has the final name (floor 0)."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path

from semibody.types import SemibodyError


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; on success rename it to ``path``, on failure remove it.

    An existing file at ``path`` stays unchanged until the new one is complete.

        with atomic_write(out) as unfinished:
            unfinished.write_bytes(data)
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays, because writers choose the format by it.
    unfinished = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.unfinished{path.suffix}")
    try:
        unfinished.touch()
        permissions = unfinished.stat().st_mode
        yield unfinished
        unfinished.chmod(permissions)  # safetensors makes its files for the owner alone
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def require_file(path: Path, what: str) -> None:
    """Raise SemibodyError unless ``path`` is a readable file with something in it."""
    if path.is_dir():
        raise SemibodyError(f"{path}: is a folder; give {what}")
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except FileNotFoundError:
        raise SemibodyError(f"{path}: no such file; check the path of {what}") from None
    except OSError as error:
        raise SemibodyError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    if empty:
        raise SemibodyError(f"{path}: is empty; give {what}")


def numbered_lines(path: Path, remedy: str) -> list[tuple[int, str]]:
    """The lines of a text file that are not empty, with their numbers from 1.

    Raises SemibodyError with ``remedy`` if the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SemibodyError(f"{path}: cannot be read ({error}); {remedy}") from None
    return [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
