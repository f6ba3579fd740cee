"""The restorer: where it begins, what it copies, what it leaves alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

import made
from semibody.animator import Animator
from semibody.conditioning.flops import count_work
from semibody.inputs import Inputs
from semibody.networks.hints import Hints
from semibody.networks.loading import load_model, save_model, verify
from semibody.networks.model import Conditions, Model, ModelConfig
from semibody.networks.pixels import warp
from semibody.networks.restorer import Restorer, RestorerConfig
from semibody.pose import timing
from semibody.pose.library import find_gesture
from semibody.pose.limbs import move_limbs
from semibody.types import SemibodyError

CONFIG = RestorerConfig(widths=(8, 16), groups=4)


def restored_config() -> ModelConfig:
    return dataclasses.replace(made.small_config(), hints=Hints(pose="own"), restorer=CONFIG)


@pytest.fixture(scope="module")
def restorer() -> Restorer:
    torch.manual_seed(0)
    return Restorer(CONFIG).eval().requires_grad_(False)


def pictures(n: int, side: int = 32, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_a_fresh_restorer_gives_frames_back_almost_as_they_are(restorer: Restorer) -> None:
    portrait, decoded = pictures(1), pictures(4, seed=1)
    encoded = restorer.encode(portrait, portrait, torch.zeros(1, 3, 32, 32))
    out = restorer(decoded, torch.zeros(4, 3, 32, 32), encoded)
    torch.testing.assert_close(out, torch.lerp(decoded, portrait, 1 / (1 + np.exp(3.0))))


def test_a_full_share_shows_the_portrait_and_none_the_frame(restorer: Restorer) -> None:
    portrait, decoded = pictures(2), pictures(6, seed=1)
    encoded = restorer.encode(portrait, portrait, torch.zeros(2, 3, 32, 32))
    for bias, expected in ((60.0, portrait.repeat_interleave(3, dim=0)), (-60.0, decoded)):
        extreme = Restorer(CONFIG)
        extreme.load_state_dict(restorer.state_dict())
        with torch.no_grad():
            extreme.conv_out.bias[12:16] = bias  # type: ignore[index]
            out = extreme(decoded, torch.zeros(6, 3, 32, 32), encoded)
        torch.testing.assert_close(out, expected)


def test_middle_blocks_are_as_many_as_asked() -> None:
    counts = [
        sum(p.numel() for p in Restorer(dataclasses.replace(CONFIG, middle=n)).parameters()) for n in range(3)
    ]
    assert counts[2] - counts[1] == counts[1] - counts[0] == 2 * (16 * 16 * 9 + 16) + 2 * 2 * 16
    with pytest.raises(ValueError, match="middle"):
        dataclasses.replace(CONFIG, middle=-1)


@pytest.mark.parametrize(("right", "down"), [(3, 0), (0, -2), (-1, 4)])
def test_warp_takes_pixels_from_where_the_flow_points(right: int, down: int) -> None:
    height, width = 16, 32
    picture = torch.rand(1, 3, height, width)
    # Half the picture is a flow of 1.
    flow = torch.tensor([right * 2 / width, down * 2 / height]).view(1, 2, 1, 1).expand(1, 2, 8, 16)
    moved = warp(picture, flow)
    inside = moved[..., 4:-4, 4:-4]
    expected = picture[..., 4 + down : height - 4 + down, 4 + right : width - 4 + right]
    torch.testing.assert_close(inside, expected, atol=1e-5, rtol=0)


def test_every_input_matters_and_frames_are_independent(restorer: Restorer) -> None:
    torch.manual_seed(3)
    network = Restorer(CONFIG).eval().requires_grad_(False)
    torch.nn.init.normal_(network.conv_out.weight, std=0.1)
    portrait, shown, own, decoded, maps = (pictures(n, seed=s) for s, n in enumerate((1, 1, 1, 3, 3)))
    whole = network(decoded, maps, network.encode(portrait, shown, own))
    other = pictures(1, seed=9)
    changed = ((other, shown, own), (portrait, other, own), (portrait, shown, other))
    for encoded in (network.encode(*seen) for seen in changed):
        assert (network(decoded, maps, encoded) - whole).abs().max() > 1e-4
    assert (network(decoded, maps.flip(0), network.encode(portrait, shown, own)) - whole).abs().max() > 1e-4
    alone = network(decoded[1:2], maps[1:2], network.encode(portrait, shown, own))
    torch.testing.assert_close(alone, whole[1:2], atol=1e-5, rtol=1e-5)


def test_the_predicted_mouth_acts_where_the_lips_are() -> None:
    torch.manual_seed(3)
    network = Restorer(dataclasses.replace(CONFIG, heard=True)).eval().requires_grad_(False)
    torch.nn.init.normal_(network.conv_out.weight, std=0.1)
    portrait, decoded, maps = pictures(2), pictures(4, seed=1), pictures(4, seed=2)
    lips = torch.zeros(2, 1, 8, 8)
    lips[1, :, 2:4, 3:5] = 1

    def restored(mouth: torch.Tensor | None, where: torch.Tensor | None) -> torch.Tensor:
        return network(decoded, maps, network.encode(portrait, portrait, portrait, where), mouth)

    shut, open_ = torch.zeros(4, 2), torch.tensor([[0.0, 0], [0, 0], [0, 0], [0.8, 1.2]])
    plain = restored(None, lips)
    assert torch.equal(restored(open_, None), plain), "the lips are not known"
    before, after = restored(shut, lips), restored(open_, lips)
    torch.testing.assert_close(before[:2], plain[:2])
    torch.testing.assert_close(before[:3], after[:3])
    moved = (before[3] - after[3]).abs().mean(dim=0)
    assert moved[8:16, 12:20].mean() > 3 * moved[24:].mean()


@pytest.mark.parametrize("size", [(16, 16), (40, 24)])
def test_any_size_that_the_autoencoder_takes(restorer: Restorer, size: tuple[int, int]) -> None:
    picture = torch.zeros(1, 3, *size)
    assert restorer(picture, picture, restorer.encode(picture, picture, picture)).shape == (1, 3, *size)


def test_weights_with_a_restorer_are_saved_checked_and_loaded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Model(restored_config())
    save_model(tmp_path, model)
    assert verify(tmp_path)["restorer"] == []
    again, info = load_model(tmp_path)
    assert info.model.restorer == CONFIG
    assert again.restorer is not None
    assert model.restorer is not None
    for name, value in model.restorer.state_dict().items():
        assert torch.equal(value, again.restorer.state_dict()[name])
    (tmp_path / "restorer.safetensors").unlink()
    with pytest.raises(SemibodyError, match="restorer"):
        load_model(tmp_path)


def test_it_counts_as_work_of_a_frame() -> None:
    without = dataclasses.replace(restored_config(), restorer=None)
    more = count_work(restored_config(), 64, 64).decode_frame - count_work(without, 64, 64).decode_frame
    assert more > 0
    audio = dataclasses.replace(made.small_config().audio, kind="logmel", mouth_token=True)
    network = dataclasses.replace(
        restored_config(), audio=audio, hints=Hints(pose="own", audio_region="lips")
    )
    conditioned = dataclasses.replace(network, restorer=dataclasses.replace(CONFIG, heard=True, limbs=True))
    more_per_frame = count_work(conditioned, 64, 64).decode_frame - count_work(network, 64, 64).decode_frame
    # At half the size: 16 and 3 more channels come in, 6 more go out.
    assert more_per_frame == 2 * 9 * 8 * (16 + 3 + 6) * 32 * 32


def test_animate_goes_through_the_restorer() -> None:
    plain = Animator.random(dataclasses.replace(restored_config(), restorer=None), width=64, height=64)
    restoring = Animator.random(restored_config(), width=64, height=64)
    for part in plain.model.config.networks:
        getattr(restoring.model, part).load_state_dict(getattr(plain.model, part).state_dict())
    assert restoring.model.restorer is not None
    with torch.no_grad():
        restoring.model.restorer.conv_out.bias[12:16] = 60.0  # type: ignore[index]
    portrait = (np.random.default_rng(0).random((64, 64, 3)) * 255).astype(np.uint8)
    speech, gesture = made.tone(1.0), made.gesture(4)
    first, second = (
        animator.animate(portrait, speech, gesture, length=4, steps=1, frame="keep", align="none")
        for animator in (plain, restoring)
    )
    assert np.abs(second.frames.astype(int) - portrait).max() <= 1
    assert np.abs(first.frames.astype(int) - portrait).max() > 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hints": Hints()}, "hints.pose"),
        ({"restorer": RestorerConfig(widths=(8, 8, 8, 8, 8))}, "further"),
        ({"restorer": dataclasses.replace(CONFIG, heard=True)}, "mouth_token"),
    ],
)
def test_settings_that_contradict_each_other(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(restored_config(), **changes)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="multiples"):
        RestorerConfig(widths=(10,))


LIMBS = dataclasses.replace(CONFIG, limbs=True)


def carried(n: int, side: int = 32) -> torch.Tensor:
    """White arms everywhere."""
    return torch.full((n, 4, side, side), 255, dtype=torch.uint8)


def test_a_full_share_of_limbs_shows_what_was_carried() -> None:
    torch.manual_seed(0)
    restorer = Restorer(LIMBS).eval().requires_grad_(False)
    portrait, decoded = pictures(1), pictures(3, seed=1)
    maps, encoded = torch.zeros(3, 3, 32, 32), restorer.encode(portrait, portrait, torch.zeros(1, 3, 32, 32))
    mostly = torch.lerp(decoded, portrait, 1 / (1 + np.exp(3.0)))
    torch.testing.assert_close(restorer(decoded, maps, encoded), mostly)
    limbs = torch.lerp(mostly, torch.ones(1), 1 / (1 + np.exp(3.0)))
    torch.testing.assert_close(restorer(decoded, maps, encoded, limbs=carried(3)), limbs)
    restorer.conv_out.bias[18:22] = 60.0  # type: ignore[index]
    shown = restorer(decoded, maps, encoded, limbs=carried(3))
    torch.testing.assert_close(shown, torch.ones_like(shown))
    torch.testing.assert_close(restorer(decoded, maps, encoded), mostly)


def limbs_config() -> ModelConfig:
    """Small networks whose denoiser and restorer both see the limbs."""
    hints = Hints(portrait="concat", pose="own", limbs=True)
    return dataclasses.replace(restored_config(), hints=hints, restorer=LIMBS)


def test_the_denoiser_is_conditioned_on_the_portraits_latents_where_limbs_carry_them() -> None:
    torch.manual_seed(0)
    config = limbs_config()
    model = Model(config).eval().requires_grad_(False)
    channels = config.vae.latent_channels
    portrait, latents = torch.randn(2, channels, 8, 8), torch.randn(2, 3, channels, 8, 8)
    seen: list[torch.Tensor] = []
    model.denoising_unet.conv_in.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    limbs = torch.zeros(2, 3, 3, 8, 8)
    limbs[1, 2, 0], limbs[1, 2, 2, 2:6] = 2 / 8 * 1, 0.5  # one cell from the right, half sure
    carried = model.carry(portrait, limbs)
    model.denoise(latents, torch.tensor([9.0]), Conditions(base=portrait, concatenated=carried))
    model.denoise(latents, torch.tensor([9.0]), Conditions(base=portrait))
    moved, without = (x.unflatten(0, (2, 3))[:, :, 2 * channels :] for x in seen)
    assert torch.equal(without, torch.zeros_like(without))
    expected = torch.zeros(2, 3, channels + 1, 8, 8)
    expected[1, 2, -1, 2:6] = 0.5
    expected[1, 2, :-1, 2:6, :7] = 0.5 * portrait[1, :, 2:6, 1:]
    expected[1, 2, :-1, 2:6, 7] = 0.5 * portrait[1, :, 2:6, 7]
    torch.testing.assert_close(moved, expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="portrait"):
        Hints(limbs=True)


def test_limbs_are_carried_as_finely_in_bfloat16() -> None:
    """A flow rounded to bfloat16 would be off by a fortieth of a cell here, by more farther away."""
    carry = Model(limbs_config()).carry
    portrait = pictures(1, side=32)
    limbs = torch.cat([torch.full((1, 1, 2, 32, 32), 0.5055), torch.ones(1, 1, 1, 32, 32)], dim=2)
    fine, coarse = carry(portrait, limbs), carry(portrait.bfloat16(), limbs)
    assert coarse.dtype == torch.bfloat16
    # What is left is the rounding of the latents themselves.
    torch.testing.assert_close(coarse.float(), fine, atol=8e-3, rtol=0)
    rounded = carry(portrait, limbs.bfloat16().float())
    assert (rounded - fine).abs().max() > 2e-2


@pytest.mark.parametrize("size", [(64, 64), (96, 64)])
def test_animate_conditions_both_networks_on_the_limbs(size: tuple[int, int]) -> None:
    """Only where a pose of the portrait is known; then both get what training would give them."""
    height, width = size
    animator = Animator.random(limbs_config(), width=width, height=height)
    poses = timing.fill(find_gesture("open_palms"), 4, "stop")
    picture = (np.random.default_rng(0).random((height, width, 3)) * 255).astype(np.uint8)
    given = Inputs(portrait=picture, speech=made.tone(1.0), gesture=poses)
    received: dict[str, list[torch.Tensor]] = {"denoise": [], "restore": []}
    assert animator.model.restorer is not None
    animator.model.denoising_unet.conv_in.register_forward_pre_hook(
        lambda _, x: received["denoise"].append(x[0])
    )
    animator.model.restorer.limbs_in.register_forward_pre_hook(lambda _, x: received["restore"].append(x[0]))
    settings = animator.settings(steps=1, guidance=1.0, window=4, overlap=0)
    without_pose = list(animator.frames(given, settings))
    assert not received["restore"]
    assert received["denoise"][0][:, 8:].abs().max() == 0
    own = dataclasses.replace(poses[0], joints=poses[0].joints * [0.7, 0.7])  # too far to be deformed
    with_pose = list(animator.frames(dataclasses.replace(given, portrait_pose=own), settings))
    assert not np.array_equal(np.concatenate(without_pose), np.concatenate(with_pose))
    cover = received["denoise"][1][:, -1].float().numpy()
    h, w = height // 8, width // 8
    for i in range(4):
        expected = move_limbs(own, poses[i], h, w, width / height)
        np.testing.assert_allclose(cover[i], expected.cover, atol=1e-2)
        assert expected.cover.max() > 0.5
    assert received["restore"][0][:, -4:].abs().max() > 0.5
