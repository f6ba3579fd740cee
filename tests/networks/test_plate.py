"""The clean plate: what flows into the arms' place, what is left alone, how it reaches the restorer."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

import made
from semibody.animator import Animator
from semibody.conditioning.flops import count_work
from semibody.inputs import Inputs
from semibody.networks.hints import Hints
from semibody.networks.loading import load_model, save_model, verify
from semibody.networks.model import ModelConfig
from semibody.networks.plate import CleanPlate, PlateConfig, surround
from semibody.networks.restorer import Restorer, RestorerConfig
from semibody.networks.vae import VAE
from semibody.pose import timing
from semibody.pose.library import find_gesture
from semibody.pose.limbs import limb_cover

CONFIG = PlateConfig(widths=(8, 16, 16), groups=4)
GIVEN = RestorerConfig(widths=(8, 16), groups=4, limbs=True, plate=True)


def pictures(n: int, height: int = 32, width: int = 32, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def hole(height: int = 32, width: int = 32) -> torch.Tensor:
    hidden = torch.zeros(1, 1, height, width)
    hidden[..., height // 4 : height // 2, width // 4 : -width // 4] = 1
    return hidden


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**31), st.floats(0.05, 0.95))
@settings(max_examples=40, deadline=None)
def test_what_is_known_stays_and_fills_what_is_hidden(
    height: int, width: int, seed: int, share: float
) -> None:
    """Any size, any holes: known pixels as they are, hidden ones between those that are known."""
    rng = np.random.default_rng(seed)
    pixels = torch.from_numpy(rng.normal(size=(1, 3, height, width)).astype(np.float32))
    hidden = torch.from_numpy((rng.random((1, 1, height, width)) < share).astype(np.float32))
    known = hidden == 0
    filled = surround(pixels, hidden)
    torch.testing.assert_close(filled * known, pixels * known)
    if known.any():
        for channel in range(3):
            among = pixels[:, channel : channel + 1][known]
            assert filled[:, channel].min() >= among.min() - 1e-3
            assert filled[:, channel].max() <= among.max() + 1e-3
    else:
        assert filled.abs().max() == 0


def test_hidden_pixels_do_not_change_what_fills_them() -> None:
    hidden, first = hole(), pictures(1)
    other = torch.where(hidden > 0, pictures(1, seed=1), first)
    torch.testing.assert_close(surround(first, hidden), surround(other, hidden))
    plain = torch.full((1, 3, 32, 32), 0.3)
    torch.testing.assert_close(surround(torch.where(hidden > 0, 5.0, plain), hidden), plain)


def test_a_fresh_network_gives_the_portrait_with_the_colours_around_the_arms() -> None:
    torch.manual_seed(0)
    network, portrait, hidden = CleanPlate(CONFIG), pictures(2), hole().repeat(2, 1, 1, 1)
    plate, around = network(portrait, hidden), surround(portrait, hidden)
    torch.testing.assert_close(plate * (hidden == 0), portrait * (hidden == 0))
    few = 1 / (1 + np.exp(3.0))
    expected = torch.lerp(torch.lerp(around, portrait, few), portrait, few)
    torch.testing.assert_close(plate * hidden, expected * hidden)
    assert torch.equal(network(portrait, torch.zeros_like(hidden)), portrait)


@pytest.mark.parametrize("size", [(32, 32), (40, 24), (72, 104)])
def test_it_learns_whatever_the_size_and_never_touches_what_is_not_hidden(size: tuple[int, int]) -> None:
    torch.manual_seed(1)
    network, hidden = CleanPlate(CONFIG), hole(*size)
    torch.nn.init.normal_(network.conv_out.weight, std=0.1)
    portrait = pictures(1, *size)
    plate = network(portrait, hidden)
    assert torch.equal(plate[hidden.expand_as(plate) == 0], portrait[hidden.expand_as(plate) == 0])
    assert (plate - portrait)[hidden.expand_as(plate) == 1].abs().mean() > 0.1
    plate.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())


def test_a_full_share_of_the_plate_shows_it_under_the_limbs() -> None:
    torch.manual_seed(0)
    restorer = Restorer(GIVEN).eval().requires_grad_(False)
    portrait, plate, decoded = pictures(1), pictures(1, seed=5), pictures(2, seed=1)
    maps, own = torch.zeros(2, 3, 32, 32), torch.zeros(1, 3, 32, 32)
    restorer.conv_out.bias[24:28] = 60.0  # type: ignore[index]
    shown = restorer(decoded, maps, restorer.encode(portrait, portrait, own, plate=plate))
    torch.testing.assert_close(shown, plate.expand(2, -1, -1, -1))
    without = restorer(decoded, maps, restorer.encode(portrait, portrait, own))
    torch.testing.assert_close(without, portrait.expand(2, -1, -1, -1))
    restorer.conv_out.bias[18:22] = 60.0  # type: ignore[index]
    limbs = torch.full((2, 4, 32, 32), 255, dtype=torch.uint8)
    shown = restorer(decoded, maps, restorer.encode(portrait, portrait, own, plate=plate), limbs=limbs)
    torch.testing.assert_close(shown, torch.ones_like(shown))


def plate_config() -> ModelConfig:
    return dataclasses.replace(made.small_config(), hints=Hints(pose="own"), restorer=GIVEN, plate=CONFIG)


def test_weights_with_a_plate_are_saved_checked_counted_and_loaded(tmp_path: Path) -> None:
    animator = Animator.random(plate_config(), width=64, height=64)
    save_model(tmp_path, animator.model)
    assert verify(tmp_path)["plate"] == []
    again, info = load_model(tmp_path)
    assert info.model.plate == CONFIG
    assert again.plate is not None
    assert animator.model.plate is not None
    for name, value in animator.model.plate.state_dict().items():
        assert torch.equal(value, again.plate.state_dict()[name])
    without = dataclasses.replace(
        plate_config(), plate=None, restorer=dataclasses.replace(GIVEN, plate=False)
    )
    more, less = count_work(plate_config(), 64, 64), count_work(without, 64, 64)
    # At half the size: 28 channels come in, 22 go out, and there is more between them.
    assert more.reference - less.reference > 2 * 9 * 8 * (28 + 22) * 32 * 32
    assert more.decode_frame - less.decode_frame == 2 * 9 * 8 * 6 * 32 * 32


@pytest.mark.parametrize("size", [(64, 64), (96, 64)])
def test_animate_predicts_the_plate_once_where_the_portraits_arms_are(size: tuple[int, int]) -> None:
    height, width = size
    animator = Animator.random(plate_config(), width=width, height=height)
    poses = timing.fill(find_gesture("open_palms"), 8, "stop")
    picture = (np.random.default_rng(0).random((height, width, 3)) * 255).astype(np.uint8)
    inputs = Inputs(portrait=picture, speech=made.tone(1.0), gesture=poses)
    received: list[tuple[torch.Tensor, ...]] = []
    assert animator.model.plate is not None
    animator.model.plate.register_forward_pre_hook(lambda _, x: received.append(x))
    options = animator.settings(steps=1, guidance=1.0, window=4, overlap=0)
    without_pose = np.concatenate(list(animator.frames(inputs, options)))
    assert not received, "the pose is not known"
    with_pose = np.concatenate(
        list(animator.frames(dataclasses.replace(inputs, portrait_pose=poses[0]), options))
    )
    assert len(received) == 1
    assert without_pose.shape == with_pose.shape == (8, height, width, 3)
    np.testing.assert_array_equal(received[0][1][0, 0].numpy(), limb_cover(poses[0], height, width))


@pytest.mark.parametrize("size", [(64, 64), (96, 64)])
def test_animate_conditions_the_denoiser_on_the_plates_latents(size: tuple[int, int]) -> None:
    height, width = size
    hints = Hints(portrait="concat", base="plate", pose="own")
    config = dataclasses.replace(plate_config(), hints=hints)
    animator = Animator.random(config, width=width, height=height)
    poses = timing.fill(find_gesture("open_palms"), 3, "stop")
    picture = (np.random.default_rng(0).random((height, width, 3)) * 255).astype(np.uint8)
    inputs = Inputs(portrait=picture, speech=made.tone(1.0), gesture=poses)
    received: list[torch.Tensor] = []
    animator.model.denoising_unet.conv_in.register_forward_pre_hook(lambda _, x: received.append(x[0][:, 4:]))
    options = animator.settings(steps=1, guidance=1.0, window=4, overlap=0)
    pixels = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
    hidden = torch.from_numpy(limb_cover(poses[0], height, width))[None, None]
    assert animator.model.plate is not None
    with torch.inference_mode():
        portrait = animator.model.encode(pixels)
        plate = animator.model.encode(animator.model.plate(pixels, hidden))
    assert (plate - portrait).abs().max() > 1e-3
    for own, expected in ((None, portrait), (poses[0], plate)):
        list(animator.frames(dataclasses.replace(inputs, portrait_pose=own), options))
        torch.testing.assert_close(received.pop(), expected.expand(3, -1, -1, -1))
    plain = dataclasses.replace(config, hints=Hints(portrait="concat", pose="own"))
    encoding = count_work(config, height, width).reference - count_work(plain, height, width).reference
    assert encoding == count_encoding(config, height, width) > 0


def count_encoding(config: ModelConfig, height: int, width: int) -> float:
    with torch.device("meta"), torch.inference_mode(), FlopCounterMode(display=False) as counter:
        VAE(config.vae).encode(torch.empty(1, 3, height, width))
    return float(counter.get_total_flops())


def test_a_restorer_that_takes_plates_needs_the_network_that_predicts_them() -> None:
    with pytest.raises(ValueError, match="needs the network plate"):
        dataclasses.replace(plate_config(), plate=None)


@pytest.mark.parametrize(
    ("changes", "message"), [({"widths": (10,)}, "multiples"), ({"middle": -1}, "negative")]
)
def test_impossible_sizes(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PlateConfig(**changes)  # type: ignore[arg-type]
