"""Portraits as users have them: lying, close, without a person, with hidden hands; music for speech."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import made
from semibody import media
from semibody.inputs import fit, fit_portrait, prepare
from semibody.pose import check
from semibody.pose.frame import Framing, keep_whole
from semibody.pose.prosody import analyse
from semibody.pose.show import write_overlay_video
from semibody.settings import Settings
from semibody.types import FACE, Picture, Pose, SemibodyError, Speech
from semibody.weights import hub

SMALL = Settings(width=128, height=128)


@pytest.fixture(scope="module")
def portrait() -> Picture:
    pytest.importorskip("mediapipe")
    path = hub.STARTER / "portrait.png"
    if not path.is_file():
        pytest.skip("the starter's portrait is not part of this installation")
    return media.read_image(path)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_picture_that_lies_is_turned_upright(portrait: Picture, turns: int) -> None:
    lying = np.ascontiguousarray(np.rot90(portrait, turns))
    shown, upright = fit_portrait(lying, SMALL), fit_portrait(portrait, SMALL)
    np.testing.assert_array_equal(shown.picture, upright.picture)
    assert [f.topic for f in shown.findings] == ["rotation"]
    kept = fit_portrait(lying, Settings(width=128, height=128, frame="keep"))
    # Only resampled in another order of axes.
    np.testing.assert_allclose(kept.picture, np.rot90(upright.picture, turns).astype(float), atol=4)
    remedy = next(f for f in kept.findings if f.topic == "rotation")
    assert remedy.level == "warning"
    assert {1: "to the right", 2: "upright", 3: "to the left"}[turns] in remedy.remedy


def test_nothing_is_made_of_a_picture_without_a_person() -> None:
    pytest.importorskip("mediapipe")
    empty = np.full((200, 200, 3), 128, np.uint8)
    with pytest.raises(SemibodyError, match=r"no person was found.*--frame keep --align none"):
        prepare(empty, made.tone(), made.gesture(), SMALL)
    as_it_is = Settings(width=128, height=128, frame="keep", align="none")
    for settings in (as_it_is, Settings(width=128, height=128, frame="keep", align="none", find_person=True)):
        assert len(prepare(empty, made.tone(), made.gesture(), settings)) == 24


def test_a_face_alone_is_told_so_and_not_to_do_what_is_done_already(portrait: Picture) -> None:
    with_person = fit_portrait(portrait, Settings(width=512, height=512, frame="keep"))
    assert with_person.pose is not None
    face = with_person.pose.joints[FACE] * portrait.shape[1::-1]
    (x0, y0), (x1, y1) = face.min(axis=0), face.max(axis=0)
    high, wide = y1 - y0, x1 - x0
    close = portrait[
        int(max(0, y0 - 0.5 * high)) : int(y1 + 0.15 * high), int(x0 - 0.3 * wide) : int(x1 + 0.3 * wide)
    ]
    shown = fit_portrait(np.ascontiguousarray(close), SMALL)
    assert "close-up" in [f.topic for f in shown.findings]
    assert not [f.line() for f in shown.findings if "--frame auto" in f.line()]


def test_framing_is_advised_only_where_it_helps() -> None:
    pose = Pose.empty()
    pose.joints[FACE], pose.confidence[FACE] = (0.5, 0.5), 1.0
    pose.joints[FACE.start + 8] = (0.5, 0.7)
    framing = Framing(keep_whole(100, 100, 1.0), True)
    for helps in (True, False):
        (found,) = check.check_framing(framing, pose, auto_helps=helps)
        assert found.topic == "head room"
        assert ("--frame auto" in found.remedy) == helps


def test_hidden_hands_come_with_a_remedy(portrait: Picture) -> None:
    bust = np.ascontiguousarray(portrait[: len(portrait) * 55 // 100])
    lacking = [f for f in fit_portrait(bust, SMALL).findings if f.topic == "body"]
    assert lacking
    assert all("use a picture that shows" in f.remedy for f in lacking)


def test_music_is_not_taken_for_speech(shared_inputs: Path) -> None:
    music = media.read_speech(shared_inputs / "field" / "music5.wav")
    (found,) = check.check_speech(music, analyse(music))
    assert "hardly sounds like speech" in found.text
    for path in sorted((shared_inputs / "speech").glob("*.wav")):
        speech = media.read_speech(path)
        assert check.check_speech(speech, analyse(speech)) == [], path.name


def test_an_arpeggio_is_not_taken_for_speech() -> None:
    time = np.arange(6 * 16000) / 16000
    wave = np.zeros_like(time)
    for number, hertz in enumerate((220, 277, 330, 440, 554, 330) * 2):
        since = time - 0.5 * number
        wave += np.where(since >= 0, np.exp(-3 * np.maximum(since, 0)), 0) * np.sin(2 * np.pi * hertz * time)
    music = Speech((0.2 * wave).astype(np.float32))
    assert [f.topic for f in check.check_speech(music, analyse(music))] == ["speech"]


def test_check_names_a_silent_file(tmp_path: Path) -> None:
    media.write_speech(tmp_path / "mute.wav", made.tone(1.0, hertz=0))
    as_it_is = Settings(width=64, height=64, frame="keep", align="none")
    fitted = fit(made.picture(), tmp_path / "mute.wav", None, as_it_is)
    (found,) = (f for f in fitted.findings if f.topic == "speech")
    assert (found.level, str(tmp_path / "mute.wav") in found.text) == ("error", True)
    allowed = Settings(width=64, height=64, frame="keep", align="none", allow_silence=True)
    levels = [f.level for f in fit(made.picture(), tmp_path / "mute.wav", None, allowed).findings]
    assert "error" not in levels


@pytest.mark.parametrize("sound", [True, False])
def test_a_preview_carries_the_videos_sound(tmp_path: Path, sound: bool) -> None:
    video = made.write_video(tmp_path / "talk.mp4", frames=12, sound=sound)
    write_overlay_video(tmp_path / "preview.mp4", made.gesture(12, fps=12.0), video)
    heard = media.read_clip(tmp_path / "preview.mp4").speech
    assert (heard is not None) == sound
    if heard is not None:
        assert heard.seconds == pytest.approx(1.0, abs=0.1)
        assert np.abs(heard.waveform).max() > 0.2
