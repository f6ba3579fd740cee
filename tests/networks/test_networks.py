from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import made
from semibody import config
from semibody.conditioning.clip import encode_portrait
from semibody.conditioning.flops import count_work
from semibody.networks import audio_encoders
from semibody.networks.audio_encoders import AudioConfig, AudioFeatureMapper, audible, build_audio_encoder
from semibody.networks.hints import Hints
from semibody.networks.model import Conditions, Model, ModelConfig
from semibody.networks.plate import PlateConfig
from semibody.networks.unet import AudioProjection, DeepFeatures, UNet, UNetConfig
from semibody.types import SemibodyError

UNET = made.small_config().unet


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    return Model(made.small_config()).eval().requires_grad_(False)


def conditions(model: Model, frames: int = 3, side: int = 8) -> tuple[torch.Tensor, Conditions]:
    torch.manual_seed(1)
    portrait = torch.randn(1, 4, side, side)
    made_of = Conditions(
        base=model.base(portrait, None),
        reference=model.project_reference(portrait),
        audio=model.project_audio(torch.randn(frames, 4, 64)),
        pose=model.pose_encoder(torch.rand(frames, 3, 8 * side, 8 * side))[None],
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
    t, zero = torch.tensor([500.0]), model.project_audio(torch.zeros(3, 4, 64))
    without, silent = (
        model.denoise(latents, t, dataclasses.replace(whole, audio=audio)) for audio in (None, zero)
    )
    torch.testing.assert_close(without, silent, atol=1e-6, rtol=1e-5)


def test_no_audio_equals_zero_audio_in_the_time_embedding_too() -> None:
    unet = dataclasses.replace(UNET, audio_time_tokens=4)
    torch.manual_seed(0)
    test_no_audio_equals_zero_audio(Model(dataclasses.replace(made.small_config(), unet=unet)).eval())


def test_audio_mask_of_ones_changes_nothing_and_zeros_mute(model: Model) -> None:
    latents, whole = conditions(model)
    t, ones = torch.tensor([500.0]), torch.ones(1, 3, 8, 8)
    free = model.denoise(latents, t, whole)
    torch.testing.assert_close(model.denoise(latents, t, dataclasses.replace(whole, audio_mask=ones)), free)
    muted = dataclasses.replace(whole, audio_mask=0 * ones)
    other = dataclasses.replace(muted, audio=model.project_audio(torch.randn(3, 4, 64)))
    torch.testing.assert_close(model.denoise(latents, t, muted), model.denoise(latents, t, other))


def test_batches_are_independent(model: Model) -> None:
    latents, whole = conditions(model)
    assert whole.reference is not None
    assert whole.audio is not None
    two = Conditions(
        reference={
            k: type(v)(v.key.repeat(2, 1, 1), v.value.repeat(2, 1, 1)) for k, v in whole.reference.items()
        },
        audio=AudioProjection.joined([whole.audio] * 2),
        pose=whole.pose.repeat(2, 1, 1, 1, 1),  # type: ignore[union-attr]
    )
    t = torch.tensor([500.0, 500.0])
    both = model.denoise(latents.repeat(2, 1, 1, 1, 1), t, two)
    torch.testing.assert_close(both[0], both[1])
    torch.testing.assert_close(both[:1], model.denoise(latents, t[:1], whole), atol=1e-5, rtol=1e-4)


def test_options_of_small_models() -> None:
    unet = dataclasses.replace(UNET, audio_time_tokens=4, head_width=16)
    hints = Hints(portrait="concat", pose="own")
    sizes = dataclasses.replace(made.small_config(), unet=unet, hints=hints, half_appearance=False)
    model = Model(sizes).eval()
    latents, whole = conditions(model)
    out = model.denoise(latents, torch.tensor([500.0]), whole)
    assert out.shape == latents.shape
    out.sum().backward()
    named = {n: p.grad for n, p in model.denoising_unet.named_parameters()}
    assert all(g is not None and torch.isfinite(g).all() for g in named.values())


def test_audio_acts_only_where_its_mask_allows() -> None:
    unet = dataclasses.replace(UNET, audio_time_tokens=4, head_width=16)
    hints = Hints(portrait="concat")
    sizes = dataclasses.replace(made.small_config(), unet=unet, hints=hints, half_appearance=False)
    model = Model(sizes).eval()
    latents, whole = conditions(model)
    audio, silence = torch.randn(3, 4, 64), torch.zeros(3, 4, 64)

    def out(share: float | None, audio: torch.Tensor) -> torch.Tensor:
        mask = None if share is None else torch.full((*latents.shape[:2], *latents.shape[3:]), share)
        conditioned = dataclasses.replace(whole, audio=model.project_audio(audio), audio_mask=mask)
        return model.denoise(latents, torch.tensor([500.0]), conditioned)

    with torch.no_grad():
        everywhere = out(None, audio)
        torch.testing.assert_close(out(1.0, audio), everywhere)
        torch.testing.assert_close(out(0.0, audio), out(0.0, silence))
        assert (out(0.5, audio) - everywhere).abs().max() > 1e-4
        assert (out(0.0, audio) - everywhere).abs().max() > 1e-4


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-6])
def test_rounding_the_appearance_leaves_its_gradient_exact(scale: float) -> None:
    """Those of small losses are below what float16 holds well, or at all."""
    sizes = made.small_config()
    latents, t = torch.randn(1, 3, 4, 8, 8, generator=torch.Generator().manual_seed(2)), torch.tensor([500.0])

    def gradient(half: bool) -> torch.Tensor:
        torch.manual_seed(0)
        model = Model(dataclasses.replace(sizes, half_appearance=half)).eval()
        _, whole = conditions(model)
        loss = model.denoise(latents, t, whole).square().mean() * scale
        loss.backward()
        found = [p.grad.flatten() for p in model.reference_unet.parameters() if p.grad is not None]
        return torch.cat(found) / scale

    exact, rounded = gradient(False), gradient(True)
    assert float(exact.norm()) > 0
    # What is left is that of another point: the tokens themselves are rounded.
    assert float((rounded - exact).norm() / exact.norm()) < 5e-4
    flushed = (rounded == 0) & (exact != 0)
    assert float(flushed.float().mean()) < 0.01


