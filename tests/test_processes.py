"""Work in several processes."""

from __future__ import annotations

import operator
import os
from pathlib import Path

import pytest

from semibody.processes import in_processes
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
