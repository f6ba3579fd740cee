"""What is asked of PyTorch before networks run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from semibody import runtime


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
