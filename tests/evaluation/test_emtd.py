"""The official crop, against numbers recorded from the published script; and a test set built of a video."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import made
from semibody import media
from semibody.evaluation import emtd
from semibody.evaluation.protocol import pair_clips
from semibody.pose.files import load_gesture
from semibody.types import FACE, HANDS, N_JOINTS, Gesture, Pose, SemibodyError


def recorded(path: Path) -> tuple[dict[str, object], Gesture, np.lib.npyio.NpzFile]:
    """The recorded input as one person: the published script mixes the best body with the first face."""
    arrays = np.load(path, allow_pickle=False)
    facts = json.loads(bytes(arrays["meta"]).decode())
    joints = []
    for frame in range(facts["frames"]):
        best = int(arrays[f"in{frame}/body_score"].mean(axis=1).argmax())
        body = arrays[f"in{frame}/candidate"][18 * best : 18 * best + 18]
        hands = arrays[f"in{frame}/hands"][:2].reshape(-1, 2)
        joints.append(np.concatenate([body, arrays[f"in{frame}/faces"][0], hands]))
    return facts, Gesture(np.stack(joints), np.ones((len(joints), N_JOINTS))), arrays


@pytest.mark.parametrize("name", ["emtd_a", "emtd_two_people"])
def test_crop_equals_the_published_one(shared_golden: Path, name: str) -> None:
    facts, gesture, arrays = recorded(shared_golden / f"{name}.npz")
    height, width, result = facts["height"], facts["width"], facts["result"]
    assert isinstance(height, int) and isinstance(width, int) and isinstance(result, dict)
    crop = emtd.crop_of(gesture, height, width)
    assert [*crop.rows, *crop.columns] == result["video_params"]
    assert [*crop.x, *crop.y] == pytest.approx(result["pose_params"], abs=1e-12)
    cropped = emtd.crop_gesture(gesture, crop)
    assert cropped.joints[0, HANDS].reshape(2, 21, 2) == pytest.approx(arrays["out0/hands"][:2], abs=1e-9)
    assert cropped.joints[0, FACE] == pytest.approx(arrays["out0/faces"][0], abs=1e-9)


def person(x: float) -> Gesture:
    """Face from 0.2 to 0.3, elbows down to 0.8, neck at ``x``."""
    joints = np.full((2, N_JOINTS, 2), 0.5)
    joints[:, FACE, 1] = np.linspace(0.2, 0.3, 68)
    joints[:, 0:7, 1] = 0.8
    joints[:, 1, 0] = x
    return Gesture(joints, np.ones((2, N_JOINTS)))


def test_crop_by_hand() -> None:
    crop = emtd.crop_of(person(0.5), 1000, 2000)
    assert crop.y == pytest.approx((0.2 - 0.65 * 0.15, 0.8 + 0.5 * 0.15))
    assert crop.rows == (102, 875)
    assert crop.columns == (1000 - 387, 1000 - 387 + 774)


def test_a_person_at_the_edge_is_padded_not_dropped() -> None:
    crop = emtd.crop_of(person(0.05), 100, 200)
    assert crop.columns[0] < 0
    picture = np.full((100, 200, 3), 200, np.uint8)
    square = emtd.crop_picture(picture, crop, 78)
    assert (square[40, 0] == 0).all()
    assert (square[40, -5] == 200).all()


def test_nobody_is_named() -> None:
    nobody = Gesture(np.zeros((2, N_JOINTS, 2)), np.zeros((2, N_JOINTS)), name="empty.mp4")
    with pytest.raises(SemibodyError, match=r"empty\.mp4: shows no half body"):
        emtd.crop_of(nobody, 100, 100)


class FakeDetector:
    name = "fake"

    def people(self, image: np.ndarray) -> list[Pose]:  # type: ignore[type-arg]
        return [person(0.5)[0]]

    def follow(self, image: np.ndarray, last: Pose) -> Pose:  # type: ignore[type-arg]
        return person(0.5)[0]

    def close(self) -> None: ...

    def __enter__(self) -> FakeDetector:
        return self

    def __exit__(self, *_: object) -> None: ...


def test_a_test_set_is_built_and_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semibody.pose.detect.open_detector", lambda name: FakeDetector())
    videos = tmp_path / "videos"
    videos.mkdir()
    made.write_video(videos / "one.mp4", frames=12, fps=12)
    made.write_video(videos / "silent.mp4", frames=6, sound=False)
    problems = emtd.build(videos, tmp_path / "set")
    assert [problem.name for problem in problems] == ["silent"]
    items, _ = pair_clips(tmp_path / "set")
    assert [item.name for item in items] == ["one"]
    clip = media.read_clip(items[0].generated)
    assert clip.frames.shape[1:] == (768, 768, 3)
    assert clip.fps == 24
    assert items[0].gesture is not None
    assert len(load_gesture(items[0].gesture)) == len(clip)
    with pytest.raises(SemibodyError, match="holds no videos"):
        emtd.build(tmp_path / "nowhere", tmp_path / "set")
