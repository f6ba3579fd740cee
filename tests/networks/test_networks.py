from __future__ import annotations

import dataclasses

import pytest
import torch

import made
from semibody.networks.audio_encoders import AudioConfig, AudioFeatureMapper, build_audio_encoder
from semibody.networks.flops import count_work
from semibody.networks.model import Conditions, Model, ModelConfig
from semibody.networks.plate import PlateConfig
from semibody.networks.unet import UNet, UNetConfig

UNET = made.small_config().unet


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    return Model(made.small_config()).eval().requires_grad_(False)


def conditions(model: Model, frames: int = 3, side: int = 8) -> tuple[torch.Tensor, Conditions]:
    torch.manual_seed(1)
    portrait = torch.randn(1, 4, side, side)
    made_of = Conditions(
        portrait=portrait,
        reference=model.remember(portrait),
        audio=torch.randn(1, frames, 4, 64),
        pose=model.pose_features(torch.rand(1, frames, 3, 8 * side, 8 * side)),
    )
    return torch.randn(1, frames, 4, side, side), made_of


@pytest.mark.parametrize("left_out", ["reference", "audio", "pose"])
def test_every_condition_matters(model: Model, left_out: str) -> None:
    latents, whole = conditions(model)
    t = torch.tensor([500.0])
    changed = model.denoise(latents, t, dataclasses.replace(whole, **{left_out: None}))
    assert (model.denoise(latents, t, whole) - changed).abs().max() > 1e-5


def test_no_audio_equals_zero_audio(model: Model) -> None:
    latents, whole = conditions(model)
    t = torch.tensor([500.0])
    none = model.denoise(latents, t, dataclasses.replace(whole, audio=None))
    zero = model.denoise(latents, t, dataclasses.replace(whole, audio=torch.zeros(1, 3, 4, 64)))
    torch.testing.assert_close(none, zero, atol=1e-6, rtol=1e-5)


def test_audio_mask_of_ones_changes_nothing_and_zeros_mute(model: Model) -> None:
    latents, whole = conditions(model)
    t, ones = torch.tensor([500.0]), torch.ones(1, 3, 8, 8)
    free = model.denoise(latents, t, whole)
    torch.testing.assert_close(model.denoise(latents, t, dataclasses.replace(whole, audio_mask=ones)), free)
    muted = dataclasses.replace(whole, audio_mask=0 * ones)
    other = dataclasses.replace(muted, audio=torch.randn(1, 3, 4, 64))
    torch.testing.assert_close(model.denoise(latents, t, muted), model.denoise(latents, t, other))


def test_batches_are_independent(model: Model) -> None:
    latents, whole = conditions(model)
    assert whole.reference is not None
    two = Conditions(
        portrait=None if whole.portrait is None else whole.portrait.repeat(2, 1, 1, 1),
        reference={
            k: type(v)(v.key.repeat(2, 1, 1), v.value.repeat(2, 1, 1)) for k, v in whole.reference.items()
        },
        audio=whole.audio.repeat(2, 1, 1, 1),  # type: ignore[union-attr]
        pose=whole.pose.repeat(2, 1, 1, 1, 1),  # type: ignore[union-attr]
    )
    t = torch.tensor([500.0, 500.0])
    both = model.denoise(latents.repeat(2, 1, 1, 1, 1), t, two)
    torch.testing.assert_close(both[0], both[1])
    torch.testing.assert_close(both[:1], model.denoise(latents, t[:1], whole), atol=1e-5, rtol=1e-4)


def test_options_of_small_models() -> None:
    unet = dataclasses.replace(UNET, in_channels=8, audio_time_tokens=4, head_width=16)
    config = dataclasses.replace(
        made.small_config(), unet=unet, concat_portrait=True, reference_pose=True, half_appearance=False
    )
    model = Model(config).eval()
    latents, whole = conditions(model)
    out = model.denoise(latents, torch.tensor([500.0]), whole)
    assert out.shape == latents.shape
    out.sum().backward()
    named = {n: p.grad for n, p in model.denoising_unet.named_parameters()}
    assert all(g is not None and torch.isfinite(g).all() for g in named.values())


