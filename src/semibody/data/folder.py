"""Filling a data folder by several processes: one run at a time, the same settings, no strays, no orphans."""

from __future__ import annotations

import contextlib
import errno
import json
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

from semibody.data.manifest import NAME
from semibody.media import atomic_write
from semibody.types import SemibodyError

T = TypeVar("T")

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "LP_NUM_THREADS")


@contextlib.contextmanager
def filling(
    out: Path, record: str, settings: Mapping[str, Any], may_change: Sequence[str] = ()
) -> Iterator[None]:
    """Hold ``out`` for this run alone, and keep ``settings`` in its file ``record``.

    A folder that holds clips made with other settings (but for those in ``may_change``) is refused with a
    SemibodyError; so is one that another run is filling. What a killed run left half-written is removed.
    """
    with disk_errors_named(out), only_run(out):
        _claim(out, out / record, dict(settings), may_change)
        _sweep(out)
        try:
            yield
        finally:
            _sweep(out)


def _sweep(out: Path) -> None:
    for stray in [*out.glob(".*.unfinished*"), *out.glob("*/.*.unfinished*")]:
        stray.unlink(missing_ok=True)


def _claim(out: Path, file: Path, settings: dict[str, Any], may_change: Sequence[str]) -> None:
    if file.exists():
        try:
            before = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise SemibodyError(f"{file}: not readable; choose another folder or delete this one") from None
        changed = [k for k in settings if k not in may_change and before.get(k) != settings[k]]
        if changed:
            raise SemibodyError(
                f"{out}: holds clips made with {changed[0]} = {before.get(changed[0])}; choose another folder"
            )
    elif (out / NAME).exists():
        raise SemibodyError(f"{out}: holds another data set; choose another folder")
    with atomic_write(file) as unfinished:
        unfinished.write_text(json.dumps(settings, indent=1), encoding="utf-8")


@contextlib.contextmanager
def only_run(out: Path) -> Iterator[None]:
    """Let one process at a time fill ``out``; the lock falls with the process, however it ends."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # not on Windows; there the user takes care
            pass
        except BlockingIOError:
            raise SemibodyError(f"{out}: another run is filling this folder; wait for its end") from None
        yield


@contextlib.contextmanager
def disk_errors_named(out: Path) -> Iterator[None]:
    """Turn the operating system's refusal to write into a message that says what to do."""
    try:
        yield
    except Exception as error:
        code = getattr(error, "errno", None)
        if code not in _NO_ROOM and not isinstance(error, PermissionError):
            raise
        raise SemibodyError(
            f"{out}: cannot be written ({os.strerror(code or errno.EACCES)}); make room or choose another "
            "folder and run the command again, finished clips are kept"
        ) from None


def in_processes(
    function: Callable[..., T], jobs: Sequence[tuple[Any, ...]], workers: int, threads: int = 1
) -> Iterator[T]:
    """Call ``function`` with each of ``jobs`` in up to ``workers`` processes; results as they come.

    Each process keeps to ``threads`` threads. The first exception of a job ends all.
    """
    for name in _THREADS:  # before the workers start, which read it when they load their libraries
        os.environ[name] = str(threads)
    if not jobs:
        return
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
                "--workers, finished clips are kept"
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
