"""Small networks work at the size they were trained on; pictures are finished at their own."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import made
from semibody.animator import Animator
from semibody.conditioning.clip import ClipConditions, pixels_of
from semibody.networks.hints import Hints
from semibody.networks.model import ModelConfig
from semibody.networks.plate import PlateConfig
from semibody.networks.restorer import RestorerConfig, resized
from semibody.pose import timing
from semibody.pose.library import find_gesture
from semibody.pose.skeleton import ARMS
from semibody.types import FACE, Gesture, Picture, Pose


def config(**changes: object) -> ModelConfig:
    restorer = RestorerConfig(widths=(8, 16), groups=4)
    sizes = dataclasses.replace(made.small_config(), hints=Hints(pose="own"), restorer=restorer, side=64)
    return dataclasses.replace(sizes, **changes)  # type: ignore[arg-type]


def noise_picture(height: int, width: int) -> Picture:
    return (np.random.default_rng(0).random((height, width, 3)) * 255).astype(np.uint8)


def clip(animator: Animator, picture: Picture) -> ClipConditions:
    poses = timing.fill(find_gesture("open_palms"), 2, "stop")
    with torch.inference_mode():
        return ClipConditions(animator.model, picture, poses[0], poses, made.tone(0.5), 12.0)


@pytest.mark.parametrize(
    ("size", "worked"),
    [((64, 64), (64, 64)), ((128, 128), (64, 64)), ((32, 32), (64, 64)), ((384, 512), (56, 72)),
     ((568, 320), (88, 48)), ((64, 256), (32, 128))],
)  # fmt: skip
def test_the_area_is_that_of_training_in_whole_cells(size: tuple[int, int], worked: tuple[int, int]) -> None:
    assert config().working_size(*size) == worked
    assert config(side=None).working_size(*size) == size


@pytest.mark.parametrize("size", [(128, 128), (96, 160)])
def test_a_full_share_of_the_portrait_is_the_portrait_in_full_size(size: tuple[int, int]) -> None:
    animator, picture = Animator.random(config()), noise_picture(*size)
    restorer = animator.model.restorer
    assert restorer is not None
    with torch.no_grad():
        restorer.conv_out.bias[12:16] = 60.0  # type: ignore[index]
    conditions = clip(animator, picture)
    cells = conditions.cells
    assert cells == tuple(n // 8 for n in config().working_size(*size))
    with torch.inference_mode():
        decoded = animator.model.decode(torch.zeros(2, 4, *cells))
        restored = conditions.restored(decoded, [0, 1])
    torch.testing.assert_close(restored, pixels_of(picture).expand(2, -1, -1, -1), atol=2e-3, rtol=0)


def test_no_share_of_it_is_the_decoded_frame_enlarged() -> None:
    animator, picture = Animator.random(config()), noise_picture(128, 128)
    restorer = animator.model.restorer
    assert restorer is not None
    with torch.no_grad():
        restorer.conv_out.bias[12:16] = -60.0  # type: ignore[index]
    conditions = clip(animator, picture)
    with torch.inference_mode():
        decoded = animator.model.decode(torch.randn(2, 4, 8, 8))
        restored = conditions.restored(decoded, [0, 1])
    enlarged = F.interpolate(decoded, size=(128, 128), mode="bicubic", align_corners=False)
    torch.testing.assert_close(restored, enlarged)


@pytest.mark.parametrize(
    "restorer", [None, *(RestorerConfig(widths=(8, 16), groups=4, plate=plate) for plate in (False, True))]
)
def test_clips_of_any_size_have_that_size(restorer: RestorerConfig | None) -> None:
    plate = PlateConfig(widths=(8, 16), groups=4) if restorer is not None and restorer.plate else None
    made_config = config(restorer=restorer, plate=plate)
    animator = Animator.random(made_config, width=64, height=64, steps=1, guidance=1.0)
    for width, height in ((128, 128), (96, 160), (64, 64)):
        size: dict[str, Any] = {"width": width, "height": height, "frame": "keep", "align": "none"}
        made_clip = animator.animate(made.picture(), made.tone(0.1), made.gesture(), **size)
        assert made_clip.frames.shape[1:] == (height, width, 3)


def test_a_picture_of_its_own_size_is_left_alone() -> None:
    x = torch.rand(1, 3, 8, 8)
    assert resized(x, torch.empty(2, 1, 8, 8)) is x


def speaker() -> Pose:
    """A person with a face and both arms, as the library has it."""
    pose = find_gesture("open_palms")[0]
    confidence = pose.confidence.copy()
    confidence[FACE] = 1.0
    return Pose(pose.joints, confidence)


@pytest.mark.parametrize("size", [(64, 64), (128, 128)])
def test_what_no_condition_moves_is_the_portrait_itself(size: tuple[int, int]) -> None:
    """Whatever the networks predict: at rest all but the mouth, and the other arm when one moves."""
    limbs = config(restorer=RestorerConfig(widths=(8, 16), groups=4, limbs=True))
    animator, picture, own = Animator.random(limbs), noise_picture(*size), speaker()
    raised = Pose(own.joints.copy(), own.confidence)
    left, right = ([arm[2], arm[3], *range(arm[0].start, arm[0].stop)] for arm in ARMS)
    raised.joints[left] -= [0.0, 0.2]
    poses = Gesture.from_poses([own, raised], 12.0)
    with torch.inference_mode():
        conditions = ClipConditions(animator.model, picture, own, poses, made.tone(0.5), 12.0)
        decoded = animator.model.decode(torch.randn(2, 4, *conditions.cells))
        restored = conditions.restored(decoded, [0, 1])
    portrait = pixels_of(picture)
    same = (restored == portrait).all(dim=1).numpy()
    x, y = (own.joints * (size[1], size[0])).T.astype(int).clip(0, size[0] - 1)
    lips, brows = FACE.start + 57, FACE.start + 19
    for frame, moves in ((0, [lips]), (1, [lips, *left])):
        assert not same[frame, y[moves], x[moves]].any()
    assert same[0, y[[brows, *left, *right]], x[[brows, *left, *right]]].all()
    assert same[1, y[[brows, right[0]]], x[[brows, right[0]]]].all()
    assert same[0].mean() > 0.9
