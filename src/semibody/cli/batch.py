"""``semibody batch``."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from semibody.batch.running import Running
from semibody.cli.app import app
from semibody.cli.options import Built, with_options
from semibody.cli.progress import progress_bar
from semibody.settings import Source
from semibody.types import SemibodyError

if TYPE_CHECKING:
    from semibody.batch.work import Result

Option = typer.Option


@app.command()
@with_options
def batch(
    jobs: Annotated[
        Path,
        typer.Argument(
            help="JSON lines or .csv: portrait, speech or say, out; if wanted voice, gesture, any setting."
        ),
    ],
    *,
    source: Annotated[Source, Built(Source)],
    running: Annotated[Running, Built(Running)],
    quiet: Annotated[bool, Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Make every clip of JOBS; run it again to continue. A clip that fails stops no other."""
    from semibody.batch.jobs import sort_jobs
    from semibody.batch.many import animate_many

    listed, bad = sort_jobs(jobs)
    for line in bad:
        typer.echo(f"failed {line.why}")
    started, results = time.monotonic(), list["Result"]()
    with progress_bar(quiet=quiet) as progress:
        for result in animate_many(listed, source, progress=progress, **dataclasses.asdict(running)):
            took = f" in {result.seconds:.0f} s" if result.state == "made" else ""
            typer.echo(f"{result.state:<7}{result.job.out}{took}{''.join(f'; {s}' for s in result.notices)}")
            results.append(result)
    failed = {line.line: line.why for line in bad}
    failed |= {one.job.line: "; ".join(one.notices) for one in results if one.state == "failed"}
    for text in _summary(results, failed, time.monotonic() - started):
        typer.echo(text)
    if failed:
        count = len(listed) + len(bad)
        lines = f"line{'s' if len(failed) > 1 else ''} {', '.join(map(str, sorted(failed)))}"
        raise SemibodyError(
            f"{jobs}: {lines} of {count} failed; correct them and run it again, finished clips are kept"
        )


def _summary(results: Sequence[Result], failed: dict[int, str], seconds: float) -> list[str]:
    """A table: how many ended how, how long it took, and why each of the failed failed."""
    from semibody.plan import format_seconds

    made = [one for one in results if one.state == "made"]
    kept = sum(one.state == "kept" for one in results)
    begun_again = sum(one.attempts > 1 for one in results)
    rows = [("made", f"{len(made)}"), ("kept", f"{kept}"), ("failed", f"{len(failed)}")]
    rows += [("begun again", f"{begun_again}")] if begun_again else []
    rows += [("time", format_seconds(seconds))]
    rows += [("a clip", format_seconds(seconds / len(made)))] if made else []
    rows += [(f"line {line}", why) for line, why in sorted(failed.items())]
    return ["", *(f"{name:<12} {value}" for name, value in rows)]
