"""Detection: choosing people and hands, following, untangling, filling, smoothing. Networks are faked, but
for one test with the shared pictures."""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import made
from semibody import doctor, media
from semibody.pose import timing, track
from semibody.pose.body import face_found, hands_found
from semibody.pose.detectors import detect_pose, open_detector
from semibody.pose.detectors.dwpose import gpus_in_turn
from semibody.pose.detectors.mediapipe import BODY_FROM_33, FACE_FROM_478, _Hand, assign_hands
from semibody.pose.library import find_gesture
from semibody.types import (
    FACE,
    LEFT_HAND,
    RIGHT_HAND,
    Floats,
    Gesture,
    MissingPartError,
    Picture,
    Pose,
    SemibodyError,
)

SHARED = Path(__file__).parents[3] / "shared" / "inputs"
HANDLESS = "emtd_man_0170"


class ScriptedDetector:
    """Answers with given poses, frame after frame; None: no person."""

    name = "scripted"

    def __init__(self, poses: list[list[Pose]]) -> None:
        self.poses, self.calls, self.closed = poses, 0, False

    def people(self, image: Picture) -> list[Pose]:
        found = self.poses[min(self.calls, len(self.poses) - 1)]
        self.calls += 1
        return found

    def follow(self, image: Picture, last: Pose) -> Pose | None:
        found = self.people(image)
        near = [pose for pose in found if np.hypot(*(pose.joints[0] - last.joints[0])) < 0.2]
        return near[0] if near else None

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def standing(shift: float = 0.0) -> Pose:
    pose = find_gesture("rest")[0]
    return Pose(pose.joints + np.array([shift, 0.0]), pose.confidence)


def video(path: Path, frames: int = 12, fps: float = 24.0) -> Path:
    pictures = np.stack([made.picture(64, 64)] * frames)
    with media.VideoWriter(path, fps=fps, width=64, height=64) as writer:
        writer.write(pictures)
    return path


def test_tables_are_complete() -> None:
    assert len(BODY_FROM_33) == 18
    assert len(FACE_FROM_478) == 68 == len(set(FACE_FROM_478))
    assert max(FACE_FROM_478) < 478


def test_the_chosen_person_is_tracked(tmp_path: Path) -> None:
    both = [standing(), standing(0.3)]
    path = video(tmp_path / "two.mp4")
    for person, shift in ((0, 0.0), (1, 0.3)):
        found = track.extract(path, detector=ScriptedDetector([both] * 12), person=person, smooth=0)
        assert np.allclose(found.gesture.joints, standing(shift).joints)
        assert found.most_people == 2
        assert "2 people" in found.notices()[0]
    with pytest.raises(SemibodyError, match="only 2 people"):
        track.extract(path, detector=ScriptedDetector([both] * 12), person=2)


def test_a_person_who_leaves_has_empty_poses_afterwards(tmp_path: Path) -> None:
    detector = ScriptedDetector([[standing()]] * 6 + [[]] * 30)
    found = track.extract(video(tmp_path / "leaves.mp4", 24), detector=detector)
    assert found.frames == 24
    assert found.with_person == 6
    assert not found.gesture.confidence[-1].any()
    assert any("not in view in 18 of 24" in notice for notice in found.notices())


def test_no_person_and_an_upside_down_person_have_different_errors(tmp_path: Path) -> None:
    path = video(tmp_path / "none.mp4")
    with pytest.raises(SemibodyError, match="no person was found"):
        track.extract(path, detector=ScriptedDetector([[]]))
    with pytest.raises(SemibodyError, match="upside down"):
        track.extract(path, detector=ScriptedDetector([[], [standing()]]))


def test_a_stopped_run_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(track, "CHUNK", 5)
    path, keep = video(tmp_path / "long.mp4", 23), tmp_path / "unfinished"
    poses = [[standing(0.002 * i)] for i in range(23)]
    whole = track.extract(path, detector=ScriptedDetector(poses)).gesture

    class Dies(ScriptedDetector):
        def people(self, image: Picture) -> list[Pose]:
            if self.calls == 13:
                raise KeyboardInterrupt
            return super().people(image)

    with pytest.raises(KeyboardInterrupt):
        track.extract(path, detector=Dies(poses), keep=keep)
    (keep / "000002.writing.npz").write_bytes(b"half")
    rest = ScriptedDetector(poses[10:])
    resumed = track.extract(path, detector=rest, keep=keep).gesture
    assert rest.calls == 13  # ten frames were kept
    assert np.array_equal(resumed.joints, whole.joints)
    assert not keep.exists()


