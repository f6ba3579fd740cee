"""Gestures that start and end at the portrait's own arms."""

from __future__ import annotations

import numpy as np
import pytest

from made import STRESSES, spoken
from semibody.pose import library
from semibody.pose.anchor import Movable, ease, movable, plan_anchored, rest
from semibody.pose.hands import hand_variation
from semibody.pose.kinematics import Body, reach
from semibody.pose.lift import in_space, lift
from semibody.pose.plan import PlannedGesture
from semibody.pose.prosody import analyse
from semibody.pose.skeleton import ARMS
from semibody.types import HANDS, LEFT_HAND, RIGHT_HAND, Floats, Gesture, Pose, SemibodyError

SPEECH = spoken(STRESSES, 10.0, [(3.5, 6.0)])
PROSODY = analyse(SPEECH)
LEFT = [5, 6, 7, *range(LEFT_HAND.start, LEFT_HAND.stop)]
RIGHT = [2, 3, 4, *range(RIGHT_HAND.start, RIGHT_HAND.stop)]


Vector = tuple[float, float, float]


def standing(left: Vector, right: Vector, *, folded: bool = False, shoulders: float = 0.3) -> Pose:
    """Somebody whose wrists are there, in shoulder widths from the middle of the shoulders; palms up, or
    the hands folded."""
    palm, fingers = ((0.0, 0.25, -1.0), (-1.0, 0.3, 0.1)) if folded else ((-0.2, -0.8, 0.4), (0.3, -0.3, 0.9))
    arms = [reach(wrist, palm, fingers, "soft") for wrist in (left, right)]
    states = np.concatenate([*arms, np.zeros(3)])[None]
    return library.render(states, 24.0, body=Body(shoulders=shoulders))[0]


@pytest.fixture(scope="module")
def portrait() -> Pose:
    return standing((0.62, 0.86, 0.62), (0.66, 0.80, 0.60))


def plan(portrait: Pose, liveliness: float = 1.0, seed: int = 1, aspect: float = 1.0) -> PlannedGesture:
    return plan_anchored(SPEECH, portrait, aspect=aspect, seed=seed, liveliness=liveliness, prosody=PROSODY)


def speed(gesture: Gesture) -> Floats:
    """Of the faster wrist, in shoulder widths a second."""
    width = np.abs(gesture.joints[0, 5] - gesture.joints[0, 2])[0]
    step = np.diff(gesture.joints[:, [4, 7]], axis=0, prepend=gesture.joints[:1, [4, 7]])
    return np.asarray(np.linalg.norm(step, axis=-1).max(axis=1) * gesture.fps / width)


def without(pose: Pose, *joints: int | slice) -> Pose:
    """The pose when these joints do not show."""
    confidence = pose.confidence.copy()
    for which in joints:
        confidence[which] = 0.0
    return Pose(pose.joints, confidence)


@pytest.mark.parametrize("seed", range(3))
def test_at_rest_the_pose_is_the_portraits_bit_for_bit(portrait: Pose, seed: int) -> None:
    planned = plan(portrait, seed=seed)
    gesture = planned.gesture
    resting = [f for a, b in planned.rests for f in range(int(np.ceil(a * 24)), int(b * 24) - 1)]
    assert len(resting) > 15
    assert 0 in resting
    assert (gesture.joints[resting] == portrait.joints).all()
    assert (gesture.confidence == portrait.confidence).all()
    others = [j for j in range(128) if j not in LEFT + RIGHT]
    assert (gesture.joints[:, others] == portrait.joints[others]).all(), "only arms move"
    assert (gesture.joints[:, [2, 5]] == portrait.joints[[2, 5]]).all(), "shoulders stay"
    assert speed(gesture).max() > 0.5


def test_hands_are_at_rest_in_long_pauses(portrait: Pose) -> None:
    for seed in range(3):
        assert (
            plan(portrait, seed=seed).gesture.joints[int(5.0 * 24) : int(5.9 * 24)] == portrait.joints
        ).all()


