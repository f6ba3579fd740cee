"""HumanVid's paths of the camera."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from semibody.data.camera import read_rotations, turn
from semibody.types import SemibodyError


def line(number: int, degrees: float, more: str = "1.39 2.08") -> str:
    """A camera that has turned about the upright axis."""
    half = np.radians(degrees) / 2
    return f"{number} 0.1 0.2 {number / 10} 0 {np.sin(half)} 0 {np.cos(half)} {more}"


@pytest.mark.parametrize("more", ["", "1.39 2.08", "1.39 2.08 0.7"])
def test_the_turn_of_a_camera_is_its_largest_angle(tmp_path: Path, more: str) -> None:
    path = tmp_path / "49.txt"
    path.write_text("\n".join(line(n, d, more) for n, d in enumerate((10, 12, 17.5, 11, -20))))
    rotations = read_rotations(path)
    assert rotations.shape == (5, 4)
    assert turn(rotations) == pytest.approx(30, abs=1e-4)
    assert turn(rotations[:3]) == pytest.approx(7.5, abs=1e-4)
    assert turn(-rotations[:1]) == turn(rotations[:0]) == 0


def test_a_quaternion_and_its_negative_are_the_same() -> None:
    rotations = np.array([[0, 0, 0, 1.0], [0, 0, 0, -1.0]])
    assert turn(rotations) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    "text", ["", "1 2 3\n", "a b c d e f g h\n", "0 0 0 0 0 0 0 0\n", "0 0 0 0 nan 0 0 1\n"]
)
def test_another_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "49.txt"
    path.write_text(text)
    with pytest.raises(SemibodyError, match=r"49\.txt.*give HumanVid's file"):
        read_rotations(path)
