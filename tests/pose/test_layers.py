"""Forearms as layers: they move alone, the torso stays, nothing is left behind, and doubt keeps them in."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from made import STRESSES, spoken
from semibody.conditioning.mouth import Drawn, Part
from semibody.conditioning.movement import Movement
from semibody.pose import library
from semibody.pose.anchor import AnchoredRepertoire, Movable, hides_forearm, plan_from
from semibody.pose.kinematics import Body, reach
from semibody.pose.layers import Layers, cut_layers
from semibody.pose.skeleton import ARMS, HAND_EDGES
from semibody.types import FACE, LEFT_HAND, Floats, Gesture, Picture, Pose

SIDE = 384
SKIN, CLOTH = np.array([214, 160, 130]), np.array([40, 60, 110])
BOTH = Movable((True, True))
LEFT_ARM = [6, 7, *range(LEFT_HAND.start, LEFT_HAND.stop)]


@pytest.fixture(scope="module")
def own() -> Pose:
    """Somebody whose forearms go outwards, hands beside the torso."""
    palm, fingers = (-0.2, 0.2, 0.9), (0.9, 0.4, 0.2)
    arms = [reach(wrist, palm, fingers, "soft") for wrist in ((1.15, 0.55, 0.35), (1.15, 0.55, 0.35))]
    states = np.concatenate([*arms, np.zeros(3)])[None]
    return library.render(states, 24.0, body=Body(shoulders=0.25))[0]


def scene(own: Pose) -> tuple[Picture, NDArray[np.float32], NDArray[np.bool_]]:
    """A striped torso and bare arms before a smooth room: the picture, the person's matte, and her torso."""
    y, x = np.mgrid[:SIDE, :SIDE]
    room = np.stack([50 + 0.05 * x, 90 + 0.1 * y, np.full((SIDE, SIDE), 150)], axis=2)
    points = own.joints * SIDE
    right, left = sorted(points[[2, 5], 0])
    top = points[[2, 5], 1].min()
    torso = (x > right) & (x < left) & (y > top)
    picture = np.where(torso[..., None], CLOTH + 20 * ((x + y) % 8 < 4)[..., None], room)
    arms = np.zeros((SIDE, SIDE), np.uint8)
    width = float(np.hypot(*(points[2] - points[5])))
    for hand, shoulder, elbow, _ in ARMS:
        bones = [(shoulder, elbow, 0.16), (elbow, hand.start, 0.14)]
        bones += [(hand.start + a, hand.start + b, 0.05) for a, b in HAND_EDGES]
        for a, b, thick in bones:
            ends = [tuple(points[j].round().astype(int).tolist()) for j in (a, b)]
            cv2.line(arms, ends[0], ends[1], 1, max(1, round(thick * width)))
    picture = np.where(
        arms[..., None] > 0, SKIN + np.random.default_rng(0).normal(0, 3, picture.shape), picture
    )
    (x0, y0), (x1, y1) = points[FACE].min(axis=0), points[FACE].max(axis=0)
    face = (x > x0) & (x < x1) & (y > y0 - 0.5 * (y1 - y0)) & (y < y1)
    picture = np.where(face[..., None], SKIN, picture).clip(0, 255).astype(np.uint8)
    return picture, (torso | (arms > 0) | face).astype(np.float32), torso & (arms == 0)


@pytest.fixture(scope="module")
def made(own: Pose) -> tuple[Picture, NDArray[np.float32], NDArray[np.bool_], Layers]:
    picture, person, torso = scene(own)
    layers = cut_layers(picture, own, person, BOTH)
    assert layers is not None
    return picture, person, torso, layers


def left_moved(own: Pose, widths: Floats) -> Pose:
    """The left hand moved by so many shoulder widths, its elbow not."""
    joints = own.joints.copy()
    width = float(np.hypot(*(joints[2] - joints[5])))
    joints[LEFT_ARM[1:]] += widths * width
    return Pose(joints, own.confidence)


