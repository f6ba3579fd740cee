"""Where many jobs are run, chosen by the user: in processes of this machine, or on Ray."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from semibody.config import option
from semibody.processes.local import in_processes

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Where many jobs are run; nothing here changes what they make."""

    workers: int = option(0, at_least=0, at_most=1024)
    """Processes, each with an equal share of the cores, and of GPUs in turn; 0: as many as the cores, or a
    Ray cluster's GPUs, suffice for."""
    ray: str | None = option(None, metavar="local|auto|ADDRESS")
    """Run on Ray: local starts it here, auto joins the cluster that runs here, or name host:port or
    ray://host:port. Paths must lead to the same files on every machine."""


def run_jobs(
    function: Callable[..., T],
    jobs: Sequence[tuple[Any, ...]],
    where: Workers,
    *,
    threads: int | None = 1,
    gpu: bool = False,
    given_up: Callable[..., T] | None = None,
) -> Iterator[T]:
    """Call ``function`` with each of ``jobs`` in workers; results as they come.

    Each worker has ``threads`` threads (None: they share the cores) and, on Ray and with ``gpu``, a GPU or
    its share. The first exception of a job ends all, so a function whose jobs may fail catches its own. A job
    whose process dies, or whose machine is lost, is begun again, three times in all; then ``given_up`` is
    called here with it, and the others continue; without ``given_up`` it is a SemibodyError. Raises
    SemibodyError for a cluster that cannot be joined or goes away.
    """
    if not jobs:
        return
    if where.ray is not None:
        from semibody.processes.cluster import on_cluster

        yield from on_cluster(where.ray, function, jobs, where.workers, threads, gpu=gpu, given_up=given_up)
        return
    cores = _cores()
    workers = min(where.workers or max(1, cores // threads if threads else 1), len(jobs))
    each = threads or max(1, cores // workers)
    yield from in_processes(function, jobs, workers, each, given_up=given_up)


def _cores() -> int:
    """Cores that this process may use."""
    usable: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1
