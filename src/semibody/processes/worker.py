"""What a worker process knows of itself, and how it calls a job."""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

from semibody.files import DISK_ERRORS

T = TypeVar("T")

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "LP_NUM_THREADS")
"""Environment variables that limit the threads of numeric and drawing libraries, which read them when they
are loaded."""
NUMBER = "SEMIBODY_WORKER"
"""The environment variable that holds a worker's number, from 0."""
_PASSING = frozenset(
    getattr(errno, name)
    for name in (
        "ENOMEM", "EMFILE", "ENFILE", "EAGAIN", "EBUSY", "EINTR", "ETIMEDOUT", "ESTALE", "EREMOTEIO",
        "ECONNREFUSED", "ECONNRESET", "ECONNABORTED", "ENETDOWN", "ENETUNREACH", "EHOSTDOWN", "EHOSTUNREACH",
    )
    if hasattr(errno, name)
)  # fmt: skip
"""Errors of memory, of the number of open files, and of network folders."""
_NO_MEMORY = ("out of memory", "insufficient memory", "can't allocate memory", "cannot allocate memory")


def call(function: Callable[..., T], job: tuple[Any, ...]) -> T:
    """Call a job. What is no Exception (a library that exits, a panic of Rust's) ends this process: so it
    counts as one that died, and ends no other job."""
    try:
        return function(*job)
    except Exception:
        raise
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def own_threads() -> int:
    """Threads that this worker may compute with."""
    return max(1, int(os.environ.get(THREADS[0], "") or 1))


def own_number() -> int:
    """This worker's number, from 0: workers of one machine take its GPUs in turn."""
    return int(os.environ.get(NUMBER, "") or 0)


def may_pass(error: BaseException | None) -> bool:
    """Whether an error, or the one that it was raised from, is a fault of the moment: no memory, a full disk,
    a network folder that does not answer. The same job may succeed later, so it is not recorded as failed.

    FFmpeg's errors do not count as causes: it uses the same numbers for damaged files.
    """
    cause = error
    while cause is not None:
        foreign = cause is not error and type(cause).__module__.startswith("av.")
        if not foreign and (_is_of_the_system(cause) or _is_of_memory(cause)):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _is_of_the_system(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (*DISK_ERRORS, *_PASSING)


def _is_of_memory(error: BaseException) -> bool:
    text = str(error).lower()
    return type(error) is MemoryError or any(words in text for words in _NO_MEMORY)