def animated(
    made: tuple[Picture, NDArray[np.float32], NDArray[np.bool_], Layers], own: Pose, pose: Pose
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The portrait and the frame of a pose, in grey levels."""
    picture, person, _, layers = made
    unit = picture.astype(np.float32)[None] / 127.5 - 1
    movement = Movement(picture, own, Gesture.from_poses([own, pose]), None, person, layers=layers)
    assert movement.moves_arms
    frames = movement.apply(np.concatenate([unit, unit]), Drawn(unit, Part.whole()), [0, 1])
    assert (frames[0] == unit[0]).all(), "at rest the frame is the photograph"
    return (unit[0] + 1) * 127.5, (frames[1] + 1) * 127.5


def test_the_torso_stays_bit_for_bit_while_a_hand_moves_half_the_shoulders_width(
    made: tuple[Picture, NDArray[np.float32], NDArray[np.bool_], Layers], own: Pose
) -> None:
    assert made[3].cut == (True, True)
    pose = left_moved(own, np.array([-0.1, -0.49]))
    before, after = animated(made, own, pose)
    width = float(np.hypot(*(own.joints[2] - own.joints[5]))) * SIDE
    off = np.ones((SIDE, SIDE), np.uint8)
    for joints in (own.joints, pose.joints):
        for joint in joints[LEFT_ARM] * SIDE:
            cv2.circle(off, tuple(joint.round().astype(int).tolist()), round(0.3 * width), 0, -1)
    away = made[2] & (off > 0)
    assert away.mean() > 0.05
    assert (before[away] == after[away]).all()


def test_the_hand_arrives_and_leaves_no_trace(
    made: tuple[Picture, NDArray[np.float32], NDArray[np.bool_], Layers], own: Pose
) -> None:
    pose = left_moved(own, np.array([0.0, -0.5]))
    _, after = animated(made, own, pose)
    palm = [LEFT_HAND.start + j for j in (0, 5, 9, 13, 17)]

    def skin(joints: Floats) -> Floats:
        x, y = (joints * SIDE).astype(int).T
        return np.abs(after[y, x] - SKIN).mean(axis=1)

    assert skin(pose.joints[palm]).max() < 15
    tips = [LEFT_HAND.start + j for j in (8, 12, 16)]
    assert skin(own.joints[tips]).min() > 25, "where the fingers were is room again"
    assert np.isfinite(after).all()


def test_an_arm_that_may_not_move_stays_in_the_picture(own: Pose) -> None:
    picture, person, _ = scene(own)
    one = cut_layers(picture, own, person, Movable((True, False)))
    assert one is not None
    assert one.cut == (True, False)
    assert cut_layers(picture, own, person, Movable((True, True), clasped=True)) is None
    assert cut_layers(picture, own, person, Movable((False, False))) is None


def test_an_arm_that_runs_into_something_of_its_colour_is_not_cut(own: Pose) -> None:
    picture, person, _ = scene(own)
    centre = own.joints[LEFT_HAND].mean(axis=0) * SIDE
    y, x = np.mgrid[:SIDE, :SIDE]
    near = np.hypot(x - centre[0], y - centre[1]) < 0.6 * 0.25 * SIDE
    picture[near] = SKIN
    layers = cut_layers(picture, own, np.maximum(person, near), BOTH)
    assert layers is not None
    assert layers.cut == (False, True)


def test_cut_hands_are_planned_farther_and_stay_on_their_arms(own: Pose) -> None:
    speech = spoken(STRESSES, 10.0, [(3.5, 6.0)])
    width = float(np.hypot(*(own.joints[2] - own.joints[5])))
    spread = []
    for cut in ((False, False), (True, True)):
        repertoire = AnchoredRepertoire(own, 1.0, seed=4, liveliness=1.0, cut=cut)
        gesture = plan_from(repertoire, speech).gesture
        off = (gesture.joints - own.joints) / width
        spread.append(float(np.hypot(*off[:, [4, 7]].std(axis=0).T).mean()))
        if cut == (True, True):
            assert np.hypot(off[:, [3, 6], 0], off[:, [3, 6], 1]).max() < 0.12, "elbows hardly move"
    assert spread[1] > 1.15 * spread[0]


def test_a_hand_before_its_forearm_is_known(own: Pose) -> None:
    width = float(np.hypot(*(own.joints[2] - own.joints[5])))
    points = own.joints / width
    assert not hides_forearm(points, 0)
    points[LEFT_HAND.start + 8] = points[6]
    assert hides_forearm(points, 0)
