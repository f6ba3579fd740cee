"""Public weights in their published forms: names against the libraries that define them, and how they are
found and refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import public as stand_ins
from semibody.networks.audio_encoders import AudioConfig
from semibody.networks.model import Model, ModelConfig
from semibody.types import SemibodyError
from semibody.weights import public
from semibody.weights.animatediff import read_motion
from semibody.weights.official import read_vae, read_whisper
from semibody.weights.stable_diffusion import from_single_file, read_unet
from semibody.weights.state import shapes_of
from semibody.weights.wav2vec2 import read_wav2vec2

FULL = (320, 640, 1280, 1280)


@pytest.fixture(scope="module")
def model() -> Model:
    """The published networks without memory."""
    with torch.device("meta"):
        return Model(ModelConfig())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return stand_ins.write_all(tmp_path_factory.mktemp("published"))


def shapes(state: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in state.items()}


# -- names and shapes at full size, from the libraries ------------------------------------------------


def full_unet() -> nn.Module:
    with torch.device("meta"):
        return stand_ins.unet(FULL)


def test_names_of_stable_diffusion_are_those_of_our_denoiser(model: Model) -> None:
    """All but what only one of the two has: motion modules here, keys and values for another width."""
    theirs = shapes_of(full_unet())
    ours = {k: v for k, v in shapes_of(model.denoising_unet).items() if "motion_modules" not in k}
    assert theirs.keys() == ours.keys()
    assert len(theirs) == 686
    differ = {k for k in theirs if theirs[k] != ours[k]}
    assert len(differ) == 32
    assert {k.rsplit(".", 3)[1:][0] + "." + k.rsplit(".", 2)[1] for k in differ} == {
        "attn2.to_k",
        "attn2.to_v",
    }


def test_names_of_single_files_are_those_that_diffusers_knows(model: Model) -> None:
    """diffusers' own converter takes the stand-in's names; ours gives what it gives."""
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    network = full_unet()
    whole = stand_ins.single_file(network.state_dict())
    single = {
        k.removeprefix("model.diffusion_model."): v for k, v in whole.items() if ".diffusion_model." in k
    }
    theirs = convert_ldm_unet_checkpoint(dict(whole), network.config)
    assert shapes(theirs) == shapes_of(network)
    assert shapes(from_single_file(single)) == shapes_of(network)


@pytest.mark.parametrize(("version", "count"), [(1, 520), (2, 546), (3, 520)])
def test_names_of_animatediff_are_those_of_our_motion_modules(model: Model, version: int, count: int) -> None:
    """diffusers' own converter takes the stand-in's names."""
    from diffusers import MotionAdapter
    from diffusers.loaders.single_file_utils import convert_animatediff_checkpoint_to_diffusers

    with torch.device("meta"):
        theirs = stand_ins.motion(FULL, version=version)
        adapter = MotionAdapter(block_out_channels=FULL, use_motion_mid_block=version == 2,
                                motion_num_attention_heads=8)  # fmt: skip
    converted = shapes(convert_animatediff_checkpoint_to_diffusers(theirs))
    assert converted == {k: v for k, v in shapes_of(adapter).items() if not k.endswith(".pe")}
    ours = {
        k: v
        for k, v in shapes_of(model.denoising_unet).items()
        if "motion_modules" in k and not k.endswith(".pe") and (version == 2 or "mid_block" not in k)
    }
    assert {k: v for k, v in shapes(theirs).items() if not k.endswith(".pe")} == ours
    assert len(ours) == count


def test_names_of_the_autoencoder(model: Model) -> None:
    with torch.device("meta"):
        theirs = stand_ins.vae((128, 256, 512, 512), layers=2)
    assert shapes_of(theirs) == shapes_of(model.vae)
    assert len(shapes_of(theirs)) == 248


def test_names_of_wav2vec2() -> None:
    with torch.device("meta"):
        theirs = stand_ins.wav2vec2(768, layers=12)
        ours = Model(ModelConfig(audio=AudioConfig(kind="wav2vec2", width=768))).audio_encoder
    named = {
        f"encoder.{k.removeprefix('wav2vec2.')}": v
        for k, v in shapes_of(theirs).items()
        if "lm_head" not in k
    }
    assert named == {k: v for k, v in shapes_of(ours).items() if not k.startswith("mapper.")}


# -- reading files ------------------------------------------------------------------------------------


def test_every_form_of_a_u_net_gives_the_same(files: dict[str, Path], tmp_path: Path) -> None:
    expected = stand_ins.unet().state_dict()
    single = stand_ins.single_file(expected)
    torch.save({"state_dict": single, "global_step": 5}, tmp_path / "v1-5.ckpt")
    save_file(stand_ins.plain(single), tmp_path / "v1-5.safetensors")
    paths = [files["sd15"], files["image-variations"], tmp_path / "v1-5.ckpt", tmp_path / "v1-5.safetensors"]
    for path in paths:
        found = read_unet(path)
        assert found.state.keys() == expected.keys()
        assert all(torch.equal(value, expected[key]) for key, value in found.state.items())
        assert len(found.skipped) == (4 if path.parent == tmp_path else 0)


def test_both_forms_of_whisper_give_the_same(files: dict[str, Path], tmp_path: Path) -> None:
    from parity.golden import WHISPER_NAMES

    expected = read_whisper(files["whisper-tiny"])
    assert all(key.startswith(("model.decoder.", "model.encoder.layer_norm.")) for key in expected.skipped)
    older = {}
    for key, value in expected.state.items():
        for ours, theirs in WHISPER_NAMES:
            key = key.replace(ours, theirs)  # noqa: PLW2901
        older[key] = value
    older |= {"encoder.ln_post.weight": torch.ones(384), "decoder.ln.weight": torch.ones(384)}
    torch.save({"dims": {"n_mels": 80}, "model_state_dict": older}, tmp_path / "tiny.pt")
    found = read_whisper(tmp_path / "tiny.pt")
    assert found.skipped == ("encoder.ln_post.weight", "decoder.ln.weight")
    assert found.state.keys() == expected.state.keys()
    assert all(torch.equal(value, expected.state[key]) for key, value in found.state.items())


def test_both_names_of_normalised_weights_of_wav2vec2(files: dict[str, Path], tmp_path: Path) -> None:
    today = stand_ins.plain(stand_ins.wav2vec2().state_dict())
    save_file(today, tmp_path / "model.safetensors")
    new, old = read_wav2vec2(tmp_path / "model.safetensors"), read_wav2vec2(files["wav2vec2-base-960h"])
    assert new.state.keys() - old.state.keys() == {"encoder.masked_spec_embed"}
    assert all(torch.equal(value, new.state[key]) for key, value in old.state.items())
    assert set(old.skipped) == {"lm_head.weight", "lm_head.bias"}


def test_training_checkpoints_of_animatediff_are_read(tmp_path: Path) -> None:
    state = {f"module.{key}": value for key, value in stand_ins.motion().items()}
    torch.save(
        {"state_dict": {**state, "module.conv_in.weight": torch.ones(1)}, "epoch": 1}, tmp_path / "mm.ckpt"
    )
    found = read_motion(tmp_path / "mm.ckpt")
    assert found.state.keys() == {k for k in stand_ins.motion() if not k.endswith(".pe")}
    assert "conv_in.weight" in found.skipped
    assert sum(name.endswith(".pe") for name in found.skipped) == 42


class Harmless:
    """Something that a pickle would have to import."""


@pytest.mark.parametrize(
    ("name", "state", "says"),
    [
        ("a.ckpt", {"state_dict": {"model.diffusion_model.conv_in.weight": torch.ones(1)}, "x": Harmless()},
         "other than tensors"),
        ("b.ckpt", {"decoder.weight": torch.ones(1)}, "holds no U-Net of Stable Diffusion.*fetch sd15"),
        ("c.ckpt", {"conv_in.weight": torch.ones(1), "add_embedding.linear_1.weight": torch.ones(1)},
         "is the U-Net of Stable Diffusion XL, not of 1.5"),
        ("d.ckpt", {"conv_in.weight": torch.ones(1),
                    "down_blocks.0.attentions.0.proj_in.weight": torch.ones(2, 2)},
         "is the U-Net of Stable Diffusion 2"),
    ],
)  # fmt: skip
def test_other_files_are_no_u_nets(tmp_path: Path, name: str, state: dict[str, object], says: str) -> None:
    torch.save(state, tmp_path / name)
    with pytest.raises(SemibodyError, match=says) as error:
        read_unet(tmp_path / name)
    assert str(tmp_path / name) in str(error.value)


def test_other_files_are_no_motion_modules(tmp_path: Path) -> None:
    path = tmp_path / "mm.ckpt"
    wrong = {
        "for another network": {k: v for k, v in stand_ins.motion().items() if "blocks.3" not in k},
        "is a LoRA": {f"{k}.lora_down": v for k, v in stand_ins.motion().items()},
        "holds no motion modules": {"conv_in.weight": torch.ones(1)},
    }
    for says, state in wrong.items():
        torch.save(state, path)
        with pytest.raises(SemibodyError, match=f"mm.ckpt: .*{says}.*fetch animatediff"):
            read_motion(path)


def test_an_older_autoencoder_is_read(files: dict[str, Path], tmp_path: Path) -> None:
    names = ((".to_q.", ".query."), (".to_k.", ".key."), (".to_v.", ".value."), (".to_out.0.", ".proj_attn."))
    older = {}
    for key, value in stand_ins.vae().state_dict().items():
        for today, before in names:
            key = key.replace(today, before)  # noqa: PLW2901
        older[key] = value
    torch.save(older, tmp_path / "vae.bin")
    found, expected = read_vae(tmp_path / "vae.bin").state, read_vae(files["sd-vae-ft-mse"]).state
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in found.items())


# -- finding ------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import huggingface_hub.constants as constants

    monkeypatch.setenv("SEMIBODY_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


@pytest.mark.parametrize("name", public.PUBLIC)
def test_a_name_is_found_where_it_is_fetched_to(name: str, home: Path, files: dict[str, Path]) -> None:
    one = public.PUBLIC[name]
    with pytest.raises(
        SemibodyError, match=f"{name}: is not on this machine; run: semibody weights fetch {name}"
    ):
        public.find(one.kind, name)
    public.folder_of(name).parent.mkdir(parents=True)
    public.folder_of(name).symlink_to(next(p for p in files[name].parents if p.name == name))
    found = public.find(one.kind, name)
    assert found.name == one.files[-1].rsplit("/", 1)[-1]
    assert public.find(one.kind, one.repository).samefile(found)
    assert public.find(one.kind, str(files[name])) == files[name]
    assert public.read(one.kind, name).state


def test_the_hubs_own_cache_is_searched_the_pinned_commit_first(home: Path, files: dict[str, Path]) -> None:
    one = public.PUBLIC["whisper-tiny"]
    kept = home / "hub" / "models--openai--whisper-tiny" / "snapshots"
    for commit in (one.commit, "f" * 40):
        (kept / commit).mkdir(parents=True)
        (kept / commit / "model.safetensors").symlink_to(files["whisper-tiny"])
    assert public.find("whisper", "whisper-tiny").parent.name == one.commit
    assert public.find("whisper", "openai/whisper-tiny").parent.name == one.commit


def test_what_is_not_there_or_of_another_kind(home: Path, tmp_path: Path) -> None:
    with pytest.raises(SemibodyError, match="animatediff: is no unet but a motion; choose sd15, image"):
        public.find("unet", "animatediff")
    (tmp_path / "void").mkdir()
    with pytest.raises(SemibodyError, match=r"void: holds none of unet/diffusion.*fetch sd15"):
        public.find("unet", str(tmp_path / "void"))
    half = public.folder_of("sd15") / "unet"
    half.mkdir(parents=True)
    (half / "config.json").write_text("{}")
    with pytest.raises(SemibodyError, match="sd15: is not on this machine; run: semibody weights fetch sd15"):
        public.find("unet", "sd15")
    with pytest.raises(SemibodyError, match="is not on this machine"):
        public.find("unet", "x" * 5000)
