"""Framing, aligning, checking, and the other formats of gestures."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import made
from semibody.pose import check
from semibody.pose.align import align, hand_size
from semibody.pose.files import load_gesture, read_official, save_gesture
from semibody.pose.frame import crop_gesture, cut, emtd_crop, frame_portrait, keep_whole
from semibody.pose.library import find_gesture, names
from semibody.pose.prosody import analyse
from semibody.types import (
    BODY,
    FACE,
    HANDS,
    LEFT_HAND,
    N_JOINTS,
    RIGHT_HAND,
    Floats,
    Gesture,
    Pose,
    SemibodyError,
    Speech,
)

KEY_JOINTS = [2, 5, 4, 7, LEFT_HAND.start, RIGHT_HAND.start]


def moved(gesture: Gesture, scale: float, shift: Floats) -> Gesture:
    joints = (gesture.joints - 0.5) * scale + 0.5 + shift
    return Gesture(joints, gesture.confidence, gesture.fps, gesture.aspect, gesture.name)


# -- align ---------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(names()),
    st.floats(0.6, 1.6),
    st.floats(-0.2, 0.2),
    st.floats(-0.2, 0.2),
    st.integers(0, 10**6),
)
def test_a_similarity_is_undone(name: str, scale: float, x: float, y: float, frame: int) -> None:
    gesture = find_gesture(name)
    aligned, alignment = align(moved(gesture, scale, np.array([x, y])), gesture[frame % len(gesture)])
    off = np.abs(aligned.joints - gesture.joints)[:, KEY_JOINTS]
    assert off.max() <= 0.03
    assert alignment.scale == pytest.approx(1 / scale, rel=0.02)
    assert alignment.by == "shoulders"


@pytest.mark.parametrize("aspect", [0.6, 1.0, 16 / 9])
def test_pictures_of_another_aspect(aspect: float) -> None:
    """A circle in the gesture's picture is one in the portrait's."""
    gesture = find_gesture("beat")
    portrait = gesture[0]
    squeezed = Pose((portrait.joints - 0.5) / (aspect, 1.0) + 0.5, portrait.confidence)
    aligned, _ = align(gesture, squeezed, aspect)
    assert aligned.aspect == aspect
    back = (aligned.joints - 0.5) * (aspect, 1.0) + 0.5
    assert np.abs(back - gesture.joints)[:, KEY_JOINTS].max() < 0.01


def test_the_portraits_long_arms_and_large_hands_are_matched() -> None:
    gesture = find_gesture("welcome")
    portrait = Pose(gesture.joints[40].copy(), gesture.confidence[40])
    for shoulder, elbow, wrist, hand in ((5, 6, 7, LEFT_HAND), (2, 3, 4, RIGHT_HAND)):
        reach = portrait.joints[wrist] - portrait.joints[shoulder]
        portrait.joints[elbow] += 0.7 * (portrait.joints[elbow] - portrait.joints[shoulder])
        portrait.joints[wrist] = portrait.joints[shoulder] + 1.7 * reach
        root = portrait.joints[hand.start].copy()
        portrait.joints[hand] = portrait.joints[wrist] + 1.4 * (portrait.joints[hand] - root)
    aligned, alignment = align(gesture, portrait)
    assert min(alignment.arms) > 1.02
    assert min(alignment.hands) > 1.15
    assert "arms" in alignment.line()
    before = hand_size(gesture.joints[:, LEFT_HAND]).max()
    assert hand_size(aligned.joints[:, LEFT_HAND]).max() > 1.1 * before


def test_hands_beyond_reach_are_pulled_back() -> None:
    gesture = find_gesture("beat")
    joints = gesture.joints.copy()
    joints[10:20, LEFT_HAND] += (0.8, 0.0)
    far = Gesture(joints, gesture.confidence)
    aligned, alignment = align(far, gesture[0])
    assert alignment.pulled > 0
    distance = np.linalg.norm(aligned.joints[:, LEFT_HAND.start] - aligned.joints[:, 5], axis=1)
    assert distance.max() < 0.415 * 1.6


def test_a_portrait_without_shoulders_is_matched_by_its_face() -> None:
    gesture = find_gesture("beat")
    pose = Pose(gesture.joints[0].copy(), gesture.confidence[0].copy())
    pose.confidence[BODY] = 0
    aligned, alignment = align(moved(gesture, 1.3, np.array([0.1, 0.0])), pose)
    assert alignment.by == "face"
    assert np.abs(aligned.joints[0, FACE] - gesture.joints[0, FACE]).max() < 0.02
    untouched, nothing = align(gesture, Pose.empty())
    assert nothing.by == "nothing"
    assert untouched is gesture


# -- frame ---------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.floats(0.25, 1.2), st.floats(0.2, 0.8), st.floats(0.35, 0.75), st.sampled_from([0.5, 0.7, 1.0, 1.6])
)
def test_framing_is_never_stretched_and_keeps_the_face(
    scale: float, x: float, y: float, aspect: float
) -> None:
    width, height = 900, 700
    pose = find_gesture("beat")[30]
    joints = (pose.joints - 0.5) * scale * (height / width, 1.0) + (x, y)
    inside = ((joints >= 0) & (joints <= 1)).all(axis=1)
    framing = frame_portrait(Pose(joints, pose.confidence * inside), width, height, aspect)
    across, down = framing.crop.size
    assert across / down == pytest.approx(aspect, rel=0.02)
    if inside[FACE].all() and inside[[2, 5]].all() and not framing.kept:
        face = framing.crop.joints(joints)[FACE]
        assert ((face > -0.02) & (face < 1.02)).all()


def test_a_well_framed_portrait_is_unchanged() -> None:
    framing = frame_portrait(find_gesture("rest")[0], 768, 768, 1.0)
    assert framing.kept
    assert framing.crop.size == (768, 768)
    assert frame_portrait(Pose.empty(), 640, 480, 1.0).crop.x0 == 80


def test_a_small_person_is_cropped_larger() -> None:
    pose = find_gesture("rest")[0]
    small = Pose((pose.joints - 0.5) * 0.3 + (0.7, 0.6), pose.confidence)
    framing = frame_portrait(small, 2000, 2000, 1.0)
    assert not framing.kept
    brows = framing.crop.joints(small.joints)[FACE, 1].min()
    assert brows == pytest.approx(0.13, abs=0.04)
    neck = framing.crop.joints(small.joints)[1, 0]
    assert neck == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("large", [1.0, 1.5])
def test_full_hair_stays_in_the_picture(large: float) -> None:
    """Of the bundled portrait it reaches 0.9 face heights above the brows."""
    pose = find_gesture("rest")[0]
    joints = (pose.joints - 0.5) * 0.3 + (0.5, 0.6)
    middle = joints[FACE].mean(axis=0)
    joints[FACE] = middle + (joints[FACE] - middle) * large
    framing = frame_portrait(Pose(joints, pose.confidence), 2000, 2000, 1.0)
    assert not framing.kept
    face = framing.crop.joints(joints)[FACE, 1]
    assert face.min() > 0.9 * np.ptp(face)


def test_the_edge_is_continued_beyond_the_picture() -> None:
    picture = made.picture(40, 60)
    wide = cut(picture, -20, -10, 80, 50)
    assert wide.shape == (60, 100, 3)
    assert np.array_equal(wide[10:50, 20:80], picture)
    assert np.array_equal(cut(picture, 5, 5, 20, 20), picture[5:20, 5:20])
    whole = keep_whole(60, 40, 1.0)
    assert whole.size == (60, 60)


def test_a_detected_gesture_is_cropped_like_the_training_set() -> None:
    gesture = find_gesture("beat")
    small = Gesture((gesture.joints - 0.5) * (0.25, 0.4) + 0.5, gesture.confidence, aspect=1.6)
    small.confidence[5] = 0.0
    small.joints[5] = 0.0
    cropped = crop_gesture(small)
    assert cropped.aspect == 1.0
    brows = cropped.joints[:, FACE, 1].min(axis=1)
    assert np.median(brows) == pytest.approx(0.126, abs=0.02)
    assert cropped.joints[10, 1, 0] == pytest.approx(0.5, abs=0.01)
    assert not cropped.joints[5].any()


def test_people_at_the_left_edge_are_not_lost() -> None:
    """The published script loses them: its square starts at a negative pixel."""
    joints = np.tile(find_gesture("rest").joints[:1], (3, 1, 1)) * 0.5 + (-0.15, 0.2)
    crop = emtd_crop(joints, np.ones(joints.shape[:2]), 640, 480)
    assert crop is not None and crop.x0 < 0
    assert crop.apply(made.picture(480, 640)).shape[0] > 100


def test_crop_of_the_training_set_by_hand() -> None:
    joints = np.full((2, N_JOINTS, 2), 0.5)
    joints[:, FACE, 1] = np.linspace(0.2, 0.3, 68)
    joints[:, 0:7, 1] = 0.8
    sure = np.ones((2, N_JOINTS))
    crop = emtd_crop(joints, sure, 2000, 1000)
    assert crop is not None
    assert (crop.low[1], crop.high[1]) == pytest.approx((0.2 - 0.65 * 0.15, 0.8 + 0.5 * 0.15))
    assert (crop.x0, crop.y0, crop.x1, crop.y1) == (1000 - 387, 102, 1000 - 387 + 774, 876)
    assert crop.outside(2000, 1000) == 0
    seen = np.concatenate([sure, np.zeros_like(sure)])
    assert emtd_crop(np.concatenate([joints, np.zeros_like(joints)]), seen, 2000, 1000) == crop
    sure[:, 1] = 0
    assert emtd_crop(joints, sure, 2000, 1000) is None


# -- check ---------------------------------------------------------------------------------


def topics(findings: list[check.Finding]) -> dict[str, str]:
    return {finding.topic: finding.level for finding in findings}


def test_speech_is_graded() -> None:
    voice = made.tone(2.0)
    assert check.check_speech(voice) == []
    loud = Speech(np.clip(voice.waveform * 20, -1, 1))
    assert "clipped" in check.check_speech(loud)[0].text
    assert check.check_speech(Speech(voice.waveform * 1e-2))[0].level == "warning"
    assert "lasts only" in check.check_speech(made.tone(0.5))[0].text
    noise = Speech(np.random.default_rng(0).normal(0, 0.1, 32000).astype(np.float32))
    assert "no speech" in check.check_speech(noise, analyse(noise))[-1].text


def test_an_unusable_recording_is_an_error() -> None:
    voice = made.tone(2.0)
    assert check.check_sound(voice, "a.wav") == []
    mute, broken = Speech(voice.waveform * 0), Speech(voice.waveform * np.float32(np.nan))
    for speech, text in (
        (mute, "a.wav: is silent"),
        (Speech(voice.waveform * 1e-3), "a.wav: is silent"),
        (broken, "a.wav: holds samples that are not numbers"),
        (made.tone(0.05), "a.wav: lasts 0.05 s"),
        (Speech(np.zeros(0, np.float32)), "a.wav: lasts 0.00 s"),
    ):
        (finding,) = check.check_sound(speech, "a.wav")
        assert (finding.level, finding.text) == ("error", text)
        assert finding.remedy
    assert check.check_sound(mute, "a.wav", allow_silence=True)[0].level == "note"
    assert check.check_sound(broken, "a.wav", allow_silence=True)[0].level == "error"


def test_gestures_are_graded() -> None:
    gesture = find_gesture("wave")
    assert check.check_gesture(gesture) == []
    blind = Gesture(gesture.joints, gesture.confidence * 0)
    assert check.check_gesture(blind)[0].level == "warning"
    one = gesture.confidence.copy()
    one[:, LEFT_HAND] = 0
    assert "left hand" in check.check_gesture(Gesture(gesture.joints, one))[0].text


def test_fit_is_graded() -> None:
    gesture = find_gesture("wave")
    away = moved(gesture, 1.0, np.array([0.0, 0.8]))
    _, alignment = align(gesture, away[0])
    aligned, far = align(gesture, away[0])
    assert topics(check.check_fit(aligned, far, away[0]))["hands"] == "warning"
    small = moved(gesture, 0.5, np.zeros(2))
    _, alignment = align(small, gesture[0])
    assert topics(check.check_fit(small, alignment, gesture[0], may_align=False))["fit"] == "warning"


def test_people_and_faces_are_graded() -> None:
    pose = find_gesture("rest")[0]
    assert check.check_people([])[0].topic == "person"
    assert check.check_people([pose, pose])[0].topic == "people"
    picture = np.full((800, 800, 3), 128, np.uint8)
    rng = np.random.default_rng(0)
    sharp = rng.integers(0, 255, (800, 800, 3), dtype=np.uint8)
    assert "sharpness" not in topics(check.check_portrait(sharp, pose))
    assert topics(check.check_portrait(picture, pose))["sharpness"] == "warning"
    blurred = cv2.GaussianBlur(sharp, (0, 0), 8)
    assert check.face_sharpness(blurred, pose.joints[FACE] * 800) < check.face_sharpness(
        sharp, pose.joints[FACE] * 800
    )
    tiny = Pose(pose.joints * 0.2 + 0.3, pose.confidence)
    assert topics(check.check_portrait(sharp, tiny))["face size"] == "warning"
    turned = Pose(pose.joints.copy(), pose.confidence)
    turned.joints[FACE.start + 30, 0] += 0.08
    assert topics(check.check_portrait(sharp, turned))["direction"] == "warning"


# -- formats -------------------------------------------------------------------------------


def test_written_folders_are_the_published_ones(tmp_path: Path) -> None:
    gesture = find_gesture("wave")
    save_gesture(gesture, tmp_path / "official")
    theirs = made.official_pose(3)
    ours = read_official(tmp_path / "official" / "3.npy")
    assert list(ours) == list(theirs)
    for key, value in theirs.items():
        if isinstance(value, np.ndarray):
            assert ours[key].shape == value.shape
            assert ours[key].dtype == value.dtype, key
        elif isinstance(value, dict):
            assert {k: v.shape for k, v in ours[key].items()} == {k: v.shape for k, v in value.items()}
    # As the published code reads it.
    loaded = np.load(tmp_path / "official" / "3.npy", allow_pickle=True).tolist()
    assert loaded["num"] == 3
    back = load_gesture(tmp_path / "official")
    assert np.array_equal(back.joints, gesture.joints)
    assert np.array_equal(back.confidence, gesture.confidence)
    with pytest.raises(SemibodyError, match="already exists"):
        save_gesture(gesture, tmp_path / "official")


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 6), st.sampled_from([1.0, 0.5625, 1.5]), st.sampled_from([24.0, 29.97]))
def test_openpose_json_round_trip(frames: int, aspect: float, fps: float) -> None:
    import tempfile

    rng = np.random.default_rng(frames)
    gesture = Gesture(rng.normal(0.5, 0.5, (frames, 128, 2)), rng.random((frames, 128)), fps, aspect)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "g.json"
        save_gesture(gesture, path)
        back = load_gesture(path)
    assert np.allclose(back.joints, gesture.joints, atol=1e-12)
    assert np.allclose(back.confidence, gesture.confidence)
    assert (back.fps, back.aspect) == (fps, aspect)


def test_openpose_files_of_other_tools(tmp_path: Path) -> None:
    person = {"pose_keypoints_2d": [100.0, 50.0, 0.9] * 25, "hand_left_keypoints_2d": [10.0, 20.0, 0.5] * 21}
    frame = {"canvas_width": 200, "canvas_height": 100, "people": [person]}
    folder = tmp_path / "openpose"
    folder.mkdir()
    for i in range(11):
        (folder / f"clip_{i}_keypoints.json").write_text(json.dumps(frame))
    gesture = load_gesture(folder)
    assert len(gesture) == 11
    assert gesture.aspect == 2.0
    assert np.allclose(gesture.joints[0, :18], (0.5, 0.5))
    assert np.allclose(gesture.joints[0, LEFT_HAND], (0.05, 0.2))
    assert not gesture.confidence[0, RIGHT_HAND].any()
    assert gesture.notices == ()
    (folder / "notes.txt").write_text("stray")
    (folder / "clip_10_keypoints.json").write_text(json.dumps({**frame, "people": [person, person]}))
    assert load_gesture(folder).notices == (
        f"{folder}: notes.txt is left out, not JSON poses",
        "1 of 11 poses hold several people (up to 2): the one with the highest confidence was taken; choose "
        "with --person",
    )
    (tmp_path / "list.json").write_text(json.dumps([frame, {"people": []}]))
    assert not load_gesture(tmp_path / "list.json").confidence[1].any()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("3", "give OpenPose or COCO-WholeBody JSON"),
        ('{"frames": []}', "no frames"),
        ('{"people": [{"pose_keypoints_2d": [1, 2]}]}', "x, y, confidence"),
        ('{"people": [{"pose_keypoints_2d": [1, 2, 3]}]}', "1 points"),
        ('{"people": [{"hand_left_keypoints_2d": ["a", 1, 1]}]}', "x, y, confidence"),
        (json.dumps({"people": [{"hand_left_keypoints_2d": [9000, 200, 1] * 21}]}), "--gesture-canvas"),
        (json.dumps({"people": [{"hand_left_keypoints_2d": [float("nan"), 0, 1] * 21}]}), "not a number"),
        ('{"nothing": 1}', "no 'people'"),
    ],
)
def test_bad_json_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(SemibodyError, match=message) as error:
        load_gesture(path)
    assert "bad.json" in str(error.value)


def test_every_format_holds_every_library_gesture(tmp_path: Path) -> None:
    gesture = find_gesture("salute")
    for target in ("a.npz", "b.json", "c"):
        save_gesture(gesture, tmp_path / target)
        assert np.allclose(load_gesture(tmp_path / target).joints[:, HANDS], gesture.joints[:, HANDS])
    with pytest.raises(SemibodyError, match="written as"):
        save_gesture(gesture, tmp_path / "d.txt")


def test_noise_under_the_voice_and_a_cut_end_are_said() -> None:
    """Lips follow what sounds: noise keeps them open in pauses, a cut word at the end."""
    voice = made.spoken(made.STRESSES, 6.0, [(2.4, 3.2), (5.6, 6.0)])
    loud = float(np.sqrt(np.percentile(voice.waveform.astype(float).reshape(-1, 320) ** 2, 90)))
    noise = np.random.default_rng(0).normal(0, 1, len(voice.waveform)).astype(np.float32)
    for below, said in ((45, False), (15, True)):
        noisy = Speech(voice.waveform + noise * np.float32(loud * 10 ** (-below / 20)))
        found = [f for f in check.check_speech(noisy) if "lips may not close" in f.text]
        assert bool(found) is said, below
    assert check.check_speech(voice) == []
    loudest = 48000 + int(np.abs(voice.waveform[48000:]).argmax())
    (cut,) = check.check_speech(Speech(voice.waveform[: loudest + 400]))
    assert cut.level == "note"
    assert "ends in the middle of a word" in cut.text
