"""The crop of the paper's test set, and the letterboxing of its frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from parity.golden import Case, cases
from semibody.pose.frame import emtd_crop, fit_square
from semibody.types import FACE, N_JOINTS

ALL = cases("emtd_*.npz")


@pytest.mark.parametrize("case", ALL)
def test_crop(case: Case, compare: Any) -> None:
    frames, people = case.meta["frames"], case.meta["people"]
    joints = np.zeros((frames, N_JOINTS, 2))
    for i in range(frames):
        # As published: the body with the best scores, the first face.
        best = int(case[f"in{i}/body_score"].sum(axis=1).argmax())
        joints[i, :18] = case[f"in{i}/candidate"].reshape(people, 18, 2)[best]
        joints[i, FACE] = case[f"in{i}/faces"][0]
    crop = emtd_crop(joints, np.ones(joints.shape[:2]), case.meta["width"], case.meta["height"])
    assert crop is not None
    result = case.meta["result"]
    # As published, which cuts a row less and fills the square with black.
    assert [crop.y0, crop.y1 - 1, crop.x0, crop.x1] == result["video_params"]
    fractions = np.array([crop.low[0], crop.high[0], crop.low[1], crop.high[1]])
    compare(fractions, np.array(result["pose_params"], dtype=float), 1e-12, "fractions")
    for i in range(frames):
        for key in ("candidate", "hands"):
            compare(crop.joints(case[f"in{i}/{key}"]), case[f"out{i}/{key}"], 1e-12, f"{key} {i}")
        compare(crop.joints(case[f"in{i}/faces"])[:1], case[f"out{i}/faces"], 1e-12, f"faces {i}")


@pytest.mark.parametrize("case", ALL)
def test_letterbox(case: Case, compare: Any) -> None:
    for i in range(2):
        compare(fit_square(case[f"resize_in{i}"], 96), case[f"resize_out{i}"], 0, f"picture {i}")
