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
"""Variables by which numeric and drawing libraries are told how many threads to use."""


def in_processes(
    function: Callable[..., T], jobs: Sequence[tuple[Any, ...]], workers: int, threads: int = 1
) -> Iterator[T]:
    """Call ``function`` with each of ``jobs`` in up to ``workers`` processes; results as they come.

    Each process keeps to ``threads`` threads. The first exception of a job ends all; so does the death of a
    process, as a SemibodyError. When this process ends, however it does, its workers end too.
    """
    if not jobs:
        return
    for name in _THREADS:  # before the workers start, which read it when they load their libraries
        os.environ[name] = str(threads)
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    count = max(1, min(workers, len(jobs)))
    with sender, receiver, ProcessPoolExecutor(count, context, _end_with_parent, (receiver,)) as pool:
        futures = [pool.submit(function, *job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise SemibodyError(
                "a worker process died, perhaps for lack of memory; run the command again with fewer "
                "--workers, what is finished is kept"
            ) from None
        except BaseException:
            sender.close()  # nobody waits for what the workers have in hand
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _end_with_parent(line: Connection) -> None:
    """End this worker as soon as the other end of ``line`` closes: when the run stops, or is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent to handle

    def watch() -> None:
        multiprocessing.connection.wait([line])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
