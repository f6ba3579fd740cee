"""Portraits come with the pose that a detector finds in them, as when animating."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semibody.data import found
from semibody.data.dataset import PackedClip
from semibody.data.found import find_poses
from semibody.pose.limbs import limb_cover
from semibody.training.samples import DenoisingSamples, Draw, PortraitFrame
from semibody.training.stages.denoise import DenoisingStage
from semibody.training.stages.plate import uncovered
from semibody.training.stages.restore import RestoreStage
from semibody.training.trainer import Training, train
from semibody.types import Picture, Pose, silent
from training.nano import nano


class Detector:
    """Detects people with an offset, and no person in the first picture."""

    def __init__(self, clip: PackedClip) -> None:
        self.clip, self.count = clip, 0

    def people(self, picture: Picture) -> list[Pose]:
        np.testing.assert_array_equal(picture, self.clip.pictures([self.count])[0])
        self.count += 1
        pose = self.clip.pose(self.count - 1)
        return [Pose(pose.joints + 0.05, pose.confidence)] if self.count > 1 else []


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Path:
    """A training up to the stage before the restorer."""
    out = tmp_path_factory.mktemp("found") / "run"
    train(nano('stages=["vae","plate","still"]', "loss.pose=0"), out, packed=folder)
    return out


@pytest.fixture
def detect(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[PackedClip], PackedClip]:
    """Detects the poses in a copy of a clip with ``Detector``."""

    def detected(clip: PackedClip) -> PackedClip:
        copy = PackedClip(Path(shutil.copy(clip.path, tmp_path)))
        detector = Detector(copy)
        monkeypatch.setattr(found, "_detector", lambda: detector)
        monkeypatch.setattr(found, "in_processes", lambda function, jobs, _: (function(*job) for job in jobs))
        find_poses([copy])
        assert detector.count == len(copy)
        find_poses([copy])
        assert detector.count == len(copy), "no person is detected twice"
        return copy

    return detected


def test_a_person_who_is_not_detected_has_the_true_pose(
    clips: list[PackedClip], detect: Callable[[PackedClip], PackedClip]
) -> None:
    clip = detect(clips[0])
    np.testing.assert_array_equal(clips[0].portrait_pose(1).joints, clip.pose(1).joints)
    np.testing.assert_allclose(clip.portrait_pose(0).joints, clip.pose(0).joints, atol=1e-6)
    for frame in (1, len(clip) - 1):
        np.testing.assert_allclose(
            clip.portrait_pose(frame).joints, clip.pose(frame).joints + 0.05, atol=1e-6
        )
        np.testing.assert_array_equal(clip.portrait_pose(frame).confidence, clip.pose(frame).confidence)


def denoising(folder: Path, clips: list[PackedClip]) -> DenoisingSamples:
    task = Training(nano("loss.pose=0"), folder).build("still", clips, silent)
    assert isinstance(task, DenoisingStage)
    return task.samples


def test_only_the_portraits_pose_is_detected(
    clips: list[PackedClip], detect: Callable[[PackedClip], PackedClip], trained: Path
) -> None:
    samples, clip = denoising(trained, clips), clips[0]

    def sample(clip: PackedClip) -> dict[str, Any]:
        return samples.at_pure_noise(Draw(clip, [4, 5], PortraitFrame(clip, 1)), np.random.default_rng(0))

    copy = detect(clip)
    exact, as_found = sample(clip), sample(copy)
    for name in ("portrait_pose", "hidden"):
        assert not np.array_equal(as_found[name], exact[name]), name
    assert not np.array_equal(as_found["hints"]["limbs"], exact["hints"]["limbs"])
    for name in ("latents", "portrait", "picture", "pose", "weight"):
        np.testing.assert_array_equal(as_found[name], exact[name])
    cover = limb_cover(copy.portrait_pose(1), copy.size, copy.size)
    np.testing.assert_array_equal(as_found["hidden"][0], cover)
    np.testing.assert_array_equal(uncovered(copy, 1, 2, 5.0, np.random.default_rng(0))["hidden"][0], cover)


def test_the_restorers_limbs_are_carried_from_the_detected_pose(
    folder: Path, detect: Callable[[PackedClip], PackedClip], trained: Path
) -> None:
    training = Training(nano('stages=["vae","plate","still","restore"]', "loss.pose=0"), trained)
    clips = training.packed(folder)
    task = training.build("restore", clips, silent)
    assert isinstance(task, RestoreStage)
    exact, as_found = (
        task._pictures({}, Draw(clip, [4], PortraitFrame(clip, 1))) for clip in (clips[0], detect(clips[0]))
    )
    assert not np.array_equal(as_found["limbs"], exact["limbs"])
    for name in ("portrait", "truth", "weight"):
        np.testing.assert_array_equal(as_found[name], exact[name])


def test_a_training_detects_every_person_once(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("mediapipe")
    own = Path(shutil.copytree(folder, tmp_path / "packed"))
    recipe = nano("data.found_portraits=true", 'stages=["plate"]')
    train(recipe, tmp_path / "run", packed=own)
    made = {path.name: path.stat().st_mtime_ns for path in own.rglob("*.found.safetensors")}
    assert len(made) == len(list(own.rglob("*.clip.safetensors")))
    train(recipe, tmp_path / "run", packed=own, resume=True)
    assert {path.name: path.stat().st_mtime_ns for path in own.rglob("*.found.safetensors")} == made
