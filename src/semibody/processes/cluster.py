"""Workers of a Ray cluster (extra ``cluster``): actors, each of which takes one job after another.

Ray's own rules decide who may join: since 2.59 a cluster that starts here makes itself a token, and a
running one wants the token that its machines share (``RAY_AUTH_TOKEN``, ``RAY_AUTH_TOKEN_PATH`` or
``~/.ray/auth_token``). Nothing here switches that off.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from semibody.files import first_line
from semibody.processes.worker import THREADS, call
from semibody.types import MissingPartError, SemibodyError

T = TypeVar("T")

MOST_STARTS = 3
"""How often a job is begun whose actor is lost."""


class Worker:
    """What runs in an actor."""

    def __init__(self, folder: str) -> None:
        """``folder``: the one that the run was started in, since jobs may name files as seen from it."""
        try:
            os.chdir(folder)
        except OSError:
            self.mistake: SemibodyError | None = SemibodyError(
                f"{folder}: is no folder of {socket.gethostname()}; start the run in a folder that all "
                "machines of the cluster share"
            )
        else:
            self.mistake = None

    def run(self, function: Callable[..., Any], job: tuple[Any, ...]) -> tuple[Any, Exception | None]:
        """A job's result, or the error that it raised, which Ray would wrap in one of its own."""
        if self.mistake is not None:
            return None, self.mistake
        try:
            return call(function, job), None
        except Exception as error:
            return None, error


def on_cluster(
    address: str,
    function: Callable[..., T],
    jobs: Sequence[tuple[Any, ...]],
    workers: int,
    threads: int | None,
    *,
    gpu: bool = False,
    given_up: Callable[..., T] | None = None,
) -> Iterator[T]:
    """As ``run_jobs``, with ``workers`` actors (0: one for each GPU, or as many as the cores suffice for).

    ``address`` is ``local`` (a cluster that starts and ends here), ``auto`` (the one that runs on this
    machine) or that of another. Raises SemibodyError if there is no cluster, it refuses this machine, or it
    goes away.
    """
    ray = _ray()
    with _connected(ray, address):
        actors = _Actors(ray, len(jobs), workers, threads, gpu=gpu)
        try:
            yield from _distribute(ray, actors, function, jobs, given_up)
        except ray.exceptions.RaySystemError as error:
            reason = (str(error).strip().splitlines() or [""])[-1]
            raise SemibodyError(
                f"--ray {address}: the cluster went away, or Semibody is not installed on each machine "
                f"({reason}); run it again to continue, what is finished is kept"
            ) from None


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


def _distribute(
    ray: Any,
    actors: _Actors,
    function: Callable[..., T],
    jobs: Sequence[tuple[Any, ...]],
    given_up: Callable[..., T] | None,
) -> Iterator[T]:
    """Give each free actor the next job, until none is left."""
    waiting, starts = deque(range(len(jobs))), [0] * len(jobs)
    running: dict[Any, tuple[Any, int]] = {}
    idle = [actors.start() for _ in range(actors.count)]
    while waiting or running:
        while idle and waiting:
            actor, number = idle.pop(), waiting.popleft()
            starts[number] += 1
            running[actor.run.remote(function, jobs[number])] = actor, number
        (done,), _ = ray.wait(list(running), num_returns=1)
        actor, number = running.pop(done)
        try:
            result, error = ray.get(done)
        except ray.exceptions.RayActorError:
            idle.append(actors.start())
            if starts[number] < MOST_STARTS:
                waiting.append(number)
            elif given_up is not None:
                yield given_up(*jobs[number])
            else:
                raise SemibodyError(
                    "a worker died three times at the same job, perhaps for lack of memory; run the command "
                    "again with fewer --workers, what is finished is kept"
                ) from None
            continue
        idle.append(actor)
        if error is not None:
            raise error
        yield result


class _Actors:
    """Starts actors with an equal share of the cluster."""

    def __init__(self, ray: Any, jobs: int, workers: int, threads: int | None, *, gpu: bool) -> None:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = int(sum(node.get("GPU", 0) for node in nodes)) if gpu else 0
        enough = int(sum(node.get("CPU", 1) for node in nodes)) // threads if threads else 1
        self.count = max(1, min(workers or gpus or enough, jobs))
        each = math.ceil(self.count / max(1, len(nodes)))
        cores = min((int(node.get("CPU", 1)) for node in nodes), default=1)
        of_each = threads or max(1, cores // each)
        self._made = ray.remote(Worker).options(
            num_cpus=min(of_each, max(1, cores // each)),
            # Where a GPU has to do for several actors, each takes a part of it.
            num_gpus=min(1.0, math.floor(100 * gpus / self.count) / 100),
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": dict.fromkeys(THREADS, str(of_each))},
        )

    def start(self) -> Any:
        return self._made.remote(os.getcwd())  # noqa: PTH109 - as this process sees it
