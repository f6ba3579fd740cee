"""Arms and hands of rendered people: they follow what they are given, and never go through the body."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import shared_folder
from semibody.data.synthetic.arms import Followed, gesture_sources, lift_arms, plan_arms, require_gestures
from semibody.data.synthetic.assets import load_assets
from semibody.data.synthetic.clip import joints_in_space, landmarks, person_seed
from semibody.data.synthetic.motion import Motion, draw_motion
from semibody.data.synthetic.person import Person, build_person, draw_look
from semibody.pose import library
from semibody.pose.files import save_gesture
from semibody.pose.kinematics import place_arm
from semibody.types import LEFT_HAND, RIGHT_HAND, Floats, Gesture, SemibodyError, Speech

FRAMES, FPS = 24, 24.0
TRUNK = ("spine", "root", "neck", "head", "jaw")


@pytest.fixture(scope="module")
def people() -> list[Person]:
    assets = load_assets(str(shared_folder("assets") / "makehuman"))
    return [build_person(draw_look(person_seed(2, n), assets), assets, 64) for n in range(2)]


def talking(seconds: float) -> Speech:
    """A voice that rises and falls four times a second."""
    time = np.arange(round(16000 * seconds)) / 16000
    wave = np.sin(2 * np.pi * 160 * time) * np.clip(np.sin(2 * np.pi * 2 * time), 0, 1) * 0.4
    return Speech(wave.astype(np.float32), 16000)


def followed(kind: str, seed: int, tmp_path: Path) -> Followed | None:
    rng = np.random.default_rng(seed)
    if kind == "planned":
        return plan_arms(talking(FRAMES / FPS), FRAMES, FPS, 0.8, rng)
    if kind == "lifted":
        name = ("hand_on_chest", "crossed_forearms", "hands_together", "salute")[seed % 4]
        save_gesture(library.build(name), tmp_path / f"{name}.npz")
        return lift_arms(tmp_path / f"{name}.npz", FRAMES, FPS, rng)
    return None


def moved(person: Person, arms: Followed | None, seed: int = 0, sway: float = 1.0) -> Motion:
    quiet = np.zeros(FRAMES, np.float32)
    rng = np.random.default_rng(seed)
    return draw_motion(person, np.zeros((FRAMES, 6), np.float32), quiet, FPS, rng, sway=sway, followed=arms)


def share_inside(person: Person, motion: Motion) -> float:
    """Share of the hands' vertices, over every sixth frame, that lie inside torso or head."""
    motion = replace(
        motion, rotations=motion.rotations[::6], positions=motion.positions[::6], face=motion.face[::6]
    )
    trunk = person.base_weights[:13380, [n.startswith(TRUNK) for n in person.bones]].sum(axis=1) > 0.6
    hand = person.base_weights[:13380, [n.startswith(("finger", "metacarpal")) for n in person.bones]]
    body = landmarks(person, motion, list(np.flatnonzero(trunk)[::3]))
    hands = landmarks(person, motion, list(np.flatnonzero(hand.sum(axis=1) > 0.9)[::15]))
    inside = []
    for frame in range(len(hands)):
        near = np.linalg.norm(hands[frame, :, None, :2] - body[frame, None, :, :2], axis=-1) < 0.3
        front = np.where(near, body[frame, :, 2], -np.inf).max(axis=1)
        back = np.where(near, body[frame, :, 2], np.inf).min(axis=1)
        inside.append((hands[frame, :, 2] < front - 0.05) & (hands[frame, :, 2] > back))
    return float(np.mean(inside))


@pytest.mark.parametrize("kind", ["drawn", "planned", "lifted"])
def test_hands_stay_out_of_the_body(people: list[Person], kind: str, tmp_path: Path) -> None:
    for seed in range(4):
        person = people[seed % 2]
        assert share_inside(person, moved(person, followed(kind, seed, tmp_path), seed)) < 0.002