def test_unfinished_work_of_other_settings_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(track, "CHUNK", 5)
    path, keep = video(tmp_path / "v.mp4", 12), tmp_path / "unfinished"

    class Dies(ScriptedDetector):
        def people(self, image: Picture) -> list[Pose]:
            if self.calls == 8:
                raise KeyboardInterrupt
            return super().people(image)

    with pytest.raises(KeyboardInterrupt):
        track.extract(path, detector=Dies([[standing()]]), keep=keep)
    detector = ScriptedDetector([[standing()]])
    track.extract(path, 12.0, detector=detector, keep=keep)
    assert detector.calls == 6


@pytest.mark.parametrize("fps", [6.0, 24.0, 30.0])
def test_any_rate_is_resampled_to_the_wanted_one(tmp_path: Path, fps: float) -> None:
    found = track.extract(video(tmp_path / "v.mp4", 24), fps, detector=ScriptedDetector([[standing()]]))
    assert len(found.gesture) == round(fps)
    assert found.gesture.fps == fps


def test_one_frame(tmp_path: Path) -> None:
    found = track.extract(video(tmp_path / "one.mp4", 1), detector=ScriptedDetector([[standing()]]))
    assert len(found.gesture) == 1


# -- pure parts ----------------------------------------------------------------------------


def moving() -> tuple[Floats, Floats]:
    gesture = find_gesture("open_palms")
    return gesture.joints.copy(), gesture.confidence.copy()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(2, 80), max_size=6, unique=True))
def test_swapped_hands_are_exchanged(frames: list[int]) -> None:
    joints, confidence = moving()
    wrong = joints.copy()
    wrong[frames, LEFT_HAND], wrong[frames, RIGHT_HAND] = (
        joints[frames, RIGHT_HAND],
        joints[frames, LEFT_HAND],
    )
    far_apart = [f for f in frames if np.abs(joints[f, LEFT_HAND] - joints[f, RIGHT_HAND]).mean() > 0.1]
    track.untangle_hands(wrong, confidence)
    assert np.array_equal(wrong[far_apart], joints[far_apart])


def test_hands_that_cross_are_not_swapped() -> None:
    gesture = find_gesture("crossed_forearms")
    joints, confidence = gesture.joints.copy(), gesture.confidence.copy()
    assert track.untangle_hands(joints, confidence) == 0


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 70), st.integers(1, 30))
def test_short_gaps_are_filled_with_falling_confidence(start: int, length: int) -> None:
    joints, confidence = moving()
    stop = min(start + length, len(joints) - 1)
    gappy, sure = joints[:, LEFT_HAND].copy(), confidence[:, LEFT_HAND].copy()
    gappy[start:stop], sure[start:stop] = 0.0, 0.0
    filled = timing.fill_gaps(gappy, sure, 10)
    if stop - start > 10:
        assert filled == 0
        assert not sure[start:stop].any()
        return
    assert filled == stop - start
    assert (sure[start:stop] > 0).all()
    assert sure[start:stop].min() <= sure[start - 1].min()
    # In between, never beyond: a straight way.
    ends = np.stack([joints[start - 1, LEFT_HAND], joints[stop, LEFT_HAND]])
    assert (gappy[start:stop] >= ends.min(axis=0) - 1e-9).all()
    assert (gappy[start:stop] <= ends.max(axis=0) + 1e-9).all()


def test_smoothing_removes_jitter_and_keeps_movement() -> None:
    joints, confidence = moving()
    rng = np.random.default_rng(0)
    noisy = joints + rng.normal(0, 0.003, joints.shape)
    smooth = track.one_euro(noisy, confidence > 0, 24.0, 1.0, 0.415)
    hands = slice(LEFT_HAND.start, RIGHT_HAND.stop)
    before = np.abs(noisy - joints)[:, hands].mean()
    after = np.abs(smooth - joints)[:, hands].mean()
    assert after < 0.8 * before
    still = slice(28, 40)  # palms held open
    assert np.diff(smooth[still, hands], axis=0).std() < 0.5 * np.diff(noisy[still, hands], axis=0).std()
    untouched, *_ = track.clean(noisy, confidence, 24.0, 0.0, 1.0)
    assert np.array_equal(untouched, noisy)


@pytest.mark.parametrize("mirrored", [False, True])
def test_hands_are_assigned_to_their_wrists(mirrored: bool) -> None:
    left: Floats = np.array([300.0, 200.0])
    right: Floats = np.array([100.0, 200.0])
    at_left = _Hand(np.tile(left, (21, 1)) + 3.0, 0.9, True)
    at_right = _Hand(np.tile(right, (21, 1)) - 3.0, 0.9, False)
    hands = [at_right, at_left] if mirrored else [at_left, at_right]
    assert assign_hands(hands, left, right, 150.0) == (at_left, at_right)
    assert assign_hands([at_right], left, right, 150.0) == (None, at_right)
    far = _Hand(np.full((21, 2), 2000.0), 0.9, True)
    assert assign_hands([far], left, right, 150.0) == (None, None)