def test_audio_counts_only_where_its_mask_lets_it() -> None:
    unet = dataclasses.replace(UNET, in_channels=8, audio_time_tokens=4, head_width=16)
    config = dataclasses.replace(made.small_config(), unet=unet, concat_portrait=True, half_appearance=False)
    model = Model(config).eval()
    latents, whole = conditions(model)
    assert whole.audio is not None

    def out(share: float | None, audio: torch.Tensor) -> torch.Tensor:
        mask = None if share is None else torch.full((*latents.shape[:2], *latents.shape[3:]), share)
        heard = dataclasses.replace(whole, audio=audio, audio_mask=mask)
        return model.denoise(latents, torch.tensor([500.0]), heard)

    with torch.no_grad():
        everywhere, silence = out(None, whole.audio), torch.zeros_like(whole.audio)
        torch.testing.assert_close(out(1.0, whole.audio), everywhere)
        torch.testing.assert_close(out(0.0, whole.audio), out(0.0, silence))
        assert (out(0.5, whole.audio) - everywhere).abs().max() > 1e-4
        assert (out(0.0, whole.audio) - everywhere).abs().max() > 1e-4


def test_pose_features_less_those_of_the_portrait() -> None:
    plain = made.small_config()
    model = Model(dataclasses.replace(plain, reference_pose=True, pose_change=True)).eval()
    maps, own = torch.rand(1, 2, 3, 64, 64), torch.rand(1, 3, 64, 64)
    alone = model.pose_features(maps)
    torch.testing.assert_close(alone, model.pose_encoder(maps[0])[None])
    torch.testing.assert_close(model.pose_features(maps, own), alone - model.pose_encoder(own)[:, None])
    assert model.pose_features(own[:, None], own).abs().max() < 1e-6
    model.config = plain
    torch.testing.assert_close(model.pose_features(maps, own), alone)
    with pytest.raises(ValueError, match="reference_pose"):
        dataclasses.replace(plain, pose_change=True)


def test_what_is_added_to_the_portrait() -> None:
    unet = dataclasses.replace(UNET, in_channels=8)
    config = dataclasses.replace(made.small_config(), unet=unet, concat_portrait=True, half_appearance=False)
    model = Model(config).eval()
    latents, whole = conditions(model)
    plain = model.denoise(latents, torch.tensor([500.0]), whole)
    model.config = dataclasses.replace(config, residual_portrait=True)
    added = model.denoise(latents, torch.tensor([500.0]), whole)
    assert whole.portrait is not None
    torch.testing.assert_close(added - plain, whole.portrait[:, None].expand_as(plain), atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="residual_portrait needs"):
        ModelConfig(residual_portrait=True)


def test_the_plates_latents_stand_where_the_portraits_do() -> None:
    unet = dataclasses.replace(UNET, in_channels=8)
    config = dataclasses.replace(
        made.small_config(), unet=unet, plate=PlateConfig(widths=(8, 16), groups=4), half_appearance=False,
        concat_portrait=True, residual_portrait=True, plate_latents=True,
    )  # fmt: skip
    model = Model(config).eval().requires_grad_(False)
    latents, whole = conditions(model)
    assert whole.portrait is not None
    plate = torch.randn_like(whole.portrait)

    def out(told: Conditions) -> torch.Tensor:
        return model.denoise(latents, torch.tensor([500.0]), told)

    with_plate = dataclasses.replace(whole, plate=plate)
    shown, unknown = out(with_plate), out(whole)
    torch.testing.assert_close(shown, out(dataclasses.replace(whole, portrait=plate)))
    torch.testing.assert_close(unknown, out(dataclasses.replace(whole, plate=whole.portrait)))
    assert (shown - unknown).abs().max() > 0.1
    assert with_plate.unconditional().plate is plate
    model.config = dataclasses.replace(config, plate_latents=False)
    torch.testing.assert_close(out(with_plate), unknown)
    for lacking in ({"plate": None}, {"concat_portrait": False, "residual_portrait": False, "unet": UNET}):
        with pytest.raises(ValueError, match="plate_latents needs"):
            dataclasses.replace(config, **lacking)


