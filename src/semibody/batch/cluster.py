"""A batch on Ray (extra ``cluster``): an actor for each worker, with the weights loaded once.

Ray's own rules decide who may join: since 2.59 a cluster that starts here makes itself a token, and a
running one wants the token that its machines share (``RAY_AUTH_TOKEN``, ``RAY_AUTH_TOKEN_PATH`` or
``~/.ray/auth_token``). Nothing here switches that off.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from semibody.batch.work import Result, Task, given_up, load_once, make
from semibody.files import exists, first_line
from semibody.settings import Source
from semibody.types import MissingPartError, SemibodyError

MOST_STARTS = 3
"""How often a job is begun whose actor is lost."""


class Worker:
    """What runs in an actor."""

    def __init__(self, source: Source, threads: int) -> None:
        self.source, self.threads = source, threads

    def make(self, task: Task) -> Result | OSError:
        """As ``work.make``; an error of the disk is returned, because Ray would wrap it."""
        try:
            return make(load_once(self.source, self.threads), task)
        except OSError as error:
            return error


def on_cluster(address: str, tasks: Sequence[Task], source: Source, workers: int) -> Iterator[Result]:
    """Make the clips with ``workers`` actors (0: one for each GPU, or one); results as they come.

    ``address`` is ``local`` (a cluster that starts and ends here), ``auto`` (the one that runs on this
    machine) or that of another. A job whose actor is lost is begun again, up to three times. Raises
    SemibodyError if there is no cluster, it refuses this machine, or it goes away.
    """
    ray = _ray()
    placed = [dataclasses.replace(task, job=_everywhere(task)) for task in tasks]
    given = {task.job.out: task.job for task in tasks}
    with _connected(ray, address):
        try:
            for result in _distribute(ray, placed, source, workers):
                yield dataclasses.replace(result, job=given.get(result.job.out, result.job))
        except ray.exceptions.RaySystemError as error:
            raise SemibodyError(
                f"--ray {address}: the cluster went away ({first_line(error)}); run it again to continue, "
                "finished clips are kept"
            ) from None


def _everywhere(task: Task) -> Any:
    """The job with paths that do not depend on the folder a process is in."""
    job = task.job
    settings = dict(job.settings)
    if "background" in settings:
        settings["background"] = _absolute(settings["background"])
    return dataclasses.replace(
        job,
        portrait=job.portrait.absolute(),
        speech=None if job.speech is None else job.speech.absolute(),
        out=job.out.absolute(),
        gesture=_absolute(job.gesture),
        settings=settings,
    )


def _absolute(given: str) -> str:
    """The whole path of a file or folder; what is none stays."""
    return str(Path(given).absolute()) if exists(Path(given)) else given


def _ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise MissingPartError("--ray needs Ray; run: pip install 'semibody[cluster]'") from None
    return ray


@contextlib.contextmanager
def _connected(ray: Any, address: str) -> Iterator[None]:
    """Join or start the cluster, and leave it. Raises SemibodyError for one that cannot be joined."""
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address == "local":
        quiet |= {"include_dashboard": False}
    try:
        ray.init(address=address, **quiet)
    except (ray.exceptions.AuthenticationError, ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise SemibodyError(f"--ray {address}: {_why_not(error)}") from None
    try:
        yield
    finally:
        ray.shutdown()


def _why_not(error: Exception) -> str:
    text = str(error).lower()
    if "token" in text or "auth" in text:
        return (
            "the cluster refuses this machine's token; set RAY_AUTH_MODE=token and put the cluster's token "
            "into RAY_AUTH_TOKEN or ~/.ray/auth_token"
        )
    return (
        f"no Ray cluster answers ({first_line(error)}); start one with `ray start --head`, or use --ray local"
    )


def _distribute(ray: Any, tasks: Sequence[Task], source: Source, workers: int) -> Iterator[Result]:
    """Give each free actor the next job, until none is left."""
    actors = _Actors(ray, source, workers, len(tasks))
    waiting, starts = deque(tasks), dict.fromkeys((task.key + str(task.job.out) for task in tasks), 0)
    running: dict[Any, tuple[Any, Task]] = {}
    idle = [actors.start() for _ in range(actors.count)]
    while waiting or running:
        while idle and waiting:
            actor, task = idle.pop(), waiting.popleft()
            starts[task.key + str(task.job.out)] += 1
            running[actor.make.remote(task)] = actor, task
        (done,), _ = ray.wait(list(running), num_returns=1)
        actor, task = running.pop(done)
        try:
            result = ray.get(done)
        except ray.exceptions.RayTaskError as error:  # the weights cannot be loaded
            raise error.cause if isinstance(error.cause, SemibodyError) else error from None
        except ray.exceptions.RayActorError:
            idle.append(actors.start())
            if starts[task.key + str(task.job.out)] < MOST_STARTS:
                waiting.append(task)
            else:
                yield given_up(task)
            continue
        idle.append(actor)
        if isinstance(result, OSError):
            raise result
        yield result


class _Actors:
    """Starts actors with an equal share of the cluster."""

    def __init__(self, ray: Any, source: Source, workers: int, jobs: int) -> None:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = int(sum(node.get("GPU", 0) for node in nodes))
        with_gpu = gpus > 0 and source.device != "cpu"
        self.count = max(1, min(workers or (gpus if with_gpu else 1), jobs))
        each = math.ceil(self.count / max(1, len(nodes)))
        cores = min((int(node.get("CPU", 1)) for node in nodes), default=1)
        self._threads = max(1, cores // each)
        # Where a GPU has to do for several actors, each takes a part of it.
        share = min(1.0, math.floor(100 * gpus / self.count) / 100) if with_gpu else 0
        self._made = ray.remote(Worker).options(
            num_cpus=self._threads,
            num_gpus=share,
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(self._threads)}},
        )
        self._source = source

    def start(self) -> Any:
        return self._made.remote(self._source, self._threads)
