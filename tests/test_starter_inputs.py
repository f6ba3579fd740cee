"""Difficult portraits on networks of the starter's sizes: a result, and a warning where one is due."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import made
from semibody import media
from semibody.animator import Animator
from semibody.inputs import prepare
from semibody.pose.detectors import detect_pose
from semibody.training.recipe import load_recipe
from semibody.types import FACE, HANDS, Pose, SemibodyError

Picture = NDArray[np.uint8]
SIDE = 512

pytestmark = pytest.mark.skipif(importlib.util.find_spec("mediapipe") is None, reason="mediapipe is not here")


@pytest.fixture(scope="module")
def animator() -> Animator:
    """Networks of the starter's sizes with random weights, at a quarter of its pictures."""
    sizes = load_recipe("starter").model
    return Animator.random(sizes, width=128, height=128, steps=1, guidance=1.0, window=3, overlap=0, fps=12.0)


@pytest.fixture
def portraits(shared_inputs: Path) -> Callable[[str], Picture]:
    def read(name: str) -> Picture:
        return media.resize_image(media.read_image(shared_inputs / "portraits" / f"{name}.png"), SIDE, SIDE)

    return read


def with_hat_and_glasses(picture: Picture) -> Picture:
    """A dark hat down to the brows and dark glasses, drawn where the face is."""
    pose = detect_pose(picture)
    assert isinstance(pose, Pose)
    face = pose.joints[FACE] * SIDE
    drawn = picture.copy()
    left, right = face[0, 0], face[16, 0]
    brow, wide = face[17:27, 1].min(), right - left
    top = (round(left - 0.2 * wide), round(brow - 0.9 * wide))
    cv2.rectangle(drawn, top, (round(right + 0.2 * wide), round(brow)), (30, 30, 34), -1)
    for eye in (face[36:42].mean(axis=0), face[42:48].mean(axis=0)):
        cv2.circle(drawn, (round(eye[0]), round(eye[1])), round(0.17 * wide), (15, 15, 15), -1, cv2.LINE_AA)
    return drawn


def from_afar(picture: Picture) -> Picture:
    """The person at a third of the size, low in an empty room, as a small child would stand."""
    room = np.full((SIDE, SIDE, 3), 190, np.uint8)
    third = SIDE // 3
    room[-third:, third : 2 * third] = media.resize_image(picture, third, third)
    return room


def from_the_side(picture: Picture) -> Picture:
    """Half of the face out of view behind a wall."""
    pose = detect_pose(picture)
    assert isinstance(pose, Pose)
    drawn = picture.copy()
    drawn[:, : round(float(pose.joints[FACE][27:31, 0].mean()) * SIDE)] = (120, 118, 115)
    return drawn


def beside(one: Picture, other: Picture) -> Picture:
    both = np.concatenate([one[:, SIDE // 6 : -SIDE // 6], other[:, SIDE // 6 : -SIDE // 6]], axis=1)
    return np.ascontiguousarray(both)


def animated(animator: Animator, picture: Picture) -> set[str]:
    """Make two frames; returns the topics of what was said about the inputs."""
    settings = animator.settings(length=2)
    inputs = prepare(picture, made.tone(0.5), "wave", settings)
    frames = np.concatenate(list(animator.frames(inputs, settings)))
    assert frames.shape == (2, 128, 128, 3)
    return {finding.topic for finding in inputs.findings if finding.level in ("warning", "error")}


def test_without_visible_hands(animator: Animator, portraits: Callable[[str], Picture]) -> None:
    picture = portraits("emtd_man_0170")
    inputs = prepare(picture, made.tone(2.0), "wave", animator.settings())
    assert inputs.portrait_pose is not None
    assert inputs.portrait_pose.confidence[HANDS].max() == 0  # none is invented for the reference network
    assert inputs.gesture.confidence[:, HANDS].max() > 0
    animated(animator, picture)


def test_the_person_is_detected_whatever_frame_and_align(
    animator: Animator, portraits: Callable[[str], Picture]
) -> None:
    assert animator.model.config.hints.own_pose
    settings = animator.settings(length=2, frame="keep", align="none")
    inputs = prepare(portraits("emtd_man_0001"), made.tone(0.5), "wave", settings)
    assert inputs.portrait_pose is not None


def test_two_people(animator: Animator, portraits: Callable[[str], Picture]) -> None:
    both = beside(portraits("emtd_man_0001"), portraits("emtd_woman_0010"))
    assert "people" in animated(animator, both)


def test_hat_and_glasses(animator: Animator, portraits: Callable[[str], Picture]) -> None:
    animated(animator, with_hat_and_glasses(portraits("emtd_man_0001")))


def test_half_a_face(animator: Animator, portraits: Callable[[str], Picture]) -> None:
    animated(animator, from_the_side(portraits("emtd_man_0001")))


def test_someone_small(animator: Animator, portraits: Callable[[str], Picture]) -> None:
    assert animated(animator, from_afar(portraits("emtd_man_0001"))) & {"face size", "person", "sharpness"}


def test_nobody(animator: Animator) -> None:
    with pytest.raises(SemibodyError, match="no person was found"):
        animated(animator, made.picture(256, 256))


def test_upside_down(animator: Animator, portraits: Callable[[str], Picture]) -> None:
    animated(animator, np.ascontiguousarray(portraits("emtd_man_0001")[::-1]))
