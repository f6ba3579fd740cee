from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import made
from semibody.pose import skeleton
from semibody.pose.draw import draw_pose
from semibody.pose.timing import fill, fill_index, resample
from semibody.types import N_JOINTS, Gesture, Pose


@given(st.integers(1, 40), st.integers(1, 300))
def test_pingpong_never_jumps(length: int, frames: int) -> None:
    index = fill_index(length, frames, "pingpong")
    assert len(index) == frames
    assert index.min() >= 0
    assert index.max() < length
    assert (np.abs(np.diff(index)) <= 1).all()
    if length > 1:
        assert (np.diff(index) != 0).all(), "it never stands still either"


@given(st.integers(1, 40), st.integers(1, 300))
def test_other_ways_to_fill(length: int, frames: int) -> None:
    assert len(fill_index(length, frames, "stop")) == min(length, frames)
    np.testing.assert_array_equal(
        fill_index(length, frames, "hold"), np.minimum(np.arange(frames), length - 1)
    )
    np.testing.assert_array_equal(fill_index(length, frames, "loop"), np.arange(frames) % length)


def test_unknown_way() -> None:
    with pytest.raises(ValueError, match="unknown"):
        fill_index(2, 5, "other")  # type: ignore[arg-type]


@given(st.sampled_from([12.0, 24.0, 25.0, 30.0, 60.0]))
def test_resampling_keeps_the_motion(fps: float) -> None:
    t = np.arange(48) / 24.0
    joints = np.tile(t[:, None, None], (1, N_JOINTS, 2))
    gesture = resample(Gesture(joints, np.ones((48, N_JOINTS))), fps)
    expected = np.minimum(np.arange(len(gesture)) / fps, t[-1])
    np.testing.assert_allclose(gesture.joints[:, 0, 0], expected, atol=1e-9)
    assert gesture.seconds == pytest.approx(2.0, abs=1 / fps)


def test_missing_joints_are_not_interpolated() -> None:
    gesture = made.gesture(4)
    gesture.confidence[1] = 0
    gesture.joints[1] = -5
    assert ((resample(gesture, 48).joints > 0) | (resample(gesture, 48).joints == -5)).all()


def test_fill_uses_the_gesture() -> None:
    gesture = made.gesture(3)
    np.testing.assert_array_equal(fill(gesture, 5).joints[4], gesture.joints[0])


@pytest.mark.parametrize("size", [(64, 64), (96, 64), (64, 160)])
def test_drawing_at_any_size(size: tuple[int, int]) -> None:
    canvas = draw_pose(made.gesture()[0], *size)
    assert canvas.shape == (*size, 3)
    assert canvas.any()


def test_missing_joints_are_not_drawn() -> None:
    assert not draw_pose(Pose.empty(), 64, 64).any()


def test_groups_cover_every_joint_once() -> None:
    parts = [skeleton.GROUPS[name] for name in ("lips", "head", "body", "hands")]
    assert sorted(np.concatenate(parts).tolist()) == list(range(N_JOINTS))
