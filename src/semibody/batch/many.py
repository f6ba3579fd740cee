"""Many clips: each worker loads the weights once, a clip that fails stops no other, nothing is made twice.

    for result in animate_many("jobs.jsonl", "starter", workers=2):
        print(result.state, result.job.out, *result.notices)

A job's *key* is the hash of everything that decides its video: the contents of portrait, recording and
gesture, the settings, the weights. The video carries it in its metadata, so whatever happened before (a
stop, a crash, a changed picture), a job is made exactly when no video with its key is at its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from semibody import config
from semibody.batch.jobs import Job, read_jobs
from semibody.batch.running import Running
from semibody.batch.work import Result, Task, given_up, identify, is_made, make_in_process
from semibody.processes import run_jobs
from semibody.settings import Source
from semibody.types import Progress, SemibodyError, silent


def animate_many(
    jobs: str | Path | Sequence[Job],
    source: Source | str | None = None,
    *,
    progress: Progress = silent,
    **running: Any,
) -> Iterator[Result]:
    """Make the clips of ``jobs``, a file or a list; results as they come. ``running``: fields of Running.

    What goes wrong with a job is its result, with the traceback of what nobody expected in ``errors.log``
    beside its video. Only what would befall every job raises: weights that cannot be loaded, two jobs for
    one video, a full disk, a cluster that is lost; run it again and it continues.
    """
    how = config.build(Running, running, "animate_many")
    source = source if isinstance(source, Source) else Source(weights=source)
    listed = list(jobs) if isinstance(jobs, Sequence) and not isinstance(jobs, str) else read_jobs(Path(jobs))
    _require_different(listed)
    return _animate(listed, source, how, progress)


def _animate(jobs: Sequence[Job], source: Source, how: Running, progress: Progress) -> Iterator[Result]:
    identity, left, done = identify(source), list[Task](), 0
    progress("clips", 0, len(jobs))
    for job in jobs:
        try:
            task = Task(job=job, key=job.key(identity), retries=how.retries, again=how.again)
            finished = not how.again and is_made(task)
        except SemibodyError as error:
            result = Result(job=job, state="failed", notices=(str(error),))
        else:
            if not finished:
                left.append(task)
                continue
            result = Result(job=job, state="kept")
        done += 1
        progress("clips", done, len(jobs))
        yield result
    for made in _run(left, source, how):
        done += 1
        progress("clips", done, len(jobs))
        yield made


def _run(tasks: Sequence[Task], source: Source, how: Running) -> Iterator[Result]:
    yield from run_jobs(
        make_in_process,
        [(task, source) for task in tasks],
        how,
        threads=None,
        gpu=source.device != "cpu",
        given_up=given_up,
    )


def _require_different(jobs: Sequence[Job]) -> None:
    first: dict[Path, Job] = {}
    for job in jobs:
        other = first.setdefault(job.out.absolute(), job)
        if other is not job:
            raise SemibodyError(f"{job.out}: is the video of two jobs; give each its own")