def test_the_appearance_is_rounded_as_published() -> None:
    torch.manual_seed(0)
    model = Model(dataclasses.replace(made.small_config(), half_appearance=True)).eval()
    portrait = torch.randn(1, 4, 8, 8)
    trained = model.appearance(portrait)
    with torch.no_grad():
        animated = model.appearance(portrait)
    for name, tokens in trained.items():
        assert torch.equal(tokens, tokens.half().float())
        torch.testing.assert_close(tokens, animated[name], rtol=2e-3, atol=2e-3)


def test_pose_features_less_those_of_the_portrait() -> None:
    model = Model(dataclasses.replace(made.small_config(), hints=Hints(pose="change"))).eval()
    maps, own, latents = torch.rand(2, 3, 64, 64), torch.rand(1, 3, 64, 64), torch.randn(1, 4, 8, 8)
    alone, audio = model.pose_encoder(maps)[None], model.project_audio(torch.zeros(2, 4, 64))

    def features(compare: bool, of: torch.Tensor) -> torch.Tensor:
        portrait = encode_portrait(model, latents, None, own, compare=compare)
        pose = portrait.conditions(model, pose=model.pose_encoder(of)[None], audio=audio).pose
        assert pose is not None
        return pose

    torch.testing.assert_close(features(False, maps), alone)
    torch.testing.assert_close(features(True, maps), alone - model.pose_encoder(own)[:, None])
    assert features(True, own).abs().max() < 1e-6


def test_what_is_added_to_the_portrait() -> None:
    hints = Hints(portrait="concat")
    sizes = dataclasses.replace(made.small_config(), hints=hints, half_appearance=False)
    model = Model(sizes).eval()
    latents, whole = conditions(model)
    plain = model.denoise(latents, torch.tensor([500.0]), whole)
    model.config = dataclasses.replace(sizes, hints=Hints(portrait="residual"))
    added = model.denoise(latents, torch.tensor([500.0]), whole)
    assert whole.base is not None
    torch.testing.assert_close(added - plain, whole.base[:, None].expand_as(plain), atol=1e-5, rtol=1e-4)


