"""Our own sync network: what it sees of a mouth, and that it comes along."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import ROOT
from semibody.evaluation import sync_small


def test_movement_does_not_depend_on_person_and_place() -> None:
    rng = np.random.default_rng(0)
    mouth = rng.normal(0.5, 0.02, (30, 40, 2))
    five = np.tile(rng.normal(0.5, 0.1, (1, 5, 2)), (30, 1, 1))
    expression = rng.random((30, 52))
    found = {"lips": mouth, "five": five, "expression": expression}
    turned = np.array([[0.0, -1.0], [1.0, 0.0]])
    elsewhere = {
        "lips": mouth @ turned.T * 2 + 3,
        "five": five @ turned.T * 2 + 3,
        "expression": expression + 0.1,
    }
    one, other = sync_small.movement(found, 25), sync_small.movement(elsewhere, 25)
    assert one is not None and other is not None
    assert one.shape == (30, 109)
    assert np.abs(one - other).max() < 1e-4


def test_movement_needs_faces() -> None:
    without_face = {"lips": np.full((30, 40, 2), np.nan), "five": np.full((30, 5, 2), np.nan),
              "expression": np.full((30, 52), np.nan)}  # fmt: skip
    assert sync_small.movement(without_face, 25) is None


def test_the_shipped_network_loads_and_is_small() -> None:
    assert sync_small.WEIGHTS.stat().st_size < 500_000
    rows, cepstra = np.zeros((30, 109), np.float32), np.zeros((13, 120), np.float32)
    video, audio = sync_small.embed_rows(rows, cepstra, sync_small.load_sync_small())
    assert video.shape == audio.shape == (30, 32)
    assert np.linalg.norm(video, axis=1) == pytest.approx(1, abs=1e-5)


def test_the_folder_of_the_shipped_network_is_packed() -> None:
    assert sync_small.WEIGHTS.is_relative_to(ROOT / "src" / "semibody")
