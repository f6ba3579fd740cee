"""Drawn people: full clips, and heads alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from semibody.pose.skeleton import GROUPS
from semibody.training.drawn import make_drawn_clips
from semibody.types import HANDS
from training.nano import nano


def test_heads_are_padded_into_the_half_body_frame_and_have_no_hands(tmp_path: Path) -> None:
    recipe = nano()
    clips = make_drawn_clips(tmp_path, recipe, people=3, frames=8, heads=1, held_out=1)
    assert [clip.kind for clip in clips] == ["head", "full", "full"]
    assert [clip.split for clip in clips] == ["train", "train", "val"]
    head, full = clips[0], clips[1]
    x0, y0, x1, y1 = head.valid
    assert 0 < (x1 - x0) * (y1 - y0) < 0.6
    assert (head.gesture().confidence[:, HANDS] == 0).all()
    assert (full.gesture().confidence[:, HANDS] == 1).all()
    # Its face is as high as faces are asked to be, near that of whole people, and its mouth moves.
    tall = [np.ptp(clip.gesture().joints[0, GROUPS["head"], 1]) for clip in (head, full)]
    assert 0.5 < tall[0] / tall[1] < 2
    assert np.ptp(head.jaw()) > 0.3
    picture = head.pictures([0])[0]
    assert picture[: int(y0 * recipe.data.size) - 1].max(initial=0) < 16  # black but for JPEG's noise
