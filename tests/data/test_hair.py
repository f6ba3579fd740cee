"""No hair style of the pack hides an eye."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from conftest import require_renderer, shared_folder
from semibody.data.synthetic.assets import load_assets
from semibody.data.synthetic.clip import person_seed
from semibody.data.synthetic.person import draw_look
from semibody.data.synthetic.render import Stage


def fringes() -> ModuleType:
    """The benchmark that measures it."""
    file = Path(__file__).parents[2] / "benchmarks" / "fringes.py"
    spec = importlib.util.spec_from_file_location("fringes", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_both_eyes_are_seen_under_every_hair_style() -> None:
    require_renderer()
    assets, stage, bench = load_assets(str(shared_folder("assets") / "makehuman")), Stage(256), fringes()
    look = draw_look(person_seed(0, 0), assets)
    for hair in assets.choices("hair"):
        hidden = bench.hidden_points(stage, assets, dataclasses.replace(look, hair=hair), seed=0, frames=3)
        for points in bench.EYES.values():
            assert hidden[:, points].mean() < 0.1, hair