def test_the_plates_latents_replace_the_portraits() -> None:
    sizes = dataclasses.replace(
        made.small_config(), plate=PlateConfig(widths=(8, 16), groups=4), half_appearance=False,
        hints=Hints(portrait="residual", base="plate"),
    )  # fmt: skip
    model = Model(sizes).eval().requires_grad_(False)
    latents, whole = conditions(model)
    portrait, picture = torch.randn(1, 4, 8, 8), torch.rand(1, 3, 64, 64) * 2 - 1
    plate = model.base(portrait, picture)
    assert plate is not None
    torch.testing.assert_close(plate, model.encode(picture))
    assert model.base(portrait, None) is portrait  # nothing is known of the arms
    model.config = dataclasses.replace(sizes, hints=Hints(portrait="residual"))
    assert model.base(portrait, picture) is portrait
    model.config = made.small_config()
    assert model.base(portrait, picture) is None
    model.config = sizes

    def out(received: Conditions) -> torch.Tensor:
        return model.denoise(latents, torch.tensor([500.0]), received)

    assert (out(dataclasses.replace(whole, base=plate)) - out(whole)).abs().max() > 0.1
    assert dataclasses.replace(whole, base=plate).unconditional().base is plate


@pytest.mark.parametrize(
    ("message", "changes"),
    [
        ("hints.portrait", {"hints": {"limbs": True}}),
        ("hints.portrait", {"hints": {"base": "plate"}, "plate": {}}),
        ("needs the network plate", {"hints": {"base": "plate", "portrait": "concat"}}),
        ("first width", {"pose_encoder": {"out_channels": 32}}),
    ],
)
def test_hints_that_cannot_work_together(message: str, changes: dict[str, object]) -> None:
    with pytest.raises(SemibodyError, match=message):
        config.build(ModelConfig, changes)


def test_models_of_older_versions_are_read() -> None:
    """Keys as they stood in weights folders and recipes; the channels followed from the rest."""
    old = {
        "concat_portrait": True, "residual_portrait": True, "reference_pose": True, "pose_change": True,
        "plate_latents": True, "plate": {}, "limbs": True, "portrait_parts": ["body", "hands"],
        "audio_region": "lips", "audio_dilation": 0.4, "unet": {"in_channels": 13},
    }  # fmt: skip
    hints = Hints(
        portrait="residual", base="plate", pose="change", own_parts=("body", "hands"), limbs=True,
        audio_region="lips", audio_dilation=0.4,
    )  # fmt: skip
    read = config.build(ModelConfig, old)
    assert read.hints == hints
    assert read.hints.channels(4) == 13
    assert config.build(ModelConfig, config.to_dict(read)) == read
    published = dict.fromkeys(("concat_portrait", "residual_portrait", "limbs", "reference_pose"), False)
    assert config.build(ModelConfig, published) == ModelConfig()


@pytest.mark.parametrize(
    ("override", "hint", "value"),
    [
        ("plate_latents=false", "base", "portrait"),
        ("pose_change=false", "pose", "own"),
        ("reference_pose=false", "pose", "frames"),
        ("reference_pose=true", "pose", "change"),
        ("residual_portrait=false", "portrait", "concat"),
        ("limbs=false", "limbs", False),
    ],
)
def test_old_overrides_change_todays_hints(override: str, hint: str, value: object) -> None:
    hints = {"portrait": "residual", "base": "plate", "pose": "change", "limbs": True}
    values = config.merge({"hints": hints, "plate": {}}, [override])
    assert getattr(config.build(ModelConfig, values).hints, hint) == value


@pytest.mark.parametrize("size", [(8, 8), (5, 7), (9, 4)])
def test_any_latent_size(model: Model, size: tuple[int, int]) -> None:
    x = torch.randn(2, 4, *size)
    assert model.denoising_unet(x, torch.zeros(1), frames=2).shape == x.shape


def test_impossible_sizes() -> None:
    with pytest.raises(ValueError, match="levels"):
        UNetConfig(widths=(32, 64))
    with pytest.raises(ValueError, match="divide"):
        UNetConfig(widths=(30, 64, 64, 64))
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


