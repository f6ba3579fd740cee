"""Tuning to one portrait: what trains and what rests, kept for the next time, nothing left by a stop."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from semibody import cli, media
from semibody.animator import Animator
from semibody.networks.loading import load_model, save_model
from semibody.networks.model import Model
from semibody.training import personal
from semibody.training.drawn import draw_clip
from semibody.training.recipe import Recipe, load_recipe
from semibody.training.trainer import Outcome
from semibody.types import FACE, Pose, SemibodyError
from training.nano import nano

SIDE = 64


@pytest.fixture
def portrait(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A drawn person, whom no detector needs to find, and a cache of our own."""
    pictures, gesture, _, _ = draw_clip(3, 1, 1, SIDE, 24.0)
    monkeypatch.setattr(personal, "find_person", lambda picture, side: (picture, gesture[0]))
    monkeypatch.setenv("SEMIBODY_HOME", str(tmp_path / "home"))
    return pictures[0]


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """Three steps from small random weights."""
    sizes = nano().model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        defaults = {"width": SIDE, "height": SIDE, "steps": 2, "guidance": 1.0, "window": 3, "overlap": 1}
        model = Model(dataclasses.replace(sizes, vae=dataclasses.replace(sizes.vae, scale=0.7)))
        save_model(tmp_path / "base", model, {"defaults": defaults, "origin": "random"})
    small = ("steps=3", "batch=2", "warmup=1", "lr=1e-2", "ema=0")
    changes = [f"start.weights={tmp_path / 'base'}", "run.precision=fp32", "vae.crop=32"]
    return load_recipe(personal.RECIPE, [*changes, *(f"vae.optimiser.{change}" for change in small)])


def test_the_decoder_trains_and_everything_else_rests(portrait: Any, recipe: Recipe, tmp_path: Path) -> None:
    out = personal.personalise(portrait, tmp_path / "me", recipe=recipe)
    before, after = (load_model(Path(p))[0] for p in (recipe.start.weights, out))
    other = set()
    for part in before.config.networks:
        old, new = getattr(before, part).state_dict(), getattr(after, part).state_dict()
        assert old.keys() == new.keys()
        for name, value in old.items():
            if not torch.equal(value.to(torch.bfloat16), new[name].to(torch.bfloat16)):
                other.add(f"{part}.{name}")
    assert "vae.decoder.conv_out.weight" in other
    assert all(name.startswith(("vae.decoder.", "vae.post_quant_conv.")) for name in other)
    # Its latents mean what they did: the other networks read and write them.
    assert after.vae.config.scale == before.vae.config.scale
    animator = Animator.load(out, precision="fp32")
    assert animator.origin == "random, tuned to one portrait"
    assert animator.settings().window == 3
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_it_is_kept_for_the_next_time(portrait: Any, recipe: Recipe, monkeypatch: Any) -> None:
    weights = recipe.start.weights
    first = personal.personal_weights(portrait, weights, recipe=recipe)

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("tuned again")

    monkeypatch.setattr(personal, "train", fail)
    assert personal.personal_weights(portrait, weights, recipe=recipe) == first
    with pytest.raises(AssertionError, match="tuned again"):
        personal.personal_weights(portrait[::-1], weights, recipe=recipe)  # another picture


def test_a_stop_leaves_nothing(portrait: Any, recipe: Recipe, tmp_path: Path, monkeypatch: Any) -> None:
    def stopped(*_: object, **__: object) -> Outcome:
        return Outcome(finished=False, stage="vae", weights=None)

    monkeypatch.setattr(personal, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        personal.personal_weights(portrait, recipe.start.weights, recipe=recipe)
    assert list((tmp_path / "home" / "personal").iterdir()) == []


def test_joints_move_with_the_picture() -> None:
    rng = np.random.default_rng(0)
    picture = np.zeros((128, 128, 3), np.uint8)
    joints = np.zeros((128, 2))
    joints[FACE] = [0.3, 0.6]
    picture[75:79, 36:41] = 200  # the middle of this patch is at (38.4, 76.8), the place of the joint
    pictures, gesture = personal.vary(picture, Pose(joints, np.ones(128)), rng, 24.0)
    assert len(pictures) == len(gesture) == personal.VARIATIONS
    assert np.array_equal(pictures[0], picture)
    places = []
    for frame, moved in enumerate(pictures):
        rows, columns = np.nonzero(moved[..., 0] > 100)
        seen = np.array([columns.mean() + 0.5, rows.mean() + 0.5]) / 128
        assert np.abs(seen - gesture.joints[frame, FACE][0]).max() < 0.012
        places.append(seen)
    assert np.ptp(places, axis=0).min() > 0.02


def run(capsys: Any, monkeypatch: Any, *words: object) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["semibody", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return int(left.value.code or 0), capsys.readouterr().err


def test_mistakes(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    code, err = run(capsys, monkeypatch, "train", "finetune-starter", "--out", tmp_path / "me")
    assert (code, "--portrait" in err) == (2, True)
    media.write_image(tmp_path / "p.png", np.zeros((64, 64, 3), np.uint8))
    words = ("train", "tiny", "--portrait", tmp_path / "p.png", "--out", tmp_path / "me")
    code, err = run(capsys, monkeypatch, *words)
    assert (code, "belong together" in err) == (2, True)
    (tmp_path / "published").mkdir()
    with pytest.raises(SemibodyError, match="too large for this"):
        personal.find_source(str(tmp_path / "published"))
