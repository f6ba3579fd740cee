"""The damages do what they say, and the table says how far each metric moved."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import sensitivity
from sensitivity import DAMAGES, Curve, Subject

from semibody.clips.truth import Truth
from semibody.evaluation.metrics import METRICS
from semibody.types import FACE, N_JOINTS, Clip, Gesture


@pytest.fixture
def subject() -> Subject:
    texture = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    texture = np.asarray(cv2.GaussianBlur(texture, (0, 0), 6), np.uint8)
    frames = np.stack([np.roll(texture, k, axis=1) for k in range(12)])
    joints = np.full((12, N_JOINTS, 2), 0.5)
    angle = np.linspace(0, 2 * np.pi, 68)
    joints[:, FACE] = 0.3 + 0.15 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    gesture = Gesture(joints, np.ones((12, N_JOINTS)))
    boxes = {"face": np.tile([0.1, 0.1, 0.5, 0.5], (12, 1))}
    other = np.ascontiguousarray(frames[:, ::-1])
    return Subject(Clip(frames, 24.0), Truth(np.zeros(12), boxes), gesture, other, gesture)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.name)
def test_more_strength_is_more_damage(subject: Subject, damage: sensitivity.Damage) -> None:
    clean = subject.clip.frames.astype(float)
    before = subject.clip.frames.copy()
    change = [np.abs(damage.apply(subject, strength) - clean).mean() for strength in damage.strengths]
    assert (subject.clip.frames == before).all()
    assert change[0] > 0
    assert change == sorted(change)
    assert set(damage.should_move) <= METRICS.keys()


def test_frozen_hands_leave_the_face_alone(subject: Subject) -> None:
    frozen = sensitivity.freeze_hands(subject, 1.0)
    assert (frozen[:, :100] == subject.clip.frames[:, :100]).all()
    assert (frozen[:, 100:] == frozen[0, 100:]).all()


def test_a_late_picture_repeats_its_beginning(subject: Subject) -> None:
    late = sensitivity.delay(subject, 3)
    assert (late[3:] == subject.clip.frames[:-3]).all()


@pytest.mark.parametrize(
    ("values", "rho"),
    [([1, 2, 3, 9], 1.0), ([4.0, 3, 2, 1], -1.0), ([1, 3, 2, 4], 0.8), ([0, 0, 1, 1], 0.8944)],
)
def test_spearman(values: list[float], rho: float) -> None:
    assert sensitivity.spearman(values) == pytest.approx(rho, abs=1e-4)


def test_spearman_of_nothing_that_moves() -> None:
    assert math.isnan(sensitivity.spearman([1.0, 1.0, 1.0]))
    assert math.isnan(sensitivity.spearman([1.0, math.nan, 2.0]))


def test_the_table_shows_values_and_shares() -> None:
    curves = {
        "noise": {
            "SSIM": Curve((1.0, 0.9, 0.8, 0.7, 0.6, 0.5), -1.0),
            "PCK": Curve((0.9,) * 5 + (0.8,), -0.5),
        },
        "hands frozen": {
            "SSIM": Curve((1.0,) * 5 + (0.95,), -0.5),
            "PCK": Curve((0.9, 0.8, 0.7, 0.6, 0.5, 0.4), -1.0),
        },
    }
    table = sensitivity.as_markdown(curves)
    assert "| noise | SSIM | 1 | 0.9 | 0.8 | 0.7 | 0.6 | 0.5 | -1.00 |" in table
    assert "| SSIM | **100** | 10 |" in table
    assert "| PCK | 20 | **100** |" in table
