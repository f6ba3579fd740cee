"""Weights of parts of the body in a loss."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from semibody.data.dataset import PackedClip
from semibody.training.drawn import make_drawn_clips
from semibody.training.losses import LossSettings
from semibody.training.parts import arm_coverage, part_weights
from training.nano import nano


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> PackedClip:
    folder: Path = tmp_path_factory.mktemp("drawn")
    return make_drawn_clips(folder, nano(), people=1, frames=12)[0]


def at(pose_point: NDArray[Any], side: int) -> tuple[int, int]:
    x, y = (pose_point * side).astype(int)
    return int(y), int(x)


def test_arms_are_weighted_in_the_frame_and_where_the_portrait_has_them(clip: PackedClip) -> None:
    made, portrait = clip.labels([9, 0])
    weight = part_weights(LossSettings(arms=5.0), [made], portrait, 64, 64)[0]
    for labels in (made, portrait):
        joints = labels.pose.joints
        for a, b in ((3, 4), (6, 7)):
            assert weight[at((joints[a] + joints[b]) / 2, 64)] > 4
    assert weight.max() <= 5
    assert weight[:8].max() == 1  # nothing above the head is weighted more
    assert (part_weights(LossSettings(), [made], portrait, 64, 64) == 1).all()


def test_overlapping_parts_have_the_largest_factor(clip: PackedClip) -> None:
    (labels,) = clip.labels([3])
    weight = part_weights(LossSettings(lips=9.0, face=2.0, hands=3.0, arms=4.0), [labels], labels, 64, 64)[0]
    boxes, pose = clip.boxes(3), clip.pose(3)
    x0, y0, x1, y1 = boxes["lips"]
    assert weight[at(np.array([x0 + x1, y0 + y1]) / 2, 64)] == pytest.approx(9)
    x0, y0, x1, y1 = boxes["face"]
    assert weight[at(np.array([(x0 + x1) / 2, y0 + 0.1 * (y1 - y0)]), 64)] == pytest.approx(2)
    assert 3 <= weight[at(pose.joints[4], 64)] <= 4  # a wrist: a hand's box, an arm's end


def test_invisible_arms_are_not_weighted(clip: PackedClip) -> None:
    pose = clip.pose(0)
    unseen = pose.confidence.copy()
    unseen[[3, 6]] = 0
    assert (arm_coverage(dataclasses.replace(pose, confidence=unseen), 16, 16) == 0).all()
    unseen[[2, 5]] = 0
    assert (arm_coverage(dataclasses.replace(pose, confidence=unseen), 16, 16) == 0).all()
