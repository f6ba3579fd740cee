"""What the networks draw of the mouth alone is what they draw of the whole picture there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from semibody.animator import Animator
from semibody.conditioning.clip import ClipConditions
from semibody.conditioning.mouth import Drawn, Part
from semibody.inputs import Inputs, prepare
from semibody.settings import Settings
from semibody.types import FACE, Pose
from semibody.weights.hub import find_weights


@pytest.fixture(scope="module")
def animator() -> Animator:
    return Animator.load("starter", precision="fp32")


@pytest.fixture(scope="module")
def prepared(animator: Animator) -> tuple[Inputs, Settings]:
    chosen = animator.settings(length=24)
    folder, _ = find_weights("starter")
    return prepare(folder / "portrait.png", folder / "speech.wav", "auto", chosen), chosen


@pytest.fixture(scope="module")
def conditions(animator: Animator, prepared: tuple[Inputs, Settings]) -> ClipConditions:
    with torch.inference_mode():
        return animator.conditions(*prepared)


def test_of_an_open_mouth_it_is_the_whole_frame(
    animator: Animator, conditions: ClipConditions, prepared: tuple[Inputs, Settings]
) -> None:
    frames = [8, 15, 20]
    with torch.inference_mode():
        latents = animator.denoise(conditions, prepared[1])
        conditions.finish(latents, frames)
        mouths = conditions._mouth(frames)
        assert mouths[:, 0].max() > 0.3
        assert conditions._drawn_mouth is not None
        drawn = conditions._drawn_mouth.draw(latents[frames], mouths)
        decoded = animator.model.decode(latents[frames])
        restorer, encoded, carried = (
            animator.model.restorer, conditions._encoded, conditions._carried(conditions._picture, frames),
        )  # fmt: skip
        assert restorer is not None
        assert encoded is not None
        whole = restorer(decoded, conditions.maps(frames), encoded, mouths, carried)
    own = prepared[0].portrait_pose
    assert own is not None
    height, width = whole.shape[2:]
    lips = own.joints[FACE][48:68] * (width, height)
    (left, top), (right, bottom) = lips.min(axis=0).astype(int) - 1, lips.max(axis=0).astype(int) + 4
    x, y = np.meshgrid(np.arange(left, right, dtype=np.float32), np.arange(top, bottom, dtype=np.float32))
    for number in range(len(frames)):
        part = drawn.at(number, x, y, (height, width))
        expected = whole[number, :, top:bottom, left:right].permute(1, 2, 0).numpy()
        assert np.abs(part - expected).max() < 0.12  # at a single place
        assert np.square(part - expected).mean() < 2.5e-4  # 42 dB
    assert drawn.pictures.shape[1] * drawn.pictures.shape[2] < height * width / 8


def test_a_clip_does_not_depend_on_where_its_making_began(
    animator: Animator, prepared: tuple[Inputs, Settings]
) -> None:
    with torch.inference_mode():
        one, other = (animator.conditions(*prepared) for _ in range(2))
        latents = animator.denoise(one, prepared[1])
        one.finish(latents, range(4))
        assert torch.equal(one.finish(latents, range(4, 8)), other.finish(latents, range(4, 8)))


def face_at(x: float, y: float, size: float) -> Pose:
    joints = np.zeros((128, 2))
    corners = np.random.default_rng(0).random((68, 2))
    joints[FACE] = (x, y) + size * corners
    return Pose(joints, np.ones(128))


@pytest.mark.parametrize("place", [(0.4, 0.1, 0.2), (-0.1, -0.1, 0.2), (0.9, 0.95, 0.3), (0.0, 0.0, 1.0)])
def test_a_part_lies_within_the_picture(place: tuple[float, float, float]) -> None:
    part = Part.about_mouth(face_at(*place), (32, 24))
    assert 0 <= part.rows.start < part.rows.stop <= 32
    assert 0 <= part.columns.start < part.columns.stop <= 24
    cut = part.of_picture(torch.zeros(1, 3, 64, 48))
    assert cut.shape[2:] == (
        2 * (part.rows.stop - part.rows.start),
        2 * (part.columns.stop - part.columns.start),
    )


def test_a_part_of_a_ramp_is_found_at_its_place() -> None:
    """A picture whose value is its column: drawn at half the size, read in pixels of the whole."""
    part = Part(slice(2, 6), slice(4, 8), (8, 16))
    columns = torch.arange(128).float().expand(1, 3, 64, 128)
    small = torch.nn.functional.avg_pool2d(columns, 2)
    drawn = Drawn(part.of_picture(small).permute(0, 2, 3, 1).contiguous().numpy(), part)
    x, y = np.meshgrid(np.arange(36, 60, dtype=np.float32), np.arange(20, 44, dtype=np.float32))
    read = drawn.at(0, x, y, (64, 128))
    np.testing.assert_allclose(read, np.repeat(x[..., None], 3, axis=2), atol=0.1)