def test_the_small_audio_encoder_levels_quiet_and_loud_recordings_but_not_silence() -> None:
    encoder = build_audio_encoder(AudioConfig(kind="logmel", width=32, before=7, after=8))
    steps = torch.arange(16000) / 16000
    syllables = torch.sin(2 * torch.pi * 180 * steps) * torch.sin(2 * torch.pi * 2 * steps).clamp(min=0)
    usual, quiet = encoder.rows(0.3 * syllables), encoder.rows(0.05 * syllables)
    loudest = usual.amax(dim=1) > 0
    torch.testing.assert_close(quiet[loudest].amax(dim=1), usual[loudest].amax(dim=1), rtol=0, atol=1e-3)
    assert (usual[30:46] == -1).all()  # the pause stays at the floor
    assert (encoder.rows(torch.zeros(16000)) == -1).all()
    noise = 1e-5 * torch.randn(16000, generator=torch.Generator().manual_seed(0))
    assert encoder.rows(noise).max() < 0  # no recording at all is made one


@pytest.mark.parametrize("shape", ["published", "starter"])
def test_deep_features_that_have_not_changed_give_the_same_bits(shape: str) -> None:
    """With the inputs of the pass that kept them outer layers predict the same; deep ones do not run."""
    changes = (
        {} if shape == "published" else {"layers": 1, "attention": (False, False, True), "motion": False}
    )
    unet = dataclasses.replace(UNET, **changes)  # type: ignore[arg-type]
    torch.manual_seed(0)
    model = Model(dataclasses.replace(made.small_config(), unet=unet)).eval().requires_grad_(False)
    latents, whole = conditions(model)
    t, deep = torch.tensor([500.0]), DeepFeatures()
    exact = model.denoise(latents, t, whole)
    assert torch.equal(model.denoise(latents, t, whole, deep), exact), "the pass that keeps them is exact"

    def runs(*_: object) -> None:
        raise AssertionError("a deep layer runs")

    network = model.denoising_unet
    deep_modules = [network.mid_block, *network.down_blocks[1:], *network.up_blocks[:-1]]
    hooks = [resnet.register_forward_pre_hook(runs) for module in deep_modules for resnet in module.resnets]
    assert torch.equal(model.denoise(latents, t, whole, deep), exact)
    later = latents + 0.1 * torch.randn(latents.shape, generator=torch.Generator().manual_seed(2))
    reused = model.denoise(later, t - 20, whole, deep)
    for hook in hooks:
        hook.remove()
    asked = model.denoise(later, t - 20, whole)
    assert not torch.equal(reused, asked)
    assert (reused - asked).norm() < (exact - asked).norm(), "outer layers follow the latents"


def test_work_of_a_step_that_reuses_deep_features() -> None:
    """A fifth of all at 256², where deep layers are most of it; and steps add up as they are made."""
    work = count_work(ModelConfig(), 256, 256, 12)
    assert 0.15 < work.outer[0] / work.conditional < 0.25
    assert work.deep_frame == 320 * 32 * 32
    a, b, (c, d) = work.conditional, work.unconditional, work.outer

    def steps(cache: int, guided: list[int]) -> float:
        return work.steps(5, cache=cache, guided=lambda done: round(5 * done) in guided)

    assert steps(1, []) == pytest.approx(5 * a)
    assert steps(1, [0, 1, 2, 3, 4]) == pytest.approx(5 * work.step(2.5))
    assert steps(3, [0, 1, 2, 3, 4]) == pytest.approx(2 * (a + b) + 3 * (c + d))
    # Guided first in the middle of three steps: nothing of that half is kept yet.
    assert steps(3, [1, 2]) == pytest.approx(2 * a + 3 * c + b + d)
    assert steps(2, [1, 2]) == pytest.approx(3 * a + 2 * c + 2 * b)


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


@pytest.mark.parametrize("kind", ["whisper", "logmel"])
def test_very_quiet_speech_is_heard_as_usual_speech_is(kind: str) -> None:
    """At −54 dB the small model's lips moved half as far; usual speech and silence stay as they are."""
    time = torch.arange(2 * 16000) / 16000
    syllables = (
        torch.sin(2 * torch.pi * 3 * time).clamp(min=0) * torch.sin(2 * torch.pi * 440 * time)
    ).float()
    usual = 0.1 * syllables  # −26 dB where it is loud
    quiet = usual * 10 ** (-28 / 20)
    assert torch.equal(audible(usual), usual)
    assert not audible(torch.zeros(16000)).any()
    torch.testing.assert_close(audible(quiet).abs().max(), usual.abs().max(), rtol=0.3, atol=0)
    width = {"whisper": 384, "logmel": 32}[kind]
    ear = build_audio_encoder(AudioConfig(kind=kind, width=width))  # type: ignore[arg-type]
    with torch.inference_mode():
        heard, raised, left = (ear.rows(x).flatten() for x in (usual, audible(quiet), quiet))
    assert (raised - heard).abs().max() < 0.1 * (left - heard).abs().max()


