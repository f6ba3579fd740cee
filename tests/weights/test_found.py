"""Weights as users have them: web pages, LFS pointers, safetensors, LoRAs, the Hub's own cache."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import made
from semibody.networks.loading import describe
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


def test_a_placeholder_anywhere_is_found_before_the_work(published: Path) -> None:
    official.require_complete(published)
    for name in ("pose_encoder.pth", "audio_processor/tiny.pt"):
        whole = (published / name).read_bytes()
        (published / name).write_bytes(b"<!DOCTYPE html><html>not found</html>")
        with pytest.raises(SemibodyError, match="is a web page"):
            official.require_complete(published)
        (published / name).write_bytes(whole)


def test_other_models_and_other_places_are_named(published: Path, tmp_path: Path) -> None:
    """Given as weights: relatives', quantised ones, a folder one level too high, a file, a repository."""
    for name, file, says in (
        ("v1", "face_locator.pth", "so it is EchoMimic V1, another model"),
        ("v3", "transformer/config.json", "so it is EchoMimic V3"),
        ("small", "model-Q4.gguf", r"Q4\.gguf: is quantised"),
        ("fp8", "echomimicv2_fp8.safetensors", "is quantised"),
    ):
        (tmp_path / name / file).parent.mkdir(parents=True)
        (tmp_path / name / file).write_bytes(b"x")
        with pytest.raises(SemibodyError, match=says):
            describe(tmp_path / name)
    (tmp_path / "v1" / "reference_unet.pth").write_bytes(b"x")
    with pytest.raises(SemibodyError, match="V1"):
        describe(tmp_path / "v1")
    with pytest.raises(SemibodyError, match=r"holds no weights itself; name .*published"):
        hub.find_weights(str(published.parent))
    with pytest.raises(SemibodyError, match="is a file; give the folder"):
        hub.find_weights(str(published / "pose_encoder.pth"))
    with pytest.raises(SemibodyError, match="is a repository; run: semibody weights fetch"):
        hub.find_weights("BadToBest/EchoMimicV2")


def test_a_hub_that_cannot_be_reached_names_the_mirror(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    class Unreachable:
        def model_info(self, *_: object, **__: object) -> None:
            raise OSError("Connection timed out")

    monkeypatch.setattr(huggingface_hub, "HfApi", Unreachable)
    with pytest.raises(SemibodyError, match=r"Connection timed out.*HF_ENDPOINT"):
        hub.fetch("official", folder=tmp_path)
