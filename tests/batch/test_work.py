"""One job: begun again where that may help, within a bound, and kept where its video is there."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

import made
from semibody import media
from semibody.batch import work
from semibody.batch.jobs import Job
from semibody.batch.work import Task, is_made, make


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Task:
    monkeypatch.setattr(work, "PAUSE", 0.0)
    media.write_image(tmp_path / "ann.png", made.picture())
    media.write_speech(tmp_path / "hello.wav", made.tone(0.3))
    job = Job(portrait=tmp_path / "ann.png", speech=tmp_path / "hello.wav", out=tmp_path / "a.mp4",
              gesture="wave", settings={"steps": 1, "length": 2})  # fmt: skip
    return Task(job=job, key="k" * 32, retries=2)


class Fails:
    """An Animator whose first calls fail."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.calls, self.real = list(errors), 0, made.animator()

    def settings(self, **changes: Any) -> Any:
        return self.real.settings(**changes)

    def write(self, *given: Any, **more: Any) -> None:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        self.real.write(*given, **more)


@pytest.mark.parametrize(
    ("errors", "state", "calls"),
    [
        ([], "made", 1),
        ([OSError(errno.ETIMEDOUT, "timed out"), RuntimeError("CUDA out of memory")], "made", 3),
        ([MemoryError(), MemoryError(), MemoryError()], "failed", 3),
        ([ZeroDivisionError("always")], "failed", 1),
    ],
)
def test_what_may_pass_is_tried_again(
    task: Task, errors: list[Exception], state: str, calls: int, tmp_path: Path
) -> None:
    animator = Fails(*errors)
    result = make(animator, task)  # type: ignore[arg-type]
    assert (result.state, result.attempts, animator.calls) == (state, calls, calls)
    assert task.job.out.exists() is (state == "made")
    assert (tmp_path / "errors.log").exists() is (state == "failed")


def test_a_full_disk_ends_the_batch(task: Task) -> None:
    animator = Fails(OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(OSError, match="No space"):
        make(animator, task)  # type: ignore[arg-type]
    assert animator.calls == 1


@pytest.mark.parametrize("ending", [".mp4", ".mov", ".mkv"])
def test_a_video_carries_its_key(task: Task, ending: str) -> None:
    from dataclasses import replace

    task = replace(task, job=replace(task.job, out=task.job.out.with_suffix(ending)))
    animator = Fails()
    assert not is_made(task)
    assert make(animator, task).state == "made"  # type: ignore[arg-type]
    before = task.job.out.stat().st_mtime_ns
    assert make(animator, task).state == "kept"  # type: ignore[arg-type]
    assert task.job.out.stat().st_mtime_ns == before
    assert make(animator, replace(task, key="other")).state == "made"  # type: ignore[arg-type]
    assert make(animator, replace(task, key="other", again=True)).state == "made"  # type: ignore[arg-type]
    assert animator.calls == 3


def test_a_video_of_something_else_is_not_replaced(task: Task) -> None:
    task.job.out.write_bytes(b"a holiday")
    result = make(Fails(), task)  # type: ignore[arg-type]
    assert (result.state, task.job.out.read_bytes()) == ("failed", b"a holiday")
    assert "is no video of ours" in result.notices[0]
