"""APDH and HPA as functions of the step: their limits, their order, their masks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semibody.pose.regions import audio_mask, hull_mask
from semibody.pose.skeleton import GROUPS
from semibody.training.curriculum import (
    BLOCKS,
    Curriculum,
    at,
    final,
    is_audio,
    is_motion,
    locate,
    trains,
)
from semibody.types import FACE, Pose

SIX = Curriculum()


def face_pose(x: float = 0.5, y: float = 0.3) -> Pose:
    pose = Pose.empty()
    angle = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    pose.joints[FACE] = np.stack([x + 0.1 * np.cos(angle), y + 0.14 * np.sin(angle)], axis=1)
    mouth = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    pose.joints[GROUPS["lips"]] = np.stack(
        [x + 0.03 * np.cos(mouth), y + 0.08 + 0.01 * np.sin(mouth)], axis=1
    )
    pose.confidence[FACE] = 1.0
    return pose


def test_the_blocks_follow_the_paper() -> None:
    middles = [at(SIX, 10_000 * k + 5_000) for k in range(6)]
    assert [m.block for m in middles] == list(BLOCKS)
    drawn = [{group for group, p in m.keep.items() if p == 1.0} for m in middles]
    everything = {"lips", "head", "body", "hands"}
    assert drawn == [
        everything,
        everything,
        everything - {"lips"},
        {"body", "hands"},
        {"hands"},
        {"hands"},
    ]
    assert [m.region for m in middles] == ["none", "none", "lips", "face", "body", "body"]
    assert [m.pose_dropout for m in middles] == pytest.approx([0.0, 0.1, 0.2, 0.2, 0.2, 0.2])
    assert [m.head_share for m in middles] == pytest.approx([0, 0, 0, 0.3, 0.3, 0.3])


@given(step=st.integers(0, 80_000), ramp=st.floats(0, 1))
def test_probabilities_are_in_range_and_never_rise(step: int, ramp: float) -> None:
    curriculum = Curriculum(ramp=ramp)
    now, later = at(curriculum, step), at(curriculum, step + 777)
    for group in ("lips", "head", "body", "hands"):
        assert 0.0 <= later.keep[group] <= now.keep[group] <= 1.0
    assert now.keep["hands"] == 1.0
    assert now.keep["lips"] <= now.keep["head"] <= now.keep["body"]
    assert 0.0 <= now.pose_dropout <= 0.2


def test_dropout_rises_to_its_end_without_a_jump() -> None:
    values = [at(SIX, step).pose_dropout for step in range(9_990, 20_010)]
    assert max(b - a for a, b in itertools.pairwise(values)) < 1e-4
    assert values[0] == 0.0
    assert values[-1] == 0.2


def test_empty_blocks_are_skipped_and_the_last_has_no_end() -> None:
    hands_only = Curriculum(initial=0, iterative=0, lips=0, head=0, body=5, mixed=0)
    assert locate(hands_only, 0) == ("body", 0.0)
    assert locate(hands_only, 5) == ("body", 1.0)
    assert final(hands_only).keep == {"lips": 0.0, "head": 0.0, "body": 0.0, "hands": 1.0}
    assert final(hands_only).region == "body"


@pytest.mark.parametrize("wrong", [{"pose_dropout": 1.5}, {"lips": -1}, dict.fromkeys(BLOCKS, 0)])
def test_contradictory_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="curriculum"):
        Curriculum(**wrong)  # type: ignore[arg-type]


def test_which_parameters_are_trained() -> None:
    audio = "denoising_unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_q.weight"
    motion = "denoising_unet.mid_block.motion_modules.0.temporal_transformer.norm.weight"
    resnet = "denoising_unet.mid_block.resnets.0.norm2.weight"
    assert [is_audio(n) for n in (audio, motion, resnet)] == [True, False, False]
    assert is_audio("denoising_unet.audio_time.weight")
    assert is_audio("denoising_unet.mid_block.attentions.0.transformer_blocks.0.norm2.weight")
    assert [trains("initial", n) for n in (audio, motion, resnet)] == [False, False, True]
    assert [trains("lips", n) for n in (audio, motion, resnet)] == [True, False, True]
    assert [is_motion(n) for n in (audio, motion, resnet)] == [False, True, False]
    assert not trains("mixed", "vae.decoder.conv_in.weight")


def test_masks_widen_from_lips_to_face_to_body() -> None:
    pose = face_pose()
    none, lips, face, body = (
        audio_mask(pose, region, 32, 32, 0.3) for region in ("none", "lips", "face", "body")
    )
    assert none.sum() == 0
    assert body.min() == 1.0
    assert 0 < lips.sum() < face.sum() < body.sum()
    assert (lips <= face + 1e-6).all()
    assert face[round(0.3 * 32), 16] == 1.0
    assert face[-1].max() == 0.0


def test_mask_follows_the_face_and_is_empty_without_one() -> None:
    left, right = (audio_mask(face_pose(x), "face", 16, 16, 0.2) for x in (0.25, 0.75))
    assert left[:, :8].sum() > 10 * left[:, 8:].sum()
    assert np.allclose(left[:, ::-1].sum(0), right.sum(0), atol=1.0)
    assert audio_mask(Pose.empty(), "face", 16, 16, 0.2).sum() == 0


def test_dilation_grows_the_hull_evenly() -> None:
    square = np.array([[0.4, 0.4], [0.6, 0.4], [0.6, 0.6], [0.4, 0.6]])
    plain, grown = (hull_mask(square, 100, 100, d) for d in (0.0, 0.5))
    assert plain.sum() == pytest.approx(400, rel=0.1)
    assert grown[50, 31] == 1.0
    assert grown[50, 27] == 0.0
    assert grown.sum() == pytest.approx(400 + 4 * 200 + np.pi * 100, rel=0.06)
