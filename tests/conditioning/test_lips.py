"""The lips of a portrait in the shapes of speech."""

from __future__ import annotations

import numpy as np
import pytest

from semibody.conditioning.lips import Lips
from semibody.pose import library
from semibody.pose.kinematics import Body, reach
from semibody.types import FACE, Floats

REST = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def face() -> Floats:
    palm, fingers = (-0.2, -0.8, 0.4), (0.3, -0.3, 0.9)
    arms = [reach((0.62, 0.86, 0.62), palm, fingers, "soft")] * 2
    states = np.concatenate([*arms, np.zeros(3)])[None]
    return np.asarray(library.render(states, 24.0, body=Body(shoulders=0.3))[0].joints[FACE])


def shaped(face: Floats, *shape: float) -> Floats:
    return np.asarray(face + Lips(face, 1.0).offsets(np.array(shape, np.float32)))


def gap(face: Floats) -> float:
    return float(face[66, 1] - face[62, 1])


def test_lips_close_what_is_open_and_open_what_is_closed(face: Floats) -> None:
    parted = face.copy()
    parted[66] = parted[62] + (0, 0.01)
    # Closed a little farther than the joints say, because teeth shine through beside them.
    assert gap(shaped(parted, *REST)) == pytest.approx(-0.005)
    size = np.ptp(face[:, 1])
    assert gap(shaped(parted, 1, 0, 0, 0, 0, 0)) == pytest.approx(0.155 * size)
    # Joints that are hardly apart are those of lips that touch: opening adds to that.
    parted[66] = parted[62] + (0, 0.008 * size)
    assert gap(shaped(parted, 1, 0, 0, 0, 0, 0)) == pytest.approx(0.163 * size)


@pytest.mark.parametrize("jaw", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("own", [0.0, 0.012])
def test_m_b_and_p_shut_any_mouth_however_far_the_jaw(face: Floats, jaw: float, own: float) -> None:
    parted = face.copy()
    parted[66] = parted[62] + (0, own)
    assert gap(shaped(parted, jaw, 0, 0.2, 0.8, 0, 0)) <= 1e-9


def test_corners_go_in_for_round_sounds_and_out_for_spread_ones(face: Floats) -> None:
    width = face[64, 0] - face[60, 0]
    rounded, spread = shaped(face, 0.3, 1, 0, 0, 0, 0), shaped(face, 0.3, 0, 1, 0, 0, 0)
    assert (rounded[64, 0] - rounded[60, 0]) / width == pytest.approx(0.77)
    assert (spread[64, 0] - spread[60, 0]) / width == pytest.approx(1.2)
    for one, other in ((60, 64),):
        assert rounded[one, 0] + rounded[other, 0] == pytest.approx(face[one, 0] + face[other, 0])


def test_round_lips_are_fuller_and_pressed_ones_thinner(face: Floats) -> None:
    def thick(of: Floats) -> float:
        return float(of[62, 1] - of[51, 1] + of[57, 1] - of[66, 1])

    usual = thick(shaped(face, *REST))
    assert thick(shaped(face, 0.3, 1, 0, 0, 0, 0)) > 1.1 * usual
    assert thick(shaped(face, 0, 0, 0, 1, 0, 0)) < 0.9 * usual


def test_an_opening_jaw_stretches_the_lips_and_spreading_thins_the_upper_one(face: Floats) -> None:
    def thick(of: Floats) -> tuple[float, float]:
        return float(of[62, 1] - of[51, 1]), float(of[57, 1] - of[66, 1])

    usual, opened, spread = (thick(shaped(face, *s)) for s in (REST, (1, 0, 0, 0, 0, 0), (0, 0, 1, 0, 0, 0)))
    assert np.array(opened) / usual == pytest.approx([0.85, 0.85])
    assert np.array(spread) / usual == pytest.approx([0.75, 0.95])


def test_f_and_v_leave_a_slit_under_raised_upper_lip(face: Floats) -> None:
    bitten, opened = shaped(face, 0.6, 0, 0, 0, 1, 0.5), shaped(face, 0.6, 0, 0, 0, 0, 0)
    size = np.ptp(face[:, 1])
    assert 0 < gap(bitten) < 0.025 * size < gap(opened)
    assert bitten[62, 1] < face[62, 1]


def test_without_the_network_opening_and_width_give_the_shapes(face: Floats) -> None:
    lips = Lips(face, 1.0)
    eyes = np.hypot(*(face[42:48].mean(axis=0) - face[36:42].mean(axis=0)))
    shapes = lips.shapes_of(np.array([[0.4, 0.8], [0.4, 0.7], [0.4, 0.85]], np.float32))
    assert shapes[:, 0] == pytest.approx([0.4, 0.4, 0.4])
    for shape, wider in zip(shapes, (0.0, -0.1, 0.05), strict=True):
        moved = lips.offsets(shape)
        assert moved[64, 0] - moved[60, 0] == pytest.approx(wider * eyes, abs=1e-6)
