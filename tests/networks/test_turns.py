"""Networks and blocks that take turns: what is in memory when, and that nothing else changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import made
from semibody.networks import turns
from semibody.networks.loading import load_model, read_network
from semibody.networks.model import Conditions, Model
from semibody.networks.turns import LARGE, Turns, blocks_of
from semibody.types import Memory, SemibodyError
from semibody.weights.state import content_of

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.weights_folder(tmp_path_factory.mktemp("weights"))


def loaded(folder: Path, memory: Memory) -> Model:
    return load_model(folder, memory=memory)[0]


def present(model: Model) -> dict[str, int]:
    """Numbers of each large network that are in memory."""
    networks = dict(model.named_children())
    return {name: sum(p.numel() for p in networks[name].parameters() if not p.is_meta) for name in LARGE}


def test_one_large_network_is_in_memory_at_a_time(folder: Path) -> None:
    whole, model = present(loaded(folder, "full")), loaded(folder, "low")
    assert present(model) == dict.fromkeys(LARGE, 0)
    for name in (*LARGE, LARGE[0]):
        getattr(model, name)
        assert present(model) == {other: whole[other] if other == name else 0 for other in LARGE}
    assert model.pose_encoder.training is False
    assert present(model)[LARGE[0]], "small networks push nothing out"


@torch.inference_mode()
def test_of_a_network_in_blocks_one_is_in_memory_at_a_time(folder: Path) -> None:
    model = loaded(folder, "lowest")
    latents, t = torch.randn(1, 4, 4, 8, 8), torch.tensor([500.0])
    most = 0
    denoiser = model.denoising_unet
    blocks = blocks_of(denoiser)
    sizes = {name: sum(p.numel() for p in block.parameters()) for name, block in blocks.items()}
    resident = present(model)["denoising_unet"]

    def look(*_: object) -> None:
        nonlocal most
        most = max(most, present(model)["denoising_unet"] - resident)

    for block in blocks.values():
        next(
            module for module in block.modules() if isinstance(module, nn.Linear | nn.Conv2d)
        ).register_forward_hook(look)
    model.denoise(latents, t, Conditions())
    assert 0 < most == max(sizes.values())
    assert present(model)["denoising_unet"] == resident
    assert resident + sum(sizes.values()) == sum(p.numel() for p in denoiser.parameters())


@torch.inference_mode()
@pytest.mark.parametrize("memory", ["low", "lowest"])
def test_predictions_are_the_same_bits(folder: Path, memory: Memory) -> None:
    full, less = loaded(folder, "full"), loaded(folder, memory)
    torch.manual_seed(0)
    pixels, latents, t = torch.randn(1, 3, 64, 64), torch.randn(1, 4, 4, 8, 8), torch.tensor([500.0])
    audio = torch.randn(4, 50, full.config.audio.width)

    def predict(model: Model) -> list[torch.Tensor]:
        portrait = model.encode(pixels)
        reference = model.project_reference(portrait)
        conditions = Conditions(reference=reference, audio=model.project_audio(audio))
        out = model.denoise(latents, t, conditions)
        return [portrait, out, model.denoise(out, t, Conditions()), model.decode(out[0])]

    for _ in range(2):
        assert all(torch.equal(a, b) for a, b in zip(predict(full), predict(less), strict=True))


@torch.inference_mode()
def test_blocks_that_are_copied_to_their_device_give_the_same_bits(folder: Path) -> None:
    """The hooks that CUDA uses, here without a stream of copies: from the CPU to the CPU."""
    pytest.importorskip("accelerate")
    full, less = loaded(folder, "full"), load_model(folder)[0]
    turns._offload(less.denoising_unet, read_network(folder, "denoising_unet"), torch.float32, CPU)
    latents, t = torch.randn(1, 4, 4, 8, 8), torch.tensor([500.0])
    for _ in range(2):
        a, b = (model.denoise(latents, t, Conditions()) for model in (full, less))
        assert torch.equal(a, b)


def test_the_digest_of_weights_does_not_depend_on_what_is_in_memory(folder: Path) -> None:
    def content(model: Model) -> list[tuple[str, str, bytes]]:
        read = model.turns.tensor if model.turns else None
        return [(name, dtype, values.tobytes()) for name, dtype, values in content_of(model, read)]

    assert content(loaded(folder, "full")) == content(loaded(folder, "low"))


def test_a_block_that_fails_is_emptied_and_comes_again(folder: Path) -> None:
    model = loaded(folder, "lowest")
    latents, t = torch.randn(1, 4, 4, 8, 8), torch.tensor([500.0])
    before = model.denoise(latents, t, Conditions())
    resident = present(model)["denoising_unet"]

    def full_memory(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    resnet = next(iter(blocks_of(model.denoising_unet).values()))
    inner = next(module for module in resnet.modules() if isinstance(module, nn.Conv2d))
    hook = inner.register_forward_hook(full_memory)
    with pytest.raises(torch.OutOfMemoryError):
        model.denoise(latents, t, Conditions())
    hook.remove()
    assert present(model)["denoising_unet"] == resident
    assert torch.equal(model.denoise(latents, t, Conditions()), before)


def test_weights_that_do_not_fit_are_refused_before_anything_is_made(folder: Path) -> None:
    model = loaded(folder, "full")
    large = {name: getattr(model, name) for name in LARGE}

    def short(name: str) -> dict[str, torch.Tensor]:
        return dict(list(read_network(folder, name).items())[1:])

    with pytest.raises(SemibodyError, match="reference_unet: does not fit: missing"):
        Turns(large, short, dtype=torch.float32, device=CPU, memory="low")
