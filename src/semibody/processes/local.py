"""Processes of this machine: few threads each, results as they come, no orphans."""

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

from semibody.processes.worker import NUMBER, THREADS, call
from semibody.types import SemibodyError

T = TypeVar("T")


def in_processes(
    function: Callable[..., T],
    jobs: Sequence[tuple[Any, ...]],
    workers: int,
    threads: int = 1,
    *,
    given_up: Callable[..., T] | None = None,
) -> Iterator[T]:
    """Call ``function`` with each of ``jobs`` in up to ``workers`` processes; results as they come.

    Each process keeps to ``threads`` threads. The first exception of a job ends all, so a function whose jobs
    may fail catches its own. When a process dies (a drawing library's fault after hundreds of people, a lack
    of memory), the jobs that it may have run start again, each alone in a new process, so jobs must be
    repeatable. For one whose process dies twice like this ``given_up`` is called here with the job, and the
    others continue; without ``given_up`` it is a SemibodyError. When this process ends, in whatever way, its
    workers end too.
    """
    for name in THREADS:  # before the workers start, which read it when they load their libraries
        os.environ[name] = str(threads)
    waiting = dict(enumerate(jobs))
    while waiting:
        yield from _until_one_dies(function, waiting, workers)
        # Jobs are begun in their order, so the ones in hand were the first that are not done.
        for number in list(waiting)[: max(1, workers)]:
            alone = {number: waiting.pop(number)}
            job = alone[number]
            yield from _until_one_dies(function, alone, 1)
            if alone:  # perhaps the first time that it was begun
                yield from _until_one_dies(function, alone, 1)
            if alone:
                if given_up is None:
                    raise SemibodyError(
                        "a worker process died, perhaps for lack of memory; run the command again with fewer "
                        "--workers, what is finished is kept"
                    )
                yield given_up(*job)


def _until_one_dies(
    function: Callable[..., T], waiting: dict[int, tuple[Any, ...]], workers: int
) -> Iterator[T]:
    """Work on ``waiting`` and take from it what is done, until nothing is left or a process dies."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    count = max(1, min(workers, len(waiting)))
    first = (receiver, context.Value("i", 0))
    with sender, receiver, ProcessPoolExecutor(count, context, _begin, first) as pool:
        numbers = {pool.submit(call, function, job): number for number, job in waiting.items()}
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


def _begin(line: Connection, started: Any) -> None:
    """Take the next number of ``started``; end this worker as soon as the other end of ``line`` closes: when
    the run stops or is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent to handle
    with started.get_lock():
        os.environ[NUMBER] = str(started.value)
        started.value += 1

    def watch() -> None:
        multiprocessing.connection.wait([line])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
