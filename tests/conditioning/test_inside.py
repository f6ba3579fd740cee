"""What is drawn between the lips of a photograph."""

from __future__ import annotations

import numpy as np
import pytest

from semibody.conditioning.inside import Inside
from semibody.pose.head import Mouth
from semibody.types import Floats

SIZE = 256
HALF = 60.0


def face(gap: float = 0.0) -> Floats:
    """A face about the middle of the picture, of which the mouth and its surroundings are read."""
    points = np.tile([128.0, 128.0], (68, 1))
    points[8], points[27] = (128, 260), (128, 0)
    points[[31, 35]] = (100, 80), (156, 80)
    points[[48, 60]], points[[54, 64]] = (128 - HALF, 128), (128 + HALF, 128)
    points[57], points[62], points[66] = (128, 150), (128, 128), (128, 128 + gap)
    return points


def drawn(opened: float, colour: tuple[float, float, float], gap: float = 0.0) -> tuple[Floats, Mouth]:
    picture = np.broadcast_to(np.array(colour, np.float32) * 2 - 1, (SIZE, SIZE, 3))
    away = np.zeros((68, 2))
    away[62, 1], away[66, 1] = -0.15 * opened, 0.85 * opened
    x, y = np.meshgrid(*[np.arange(SIZE, dtype=np.float32) + 0.5] * 2)
    mouth = Mouth.of(face(gap), away, x, y)
    return (Inside.of(picture, face(gap)).draw(mouth).astype(np.float64) + 1) / 2, mouth


SKIN = (0.8, 0.62, 0.54)


def test_upper_teeth_are_brightest_the_middle_is_dark_and_the_tongue_is_red() -> None:
    picture, mouth = drawn(50.0, SKIN)
    column = picture[:, 128 - 10]
    rows = np.arange(SIZE)
    inside = (mouth.across[:, 118] > mouth.top[:, 118]) & (mouth.across[:, 118] < mouth.bottom[:, 118])
    level = column.mean(axis=1)
    brightest, darkest = rows[inside][level[inside].argmax()], rows[inside][level[inside].argmin()]
    assert brightest < 136 < darkest < 165
    assert level[brightest] > 3 * level[darkest]
    tongue = column[darkest + 6 : 170]
    assert (tongue[:, 0] > 1.5 * tongue[:, 1]).mean() > 0.5


def test_teeth_stay_with_the_skull_while_the_jaw_goes_down() -> None:
    # Below the shadow of the lip: the edge of an incisor, where it is bright above and dark below.
    edges = []
    for opened in (30.0, 50.0):
        level = drawn(opened, SKIN)[0][126:142, 118].mean(axis=1)
        edges.append(int(np.diff(level).argmin()))
    assert abs(edges[0] - edges[1]) <= 1


def test_it_is_darker_in_a_mouth_that_is_hardly_open_and_in_dim_light() -> None:
    wide, narrow, dim = (
        drawn(opened, colour)[0][128:131, 100:156].mean()
        for opened, colour in ((40.0, SKIN), (5.0, SKIN), (40.0, (0.24, 0.19, 0.16)))
    )
    assert narrow < 0.85 * wide
    assert dim < 0.8 * wide


def test_light_colours_teeth() -> None:
    grey, warm = (drawn(50.0, colour)[0][130, 118] for colour in ((0.6, 0.6, 0.6), (0.8, 0.6, 0.4)))
    assert warm[0] / warm[2] > 1.2 * grey[0] / grey[2]


def test_where_the_portrait_shows_its_teeth_no_others_are_drawn() -> None:
    assert drawn(50.0, SKIN)[0][130, 118].mean() > 2 * drawn(50.0, SKIN, gap=8.0)[0][130, 118].mean()


@pytest.mark.parametrize("opened", [0.0, 0.4, 90.0])
def test_any_opening_gives_colours(opened: float) -> None:
    picture, _ = drawn(opened, (1.0, 1.0, 1.0))
    assert np.isfinite(picture).all()
    assert picture.min() >= 0
    assert picture.max() <= 1
