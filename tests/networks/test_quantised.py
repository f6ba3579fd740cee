from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import made
from semibody import runtime
from semibody.animator import Animator
from semibody.networks import quantised
from semibody.networks.unet import UNet
from semibody.types import MissingPartError, SemibodyError
from semibody.weights.state import content_of


def wide_network() -> UNet:
    config = dataclasses.replace(made.small_config().unet, widths=(64, 256, 256))
    torch.manual_seed(0)
    return UNet(config).eval().requires_grad_(False)


@pytest.mark.parametrize("precision", runtime.EIGHT_BITS)
def test_a_cpu_and_an_old_gpu_are_refused(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    with pytest.raises(SemibodyError, match=f"--precision {precision} needs an NVIDIA GPU; choose bf16"):
        runtime.choose_dtype(precision, torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    with pytest.raises(SemibodyError, match=f"--precision {precision} is not known to this GPU; choose"):
        runtime.choose_dtype(precision, torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(runtime, "cuda_has_bf16", lambda: True)
    assert runtime.choose_dtype(precision, torch.device("cuda")) == torch.bfloat16


def test_without_torchao_its_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torchao", None)
    monkeypatch.setattr(runtime, "choose_dtype", lambda precision, device: torch.float32)
    folder = made.weights_folder(tmp_path / "weights")
    for attempt in (
        lambda: quantised.quantise(wide_network(), "int8"),
        lambda: Animator.load(folder, precision="int8", device="cpu"),
    ):
        with pytest.raises(MissingPartError, match=r"needs torchao; run: pip install 'semibody\[quantise\]'"):
            attempt()


def test_low_memory_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(runtime, "choose_dtype", lambda precision, device: torch.float32)
    folder = made.weights_folder(tmp_path / "weights")
    with pytest.raises(SemibodyError, match="--precision int8 works with --memory full; leave out one"):
        Animator.load(folder, precision="int8", device="cpu", memory="low")


def test_wide_layers_alone_are_rounded() -> None:
    pytest.importorskip("torchao", reason="torchao is not installed; the extra quantise has it")
    network, exact = wide_network(), wide_network()
    quantised.quantise(network, "int8")
    rounded = {
        name: min(layer.weight.shape)
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear) and type(layer.weight) is not nn.Parameter
    }
    assert rounded
    assert min(rounded.values()) >= quantised.LEAST
    assert not any(name.startswith("time_embedding") for name in rounded)
    x, t = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([400.0])
    with torch.inference_mode():
        near, wanted = network(x, t, frames=3), exact(x, t, frames=3)
    assert 0 < (near - wanted).norm() < 0.05 * wanted.norm()
    assert len(list(content_of(network))) == len(list(content_of(exact))), "a digest can be made of them"
