"""What training generates: with the steps, the guidance and the solver the weights are trained for."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from semibody.data.dataset import PackedClip
from semibody.diffusion.schedule import build_scheduler
from semibody.networks.loading import save_model
from semibody.networks.model import Model
from semibody.training.denoiser import generate
from semibody.training.stages.denoise import StillStage, held_out_batch, held_out_draw
from semibody.training.trainer import Training
from training.nano import nano


@pytest.fixture
def stage(tmp_path: Path, clips: list[PackedClip]) -> StillStage:
    """On random networks."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_model(tmp_path / "weights", Model(nano().model))
    recipe = nano('stages=["still"]', f"start.weights={tmp_path / 'weights'}", "loss.pose=0", "loss.low=0")
    made = Training(recipe, tmp_path / "run").build("still", clips)
    assert isinstance(made, StillStage)
    made.module.eval()
    return made


def made_with(stage: StillStage, **defaults: Any) -> Tensor:
    batch = held_out_batch(stage.samples, held_out_draw(stage.held_out[0], 1), 0)
    with torch.no_grad():
        return generate(stage.module, dataclasses.replace(stage.recipe, defaults=defaults), batch)


def test_the_recipes_solver_steps_and_guidance_are_used(stage: StillStage) -> None:
    plain = made_with(stage, steps=3)
    assert torch.equal(plain, made_with(stage, steps=3, solver="ddim", guidance=1.0))
    assert torch.equal(plain, made_with(stage, steps=3, guidance=0.5)), "guidance leans, never away"
    for other in ({"steps": 2}, {"steps": 3, "solver": "unipc"}, {"steps": 3, "guidance": 2.0}):
        assert not torch.allclose(plain, made_with(stage, **other), atol=1e-4), other


def test_one_step_ends_where_the_solver_puts_the_guided_prediction(stage: StillStage) -> None:
    batch = held_out_batch(stage.samples, held_out_draw(stage.held_out[0], 1), 0)
    assert np.abs(batch.noise).max() <= 1.5
    t = torch.full((1,), 999.0)
    with torch.no_grad():
        conditional = stage.module(batch.noise, t, batch)[0]
        unconditional = stage.module(batch.noise, t, dataclasses.replace(batch, conditional=False))[0]
    scheduler = build_scheduler(stage.recipe.schedule, "ddim", 1)
    wanted = scheduler.step(
        unconditional + 2.0 * (conditional - unconditional), torch.tensor(999), batch.noise[0]
    )[0]
    torch.testing.assert_close(made_with(stage, steps=1, guidance=2.0), wanted, atol=1e-5, rtol=1e-4)
