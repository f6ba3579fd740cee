"""Lips and sound: right sound has a margin over itself shifted, late or other sound has none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from semibody.data import lips
from semibody.data.lips import FARTHEST, TICKS, compare_embeddings, compare_lips
from semibody.types import RATE, Speech

Rows = NDArray[np.float32]
Compare = Callable[[Rows, Rows], lips.Agreement | None]


def walk(seed: int, ticks: int, columns: int = 32) -> Rows:
    """(ticks, columns) of unit length, each much like the one before, as embeddings of speech are."""
    rng = np.random.default_rng(seed)
    steps = rng.standard_normal((ticks, columns))
    kernel = np.hanning(7)
    smooth = np.stack([np.convolve(column, kernel, "same") for column in steps.T], axis=1)
    return (smooth / np.linalg.norm(smooth, axis=1, keepdims=True)).astype(np.float32)


def noisy(rows: Rows, seed: int, much: float = 0.15) -> Rows:
    moved = rows + much * np.random.default_rng(seed).standard_normal(rows.shape)
    return np.asarray(moved / np.linalg.norm(moved, axis=1, keepdims=True), np.float32)


both = pytest.mark.parametrize(("compare", "columns"), [(compare_embeddings, 32), (compare_lips, 2)])


@both
def test_right_sound_has_a_margin(compare: Compare, columns: int) -> None:
    sound = walk(0, 100, columns)
    found = compare(noisy(sound, 1), sound)
    assert found is not None and found.margin > 2 and abs(found.late) <= 1 / TICKS


@both
@pytest.mark.parametrize("late", [12, -12, 25])
def test_late_sound_has_none_and_its_lag_is_found(compare: Compare, columns: int, late: int) -> None:
    sound = walk(2, 140, columns)
    mouth = noisy(sound, 3)
    ahead, behind = (mouth, sound[late:]) if late > 0 else (mouth[-late:], sound)
    found = compare(ahead, behind)
    assert found is not None and found.margin < 0
    assert found.late == pytest.approx(late / TICKS, abs=1 / TICKS)


@both
def test_another_speech_has_none(compare: Compare, columns: int) -> None:
    margins = []
    for seed in range(40):
        found = compare(noisy(walk(seed, 100, columns), 5), walk(seed + 1000, 100, columns))
        assert found is not None
        margins.append(found.margin)
    assert np.quantile(margins, 0.95) < 1.5
    assert np.mean(margins) < 0


@both
def test_too_short_a_clip_tells_nothing(compare: Compare, columns: int) -> None:
    rows = walk(0, 30, columns)
    assert compare(rows, rows) is None
    assert compare(rows[:0], rows) is None
    found = compare(walk(0, 50, columns), walk(0, 50, columns))
    assert found is not None and abs(found.late) < FARTHEST


def test_a_smile_that_stays_and_a_louder_opening_do_not_matter() -> None:
    sound = walk(4, 120, 2).astype(np.float64)
    mouth = np.array([0.1, 0.02]) * noisy(walk(4, 120, 2), 5) + [0.3, 0.5]
    found, scaled = compare_lips(mouth, sound), compare_lips(3 * mouth + 1, sound)
    assert found is not None and scaled is not None
    assert found.margin > 2 and scaled.margin == pytest.approx(found.margin)


def face(opening: NDArray[np.float64], width: float = 0.1, size: float = 1.0) -> NDArray[np.float64]:
    """(f, 68, 2): chin and brows 0.4 apart, outer lips ``opening`` apart, corners ``width`` apart."""
    points = np.zeros((len(opening), 68, 2))
    points[:, 8, 1] = 0.4
    for upper, lower in ((50, 58), (51, 57), (52, 56)):
        points[:, upper, 1], points[:, lower, 1] = 0.3 - opening / 2, 0.3 + opening / 2
    points[:, 54, 0] = width
    return points * size


def test_lips_are_seen_in_heights_of_the_face_whatever_the_picture_and_the_rate() -> None:
    opening = 0.02 + 0.01 * np.sin(2 * np.pi * np.arange(100) / 50)  # a wave a second at 50 frames
    confidence = np.ones((100, 68))
    seen = lips.seen_lips(face(opening, size=500), confidence, 50.0)
    assert seen is not None and seen.shape == (50, 2)
    ticks = (np.arange(50) + 0.5) / TICKS - 0.01
    assert seen[:, 0] == pytest.approx((0.02 + 0.01 * np.sin(2 * np.pi * ticks)) / 0.4, abs=1e-3)
    assert seen[:, 1] == pytest.approx(0.25)


def test_frames_without_a_mouth_are_bridged_and_many_of_them_tell_nothing() -> None:
    opening = np.linspace(0.01, 0.03, 50)
    confidence, points = np.ones((50, 68)), face(opening)
    confidence[20:25, 60], points[20:25] = 0.1, 7.0
    whole = lips.seen_lips(face(opening), np.ones((50, 68)), 25.0)
    bridged = lips.seen_lips(points, confidence, 25.0)
    assert bridged == pytest.approx(whole)
    confidence[:15, 60] = 0.1
    assert lips.seen_lips(points, confidence, 25.0) is None


def test_lips_heard_in_silence_are_shut_and_open_in_a_vowel() -> None:
    time = np.arange(2 * RATE) / RATE
    # An a: a buzz of 120 Hz, resonances about 800 and 1200 Hz.
    buzz = sum(
        np.sin(2 * np.pi * 120 * n * time) / (1 + ((120 * n - 800) / 150) ** 2)
        + 0.5 * np.sin(2 * np.pi * 120 * n * time) / (1 + ((120 * n - 1200) / 150) ** 2)
        for n in range(1, 30)
    )
    wave = np.where((time > 0.7) & (time < 1.4), 0.15 * buzz, 0).astype(np.float32)
    heard = lips.heard_lips(Speech(wave, RATE))
    assert heard.shape == (50, 2)
    assert heard[:10, 0].max() < 0.05 < 0.2 < heard[22:32, 0].mean()
