"""The standard networks load published names and shapes, and compute what the published ones do.

``golden/published_backbones.npz`` has what the published definitions give with the weights of ``seeded``.
"""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import made
from semibody.evaluation.backbones import i3d, i3d_script, inception, syncnet
from semibody.files import digest
from semibody.types import SemibodyError, Speech
from semibody.weights import parts

GOLDEN = Path(__file__).parents[1] / "golden" / "published_backbones.npz"


def seeded(network: nn.Module) -> nn.Module:
    """Weights that anyone can make again, with batch norms that do something."""
    with torch.no_grad():
        for number, (name, value) in enumerate(network.state_dict().items()):
            generator = torch.Generator().manual_seed(number)
            if name.endswith("num_batches_tracked"):
                continue
            if name.endswith(("running_var", "bn.weight")):
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
            else:
                fan = max(value[0].numel(), 1) if value.ndim > 1 else 100
                value.copy_(torch.randn(value.shape, generator=generator) * (1.5 / fan) ** 0.5)
    return network.eval()


def seeded_input(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(99))


def test_inception_loads_a_published_file_and_ignores_its_classifier(tmp_path: Path) -> None:
    network = seeded(inception.Inception())
    state = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    assert len(state) == 94 * 5  # 94 convolutions: weight and the four tensors of a batch norm
    torch.save(
        {**state, "fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}, tmp_path / "i.pth"
    )
    loaded = inception.load_inception(tmp_path / "i.pth")
    pictures = torch.rand(1, 3, 64, 48) * 2 - 1
    with torch.no_grad():
        features = loaded(pictures)
        assert features.shape == (1, inception.WIDTH)
        assert torch.equal(features, network(pictures))
    torch.save({"Conv2d_1a_3x3.conv.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "part.pth")
    with pytest.raises(SemibodyError, match="missing"):
        inception.load_inception(tmp_path / "part.pth")


def test_inception_averages_without_counting_the_padding() -> None:
    ones = torch.ones(1, 1, 3, 3)
    assert torch.equal(inception._average(ones), ones)


def test_i3d_gives_logits_of_a_window_and_loads_its_file(tmp_path: Path) -> None:
    network = seeded(i3d.I3D())
    state = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "i3d.pt")
    loaded = i3d.load_i3d(tmp_path / "i3d.pt")
    with torch.no_grad():
        logits = loaded(torch.rand(1, 3, i3d.FRAMES, 224, 224))
    assert logits.shape == (1, i3d.WIDTH)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pads"),
    [(224, 7, 2, (2, 3)), (112, 3, 2, (0, 1)), (7, 3, 1, (1, 1)), (5, 2, 2, (0, 1))],
)
def test_same_padding_puts_the_odd_zero_behind(
    size: int, kernel: int, stride: int, pads: tuple[int, int]
) -> None:
    padded = i3d._pad_same(torch.ones(1, 1, 1, 1, size), (1, 1, kernel), (1, 1, stride))
    assert padded.shape[-1] == size + sum(pads)
    assert padded[..., : pads[0]].sum() == 0
    assert padded[..., pads[0]] == 1


def test_syncnet_loads_and_both_towers_meet(tmp_path: Path) -> None:
    network = seeded(syncnet.SyncNet())
    torch.save(network.state_dict(), tmp_path / "syncnet_v2.model")
    loaded = syncnet.load_syncnet(tmp_path / "syncnet_v2.model")
    with torch.no_grad():
        sound = loaded.embed_sound(torch.rand(2, 1, 13, syncnet.STEPS))
        faces = loaded.embed_faces(torch.rand(1, 3, syncnet.FRAMES, syncnet.SIDE, syncnet.SIDE))
    assert sound.shape == (2, 1024)
    assert faces.shape == (1, 1024)


def same_as_published(ours: torch.Tensor, name: str) -> None:
    with np.load(GOLDEN) as golden:
        published = golden[name]
    difference = np.linalg.norm(ours[0].numpy() - published) / np.linalg.norm(published)
    assert difference < 1e-4, f"{name}: {difference:.1e} from the published module"


@torch.no_grad()
def test_i3d_is_the_published_one() -> None:
    """Of VideoGPT, whose file is read: with another epsilon in its batch norms logits differ by percents."""
    windows = seeded_input(1, 3, i3d.FRAMES, 224, 224) * 2 - 1
    same_as_published(seeded(i3d.I3D())(windows), "i3d")


@torch.no_grad()
def test_inception_is_the_published_one() -> None:
    """Of pytorch-fid."""
    same_as_published(seeded(inception.Inception())(seeded_input(1, 3, 299, 299) * 2 - 1), "inception")


@torch.no_grad()
def test_syncnet_is_the_published_one() -> None:
    """Of syncnet_python."""
    network = seeded(syncnet.SyncNet())
    assert isinstance(network, syncnet.SyncNet)
    same_as_published(network.embed_sound(seeded_input(1, 1, 13, syncnet.STEPS) * 20 - 10), "syncnet_heard")
    same_as_published(network.embed_faces(seeded_input(1, 3, syncnet.FRAMES, 224, 224) * 255), "syncnet_seen")


def test_torchscript_is_not_accepted(tmp_path: Path) -> None:
    torch.save(nn.Linear(1, 1), tmp_path / "whole_module.pt")
    with pytest.raises(SemibodyError, match="could run code and is not loaded"):
        i3d.load_i3d(tmp_path / "whole_module.pt")


class Scripted(nn.Module):
    """Takes what StyleGAN-V's file takes."""

    def forward(
        self, x: torch.Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False
    ) -> torch.Tensor:
        assert rescale and resize and return_features and x.dtype == torch.uint8
        return x.float().mean(dim=[1, 2, 3, 4])[:, None].repeat(1, 400)


def test_of_torchscript_only_the_known_file_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(Scripted()).save(str(tmp_path / "i3d.pt"))
    windows = torch.randint(0, 255, (2, 3, 16, 8, 8), dtype=torch.uint8)
    with monkeypatch.context() as patched:
        patched.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("it was opened"))
        with pytest.raises(SemibodyError, match="is not the known file and, being a program"):
            i3d_script.load_i3d_script(tmp_path / "i3d.pt")
        with pytest.raises(SemibodyError, match="no such file"):
            i3d_script.load_i3d_script(tmp_path / "none.pt")
    known = dataclasses.replace(parts.PARTS["i3d-torchscript"], sha256=digest(tmp_path / "i3d.pt"))
    monkeypatch.setitem(parts.PARTS, "i3d-torchscript", known)
    logits = i3d_script.load_i3d_script(tmp_path / "i3d.pt")(windows)
    assert logits.shape == (2, i3d_script.WIDTH)
    torch.testing.assert_close(logits[:, 0], windows.float().mean(dim=(1, 2, 3, 4)))


def test_cepstra_have_the_published_values() -> None:
    # Recorded from python_speech_features 0.6, mfcc(signal, 16000), which SyncNet was trained with.
    t = np.arange(4000) / 16000
    wave = 0.4 * np.sin(2 * np.pi * 300 * t) + 0.2 * np.sin(2 * np.pi * 2500 * t**2)
    samples = np.rint(wave * 32768)
    cepstra = syncnet.mfcc(Speech((samples / 32768).astype(np.float32)))
    assert cepstra.shape == (13, 24)
    assert cepstra[:, 7] == pytest.approx(RECORDED, abs=2e-4)


RECORDED = [
    19.6131,
    21.4627,
    7.5025,
    -5.6575,
    -18.161,
    -27.6612,
    -30.5672,
    -28.4214,
    -21.8974,
    -14.4505,
    -7.526,
    -3.6368,
    -1.9142,
]


def test_cepstra_of_silence_are_finite() -> None:
    assert np.isfinite(syncnet.mfcc(Speech(np.zeros(2000, np.float32)))).all()
    with pytest.raises(ValueError, match="16000"):
        syncnet.mfcc(made.tone(0.1, rate=8000))
