"""The skeleton, the gestures made with it, and the plans made of them."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import made
from made import STRESSES, spoken
from semibody.pose import kinematics as kin
from semibody.pose import library
from semibody.pose.files import load_gesture
from semibody.pose.plan import FASTEST, LONG_PAUSE, plan_gesture
from semibody.pose.prosody import analyse
from semibody.types import BODY, FACE, HANDS, SemibodyError, Speech

N = len(kin.ANGLES)
SHOULDERS = kin.Body().shoulders
SHOULDER = np.array([0.5, 0.0, 0.0])


def some_angles(seed: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).uniform(kin.LOW, kin.HIGH, (4, N))


# -- kinematics ----------------------------------------------------------------------------


def test_an_arm_at_zero_hangs_straight() -> None:
    arm = kin.place_arm(np.zeros(N))
    assert np.allclose(arm.elbow, (0, kin.UPPER_ARM, 0))
    assert np.allclose(arm.wrist, (0, kin.UPPER_ARM + kin.FOREARM, 0))
    assert np.allclose(arm.hand[12] - arm.wrist, (0, kin.HAND, 0.03 * kin.HAND), atol=0.02)
    assert arm.hand[4, 2] > arm.hand[20, 2], "the thumb is in front"


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6))
def test_bones_keep_their_length(seed: int) -> None:
    arm = kin.place_arm(some_angles(seed))
    assert np.allclose(np.linalg.norm(arm.elbow, axis=-1), kin.UPPER_ARM)
    assert np.allclose(np.linalg.norm(arm.wrist - arm.elbow, axis=-1), kin.FOREARM)
    ends = np.array(library_edges())
    bones = np.linalg.norm(arm.hand[:, ends[:, 1]] - arm.hand[:, ends[:, 0]], axis=-1)
    assert np.allclose(bones, kin.hand_bones())
    assert np.allclose(np.linalg.det(arm.turned), 1)


def library_edges() -> tuple[tuple[int, int], ...]:
    from semibody.pose.skeleton import HAND_EDGES

    return HAND_EDGES


def test_each_angle_moves_its_own_joints() -> None:
    def change(name: str, degrees: float = 40.0) -> kin.Arm:
        angles = np.zeros(N)
        angles[kin.ANGLES.index(name)] = np.radians(degrees)
        return kin.place_arm(angles)

    assert change("shoulder_flexion").elbow[2] > 0.3, "forwards"
    assert change("shoulder_abduction").elbow[0] > 0.3, "outwards"
    assert change("elbow").wrist[2] > 0.3, "forwards"
    assert change("wrist_flexion").hand[12, 0] < -0.1, "towards the palm, which faces the thigh"
    assert change("index_base").hand[8, 0] < -0.1, "towards the palm"
    assert change("forearm_twist").hand[4, 0] < -0.01, "the thumb turns inwards"


@settings(max_examples=20, deadline=None)
@given(st.floats(0.1, 0.7), st.floats(-0.1, 0.9), st.floats(0.35, 0.8))
def test_reach_finds_angles_within_the_limits(x: float, y: float, z: float) -> None:
    angles = np.array(kin.reach((x, y, z), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0)))
    assert (angles >= kin.LOW - 1e-9).all()
    assert (angles <= kin.HIGH + 1e-9).all()
    wrist = kin.place_arm(angles).wrist + SHOULDER
    assert np.linalg.norm(wrist - (x, y, z)) < 0.12


# -- library -------------------------------------------------------------------------------


def test_the_packaged_files_are_what_the_scripts_give() -> None:
    folder = resources.files("semibody") / "gestures"
    assert sorted(p.name for p in folder.iterdir()) == sorted(f"{n}.npz" for n in library.names())
    for name in library.names():
        built, packaged = library.build(name), library.find_gesture(name)
        assert np.allclose(built.joints, packaged.joints, atol=2e-4), name
        assert np.array_equal(built.confidence, packaged.confidence)


def test_there_are_enough_of_each_kind() -> None:
    assert len(library.names()) >= 12
    assert {"rest", "beat", "open_palms", "count", "point", "wave", "thumbs_up", "fist", "salute"} <= {
        *library.names()
    }


@pytest.mark.parametrize("name", library.names())
def test_gestures_keep_human_limits(name: str) -> None:
    gesture = library.find_gesture(name)
    joints = gesture.joints
    assert 1.5 <= gesture.seconds <= 6
    for part in (BODY, FACE, HANDS):
        assert gesture.confidence[:, part].max() == 1
    speed = np.linalg.norm(np.diff(joints[:, HANDS], axis=0), axis=-1) * gesture.fps / SHOULDERS
    assert speed.max() < FASTEST, "no faster than a hand"
    assert np.abs(joints[0] - joints[-1]).max() < 0.01, "loops without a jump"
    inside = ((joints[:, HANDS] > -0.02) & (joints[:, HANDS] < 1.02)).all(axis=-1)
    assert inside.mean() > 0.97, "in the picture"
    moves = name != "rest"
    assert (np.ptp(joints[:, HANDS], axis=0).max() > 0.15) == moves


def test_poses_keep_the_limits() -> None:
    for name in library.POSES:
        angles = np.array(library.arm(name))
        assert (angles >= kin.LOW - 1e-9).all(), name
        assert (angles <= kin.HIGH + 1e-9).all(), name
        missed = kin.place_arm(angles).wrist + SHOULDER - np.array(library.POSES[name].wrist)
        assert np.linalg.norm(missed) < 0.05, name


def test_names_and_paths_are_distinguished(tmp_path: Path) -> None:
    assert library.find_gesture("wave").name == "wave"
    with pytest.raises(SemibodyError, match="neither a file nor one of the gestures"):
        library.find_gesture("waive")
    with pytest.raises(SemibodyError, match="no such gesture"):
        library.find_gesture(tmp_path / "wave.npz")
    folder = made.official_folder(tmp_path / "beat")
    assert len(library.find_gesture(folder)) == len(load_gesture(folder))


# -- prosody and plans ---------------------------------------------------------------------


def test_stressed_syllables_are_found() -> None:
    prosody = analyse(spoken(STRESSES, 10.0))
    strongest = sorted(prosody.syllables, key=lambda s: -s.stress)[: len(STRESSES)]
    off = [min(abs(s.time - true) for true in STRESSES) for s in strongest]
    assert np.mean(np.array(off) < 0.09) >= 0.8
    assert 3 < prosody.rate < 5


def test_pauses_are_found() -> None:
    prosody = analyse(spoken(STRESSES, 10.0, [(3.5, 5.0)]))
    ends, starts = [end for _, end in prosody.phrases[:-1]], [start for start, _ in prosody.phrases[1:]]
    assert any(
        abs(end - 3.5) < 0.15 and abs(start - 5.0) < 0.2 for end, start in zip(ends, starts, strict=True)
    )


@pytest.mark.parametrize("speech", [Speech(np.zeros(16000, np.float32)), made.tone(0.05), made.tone(3.0)])
def test_audio_without_speech_gives_rest(speech: Speech) -> None:
    planned = plan_gesture(speech)
    assert len(planned.gesture) == max(1, round(speech.seconds * 24))
    assert not planned.strokes or speech.seconds > 1


def test_strokes_end_on_stresses() -> None:
    planned = plan_gesture(spoken(STRESSES, 10.0), seed=1)
    assert len(planned.strokes) >= 5
    off = [min(abs(s.time - true) for true in STRESSES) for s in planned.strokes]
    assert np.mean(np.array(off) <= 0.08) >= 0.8


@pytest.mark.parametrize("seed", range(4))
def test_hands_are_at_rest_in_pauses_and_never_too_fast(seed: int) -> None:
    pause = (4.0, 6.5)
    planned = plan_gesture(spoken(STRESSES, 10.0, [pause]), seed=seed)
    hands = planned.gesture.joints[:, HANDS]
    speed = np.linalg.norm(np.diff(hands, axis=0), axis=-1).max(axis=1) * 24 / SHOULDERS
    assert speed.max() < FASTEST * 1.05
    still = [(start, end) for start, end in planned.rests if end > pause[0] and start < pause[1]]
    assert still
    assert min(end for _, end in still) >= pause[1] - 0.35 or max(e for _, e in still) >= pause[1] - 0.35
    for start, end in planned.rests:
        inside = speed[int(np.ceil(start * 24)) : int(end * 24) - 1]
        assert not len(inside) or inside.max() < 1e-9
    assert pause[1] - pause[0] > LONG_PAUSE


def test_seeds_repeat_and_differ() -> None:
    speech = spoken(STRESSES, 8.0)
    first, again, other = (plan_gesture(speech, seed=seed).gesture.joints for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


def test_liveliness_makes_strokes_more_frequent() -> None:
    speech = spoken([0.25 * i + 0.17 for i in range(3, 60, 2)], 16.0)
    few, usual, many = (len(plan_gesture(speech, liveliness=x).strokes) for x in (0.3, 1.0, 2.0))
    assert few <= usual <= many
    assert few < many


def test_strokes_of_the_users_own_gestures() -> None:
    speech = spoken(STRESSES, 10.0)
    own = [library.find_gesture("open_palms"), library.find_gesture("beat_right")]
    planned = plan_gesture(speech, sources=own)
    assert len(planned.strokes) >= 3
    speed = np.linalg.norm(np.diff(planned.gesture.joints[:, HANDS], axis=0), axis=-1) * 24 / SHOULDERS
    assert speed.max() < FASTEST * 1.05
    with pytest.raises(SemibodyError, match="hardly move"):
        plan_gesture(speech, sources=[library.find_gesture("rest")])
