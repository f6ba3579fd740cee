"""Work in several processes: few threads each, results as they come, no orphans (floor 1)."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from semibody.types import SemibodyError

T = TypeVar("T")

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "LP_NUM_THREADS")
"""Environment variables that limit the threads of numeric and drawing libraries."""


def in_processes(
    function: Callable[..., T], jobs: Sequence[tuple[Any, ...]], workers: int, threads: int = 1
) -> Iterator[T]:
    """Call ``function`` with each of ``jobs`` in up to ``workers`` processes; results as they come.

    Each process keeps to ``threads`` threads. The first exception of a job ends all. When a process dies (a
    drawing library's fault after hundreds of people, a lack of memory), unfinished jobs start again in new
    processes, so jobs must be repeatable; SemibodyError when that happens twice and no job finished between.
    When this process ends, in whatever way, its workers end too.
    """
    for name in _THREADS:  # before the workers start, which read it when they load their libraries
        os.environ[name] = str(threads)
    waiting, in_vain = dict(enumerate(jobs)), 0
    while waiting:
        before = len(waiting)
        yield from _until_one_dies(function, waiting, workers)
        in_vain = in_vain + 1 if len(waiting) == before else 0
        if in_vain == 2:
            raise SemibodyError(
                "a worker process died, perhaps for lack of memory; run the command again with fewer "
                "--workers, what is finished is kept"
            )


def _until_one_dies(
    function: Callable[..., T], waiting: dict[int, tuple[Any, ...]], workers: int
) -> Iterator[T]:
    """Work on ``waiting`` and take from it what is done, until nothing is left or a process dies."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    count = max(1, min(workers, len(waiting)))
    with sender, receiver, ProcessPoolExecutor(count, context, _end_with_parent, (receiver,)) as pool:
        numbers = {pool.submit(function, *job): number for number, job in waiting.items()}
        try:
            for future in as_completed(numbers):
                result = future.result()
                del waiting[numbers[future]]
                yield result
        except BrokenProcessPool:
            return
        except BaseException:
            sender.close()  # ends the workers: their results are no longer needed
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _end_with_parent(line: Connection) -> None:
    """End this worker as soon as the other end of ``line`` closes: when the run stops or is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent to handle

    def watch() -> None:
        multiprocessing.connection.wait([line])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