def test_wrists_move_before_stressed_syllables_and_stop_on_them(portrait: Pose) -> None:
    before, on, elsewhere = [], [], []
    for seed in range(4):
        gesture = plan(portrait, seed=seed).gesture
        fast = speed(gesture)
        time = np.arange(len(gesture)) / gesture.fps
        # What is spoken in the gap is not heard; the first syllable comes too early to prepare.
        heard = [s for s in STRESSES if not 3.4 < s < 6.1]
        after = np.min([np.where(time < s - 0.22, np.inf, np.abs(time - s + 0.1)) for s in heard], axis=0)
        before.append(fast[after <= 0.07].mean())
        near = np.min(np.abs(time[:, None] - np.array(heard) - 0.04), axis=1)
        on.append(fast[near <= 0.05].mean())
        elsewhere.append(fast[(after > 0.13) & (near > 0.1)].mean())
    assert np.mean(before) > 2.0 * np.mean(elsewhere)
    assert np.mean(before) > 1.5 * np.mean(on)


def test_liveliness_limits_how_far_wrists_move(portrait: Pose) -> None:
    moved = []
    for liveliness in (0.0, 0.5, 1.0, 2.0):
        gesture = plan(portrait, liveliness).gesture
        width = np.hypot(*(portrait.joints[5] - portrait.joints[2]))
        far = np.linalg.norm(gesture.joints[:, [4, 7]] - portrait.joints[[4, 7]], axis=-1).max() / width
        limit = {0.0: 0.0, 0.5: 0.275, 1.0: 0.55, 2.0: 0.605}[liveliness]
        assert far <= limit + 1e-9
        moved.append(768 * hand_variation(gesture.hands, gesture.hands_confidence, threshold=0.3))
    assert moved[0] < 1e-6
    assert moved[1] > 6
    assert moved[2] > 1.15 * moved[1]
    assert moved[3] > moved[2]
    with pytest.raises(SemibodyError, match="from 0 to 3"):
        plan(portrait, 3.5)


def test_projected_bones_are_never_longer_than_in_space(portrait: Pose) -> None:
    space = in_space(lift(Gesture.from_poses([portrait])))[0]
    gesture = plan(portrait, 2.0).gesture
    width = np.hypot(*(portrait.joints[5] - portrait.joints[2]))
    for side, (_, shoulder, elbow, wrist) in enumerate(ARMS):
        for start, end, bone in ((shoulder, elbow, (0, 1)), (elbow, wrist, (1, 2))):
            across = np.linalg.norm(portrait.joints[end] - portrait.joints[start]) / width
            real = np.hypot(across, np.diff(space[side, bone, 2]))
            shown = np.linalg.norm(gesture.joints[:, end] - gesture.joints[:, start], axis=1) / width
            assert shown.max() <= real * 1.001
            assert np.ptp(shown) > 0.001


def test_palms_keep_their_shape(portrait: Pose) -> None:
    gesture = plan(portrait).gesture
    for hand in (LEFT_HAND, RIGHT_HAND):
        palms = np.linalg.norm(gesture.joints[:, hand.start + 9] - gesture.joints[:, hand.start], axis=1)
        assert 0.6 * palms[0] < palms.min()
        assert palms.max() < 1.7 * palms[0]


def test_hands_move_smoothly_and_not_as_mirror_images(portrait: Pose) -> None:
    gesture = plan(portrait, seed=2).gesture
    width = np.hypot(*(portrait.joints[5] - portrait.joints[2]))
    hands = gesture.joints[:, HANDS] / width
    bent = np.linalg.norm(np.diff(hands, n=2, axis=0), axis=-1)
    assert bent.max() < 0.25
    # Where the way turns is where a stroke starts or ends, a few times a second at most.
    going = np.diff(hands[:, LEFT_HAND.start - HANDS.start, 1])
    turns = np.count_nonzero(np.diff(np.sign(going[np.abs(going) > 1e-3])))
    assert turns < 3 * gesture.seconds
    left, right = (gesture.joints[:, j] - portrait.joints[j] for j in (7, 4))
    mirrored = right * (-1, 1)
    both = (np.abs(left).max(axis=1) > 0.01) & (np.abs(right).max(axis=1) > 0.01)
    assert both.any()
    assert np.abs(left - mirrored)[both].max() > 0.1 * np.abs(left).max()


