"""What the restorer is shown: whole pictures that were generated, and crops of faces."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from semibody.networks.loading import save_model
from semibody.networks.model import Model
from semibody.training.recipe import Recipe, load_recipe
from semibody.training.restoring import RestoringTask
from semibody.training.samples import coverage
from semibody.training.trainer import Training
from semibody.types import SemibodyError, silent
from training.nano import nano, packed


def restoring(folder: Path, clips: Path, *changes: str) -> tuple[RestoringTask, Recipe]:
    """The stage on random networks: nothing here depends on what they know."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_model(folder / "weights", Model(nano().model))
    recipe = nano('stages=["restore"]', f"start.weights={folder / 'weights'}", *changes)
    training = Training(recipe, folder / "run")
    task = training.task("restore", training.pack(None, clips, silent), silent)
    assert isinstance(task, RestoringTask)
    return task, recipe


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(tmp_path_factory.mktemp("drawn"))


def test_steps_are_whole_pictures_or_faces_and_the_same_every_time(tmp_path: Path, clips: Path) -> None:
    task, recipe = restoring(tmp_path, clips)
    batches = [task.batch(step, [0, 1]) for step in range(12)]
    faces = [batch.crops is not None for batch in batches]
    assert 0 < sum(faces) < len(faces)
    again = task.batch(faces.index(True), [0, 1])
    assert torch.equal(again.truth, batches[faces.index(True)].truth)
    for batch in batches:
        times = recipe.restore.face_samples if batch.crops is not None else 1
        assert batch.truth.shape == (2 * times, 2, 3, 64, 64)
        assert batch.told.latents.shape[:2] == (2 * times, 2)


def test_a_crop_holds_the_face_at_one_place_in_everything(tmp_path: Path, clips: Path) -> None:
    task, _ = restoring(tmp_path, clips, "restore.faces=1")
    batch = task.batch(0, [0, 1])
    assert batch.crops is not None
    cut = batch.cropped(4, 8)
    assert cut.crops is None
    assert cut.portrait.shape == (4, 3, 32, 32)
    assert cut.truth.shape == (4, 2, 3, 32, 32)
    assert cut.told.portrait.shape[-2:] == (4, 4)
    for i, (y, x) in enumerate(batch.crops.tolist()):
        rows, columns = slice(8 * y, 8 * y + 32), slice(8 * x, 8 * x + 32)
        assert torch.equal(cut.portrait[i], batch.portrait[i, :, rows, columns])
        assert torch.equal(cut.weight[i], batch.weight[i, :, :, rows, columns])
        assert torch.equal(cut.told.portrait[i], batch.told.portrait[i, :, y : y + 4, x : x + 4])
    losses = task.losses(task.module, batch)
    losses["loss"].backward()
    gradients = {n: p.grad for n, p in task.module.named_parameters()}
    assert gradients["restorer.conv_out.weight"] is not None
    assert all(p.grad is None for n, p in task.model.named_parameters() if not n.startswith("restorer."))


def test_hands_do_not_count_in_faces_and_count_more_in_whole_pictures(tmp_path: Path, clips: Path) -> None:
    task, _ = restoring(tmp_path, clips, "restore.hands=5")
    clip = next(clip for clip in task.held_out if "left_hand" in clip.boxes(0))
    hand = torch.from_numpy(coverage(clip.boxes(0)["left_hand"], 64, 64))
    seen = {}
    for faces in (False, True):
        task.samples.choose = lambda *_: (clip, [0, 1], clip, 0)  # type: ignore[method-assign]
        given = task._sample(0, 0, faces=faces)
        seen[faces] = torch.from_numpy(given["weight"][0, 0])[hand == 1]
    assert (seen[False] >= 5).all()
    assert not seen[True].any()


def test_an_ear_that_was_taught_rests(tmp_path: Path, clips: Path) -> None:
    changes = ["model.audio.mouth_token=true", "model.restorer={}", 'stages=["still"]']
    with torch.random.fork_rng(devices=[]):
        save_model(tmp_path / "weights", Model(nano(*changes).model))
    recipe = nano(*changes, f"start.weights={tmp_path / 'weights'}", "loss.pose=0", "loss.low=0")
    training = Training(recipe, tmp_path / "run")
    task = training.task("still", training.pack(None, clips, silent), silent)
    trained = [name for name, p in task.module.named_parameters() if p.requires_grad]
    assert trained
    assert not [name for name in trained if name.startswith("audio_encoder.")]


def test_the_stage_needs_a_restorer() -> None:
    with pytest.raises(SemibodyError, match=r"model\.restorer"):
        load_recipe("tiny", ['stages=["restore"]'])
