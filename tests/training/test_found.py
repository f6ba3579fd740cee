"""Portraits come with the pose that a detector finds in them, as when animating."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semibody.data import found
from semibody.data.dataset import PackedClip
from semibody.data.found import FoundPoses
from semibody.pose.limbs import limb_cover
from semibody.training.plates import uncovered
from semibody.training.restoring import RestoringTask
from semibody.training.samples import DenoisingSamples
from semibody.training.tasks import DenoisingTask
from semibody.training.trainer import Training, train
from semibody.types import Picture, Pose, silent
from training.nano import nano, packed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(tmp_path_factory.mktemp("drawn"))


@pytest.fixture
def clips(folder: Path, tmp_path: Path) -> list[PackedClip]:
    return Training(nano(), tmp_path / "run").pack(None, folder, silent)


class Seer:
    """Finds people a little beside where they are, and nobody in the first picture it is shown."""

    def __init__(self, clip: PackedClip) -> None:
        self.clip, self.shown = clip, 0

    def people(self, picture: Picture) -> list[Pose]:
        np.testing.assert_array_equal(picture, self.clip.pictures([self.shown])[0])
        self.shown += 1
        pose = self.clip.pose(self.shown - 1)
        return [Pose(pose.joints + 0.03, pose.confidence)] if self.shown > 1 else []


def test_who_is_not_found_is_where_the_truth_says(
    clips: list[PackedClip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = clips[0]
    seer, poses = Seer(clip), FoundPoses(tmp_path / "found")
    monkeypatch.setattr(found, "_detector", lambda: seer)
    found._find(str(clip.path), str(poses.path(clip)))
    assert seer.shown == len(clip)
    np.testing.assert_allclose(poses.pose(clip, 0).joints, clip.pose(0).joints, atol=1e-6)
    for frame in (1, len(clip) - 1):
        np.testing.assert_allclose(poses.pose(clip, frame).joints, clip.pose(frame).joints + 0.03, atol=1e-6)
        np.testing.assert_array_equal(poses.pose(clip, frame).confidence, clip.pose(frame).confidence)


class Beside(FoundPoses):
    """Everybody a little beside where they are."""

    def pose(self, clip: PackedClip, frame: int) -> Pose:
        exact = clip.pose(frame)
        return Pose(exact.joints + 0.05, exact.confidence)


def denoising(folder: Path, clips: list[PackedClip]) -> DenoisingSamples:
    train(nano('stages=["vae","plate"]'), folder, packed=clips[0].path.parent.parent)
    task = Training(nano("loss.pose=0"), folder).task("still", clips, silent)
    assert isinstance(task, DenoisingTask)
    return task.samples


def test_only_the_portrait_is_found(clips: list[PackedClip], tmp_path: Path) -> None:
    samples, clip = denoising(tmp_path / "run", clips), clips[0]

    def given() -> dict[str, Any]:
        return samples.given(clip, [4, 5], clip, 0, np.random.default_rng(0))

    exact = given()
    clip.found = Beside(tmp_path)
    as_found = given()
    for name in ("portrait_pose", "hidden", "limbs"):
        assert not np.array_equal(as_found[name], exact[name]), name
    for name in ("latents", "portrait", "picture", "pose", "weight"):
        np.testing.assert_array_equal(as_found[name], exact[name])
    cover = limb_cover(clip.portrait_pose(0), clip.size, clip.size)
    np.testing.assert_array_equal(as_found["hidden"][0], cover)
    np.testing.assert_array_equal(uncovered(clip, 0, 2, 5.0, np.random.default_rng(0))["hidden"][0], cover)


def test_the_restorer_is_given_limbs_from_where_they_were_found(folder: Path, tmp_path: Path) -> None:
    recipe = nano('stages=["vae","plate","still","restore"]', "loss.pose=0")
    train(recipe, tmp_path, packed=folder)
    training = Training(recipe, tmp_path)
    clips = training.pack(None, folder, silent)
    task = training.task("restore", clips, silent)
    assert isinstance(task, RestoringTask)
    clip = next(iter(clips))
    exact = task._pictures({}, clip, [4], clip, 0)
    clip.found = Beside(tmp_path)
    as_found = task._pictures({}, clip, [4], clip, 0)
    assert not np.array_equal(as_found["limbs"], exact["limbs"])
    for name in ("portrait", "truth", "weight"):
        np.testing.assert_array_equal(as_found[name], exact[name])


def test_a_training_looks_for_everybody_once(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("mediapipe")
    recipe = nano("data.found_portraits=true", 'stages=["plate"]')
    train(recipe, tmp_path, packed=folder)
    made = sorted((tmp_path / "found-24fps").iterdir())
    assert [path.name for path in made] == [f"{p.name.split('.')[0]}.found.safetensors" for p in sorted(
        folder.rglob("*.clip.safetensors")
    )]  # fmt: skip
    times = [path.stat().st_mtime_ns for path in made]
    train(recipe, tmp_path, packed=folder, resume=True)
    assert [path.stat().st_mtime_ns for path in made] == times
