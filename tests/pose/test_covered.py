"""A hand that something of another colour covers is told from free ones; without colours nothing is said."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from semibody.pose import library
from semibody.pose.anchor import movable
from semibody.pose.check import check_portrait
from semibody.pose.covered import HALF_HIDDEN, dim_covered_hands
from semibody.types import FACE, LEFT_HAND, RIGHT_HAND, Picture, Pose

SIDE = 512
SKIN, SHIRT, RED, BLUE = (214, 170, 148), (60, 70, 96), (190, 40, 40), (40, 60, 190)
POSE = library.find_gesture("open_palms")[30]


def painted(*, skin: tuple[int, int, int] = SKIN, pose: Pose = POSE) -> Picture:
    """Face and hands of this colour where the pose has them, before a dark shirt."""
    picture = np.full((SIDE, SIDE, 3), SHIRT, np.uint8)
    for part in (FACE, LEFT_HAND, RIGHT_HAND):
        points = (pose.joints[part] * SIDE).astype(np.int32)
        cv2.fillConvexPoly(picture, cv2.convexHull(points), skin)
        for x, y in points.tolist():
            cv2.circle(picture, (x, y), 9, skin, -1)
    return picture


def with_cup(picture: Picture, hand: slice, colour: tuple[int, int, int]) -> Picture:
    """Half of a hand's joints, those next to its middle, behind a disc."""
    points = POSE.joints[hand] * SIDE
    middle = points[[5, 9, 13, 17]].mean(axis=0)
    radius = float(np.sort(np.hypot(*(points - middle).T))[11])
    covered = picture.copy()
    cv2.circle(covered, (int(middle[0]), int(middle[1])), int(radius), colour, -1)
    return covered


def dimmed(picture: Picture) -> tuple[bool, bool]:
    confidence = dim_covered_hands(picture, POSE).confidence
    left, right = (bool(confidence[hand].max() <= HALF_HIDDEN) for hand in (LEFT_HAND, RIGHT_HAND))
    return left, right


def test_free_hands_are_kept_as_they_were_found() -> None:
    assert dim_covered_hands(painted(), POSE).confidence.tolist() == POSE.confidence.tolist()
    assert movable(POSE).hands == (True, True)


@pytest.mark.parametrize("colour", [RED, BLUE, (230, 230, 230), (20, 120, 60)])
def test_a_hand_behind_a_cup_rests_and_the_other_moves(colour: tuple[int, int, int]) -> None:
    picture = with_cup(painted(), RIGHT_HAND, colour)
    assert dimmed(picture) == (False, True)
    assert movable(dim_covered_hands(picture, POSE)).hands == (True, False)
    assert dimmed(with_cup(painted(), LEFT_HAND, colour)) == (True, False)


@pytest.mark.parametrize("skin", [(92, 60, 48), (250, 214, 196), (160, 112, 84)])
def test_every_skin(skin: tuple[int, int, int]) -> None:
    assert dimmed(painted(skin=skin)) == (False, False)
    assert dimmed(with_cup(painted(skin=skin), LEFT_HAND, BLUE)) == (True, False)


def test_gloves_and_painted_nails_cover_nothing() -> None:
    picture = painted()
    for hand in (LEFT_HAND, RIGHT_HAND):
        for x, y in (POSE.joints[hand] * SIDE).astype(int)[[4, 8, 12, 16, 20]].tolist():
            cv2.circle(picture, (x, y), 5, RED, -1)
    assert dimmed(picture) == (False, False)
    gloves = painted(skin=BLUE)
    face = (POSE.joints[FACE] * SIDE).astype(np.int32)
    cv2.fillConvexPoly(gloves, cv2.convexHull(face), SKIN)
    assert dimmed(gloves) == (False, False)


def test_hands_of_a_very_dark_picture_rest_and_the_check_says_why() -> None:
    bright, dark = painted(), (painted() * 0.12).astype(np.uint8)
    assert dimmed(bright) == (False, False)
    assert dimmed(dark) == (True, True)
    said = {f.topic: f for f in check_portrait(dark, POSE)}
    assert said["light"].level == "warning"
    assert "light" not in {f.topic for f in check_portrait(bright, POSE)}
    assert "light" not in {f.topic for f in check_portrait(painted(skin=(92, 60, 48)), POSE)}


def test_nothing_is_said_without_colours_a_face_or_hands() -> None:
    grey = cv2.cvtColor(with_cup(painted(), LEFT_HAND, RED), cv2.COLOR_RGB2GRAY)
    assert dimmed(np.repeat(grey[..., None], 3, axis=2)) == (False, False)
    for part in (FACE, slice(LEFT_HAND.start, RIGHT_HAND.stop)):
        confidence = POSE.confidence.copy()
        confidence[part] = 0.0
        hidden = Pose(POSE.joints, confidence)
        assert dim_covered_hands(with_cup(painted(), LEFT_HAND, RED), hidden) is hidden
