"""The same jobs on Ray: results of all, killed workers replaced, errors as they were raised."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from semibody.processes import Workers, own_threads, run_jobs
from semibody.types import MissingPartError, SemibodyError


def test_ray_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPartError, match=r"pip install 'semibody\[cluster\]'"):
        list(run_jobs(len, [("a",)], Workers(ray="local")))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """One cluster for the tests here, which they join as ``auto``."""
    ray = pytest.importorskip("ray", reason="could not import ray (pip install 'semibody[cluster]')")
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    address = ray.get_runtime_context().gcs_address
    yield address
    ray.shutdown()


@pytest.fixture
def on_ray(cluster: str, monkeypatch: pytest.MonkeyPatch) -> Workers:
    """Runs join and leave the cluster of the fixture, which stays."""
    import contextlib

    from semibody.processes import cluster as room

    monkeypatch.setattr(room, "_connected", lambda *_: contextlib.nullcontext())
    return Workers(workers=2, ray=cluster)


# Functions are sent whole: a worker of Ray's does not have this file.
def plus_one(number: int) -> int:
    return number + 1


def killed_at_two(folder: str, number: int) -> int:
    if number == 2:
        (Path(folder) / str(os.getpid())).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def exits(word: str) -> str:
    sys.exit(word)


def wrong(_: int) -> int:
    raise SemibodyError("a.mp4: is no video; convert it")


def full(_: int) -> int:
    raise OSError(28, "No space left on device")


def test_results_of_all_come(on_ray: Workers) -> None:
    assert sorted(run_jobs(plus_one, [(number,) for number in range(5)], on_ray)) == [1, 2, 3, 4, 5]


def test_a_killed_worker_is_replaced_and_its_job_given_up_at_last(on_ray: Workers, tmp_path: Path) -> None:
    jobs = [(str(tmp_path), number) for number in range(4)]
    found = run_jobs(killed_at_two, jobs, on_ray, given_up=lambda _, number: -number)
    assert sorted(found) == [-2, 0, 1, 3]
    assert len(list(tmp_path.iterdir())) == 3, "begun three times"


def test_a_job_that_exits_counts_as_one_that_died(on_ray: Workers) -> None:
    assert list(run_jobs(exits, [("x",)], on_ray, given_up=lambda word: f"gave up {word}")) == ["gave up x"]
    with pytest.raises(SemibodyError, match=r"died three times.*fewer --workers"):
        list(run_jobs(exits, [("x",)], on_ray))


def test_errors_come_as_they_were_raised(on_ray: Workers) -> None:
    with pytest.raises(SemibodyError, match=r"^a\.mp4: is no video; convert it$"):
        list(run_jobs(wrong, [(1,)], on_ray))
    with pytest.raises(OSError, match="No space left") as raised:
        list(run_jobs(full, [(1,)], on_ray))
    assert raised.value.errno == 28


def test_workers_keep_to_their_threads_and_folder(on_ray: Workers, tmp_path: Path) -> None:
    def where() -> tuple[int, str]:
        return own_threads(), str(Path.cwd())

    there = Path.cwd()
    os.chdir(tmp_path)
    try:
        assert list(run_jobs(where, [()], on_ray, threads=2)) == [(2, str(tmp_path))]
    finally:
        os.chdir(there)
