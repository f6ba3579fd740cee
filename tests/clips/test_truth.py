"""Truth: what is written is read; boxes about points whose answer is known by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from semibody.clips.truth import BOXES, Truth, box_around, boxes_at
from semibody.types import Floats, SemibodyError


def test_truth_comes_back_with_its_gaps(tmp_path: Path) -> None:
    boxes = {part: np.full((3, 4), np.nan, np.float32) for part in BOXES}
    boxes["lips"][1] = (0.4, 0.3, 0.5, 0.35)
    truth = Truth(np.array([0, 0.5, 1], np.float32), boxes)
    truth.save(tmp_path / "t.npz")
    back = Truth.load(tmp_path / "t.npz")
    np.testing.assert_array_equal(back.jaw, truth.jaw)
    for part in BOXES:
        np.testing.assert_array_equal(back.boxes[part], boxes[part])


def test_a_broken_truth_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(SemibodyError, match=r"t\.npz"):
        Truth.load(tmp_path / "t.npz")


@pytest.mark.parametrize(
    "arrays",
    [{}, {"jaw": np.zeros((3, 2))}, {"jaw": np.zeros(3), "boxes/face": np.zeros((2, 4))}],
    ids=["no jaw", "jaw of two columns", "boxes of another length"],
)
def test_a_truth_that_contradicts_itself_is_named(tmp_path: Path, arrays: dict[str, Floats]) -> None:
    np.savez(tmp_path / "t.npz", **arrays)
    with pytest.raises(SemibodyError, match=r"t\.npz: not a truth file"):
        Truth.load(tmp_path / "t.npz")


def test_a_box_grows_by_its_longer_side_and_ends_at_the_edge() -> None:
    points = np.array([[[0.4, 0.1], [0.6, 0.5], [0.5, 0.3]]])
    np.testing.assert_allclose(box_around(points, 0.0), [[0.4, 0.1, 0.6, 0.5]])
    # A tenth of 0.4 on all sides; twice that passes the upper edge.
    np.testing.assert_allclose(box_around(points, 0.1), [[0.36, 0.06, 0.64, 0.54]], rtol=1e-6)
    np.testing.assert_allclose(box_around(points, 0.3), [[0.28, 0.0, 0.72, 0.62]], rtol=1e-6)
    assert np.isnan(box_around(points + np.array([2.0, 0.0]), 0.1)).all()


def test_a_box_holds_the_points_that_were_seen() -> None:
    points = np.tile(np.array([[0.4, 0.1], [0.6, 0.5], [0.5, 0.3], [9.0, 9.0]]), (3, 1, 1))
    seen = np.array([[True, True, True, False], [True, True, False, False], [False] * 4])
    boxes = box_around(points, 0.0, seen, least=3)
    np.testing.assert_allclose(boxes[0], [0.4, 0.1, 0.6, 0.5])
    assert np.isnan(boxes[1:]).all()


def test_boxes_of_one_frame_leave_out_what_is_not_in_view() -> None:
    face = np.array([[0.1, 0.1, 0.5, 0.5], [np.nan] * 4])
    assert list(boxes_at({"face": face}, 0)) == ["face"]
    assert boxes_at({"face": face}, 1) == {}
    assert boxes_at({"face": face}, 2) == {}  # the video is longer than what is known of it
