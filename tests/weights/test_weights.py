from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import made
from semibody.networks import loading
from semibody.networks.audio_encoders import AudioConfig
from semibody.networks.loading import convert, load_model, save_model, verify
from semibody.networks.model import Model
from semibody.types import SemibodyError
from semibody.weights import state


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return made.weights_folder(tmp_path / "w")


def test_round_trip(folder: Path) -> None:
    model, info = load_model(folder)
    expected = made.animator().model.state_dict()
    assert model.state_dict().keys() == expected.keys()
    assert all(torch.equal(v, expected[k]) for k, v in model.state_dict().items())
    assert info.defaults["steps"] == 2


def test_precision(folder: Path, tmp_path: Path) -> None:
    model, _ = load_model(folder, dtype=torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    convert(folder, tmp_path / "half", dtype=torch.float16)
    assert {t.dtype for t in load_file(tmp_path / "half" / "vae.safetensors").values()} == {torch.float16}
    assert not any(verify(tmp_path / "half").values())


@pytest.mark.parametrize("fault", ["missing", "extra", "shape"])
def test_every_misfit_is_named(folder: Path, fault: str) -> None:
    path = folder / "pose_encoder.safetensors"
    tensors = load_file(path)
    if fault == "missing":
        del tensors["conv_in.bias"]
    elif fault == "extra":
        tensors["conv_in.surprise"] = torch.zeros(1)
    else:
        tensors["conv_in.bias"] = torch.zeros(99)
    save_file(tensors, path)
    with pytest.raises(SemibodyError, match=r"conv_in\.(bias|surprise)") as error:
        load_model(folder)
    assert "pose_encoder" in str(error.value)
    assert any("conv_in" in problem for problem in verify(folder)["pose_encoder"])


def test_damaged_files_are_named(folder: Path, tmp_path: Path) -> None:
    path = folder / "vae.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(SemibodyError, match=r"vae.safetensors"):
        load_model(folder)
    path.unlink()
    with pytest.raises(SemibodyError, match="no such weights file"):
        load_model(folder)
    (folder / "semibody.json").write_text("{")
    with pytest.raises(SemibodyError, match=r"semibody.json"):
        load_model(folder)
    (tmp_path / "void").mkdir()
    with pytest.raises(SemibodyError, match="holds no weights"):
        load_model(tmp_path / "void")


def test_unknown_size_is_named(folder: Path) -> None:
    index = json.loads((folder / "semibody.json").read_text())
    index["model"]["unet"]["width"] = 3
    (folder / "semibody.json").write_text(json.dumps(index))
    with pytest.raises(SemibodyError, match=r"unknown setting model\.unet\.width.*widths"):
        load_model(folder)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the published files, at a small size given to the loader."""
    import dataclasses

    config = dataclasses.replace(
        made.small_config(),
        audio=AudioConfig(),
        unet=dataclasses.replace(made.small_config().unet, audio_width=384),
    )
    monkeypatch.setattr(loading, "ModelConfig", lambda: config)
    monkeypatch.setattr(
        loading,
        "describe",
        lambda folder, variant="official": loading.WeightsInfo(model=config, origin=variant),
    )
    torch.manual_seed(3)
    return made.published_folder(tmp_path / "published", Model(config))


def test_published_files(published: Path) -> None:
    for variant in ("official", "accelerated"):
        model, info = load_model(published, variant=variant)
        assert info.origin == variant
        table = model.audio_encoder.state_dict()["encoder.embed_positions.weight"]
        assert table.shape == (1500, 384)
    assert not any(verify(published).values())


def test_older_vae_names(published: Path) -> None:
    path = published / "sd-vae-ft-mse" / "diffusion_pytorch_model.bin"
    tensors = torch.load(path, weights_only=True)
    older = {}
    for key, value in tensors.items():
        name = key
        for ours, theirs in (
            (".to_q.", ".query."),
            (".to_k.", ".key."),
            (".to_v.", ".value."),
            (".to_out.0.", ".proj_attn."),
        ):
            name = name.replace(ours, theirs)
        older[name] = value
    torch.save(older, path)
    assert not verify(published)["vae"]


def test_missing_published_file_is_named(published: Path) -> None:
    (published / "motion_module_acc.pth").unlink()
    with pytest.raises(SemibodyError, match=r"motion_module_acc.pth.*fetch accelerated"):
        load_model(published, variant="accelerated")


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):  # type: ignore[no-untyped-def]
            return print, ("ran",)

    torch.save({"a": Evil()}, tmp_path / "bad.pth")
    with pytest.raises(SemibodyError, match=r"bad.pth"):
        state.read_state(tmp_path / "bad.pth")


def test_nan_is_found(folder: Path) -> None:
    path = folder / "vae.safetensors"
    tensors = load_file(path)
    key = next(iter(tensors))
    tensors[key].view(-1)[0] = float("nan")
    save_file(tensors, path)
    assert verify(folder)["vae"] == [f"{key} holds NaN or infinity"]


def test_saving_a_loaded_model_is_lossless(folder: Path, tmp_path: Path) -> None:
    model, info = load_model(folder)
    save_model(tmp_path / "again", model, {"defaults": info.defaults})
    for part in ("vae", "denoising_unet"):
        a, b = (load_file(f / f"{part}.safetensors") for f in (folder, tmp_path / "again"))
        assert all(torch.equal(a[k], b[k]) for k in a)