def test_seeds_repeat_and_differ(portrait: Pose) -> None:
    first, again, other = (plan(portrait, seed=seed).gesture.joints for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


def test_the_pictures_aspect_does_not_matter() -> None:
    aspect, portrait = 0.75, standing((0.62, 0.86, 0.62), (0.66, 0.80, 0.60), shoulders=0.2)
    narrow = Pose((portrait.joints - (0.5, 0)) * (1 / aspect, 1) + (0.5, 0), portrait.confidence)
    wide, tall = plan(portrait).gesture, plan(narrow, aspect=aspect).gesture
    assert tall.aspect == aspect
    assert np.abs(narrow.joints[HANDS, 0] - 0.5).max() < 0.4, "else the nearer edge is heeded"
    moved = (tall.joints - narrow.joints) * (aspect, 1)
    assert np.allclose(moved, wide.joints - portrait.joints, atol=1e-9)


# -- hands that stay where they are --------------------------------------------------------


def test_an_invisible_hand_stays_invisible_and_the_other_moves(portrait: Pose) -> None:
    hidden = without(portrait, LEFT_HAND, 7)
    gesture = plan(hidden).gesture
    assert (gesture.confidence[:, [7, *range(LEFT_HAND.start, LEFT_HAND.stop)]] == 0).all()
    assert (gesture.joints[:, LEFT] == portrait.joints[LEFT]).all()
    assert np.ptp(gesture.joints[:, 4], axis=0).max() > 0.02


@pytest.mark.parametrize(
    "hidden",
    [
        Pose.empty(),
        pytest.param("hands", id="no hands"),
        pytest.param("shoulders", id="no shoulders"),
    ],
)
def test_pictures_without_hands_or_shoulders_give_rest(portrait: Pose, hidden: Pose | str) -> None:
    if isinstance(hidden, str):
        hidden = without(portrait, *((HANDS, 4, 7) if hidden == "hands" else (2, 5)))
    gesture = plan(hidden).gesture
    assert len(gesture) == 240
    assert (gesture.joints == hidden.joints).all()
    assert (gesture.confidence == hidden.confidence).all()


def test_free_hands_may_move(portrait: Pose) -> None:
    assert movable(portrait) == Movable((True, True))


def test_a_hand_half_hidden_or_at_the_edge_stays_at_rest(portrait: Pose) -> None:
    dim = Pose(portrait.joints, np.where(np.arange(128) >= RIGHT_HAND.start, 0.4, portrait.confidence))
    assert movable(dim).hands == (True, False)
    lowest = portrait.joints[LEFT_HAND, 1].max()
    low = Pose(portrait.joints + np.array([0, 0.99 - lowest]), portrait.confidence)
    assert not movable(low).hands[0]
    cut = without(portrait, slice(LEFT_HAND.start + 9, LEFT_HAND.start + 17))
    assert movable(cut).hands == (False, True)


def test_hands_at_the_face_and_crossed_arms_stay_at_rest() -> None:
    salute = library.find_gesture("salute")[30]
    assert not movable(salute).hands[1]
    crossed = library.find_gesture("crossed_forearms")[36]
    assert movable(crossed).hands == (False, False)


def test_arms_that_cross_a_little_rest_both() -> None:
    crossed = library.find_gesture("crossed_forearms")[36]
    joints, width = crossed.joints.copy(), crossed.joints[5, 0] - crossed.joints[2, 0]
    # Each arm 0.15 widths outwards: no wrist is far on the other side any more, but forearms still cross.
    for (hand, _, elbow, wrist), sign in zip(ARMS, (1.0, -1.0), strict=True):
        joints[hand, 0] += sign * 0.15 * width
        joints[[elbow, wrist], 0] += sign * 0.15 * width
    across = (joints[[2, 5], 0].mean() - joints[[4, 7], 0]) * (-1, 1) / width
    assert across.max() < 0.1
    tangled = Pose(joints, crossed.confidence)
    assert movable(tangled) == Movable((False, False))
    assert (plan(tangled).gesture.joints == tangled.joints).all()


@pytest.mark.parametrize("along", [0.0, 0.5, 0.9])
def test_a_hand_on_the_other_upper_arm_keeps_both_at_rest(portrait: Pose, along: float) -> None:
    joints = portrait.joints.copy()
    goal = joints[2] + along * (joints[3] - joints[2])
    # Its own forearm follows from the elbow; the other hand hangs.
    joints[RIGHT_HAND] += (-0.05, 0.2)
    joints[4] += (-0.05, 0.2)
    palm = joints[LEFT_HAND].mean(axis=0)
    joints[LEFT_HAND] += goal - palm
    joints[7] += goal - palm
    assert movable(Pose(joints, portrait.confidence)).hands == (False, False)


def test_clasped_hands_move_as_one() -> None:
    folded = standing((0.20, 0.90, 0.50), (0.17, 0.86, 0.56), folded=True)
    assert movable(folded) == Movable((True, True), clasped=True)
    gesture = plan(folded).gesture
    off = gesture.joints[:, HANDS] - folded.joints[HANDS]
    width = np.hypot(*(folded.joints[5] - folded.joints[2]))
    assert np.linalg.norm(off, axis=-1).max() / width > 0.05
    assert np.ptp(off, axis=1).max() / width < 0.02
    one = without(folded, LEFT_HAND)
    assert movable(one).hands[0] is False


def test_hands_do_not_leave_the_picture() -> None:
    wide = standing((1.05, 0.80, 0.45), (1.05, 0.80, 0.45), shoulders=0.34)
    assert wide.joints[LEFT_HAND, 0].max() > 0.9
    for seed in range(3):
        hands = plan(wide, 2.0, seed).gesture.joints[:, HANDS]
        inside = ((wide.joints[HANDS] > 0.02) & (wide.joints[HANDS] < 0.98)).all(axis=1)
        assert hands[:, inside].min() > 0
        assert hands[:, inside].max() < 1


# -- gestures that come from elsewhere ------------------------------------------------------


def test_rest_is_the_portrait_all_the_time(portrait: Pose) -> None:
    still = rest(portrait, 5, 12.0, 1.5)
    assert (len(still), still.fps, still.aspect) == (5, 12.0, 1.5)
    assert (still.joints == portrait.joints).all()
    assert (still.confidence == portrait.confidence).all()


def test_ease_starts_and_ends_at_the_portrait_and_keeps_the_middle(portrait: Pose) -> None:
    wave = library.find_gesture("wave")
    eased = ease(wave, portrait)
    for frame in (0, -1):
        assert np.array_equal(eased.joints[frame], portrait.joints)
        assert np.array_equal(eased.confidence[frame], portrait.confidence)
    assert np.allclose(eased.joints[13:-13], wave.joints[13:-13])
    # The way there is 12 frames long; at minimum jerk the fastest is 1.875 times the mean.
    way = np.abs(portrait.joints - wave.joints[:13]).max()
    moves = np.abs(np.diff(wave.joints, axis=0)).max()
    assert np.abs(np.diff(eased.joints, axis=0)).max() < moves + 1.9 / 12 * way


@pytest.mark.parametrize("frames", [1, 2, 3, 8])
def test_ease_of_short_clips(portrait: Pose, frames: int) -> None:
    wave = library.find_gesture("wave")
    eased = ease(Gesture(wave.joints[:frames], wave.confidence[:frames]), portrait)
    assert len(eased) == frames
    assert np.isfinite(eased.joints).all()
    assert np.array_equal(eased.joints[0], portrait.joints)
    assert np.array_equal(eased.joints[-1], portrait.joints)


def test_ease_leaves_joints_that_one_of_both_lacks_where_the_other_has_them(portrait: Pose) -> None:
    hidden = without(portrait, LEFT_HAND)
    wave = library.find_gesture("wave")
    lost = Gesture(wave.joints, np.where(np.arange(128) >= RIGHT_HAND.start, 0.0, wave.confidence))
    eased = ease(lost, hidden)
    assert np.allclose(eased.joints[1:-1, LEFT_HAND], wave.joints[1:-1, LEFT_HAND])
    assert np.array_equal(eased.joints[20, RIGHT_HAND], portrait.joints[RIGHT_HAND])
    assert eased.confidence[20, RIGHT_HAND].max() < 1e-9
    assert (np.diff(eased.confidence[:12, LEFT_HAND.start]) > 0).all()
