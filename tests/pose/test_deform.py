"""A deformed portrait: joints arrive where the pose has them, nothing else moves, nothing folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from made import STRESSES, spoken
from semibody.pose import library
from semibody.pose.anchor import plan_anchored
from semibody.pose.deform import FARTHEST, Deformation, Moved
from semibody.pose.kinematics import Body, reach
from semibody.pose.prosody import analyse
from semibody.types import FACE, LEFT_HAND, RIGHT_HAND, Floats, Gesture, Pose

SIDE = 512
LIPS = FACE.start + np.arange(48, 68)


@pytest.fixture(scope="module")
def portrait() -> Pose:
    palm, fingers = (-0.2, -0.8, 0.4), (0.3, -0.3, 0.9)
    arms = [reach(wrist, palm, fingers, "soft") for wrist in ((0.62, 0.86, 0.62), (0.66, 0.80, 0.60))]
    states = np.concatenate([*arms, np.zeros(3)])[None]
    return library.render(states, 24.0, body=Body(shoulders=0.3))[0]


def moved(
    pose: Pose, joints: slice | Sequence[int] | NDArray[np.int_], by: Floats | tuple[float, float]
) -> Pose:
    points = pose.joints.copy()
    points[joints] += by
    return Pose(points, pose.confidence)


def arm_moved(pose: Pose, across: float, down: float) -> Pose:
    """The left wrist and hand moved, the elbow by a third of that."""
    made = moved(pose, [7, *range(LEFT_HAND.start, LEFT_HAND.stop)], (across, down))
    return moved(made, [6], (across / 3, down / 3))


def deform(portrait: Pose, pose: Pose, side: int = SIDE) -> Moved:
    made = Deformation(portrait).flow(pose, side, side)
    assert made is not None
    return made


def source(made: Moved, joints: Floats) -> Floats:
    """Where in the portrait the pixels at these joints come from, in pixels."""
    side = made.flow.shape[1]
    x, y = np.clip(np.round(joints * side - 0.5).astype(int), 0, side - 1).T
    return np.stack([x, y], axis=1) + 0.5 + made.flow[:, y, x].T


def test_the_portraits_own_pose_moves_nothing(portrait: Pose) -> None:
    assert Deformation(portrait).flow(portrait, SIDE, SIDE) is None
    assert Deformation(portrait).torn(portrait) == 0


def test_a_moved_hand_comes_from_where_it_was(portrait: Pose) -> None:
    pose = arm_moved(portrait, 0.05, -0.08)
    made = deform(portrait, pose)
    off = source(made, pose.joints[LEFT_HAND]) - portrait.joints[LEFT_HAND] * SIDE
    assert np.abs(off).max() < 2.5  # 26 and 41 pixels were asked for


def test_the_other_arm_the_face_and_the_edges_stay(portrait: Pose) -> None:
    made = deform(portrait, arm_moved(portrait, 0.05, -0.08))
    for joints in (portrait.joints[RIGHT_HAND], portrait.joints[FACE], portrait.joints[[2, 3, 4]]):
        assert np.abs(source(made, joints) - np.round(joints * SIDE - 0.5) - 0.5).max() < 1.0
    assert np.abs(made.flow[0][:, [0, -1]]).max() < 1.0
    assert np.abs(made.flow[1][[0, -1]]).max() < 1.0


def test_planned_strokes_fold_nothing(portrait: Pose) -> None:
    speech = spoken(STRESSES, 10.0, [(3.5, 6.0)])
    for liveliness, most in ((1.0, 0.004), (3.0, 0.012)):
        gesture = plan_anchored(
            speech, portrait, liveliness=liveliness, seed=2, prosody=analyse(speech)
        ).gesture
        deformation = Deformation(portrait)
        assert deformation.reaches(gesture)
        for frame in range(0, len(gesture), 12):
            made = deformation.flow(gesture[frame], SIDE, SIDE)
            if made is None:
                continue
            (xy, xx), (yy, yx) = (np.gradient(part) for part in made.flow)
            folded = (1 + xx) * (1 + yy) - xy * yx <= 0
            assert folded.mean() < most


def test_a_fold_is_noticed(portrait: Pose) -> None:
    assert Deformation(portrait).torn(arm_moved(portrait, 0.02, -0.02)) < 0.01
    assert Deformation(portrait).torn(arm_moved(portrait, -0.25, -0.45)) > 0.05


@pytest.mark.parametrize(("share", "reached"), [(0.9, True), (1.1, False)])
def test_how_far_an_arm_may_go(portrait: Pose, share: float, reached: bool) -> None:
    width = float(np.hypot(*(portrait.joints[2] - portrait.joints[5])))
    pose = arm_moved(portrait, 0.0, -share * FARTHEST * width)
    assert Deformation(portrait).reaches(Gesture.from_poses([portrait, pose])) is reached


def test_a_hand_that_disappears_is_not_deformed(portrait: Pose) -> None:
    confidence = portrait.confidence.copy()
    confidence[LEFT_HAND] = 0
    gesture = Gesture.from_poses([portrait, replace(portrait, confidence=confidence)])
    assert not Deformation(portrait).reaches(gesture)


def test_a_head_that_tilts_and_shifts_comes_from_where_it_was(portrait: Pose) -> None:
    face = portrait.joints[FACE]
    pivot, angle = face.mean(axis=0) + np.array([0, 0.1]), np.radians(3)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    joints = portrait.joints.copy()
    joints[FACE] = (face - pivot) @ turn.T + pivot + (0.01, 0.004)
    made = deform(portrait, Pose(joints, portrait.confidence))
    assert np.abs(source(made, joints[FACE]) - face * SIDE).max() < 1.0
    hands = portrait.joints[[4, 7]]
    assert np.abs(source(made, hands) - np.round(hands * SIDE - 0.5) - 0.5).max() < 0.5


def test_an_opened_mouth_shows_its_inside_and_lowers_the_chin(portrait: Pose) -> None:
    side, gap = 1024, 0.012
    pose = moved(portrait, [FACE.start + 66], (0.0, gap))
    made = deform(portrait, pose, side)
    assert made.mouth is not None
    face = portrait.joints[FACE]
    rows = np.flatnonzero(made.mouth[:, int(face[62, 0] * side)] > 0.5)
    assert np.ptp(rows) == pytest.approx(gap * side, abs=5)
    assert rows[0] > face[62, 1] * side - 1
    chin = source(made, (face[8] + (0, gap - 0.004))[None])
    assert chin[0, 1] == pytest.approx((face[8, 1] - 0.004) * side, abs=1.5)
    nose = face[[30, 33]]
    assert np.abs(source(made, nose) - np.round(nose * side - 0.5) - 0.5).max() < 0.5


def test_an_open_mouth_shuts(portrait: Pose) -> None:
    opened = moved(portrait, [FACE.start + 66], (0.0, 0.012))
    shut = moved(opened, [FACE.start + 66], (0.0, -0.012))
    made = deform(opened, shut, 1024)
    assert made.mouth is None or made.mouth.max() == 0
    face = opened.joints[FACE]
    # Just below the upper lip is what was below the lower lip.
    below = source(made, (face[62] + (0, 0.003))[None])
    assert below[0, 1] > face[66, 1] * 1024


@pytest.mark.parametrize("missing", ["face", "shoulders"])
def test_what_the_portrait_does_not_show_stays(portrait: Pose, missing: str) -> None:
    confidence = portrait.confidence.copy()
    confidence[FACE if missing == "face" else [2, 5]] = 0
    own = Pose(portrait.joints, confidence)
    pose = moved(arm_moved(own, 0.03, -0.05), FACE, (0.01, 0.0))
    made = Deformation(own).flow(pose, SIDE, SIDE)
    assert made is not None
    still = portrait.joints[FACE] if missing == "face" else portrait.joints[LEFT_HAND]
    assert np.abs(source(made, still) - np.round(still * SIDE - 0.5) - 0.5).max() < 6
