"""The restorer's samples: pictures that are generated once, whole and in crops."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from semibody.networks.loading import save_model
from semibody.networks.model import Model
from semibody.training import checkpoint
from semibody.training.parts import coverage
from semibody.training.recipe import Recipe, load_recipe
from semibody.training.samples import Draw, PortraitFrame
from semibody.training.stages.restore import RestoreStage
from semibody.training.trainer import Training
from semibody.types import SemibodyError, silent
from training.nano import nano, packed


def restoring(folder: Path, clips: Path, *changes: str, seed: int = 0) -> tuple[RestoreStage, Recipe]:
    """The stage on random networks: nothing here depends on what they know."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        save_model(folder / "weights", Model(nano().model))
    recipe = nano('stages=["restore"]', f"start.weights={folder / 'weights'}", *changes)
    training = Training(recipe, folder / "run")
    task = training.build("restore", training.packed(clips), silent)
    assert isinstance(task, RestoreStage)
    return task, recipe


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(tmp_path_factory.mktemp("drawn"))


def test_the_pool_is_generated_once_and_used_in_every_step(tmp_path: Path, clips: Path) -> None:
    task, recipe = restoring(tmp_path, clips)
    made = sorted(task.pool.folder.iterdir())
    assert len(made) == recipe.restore.pool
    before = [path.stat().st_mtime_ns for path in made]

    def refuse(_: object) -> None:
        raise AssertionError("nothing is generated twice, and no step generates")

    task._generated = refuse  # type: ignore[assignment, method-assign]
    task.prepare(range(recipe.restore.pool))
    for step in range(4):
        task.batch(step, [0, 1])
    assert [path.stat().st_mtime_ns for path in made] == before
    made[0].unlink()
    with pytest.raises(AssertionError, match="nothing is generated twice"):
        task.prepare(range(recipe.restore.pool))


def test_other_weights_have_another_pool(tmp_path: Path, clips: Path) -> None:
    task, _ = restoring(tmp_path / "a", clips)
    same, _ = restoring(tmp_path / "b", clips)
    other, _ = restoring(tmp_path / "c", clips, seed=1)
    settings, _ = restoring(tmp_path / "d", clips, "data.calm=0.5")
    assert task.pool.folder.name == same.pool.folder.name
    assert len({one.pool.folder.name for one in (task, other, settings)}) == 3


def test_steps_are_whole_pictures_or_crops_and_the_same_every_time(tmp_path: Path, clips: Path) -> None:
    task, recipe = restoring(tmp_path, clips)
    batches = [task.batch(step, [0, 1]) for step in range(12)]
    sizes = [batch.truth.shape for batch in batches]
    assert set(sizes) == {(2, 2, 3, 64, 64), (2 * recipe.restore.crop_samples, 2, 3, 32, 32)}
    for step in (sizes.index(size) for size in set(sizes)):
        again, batch = task.batch(step, [0, 1]), batches[step]
        assert again.names == batch.names
        assert torch.equal(again.truth, batch.truth)
        assert torch.equal(again.decoded, batch.decoded)


def test_a_crop_cuts_all_arrays_at_the_same_place(tmp_path: Path, clips: Path) -> None:
    """Pictures that tell where a pixel was, and that only a crop at one place can satisfy."""
    task, _ = restoring(tmp_path, clips)
    clip = next(clip for clip in task.held_out if "left_hand" in clip.boxes(0))
    ys, xs = np.indices((64, 64)).astype(np.uint8)
    placed = np.stack([ys, xs, ys])
    made = {
        **task.pool.read(0),
        "decoded": np.stack([placed, placed]),
        "truth": np.stack([placed, placed]),
        "portrait": placed,
        "lips": placed[:1, ::8, ::8].astype(np.float32),
        "weight": np.stack([placed[:1], placed[:1]]).astype(np.float32),
        "name": "",
    }
    for seed in range(8):
        cut = task._cropped(made, Draw(clip, [0, 0], PortraitFrame(clip, 0)), np.random.default_rng(seed))
        top, left = cut["portrait"][:2, 0, 0]
        assert top % 8 == left % 8 == 0
        window = placed[:, top : top + 32, left : left + 32]
        assert np.array_equal(cut["portrait"], window)
        for name in ("decoded", "truth"):
            assert np.array_equal(cut[name][1], window)
        assert np.array_equal(cut["weight"][0], window[:1])
        assert np.array_equal(cut["lips"], window[:1, ::8, ::8])
        assert cut["maps"].shape == (2, 3, 32, 32)
        assert np.array_equal(cut["mouth"], made["mouth"])
        corners = clip.boxes(0).values()
        overlap = [
            min(x1 * 64, left + 32) > max(x0 * 64, left) and min(y1 * 64, top + 32) > max(y0 * 64, top)
            for x0, y0, x1, y1 in corners
        ]
        assert any(overlap)


