"""Drawn people to train on."""

from __future__ import annotations

from pathlib import Path

import pytest

from semibody.data.dataset import PackedClip
from semibody.training.trainer import Training
from training.nano import nano, packed


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packed clips."""
    return packed(tmp_path_factory.mktemp("drawn"))


@pytest.fixture
def clips(folder: Path, tmp_path: Path) -> list[PackedClip]:
    """The same, opened for a training."""
    return Training(nano(), tmp_path / "run").packed(folder)
