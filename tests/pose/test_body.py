"""Measures of a person, worked out by hand on joints put in place by hand."""

from __future__ import annotations

import numpy as np
import pytest

from semibody.pose import body
from semibody.pose.skeleton import HAND_EDGES
from semibody.types import FACE, HANDS, LEFT_HAND, N_JOINTS, RIGHT_HAND, Floats, Pose


def frames(*widths: float) -> Floats:
    """Frames (f, 128, 2) with shoulders so far apart, askew by 3 : 4."""
    points = np.zeros((len(widths), N_JOINTS, 2))
    points[:, 5] = np.outer(widths, [0.6, 0.8])
    return points


def test_shoulders_are_as_wide_as_their_median_over_frames_that_show_both() -> None:
    seen = np.ones((4, N_JOINTS), bool)
    seen[3, 2] = False
    points = frames(0.2, 0.3, 0.7, 9.0)
    assert body.shoulder_distance(points) == pytest.approx([0.2, 0.3, 0.7, 9.0])
    assert body.shoulder_width(points, seen) == pytest.approx(0.3)
    assert body.shoulder_width(points, np.zeros_like(seen)) is None


def test_shoulders_are_found_when_both_are() -> None:
    confidence = np.zeros((2, N_JOINTS))
    confidence[:, 2], confidence[1, 5] = 1.0, 0.3
    assert body.shoulders_seen(confidence).tolist() == [False, True]
    assert not body.shoulders_seen(confidence[0])


def test_a_face_is_found_by_its_mean_and_a_hand_by_half_of_its_joints() -> None:
    confidence = np.zeros((2, N_JOINTS))
    confidence[0, FACE.start : FACE.start + 21] = 1.0  # 21 of 68: a mean of 0.309
    confidence[1, FACE.start : FACE.start + 20] = 1.0  # 20 of 68: a mean of 0.294
    confidence[0, LEFT_HAND.start : LEFT_HAND.start + 11] = 1.0  # 11 of 21
    confidence[0, RIGHT_HAND.start : RIGHT_HAND.start + 10] = 1.0  # 10 of 21
    assert body.face_seen(confidence).tolist() == [True, False]
    assert body.hand_seen(confidence, LEFT_HAND).tolist() == [True, False]
    pose = Pose(np.zeros((N_JOINTS, 2)), confidence[0])
    assert body.face_found(pose)
    assert body.hands_found(pose) == (True, False)


def test_a_face_is_as_high_as_its_points_whatever_the_body_does() -> None:
    points = np.random.default_rng(0).uniform(-9, 9, (3, N_JOINTS, 2))
    points[:, FACE, 1] = 0.5
    points[:, FACE.start + 8, 1] = [0.6, 0.7, 0.8]
    points[:, FACE.start + 19, 1] = 0.4
    assert body.face_height(points) == pytest.approx([0.2, 0.3, 0.4])
    assert body.face_height(points[0]) == pytest.approx(0.2)


def test_a_hand_is_as_long_as_the_bones_to_its_middle_fingertip() -> None:
    hand = np.zeros((21, 2))
    hand[[9, 10, 11, 12]] = [[0.3, 0.4], [0.3, 0.6], [0.3, 0.7], [0.3, 0.75]]
    hand[20] = [9.0, 9.0]  # the little finger does not count
    assert HAND_EDGES[8:12] == ((0, 9), (9, 10), (10, 11), (11, 12))
    assert body.hand_length(hand) == pytest.approx(0.5 + 0.2 + 0.1 + 0.05)


def test_a_larger_person_ranks_first_and_an_empty_pose_last() -> None:
    near, far = Pose(np.zeros((N_JOINTS, 2)), np.ones(N_JOINTS)), Pose.empty()
    near.joints[FACE, 1] = np.linspace(0.2, 0.4, 68)
    near.joints[[2, 5]] = [[0.2, 0.5], [0.8, 0.5]]
    half = Pose(near.joints / 2, near.confidence)
    assert body.person_size(near) == pytest.approx(2 * body.person_size(half))
    assert body.person_size(far) == 0.0


def test_a_person_is_tracked_by_the_face_else_by_the_visible_body() -> None:
    pose = Pose.empty()
    assert body.anchor(pose).tolist() == [0.5, 0.5]
    pose.joints[[2, 5]], pose.confidence[[2, 5]] = [[0.2, 0.6], [0.4, 0.8]], 1.0
    assert body.anchor(pose) == pytest.approx([0.3, 0.7])
    pose.joints[HANDS], pose.confidence[HANDS] = 0.0, 1.0
    pose.joints[FACE], pose.confidence[FACE] = [0.3, 0.2], 1.0
    assert body.anchor(pose) == pytest.approx([0.3, 0.2])
