"""The queue, with a worker that does what the test says and a clock that the test moves."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from semibody.types import SemibodyError
from semibody.web import jobs as engine
from semibody.web.jobs import Jobs, Report, UnknownJobError

SOON = 5.0


class Worker:
    """Makes by steps: each call of ``step`` lets it report once more, ``finish`` lets it return."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self._steps = threading.Semaphore(0)
        self.last = threading.Event()
        self.error: BaseException | None = None

    def __call__(self, order: str, report: Report) -> str:
        self.begun.append(order)
        number = 0
        while not self.last.is_set():
            if self._steps.acquire(timeout=0.01):
                number += 1
                report(number / 10, "denoise", preview=bytes([number]), expected=10.0)
            else:
                report(number / 10, "denoise")
        if self.error is not None:
            raise self.error
        return f"clip of {order}"

    def step(self) -> None:
        self._steps.release()


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(worker: Worker, clock: Clock) -> Iterator[Jobs[str, str]]:
    made: Jobs[str, str] = Jobs(worker, clock=clock, most_waiting=2, most_kept=2)
    made.start()
    yield made
    worker.last.set()
    assert made.close(SOON)


def until(condition: Any) -> None:
    end = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def state(queue: Jobs[str, str], name: str) -> str:
    return queue.look(name).state


def test_a_job_waits_runs_and_is_done(queue: Jobs[str, str], worker: Worker, clock: Clock) -> None:
    name = queue.submit("a")
    until(lambda: state(queue, name) == "running")
    worker.step()
    until(lambda: queue.look(name).pictures == 1)
    clock.now += 3
    seen = queue.look(name)
    assert (seen.share, seen.stage, seen.preview, seen.expected) == (0.1, "denoise", b"\x01", 10.0)
    assert seen.seconds == 3
    worker.last.set()
    done = queue.wait(name)
    assert (done.state, done.result, done.share, done.seconds) == ("done", "clip of a", 1.0, 3.0)


def test_others_wait_in_their_order_and_see_how_many_are_ahead(queue: Jobs[str, str], worker: Worker) -> None:
    first = queue.submit("a")
    until(lambda: state(queue, first) == "running")
    second, third = queue.submit("b"), queue.submit("c")
    assert [queue.look(name).ahead for name in (second, third)] == [1, 2]
    queue.stop(second)
    assert queue.look(third).ahead == 1
    worker.last.set()
    assert queue.wait(third).result == "clip of c"
    assert worker.begun == ["a", "c"], "a stopped job is never begun"


def test_names_cannot_be_guessed(queue: Jobs[str, str]) -> None:
    names = {queue.submit("a"), queue.submit("b")}
    assert len(names) == 2
    assert all(len(name) >= 22 for name in names), "16 random bytes"
    with pytest.raises(UnknownJobError, match="no longer kept"):
        queue.look("1")


def test_stop_ends_a_running_job_at_its_next_report_and_frees_the_worker(
    queue: Jobs[str, str], worker: Worker
) -> None:
    name = queue.submit("a")
    until(lambda: state(queue, name) == "running")
    start = time.monotonic()
    queue.stop(name)
    assert queue.wait(name).state == "stopped"
    assert time.monotonic() - start < 1.0
    worker.last.set()
    assert queue.wait(queue.submit("b")).state == "done"
    queue.stop(name)  # once more harms nothing
    assert queue.look(name).reason == "stopped"


def test_a_job_that_nobody_looks_at_ends(queue: Jobs[str, str], worker: Worker, clock: Clock) -> None:
    running = queue.submit("a")
    until(lambda: state(queue, running) == "running")
    waiting = queue.submit("b")
    clock.now += engine.PATIENCE - 1
    assert state(queue, waiting) == "waiting", "looking keeps it alive"
    clock.now += 2
    until(lambda: queue._jobs[running].seen.state == "stopped")
    assert queue.look(running).reason == "nobody was watching any more"
    until(lambda: worker.begun == ["a", "b"])


