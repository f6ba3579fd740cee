"""What holds for every stage: its number, its field in a recipe, the message about unknown ones."""

from __future__ import annotations

import pytest

from semibody.training.recipe import Recipe
from semibody.training.settings import Optimiser
from semibody.training.stages import STAGES
from semibody.types import SemibodyError
from training.nano import nano


def test_numbers_are_fixed_so_that_samples_are() -> None:
    """As they were when the published weights were trained."""
    known = {"vae": 0, "keypoints": 1, "audio": 2, "still": 3, "motion": 4, "restore": 5, "plate": 6}
    numbers = {name: stage.source for name, stage in STAGES.items()}
    assert {name: numbers[name] for name in known} == known
    assert len(set(numbers.values())) == len(numbers)


def test_every_stage_finds_its_settings_in_a_recipe() -> None:
    recipe = Recipe()
    for name, stage in STAGES.items():
        assert isinstance(stage.settings_in(recipe).optimiser, Optimiser)
        (first, text), *_ = stage.plan(recipe)
        assert first == name
        assert f"{stage.settings_in(recipe).optimiser.steps:,} steps" in text


def test_the_message_about_an_unknown_stage_lists_the_known() -> None:
    with pytest.raises(SemibodyError, match=r"no stage stills; choose from vae, .*still, .*restore"):
        nano('stages=["stills"]')
