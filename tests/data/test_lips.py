"""Lips and sound: right sound has a margin over itself shifted, late or other sound has none."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from semibody.data.lips import FARTHEST, TICKS, compare


def walk(seed: int, ticks: int) -> NDArray[np.float32]:
    """(ticks, 32) of unit length, each much like the one before, as embeddings of speech are."""
    rng = np.random.default_rng(seed)
    steps = rng.standard_normal((ticks, 32))
    kernel = np.hanning(7)
    smooth = np.stack([np.convolve(column, kernel, "same") for column in steps.T], axis=1)
    return (smooth / np.linalg.norm(smooth, axis=1, keepdims=True)).astype(np.float32)


def noisy(rows: NDArray[np.float32], seed: int, much: float = 0.15) -> NDArray[np.float32]:
    moved = rows + much * np.random.default_rng(seed).standard_normal(rows.shape)
    return np.asarray(moved / np.linalg.norm(moved, axis=1, keepdims=True), np.float32)


def test_right_sound_has_a_margin() -> None:
    sound = walk(0, 100)
    found = compare(noisy(sound, 1), sound)
    assert found is not None and found.margin > 3 and abs(found.late) <= 1 / TICKS


@pytest.mark.parametrize("late", [12, -12, 25])
def test_late_sound_has_none_and_its_lag_is_found(late: int) -> None:
    sound = walk(2, 140)
    mouth = noisy(sound, 3)
    ahead, behind = (mouth, sound[late:]) if late > 0 else (mouth[-late:], sound)
    found = compare(ahead, behind)
    assert found is not None and found.margin < 0
    assert found.late == pytest.approx(late / TICKS, abs=1 / TICKS)


def test_another_speech_has_none() -> None:
    margins = []
    for seed in range(40):
        found = compare(noisy(walk(seed, 100), 5), walk(seed + 1000, 100))
        assert found is not None
        margins.append(found.margin)
    assert np.quantile(margins, 0.95) < 1.5
    assert np.mean(margins) < 0


def test_too_short_a_clip_tells_nothing() -> None:
    rows = walk(0, 30)
    assert compare(rows, rows) is None
    assert compare(rows[:0], rows) is None
    found = compare(walk(0, 50), walk(0, 50))
    assert found is not None and abs(found.late) < FARTHEST
