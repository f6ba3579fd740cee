"""What the tests of the served page share."""

from __future__ import annotations

from pathlib import Path

import pytest

import made
from web.served import write_inputs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small weights, and inputs of all kinds."""
    folder = tmp_path_factory.mktemp("page")
    made.weights_folder(folder / "weights")
    write_inputs(folder)
    return folder
