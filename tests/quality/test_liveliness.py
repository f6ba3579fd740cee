"""Blinks, the head's movement and a shutting mouth of faces whose points the test places."""

from __future__ import annotations

import math

import numpy as np
import pytest

from semibody.evaluation.faces import Face
from semibody.quality.liveliness import measure_life, silent_frames
from semibody.types import Speech

FPS, RATE = 24.0, 16000
TALKS = Speech(np.sin(np.arange(10 * RATE) * 0.3).astype(np.float32), RATE)


def face(*, opening: float = 0.3, gap: float = 0.0, right: float = 0.0) -> Face:
    """A face 100 pixels tall with eyes 20 wide."""
    points = np.zeros((468, 2))
    points[[10, 152]] = (50, 0), (50, 100)
    for upper, lower, start, end, x in ((159, 145, 33, 133, 30), (386, 374, 362, 263, 70)):
        points[[start, end]] = (x - 10, 40), (x + 10, 40)
        points[[upper, lower]] = (x, 40 - 10 * opening), (x, 40 + 10 * opening)
    for above, below in ((13, 14), (82, 87), (312, 317)):
        points[[above, below]] = (50, 75 - 50 * gap), (50, 75 + 50 * gap)
    return Face(points + np.array([right, 0.0]), None)


def test_blinks_are_counted_a_minute() -> None:
    # Two blinks of three frames in five seconds.
    faces = [face(opening=0.05 if n in (30, 31, 32, 80, 81, 82) else 0.3) for n in range(120)]
    assert measure_life(faces, face(), TALKS, FPS)["blinks"] == pytest.approx(24)
    # A little closed is no blink.
    faces = [face(opening=0.23 if n % 30 < 3 else 0.3) for n in range(120)]
    assert measure_life(faces, face(), TALKS, FPS)["blinks"] == 0
    assert math.isnan(measure_life(faces, face(opening=0.05), TALKS, FPS)["blinks"])


def test_the_heads_movement_is_a_share_of_its_height() -> None:
    faces = [face(right=2.0 * (-1) ** n) for n in range(40)]
    assert measure_life(faces, face(), TALKS, FPS)["head-motion"] == pytest.approx(2.0)


def test_an_open_mouth_has_to_shut_where_nothing_is_heard() -> None:
    wave = TALKS.waveform.copy()
    wave[2 * RATE : 4 * RATE] = 0
    speech = Speech(wave, RATE)
    silent = silent_frames(speech, 240, FPS)
    assert np.flatnonzero(silent).tolist() == list(range(52, 92))
    faces = [face(gap=0.0 if 60 <= n < 92 else 0.06) for n in range(240)]
    assert measure_life(faces, face(gap=0.05), speech, FPS)["mouth-shut"] == pytest.approx(32 / 40)
    assert math.isnan(measure_life(faces, face(gap=0.01), speech, FPS)["mouth-shut"])
    assert math.isnan(measure_life(faces, face(gap=0.05), TALKS, FPS)["mouth-shut"])


def test_without_faces_nothing_is_told() -> None:
    values = measure_life([None, None], face(), TALKS, FPS)
    assert all(math.isnan(value) for value in values.values())
