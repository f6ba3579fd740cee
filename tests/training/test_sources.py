"""From public weights to a training: what is taken, what is new, what is refused; and the whole way at toy
width."""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import public as stand_ins
from loopback import StandIn
from semibody.animator import Animator
from semibody.cli import main
from semibody.networks.audio_encoders import AudioConfig
from semibody.networks.loading import describe, load_model
from semibody.networks.model import Model, ModelConfig
from semibody.networks.unet import UNetConfig
from semibody.training import sources
from semibody.training.drawn import draw_clip, make_drawn_clips
from semibody.training.recipe import Recipe, load_recipe
from semibody.training.settings import StartSettings
from semibody.training.start import initialise_motion
from semibody.training.trainer import Training, train
from semibody.types import SemibodyError
from semibody.weights import public
from semibody.weights.state import Published

SMALL = (
    *stand_ins.TOY, "data.size=64", "data.gap=2", "data.workers=1", "data.prefetch=2", "loss.decode_cells=4",
    "keypoints.width=8", "keypoints.crop=32", "keypoints.optimiser.batch=4", "still.optimiser.batch=2",
    "motion.optimiser.batch=2", "motion.optimiser.accumulate=1", "motion.frames=3",
    "keypoints.optimiser.steps=2", "still.optimiser.steps=2", "motion.optimiser.steps=2",
    "still.optimiser.warmup=1", "motion.optimiser.warmup=1", "loss.decode_every=1", "noise.unconditional=0",
    "perceptual=efficientnet", "run.precision=fp32", "run.log_every=1", "run.validation_clips=1",
    "run.tensorboard=false", "defaults.steps=2", "curriculum.initial=1", "curriculum.iterative=0",
    "curriculum.lips=1",
)  # fmt: skip
"""The recipe ``official`` at toy width, two steps of each stage, the second of the first with audio."""


