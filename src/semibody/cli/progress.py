"""Progress on the terminal: a bar with the remaining time per stage, or plain lines in a log."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

from semibody.types import Progress

_SECONDS_BETWEEN_LINES = 10.0


@contextlib.contextmanager
def progress_bar(*, quiet: bool = False) -> Iterator[Progress]:
    """Give a Progress that draws on stderr; where stderr is no terminal, a line every ten seconds."""
    if quiet:
        yield lambda stage, done, total: None  # noqa: ARG005
    elif sys.stderr.isatty():
        yield from _bars()
    else:
        yield _PlainLines()


def _bars() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description:<14}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True)) as bars:
        tasks = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield report


class _PlainLines:
    def __init__(self) -> None:
        self._started: dict[str, float] = {}
        self._printed = 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        start = self._started.setdefault(stage, now)
        if done < total and now - self._printed < _SECONDS_BETWEEN_LINES:
            return
        self._printed = now
        left = (now - start) / done * (total - done) if done else 0.0
        ends = f"{now - start:.0f} s" if done >= total else f"about {left:.0f} s left"
        print(f"{stage}: {done}/{total} ({ends})", file=sys.stderr)
