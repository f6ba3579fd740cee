"""What a training takes: counted on the meta device, against hand counts, and against a real step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from semibody.training import estimate
from semibody.training.drawn import make_drawn_clips
from semibody.training.estimate import Counted, StageEstimate, estimate_lines, estimate_stage
from semibody.training.trainer import Training
from training.nano import nano

OFF = ("model.plate_latents=false", "loss.pose=0", "loss.low=0", "loss.detail=0", "loss.pixel=0")


@pytest.mark.parametrize("recompute", [False, True])
def test_what_lives_at_once_is_counted_by_hand(recompute: bool) -> None:
    """Ten layers whose backward pass needs four tensors each: all forty live at once, or with recomputing
    the ten inputs, the one layer's four, and what its backward pass makes."""
    one = 1000 * 100 * 4
    with torch.device("meta"):
        layers = [
            nn.Sequential(nn.Linear(100, 100), nn.GELU(), nn.Linear(100, 100), nn.GELU()) for _ in range(10)
        ]
        counted = Counted([p for layer in layers for p in layer.parameters()])
        with counted:
            x = torch.empty(1000, 100)
            for layer in layers:
                x = checkpoint(layer, x, use_reentrant=False) if recompute else layer(x)
            loss = x.sum()
            del x
            loss.backward()
    assert counted.peak / one == pytest.approx(14 if recompute else 41, abs=0.5)
    # Forward, and twice as much backward (less for the input, which needs no gradient).
    products = 2 * 1000 * 100 * 100
    assert counted.flops == products * (20 + 20 + 19 + (20 if recompute else 0))


def test_what_is_kept_from_step_to_step() -> None:
    one = StageEstimate(
        name="still",
        trained=10**9,
        frozen=10**8,
        half=True,
        ema=True,
        several=True,
        activations=3e9,
        tflop=1.0,
    )
    # 4 bytes of each parameter and 2 of its copy; gradients twice; two moments; EMA.
    assert one.kept == {"weights": 6.6e9, "gradients": 8e9, "AdamW": 8e9, "EMA": 4e9}
    assert one.memory == pytest.approx(29.6e9)
    assert one.line().startswith("29.6 GB a GPU: weights 6.6, gradients 8.0")


def test_a_rehearsed_step_does_the_work_of_a_real_one(folder: Path, tmp_path: Path) -> None:
    """Parameters exactly; operations but for the frozen decoder's and the hints', which are not rehearsed."""
    from torch.utils.flop_counter import FlopCounterMode

    recipe = nano(
        'stages=["vae","still"]', *OFF, "model.limbs=false", "noise.unconditional=0", "curriculum.initial=0",
        "curriculum.iterative=0", "curriculum.lips=0", "curriculum.head=0",
    )  # fmt: skip
    training = Training(recipe, tmp_path / "run")
    clips = training.packed(folder)
    assert training.run_stage("vae", clips, float("inf"), lambda *_: None)
    stage = training.build("still", clips)
    found = estimate_stage(recipe, "still")
    assert found is not None
    trained = sum(p.numel() for p in stage.module.parameters() if p.requires_grad)
    assert found.trained == trained
    batch = stage.batch(0, list(range(recipe.still.optimiser.batch)))
    with FlopCounterMode(display=False) as counter:
        stage.losses(stage.module, batch)["loss"].backward()
    assert found.tflop * 1e12 == pytest.approx(counter.get_total_flops(), rel=0.1)


def test_recomputing_saves_memory_in_both_networks() -> None:
    """The reference network's tokens leave its layers, and must not keep what is recomputed alive."""
    wide = ("model.unet.widths=[64,64]", "model.pose_encoder.out_channels=64", "still.optimiser.batch=16")
    plain, saving = (
        estimate_stage(nano(*OFF, *wide, f"run.recompute={value}"), "still") for value in ("false", "true")
    )
    assert plain is not None
    assert saving is not None
    assert saving.activations < 0.6 * plain.activations
    assert 1.2 * plain.tflop < saving.tflop < 1.4 * plain.tflop


def test_shards_keep_a_share_of_what_one_gpu_keeps() -> None:
    """By hand, of four GPUs: moments and EMA a quarter each; weights and gradients whole and a shard."""
    whole, shards = (
        estimate_stage(nano(*OFF, "run.gpus=4", f"run.shard={value}"), "still") for value in ("false", "true")
    )
    assert whole is not None
    assert shards is not None
    trained, every = whole.trained, whole.trained + whole.frozen
    assert whole.kept == {
        "weights": 4 * every, "gradients": 8 * trained, "AdamW": 8 * trained, "EMA": 4 * trained,
    }  # fmt: skip
    assert shards.kept == {
        "weights": 5 * every, "gradients": 9 * trained, "AdamW": 2 * trained, "EMA": trained,
    }  # fmt: skip


def test_the_plan_reckons_with_gpus_and_data(tmp_path: Path) -> None:
    recipe = nano('stages=["vae","keypoints","still","motion"]', *OFF)
    lines = list(estimate_lines(recipe, None, None))
    said = "\n".join(f"{name} {text}" for name, text in lines)
    assert "vae memory and time are not estimated" in said
    assert said.count("GB a GPU") == 3
    assert "for each hour of video (--data: yours)" in said
    clips = make_drawn_clips(tmp_path, recipe, people=2, frames=12)
    assert estimate._frames(recipe, None, tmp_path) == 24
    real = sum(clip.path.stat().st_size for clip in clips) / 24
    assert real > 0.5 * estimate.picture_bytes(recipe)
    four = estimate_stage(nano(*OFF, "run.gpus=4"), "still")
    one = estimate_stage(nano(*OFF), "still")
    assert four is not None
    assert one is not None
    assert four.activations < one.activations
    assert four.tflop == pytest.approx(one.tflop, rel=0.01)
