"""Training the network of the clean plate, on other frames of the same clip."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from semibody.data.dataset import PackedClip
from semibody.networks.loading import save_model
from semibody.networks.model import Model
from semibody.pose.limbs import limb_cover
from semibody.training import checkpoint
from semibody.training.denoiser import Denoiser
from semibody.training.pictures import to_pixels
from semibody.training.samples import DenoisingBatch
from semibody.training.stages.denoise import DenoisingStage
from semibody.training.stages.plate import PlateStage, augmented, similar_frames, uncovered
from semibody.training.trainer import Training, train
from semibody.types import SemibodyError, silent
from training.nano import nano


def test_the_truth_behind_the_arms_is_what_other_frames_show(
    clips: list[PackedClip],
) -> None:
    clip = clips[0]
    made = uncovered(clip, 0, len(clip), 5.0, np.random.default_rng(0))
    portrait, hidden, truth, weight = (made[k] for k in ("portrait", "hidden", "truth", "weight"))
    np.testing.assert_array_equal(portrait, clip.pictures([0])[0].transpose(2, 0, 1))
    np.testing.assert_array_equal(hidden[0], limb_cover(clip.pose(0), clip.size, clip.size))
    bare = hidden[0] == 0
    np.testing.assert_array_equal(truth[:, bare], portrait[:, bare])
    assert set(np.unique(weight)) <= {0.0, 1.0, 5.0}
    np.testing.assert_array_equal(weight[0] == 1, bare)
    found = weight[0] == 5
    assert found.any(), "hands move in drawn clips"
    visible = np.zeros_like(found)
    for frame in range(1, len(clip)):
        free = limb_cover(clip.pose(frame), clip.size, clip.size) == 0
        visible |= free & (clip.pictures([frame])[0].transpose(2, 0, 1) == truth).all(axis=0)
    assert visible[found].all(), "every pixel behind the arms is that of a frame that has no arms there"


def test_other_frames_are_those_with_the_nearest_shoulders(clips: list[PackedClip]) -> None:
    clip = clips[0]
    trunk = clip.gesture().joints[:, [1, 2, 5]]
    away = np.linalg.norm(trunk - trunk[3], axis=-1).mean(axis=-1)
    chosen = similar_frames(clip, 3, 2, np.random.default_rng(0))
    assert 3 not in chosen
    assert len(set(chosen)) == 2
    assert list(away[chosen]) == sorted(away[chosen])
    assert max(away[chosen]) <= np.median(np.delete(away, 3)) + 1e-9
    assert len(similar_frames(clip, 3, 100, np.random.default_rng(0))) == (len(clip) - 1) // 2


def test_all_arrays_of_a_sample_get_the_same_augmentation(clips: list[PackedClip]) -> None:
    made = uncovered(clips[0], 0, 4, 5.0, np.random.default_rng(0))
    samples = [augmented(made, np.random.default_rng(seed), 0.3) for seed in range(8)]
    turned = [not np.array_equal(one["hidden"], made["hidden"]) for one in samples]
    assert any(turned)
    assert not all(turned)
    for one, mirrored in zip(samples, turned, strict=True):
        flip = np.s_[..., ::-1] if mirrored else np.s_[...]
        for name in ("hidden", "weight"):
            np.testing.assert_array_equal(one[name], made[name][flip])
        bare = one["hidden"][0] == 0
        np.testing.assert_array_equal(one["truth"][:, bare], one["portrait"][:, bare])
        for channel in range(3):
            before, after = made["truth"][channel][flip].ravel(), one["truth"][channel].ravel()
            gain = after[before == before.max()][0] / before.max()
            assert 0.69 < gain < 1.31
    same = augmented(made, np.random.default_rng(0), 0.0)
    assert np.array_equal(np.sort(same["truth"].ravel()), np.sort(made["truth"].ravel()))


def test_pixels_that_no_frame_shows_have_no_weight(
    folder: Path, tmp_path: Path, clips: list[PackedClip]
) -> None:
    task = Training(nano(), tmp_path / "run").build("plate", clips, silent)
    assert isinstance(task, PlateStage)
    batch = task.batch(0, [0, 1])
    assert torch.equal(task.batch(0, [0, 1]).truth, batch.truth), "the same every time"
    before = task.losses(task.module, batch)["loss"]
    unknown = (batch.weight == 0).expand_as(batch.truth)
    assert unknown.any()
    batch.truth[unknown] = 255 - batch.truth[unknown]
    torch.testing.assert_close(task.losses(task.module, batch)["loss"], before)
    batch.truth[~unknown] = 255 - batch.truth[~unknown]
    assert task.losses(task.module, batch)["loss"] > 2 * before
    figures, picture = task.validate()
    assert set(figures) == {"psnr", "around", "repeat"}
    assert picture is not None
    assert picture.shape[1] == 4 * 64


def test_the_critic_is_given_known_pixels_and_not_exported(
    folder: Path, tmp_path: Path, clips: list[PackedClip]
) -> None:
    task = Training(nano("plate.adversarial=0.1"), tmp_path / "run").build("plate", clips, silent)
    assert isinstance(task, PlateStage)
    names = checkpoint.trained(task.module)
    assert {name.split(".")[0] for name in names} == {"plate", "critic"}
    task.module.train()
    batch = task.batch(0, [0, 1])
    losses = task.losses(task.module, batch)
    expected = losses["l1"] + task.settings.gradient * losses["slopes"] + task.settings.ssim * losses["ssim"]
    torch.testing.assert_close(losses["loss"], expected + 0.1 * losses["adversarial"] + losses["critic"])
    losses["loss"].backward()
    assert all(p.grad is not None for name, p in names.items() if name.startswith("critic."))
    # Unknown pixels are the same in both pictures that the critic compares.
    unknown = (batch.weight == 0).expand_as(batch.truth)
    batch.truth[unknown] = 255 - batch.truth[unknown]
    again = task.losses(task.module, batch)
    for name in ("critic", "adversarial"):
        torch.testing.assert_close(again[name], losses[name])
    # Nor do they get a gradient, although the critic's receptive field reaches 20 pixels into them.
    plates = []

    def keep(_: object, __: object, plate: torch.Tensor) -> None:
        plate.retain_grad()
        plates.append(plate)

    hook = task.plate.register_forward_hook(keep)
    task.losses(task.module, batch)["adversarial"].backward()
    hook.remove()
    gradient = plates[0].grad
    assert gradient is not None
    assert gradient[unknown].abs().max() == 0
    assert gradient[~unknown].abs().max() > 0
    task.module.eval()
    assert "critic" not in task.losses(task.module, batch)
    train(nano('stages=["vae","plate"]', "plate.adversarial=0.1"), tmp_path / "run", packed=folder)
    still = Training(nano("plate.adversarial=0.1", "loss.pose=0"), tmp_path / "run").build("still", clips)
    assert isinstance(still, DenoisingStage)
    model = still.model
    assert model.plate is not None
    final = Training(nano(), tmp_path / "run").final("plate")
    assert final is not None
    for name, value in model.plate.state_dict().items():
        torch.testing.assert_close(value, final.weights[f"plate.{name}"])


def test_the_denoiser_gets_the_same_plate_as_when_animating(
    folder: Path, tmp_path: Path, clips: list[PackedClip]
) -> None:
    train(nano('stages=["vae","plate"]'), tmp_path / "run", packed=folder)
    task = Training(nano("loss.pose=0"), tmp_path / "run").build("still", clips, silent)
    assert isinstance(task, DenoisingStage)
    assert isinstance(task.module, Denoiser)
    batch = task.batch(0, [0, 1])
    by_id = {clip.id: clip for clip in clips}
    assert batch.picture is not None and batch.hidden is not None
    assert batch.picture.shape == (2, 3, 64, 64)
    plate = task.module.conditions(batch).base
    assert plate is not None
    assert not plate.requires_grad
    assert task.model.plate is not None
    for i in range(2):
        clip = by_id[batch.names[i].split(":")[0]]
        frames = [k for k in range(len(clip)) if np.array_equal(clip.pictures([k])[0], picture(batch, i))]
        covers = [limb_cover(clip.pose(k), 64, 64) for k in frames]
        assert any(np.array_equal(batch.hidden[i, 0].numpy(), cover) for cover in covers)
        predicted = task.model.plate(to_pixels(batch.picture[i : i + 1]), batch.hidden[i : i + 1])
        torch.testing.assert_close(plate[i : i + 1], task.model.encode(predicted), atol=1e-5, rtol=1e-4)
    assert (plate - batch.portrait).abs().max() > 1e-3
    plain = Training(nano("loss.pose=0", "model.plate_latents=false"), tmp_path / "run").build(
        "still", clips, silent
    )
    assert isinstance(plain, DenoisingStage)
    without = plain.batch(0, [0, 1])
    assert without.picture is None and without.hidden is None
    assert isinstance(plain.module, Denoiser)
    base = plain.module.conditions(without).base
    assert base is not None
    assert torch.equal(base, without.portrait)


def picture(batch: DenoisingBatch, number: int) -> NDArray[np.uint8]:
    assert batch.picture is not None
    return batch.picture[number].permute(1, 2, 0).numpy()


def test_padded_heads_alone_are_refused(clips: list[PackedClip], tmp_path: Path) -> None:
    for clip in clips:
        clip.kind = "head"
    with pytest.raises(SemibodyError, match="half-body clips"):
        Training(nano(), tmp_path / "run").build("plate", clips, silent)


def test_a_restorer_conditioned_on_plates_needs_their_network(
    folder: Path, tmp_path: Path, clips: list[PackedClip]
) -> None:
    config = nano().model
    assert config.restorer is not None
    restorer = dataclasses.replace(config.restorer, plate=False)
    hints = dataclasses.replace(config.hints, base="portrait")
    bare = dataclasses.replace(config, plate=None, hints=hints, restorer=restorer)
    save_model(tmp_path / "weights", Model(bare))
    recipe = nano('stages=["restore"]', f"start.weights={tmp_path / 'weights'}")
    with pytest.raises(SemibodyError, match="add the stage plate"):
        Training(recipe, tmp_path / "run").build("restore", clips, silent)
