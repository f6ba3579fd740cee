"""Jobs in processes of this machine: results of all, few threads, and no end of all for one that dies."""

from __future__ import annotations

import operator
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from semibody.processes import Workers, own_number, own_threads, run_jobs
from semibody.processes.local import in_processes
from semibody.types import SemibodyError


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "LP_NUM_THREADS"):
        monkeypatch.setenv(name, "1")


def test_all_results_come_and_workers_keep_to_their_threads() -> None:
    assert sorted(in_processes(operator.mul, [(2, 3), (4, 5)], workers=2)) == [6, 20]
    assert list(in_processes(os.getenv, [("OMP_NUM_THREADS",)], workers=1, threads=3)) == ["3"]
    assert list(in_processes(operator.mul, [], workers=2)) == []


def test_a_worker_that_dies_is_named() -> None:
    with pytest.raises(SemibodyError, match=r"a worker process died.*fewer --workers"):
        list(in_processes(os._exit, [(1,)], workers=1))


def test_jobs_of_a_dead_worker_start_again(tmp_path: Path) -> None:
    marks = [tmp_path / str(n) for n in range(4)]
    assert sorted(in_processes(_dies_once, [(str(mark),) for mark in marks], workers=2)) == list("0123")
    assert all(mark.exists() for mark in marks)


def _dies_once(mark: str) -> str:
    """Every job's first try ends its process, but for one."""
    path = Path(mark)
    if not path.exists() and path.name != "0":
        path.touch()
        os._exit(1)
    path.touch()
    return path.name


def test_a_mistake_in_a_job_reaches_the_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        list(in_processes(operator.truediv, [(1, 0)], workers=1))


def test_a_job_that_exits_counts_as_one_that_died() -> None:
    """SystemExit is no Exception: raised in the caller it would end all the other jobs."""
    jobs = [("1",), ("stop",), ("2",)]
    found = run_jobs(_exits_at_a_word, jobs, Workers(workers=2), given_up=lambda word: f"gave up {word}")
    assert sorted(found) == ["1", "2", "gave up stop"]


def _exits_at_a_word(word: str) -> str:
    if not word.isdigit():
        sys.exit(f"cannot go on at {word}")
    return word


def test_a_killed_process_ends_no_other_job(tmp_path: Path) -> None:
    """Killed from outside, as the system does where memory is short."""
    jobs = [(str(tmp_path), number) for number in range(4)]
    found = run_jobs(_killed_at_two, jobs, Workers(workers=2), given_up=lambda _, number: -number)
    assert sorted(found) == [-2, 0, 1, 3]
    assert len(list(tmp_path.iterdir())) >= 2, "it was begun again before it was given up"


def _killed_at_two(folder: str, number: int) -> int:
    if number == 2:
        (Path(folder) / str(os.getpid())).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_workers_share_the_cores_and_know_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semibody.processes.run._cores", lambda: 6)
    jobs = [(0.2,)] * 4
    found = list(run_jobs(_who, jobs, Workers(workers=2), threads=None))
    assert {threads for threads, _ in found} == {3}
    assert {number for _, number in found} <= {0, 1}
    # As many workers as cores suffice for: three with two threads each.
    numbers = {number for _, number in run_jobs(_who, jobs, Workers(), threads=2)}
    assert numbers <= {0, 1, 2}


def _who(seconds: float) -> tuple[int, int]:
    time.sleep(seconds)
    return own_threads(), own_number()