@pytest.mark.parametrize("size", [(8, 8), (5, 7), (9, 4)])
def test_any_latent_size(model: Model, size: tuple[int, int]) -> None:
    x = torch.randn(2, 4, *size)
    assert model.denoising_unet(x, torch.zeros(1), frames=2).shape == x.shape


def test_impossible_sizes() -> None:
    with pytest.raises(ValueError, match="levels"):
        UNetConfig(widths=(32, 64))
    with pytest.raises(ValueError, match="divide"):
        UNetConfig(widths=(30, 64, 64, 64))
    with pytest.raises(ValueError, match="in_channels"):
        ModelConfig(concat_portrait=True)
    network = UNet(dataclasses.replace(UNET, motion_frames=4))
    with pytest.raises(ValueError, match="longer"):
        network(torch.zeros(5, 4, 8, 8), torch.zeros(1), frames=5)


@pytest.mark.parametrize("kind", ["whisper", "wav2vec2", "logmel"])
def test_audio_encoders_agree_on_their_shape(kind: str) -> None:
    config = {
        "whisper": AudioConfig(),
        "wav2vec2": AudioConfig(kind="wav2vec2", width=64, before=7, after=7),
        "logmel": AudioConfig(kind="logmel", width=32, before=7, after=8),
    }[kind]
    encoder = build_audio_encoder(config).eval()
    with torch.no_grad():
        for seconds in (0.05, 1.0):
            rows = encoder.rows(torch.from_numpy(made.tone(seconds).waveform))
            tokens = encoder.tokens(rows, torch.arange(5), 24.0)
            assert tokens.shape == (5, encoder.tokens_per_frame, config.width)
            assert torch.isfinite(tokens).all()


def test_the_small_ear_hears_quiet_and_loud_recordings_alike_and_silence_as_silence() -> None:
    ear = build_audio_encoder(AudioConfig(kind="logmel", width=32, before=7, after=8))
    steps = torch.arange(16000) / 16000
    syllables = torch.sin(2 * torch.pi * 180 * steps) * torch.sin(2 * torch.pi * 2 * steps).clamp(min=0)
    usual, quiet = ear.rows(0.3 * syllables), ear.rows(0.05 * syllables)
    loudest = usual.amax(dim=1) > 0
    torch.testing.assert_close(quiet[loudest].amax(dim=1), usual[loudest].amax(dim=1), rtol=0, atol=1e-3)
    assert (usual[30:46] == -1).all()  # the pause stays at the floor
    assert (ear.rows(torch.zeros(16000)) == -1).all()
    noise = 1e-5 * torch.randn(16000, generator=torch.Generator().manual_seed(0))
    assert ear.rows(noise).max() < 0  # no recording at all is made one


def test_mapper_is_one_linear_map_along_tokens() -> None:
    mapper = AudioFeatureMapper(15, 77)
    x = torch.randn(2, 15, 8)
    expected = torch.einsum("ml,nld->nmd", mapper.linear.weight, x) + mapper.linear.bias[:, None]
    torch.testing.assert_close(mapper(x), expected)


def test_work_of_a_step_is_no_more_than_needed(shared_golden: object) -> None:
    """Against the counts of the published code less its reference K/V and constant audio attention."""
    import json
    from pathlib import Path

    recorded = Path(str(shared_golden)) / "flops.json"
    for side, counts in json.loads(recorded.read_text()).items():
        tflop = counts["tflop"]
        step = count_work(ModelConfig(), int(side), int(side), counts["frames"]).step(2.5) / 1e12
        assert step <= tflop["cfg_step_minimal"] - tflop["ref_kv_projection_per_half"]


def test_work_at_768_stays_below_the_target() -> None:
    assert count_work(ModelConfig(), 768, 768, 12).step(2.5) / 1e12 <= 74.8