def test_only_the_restorer_is_trained_and_change_has_a_weight(tmp_path: Path, clips: Path) -> None:
    task, _ = restoring(tmp_path, clips, "restore.crops=0")
    losses = task.losses(task.module, task.batch(0, [0, 1]))
    losses["loss"].backward()
    assert task.model.restorer is not None
    assert task.model.restorer.conv_out.weight.grad is not None
    assert all(p.grad is None for n, p in task.model.named_parameters() if not n.startswith("restorer."))
    batch = task.batch(0, [0, 1])
    off = torch.full_like(batch.truth, 100)
    # The same error in both frames is no change.
    steady = dataclasses.replace(batch, decoded=off, truth=off + 20)
    flickers = dataclasses.replace(
        batch, decoded=off, truth=off + torch.tensor([0, 40]).view(1, 2, 1, 1, 1).to(off)
    )
    assert task.losses(task.module, steady)["change"] < 1e-3
    assert task.losses(task.module, flickers)["change"] > 0.2


def test_the_critic_is_trained_beside_the_restorer_and_not_exported(tmp_path: Path, clips: Path) -> None:
    task, _ = restoring(tmp_path / "a", clips, "restore.adversarial=0.1")
    names = checkpoint.trained(task.module)
    assert {name.split(".")[0] for name in names} == {"restorer", "critic"}
    task.module.train()
    losses = task.losses(task.module, task.batch(0, [0, 1]))
    expected = losses["l1"] + task.settings.gradient * losses["slopes"] + task.settings.ssim * losses["ssim"]
    expected = expected + task.settings.change * losses.get("change", torch.zeros(()))
    torch.testing.assert_close(losses["loss"], expected + 0.1 * losses["adversarial"] + losses["critic"])
    losses["loss"].backward()
    assert all(p.grad is not None for name, p in names.items() if name.startswith("critic."))
    # Figures are of the restorer alone.
    task.module.eval()
    assert "critic" not in task.losses(task.module, task.batch(0, [0, 1]))
    # It is initialised from the recipe's seed, whatever was drawn before.
    torch.rand(1)
    again, _ = restoring(tmp_path / "a", clips, "restore.adversarial=0.1")
    for (name, one), (_, other) in zip(
        task.module.named_parameters(), again.module.named_parameters(), strict=True
    ):
        assert torch.equal(one, other), name
    alone, _ = restoring(tmp_path / "b", clips)
    assert {name.split(".")[0] for name in checkpoint.trained(alone.module)} == {"restorer"}
    assert {k for k, _ in task.model.named_parameters()} == {k for k, _ in alone.model.named_parameters()}


def test_hands_are_weighted_more(tmp_path: Path, clips: Path) -> None:
    task, _ = restoring(tmp_path, clips, "restore.hands=5")
    clip = next(clip for clip in task.held_out if "left_hand" in clip.boxes(0))
    hand = coverage(clip.boxes(0)["left_hand"], 64, 64)
    weight = task._pictures(task.pool.read(0), Draw(clip, [0, 1], PortraitFrame(clip, 0)))["weight"]
    assert (weight[0, 0][hand == 1] >= 5).all()


def test_a_trained_audio_encoder_stays_frozen(tmp_path: Path, clips: Path) -> None:
    changes = ["model.audio.mouth_token=true", "model.restorer={}", 'stages=["still"]']
    with torch.random.fork_rng(devices=[]):
        save_model(tmp_path / "weights", Model(nano(*changes).model))
    recipe = nano(*changes, f"start.weights={tmp_path / 'weights'}", "loss.pose=0", "loss.low=0")
    training = Training(recipe, tmp_path / "run")
    task = training.build("still", training.packed(clips), silent)
    trained = [name for name, p in task.module.named_parameters() if p.requires_grad]
    assert trained
    assert not [name for name in trained if name.startswith("audio_encoder.")]


def test_the_stage_needs_a_restorer() -> None:
    with pytest.raises(SemibodyError, match=r"model\.restorer"):
        load_recipe("tiny", ['stages=["restore"]'])
