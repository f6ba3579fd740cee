"""The stage of the audio encoder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from semibody.data.dataset import packed_clips
from semibody.training.recipe import load_recipe
from semibody.training.stages.audio import AudioStage, mouths
from semibody.training.trainer import Training
from semibody.types import SemibodyError
from training.nano import nano, packed
from training.test_samples import PACKING

EAR = ("model.audio.mouth_token=true", "model.unet.audio_time_tokens=5")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return packed(tmp_path)


def test_it_learns_to_predict_the_jaw(folder: Path, tmp_path: Path) -> None:
    task = Training(nano(*EAR), tmp_path / "run").build("audio", packed_clips(folder, PACKING))
    assert isinstance(task, AudioStage)
    encoder = task.encoder
    adam = torch.optim.AdamW(task.module.parameters(), lr=3e-3)
    losses = []
    for step in range(150):
        found = task.losses(task.module, task.batch(step, range(16)))
        adam.zero_grad()
        found["loss"].backward()
        adam.step()
        losses.append(float(found["jaw"].detach()))
    assert sum(losses[-10:]) < 0.3 * sum(losses[:10])
    figures, _ = task.validate()
    assert figures["jaw_r"] > 0.5
    windows = task.batch(0, range(16)).windows
    tokens, predicted = encoder.embed(windows), encoder.predict_mouth(windows)
    assert tokens.shape[1] == encoder.tokens_per_frame
    torch.testing.assert_close(tokens[:, -1], encoder.tell(predicted))


def test_targets_are_jaw_and_width_of_the_mouth(folder: Path) -> None:
    clip = packed_clips(folder, PACKING)[0]
    targets = mouths(clip)
    assert targets.shape == (len(clip), 2)
    assert (targets[:, 0] == clip.jaw()).all()


def test_the_still_stage_keeps_the_encoder_frozen(folder: Path, tmp_path: Path) -> None:
    recipe = nano(
        *EAR,
        'stages=["vae","audio","still"]',
        "model.plate_latents=false",
        "audio.optimiser.steps=3",
        "audio.optimiser.batch=4",
        "loss.pose=0",
    )
    training = Training(recipe, tmp_path / "run")
    clips = training.packed(folder)
    for stage in ("vae", "audio"):
        assert training.run_stage(stage, clips, float("inf"), lambda *_: None)
    learned = training.final("audio")
    assert learned is not None
    assert training.run_stage("still", clips, float("inf"), lambda *_: None)
    still = training.final("still")
    assert still is not None
    for name, value in learned.weights.items():
        if name.startswith("audio_encoder."):
            torch.testing.assert_close(still.weights[name], value, atol=0, rtol=0)


def test_pretrained_encoders_have_no_audio_stage() -> None:
    with pytest.raises(SemibodyError, match="are pretrained"):
        load_recipe("official", ['stages=["audio","still"]'])
    with pytest.raises(SemibodyError, match="mouth_token"):
        nano('stages=["vae","audio","still"]')
