"""Large arrays of a recording: as any other, but not in memory for good."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from semibody import scratch

LINUX = Path("/proc/self/status")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield tmp_path


def mapped() -> int:
    """Bytes of mapped files that are in memory."""
    line = next(line for line in LINUX.read_text(encoding="ascii").splitlines() if line.startswith("RssFile"))
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(not LINUX.exists(), reason="memory is counted as Linux does")
@pytest.mark.usefixtures("folder")
def test_a_large_array_leaves_memory_and_keeps_its_values() -> None:
    values = np.random.default_rng(0).random((4096, 1024))
    made = scratch.empty(values.shape, np.float64)
    before = mapped()
    made[:] = values
    assert mapped() - before > 0.9 * values.nbytes
    scratch.let_go()
    assert mapped() - before < 0.1 * values.nbytes
    np.testing.assert_array_equal(made[7], values[7])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(made)), values)


def test_no_file_is_left_or_made_for_little(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = scratch.empty((3, scratch.LARGE), np.float32)
    assert list(folder.iterdir()) == []
    del made

    def none() -> NoReturn:
        raise AssertionError("a file was made")

    monkeypatch.setattr(tempfile, "TemporaryFile", none)
    assert scratch.empty((10,), np.float32).shape == (10,)


def test_without_room_on_the_disk_it_is_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    made = scratch.empty((2 * scratch.LARGE,), np.uint8)
    made[:] = 3
    assert made.sum() == 6 * scratch.LARGE
