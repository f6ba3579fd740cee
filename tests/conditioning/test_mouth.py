"""What networks draw is taken where it is; of a photograph that is moved they draw nothing."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from semibody.animator import Animator
from semibody.conditioning.mouth import Drawn, channels_last
from semibody.conditioning.movement import draws_nothing
from semibody.inputs import Inputs, prepare
from semibody.settings import Settings
from semibody.weights.hub import find_weights


@pytest.fixture(scope="module")
def animator() -> Animator:
    return Animator.load("starter", precision="fp32")


@pytest.fixture(scope="module")
def prepared(animator: Animator) -> tuple[Inputs, Settings]:
    chosen = animator.settings(length=24)
    folder, _ = find_weights("starter")
    return prepare(folder / "portrait.png", folder / "speech.wav", "auto", chosen), chosen


def test_of_a_photograph_that_is_moved_networks_draw_nothing(
    animator: Animator, prepared: tuple[Inputs, Settings]
) -> None:
    inputs, chosen = prepared
    with torch.inference_mode():
        moved, drawn = (
            animator.conditions(inputs, dataclasses.replace(chosen, arms=arms))
            for arms in ("auto", "networks")
        )
        assert (moved.draws, drawn.draws) == (False, True)
        for arms, nothing in (("auto", True), ("networks", False)):
            restorer, own = animator.model.config.restorer, inputs.portrait_pose
            assert draws_nothing(restorer, own, inputs.gesture, arms) is nothing
        assert animator.denoise(moved, chosen).shape == (24, 0, *moved.cells)
        made = list(animator.frames(inputs, chosen))
        streamed = list(animator.stream(inputs, chosen))
    assert np.concatenate(made).shape == (24, *inputs.portrait.shape)
    assert (np.concatenate(made) == np.concatenate(streamed)).all()


def test_a_clip_does_not_depend_on_where_its_making_began(
    animator: Animator, prepared: tuple[Inputs, Settings]
) -> None:
    with torch.inference_mode():
        one, other = (animator.conditions(*prepared) for _ in range(2))
        latents = animator.denoise(one, prepared[1])
        one.finish(latents, range(4))
        assert torch.equal(one.finish(latents, range(4, 8)), other.finish(latents, range(4, 8)))


def test_a_ramp_is_found_at_its_place() -> None:
    """A picture whose value is its column: drawn at half the size, read in pixels of the whole."""
    columns = torch.arange(128).float().expand(1, 3, 64, 128)
    drawn = Drawn(channels_last(torch.nn.functional.avg_pool2d(columns, 2)))
    x, y = np.meshgrid(np.arange(36, 60, dtype=np.float32), np.arange(20, 44, dtype=np.float32))
    read = drawn.at(0, x, y, (64, 128))
    np.testing.assert_allclose(read, np.repeat(x[..., None], 3, axis=2), atol=0.1)