def test_a_long_recordings_spectrum_is_made_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    wave = torch.randn(16000, generator=torch.Generator().manual_seed(0)) / 10
    at_once = torch.stft(wave, 400, 160, window=torch.hann_window(400), return_complex=True)[:, :-1]
    expected = audio_encoders.mel_filters() @ at_once.abs().square()
    torch.testing.assert_close(audio_encoders.mel_power(wave), expected)
    for rows in (1, 7, 99):
        monkeypatch.setattr(audio_encoders, "MEL_ROWS", rows)
        torch.testing.assert_close(audio_encoders.mel_power(wave), expected)


def wav2vec2(norm: str = "group") -> audio_encoders.Wav2Vec2Encoder:
    """A small one, with the first norm of the base ("group") or of the large size ("layer")."""
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    torch.manual_seed(3)
    ear = audio_encoders.Wav2Vec2Encoder(AudioConfig(kind="wav2vec2", width=64, before=7, after=7))
    sizes = audio_encoders.wav2vec2_sizes(64)
    if norm == "layer":
        sizes |= {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}
    ear.encoder = Wav2Vec2Model(Wav2Vec2Config(**sizes)).eval()
    with torch.no_grad():  # norms and biases as they are after training: not 1 and 0
        for name, value in ear.encoder.named_parameters():
            if name.endswith("bias") or "layer_norm" in name:
                value.add_(torch.randn_like(value) * 0.3)
    return ear.eval()


def long_speech(seconds: float) -> torch.Tensor:
    """Noise that is loud in its first half and soft in its second, so that pieces differ in level."""
    wave = torch.randn(int(16000 * seconds), generator=torch.Generator().manual_seed(0)) / 10
    wave[len(wave) // 2 :] *= 0.05
    return wave + 0.02


@pytest.mark.parametrize("norm", ["group", "layer"])
@torch.inference_mode()
def test_long_speech_has_the_rows_of_the_whole_where_all_of_it_is_in_reach(norm: str) -> None:
    """Pieces whose context reaches both ends show that the convolutions and their norm are the whole's."""
    ear, speech = wav2vec2(norm), long_speech(4.0)
    expected = ear.rows(speech)
    for piece in (30, 64, 199):
        ear.whole, ear.piece, ear.context = 0, piece, 400
        torch.testing.assert_close(ear.rows(speech), expected, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_pieces_of_long_speech_are_near_the_whole_and_nearer_with_more_context() -> None:
    """Random weights attend to everything alike, so what is out of reach counts most here."""
    ear, speech = wav2vec2(), long_speech(20.0)
    expected = ear.rows(speech)
    ear.whole, ear.piece = 0, 100
    off = []
    for context in (64, 150, 500):
        ear.context = context
        found = ear.rows(speech)
        assert found.shape == expected.shape
        off.append(float((found - expected).norm() / expected.norm()))
    assert off[0] > off[1] > off[2]
    assert off[2] < 0.02


class Largest(TorchDispatchMode):
    """The most numbers that a tensor made within has."""

    numbers = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and not made._is_view():
            self.numbers = max(self.numbers, made.numel())
        return made


def test_memory_for_long_speech_is_bounded() -> None:
    """Nothing that is made on the way grows with the recording but the rows and the sound itself: at the
    published sizes an hour took 60 GB."""
    ear = wav2vec2()
    ear.whole, ear.piece, ear.context = 0, 200, 100
    largest = {}
    for seconds in (20, 80):
        speech = long_speech(seconds)
        with torch.no_grad(), Largest() as watch:
            ear.rows(speech)
        largest[seconds] = watch.numbers
    assert largest[80] == largest[20] > len(long_speech(80))
