"""Work that takes minutes, done one job at a time while those who wait may leave and come back.

    jobs = Jobs(make)                      # make(order, report) -> result; a thread of its own calls it
    name = jobs.submit(order)              # a name that cannot be guessed
    jobs.look(name).state                  # waiting, running, done, stopped or failed
    jobs.stop(name)                        # the next report raises StoppedError inside make

A job that nobody looks at ends by itself. How many wait and how many results are kept is bounded. Nothing
here knows of a browser.
"""

from __future__ import annotations

import logging
import math
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, Protocol, TypeVar

from semibody.types import SemibodyError

State = Literal["waiting", "running", "done", "stopped", "failed"]
ENDED: tuple[State, ...] = ("done", "stopped", "failed")
MOST_WAITING = 12
"""Jobs that may wait; who comes later is told so."""
MOST_KEPT = 40
"""Ended jobs whose results are kept; the oldest go first."""
PATIENCE = 130.0
"""Seconds after which a job ends that nobody looks at. A hidden tab asks once a minute."""

Order = TypeVar("Order")
Result = TypeVar("Result")
_log = logging.getLogger(__name__)


class StoppedError(Exception):
    """Raised by a report: the job shall end."""


class UnknownJobError(SemibodyError):
    """There is no such job, or it is no longer kept."""


class Report(Protocol):
    """How work tells what it does. Raises StoppedError when it shall end."""

    def __call__(
        self, share: float, stage: str, *, preview: bytes | None = None, expected: float | None = None
    ) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Look(Generic[Order, Result]):
    """A job as it is at one moment."""

    name: str
    order: Order
    state: State = "waiting"
    ahead: int = 0
    """jobs that come first, the running one included"""
    share: float = 0.0
    """of the work that is done, 0 to 1"""
    stage: str = ""
    preview: bytes | None = None
    """the last picture that the work has shown"""
    pictures: int = 0
    """how many it has shown"""
    expected: float = 0.0
    """seconds that the whole work was estimated to take; 0: not estimated yet"""
    stopping: bool = False
    seconds: float = 0.0
    """it has run for, or took"""
    reason: str = ""
    """why it was stopped or has failed"""
    result: Result | None = None

    @property
    def ended(self) -> bool:
        return self.state in ENDED


@dataclass(eq=False, kw_only=True)
class _Job(Generic[Order, Result]):
    """``seen`` is replaced as a whole under the lock, so that who looks never sees half a change."""

    seen: Look[Order, Result]
    asked: float
    """when somebody last looked"""
    started: float = 0.0
    stop: str = ""
    """why it shall end"""


