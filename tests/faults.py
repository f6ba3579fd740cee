"""Faults at chosen points: work that is killed, runs out of disk, memory or permission, in a child process.

    ended = run(work)                      # uninterrupted: how many points there are
    ended = run(work, Kill(at=ended.points // 2))

A point is a call that the package makes or a call into it, so a fault may come between any two of them, also
between a file's writing and its renaming. The child is a fork: what is loaded stays loaded, and nothing it
does to its memory is seen here.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

from semibody.types import SemibodyError

Work = Callable[[], Any]


@dataclass(frozen=True)
class Kill:
    """kill -9 of itself."""

    at: int

    def strike(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Fail:
    """An error of the operating system, or of memory."""

    at: int
    code: int = errno.ENOSPC

    def strike(self) -> None:
        if self.code == errno.ENOMEM:
            raise MemoryError
        raise OSError(self.code, os.strerror(self.code))


@dataclass(frozen=True)
class Ended:
    """How the child ended."""

    how: str
    """done, killed, refused (SemibodyError), disk or memory (which the command line turns into one line), or
    the traceback of anything else"""
    points: int = 0
    said: str = ""


def run(work: Work, fault: Kill | Fail | None = None, *, seconds: int = 250) -> Ended:
    """Do ``work`` in a child; ``fault`` strikes at its point. Raises AssertionError if it does not end."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads, of which none computes
        child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            _in_child(work, fault, writing, seconds)
        finally:
            os._exit(3)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == -signal.SIGKILL and isinstance(fault, Kill):
        return Ended("killed", fault.at)
    assert status == 0, f"the child ended with {status}"
    return Ended(*json.loads(said))


def _in_child(work: Work, fault: Kill | Fail | None, writing: int, seconds: int) -> None:
    import cv2
    import torch

    torch.set_num_threads(1)  # other threads do not survive a fork
    cv2.setNumThreads(0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)
    points = _Points(fault)
    how, said = "done", ""
    sys.setprofile(points)
    try:
        work()
    except SemibodyError as error:
        how, said = "refused", str(error)
    except MemoryError:
        how = "memory"
    except OSError as error:
        how, said = ("disk" if error.errno is not None else traceback.format_exc()), str(error)
    except BaseException:
        how = traceback.format_exc()
    sys.setprofile(None)
    os.write(writing, json.dumps([how, points.count, said]).encode())
    os._exit(0)


class _Points:
    """Counts the points; a profiling function, because those see every call of Python and of C."""

    def __init__(self, fault: Kill | Fail | None) -> None:
        self.count, self._fault = 0, fault

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if event in ("call", "c_call") and frame.f_globals.get("__name__", "").startswith("semibody"):
            self.count += 1
            if self._fault is not None and self.count == self._fault.at:
                fault, self._fault = self._fault, None
                sys.setprofile(None)
                fault.strike()
