"""HKC, HKV and PCK of hands whose answers are known by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from semibody.evaluation.measures.hands import hand_errors, hand_size
from semibody.pose.hands import hand_confidence, hand_variation
from semibody.types import Floats


def still_hands(frames: int = 6) -> tuple[Floats, Floats]:
    grid = np.stack(np.meshgrid(np.arange(7.0), np.arange(3.0)), axis=-1).reshape(21, 2) * 10
    both = np.stack([grid, grid + 200])
    return np.tile(both, (frames, 1, 1, 1)), np.ones((frames, 2, 21))


def test_confidence_counts_lost_hands_as_zero_and_caps_at_one() -> None:
    confidence = np.ones((4, 2, 21))
    confidence[:, 1] = 0
    confidence[0, 0, 0] = 1.1
    assert hand_confidence(confidence) == pytest.approx(0.5)
    assert math.isnan(hand_confidence(np.zeros((0, 2, 21))))


def test_variation_of_a_known_swing() -> None:
    points, confidence = still_hands()
    assert hand_variation(points, confidence, threshold=0.3) == 0
    points[::2, ..., 0] += 10  # x swings by ±5 about its middle, y rests: √(25 / 2)
    assert hand_variation(points, confidence, threshold=0.3) == pytest.approx(math.sqrt(12.5))


def test_variation_ignores_what_was_not_found() -> None:
    points, confidence = still_hands()
    points[2] = 1e6
    confidence[2] = 0
    assert hand_variation(points, confidence, threshold=0.3) == 0
    assert math.isnan(hand_variation(points, np.zeros_like(confidence), threshold=0.3))


def test_errors_by_hand() -> None:
    true, sure = still_hands()
    found, confidence = true.copy(), sure.copy()
    size = hand_size(true, sure, threshold=0.3)
    assert size.tolist() == [60.0, 60.0]
    found[:, 0, :, 0] += 11  # inside 0.2 · 60 = 12
    found[:, 1, :, 0] += 13  # outside
    errors = hand_errors(found, confidence, true, sure, tolerance=0.2, threshold=0.3)
    assert [errors.pck, errors.error, errors.missed] == pytest.approx([0.5, 12.0, 0.0])
    confidence[:, 0] = 0
    lost = hand_errors(found, confidence, true, sure, tolerance=0.2, threshold=0.3)
    assert [lost.pck, lost.error, lost.missed] == pytest.approx([0.0, 13.0, 0.5])


def test_hands_that_are_not_there_are_not_asked_for() -> None:
    true, sure = still_hands()
    nothing = hand_errors(true, sure, true, np.zeros_like(sure), tolerance=0.2, threshold=0.3)
    assert math.isnan(nothing.pck)
