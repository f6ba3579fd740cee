"""Gestures lifted into space: they have the same projection, and the true depth where it is known."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import shared_folder
from semibody.pose import library
from semibody.pose.files import load_gesture
from semibody.pose.kinematics import HIGH, LOW, place_arm
from semibody.pose.lift import flat_error, lift
from semibody.types import LEFT_HAND, Gesture, SemibodyError


def noisy(gesture: Gesture) -> Gesture:
    """As a detector would see it: each joint off by 0.15 % of the picture."""
    off = np.random.default_rng(0).normal(0, 0.0015, gesture.joints.shape)
    return Gesture(gesture.joints + off, gesture.confidence, gesture.fps, gesture.aspect, gesture.name)


@pytest.mark.parametrize("name", ["beat", "explain", "stop", "salute"])
def test_the_librarys_gestures_are_recovered_from_their_projections(name: str) -> None:
    states = library.perform(name)[:48]
    gesture = noisy(library.render(states, 24.0, name))
    lifted = lift(gesture)
    assert np.nanmean(flat_error(gesture, lifted)) < 0.02
    for arm in (slice(0, 27), slice(27, 54)):
        assert ((lifted.states[:, arm] >= LOW - 1e-9) & (lifted.states[:, arm] <= HIGH + 1e-9)).all()
        there, found = place_arm(states[:, arm]), place_arm(lifted.states[:, arm])
        assert np.linalg.norm(there.wrist - found.wrist, axis=-1).mean() < 0.2
        facing = (there.turned[..., 0] * found.turned[..., 0]).sum(axis=-1)
        assert np.degrees(np.arccos(np.clip(facing, -1, 1))).mean() < 30
    assert np.abs(np.diff(lifted.states, 2, axis=0)).max() < np.radians(30), "trembles"


def test_a_published_gesture_is_reprojected_within_its_detectors_error() -> None:
    whole = load_gesture(shared_folder("inputs") / "gestures" / "good")
    gesture = Gesture(whole.joints[:60], whole.confidence[:60], whole.fps, whole.aspect, whole.name)
    off = flat_error(gesture, lift(gesture))
    assert np.nanmean(off[..., :2]) < 0.02
    assert np.nanmean(off[..., 2:]) < 0.04


def test_short_gaps_are_interpolated_and_an_arm_never_found_is_at_rest() -> None:
    gesture = library.build("beat")
    confidence = gesture.confidence.copy()
    confidence[20:26, [LEFT_HAND.start, 7]] = 0.0
    confidence[:, [*range(LEFT_HAND.stop, LEFT_HAND.stop + 21), 4]] = 0.0
    lifted = lift(Gesture(gesture.joints, confidence, gesture.fps, gesture.aspect, "beat"))
    assert not lifted.seen[20:26, 0].any()
    assert lifted.seen[:20, 0].all()
    steps = np.abs(np.diff(lifted.states[19:27, :27], axis=0))
    assert np.allclose(steps, steps[0], atol=1e-9), "the straight way through the gap"
    rest = library.state(library.REST.left, library.REST.right)
    assert np.array_equal(lifted.states[:, 27:54], np.tile(rest[27:54], (len(gesture), 1)))


def test_a_gesture_without_arms_or_shoulders_is_refused_by_name() -> None:
    gesture = library.build("rest")
    unseen = gesture.confidence.copy()
    unseen[:, [4, 7, *range(86, 128)]] = 0.0
    with pytest.raises(SemibodyError, match="quiet: hardly shows an arm"):
        lift(Gesture(gesture.joints, unseen, name="quiet"))
    unseen[:, [2, 5]] = 0.0
    with pytest.raises(SemibodyError, match="quiet: never shows both shoulders"):
        lift(Gesture(gesture.joints, unseen, name="quiet"))
