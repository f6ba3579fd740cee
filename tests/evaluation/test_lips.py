"""SyncNet's arithmetic on a hand-made case; the jaw's lag; our own sync network finds shifts."""

from __future__ import annotations

import math

import numpy as np
import pytest

import made
from conftest import ROOT
from semibody.evaluation import lips, sync_small, sync_training
from semibody.evaluation.sync_training import Example
from semibody.types import Speech


def test_sync_by_hand() -> None:
    # One number per window; the sound says at window t what the picture said at t − 1: it comes one late.
    video = np.array([[0.0], [1.0], [2.0], [3.0]])
    audio = np.array([[9.0], [0.0], [1.0], [2.0]])
    # Shift −1 hears 0, 9, 0, 1: |0| + |8| + |2| + |2| = 12; shift 0: 9 + 1 + 1 + 1; shift 1: 0 + 0 + 0 + 3.
    found = lips.sync(video, audio, 1)
    assert found is not None
    assert found.offset == -1
    assert found.distance == pytest.approx(3 / 4, abs=1e-5)
    assert found.confidence == pytest.approx(12 / 4 - 3 / 4, abs=1e-5)  # the median of 3, 3 and 0.75


def test_sync_inside_leaves_out_what_was_not_heard() -> None:
    rng = np.random.default_rng(0)
    said = rng.normal(size=(60, 8))
    said /= np.linalg.norm(said, axis=1, keepdims=True)
    late = np.roll(said, 4, axis=0)
    found = lips.sync(said, late, 15, inside=True)
    assert found is not None
    assert (found.offset, round(found.distance, 4)) == (-4, 0.0)
    assert found.confidence == pytest.approx(math.sqrt(2), abs=0.15)  # strangers on a sphere
    assert lips.sync(said[:20], late[:20], 15, inside=True) is None
    assert lips.sync(said[:0], late[:0], 15) is None


@pytest.mark.parametrize("late", [-7, -1, 0, 3, 10])
def test_lag_is_found(late: int) -> None:
    rng = np.random.default_rng(1)
    signal = np.convolve(rng.normal(size=120), np.ones(3), "same")
    found = lips.best_lag(np.roll(signal, late)[15:-15], signal[15:-15], 10)
    assert found is not None
    assert found.frames == late
    assert found.correlation > 0.95


def test_lag_bridges_missing_faces_and_refuses_a_still_jaw() -> None:
    rng = np.random.default_rng(2)
    signal = rng.normal(size=60)
    seen = signal.copy()
    seen[10:20] = np.nan
    found = lips.best_lag(seen, signal, 5)
    assert found is not None
    assert found.frames == 0
    assert lips.best_lag(np.full(60, 0.2), signal, 5) is None


def test_loudness_follows_the_sound() -> None:
    quiet, loud = np.zeros(16000, np.float32), made.tone(1.0).waveform
    level = lips.loudness(Speech(np.concatenate([quiet, loud])), 50, 25)
    assert level[:20].max() < 0.01
    assert level[30:].min() > 0.9


def test_movement_forgets_person_and_place() -> None:
    rng = np.random.default_rng(0)
    mouth = rng.normal(0.5, 0.02, (30, 40, 2))
    five = np.tile(rng.normal(0.5, 0.1, (1, 5, 2)), (30, 1, 1))
    expression = rng.random((30, 52))
    found = {"lips": mouth, "five": five, "expression": expression}
    turned = np.array([[0.0, -1.0], [1.0, 0.0]])
    elsewhere = {
        "lips": mouth @ turned.T * 2 + 3,
        "five": five @ turned.T * 2 + 3,
        "expression": expression + 0.1,
    }
    one, other = sync_small.movement(found, 25), sync_small.movement(elsewhere, 25)
    assert one is not None and other is not None
    assert one.shape == (30, 109)
    assert np.abs(one - other).max() < 1e-4


def test_movement_needs_faces() -> None:
    nobody = {"lips": np.full((30, 40, 2), np.nan), "five": np.full((30, 5, 2), np.nan),
              "expression": np.full((30, 52), np.nan)}  # fmt: skip
    assert sync_small.movement(nobody, 25) is None


def examples(count: int) -> list[Example]:
    """Mouths that open with the energy of a made-up sound: enough to learn from in seconds."""
    made_up = []
    for number in range(count):
        rng = np.random.default_rng(number)
        energy = np.convolve(rng.normal(size=4 * 75), np.hanning(9) / 4, "same")
        rows = np.repeat(energy[2::4][:, None], 109, axis=1) + rng.normal(0, 0.1, (75, 109))
        heard = np.repeat(energy[None], 13, axis=0) + rng.normal(0, 0.1, (13, 300))
        made_up.append(Example(f"p{number:05d}c00", rows.astype(np.float32), heard.astype(np.float32)))
    return made_up


def test_training_learns_to_find_shifts() -> None:
    learn, held = sync_training.split(examples(12), 1 / 4)
    assert not {e.name for e in learn} & {e.name for e in held}
    settings = sync_training.Settings(steps=40, batch=4, ticks=40, rate=5e-3)
    found = sync_training.shift_test(sync_training.train(learn, settings), held)
    assert found.trials == 3 * len(sync_training.SHIFTS)
    assert found.within_one > 0.9


def test_the_shipped_network_loads_and_is_small() -> None:
    assert sync_small.WEIGHTS.stat().st_size < 500_000
    rows, heard = np.zeros((30, 109), np.float32), np.zeros((13, 120), np.float32)
    video, audio = sync_small.embed_rows(rows, heard, sync_small.load_sync_small())
    assert video.shape == audio.shape == (30, 32)
    assert np.linalg.norm(video, axis=1) == pytest.approx(1, abs=1e-5)


def test_the_folder_of_the_shipped_network_is_packed() -> None:
    assert sync_small.WEIGHTS.is_relative_to(ROOT / "src" / "semibody")
