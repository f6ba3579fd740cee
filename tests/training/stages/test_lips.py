"""The stage of the network that hears the lips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from semibody.clips.mouth import SHAPES
from semibody.data.dataset import packed_clips
from semibody.data.synthetic.utterances import Utterance
from semibody.training.stages import lips as stage
from semibody.training.stages.lips import LipStage
from semibody.training.trainer import Training
from semibody.types import SemibodyError
from training.nano import nano, packed
from training.test_samples import PACKING

EAR = (
    "model.audio.mouth_token=true", "model.unet.audio_time_tokens=5", "model.lips.width=16",
    "model.lips.layers=2", "model.lips.after=4", "lips.utterances=6", "lips.songs=2",
    "lips.rows=120",
)  # fmt: skip


def sung(rng: np.random.Generator, seconds: float, **_: object) -> Utterance:
    """A low tone with an open mouth and a high one with pressed lips, in turns."""
    rows = round(100 * seconds)
    mouth, power = np.zeros((rows, 6), np.float32), np.full((rows, 80), 1e-6, np.float32)
    low = (np.arange(rows) // 25 + rng.integers(2)) % 2 == 0
    mouth[low, SHAPES.index("jaw")], mouth[~low, SHAPES.index("press")] = 0.9, 0.9
    power[np.ix_(low, np.arange(5, 12))] = power[np.ix_(~low, np.arange(50, 60))] = 1.0
    return Utterance(power, mouth)


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LipStage:
    monkeypatch.setattr(stage, "make_utterance", sung)
    monkeypatch.setattr(stage, "make_song", sung)
    monkeypatch.setattr(stage, "_NOISES", 2)
    monkeypatch.setattr(stage, "_VALIDATED", 4)
    clips = packed_clips(packed(tmp_path), PACKING)
    built = Training(nano(*EAR), tmp_path / "run").build("lips", clips)
    assert isinstance(built, LipStage)
    return built


def test_it_learns_which_lips_a_sound_is_made_with(task: LipStage) -> None:
    before, _ = task.validate()
    adam = torch.optim.AdamW(task.module.parameters(), lr=5e-3)
    for step in range(60):
        adam.zero_grad()
        task.losses(task.module, task.batch(step, range(8)))["loss"].backward()
        adam.step()
    figures, _ = task.validate()
    assert figures["jaw_r"] > max(0.6, before["jaw_r"] + 0.2)
    assert figures["press_r"] > 0.6


def test_samples_depend_on_their_numbers_alone_and_fit_the_windows(task: LipStage) -> None:
    first, again, other = task.batch(3, [0, 1]), task.batch(3, [1]), task.batch(4, [1])
    assert torch.equal(first.rows[1], again.rows[0])
    assert not torch.equal(first.rows[1], other.rows[0])
    logits = task.module(first.rows)
    assert logits.shape == first.mouth.shape


def test_a_model_without_the_network_has_no_such_stage() -> None:
    with pytest.raises(SemibodyError, match=r"model\.lips"):
        nano('stages=["vae","lips","still"]')
