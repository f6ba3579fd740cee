"""Forearms and hands before the body: their edges are exact, sleeves stay, nothing of them is left behind."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from made import STRESSES, spoken
from semibody.conditioning.mouth import Drawn
from semibody.conditioning.movement import Movement
from semibody.pose import library
from semibody.pose.anchor import AnchoredRepertoire, hides_forearm, plan_from
from semibody.pose.foreground import Foreground
from semibody.pose.kinematics import Body, reach
from semibody.pose.matte import fill_behind
from semibody.pose.skeleton import ARMS, HAND_EDGES
from semibody.types import FACE, LEFT_HAND, Floats, Gesture, Picture, Pose

SIDE = 384
SKIN, CLOTH = np.array([214, 160, 130]), np.array([40, 60, 110])
LEFT_WRIST_AND_HAND = [7, *range(LEFT_HAND.start, LEFT_HAND.stop)]
Mask = NDArray[np.bool_]


@pytest.fixture(scope="module")
def own() -> Pose:
    """Somebody whose forearms go outwards, hands beside the torso."""
    palm, fingers = (-0.2, 0.2, 0.9), (0.9, 0.4, 0.2)
    arms = [reach((1.15, 0.55, 0.35), palm, fingers, "soft")] * 2
    states = np.concatenate([*arms, np.zeros(3)])[None]
    return library.render(states, 24.0, body=Body(shoulders=0.25))[0]


def painted(own: Pose, parts: str) -> Mask:
    """Where upper arms (``u``), forearms (``f``) and hands (``h``) are."""
    points = own.joints * SIDE
    width = float(np.hypot(*(points[2] - points[5])))
    arms = np.zeros((SIDE, SIDE), np.uint8)
    for hand, shoulder, elbow, _ in ARMS:
        bones = [(shoulder, elbow, 0.16)] * ("u" in parts) + [(elbow, hand.start, 0.14)] * ("f" in parts)
        bones += [(hand.start + a, hand.start + b, 0.05) for a, b in HAND_EDGES if "h" in parts]
        for a, b, thick in bones:
            ends = [tuple(points[j].round().astype(int).tolist()) for j in (a, b)]
            cv2.line(arms, ends[0], ends[1], 1, max(1, round(thick * width)))
    return arms > 0


def scene(own: Pose) -> tuple[Picture, NDArray[np.float32], Mask]:
    """A striped torso with sleeves and bare forearms before a smooth room: the picture, the person's matte,
    and where torso and sleeves show."""
    y, x = np.mgrid[:SIDE, :SIDE]
    room = np.stack([50 + 0.05 * x, 90 + 0.1 * y, np.full((SIDE, SIDE), 150)], axis=2)
    points = own.joints * SIDE
    right, left = sorted(points[[2, 5], 0])
    cloth = (x > right) & (x < left) & (y > points[[2, 5], 1].min()) | painted(own, "u")
    bare = painted(own, "fh")
    picture = np.where(cloth[..., None], CLOTH + 20 * ((x + y) % 8 < 4)[..., None], room)
    skin = SKIN + np.random.default_rng(0).normal(0, 3, picture.shape)
    (x0, y0), (x1, y1) = points[FACE].min(axis=0), points[FACE].max(axis=0)
    face = (x > x0) & (x < x1) & (y > y0 - 0.5 * (y1 - y0)) & (y < y1)
    picture = np.where((bare | face)[..., None], skin, picture).clip(0, 255).astype(np.uint8)
    return picture, (cloth | bare | face).astype(np.float32), cloth & ~bare


def raised(own: Pose, widths: Floats) -> Pose:
    """The left hand moved by so many shoulder widths."""
    joints = own.joints.copy()
    joints[LEFT_WRIST_AND_HAND] += widths * float(np.hypot(*(joints[2] - joints[5])))
    return Pose(joints, own.confidence)


def animated(own: Pose, pose: Pose, person: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """The frame of a pose, in grey levels."""
    picture = scene(own)[0]
    unit = picture.astype(np.float32)[None] / 127.5 - 1
    movement = Movement(picture, own, Gesture.from_poses([own, pose]), None, person)
    assert movement.moves_arms
    frames = movement.apply(np.concatenate([unit, unit]), Drawn(unit), [0, 1])
    assert (frames[0] == unit[0]).all(), "at rest the frame is the photograph"
    return (frames[1] + 1) * 127.5


def test_before_the_room_the_edges_of_hands_are_exact(own: Pose) -> None:
    picture, person, cloth = scene(own)
    # A matte like a network's: too wide by a few pixels.
    person = cv2.dilate(person, np.ones((9, 9)))
    unit, behind = (x.astype(np.float32) / 127.5 - 1 for x in (picture, fill_behind(picture, person)))
    opacity = Foreground.of(unit, own, person, behind).opacity
    hands = painted(own, "h")
    assert opacity[hands & (cv2.erode(hands.astype(np.uint8), np.ones((3, 3))) > 0)].mean() > 0.97
    rim = cv2.dilate(hands.astype(np.uint8), np.ones((7, 7))) > 0
    room = rim & ~painted(own, "ufh") & ~cloth
    assert room.sum() > 1000
    assert opacity[room].mean() < 0.1
    assert person[room].mean() > 0.9, "by the matte alone they would be a halo"


def test_a_raised_hand_leaves_torso_and_sleeve_in_place(own: Pose) -> None:
    picture, person, cloth = scene(own)
    pose = raised(own, np.array([-0.4, -0.5]))
    covered = cv2.dilate(painted(pose, "fh").astype(np.uint8), np.ones((9, 9))) > 0
    elbows = cv2.dilate(painted(own, "fh").astype(np.uint8), np.ones((41, 41))) > 0
    seen = cloth & ~covered & ~elbows
    changed = [
        int((np.abs(animated(own, pose, matte) - picture).mean(axis=2) > 8)[seen].sum())
        for matte in (person, None)
    ]
    assert changed[0] <= 5
    assert changed[1] > 1000, "deformed as one sheet, they move along"


def test_the_hand_arrives_and_leaves_no_trace(own: Pose) -> None:
    person = scene(own)[1]
    pose = raised(own, np.array([0.0, -0.5]))
    after = animated(own, pose, person)
    palm = [LEFT_HAND.start + j for j in (0, 5, 9, 13, 17)]

    def off_skin(joints: Floats) -> Floats:
        x, y = (joints * SIDE).astype(int).T
        return np.asarray(np.abs(after[y, x] - SKIN).mean(axis=1))

    assert off_skin(pose.joints[palm]).max() < 15
    tips = [LEFT_HAND.start + j for j in (8, 12, 16)]
    assert off_skin(own.joints[tips]).min() > 25, "where the fingers were is room again"


def test_hands_before_the_body_are_planned_farther(own: Pose) -> None:
    speech = spoken(STRESSES, 10.0, [(3.5, 6.0)])
    spread = []
    for apart in (False, True):
        gesture = plan_from(AnchoredRepertoire(own, 1.0, seed=4, liveliness=1.0, apart=apart), speech).gesture
        spread.append(float(np.hypot(*gesture.joints[:, [4, 7]].std(axis=0).T).mean()))
    assert spread[1] >= spread[0] > 0


def test_a_hand_before_its_forearm_is_known_and_moves_less(own: Pose) -> None:
    assert not hides_forearm(own, 1.0, 0)
    joints = own.joints.copy()
    joints[LEFT_WRIST_AND_HAND] += joints[6] - joints[LEFT_HAND.start + 8]
    hidden = Pose(joints, own.confidence)
    assert hides_forearm(hidden, 1.0, 0)
