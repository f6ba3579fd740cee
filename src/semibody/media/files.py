"""Writing files so that nothing half-written ever stands under the final name."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; on success rename it to ``path``, on failure remove it.

    What stood at ``path`` before stays untouched until the new file is complete.

        with atomic_write(out) as unfinished:
            unfinished.write_bytes(data)
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays, because writers choose the format by it.
    unfinished = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.unfinished{path.suffix}")
    try:
        yield unfinished
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
