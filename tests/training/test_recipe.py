"""Recipes: those that come along are sound, mistakes are named."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from semibody.networks.model import Model
from semibody.training.loop import average_decay, lr_at
from semibody.training.recipe import bundled, load_recipe
from semibody.training.report import plan_lines, plot_plan
from semibody.training.settings import Optimiser
from semibody.types import SemibodyError


@pytest.mark.parametrize("name", bundled())
def test_bundled_recipes_are_sound(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    with torch.device("meta"):
        Model(recipe.model)


def test_the_official_recipe_is_the_papers() -> None:
    recipe = load_recipe("official")
    assert recipe.curriculum.lengths == (10_000,) * 6
    assert (recipe.still.optimiser.steps, recipe.motion.frames, recipe.data.size) == (60_000, 24, 768)
    assert (recipe.loss.pose_from, recipe.loss.detail_from) == (900, 300)
    assert (recipe.loss.pose, recipe.loss.detail, recipe.loss.low) == (0.1, 0.1, 0.1)
    assert recipe.schedule.prediction == "v_prediction"


def test_starter_is_what_the_experiment_found() -> None:
    recipe = load_recipe("starter")
    assert recipe.schedule.prediction == "sample"
    assert recipe.model.hints.concatenates
    assert recipe.model.hints.own_pose
    assert recipe.model.unet.audio_time_tokens
    assert all(width % 32 == 0 for width in recipe.model.unet.widths)
    # 32 frames a step, four of each person.
    assert recipe.still.optimiser.batch * recipe.still.frames == 32
    assert recipe.still.optimiser.lr == 1.5e-3
    # A mouth is two or three of a thousand cells, and must not drown among them.
    assert recipe.loss.lips >= 25


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("still.optimiser.lrr=1", "did you mean still.optimiser.lr"),
        ("still.optimiser.batch=no", "still.optimiser.batch"),
        ("still.optimiser.accumulate=7", "multiple of accumulate"),
        ('stages=["motion","still"]', "in the order"),
        ("motion.frames=99", "motion_frames"),
        ("data.size=100", "multiple of 8"),
        ("loss.pose_from=100", "detail_from"),
        ("curriculum.pose_dropout=2", "pose_dropout"),
        ("noise.sampler_share=0.5", "sampler_steps"),
        ("model.hints.limb=true", "did you mean model.hints.limbs"),
        ("model.limbs=maybe", "model.hints.limbs"),
        ("model.unet.motion=false", "motion"),
    ],
)
def test_contradictions_are_named(change: str, says: str) -> None:
    with pytest.raises(SemibodyError, match=says) as caught:
        load_recipe("tiny", [change])
    assert "\n" not in str(caught.value)


def test_unknown_recipe_names_the_known() -> None:
    with pytest.raises(SemibodyError, match="official, starter, tiny"):
        load_recipe("tinny")


def test_plan_is_drawn_and_told(tmp_path: Path) -> None:
    recipe = load_recipe("official")
    plot_plan(recipe, tmp_path / "plan.png")
    assert (tmp_path / "plan.png").stat().st_size > 20_000
    told = dict(plan_lines(recipe))
    assert "audio muted" in told["  initial"]
    assert "audio face" in told["  head"]


def test_learning_rate_rises_stays_and_falls() -> None:
    o = Optimiser(steps=100, lr=1.0, warmup=10, cooldown=0.3, lr_end=0.1)
    rates = [lr_at(o, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[50] == rates[70] == 1.0
    assert all(a >= b for a, b in itertools.pairwise(rates[70:]))
    assert rates[-1] == pytest.approx(0.1, abs=0.01)


def test_the_average_forgets_the_beginning() -> None:
    assert average_decay(0.999, 0) == pytest.approx(0.1)
    assert average_decay(0.999, 10**6) == 0.999
