"""How far a mouth is open, on faces whose answer is known by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from semibody.clips.mouth import correlation, jaw_opening, mouth_opening, opening
from semibody.types import FACE, N_JOINTS, Floats, Gesture


def face(gap: float, *, width: float = 0.2, tall: float = 0.5) -> Floats:
    """(68, 2): a mouth ``width`` across whose inner lips are ``gap`` apart, in a face so tall."""
    points = np.zeros((68, 2))
    points[48], points[54] = [0.0, 0.3], [width, 0.3]
    for above, below in ((61, 67), (62, 66), (63, 65)):
        points[[above, below], 0] = width / 2
        points[above, 1], points[below, 1] = 0.3 - gap / 2, 0.3 + gap / 2
    points[8] = [width / 2, tall]  # the chin; the brows lie at 0
    points[[19, 24], 0] = width / 2
    return points


def gesture(*faces: Floats) -> Gesture:
    joints = np.zeros((len(faces), N_JOINTS, 2))
    joints[:, FACE] = np.stack(faces)
    return Gesture(joints, np.ones((len(faces), N_JOINTS)))


def test_an_opening_is_a_ratio() -> None:
    points = np.array([[[0.0, 0.0], [0.0, 3.0], [4.0, 0.0], [8.0, 3.0]]])
    assert opening(points, (0, 1), (2, 3)) == pytest.approx([3 / 5])
    assert opening(points * 7, (0, 1), (2, 3)) == pytest.approx([3 / 5])
    assert opening(points, (0, 1), (2, 2), least=0.5) == pytest.approx([6.0])


def test_the_mouth_opens_against_its_width_and_the_jaw_against_the_face() -> None:
    shut, half, narrow = face(0.0), face(0.1), face(0.1, width=0.125)
    assert mouth_opening(gesture(shut, half, narrow)) == pytest.approx([0, 0.5, 0.8])
    # 0.22 of the face's height counts as wide open: 0.1 / (0.22 * 0.5), whatever the mouth's width.
    assert jaw_opening(np.stack([shut, half, narrow])) == pytest.approx([0, 1 / 1.1, 1 / 1.1])
    assert jaw_opening(face(0.3)[None]) == mouth_opening(gesture(face(0.3))) == 1.0


def test_lips_that_were_not_seen_are_closed() -> None:
    seen = gesture(face(0.1), face(0.1))
    seen.confidence[1, FACE.start + 50] = 0.0
    assert mouth_opening(seen) == pytest.approx([0.5, 0.0])


def test_correlation_is_pearsons() -> None:
    wave = np.sin(np.arange(30.0))
    assert correlation(wave, 3 * wave + 1) == pytest.approx(1)
    assert correlation(wave, -wave) == pytest.approx(-1)
    assert correlation(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0])) == pytest.approx(0.5)
    assert math.isnan(correlation(wave, np.ones(30)))
    assert math.isnan(correlation(wave[:7], wave[:7], least=8))
    assert math.isnan(correlation(wave[:0], wave[:0]))
