"""Filling a data folder: one run at a time, the same settings, no incomplete file left behind."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from semibody.clips.manifest import NAME
from semibody.files import DISK_ERRORS, atomic_write, held_alone, read_json, remove
from semibody.types import SemibodyError


@contextlib.contextmanager
def filling(
    out: Path,
    record: str,
    settings: Mapping[str, Any],
    may_change: Sequence[str] = (),
    added: Mapping[str, Any] | None = None,
) -> Iterator[None]:
    """Hold ``out`` for this run alone, and keep ``settings`` in its file ``record``.

    A folder that holds clips made with other settings (but for those in ``may_change``) is refused with a
    SemibodyError; so is one that another run is filling. ``added`` are the values of settings that an older
    record may lack. Incomplete files of a killed run are removed.
    """
    with disk_errors_named(out), only_run(out):
        _claim(out, out / record, dict(settings), may_change, added or {})
        _sweep(out)
        try:
            yield
        finally:
            _sweep(out)


def _sweep(out: Path) -> None:
    for stray in [*out.glob(".*.unfinished*"), *out.glob("*/.*.unfinished*")]:
        remove(stray)


def _claim(
    out: Path,
    file: Path,
    settings: dict[str, Any],
    may_change: Sequence[str],
    added: Mapping[str, Any],
) -> None:
    if file.exists():
        remedy = "choose another folder or delete this one"
        before = read_json(file, remedy)
        if not isinstance(before, dict):
            raise SemibodyError(f"{file}: is no record of settings; {remedy}")
        before = {**added, **before}
        changed = [k for k in settings if k not in may_change and before.get(k) != settings[k]]
        if changed:
            raise SemibodyError(
                f"{out}: holds clips made with {changed[0]} = {before.get(changed[0])}; choose another folder"
            )
    elif (out / NAME).exists():
        raise SemibodyError(f"{out}: holds another data set; choose another folder")
    with atomic_write(file) as unfinished:
        unfinished.write_text(json.dumps(settings, indent=1), encoding="utf-8")


@contextlib.contextmanager
def only_run(out: Path) -> Iterator[None]:
    """Let one process at a time fill ``out``; the lock ends with the process, in whatever way it ends."""
    out.mkdir(parents=True, exist_ok=True)
    with held_alone(out / ".lock", f"{out}: another run is filling this folder; wait for its end"):
        yield


@contextlib.contextmanager
def disk_errors_named(out: Path) -> Iterator[None]:
    """Turn the operating system's refusal to write into a message with the remedy."""
    try:
        yield
    except Exception as error:
        code = getattr(error, "errno", None)
        if code is None or code not in DISK_ERRORS:
            raise
        raise SemibodyError(
            f"{out}: cannot be written ({os.strerror(code)}); make room or choose another "
            "folder and run the command again, finished clips are kept"
        ) from None
