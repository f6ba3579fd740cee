from __future__ import annotations

import struct
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


def profile(red: tuple[float, float, float], blue: tuple[float, float, float]) -> bytes:
    """A colour profile (ICC.1:2001, "matrix/TRC") whose red and blue are the given XYZ; gamma 2.2."""

    def fixed(*values: float) -> bytes:
        return struct.pack(f">{len(values)}i", *(round(v * 65536) for v in values))

    def xyz(values: tuple[float, float, float]) -> bytes:
        return b"XYZ " + bytes(4) + fixed(*values)

    text = b"desc" + bytes(4) + struct.pack(">I", 5) + b"mine\0" + bytes(78)
    gamma = b"curv" + bytes(4) + struct.pack(">IH", 1, round(2.2 * 256)) + bytes(2)
    tags = {
        b"desc": text + bytes(-len(text) % 4), b"wtpt": xyz((0.9642, 1.0, 0.8249)), b"rXYZ": xyz(red),
        b"gXYZ": xyz((0.3851, 0.7169, 0.0971)), b"bXYZ": xyz(blue),
        b"rTRC": gamma, b"gTRC": gamma, b"bTRC": gamma,
    }  # fmt: skip
    table, body, at = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", at + len(body), len(content))
        body += content
    size = 128 + len(table) + len(body)
    head = struct.pack(">I4sI4s4s4s", size, bytes(4), 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + fixed(0.9642, 1.0, 0.8249) + bytes(48)
    return head + table + body


SRGB_RED, SRGB_BLUE = (0.4361, 0.2225, 0.0139), (0.1431, 0.0606, 0.7141)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colours_of_another_profile_become_srgb(tmp_path: Path, mode: str) -> None:
    """In a profile where red and blue have each other's place, what is stored as red is blue."""
    swapped = profile(SRGB_BLUE, SRGB_RED)
    picture = Image.new("RGB", (8, 8), (230, 100, 90)).convert(mode)
    picture.save(tmp_path / "a.png", icc_profile=swapped)
    assert np.abs(media.read_image(tmp_path / "a.png")[4, 4].astype(int) - (90, 100, 230)).max() <= 6
    picture.save(tmp_path / "b.png", icc_profile=b"no profile")
    assert (media.read_image(tmp_path / "b.png")[4, 4] == (230, 100, 90)).all()


@pytest.mark.parametrize(
    ("start", "says"),
    [
        (b"\0\0\0\x18ftypheic", "HEIC photograph; export it as JPEG"),
        (b"\0\0\0\x18ftypmif1", "HEIC photograph; export it as JPEG"),
        (b"\0\0\0\x20ftypisom", "a video; save one of its frames"),
        (b"\x1aE\xdf\xa3\x01\0\0\0", "a video; save one of its frames"),
        (b"RIFF\0\0\0\0WAVEfmt ", "sound; the picture comes first"),
        (b"ID3\x03\0\0\0\0\0\0", "sound; the picture comes first"),
    ],
)
def test_what_is_no_picture_is_called_what_it_is(tmp_path: Path, start: bytes, says: str) -> None:
    (tmp_path / "a.jpg").write_bytes(start + bytes(200))
    with pytest.raises(SemibodyError, match=says):
        media.read_image(tmp_path / "a.jpg")


def test_photographs_of_phones_with_a_second_picture_in_them(tmp_path: Path) -> None:
    """Depth maps and views lie behind the photograph in the same JPEG (MPO)."""
    first, second = (Image.new("RGB", (32, 32), colour) for colour in ((200, 10, 10), (0, 0, 200)))
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[second])
    assert np.abs(media.read_image(tmp_path / "a.jpg")[4, 4].astype(int) - (200, 10, 10)).max() <= 4


def test_a_dim_picture_of_16_bits_stays_dim(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(tmp_path / "deep.png")
    assert (media.read_image(tmp_path / "deep.png") == round(40000 / 257)).all()


def test_an_address_is_no_file() -> None:
    with pytest.raises(SemibodyError, match="is an address; download the file first"):
        media.read_image(Path("https://example.org/a.png"))
    with pytest.raises(SemibodyError, match="is an address; download the file first"):
        media.read_speech("https://example.org/a.mp3")


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_a_picture_as_the_recording_is_called_one(tmp_path: Path, ending: str) -> None:
    media.write_image(tmp_path / f"a.{ending}", made.picture())
    with pytest.raises(
        SemibodyError, match=r"is a picture, not .*the portrait comes first, then the recording"
    ):
        media.read_speech(tmp_path / f"a.{ending}")
