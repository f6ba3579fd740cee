from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import made
from semibody import media
from semibody.types import SemibodyError


@pytest.mark.parametrize("ending", ["png", "webp", "jpg"])
def test_round_trip(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    media.write_image(path, made.picture())
    error = np.abs(media.read_image(path).astype(int) - made.picture())
    assert error.mean() < (0.01 if ending == "png" else 12)


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    Image.fromarray(made.picture(40, 80)).save(tmp_path / "a.png", exif=exif)
    assert media.read_image(tmp_path / "a.png").shape == (80, 40, 3)


def test_transparency_shows_the_background(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / "a.png")
    assert (media.read_image(tmp_path / "a.png", (1, 2, 3)) == [1, 2, 3]).all()


def test_other_modes_become_rgb(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(tmp_path / "deep.png")
    Image.new("L", (8, 8), 9).save(tmp_path / "grey.png")
    Image.new("P", (8, 8)).save(tmp_path / "palette.gif")
    for name in ("deep.png", "grey.png", "palette.gif"):
        assert media.read_image(tmp_path / name).shape == (8, 8, 3)


def test_bad_pictures_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("not a picture")
    media.write_image(tmp_path / "whole.png", made.picture())
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:200])
    for name in ("missing.png", "empty.png", "text.png", "cut.png", "."):
        with pytest.raises(SemibodyError) as error:
            media.read_image(tmp_path / name)
        assert str(tmp_path / name) in str(error.value)
        assert "\n" not in str(error.value)


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    media.write_image(tmp_path / "a.png", made.picture())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(SemibodyError, match="too many pixels"):
        media.read_image(tmp_path / "a.png")


def test_unknown_ending_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(SemibodyError, match="format"):
        media.write_image(tmp_path / "a.xyz", made.picture())
    assert list(tmp_path.iterdir()) == []


def test_a_gif_holds_the_frames_and_is_the_same_every_time(tmp_path: Path) -> None:
    frames = np.zeros((6, 24, 32, 3), np.uint8)
    for k, frame in enumerate(frames):
        frame[:, 4 * k : 4 * k + 6] = (220, 40, 40)
    for name in ("a.gif", "b.gif"):
        media.write_gif(tmp_path / name, frames, 12.5)
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()
    assert np.abs(media.read_image(tmp_path / "a.gif").astype(int) - frames[0]).max() < 8
    again = media.read_clip(tmp_path / "a.gif", with_speech=False)
    assert again.fps == pytest.approx(12.5)
    assert np.abs(again.frames.astype(int) - frames).max() < 8
    with pytest.raises(SemibodyError, match=r"written as \.gif"):
        media.write_gif(tmp_path / "a.png", frames, 12.5)
