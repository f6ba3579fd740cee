"""Work in several processes."""

from __future__ import annotations

import operator
import os

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


def test_a_mistake_in_a_job_reaches_the_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        list(in_processes(operator.truediv, [(1, 0)], workers=1))
