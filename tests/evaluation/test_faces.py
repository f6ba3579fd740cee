"""Identity arithmetic; and, on real pictures, that the same face is nearer than another."""

from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import made
from semibody import media
from semibody.evaluation import extract, faces
from semibody.types import MissingPartError


@settings(max_examples=30, deadline=None)
@given(st.floats(-3, 3), st.floats(0.2, 5), st.floats(-50, 50), st.floats(-50, 50))
def test_similarity_finds_turn_scale_and_shift(angle: float, scale: float, x: float, y: float) -> None:
    points = np.random.default_rng(0).normal(size=(5, 2)) * 10
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    found = faces.similarity(points, points @ turn.T + (x, y))
    assert found == pytest.approx(np.concatenate([turn, [[x], [y]]], axis=1), abs=1e-8)


def test_similarity_never_mirrors() -> None:
    points = np.random.default_rng(0).normal(size=(5, 2))
    matrix = faces.similarity(points, points * (-1, 1))
    assert np.linalg.det(matrix[:, :2]) > 0


def test_aligned_points_land_where_they_should() -> None:
    picture = np.zeros((60, 80, 3), np.uint8)
    points = np.array([[20.0, 20.0], [40.0, 20.0], [30.0, 40.0]])
    picture[20, 20] = 255
    crop = faces.align(picture, points, points * 0.5 + 5, 40, 40)
    assert crop[..., 0].argmax() == 15 * 40 + 15


def test_cosine_by_hand() -> None:
    rows = np.array([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]])
    assert faces.cosine(rows, np.array([5.0, 0.0])).tolist() == [1.0, 0.0, -1.0]
    assert faces.cosine(rows + 7, np.array([12.0, 7.0]), np.array([7.0, 7.0])) == pytest.approx(
        [1.0, 0.0, -1.0]
    )


def test_without_mediapipe_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPartError, match=r"semibody\[pose\]"):
        faces.open_face_finder()
    with pytest.raises(MissingPartError, match=r"semibody\[eval\]"):
        faces.DlibEmbedder()


def test_a_picture_without_a_face_gives_none() -> None:
    pytest.importorskip("mediapipe")
    finder = faces.open_face_finder()
    try:
        assert finder.find(made.picture(128, 128)) is None
    finally:
        finder.close()


def changed(picture: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """The same picture encoded badly, darkened, and scaled down and up again."""
    _, coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 30])
    half = media.resize_image(picture, picture.shape[1] // 2, picture.shape[0] // 2)
    return [
        np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8),
        (picture * 0.5).astype(np.uint8),
        media.resize_image(half, picture.shape[1], picture.shape[0]),
    ]


@pytest.mark.slow
def test_the_same_real_face_is_nearer_than_another(shared_inputs: Path) -> None:
    pytest.importorskip("dlib")
    finder, embedder = extract.face_finder(), faces.DlibEmbedder()

    def embed(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        face = finder.find(picture)
        assert face is not None
        return embedder.embed(picture, face)

    own, again = [], []
    for path in sorted((shared_inputs / "portraits").glob("*.png")):
        picture = media.resize_image(media.read_image(path), 512, 512)
        own.append(embed(picture))
        again.append(np.stack([embed(other) for other in changed(picture)]))
    right = [
        (
            faces.cosine(again[a], own[a], faces.dlib_centre())
            > faces.cosine(own[b], own[a], faces.dlib_centre())
        ).all()
        for a, b in itertools.permutations(range(len(own)), 2)
    ]
    assert np.mean(right) >= 0.99
