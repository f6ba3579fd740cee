"""Frames set in motion: the person moves, her background stays, networks keep what cannot be deformed."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from semibody.conditioning.mouth import Drawn
from semibody.conditioning.movement import Movement
from semibody.pose import library
from semibody.pose.alive import enliven
from semibody.pose.kinematics import Body, reach
from semibody.types import FACE, LEFT_HAND, Gesture, Picture, Pose

SIDE = 256


@pytest.fixture(scope="module")
def own() -> Pose:
    palm, fingers = (-0.2, -0.8, 0.4), (0.3, -0.3, 0.9)
    arms = [reach(wrist, palm, fingers, "soft") for wrist in ((0.62, 0.86, 0.62), (0.66, 0.80, 0.60))]
    states = np.concatenate([*arms, np.zeros(3)])[None]
    return library.render(states, 24.0, body=Body(shoulders=0.3))[0]


def hand_at(own: Pose, across: float, down: float) -> Pose:
    joints = own.joints.copy()
    joints[[7, *range(LEFT_HAND.start, LEFT_HAND.stop)]] += (across, down)
    return Pose(joints, own.confidence)


def scene(own: Pose) -> tuple[Picture, NDArray[np.float32]]:
    """A textured room, and in it a white disc where the left hand is: the picture, and the matte of the disc
    and the face."""
    room = np.random.default_rng(0).integers(60, 120, (SIDE, SIDE, 3), np.uint8)
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    centre = own.joints[LEFT_HAND].mean(axis=0) * SIDE
    disc = np.hypot(x - centre[0], y - centre[1]) < 14
    room[disc] = 255
    face = own.joints[FACE] * SIDE
    (left, top), (right, bottom) = face.min(axis=0) - 3, face.max(axis=0) + 12
    return room, (disc | ((x > left) & (x < right) & (y > top) & (y < bottom))).astype(np.float32)


def unit(picture: Picture) -> NDArray[np.float32]:
    return np.asarray(picture.astype(np.float32)[None] / 127.5 - 1)


def whole(pictures: NDArray[np.float32]) -> Drawn:
    return Drawn(pictures)


def test_a_hand_moves_and_the_room_stays(own: Pose) -> None:
    picture, disc = scene(own)
    by = np.array([0.06, -0.06])
    gesture = Gesture.from_poses([own, hand_at(own, *by)])
    movement = Movement(picture, own, gesture, None, disc)
    assert movement.moves_arms
    still, made = (movement.apply(unit(picture), whole(unit(picture)), [frame])[0] for frame in (0, 1))
    assert (still == unit(picture)[0]).all()
    x, y = ((own.joints[LEFT_HAND].mean(axis=0) + by) * SIDE).astype(int)
    assert made[y - 5 : y + 5, x - 5 : x + 5].min() > 0.9
    was = (own.joints[LEFT_HAND].mean(axis=0) * SIDE).astype(int)
    left = made[was[1] - 5 : was[1] + 5, was[0] - 12 : was[0] - 4]
    assert left.max() < 0.4  # of the disc nothing stays behind
    room = np.ones((SIDE, SIDE), bool)
    room[was[1] - 60 : was[1] + 45, was[0] - 45 : was[0] + 60] = False
    assert np.abs(made - unit(picture)[0])[room].max() < 0.35  # at most a pixel of noise off near the arm


def test_networks_get_the_portraits_own_pose_where_arms_are_deformed(own: Pose) -> None:
    picture, disc = scene(own)
    near = Movement(picture, own, Gesture.from_poses([hand_at(own, 0.05, 0.0)]), None, disc)
    assert (near.for_networks.joints == own.joints).all()
    far = Gesture.from_poses([hand_at(own, 0.0, -0.4)])
    movement = Movement(picture, own, far, None, disc)
    assert not movement.moves_arms
    assert movement.for_networks is far
    assert (movement.pose(0).joints == own.joints).all()


def test_networks_that_draw_everything_draw_the_inside_of_an_open_mouth(own: Pose) -> None:
    picture, disc = scene(own)
    movement = Movement(picture, own, Gesture.from_poses([own]), None, disc, deform_arms=False)
    drawn = np.full((1, SIDE, SIDE, 3), -1, np.float32)
    opened = movement.apply(unit(picture), whole(drawn), [0], np.array([[1, 0, 0, 0, 0, 0]], np.float32))[0]
    face = own.joints[FACE] * SIDE
    x, y = face[62:67:4].mean(axis=0)
    gap = 0.15 * np.ptp(face[:, 1])
    inside = opened[int(y + 0.3 * gap) : int(y + 0.6 * gap), int(x)]
    assert inside.max() < -0.8
    shut = movement.apply(unit(picture), whole(drawn), [0], np.zeros((1, 6), np.float32))[0]
    assert shut.min() > -0.9


def test_a_photograph_s_open_mouth_is_dark_and_red_whatever_networks_draw(own: Pose) -> None:
    picture, disc = scene(own)
    movement = Movement(picture, own, Gesture.from_poses([own]), None, disc)
    white = whole(np.ones((1, SIDE, SIDE, 3), np.float32))
    opened, shut = (
        movement.apply(unit(picture), white, [0], np.array([[jaw, 0, 0, 0, 0, 0]], np.float32))[0]
        for jaw in (1, 0)
    )
    face = own.joints[FACE] * SIDE
    x, y = face[62:67:4].mean(axis=0)
    gap = 0.18 * np.ptp(face[:, 1])
    inside = opened[int(y + 0.3 * gap) : int(y + 0.6 * gap), int(x)]
    assert inside.mean() < shut[int(y - gap) : int(y + gap), int(x)].mean() - 0.15
    assert (inside[:, 0] > inside[:, 1:].max(axis=1)).all()


def test_life_moves_the_head_before_the_room(own: Pose) -> None:
    picture, _ = scene(own)
    life = enliven(own, None, frames=120, fps=24.0, seed=5)
    _, matte = scene(own)
    made = Movement(picture, own, Gesture.from_poses([own] * 120), life, matte).apply(
        unit(picture), whole(unit(picture)), [100]
    )[0]
    changed = np.abs(made - unit(picture)[0]).max(axis=2)
    assert changed[matte > 0].mean() > 0.05
    assert changed[:, :40].max() < 0.1


def test_a_matte_without_the_face_is_not_believed(own: Pose) -> None:
    picture, matte = scene(own)
    gesture = Gesture.from_poses([hand_at(own, 0.05, 0.0)])
    believed = Movement(picture, own, gesture, None, matte)
    doubted = Movement(picture, own, gesture, None, np.zeros_like(matte))
    unknown = Movement(picture, own, gesture, None, None)
    made = [m.apply(unit(picture), whole(unit(picture)), [0])[0] for m in (believed, doubted, unknown)]
    assert (made[1] == made[2]).all()
    assert np.abs(made[0] - made[1]).max() > 0.1


def test_the_eyes_shut_as_life_has_them(own: Pose) -> None:
    picture, matte = scene(own)
    picture[:] = 200
    face = own.joints[FACE] * SIDE
    eyes = [np.append(face[part].mean(axis=0), 4).astype(int) for part in (slice(36, 42), slice(42, 48))]
    for x, y, far in eyes:
        picture[y - 1 : y + 2, x - far : x + far] = 10
    life = enliven(own, None, frames=240, fps=24.0, seed=5)
    assert life is not None
    frame = int(life.closed.argmax())
    movement = Movement(picture, own, Gesture.from_poses([own] * 240), life, matte)
    opened, shut = (movement.apply(unit(picture), whole(unit(picture)), [n])[0] for n in (0, frame))
    x, y, _ = eyes[0]
    assert opened[y - 4 : y + 5, x - 4 : x + 4].min() < -0.8
    dark = (shut[y - 20 : y + 20, x - 12 : x + 12, 0] < 0).sum()
    assert dark < 0.75 * (opened[y - 20 : y + 20, x - 12 : x + 12, 0] < 0).sum()