def test_folded_hands_are_assigned_by_predicted_handedness() -> None:
    middle = np.array([200.0, 300.0])
    a = _Hand(np.tile(middle, (21, 1)), 0.95, True)
    b = _Hand(np.tile(middle + 4.0, (21, 1)), 0.95, False)
    near: Floats = middle + 2.0
    assert assign_hands([b, a], near, near, 150.0) == (a, b)


def test_missing_parts_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEMIBODY_DWPOSE", raising=False)
    monkeypatch.setenv("SEMIBODY_HOME", str(tmp_path / "home"))
    with pytest.raises(MissingPartError, match="run: semibody weights fetch dwpose"):
        open_detector("dwpose")
    with pytest.raises(MissingPartError, match=r"yolox_l\.onnx"):
        open_detector("dwpose", tmp_path)
    with pytest.raises(SemibodyError, match="unknown"):
        open_detector("openpose")


def test_dwpose_is_the_detector_where_mediapipe_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Python 3.13, which mediapipe has no build for."""
    monkeypatch.delenv("SEMIBODY_DWPOSE", raising=False)
    monkeypatch.setenv("SEMIBODY_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    monkeypatch.setattr(sys, "version_info", (3, 13, 0))
    with pytest.raises(MissingPartError, match=r"for this Python; run: semibody weights fetch dwpose"):
        open_detector()
    folder = tmp_path / "weights" / "dwpose"
    folder.mkdir(parents=True)
    for name in ("yolox_l.onnx", "dw-ll_ucoco_384.onnx"):
        (folder / name).write_bytes(b"a network")
    opened: list[Path] = []
    monkeypatch.setattr("semibody.pose.detectors.dwpose._open", opened.append)
    with open_detector() as detector:
        assert detector.name == "dwpose"
    assert opened == [folder / "yolox_l.onnx", folder / "dw-ll_ucoco_384.onnx"]
    assert doctor._detector() == doctor.Fact("detector", "dwpose, because mediapipe is not here")
    with pytest.raises(MissingPartError, match="needs mediapipe"):
        open_detector("mediapipe")


# -- the real networks ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpus", "worker", "taken"), [(3, "4", 1), (3, "", 0), (1, "4", None), (0, "4", None)]
)
def test_workers_take_gpus_in_turn(
    gpus: int, worker: str, taken: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setenv("SEMIBODY_WORKER", worker)
    cuda = "CUDAExecutionProvider"
    asked = cuda if taken is None else (cuda, {"device_id": taken})
    assert gpus_in_turn([cuda, "CPUExecutionProvider"]) == [asked, "CPUExecutionProvider"]


def test_pictures_without_people() -> None:
    with open_detector("mediapipe") as detector:
        for picture in (np.zeros((64, 96, 3), np.uint8), made.picture(200, 300)):
            assert detector.people(picture) == []
            with pytest.raises(SemibodyError, match="no person was found"):
                detect_pose(picture, detector)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared pictures")
def test_portraits() -> None:
    """Faces and hands of every portrait that shows them; the left hand on the picture's right."""
    files = sorted((SHARED / "portraits").glob("*.png"))
    found: list[NDArray[np.bool_]] = []
    with open_detector("mediapipe") as detector:
        for file in files:
            picture = media.resize_image(media.read_image(file), 640, 640)
            people = detector.people(picture)
            assert len(people) == 1, file.name
            shows_hands = file.stem != HANDLESS
            left, right = hands_found(people[0])
            found.append(np.array([face_found(people[0]), left == shows_hands, right == shows_hands]))
            if left and right and shows_hands:
                across = people[0].joints[LEFT_HAND].mean(0) - people[0].joints[RIGHT_HAND].mean(0)
                assert across[0] > 0, f"{file.name}: hands are swapped"
    assert np.mean(found) >= 0.97


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared clips")
def test_clips() -> None:
    for file in sorted((SHARED / "clips").glob("*.mp4")):
        found = track.extract(file)
        assert found.with_face == found.frames
        hands = found.gesture.hands_confidence[..., 0] > 0
        assert hands.mean() >= 0.9
        assert found.swapped == 0
        assert isinstance(found.gesture, Gesture)
        assert np.ptp(found.gesture.joints[:, FACE], axis=0).max() < 0.5


def test_memory_does_not_grow_with_the_video(tmp_path: Path) -> None:
    """But for the joints: about 3 KB a frame, against 12 KB of even these tiny pictures."""
    import tracemalloc

    peaks = []
    for frames in (120, 1200):
        path = video(tmp_path / f"{frames}.mp4", frames)
        tracemalloc.start()
        track.extract(path, detector=ScriptedDetector([[standing()]]), smooth=0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 1080 * 12_000
