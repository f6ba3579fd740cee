"""Arms and hands carried from where a portrait has them to where a pose has them."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semibody.pose.library import find_gesture
from semibody.pose.limbs import Limbs, carry_limbs, limb_cover, move_limbs, moved_cover
from semibody.pose.skeleton import ARMS, HAND_EDGES
from semibody.types import HANDS, LEFT_HAND, RIGHT_HAND, Floats, Pose

SIDE = 64
ARM_JOINTS = [*range(2, 8), *range(HANDS.start, HANDS.stop)]


@pytest.fixture(scope="module")
def pose() -> Pose:
    return find_gesture("open_palms")[20]


def moved(pose: Pose, turn: float, scale: float, shift: tuple[float, float]) -> Pose:
    """Another pose: all joints turned about the middle of the picture, scaled and shifted."""
    matrix = scale * np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    return dataclasses.replace(pose, joints=(pose.joints - 0.5) @ matrix + 0.5 + shift)


def at(limbs: Limbs, points: Floats) -> tuple[Floats, Floats]:
    """Source (fractions of the portrait) and cover at points, read as pictures are: bilinearly."""
    height, width = limbs.cover.shape
    where = (points * [width, height] - 0.5).astype(np.float32)[None]
    flow = cv2.remap(limbs.flow.transpose(1, 2, 0), where, None, cv2.INTER_LINEAR)[0]
    cover = cv2.remap(limbs.cover, where, None, cv2.INTER_LINEAR)[0]
    return points + flow / 2, cover


def middles(pose: Pose) -> Floats:
    """The middles of forearms and of the bones of both palms."""
    ends = [(3, RIGHT_HAND.start), (6, LEFT_HAND.start)]
    ends += [
        (hand.start + a, hand.start + b) for hand in (LEFT_HAND, RIGHT_HAND) for a, b in HAND_EDGES if a == 0
    ]
    return np.array([(pose.joints[a] + pose.joints[b]) / 2 for a, b in ends])


def test_a_pose_that_stays_moves_nothing(pose: Pose) -> None:
    limbs = move_limbs(pose, pose, SIDE, SIDE)
    assert np.abs(limbs.flow).max() < 1e-4
    assert limbs.cover.max() == 1
    _, cover = at(limbs, middles(pose))
    assert cover.min() > 0.7
    assert limbs.cover[: SIDE // 4, SIDE // 3 : 2 * SIDE // 3].max() == 0, "the head is no limb"
    assert limbs.planes.shape == (3, SIDE, SIDE)


@given(
    turn=st.floats(-0.5, 0.5), scale=st.floats(0.8, 1.25), right=st.floats(-0.05, 0.05),
    down=st.floats(-0.05, 0.05), aspect=st.sampled_from([0.75, 1.0, 1.5]),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_points_on_a_bone_come_from_the_same_place_on_it(
    turn: float, scale: float, right: float, down: float, aspect: float
) -> None:
    old = find_gesture("open_palms")[20]
    new = moved(old, turn, scale, (right, down))
    limbs = move_limbs(old, new, 128, 128, aspect)
    points, expected = middles(new), middles(old)
    seen = ((points > 0.02) & (points < 0.98) & (expected > 0.02) & (expected < 0.98)).all(axis=1)
    source, cover = at(limbs, points)
    assert np.abs(source - expected)[seen].max(initial=0) < 0.02
    assert cover[seen].min(initial=1) > 0.5


def test_a_picture_of_an_arm_is_carried_along() -> None:
    old = find_gesture("rest")[0]
    new = find_gesture("open_palms")[20]
    picture = np.full((256, 256, 3), 40, np.uint8)
    ends = [tuple(int(v) for v in old.joints[j] * 256) for j in (3, RIGHT_HAND.start)]
    cv2.line(picture, ends[0], ends[1], (250, 60, 60), 9)
    carried = carry_limbs(picture, old, new)
    assert carried.shape == (256, 256, 4)
    x, y = ((new.joints[3] + new.joints[RIGHT_HAND.start]) / 2 * 256).astype(int)
    assert carried[y, x, 3] > 200
    assert carried[y, x, 0] > 180
    assert carried[y, x, 1] < 110
    assert carried[:40, 100:156, 3].max() == 0


def test_bones_that_one_pose_lacks_are_left_out(pose: Pose) -> None:
    def without(*joints: int) -> Pose:
        confidence = pose.confidence.copy()
        confidence[list(joints)] = 0
        return dataclasses.replace(pose, confidence=confidence)

    left = range(LEFT_HAND.start, LEFT_HAND.stop)
    points = middles(pose)
    for first, second in ((without(6, 7, *left), pose), (pose, without(6, 7, *left))):
        limbs = move_limbs(first, second, SIDE, SIDE)
        _, cover = at(limbs, points[:2])
        assert cover[0] > 0.7
        assert cover[1] == 0
    for nothing in (without(*ARM_JOINTS), Pose.empty()):
        assert move_limbs(nothing, pose, SIDE, SIDE).cover.max() == 0
        assert move_limbs(pose, nothing, SIDE, SIDE).cover.max() == 0


def test_what_was_outside_the_portrait_is_not_covered(pose: Pose) -> None:
    below = moved(pose, 0.0, 1.0, (0.0, 0.6))
    limbs = move_limbs(below, pose, SIDE, SIDE)
    source, cover = at(limbs, middles(pose))
    assert (cover[(source > 1.02).any(axis=1)] == 0).all()


@pytest.mark.parametrize("size", [(64, 64), (70, 50)])
def test_a_portraits_own_arms_are_covered_with_a_margin(pose: Pose, size: tuple[int, int]) -> None:
    height, width = size
    cover = limb_cover(pose, height, width)
    assert cover.shape == size
    carried = move_limbs(pose, pose, height, width, width / height).cover
    assert cover[carried > 0.5].mean() > 0.98
    assert cover.mean() > carried.mean()
    assert cover[: height // 4, width // 3 : 2 * width // 3].max() == 0, "the head is no limb"
    unseen = dataclasses.replace(pose, confidence=np.zeros_like(pose.confidence))
    assert limb_cover(unseen, height, width).max() == 0


@settings(max_examples=25, deadline=None)
@given(
    turn=st.floats(-3, 3),
    scale=st.floats(0.2, 1.5),
    shift=st.tuples(st.floats(-0.6, 0.6), st.floats(-0.6, 0.6)),
    size=st.tuples(st.integers(8, 70), st.integers(8, 70)),
)
def test_nothing_is_covered_outside_the_boxes_about_bones(
    turn: float, scale: float, shift: tuple[float, float], size: tuple[int, int]
) -> None:
    old = find_gesture("open_palms")[20]
    new, aspect = moved(old, turn, scale, shift), size[1] / size[0]
    limbs = move_limbs(old, new, *size, aspect)
    with pytest.MonkeyPatch.context() as patch:
        everywhere = np.ones(size, bool)
        patch.setattr("semibody.pose.limbs.Bones.about", lambda *_: everywhere)
        np.testing.assert_allclose(limbs.planes, move_limbs(old, new, *size, aspect).planes, atol=1e-6)


def test_bones_without_length_are_harmless(pose: Pose) -> None:
    joints = pose.joints.copy()
    joints[LEFT_HAND] = joints[LEFT_HAND.start]
    limbs = move_limbs(dataclasses.replace(pose, joints=joints), pose, SIDE, SIDE)
    assert np.isfinite(limbs.planes).all()
    joints[ARM_JOINTS] = 0.5
    joints[[2, 5]] = [[0.3, 0.4], [0.7, 0.4]]
    assert np.isfinite(move_limbs(dataclasses.replace(pose, joints=joints), pose, SIDE, SIDE).planes).all()


def test_only_arms_that_moved_are_covered_where_they_were_and_where_they_are(pose: Pose) -> None:
    own = pose
    assert moved_cover(own, own, 96, 96).max() == 0
    hand, _, elbow, wrist = ARMS[0]
    raised = Pose(own.joints.copy(), own.confidence)
    raised.joints[[elbow, wrist, *range(hand.start, hand.stop)]] -= [0.0, 0.15]
    cover = moved_cover(own, raised, 96, 96)
    for shown in (own, raised):
        x, y = (shown.joints[hand] * 96).astype(int).T
        assert cover[y, x].min() == 1
    other = (own.joints[ARMS[1][0]] * 96).astype(int)
    assert cover[other[:, 1], other[:, 0]].max() == 0
    hidden = Pose(own.joints, np.zeros_like(own.confidence))
    assert moved_cover(hidden, own, 96, 96).min() == 1


def test_the_cover_grows_from_nothing_as_an_arm_leaves_its_place(pose: Pose) -> None:
    own = pose
    hand, _, elbow, wrist = ARMS[0]
    largest = []
    for step in (0.0, 0.001, 0.002, 0.1):
        raised = Pose(own.joints.copy(), own.confidence)
        raised.joints[[elbow, wrist, *range(hand.start, hand.stop)]] += [0.0, step]
        largest.append(float(moved_cover(own, raised, 96, 96).max()))
    assert 0 == largest[0] < largest[1] < largest[2] < largest[3] == 1
