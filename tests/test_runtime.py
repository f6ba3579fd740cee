"""What is asked of PyTorch before networks run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from semibody import runtime
from semibody.types import SemibodyError


@pytest.fixture
def flags(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a new process, and afterwards as before."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    yield
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]


@pytest.mark.usefixtures("flags")
def test_deterministic_kernels_are_asked_for_on_gpus_alone() -> None:
    runtime.prepare(torch.device("cpu"))
    assert not torch.are_deterministic_algorithms_enabled()
    runtime.prepare(torch.device("cuda"))
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.benchmark


def test_a_gpu_that_emulates_bf16_computes_in_fp16(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch counts emulation as support unless told otherwise."""

    def supported(including_emulation: bool = True) -> bool:
        return including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert runtime.choose_dtype("auto", torch.device("cuda")) == torch.float16


def test_a_gpu_that_pytorch_is_not_built_for_is_said_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """``auto`` tries the GPU before minutes of loading, and names the remedy."""

    def ones(*_: object, **__: object) -> torch.Tensor:
        raise RuntimeError(
            "CUDA error: no kernel image is available for execution on the device\nCompile with"
        )

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", ones)
    with pytest.raises(SemibodyError, match=r"no kernel image .*install a PyTorch .*--device cpu") as error:
        runtime.choose_device("auto")
    assert "\n" not in str(error.value)


def test_a_gpu_that_is_not_used_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr(Path, "exists", lambda self: False)
    assert runtime.unused_gpu() == ""
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "computes on CPUs only; install one built for CUDA" in runtime.unused_gpu()
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    assert "update its driver to one for CUDA 12.8" in runtime.unused_gpu()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert runtime.unused_gpu() == ""


def test_attention_has_a_kernel_here_and_the_fused_one_where_torch_has_it() -> None:
    found = runtime.attention_kernels(torch.float32, torch.device("cpu"))
    assert "plain" in found
    assert "flash" in found, "torch has one for CPUs"
    assert "cuDNN" not in found