def test_hands_that_would_be_in_the_body_are_pushed_out(
    people: list[Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    from semibody.data.synthetic import rig

    states = np.tile(library.state("chest", "rest"), (FRAMES, 1))
    states[:, 0] -= np.radians(30)  # the upper arm further back
    arms = Followed(states, np.ones((2, 3)), {})
    assert share_inside(people[0], moved(people[0], arms)) < 0.002
    monkeypatch.setattr(rig._BodyFront, "push", lambda _, points: np.zeros((len(points), 3)))
    assert share_inside(people[0], moved(people[0], arms)) > 0.05


def test_a_person_holds_arms_and_fingers_as_given(people: list[Person]) -> None:
    states = library.perform("count", FPS)[24 : 24 + FRAMES]
    for person in people:
        motion = moved(person, Followed(states, np.ones((2, 3)), {}), sway=0.0)
        # The bones' own ends: joints of the truth are where detectors find them.
        ends = ("upperarm01.R", "upperarm01.L", "wrist.R")
        right, left, wrist = (motion.positions[:, person.bones.index(name)] for name in ends)
        width = np.linalg.norm(left - right, axis=-1).mean()
        wanted = place_arm(states[:, 27:54]).hand * (-1, -1, 1)
        assert np.linalg.norm((wrist - right) / width - wanted[:, 0], axis=-1).mean() < 0.12
        hand = joints_in_space(person, motion)[:, RIGHT_HAND]
        bones = [
            unit(np.diff(points.reshape(FRAMES, 5, 4, 3), axis=2)) for points in (hand[:, 1:], wanted[:, 1:])
        ]
        apart = np.degrees(np.arccos(np.clip((bones[0] * bones[1]).sum(axis=-1), -1, 1)))
        assert apart.mean() < 8


def unit(vectors: Floats) -> Floats:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_crossing_forearms_pass_one_before_the_other(people: list[Person]) -> None:
    states = np.tile(library.state("cross_under", "cross_over"), (FRAMES, 1))
    joints = joints_in_space(people[0], moved(people[0], Followed(states, np.ones((2, 3)), {})))
    assert (joints[:, LEFT_HAND, 0].mean(axis=1) < joints[:, RIGHT_HAND, 0].mean(axis=1)).all()
    gap = joints[:, LEFT_HAND][:, :, None] - joints[:, RIGHT_HAND][:, None]
    assert np.linalg.norm(gap, axis=-1).min() > 0.3


def test_planned_arms_belong_to_the_speech_and_to_the_seed() -> None:
    same = [plan_arms(talking(2), FRAMES, FPS, 0.8, np.random.default_rng(5)) for _ in range(2)]
    other = plan_arms(talking(2), FRAMES, FPS, 0.8, np.random.default_rng(6))
    assert same[0].states.shape == (FRAMES, *library.state("cross_under", "cross_over").shape)
    assert np.array_equal(same[0].states, same[1].states)
    assert same[0].facts == same[1].facts
    assert not np.array_equal(same[0].states, other.states)
    kinds = {plan_arms(talking(1), 24, FPS, 0.8, np.random.default_rng(n)).facts["kind"] for n in range(12)}
    assert kinds == {"planned", "library"}


def test_gestures_are_found_in_a_folder_and_checked(tmp_path: Path) -> None:
    with pytest.raises(SemibodyError, match="holds no gesture"):
        gesture_sources(tmp_path)
    beat = library.build("beat")
    save_gesture(beat, tmp_path / "a.npz")
    save_gesture(beat, tmp_path / "b.json")
    save_gesture(beat, tmp_path / "c")
    (tmp_path / "notes.txt").write_text("not one of them")
    found = gesture_sources(tmp_path)
    assert [p.name for p in found] == ["a.npz", "b.json", "c"]
    assert gesture_sources(tmp_path / "c") == [tmp_path / "c"]
    require_gestures(found)
    hidden = Gesture(beat.joints, np.zeros_like(beat.confidence), name="hidden")
    save_gesture(hidden, tmp_path / "d.npz")
    with pytest.raises(SemibodyError, match=r"d: never shows both shoulders"):
        require_gestures(gesture_sources(tmp_path))
    (tmp_path / "d.npz").write_bytes(b"no gesture")
    with pytest.raises(SemibodyError, match=r"d\.npz"):
        require_gestures(gesture_sources(tmp_path))
