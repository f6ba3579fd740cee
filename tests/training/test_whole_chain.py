"""From nothing to a clip, at real (if small) size; slow, so left out by default."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from conftest import SHARED, require_renderer
from semibody import media
from semibody.animator import Animator
from semibody.clips.manifest import read_manifest
from semibody.training.drawn import make_drawn_clips
from semibody.training.recipe import load_recipe
from semibody.training.report import read_log
from semibody.training.trainer import train
from training.nano import nano


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_tiny_overfits_four_clips(tmp_path: Path) -> None:
    """PSNR of generated against true frames; the autoencoder's own ceiling is in the log beside it."""
    recipe = load_recipe("tiny")
    clips = make_drawn_clips(tmp_path / "packed", recipe)
    assert len(clips) == 4
    train(recipe, tmp_path / "run", packed=tmp_path / "packed")
    curves = read_log(tmp_path / "run")
    still, motion = (curves[stage]["val/psnr"][1][-1] for stage in ("still", "motion"))
    ceiling = curves["still"]["val/ceiling"][1][-1]
    assert still >= 28, (still, ceiling)
    assert motion >= 28, (motion, ceiling)
    assert still > curves["still"]["val/repeat"][1][-1] + 5


def assets() -> Path:
    given = os.environ.get("SEMIBODY_ASSETS") or str(SHARED / "assets" / "makehuman")
    if not Path(given).is_dir():
        pytest.skip("needs a MakeHuman data folder (SEMIBODY_ASSETS)")
    return Path(given)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_synthesise_train_animate(tmp_path: Path) -> None:
    require_renderer()
    from semibody.data.synthetic.order import Order
    from semibody.data.synthetic.produce import synthesise

    order = Order(people=3, clips=1, seconds=0.5, size=64, seed=1, head_share=0.0)
    synthesise(tmp_path / "data", assets(), order)
    done = train(nano(), tmp_path / "run", data=tmp_path / "data")
    assert done.finished
    assert done.weights is not None
    entry = read_manifest(tmp_path / "data")[0]
    portrait = media.read_clip(entry.video).frames[0]
    assert entry.audio is not None
    animator = Animator.load(done.weights, precision="fp32")
    animator.animate_to(
        tmp_path / "out.mp4", portrait, entry.audio, entry.gesture, frame="keep", align="none"
    )
    made = media.read_clip(tmp_path / "out.mp4")
    assert len(made) >= 10
    assert made.frames.shape[1:] == (64, 64, 3)
