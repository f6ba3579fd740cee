"""SyncNet's arithmetic on a hand-made case; the jaw's lag."""

from __future__ import annotations

import math

import numpy as np
import pytest

from semibody.evaluation.measures.mouth import best_lag, sync


def test_sync_by_hand() -> None:
    # One number per window; the sound at window t equals the picture at t − 1: it is one late.
    video = np.array([[0.0], [1.0], [2.0], [3.0]])
    audio = np.array([[9.0], [0.0], [1.0], [2.0]])
    # Shift −1 hears 0, 9, 0, 1: |0| + |8| + |2| + |2| = 12; shift 0: 9 + 1 + 1 + 1; shift 1: 0 + 0 + 0 + 3.
    found = sync(video, audio, 1)
    assert found is not None
    assert found.offset == -1
    assert found.distance == pytest.approx(3 / 4, abs=1e-5)
    assert found.confidence == pytest.approx(12 / 4 - 3 / 4, abs=1e-5)  # the median of 3, 3 and 0.75


def test_sync_inside_leaves_out_windows_beyond_the_sound() -> None:
    rng = np.random.default_rng(0)
    shown = rng.normal(size=(60, 8))
    shown /= np.linalg.norm(shown, axis=1, keepdims=True)
    late = np.roll(shown, 4, axis=0)
    found = sync(shown, late, 15, inside=True)
    assert found is not None
    assert (found.offset, round(found.distance, 4)) == (-4, 0.0)
    assert found.confidence == pytest.approx(math.sqrt(2), abs=0.15)  # strangers on a sphere
    assert sync(shown[:20], late[:20], 15, inside=True) is None
    assert sync(shown[:0], late[:0], 15) is None


@pytest.mark.parametrize("late", [-7, -1, 0, 3, 10])
def test_lag_is_found(late: int) -> None:
    rng = np.random.default_rng(1)
    signal = np.convolve(rng.normal(size=120), np.ones(3), "same")
    found = best_lag(np.roll(signal, late)[15:-15], signal[15:-15], 10)
    assert found is not None
    assert found.frames == late
    assert found.correlation > 0.95


def test_lag_bridges_missing_faces_and_refuses_a_still_jaw() -> None:
    rng = np.random.default_rng(2)
    signal = rng.normal(size=60)
    seen = signal.copy()
    seen[10:20] = np.nan
    found = best_lag(seen, signal, 5)
    assert found is not None
    assert found.frames == 0
    assert best_lag(np.full(60, 0.2), signal, 5) is None
