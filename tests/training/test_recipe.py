"""Recipes: the bundled ones load, mistakes are named."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from semibody.networks.model import Model
from semibody.training.loop import ema_decay, lr_at
from semibody.training.recipe import bundled, load_recipe
from semibody.training.report import plan_lines, plot_plan, read_log
from semibody.training.settings import Optimiser
from semibody.types import SemibodyError


@pytest.mark.parametrize("name", bundled())
def test_bundled_recipes_load(name: str) -> None:
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
    ("change", "message"),
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
def test_contradictory_settings_are_named(change: str, message: str) -> None:
    with pytest.raises(SemibodyError, match=message) as caught:
        load_recipe("tiny", [change])
    assert "\n" not in str(caught.value)


def test_unknown_recipe_names_the_known() -> None:
    with pytest.raises(SemibodyError, match="official, starter, tiny"):
        load_recipe("tinny")


def test_a_plan_is_drawn_and_printed(tmp_path: Path) -> None:
    recipe = load_recipe("official")
    plot_plan(recipe, tmp_path / "plan.png")
    assert (tmp_path / "plan.png").stat().st_size > 20_000
    plan = dict(plan_lines(recipe))
    assert "audio muted" in plan["  initial"]
    assert "audio face" in plan["  head"]


def test_keys_of_older_recipes_are_read(tmp_path: Path) -> None:
    old = tmp_path / "old.toml"
    old.write_text("[restore]\nrival = 0.08\n[plate]\nrival = 0.03\nmoments = 7\n")
    recipe = load_recipe(old)
    assert (recipe.restore.adversarial, recipe.plate.adversarial, recipe.plate.other_frames) == (
        0.08,
        0.03,
        7,
    )
    changed = load_recipe(old, ["restore.rival=0.5", "plate.adversarial=0.25", "plate.moments=2"])
    assert (changed.plate.adversarial, changed.plate.other_frames) == (0.25, 2)
    assert changed.restore.adversarial == 0.5
    new = tmp_path / "new.toml"
    new.write_text("[restore]\nadversarial = 0.08\n")
    assert load_recipe(new, ["restore.rival=0.5"]).restore.adversarial == 0.5


def test_figures_of_older_logs_are_read(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(
        '{"stage": "restore", "step": 10, "rival": 0.7}\n'
        '{"stage": "restore", "step": 20, "adversarial": 0.6}\n'
    )
    assert read_log(tmp_path) == {"restore": {"adversarial": ([10, 20], [0.7, 0.6])}}


def test_learning_rate_rises_stays_and_falls() -> None:
    o = Optimiser(steps=100, lr=1.0, warmup=10, cooldown=0.3, lr_end=0.1)
    rates = [lr_at(o, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[50] == rates[70] == 1.0
    assert all(a >= b for a, b in itertools.pairwise(rates[70:]))
    assert rates[-1] == pytest.approx(0.1, abs=0.01)


def test_the_ema_decays_fast_at_first() -> None:
    assert ema_decay(0.999, 0) == pytest.approx(0.1)
    assert ema_decay(0.999, 10**6) == 0.999