class Jobs(Generic[Order, Result]):
    """A queue of jobs, and the thread that does them in turn."""

    def __init__(
        self,
        make: Callable[[Order, Report], Result],
        *,
        prepare: Callable[[], None] = lambda: None,
        discard: Callable[[Order], None] = lambda order: None,  # noqa: ARG005
        explain: Callable[[BaseException], str] = str,
        most_waiting: int = MOST_WAITING,
        most_kept: int = MOST_KEPT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``prepare`` is called once in the thread, before the first job; while it runs, jobs wait.

        ``discard`` is called for an order whose job is no longer kept, ``explain`` makes a sentence of an
        error that is no SemibodyError.
        """
        self._make, self._prepare, self._discard, self._explain = make, prepare, discard, explain
        self._most_waiting, self._most_kept, self._clock = most_waiting, most_kept, clock
        self._jobs: dict[str, _Job[Order, Result]] = {}
        self._changed = threading.Condition(threading.RLock())
        self._closed = False
        self.ready = False
        """whether ``prepare`` is done"""
        self.broken: BaseException | None = None
        """what ``prepare`` raised; then no job can be done"""
        self._thread = threading.Thread(target=self._run, name="semibody-jobs", daemon=True)

    def start(self) -> None:
        """Start the thread, unless all is over already."""
        with self._changed:
            if not self._closed:
                self._thread.start()

    # -- for those who wait ----------------------------------------------------------------

    def submit(self, order: Order) -> str:
        """Add a job at the end of the queue; returns its name.

        Raises SemibodyError when too many wait, or when none can be done.
        """
        with self._changed:
            if self.broken is not None:
                raise SemibodyError(self._sentence(self.broken))
            self._end_forgotten()
            if self._closed or len(self._in_state("waiting")) >= self._most_waiting:
                raise SemibodyError("too many clips are waiting; try again in a few minutes")
            name = secrets.token_urlsafe(16)
            self._jobs[name] = _Job(seen=Look(name=name, order=order), asked=self._clock())
            self._changed.notify_all()
            return name

    def look(self, name: str) -> Look[Order, Result]:
        """A job as it is now. Looking keeps it alive. Raises UnknownJobError."""
        with self._changed:
            job = self._find(name)
            job.asked = self._clock()
            self._end_forgotten()
            seen = job.seen
            if seen.state == "waiting":
                before = self._in_state("waiting").index(job)
                return replace(seen, ahead=before + len(self._in_state("running")))
            if seen.state == "running":
                return replace(seen, seconds=self._clock() - job.started, stopping=bool(job.stop))
            return seen

    def wait(self, name: str, every: float = 0.2, timeout: float = math.inf) -> Look[Order, Result]:
        """Look until the job has ended, or for ``timeout`` seconds. Raises UnknownJobError."""
        until = self._clock() + timeout
        while not (seen := self.look(name)).ended and self._clock() < until:
            with self._changed:
                self._changed.wait(every)
        return seen

    def stop(self, name: str, reason: str = "stopped") -> None:
        """End a job: at once if it waits, at its next report if it runs. Raises UnknownJobError."""
        with self._changed:
            job = self._find(name)
            if job.seen.state == "waiting":
                self._end(job, "stopped", reason=reason)
            elif job.seen.state == "running":
                job.stop = job.stop or reason
            self._changed.notify_all()

    def close(self, timeout: float = 5.0) -> bool:
        """Stop every job and the thread. False if it is still in a long call after ``timeout``."""
        with self._changed:
            self._closed = True
            for job in [*self._in_state("waiting"), *self._in_state("running")]:
                self.stop(job.seen.name, "the page was closed")
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    # -- the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._prepare()
        except BaseException as error:  # whatever it is, those who wait are told
            self._break(error)
            return
        with self._changed:
            self.ready = True
        while (job := self._next()) is not None:
            self._work(job)

    def _break(self, error: BaseException) -> None:
        with self._changed:
            self.broken = error
            for job in self._in_state("waiting"):
                self._end(job, "failed", reason=self._sentence(error))

    def _next(self) -> _Job[Order, Result] | None:
        """The job whose turn it is, now running; None when closed."""
        with self._changed:
            while not self._closed:
                self._end_forgotten()
                if waiting := self._in_state("waiting"):
                    job = waiting[0]
                    job.started = self._clock()
                    job.seen = replace(job.seen, state="running")
                    return job
                self._changed.wait(1.0)
        return None

    def _work(self, job: _Job[Order, Result]) -> None:
        def report(
            share: float, stage: str, *, preview: bytes | None = None, expected: float | None = None
        ) -> None:
            with self._changed:
                if not job.stop and self._clock() - job.asked > PATIENCE:
                    job.stop = "nobody was watching any more"
                if job.stop:
                    raise StoppedError(job.stop)
                seen = replace(job.seen, share=max(job.seen.share, min(share, 1.0)), stage=stage)
                if expected is not None:
                    seen = replace(seen, expected=expected)
                if preview is not None:
                    seen = replace(seen, preview=preview, pictures=seen.pictures + 1)
                job.seen = seen

        try:
            result = self._make(job.seen.order, report)
        except StoppedError:
            self._end(job, "stopped", reason=job.stop)
        except BaseException as error:  # not even a library's sys.exit ends the thread: others wait for it
            self._end(job, "failed", reason=self._sentence(error))
        else:
            self._end(job, "done", result=result)

    def _sentence(self, error: BaseException) -> str:
        if isinstance(error, SemibodyError):
            return str(error)
        _log.error("a job failed", exc_info=error)
        return self._explain(error)

    # -- under the lock --------------------------------------------------------------------

    def _find(self, name: str) -> _Job[Order, Result]:
        if name not in self._jobs:
            raise UnknownJobError("this clip is no longer kept; make it again")
        return self._jobs[name]

    def _in_state(self, *states: State) -> list[_Job[Order, Result]]:
        """Jobs in the order in which they came."""
        return [job for job in self._jobs.values() if job.seen.state in states]

    def _end(self, job: _Job[Order, Result], state: State, **changes: Any) -> None:
        with self._changed:
            took = self._clock() - job.started if job.seen.state == "running" else 0.0
            share = 1.0 if state == "done" else job.seen.share
            job.seen = replace(job.seen, state=state, seconds=took, share=share, **changes)
            forgotten = sorted(self._in_state(*ENDED), key=lambda one: one.asked)[: -self._most_kept]
            for old in forgotten:
                del self._jobs[old.seen.name]
            self._changed.notify_all()
        for old in forgotten:
            self._discard(old.seen.order)

    def _end_forgotten(self) -> None:
        for job in self._in_state("waiting"):
            if self._clock() - job.asked > PATIENCE:
                self._end(job, "stopped", reason="nobody was watching any more")
