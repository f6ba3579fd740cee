"""The quick measures say what they claim on pictures whose truth is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from causality import KeypointMeter, causality, difference, follows, hands_at, sharpness

from semibody.animator import Animator
from semibody.data.dataset import Packing, packed_clips
from semibody.training.drawn import draw_clip
from semibody.training.keypoints import JOINTS, KeypointNetwork
from semibody.training.trainer import train
from training.nano import nano, packed


def test_hands_count_where_the_gesture_puts_them() -> None:
    _, gesture, _, _ = draw_clip(0, 0, 6, 64, 24.0)
    _, other, _, _ = draw_clip(0, 1, 6, 64, 24.0)
    places = gesture.joints[:, list(JOINTS)]
    assert hands_at(places, gesture) == 1.0
    assert hands_at(places, other) < 0.6


def test_what_does_not_move_follows_nothing() -> None:
    wave = np.sin(np.arange(30.0))
    assert follows(wave, 3 * wave + 1) == pytest.approx(1)
    assert follows(wave, -wave) == pytest.approx(-1)
    assert follows(wave, np.ones(30)) == 0


def test_blur_is_less_sharp_and_different() -> None:
    frames = draw_clip(0, 0, 2, 64, 24.0)[0]
    blurred = np.stack([frames[0], frames[0]]) // 2
    assert sharpness(blurred) < sharpness(frames)
    assert difference(frames, frames) == 0
    assert difference(frames, blurred) > 0.1


def test_causality_names_every_swap(tmp_path: Path) -> None:
    clips = packed(tmp_path / "drawn")
    recipe = nano(
        'stages=["vae","still"]',
        "model.plate_latents=false",
        "loss.pose=0",
        "loss.low=0",
        "still.optimiser.steps=2",
    )
    train(recipe, tmp_path / "run", packed=clips)
    torch.manual_seed(0)
    found = causality(
        Animator.load(tmp_path / "run" / "weights", precision="fp32"),
        KeypointMeter(KeypointNetwork(8).eval()),
        packed_clips(clips, Packing(size=64))[:2],
        length=3,
        steps=1,
    )
    assert {"hands_new", "hands_old", "mouth_new", "person_new", "sharpness"} <= set(found)
    assert all(np.isfinite(list(found.values())))