def toy(*changes: str) -> Recipe:
    return load_recipe("official", [*SMALL, *changes])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return stand_ins.write_all(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def fresh() -> Callable[[], Model]:
    """Toy networks of the recipe, initialised from a seed."""

    def build() -> Model:
        torch.manual_seed(9)
        model = Model(toy().model)
        initialise_motion(model)
        return model

    return build


def at(files: dict[str, Path], **names: str) -> StartSettings:
    given: dict[str, Any] = {setting: str(files[name]) for setting, name in names.items()}
    return StartSettings(**given)


# -- what is taken --------------------------------------------------------------------------------------


def test_what_the_recipe_takes_at_full_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers of tensors by hand: 16 transformers, 21 motion modules of 26 tensors beside their tables."""
    full = (320, 640, 1280, 1280)
    with torch.device("meta"):
        states = {
            "sd-vae-ft-mse": stand_ins.vae((128, 256, 512, 512), layers=2).state_dict(),
            "sd15": stand_ins.unet(full).state_dict(),
            "animatediff": {k: v for k, v in stand_ins.motion(full).items() if not k.endswith(".pe")},
        }
    monkeypatch.setattr(public, "read", lambda kind, name: Published(Path(name), states[name]))
    start = load_recipe("official").start
    found = sources.check(ModelConfig(), StartSettings(vae=start.vae, unet=start.unet, motion=start.motion))
    counts = {(one.network, one.setting): (len(one.taken), len(one.new), len(one.skipped)) for one in found}
    assert counts == {
        ("vae", "vae"): (248, 0, 0),
        ("denoising_unet", "unet"): (686 - 32, 32, 32),
        ("reference_unet", "reference"): (570, 0, 16 * 7 + 4),
        ("denoising_unet", "motion"): (21 * 26, 0, 0),
    }


def test_every_network_holds_what_was_taken(files: dict[str, Path], fresh: Callable[[], Model]) -> None:
    start = at(files, vae="sd-vae-ft-mse", audio="whisper-tiny", unet="sd15", motion="animatediff")
    before, model = fresh(), fresh()
    for one in sources.take(model, start):
        ours, initial = getattr(model, one.network).state_dict(), getattr(before, one.network).state_dict()
        theirs = public.read(sources._kind(_part(one), model.config), one.source).state
        assert one.taken
        assert all(torch.equal(ours[key], theirs[key]) for key in one.taken)
        assert all(torch.equal(ours[key], initial[key]) for key in one.new)
        assert not set(one.taken) & set(one.skipped)
    assert all(not p.any() for p in model.pose_encoder.conv_out.parameters())
    weight = "mid_block.motion_modules.0.temporal_transformer.proj_out.weight"
    assert torch.equal(model.denoising_unet.state_dict()[weight], stand_ins.motion()[weight])


def _part(one: sources.Taken) -> sources._Part:
    return next(p for p in sources._PARTS if (p.setting, p.network) == (one.setting, one.network))


@pytest.mark.parametrize("version", [1, 3])
def test_motion_modules_that_a_version_has_not_change_nothing(
    files: dict[str, Path], fresh: Callable[[], Model], version: int
) -> None:
    model = fresh()
    (one,) = sources.take(model, at(files, motion=f"animatediff-v{version}"))
    assert len(one.taken) == 520
    assert len(one.new) == 26
    assert all(name.startswith("mid_block.motion_modules.0.") for name in one.new)
    middle = model.denoising_unet.mid_block.motion_modules[0]
    x = torch.randn(6, 64, 4, 4)
    assert torch.equal(middle(x, 3), x)
    assert "26 new (mid_block.motion_modules.*" in one.line()


def test_a_reference_of_its_own(files: dict[str, Path], fresh: Callable[[], Model], tmp_path: Path) -> None:
    other = {key: value + 1 for key, value in stand_ins.plain(stand_ins.unet().state_dict()).items()}
    save_file(other, tmp_path / "other.safetensors")
    model = fresh()
    sources.take(model, StartSettings(unet=str(files["sd15"]), reference=str(tmp_path / "other.safetensors")))
    difference = model.reference_unet.conv_in.weight - model.denoising_unet.conv_in.weight
    torch.testing.assert_close(difference, torch.ones_like(difference))


def test_keys_and_values_are_taken_where_they_have_the_shape(files: dict[str, Path], tmp_path: Path) -> None:
    """As the published code does; Wav2Vec2's tokens have the width of Stable Diffusion's for text."""
    config = ModelConfig(
        unet=UNetConfig(widths=stand_ins.WIDTHS, audio_width=768),
        audio=AudioConfig(kind="wav2vec2", width=768), pose_encoder=toy().model.pose_encoder,
        vae=toy().model.vae,
    )  # fmt: skip
    found = {one.network: one for one in sources.check(config, at(files, unet="sd15"))}
    assert not found["denoising_unet"].new
    assert set(found["denoising_unet"].taken) == set(stand_ins.unet().state_dict())


@pytest.mark.parametrize(
    ("setting", "name", "change", "says"),
    [
        ("vae", "sd-vae-ft-mse", "missing", "does not fit this recipe's vae: missing .*correct start.vae"),
        ("vae", "sd-vae-ft-mse", "extra", "does not fit this recipe's vae: extra surprise.weight"),
        ("audio", "whisper-tiny", "shape", r"audio_encoder: .* has shape \(3,\), not "),
        ("unet", "sd15", "missing", "does not fit this recipe's denoising_unet: missing"),
        ("unet", "sd15", "integers", "denoising_unet: .* is not of floating numbers"),
        ("reference", "sd15", "extra", "does not fit this recipe's reference_unet: extra surprise.weight"),
    ],
)
def test_whatever_does_not_fit_is_named(
    files: dict[str, Path], tmp_path: Path, setting: str, name: str, change: str, says: str
) -> None:
    state = load_file(files[name])
    key = next(k for k in state if "conv_in" in k or ("conv1" in k and "encoder" in k))
    if change == "missing":
        del state[key]
    elif change == "extra":
        state["surprise.weight"] = torch.zeros(1)
    else:
        state[key] = torch.zeros(3) if change == "shape" else torch.zeros(state[key].shape, dtype=torch.int8)
    save_file(state, tmp_path / "changed.safetensors")
    with pytest.raises(SemibodyError, match=f"changed.safetensors: .*{says}"):
        changed: dict[str, Any] = {setting: str(tmp_path / "changed.safetensors")}
        sources.check(toy().model, StartSettings(**changed))


def test_settings_that_contradict_each_other() -> None:
    with pytest.raises(
        SemibodyError, match=r"leave the other sources out: --set start.vae= --set start.audio="
    ):
        load_recipe("official", ["start.weights=official"])
    alone = [f"start.{name}=" for name in ("vae", "audio", "unet", "motion")]
    assert load_recipe("official", [*alone, "start.weights=official"]).start.public == {}


def test_nothing_is_spent_before_the_sources_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEMIBODY_HOME", str(tmp_path / "home"))
    with pytest.raises(SemibodyError, match="sd-vae-ft-mse: is not on this machine; run: semibody weights"):
        train(toy(), tmp_path / "run", packed=tmp_path)
    assert not (tmp_path / "run").exists()


class Harmless:
    """Something that a pickle would have to import."""


def half_fetched(files: dict[str, Path], folder: Path) -> str:
    """A folder whose weights end in the middle."""
    content = files["sd15"].read_bytes()
    target = folder / "half" / "unet" / "diffusion_pytorch_model.safetensors"
    target.parent.mkdir(parents=True)
    target.write_bytes(content[: len(content) // 2])
    return f"start.unet={folder / 'half'}"


def with_code(files: dict[str, Path], folder: Path) -> str:
    torch.save({"state_dict": load_file(files["sd15"]), "callbacks": Harmless()}, folder / "code.ckpt")
    return f"start.unet={folder / 'code.ckpt'}"


def of_another_version(files: dict[str, Path], folder: Path) -> str:
    """The module for Stable Diffusion XL has three levels."""
    torch.save({k: v for k, v in stand_ins.motion().items() if "blocks.3" not in k}, folder / "xl.ckpt")
    return f"start.motion={folder / 'xl.ckpt'}"


@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        (half_fetched, "diffusion_pytorch_model.safetensors: damaged or not a weights file"),
        (with_code, "code.ckpt: holds something other than tensors, which could run code and is not loaded"),
        (of_another_version, "xl.ckpt: .*for another network.*weights fetch animatediff"),
    ],
)
def test_unusable_sources_are_one_line_and_code_2_before_anything_is_spent(
    files: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    mistake: Callable[[dict[str, Path], Path], str],
    says: str,
) -> None:
    names = {"vae": "sd-vae-ft-mse", "audio": "whisper-tiny", "unet": "sd15", "motion": "animatediff"}
    sound = [f"start.{setting}={files[name]}" for setting, name in names.items()]
    changes = [word for one in (*SMALL, *sound, mistake(files, tmp_path)) for word in ("--set", one)]
    out = tmp_path / "run"
    words = ["train", "official", "--packed", str(tmp_path), "--out", str(out), *changes]
    monkeypatch.setattr(sys, "argv", ["semibody", *words])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("semibody:")]
    assert re.search(says, line)
    assert not out.exists()


def test_a_pretrained_audio_encoder_must_come_from_somewhere(files: dict[str, Path], tmp_path: Path) -> None:
    recipe = toy(
        "start.audio=", f"start.vae={files['sd-vae-ft-mse']}", "start.unet=", "start.motion=", "loss.pose=0"
    )
    clips = make_drawn_clips(tmp_path / "packed", recipe, people=2, frames=6)
    with pytest.raises(SemibodyError, match=r"whisper is pretrained and trained by no stage: set start"):
        Training(recipe, tmp_path / "run").build("still", clips)


# -- the whole way --------------------------------------------------------------------------------------


def command(monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    """Run ``semibody`` with these words; what it prints."""
    printed = io.StringIO()
    monkeypatch.setattr(sys, "argv", ["semibody", *words])
    with contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as left:
        main()
    assert left.value.code in (0, None), printed.getvalue()
    return printed.getvalue()


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_fetch_train_export_animate(
    stand_in: type[StandIn], files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the header of the recipe says to do, at toy width, from a Hub on this machine."""
    header = (Path(sources.__file__).parents[1] / "recipes" / "official.toml").read_text().split("name =")[0]
    names = [
        line.split()[4] for line in header.splitlines() if line.startswith("#     semibody weights fetch")
    ]
    assert names == list(load_recipe("official").start.public.values())
    for name in names:
        one = public.PUBLIC[name]
        stand_in.files[one.repository, one.files[-1]] = files[name]
        command(monkeypatch, "weights", "fetch", name)

    make_drawn_clips(tmp_path / "packed", toy(), people=3, frames=8, heads=1, held_out=1)
    changes = [word for change in SMALL for word in ("--set", change)]
    out = tmp_path / "run"
    said = command(
        monkeypatch, "train", "official", "--packed", str(tmp_path / "packed"), "--out", str(out), *changes
    )
    assert "start.json" in said
    started = json.loads((out / "start.json").read_text())
    assert [one["setting"] for one in started["still"]] == ["vae", "audio", "unet", "reference"]
    assert [one["setting"] for one in started["motion"]][-1] == "motion"

    model, info = load_model(out / "weights")
    assert info.origin == (
        "recipe official, stage motion, step 2, from sd-vae-ft-mse, whisper-tiny, sd15, animatediff"
    )
    published = public.read("vae", "sd-vae-ft-mse").state
    assert all(torch.equal(value, published[key]) for key, value in model.vae.state_dict().items())
    pictures, gesture, speech, _ = draw_clip(0, 0, 6, 64, 24.0)
    animator = Animator.load(out / "weights", precision="fp32")
    clip = animator.animate(pictures[0], speech, gesture)
    assert clip.frames.shape[1:] == (64, 64, 3)
    assert np.isfinite(clip.frames).all() and clip.frames.std() > 0


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_wav2vec2_trains_and_animates(files: dict[str, Path], tmp_path: Path) -> None:
    """The paper's audio encoder: rows are encoded by it, its mapper is trained, animating finds both."""
    recipe = toy(
        'stages=["still"]', "loss.pose=0", "loss.low=0", "model.audio.kind=wav2vec2", "model.audio.width=64",
        "model.audio.before=7", "model.audio.after=7", "model.unet.audio_width=64", "model.unet.motion=false",
        "start.motion=", "curriculum.initial=0", "still.optimiser.lr=1e-3", f"start.unet={files['sd15']}",
        f"start.vae={files['sd-vae-ft-mse']}", f"start.audio={files['wav2vec2-base-960h'].parent}",
    )  # fmt: skip
    make_drawn_clips(tmp_path / "packed", recipe, people=2, frames=6)
    assert train(recipe, tmp_path / "run", packed=tmp_path / "packed").finished
    (audio,) = [
        one
        for one in json.loads((tmp_path / "run" / "start.json").read_text())["still"]
        if one["setting"] == "audio"
    ]
    assert set(audio["new"]) == {"mapper.linear.weight", "mapper.linear.bias", "encoder.masked_spec_embed"}
    model, info = load_model(tmp_path / "run" / "weights")
    assert info.model.audio.kind == "wav2vec2"
    theirs = public.read("wav2vec2", str(files["wav2vec2-base-960h"])).state
    ours = model.audio_encoder.state_dict()
    assert all(torch.equal(ours[key], value) for key, value in theirs.items())
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        initial = Model(describe(tmp_path / "run" / "weights").model).audio_encoder.state_dict()
    assert not torch.equal(ours["mapper.linear.weight"], initial["mapper.linear.weight"])
    pictures, gesture, speech, _ = draw_clip(0, 0, 6, 64, 24.0)
    animator = Animator.load(tmp_path / "run" / "weights", precision="fp32")
    made = [
        animator.animate(pictures[0], sound, gesture, steps=2, guidance=1.0).frames.astype(int)
        for sound in (speech, type(speech)(np.roll(speech.waveform, 1500)[::-1].copy()))
    ]
    assert np.abs(made[0] - made[1]).max() > 0, "other speech makes another clip"
