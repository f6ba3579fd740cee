"""Backgrounds behind transparent portraits, and transparent videos."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import made
from semibody import media
from semibody.media.video import VideoWriter
from semibody.types import SemibodyError

SIDE = 64


def soft_disc(radius: float = 20, x: float = 32) -> NDArray[np.float32]:
    across = np.hypot(np.arange(SIDE)[None] - x, np.arange(SIDE)[:, None] - 32)
    return np.clip((radius + 4 - across) / 8, 0, 1).astype(np.float32)


def over(person: NDArray[np.float32], alpha: NDArray[np.float32], behind: object) -> NDArray[np.uint8]:
    blend = alpha[..., None] * person + (1 - alpha[..., None]) * np.asarray(behind, np.float32)
    return np.rint(blend).astype(np.uint8)


PERSON = np.broadcast_to(np.array([210, 160, 140], np.float32), (SIDE, SIDE, 3)) - np.float32(0)


def test_another_background_is_as_if_composed_over_it() -> None:
    alpha = soft_disc()
    moved = media.put_behind(over(PERSON, alpha, (255, 255, 255)), alpha, (255, 255, 255), (20, 90, 60))
    assert np.abs(moved.astype(int) - over(PERSON, alpha, (20, 90, 60))).max() <= 1


def test_a_background_picture_covers_all_and_is_not_stretched() -> None:
    wide = np.zeros((40, 200, 3), np.uint8)
    wide[:, 80:120] = 200  # the middle square, which a square portrait shows
    shown = media.put_behind(
        np.full((SIDE, SIDE, 3), 255, np.uint8), np.zeros((SIDE, SIDE), np.float32), (255,) * 3, wide
    )
    assert (shown[:, 4:-4] == 200).all()


def test_the_key_colour_is_not_one_that_the_person_wears() -> None:
    for worn in ((0, 177, 64), (0, 71, 187), (255, 255, 255), (128, 128, 128)):
        picture = np.broadcast_to(np.array(worn, np.uint8), (SIDE, SIDE, 3))
        key = media.key_colour(picture, soft_disc())
        assert np.linalg.norm(np.subtract(key, worn)) > 150


def test_a_frame_like_the_portrait_has_its_opacity_and_colours() -> None:
    alpha, key = soft_disc(), (0, 71, 187)
    portrait = over(PERSON, alpha, key)
    cut = media.Matte(portrait, alpha, key).cut(portrait[None])[0].astype(float)
    assert np.abs(cut[..., 3] / 255 - alpha).max() < 0.01
    inside = alpha > 0.3
    assert np.abs(cut[inside][:, :3] - PERSON[inside]).max() < 8, "no blue is left in the soft edge"


def test_opacity_follows_what_moved() -> None:
    """The disc moves by 16 pixels; a hole opens behind it, and its new place is opaque."""
    before, after, key = soft_disc(x=24), soft_disc(x=40), (0, 71, 187)
    matte = media.Matte(over(PERSON, before, key), before, key)
    cut = matte.cut(over(PERSON, after, key)[None])[0, ..., 3] / 255
    assert np.abs(cut - after).mean() < 0.02
    assert cut[32, 4] == 0
    assert cut[32, 56] == 1


@pytest.mark.parametrize("ending", [".mov", ".webm"])
def test_a_transparent_video_holds_opacity_and_sound(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    frames = np.zeros((6, 64, 48, 4), np.uint8)
    frames[:, :32] = (200, 50, 30, 255)
    frames[:, 32:, :24] = (20, 150, 230, 128)
    with VideoWriter(
        path, fps=12, width=48, height=64, alpha=True, speech=made.tone(), metadata={"a": 1}
    ) as v:
        v.write(frames)
    assert media.Sound.open(path).channels == 1
    assert media.read_speech(path).seconds == pytest.approx(0.5, abs=0.05)
    assert media.read_metadata(path) == {"a": 1}
    read = read_rgba(path)
    assert len(read) == 6
    for x, y, wanted in ((24, 16, (200, 50, 30, 255)), (12, 48, (20, 150, 230, 128))):
        assert np.abs(read[3][y, x].astype(int) - wanted).max() <= 4
    assert read[3][48, 40, 3] <= 2


def read_rgba(path: Path) -> list[NDArray[np.uint8]]:
    """FFmpeg's own VP9 decoder leaves opacity out; libvpx reads it."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        vp9 = stream.codec_context.name == "vp9"
        decoder = av.CodecContext.create("libvpx-vp9", "r") if vp9 else stream.codec_context
        return [
            np.asarray(frame.to_ndarray(format="rgba"), np.uint8)
            for packet in container.demux(stream)
            for frame in decoder.decode(packet)
        ]


def test_an_opaque_webm_is_for_browsers(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.webm", fps=12, width=96, height=96, speech=made.tone()) as video:
        video.write(np.stack([made.picture()] * 6))
    with av.open(str(tmp_path / "a.webm")) as container:
        names = [stream.codec_context.name for stream in container.streams]
    assert names == ["vp9", "opus"]
    assert np.abs(media.read_clip(tmp_path / "a.webm").frames[0].astype(int) - made.picture()).mean() < 10


def test_same_frames_same_bytes(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (4, 32, 32, 4)).astype(np.uint8)
    for ending in (".mov", ".webm", ".mkv"):
        contents, alpha = set(), ending != ".mkv"
        for _ in range(3):
            with VideoWriter(tmp_path / f"a{ending}", fps=12, width=32, height=32, alpha=alpha) as video:
                video.write(frames if alpha else frames[..., :3])
            contents.add((tmp_path / f"a{ending}").read_bytes())
        assert len(contents) == 1


def test_what_cannot_be_transparent_is_refused(tmp_path: Path) -> None:
    for ending in (".mp4", ".mkv"):
        with pytest.raises(SemibodyError, match=r"\.mov .* or \.webm"):
            VideoWriter(tmp_path / f"a{ending}", fps=12, width=32, height=32, alpha=True)
    assert not list(tmp_path.iterdir())


def test_an_opaque_picture_has_no_opacity(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([made.picture(), np.full((96, 96), 255, np.uint8)])).save(tmp_path / "a.png")
    assert media.read_cutout(tmp_path / "a.png")[1] is None
    Image.fromarray(np.dstack([made.picture(), np.full((96, 96), 51, np.uint8)])).save(tmp_path / "b.png")
    shown, opacity = media.read_cutout(tmp_path / "b.png", (255, 255, 255))
    assert opacity is not None
    assert opacity == pytest.approx(0.2)
    assert np.abs(shown.astype(int) - (0.2 * made.picture() + 0.8 * 255)).max() <= 1
