"""Likenesses of clips whose hands, brightness and sharpness are known because the test made them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

import made
from semibody.evaluation.faces import Face
from semibody.inputs import Inputs
from semibody.quality.likeness import (
    LIKENESSES,
    Observer,
    at_rest,
    gradient_energy,
    living,
    measure_hands,
    rest_psnr,
    sharpness,
)
from semibody.types import FACE, LEFT_HAND, RIGHT_HAND, Gesture, Picture, Pose

SIDE = 100
HANDS_AT = ((LEFT_HAND, (0.75, 0.8)), (RIGHT_HAND, (0.25, 0.8)))


def person(*, right: bool = True, shift: tuple[float, float] = (0.0, 0.0), sure: float = 1.0) -> Pose:
    """Shoulders 0.4 of the picture apart, hands below them, a face above; hands moved by ``shift``."""
    rng = np.random.default_rng(1)
    joints, confidence = np.full((128, 2), 0.5), np.ones(128)
    body = {1: (0.5, 0.4), 2: (0.3, 0.4), 3: (0.2, 0.6), 4: (0.25, 0.75), 5: (0.7, 0.4), 6: (0.8, 0.6),
            7: (0.75, 0.75), 8: (0.35, 0.95), 11: (0.65, 0.95)}  # fmt: skip
    for joint, place in body.items():
        joints[joint] = place
    angles = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    joints[FACE] = (0.5, 0.2) + 0.12 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    for hand, place in HANDS_AT:
        joints[hand] = np.array(place) + rng.uniform(-0.05, 0.05, (21, 2)) + shift
        confidence[hand] = sure
    if not right:
        confidence[RIGHT_HAND] = 0.0
    return Pose(joints, confidence)


def hands(
    poses: list[Pose], own: Pose, *, asked: Pose | None = None, best: Pose | None = None,
    size: tuple[int, int] = (SIDE, SIDE),
) -> dict[str, float]:  # fmt: skip
    gesture = Gesture.from_poses([asked or own] * len(poses))
    return measure_hands(poses, gesture, own, best or own, size)


def test_hands_are_found_in_frames_that_show_both() -> None:
    values = hands([person(), person(right=False), person(), person()], person())
    assert values["hands-found"] == 0.75
    assert math.isnan(values["hands-invented"])  # the portrait shows both: none can be invented
    one = hands([person(right=False)], person(right=False))
    assert math.isnan(one["hands-found"]) and one["hands-invented"] == 0


def test_a_hand_that_the_portrait_does_not_show_is_invented() -> None:
    poses = [person(), person(), person(right=False), person(right=False)]
    assert hands(poses, person(right=False))["hands-invented"] == 0.5
    # The detector sees it in the portrait at the clip's size too: then the frames show no more than it does.
    assert math.isnan(hands(poses, person(right=False), best=person())["hands-invented"])


def test_distances_are_in_shoulders_and_in_pixels() -> None:
    # 2 of 100 pixels beside what was asked, shoulders 40 pixels apart.
    assert hands([person(shift=(0.02, 0))], person())["hands-off"] == pytest.approx(5)
    # In a picture twice as wide the shoulders are 80 pixels apart; a fiftieth of the height is 2 pixels.
    tall = hands([person(shift=(0, 0.02))], person(), size=(100, 200))
    assert tall["hands-off"] == pytest.approx(2.5)


def test_confidence_is_a_share_of_the_portraits() -> None:
    assert hands([person(sure=0.6)], person(), best=person(sure=0.8))["HKC-share"] == pytest.approx(0.75)
    # The hand that the portrait does not show takes no part.
    one = hands([person(sure=0.6)], person(right=False), best=person(right=False, sure=0.8))
    assert one["HKC-share"] == pytest.approx(0.75)


def test_movement_is_the_spread_in_pixels_of_768() -> None:
    poses = [person(shift=(0.01 * (-1) ** n, 0)) for n in range(4)]
    # 1 % to either side of the mean in x, nothing in y: the root of the mean over both axes.
    assert hands(poses, person())["HKV"] == pytest.approx(0.01 * 768 / math.sqrt(2))


def test_rest_is_exact_and_its_psnr_leaves_the_mouth_out() -> None:
    own = person()
    gesture = Gesture.from_poses([own, person(shift=(0.001, 0)), own])
    assert at_rest(gesture, own).tolist() == [True, False, True]
    portrait = np.full((SIDE, SIDE, 3), 100, np.uint8)
    inputs = Inputs(portrait=portrait, speech=made.tone(0.5), gesture=gesture, portrait_pose=own)
    moving = living(inputs, own)
    assert rest_psnr(np.full_like(portrait, 110)[None], portrait, moving) == pytest.approx(
        20 * math.log10(255 / 10)
    )
    spoken = portrait.copy()
    mouth = (own.joints[FACE][2:15].mean(axis=0) * SIDE).astype(int)
    spoken[mouth[1] - 1 : mouth[1] + 2, mouth[0] - 1 : mouth[0] + 2] = 0
    assert rest_psnr(spoken[None], portrait, moving) == 60  # equal
    assert math.isnan(rest_psnr(portrait[None][:0], portrait, moving))


def _noise() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(64, 192, (SIDE, SIDE, 1), np.uint8).repeat(3, axis=2)


def test_sharpness_is_the_energy_of_gradients_over_the_portraits() -> None:
    own, portrait = person(), _noise()
    same = sharpness(portrait[None], [own], portrait, own)
    assert same == pytest.approx((1, 1))
    flat = (128 + (portrait.astype(int) - 128) // 2).astype(np.uint8)  # half the contrast, a quarter of it
    assert sharpness(flat[None], [own], portrait, own) == pytest.approx((0.25, 0.25), rel=0.02)
    ramp = np.tile(np.arange(0, 200, 2, dtype=np.uint8)[None, :, None], (SIDE, 1, 3))
    assert gradient_energy(ramp) == pytest.approx(np.full((SIDE, SIDE), 4.0))


def test_arms_are_no_cloth() -> None:
    own, moved, portrait = person(), person(shift=(0, -0.15)), _noise()
    frame = portrait.copy()
    for pose in (own, moved):
        for hand, _ in HANDS_AT:
            x, y = (pose.joints[hand].mean(axis=0) * SIDE).astype(int)
            frame[y - 2 : y + 3, x - 2 : x + 3] = 128
    assert sharpness(frame[None], [moved], portrait, own)[1] == pytest.approx(1)
    unseen = Pose(own.joints, np.where(np.isin(np.arange(128), [2, 5]), 0.0, own.confidence))
    assert math.isnan(sharpness(frame[None], [moved], portrait, unseen)[1])


# -- a whole clip with detectors that say what they are told -------------------------------------------


class Detector:
    """Finds ``poses`` one after the other."""

    name = "told"

    def __init__(self, poses: Sequence[Pose]) -> None:
        self._poses = list(poses)

    def people(self, image: Picture) -> list[Pose]:
        return [self._poses.pop(0)]

    def follow(self, image: Picture, last: Pose) -> Pose | None:
        raise AssertionError("frames are looked at by themselves")

    def close(self) -> None: ...

    def __enter__(self) -> Detector:
        return self

    def __exit__(self, *_: object) -> None: ...


class Finder:
    """Finds a face in pictures that are not black."""

    name = "told"

    def find(self, picture: Picture) -> Face | None:
        return Face(np.zeros((468, 2)), None) if picture.any() else None

    def close(self) -> None: ...


class Embedder:
    """Everybody is the same person."""

    name = "told"

    def embed(self, picture: Picture, face: Face) -> NDArray[np.float32]:
        return np.linspace(-1, 1, 128, dtype=np.float32)


def test_a_clip_is_looked_at_every_third_frame() -> None:
    own, moved, portrait = person(), person(shift=(0.02, 0)), _noise()
    poses = [own, own, own, moved, moved, moved]
    frames = np.stack([portrait] * 6)
    frames[3] = 0  # the second of the frames that are looked at has no face
    inputs = Inputs(
        portrait=portrait, speech=made.tone(), gesture=Gesture.from_poses(poses), portrait_pose=own
    )
    observer = Observer(Detector([own, moved, own]), Finder(), Embedder())
    values = observer.measure(frames, inputs)
    assert set(values) == set(LIKENESSES) - {"seconds"}
    assert values["hands-found"] == 1 and values["hands-off"] == pytest.approx(0)
    assert values["identity"] == pytest.approx(0.5)
    assert values["rest"] == 60  # frames 0 to 2
    assert values["face-sharpness"] == 0  # of frame 3, the only one looked at that moves: it is black


def test_without_a_person_only_the_face_is_compared() -> None:
    portrait = _noise()
    inputs = Inputs(portrait=portrait, speech=made.tone(), gesture=made.gesture(4))
    observer = Observer(Detector([Pose.empty()] * 2), Finder(), Embedder())
    values = observer.measure(np.stack([portrait] * 4), inputs)
    assert {name for name, value in values.items() if not math.isnan(value)} == {"identity"}