def test_a_waiting_job_that_is_forgotten_makes_room(queue: Jobs[str, str], clock: Clock) -> None:
    running = queue.submit("a")
    until(lambda: state(queue, running) == "running")
    forgotten = [queue.submit("b"), queue.submit("c")]
    with pytest.raises(SemibodyError, match="too many clips are waiting"):
        queue.submit("d")
    clock.now += engine.PATIENCE - 1
    queue.look(running)
    clock.now += 2
    assert state(queue, queue.submit("d")) == "waiting"
    assert [state(queue, name) for name in forgotten] == ["stopped", "stopped"]


def test_failures_are_told_and_end_only_their_own_job(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    queue: Jobs[str, str] = Jobs(worker, explain=lambda error: f"explained {type(error).__name__}")
    queue.start()
    worker.last.set()
    for error, reason in (
        (SemibodyError("cut the speech"), "cut the speech"),
        (OSError(errno.ENOSPC, "full"), "explained OSError"),
        (SystemExit(1), "explained SystemExit"),  # as a library that ends its thread
        (ValueError("inner"), "explained ValueError"),
    ):
        worker.error = error
        seen = queue.wait(queue.submit("a"))
        assert (seen.state, seen.reason) == ("failed", reason)
    assert [record.exc_info[1] for record in caplog.records if record.exc_info][-1] is worker.error
    worker.error = None
    assert queue.wait(queue.submit("a")).state == "done"
    assert queue.close()


def test_only_so_many_results_are_kept_and_the_oldest_is_discarded(worker: Worker) -> None:
    discarded: list[str] = []
    queue: Jobs[str, str] = Jobs(worker, most_kept=2, discard=discarded.append)
    queue.start()
    worker.last.set()
    names = []
    for order in "abc":
        names.append(queue.submit(order))
        queue.wait(names[-1])
    assert discarded == ["a"]
    with pytest.raises(UnknownJobError):
        queue.look(names[0])
    assert [queue.look(name).result for name in names[1:]] == ["clip of b", "clip of c"]
    queue.close()


def test_jobs_wait_while_the_weights_are_loaded(worker: Worker) -> None:
    loaded = threading.Event()

    def prepare() -> None:
        loaded.wait(SOON)

    queue: Jobs[str, str] = Jobs(worker, prepare=prepare)
    queue.start()
    worker.last.set()
    name = queue.submit("a")
    assert (state(queue, name), queue.ready, queue.look(name).ahead) == ("waiting", False, 0)
    loaded.set()
    assert queue.wait(name).state == "done"
    assert queue.ready
    queue.close()


def test_weights_that_cannot_be_loaded_are_told_to_all(worker: Worker) -> None:
    wanted, gone = threading.Event(), SemibodyError("x: no such weights folder")

    def prepare() -> None:
        wanted.wait(SOON)
        raise gone

    queue: Jobs[str, str] = Jobs(worker, prepare=prepare)
    queue.start()
    name = queue.submit("a")
    wanted.set()
    assert queue.wait(name).reason == "x: no such weights folder"
    assert queue.broken is gone
    with pytest.raises(SemibodyError, match="no such weights folder"):
        queue.submit("b")


def test_closing_stops_everything_and_says_if_it_could_not() -> None:
    inside, leave = threading.Event(), threading.Event()

    def deaf(order: str, report: Report) -> str:
        inside.set()
        leave.wait(SOON)
        report(0.5, "denoise")
        return order

    queue: Jobs[str, str] = Jobs(deaf)
    queue.start()
    name, other = queue.submit("a"), queue.submit("b")
    inside.wait(SOON)
    assert queue.close(0.05) is False, "the worker is in a long call"
    assert state(queue, other) == "stopped"
    leave.set()
    assert queue.close(SOON) is True
    assert state(queue, name) == "stopped"
    with pytest.raises(SemibodyError):
        queue.submit("c")
