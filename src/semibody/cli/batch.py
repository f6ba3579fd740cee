"""``semibody batch``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from semibody.cli.app import app
from semibody.cli.options import Built, with_options
from semibody.cli.progress import progress_bar
from semibody.settings import Source
from semibody.types import SemibodyError

Option = typer.Option


@app.command()
@with_options
def batch(
    jobs: Annotated[
        Path,
        typer.Argument(
            help="JSON lines: portrait, speech or say, out; if wanted voice, gesture, settings of animate."
        ),
    ],
    *,
    source: Annotated[Source, Built(Source)],
    again: Annotated[bool, Option("--again", help="Also make clips that exist.")] = False,
    quiet: Annotated[bool, Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Make every clip of JOBS with one loading of the weights; run it again to continue."""
    from semibody.animator import Animator
    from semibody.batch import read_jobs, run_jobs

    listed = read_jobs(jobs)
    failed = []
    with progress_bar(quiet=quiet) as progress:
        animator = Animator.load(**dataclasses.asdict(source), progress=progress)
        for result in run_jobs(animator, listed, again=again, progress=progress):
            took = f" in {result.seconds:.0f} s" if result.state == "made" else ""
            typer.echo(f"{result.state:<7}{result.job.out}{took}{''.join(f'; {s}' for s in result.notices)}")
            failed += [str(result.job.line)] if result.state == "failed" else []
    if failed:
        lines = f"line{'s' if len(failed) > 1 else ''} {', '.join(failed)}"
        raise SemibodyError(
            f"{jobs}: {lines} of {len(listed)} failed; correct them and run it again, finished clips are kept"
        )
