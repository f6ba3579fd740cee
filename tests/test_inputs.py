"""Gestures of a clip, fitted to a portrait whose person is known: planned, still, the library's, a file's."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import made
from semibody import inputs, media
from semibody.inputs import Inputs, prepare
from semibody.networks.model import ModelConfig
from semibody.pose import library
from semibody.pose.body import SEEN
from semibody.pose.files import save_gesture
from semibody.settings import Settings, check
from semibody.types import HANDS, LEFT_HAND, Gesture, Picture, Pose, SemibodyError

SPEECH = made.spoken(made.STRESSES, 4.0)
OWN = library.find_gesture("beat")[24]
"""The pose that is found in every portrait here."""


class Finder:
    """A detector that always finds the same people."""

    def __init__(self, *people: Pose) -> None:
        self._found = list(people)

    def __enter__(self) -> Finder:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def people(self, picture: Picture) -> list[Pose]:
        return self._found


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "shared_detector", lambda: Finder(OWN))


def fitted(gesture: str | Path | Gesture, **settings: object) -> Inputs:
    chosen = Settings(**{"width": 64, "height": 64, "frame": "keep", **settings})  # type: ignore[arg-type]
    return prepare(made.picture(), SPEECH, gesture, chosen)


def own(made_of: Inputs) -> Pose:
    assert made_of.portrait_pose is not None
    return made_of.portrait_pose


def at_own(made_of: Inputs) -> list[bool]:
    """In which frames the pose is the portrait's."""
    return (made_of.gesture.joints == own(made_of).joints).all(axis=(1, 2)).tolist()


@pytest.mark.usefixtures("found")
def test_a_planned_gesture_starts_from_the_portraits_hands_and_liveliness_widens_it() -> None:
    calm, lively, none = (fitted("auto", liveliness=x) for x in (1.0, 2.0, 0.0))
    assert len(calm) == 96
    assert at_own(calm)[0]
    assert not all(at_own(calm))
    assert all(at_own(none))
    moved = [np.ptp(x.gesture.joints[:, HANDS], axis=0).max() for x in (calm, lively)]
    assert min(moved) > 0.02
    spread = [np.std(x.gesture.joints[:, HANDS], axis=0).mean() for x in (calm, lively)]
    assert spread[1] > spread[0]
    assert not any(f.topic in ("align", "start") for f in calm.findings)


@pytest.mark.usefixtures("found")
def test_with_one_seed_every_portrait_moves_differently_and_the_same_at_any_size() -> None:
    def moved(picture: Picture, **settings: object) -> list[list[float]]:
        chosen = Settings(**{"width": 64, "height": 64, "frame": "keep", **settings})  # type: ignore[arg-type]
        made_of = prepare(picture, SPEECH, "auto", chosen)
        return np.round(made_of.gesture.joints[:, LEFT_HAND.start], 6).tolist()

    one, other = made.picture(), made.picture()
    other[5, 7, 2] ^= 1
    assert moved(one) == moved(one.copy()) == moved(one, width=128, height=128)
    assert moved(one) != moved(one, seed=4)
    for seed in (3, 4):
        assert moved(one, seed=seed) != moved(other, seed=seed), "the same hands, another picture"


@pytest.mark.usefixtures("found")
def test_still_is_the_portraits_pose_all_the_time() -> None:
    still = fitted("still")
    assert all(at_own(still))
    assert (still.gesture.confidence == own(still).confidence).all()


def test_without_a_person_gestures_are_nobodys_in_particular(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "shared_detector", Finder)
    as_it_is = {"align": "none", "find_person": True}
    still, planned = fitted("still", **as_it_is), fitted("auto", **as_it_is)
    assert np.ptp(still.gesture.joints, axis=0).max() == 0
    assert still.gesture.confidence[0, HANDS].min() >= SEEN
    assert np.ptp(planned.gesture.joints[:, HANDS], axis=0).max() > 0.1
    assert np.ptp(fitted("auto", liveliness=0.0, **as_it_is).gesture.joints, axis=0).max() == 0
    assert not any("one pose" in notice for notice in still.notices)


@pytest.mark.usefixtures("found")
def test_the_librarys_gestures_begin_and_end_at_the_portrait_and_files_only_if_asked(tmp_path: Path) -> None:
    wave = fitted("wave")
    assert at_own(wave)[0]
    assert at_own(wave)[-1]
    assert not any(at_own(wave)[1:-1])
    assert not any(f.topic == "start" for f in wave.findings)
    file = tmp_path / "mine.npz"
    save_gesture(library.find_gesture("wave"), file)
    kept, anchored = fitted(file), fitted(file, anchor=True)
    assert not any(at_own(kept))
    assert at_own(anchored)[0]
    assert at_own(anchored)[-1]
    assert np.allclose(anchored.gesture.joints[13:-13], kept.gesture.joints[13:-13])
    assert not any(at_own(fitted("wave", align="none", find_person=True))), "coordinates as they are"


def test_hands_that_rest_and_hands_that_are_missing_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    confidence = OWN.confidence.copy()
    confidence[LEFT_HAND] = 0.0
    confidence[LEFT_HAND.stop :] = 0.4
    monkeypatch.setattr(inputs, "shared_detector", lambda: Finder(Pose(OWN.joints, confidence)))
    planned = fitted("auto")
    assert all(at_own(planned))
    said = " ".join(planned.notices)
    assert "right hand stays at rest" in said
    assert "does not show the left hand: a planned gesture leaves it out" in said


