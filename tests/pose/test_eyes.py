"""Lids that close, and irises that look aside, in a drawn face."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from semibody.pose.eyes import Eyes
from semibody.types import Floats

Frame = NDArray[np.float32]

SIDE, LENGTH, OPEN = 256, 48, 18
CENTRES = ((84, 120), (172, 120))
SKIN, BROW, IRIS = (0.4, 0.1, 0.0), (-0.8, -0.8, -0.9), (-0.6, -0.5, -0.4)


def joints(length: float = LENGTH, opening: float = OPEN) -> Floats:
    face = np.zeros((68, 2))
    for number, (x, y) in enumerate(CENTRES):
        ahead = np.array([-0.5, -0.2, 0.2, 0.5, 0.2, -0.2]) * length + x
        below = np.array([0, -0.5, -0.5, 0, 0.5, 0.5]) * opening + y
        face[36 + 6 * number : 42 + 6 * number] = np.stack([ahead, below], axis=1)
        face[17 + 5 * number : 22 + 5 * number] = np.stack(
            [np.linspace(-24, 24, 5) + x, np.full(5, y - 36.0)], 1
        )
    return face


def drawn() -> Frame:
    """Skin, brows, white eyes with dark irises."""
    picture = np.empty((SIDE, SIDE, 3), np.float32)
    picture[:] = SKIN
    for x, y in CENTRES:
        cv2.ellipse(picture, (x, y), (LENGTH // 2, OPEN // 2 + 1), 0, 0, 360, (0.9, 0.9, 0.9), -1)
        cv2.circle(picture, (x, y), 8, IRIS, -1)
        cv2.ellipse(picture, (x, y), (LENGTH // 2, OPEN // 2), 0, 180, 360, BROW, 2)
        cv2.line(picture, (x - 24, y - 36), (x + 24, y - 36), BROW, 5)
    return picture


def iris(picture: Frame, x: int, y: int) -> float:
    """Column of the middle of what is dark in the eye's middle row."""
    dark = np.flatnonzero(picture[y, x - 20 : x + 21, 0] < 0)
    return float(dark.mean()) + x - 20


def test_a_closed_lid_is_skin_over_the_whole_eye() -> None:
    picture = drawn()
    eyes = Eyes.of(picture, joints())
    made = eyes.draw(picture, 1.0, 0.0)
    for x, y in CENTRES:
        eye = made[y - 8 : y + 3, x - 14 : x + 15]
        assert np.abs(eye - SKIN).max() < 0.25
        # No white is left, and a line of lashes is below.
        assert made[y - 12 : y + 16, x - 13 : x + 14].max() < 0.6
        assert (made[y : y + 14, x, 0] < 0.0).sum() in range(1, 6)


def test_a_lid_leaves_the_brow_and_half_closed_the_lower_half() -> None:
    picture = drawn()
    made = Eyes.of(picture, joints()).draw(picture, 0.5, 0.0)
    assert (made[:88] == picture[:88]).all()
    for x, y in CENTRES:
        assert (made[y + 5 : y + 8, x - 5 : x + 5] == picture[y + 5 : y + 8, x - 5 : x + 5]).all()
        assert np.abs(made[y - 8, x] - SKIN).max() < 0.3


@pytest.mark.parametrize("gaze", [-1.0, 0.5, 1.0])
def test_irises_go_aside_together_and_the_lids_stay(gaze: float) -> None:
    picture = drawn()
    made = Eyes.of(picture, joints()).draw(picture, 0.0, gaze)
    moved = [iris(made, x, y) - iris(picture, x, y) for x, y in CENTRES]
    assert moved == pytest.approx([0.085 * gaze * LENGTH] * 2, abs=1.0)
    outside = np.ones((SIDE, SIDE), bool)
    for x, y in CENTRES:
        outside[y - 16 : y + 17, x - 26 : x + 27] = False
    assert (made[outside] == picture[outside]).all()


def test_an_open_eye_that_looks_at_the_camera_is_the_portraits() -> None:
    picture = drawn()
    assert Eyes.of(picture, joints()).draw(picture, 0.0, 0.0) is picture


def rimmed(picture: Frame) -> Frame:
    for x, y in CENTRES:
        cv2.circle(picture, (x, y), 30, (-0.9, -0.9, -0.9), 3)
    return picture


@pytest.mark.parametrize(
    ("picture", "face"),
    [(drawn(), joints(6, 3)), (drawn(), joints(LENGTH, 3)), (rimmed(drawn()), joints())],
    ids=["small", "closed", "glasses"],
)
def test_some_eyes_stay_as_they_are(picture: Frame, face: Floats) -> None:
    eyes = Eyes.of(picture, face)
    assert eyes.draw(picture, 1.0, 1.0) is picture
