"""One detector for a process: opened once, one thread at a time, no memory lost from clip to clip."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Self

import pytest

import made
from semibody import inputs
from semibody.pose import detectors
from semibody.pose.detectors import detect_pose, shared_detector
from semibody.settings import Settings
from semibody.types import Picture, Pose

TESTS = Path(__file__).parents[1]


class Counted:
    """A detector that finds nobody slowly, and notices when it is asked twice at once."""

    name = "counted"
    opened = 0

    def __init__(self) -> None:
        type(self).opened += 1
        self._busy = threading.Lock()

    def people(self, image: Picture) -> list[Pose]:
        assert self._busy.acquire(blocking=False), "two threads at once"
        time.sleep(0.01)
        self._busy.release()
        return [Pose.empty()]

    def follow(self, image: Picture, last: Pose) -> Pose | None:
        raise NotImplementedError

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        raise AssertionError("it is to stay open")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> type[Counted]:
    monkeypatch.setattr(detectors, "_shared", {})
    monkeypatch.setattr(Counted, "opened", 0)
    monkeypatch.setattr(detectors, "open_detector", lambda name="auto": Counted())
    return Counted


def test_clips_and_threads_share_one(counted: type[Counted]) -> None:
    failed: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(3):
                inputs.fit_portrait(made.picture(), Settings(width=64, height=64))
                detect_pose(made.picture())
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert counted.opened == 1


def test_a_failure_inside_gives_it_back(counted: type[Counted]) -> None:
    with pytest.raises(RuntimeError), shared_detector():
        raise RuntimeError
    done = threading.Thread(target=lambda: shared_detector().__enter__())
    done.start()
    done.join(5)
    assert not done.is_alive()
    assert counted.opened == 1


@pytest.mark.parametrize("clips", [8, pytest.param(50, marks=pytest.mark.slow)])
def test_memory_does_not_grow_with_the_number_of_clips(clips: int) -> None:
    """Resident megabytes of a process that animates again and again; it lost 5 to 10 with each clip once."""
    pytest.importorskip("mediapipe")
    program = f"""
import resource, made
from pathlib import Path
animator = made.animator(steps=1, find_person=True)
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
for number in range(3 + {clips}):
    if number == 3:
        before = resident()
    animator.animate(made.picture(), made.tone(0.3), made.gesture(), length=2)
print(resident() - before)
"""
    if not sys.platform.startswith("linux"):
        pytest.skip("resident memory is read from Linux's /proc")
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
    )
    assert float(done.stdout) < 12