@pytest.mark.parametrize("liveliness", [-0.1, 3.1])
def test_liveliness_out_of_range_is_refused(liveliness: float) -> None:
    with pytest.raises(SemibodyError, match="--liveliness"):
        made.animator().settings(liveliness=liveliness)


@pytest.mark.usefixtures("found")
def test_planning_needs_a_recording_and_still_does_not() -> None:
    settings = Settings(width=64, height=64, frame="keep")
    with pytest.raises(SemibodyError, match="needs the recording"):
        inputs.fit(made.picture(), None, "auto", settings)
    still = inputs.fit(made.picture(), None, "still", settings).gesture
    assert still is not None
    assert len(still) == 1


@pytest.mark.usefixtures("found")
def test_what_the_user_says_of_a_gestures_file_goes_over_the_file(tmp_path: Path) -> None:
    """Poses of twice the rate are as many seconds over in half the time; pixels need their picture's size."""
    file = tmp_path / "mine.npz"
    wave = library.find_gesture("wave")
    save_gesture(wave, file)
    plain = {"align": "none", "on_short_gesture": "stop"}
    usual, faster = fitted(file, **plain), fitted(file, gesture_fps=2 * wave.fps, **plain)
    assert len(faster) == pytest.approx(len(usual) / 2, abs=1)
    people = np.zeros((1, 3 * 25))
    people[0, ::3], people[0, 1::3], people[0, 2::3] = 320.0, 180.0, 0.9
    (tmp_path / "poses").mkdir()
    text = {"version": 1.3, "people": [{"pose_keypoints_2d": people[0].tolist()}]}
    for number in range(3):
        (tmp_path / "poses" / f"a_{number:012d}_keypoints.json").write_text(json.dumps(text))
    found = fitted(tmp_path / "poses", gesture_canvas="640x360", **plain).gesture
    np.testing.assert_allclose(found.joints[0, 1], [0.5, 0.5])
    for wrong in ("640", "0x4", "²x3", "9x9x9"):
        with pytest.raises(SemibodyError, match="--gesture-canvas"):
            fitted(tmp_path / "poses", gesture_canvas=wrong)


def cut_out(folder: Path) -> Path:
    """A portrait whose outer part is transparent (and red, which must not show)."""
    y, x = np.mgrid[0:96, 0:96]
    inside = np.hypot(x - 48, y - 48) < 30
    colours = np.where(inside[..., None], made.picture() // 2 + 60, (255, 0, 0)).astype(np.uint8)
    Image.fromarray(np.dstack([colours, np.where(inside, 255, 0).astype(np.uint8)])).save(folder / "cut.png")
    return folder / "cut.png"


@pytest.mark.usefixtures("found")
def test_a_colour_or_a_picture_stands_behind_a_transparent_portrait(tmp_path: Path) -> None:
    portrait = cut_out(tmp_path)
    beach = np.zeros((48, 96, 3), np.uint8)
    beach[:, 24:72] = (10, 200, 90)
    media.write_image(tmp_path / "beach.png", beach)
    shown = {}
    for background in ("#ffffff", "#0ac85a", str(tmp_path / "beach.png")):
        settings = Settings(width=64, height=64, frame="keep", background=background)
        made_of = prepare(portrait, SPEECH, "still", settings)
        assert made_of.matte is None
        shown[background] = made_of.portrait.astype(int)
    assert (shown["#ffffff"][2, 2] == 255).all()
    for background in ("#0ac85a", str(tmp_path / "beach.png")):
        assert np.abs(shown[background][2, 2] - (10, 200, 90)).max() <= 1
        assert np.abs(shown[background][32, 32] - shown["#ffffff"][32, 32]).max() <= 1
    # Scaled before or after: pixels of the hard edge differ.
    off = np.abs(shown["#0ac85a"] - shown[background])[4:-4, 4:-4]
    assert (off.max(axis=2) > 2).mean() < 0.15


@pytest.mark.usefixtures("found")
def test_a_transparent_portrait_turned_and_framed_keeps_its_opacity(tmp_path: Path) -> None:
    settings = Settings(width=96, height=64, frame="keep", alpha=True)
    made_of = prepare(cut_out(tmp_path), SPEECH, "still", settings)
    assert made_of.matte is not None
    opacity = made_of.matte.opacity
    assert opacity.shape == made_of.portrait.shape[:2] == (64, 96)
    assert opacity[32, 48] == 1
    assert opacity[32, 20] == opacity[2, 48] == 0
    behind = made_of.portrait[opacity == 0]
    assert (behind == made_of.matte.key).all(axis=1).mean() > 0.9, "but beside the edge"


@pytest.mark.usefixtures("found")
def test_what_needs_a_transparent_portrait_says_so(tmp_path: Path) -> None:
    media.write_image(tmp_path / "a.png", made.picture())
    usual = Settings(width=64, height=64, frame="keep")
    with pytest.raises(SemibodyError, match=r"a\.png: has no transparent part, which --alpha keeps"):
        prepare(tmp_path / "a.png", SPEECH, "still", dataclasses.replace(usual, alpha=True))
    made_of = prepare(tmp_path / "a.png", SPEECH, "still", dataclasses.replace(usual, background="#102030"))
    assert any("so --background is not used" in notice for notice in made_of.notices)
    with pytest.raises(SemibodyError, match=r"--background beach\.png: no such picture"):
        prepare(tmp_path / "a.png", SPEECH, "still", dataclasses.replace(usual, background="beach.png"))
    with pytest.raises(SemibodyError, match="leave out one of them"):
        check(Settings(alpha=True, background="#102030"), ModelConfig())
