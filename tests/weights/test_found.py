"""Weights as users have them: web pages, LFS pointers, safetensors, LoRAs, the Hub's own cache."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import made
from semibody.types import SemibodyError
from semibody.weights import hub, official
from semibody.weights.state import read_state


@pytest.fixture
def published(tmp_path: Path) -> Path:
    model = made.animator().model
    return made.published_folder(tmp_path / "published", model)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"<html>404</html>", "web page"),
        (b"\n<!DOCTYPE html><html lang=en>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 3438375973\n", "git lfs pull"),
        (b"", "empty"),
        (b"text", "fetch it again"),
    ],
)
@pytest.mark.parametrize("ending", [".pth", ".safetensors", ".bin"])
def test_what_is_saved_in_a_files_stead_is_named(
    tmp_path: Path, content: bytes, says: str, ending: str
) -> None:
    path = tmp_path / f"pose_encoder{ending}"
    path.write_bytes(content)
    with pytest.raises(SemibodyError, match=says) as error:
        read_state(path)
    assert str(path) in str(error.value)


class Harmless:
    """Something that a pickle would have to import."""


def test_torchs_advice_is_never_passed_on(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(1), "other": Harmless()}, tmp_path / "a.pth")
    with pytest.raises(SemibodyError, match="other than tensors") as error:
        read_state(tmp_path / "a.pth")
    for word in ("weights_only", "safe_globals", "two options", "source of the checkpoint"):
        assert word not in str(error.value)


def test_safetensors_under_published_names_are_read(published: Path) -> None:
    for name in ("pose_encoder", "reference_unet", "motion_module", "denoising_unet"):
        path = published / f"{name}.pth"
        save_file({k: v.contiguous() for k, v in read_state(path).items()}, path.with_suffix(".safetensors"))
        before = official.read_network(published, "pose_encoder")
        path.unlink()
    assert official.is_official(published)
    official.require_complete(published)
    after = official.read_network(published, "pose_encoder")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_a_lora_is_found_by_name_and_by_what_it_holds(published: Path) -> None:
    assert official.find_lora(published) == []
    save_file({"x": torch.ones(1)}, published / "style_LoRA.safetensors")
    save_file({"down.lora_A.weight": torch.ones(1)}, published / "style.safetensors")
    found = [path.name for path in official.find_lora(published)]
    assert found == ["style.safetensors", "style_LoRA.safetensors"]


def test_the_hubs_own_cache_is_a_weights_folder(published: Path, tmp_path: Path) -> None:
    cache = tmp_path / "models--someone--EchoMimicV2"
    old, new, empty = (cache / "snapshots" / name for name in ("aaa", "bbb", "ccc"))
    for folder in (old, new, empty):
        folder.mkdir(parents=True)
    for folder in (new, old):
        (folder / "reference_unet.pth").symlink_to(published / "reference_unet.pth")
    (cache / "refs").mkdir()
    for named in (old, new):
        (cache / "refs" / "main").write_text(named.name)
        for given in (cache, cache / "snapshots"):
            assert hub.find_weights(str(given)) == (named, None)
    assert hub.find_weights(str(old)) == (old, None)
    (cache / "refs" / "main").write_text("ccc")
    assert hub.find_weights(str(cache))[0] in (old, new)


def test_samples_as_users_have_them(shared_inputs: Path) -> None:
    field = shared_inputs / "field"
    with pytest.raises(SemibodyError, match="web page"):
        official.read_network(field / "weights_off_html", "pose_encoder")
    with pytest.raises(SemibodyError, match="LFS pointer"):
        official.read_network(field / "weights_off_lfs", "reference_unet")
    assert official.read_network(field / "weights_off_st", "pose_encoder")
