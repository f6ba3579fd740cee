from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

import made
from semibody import media
from semibody.types import Clip, SemibodyError


def test_round_trip(tmp_path: Path) -> None:
    path = made.write_video(tmp_path / "a.mp4")
    clip = media.read_clip(path)
    assert clip.frames.shape == (12, 96, 96, 3)
    assert clip.fps == 12
    assert clip.speech is not None
    assert clip.metadata == {"seed": 1}
    assert np.abs(clip.frames[0].astype(int) - made.picture()).mean() < 8


def test_the_format_is_one_that_players_support(tmp_path: Path) -> None:
    path = made.write_video(tmp_path / "a.mp4")
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
        assert container.streams.audio[0].codec_context.name == "aac"
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat"), "the index must come first (faststart)"


def test_same_input_same_bytes(tmp_path: Path) -> None:
    """Whatever the memory held before: encoders have been seen to read what they never wrote."""
    rng = np.random.default_rng(0)
    frames = np.stack([np.roll(made.picture(64, 64), 3 * i, axis=1) for i in range(12)])
    frames = (frames // 2 + rng.integers(0, 127, frames.shape)).astype(np.uint8)
    contents = set()
    for _ in range(12):
        dirt = [torch.randint(0, 255, (int(rng.integers(1, 400_000)),), dtype=torch.uint8) for _ in range(12)]
        del dirt[::2]
        media.write_clip(Clip(frames, 12.0, made.tone()), tmp_path / "a.mp4")
        contents.add((tmp_path / "a.mp4").read_bytes())
    assert len(contents) == 1


def test_sound_ends_with_the_pictures(tmp_path: Path) -> None:
    clip = Clip(np.stack([made.picture()] * 12), 24.0, made.tone(3.0))
    media.write_clip(clip, tmp_path / "a.mp4")
    assert media.read_speech(tmp_path / "a.mp4").seconds == pytest.approx(0.5, abs=0.1)


def test_odd_sizes(tmp_path: Path) -> None:
    media.write_clip(Clip(np.zeros((2, 33, 41, 3), np.uint8)), tmp_path / "a.mp4")
    assert media.read_clip(tmp_path / "a.mp4").frames.shape == (2, 34, 42, 3)


@pytest.mark.parametrize(("fps", "count"), [(24.0, 24), (6.0, 6), (12.0, 12)])
def test_resampling_by_time(tmp_path: Path, fps: float, count: int) -> None:
    with media.VideoReader(made.write_video(tmp_path / "a.mp4")) as video:
        assert len(list(video.frames(fps))) == count


def test_a_failure_keeps_the_existing_file(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"precious")
    with (
        pytest.raises(RuntimeError, match="broken"),
        media.VideoWriter(path, fps=24, width=96, height=96) as video,
    ):
        video.write(made.picture())
        raise RuntimeError("broken")
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


def test_bad_videos_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("not a video " * 100)
    media.write_speech(tmp_path / "sound.wav", made.tone())
    whole = made.write_video(tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 8])
    for name in ("missing.mp4", "empty.mp4", "text.mp4", "sound.wav", "cut.mp4"):
        with pytest.raises(SemibodyError) as error:
            media.read_clip(tmp_path / name)
        assert str(tmp_path / name) in str(error.value)


def test_unknown_ending(tmp_path: Path) -> None:
    with pytest.raises(SemibodyError, match="mp4"):
        media.VideoWriter(tmp_path / "a.gif", fps=24, width=8, height=8)


def test_a_variable_frame_rate_keeps_its_time(tmp_path: Path) -> None:
    """Each output frame is the one then on screen, however irregular the frames are."""
    path = tmp_path / "variable.mp4"
    times = [0, 40, 80, 480, 520, 1000]  # milliseconds
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 40 * number, np.uint8), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with media.VideoReader(path) as video:
        shown = [round(float(picture.mean()) / 40) for picture in video.frames(25)]
    assert shown[:3] == [0, 1, 2]
    assert shown[5:12] == [2] * 7
    assert shown[13:25] == [4] * 12
    assert shown[25] == 5


LYING: dict[str, tuple[tuple[int, int, int, int], Any]] = {
    "upright": ((1, 0, 0, 1), lambda p: p),
    "clockwise": ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),
    "upside down": ((-1, 0, 0, -1), lambda p: np.rot90(p, 2)),
    "counter-clockwise": ((0, -1, 1, 0), np.rot90),
    "mirrored": ((-1, 0, 0, 1), np.fliplr),
    "mirrored, upside down": ((1, 0, 0, -1), np.flipud),
    "mirrored, counter-clockwise": ((0, 1, 1, 0), lambda p: p.swapaxes(0, 1)),
    "mirrored, clockwise": ((0, -1, -1, 0), lambda p: np.rot90(p, 2).swapaxes(0, 1)),
}
"""How a video is to be turned when it is shown: x = a·x + c·y and y = b·x + d·y, and the same by numpy."""


@pytest.mark.parametrize("how", LYING)
def test_videos_of_phones_are_turned_upright(tmp_path: Path, how: str) -> None:
    (a, b, c, d), turn = LYING[how]
    stored = np.zeros((48, 64, 3), np.uint8)
    stored[:24, :32], stored[:24, 32:], stored[24:, :32] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    media.write_clip(Clip(np.stack([stored] * 2), 12), tmp_path / "a.mp4")
    content = (tmp_path / "a.mp4").read_bytes()
    at = content.index(b"tkhd") + 44  # where the header of an MP4's track keeps its matrix
    one = 1 << 16
    assert struct.unpack_from(">9i", content, at) == (one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    lying = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    (tmp_path / "b.mp4").write_bytes(content[:at] + lying + content[at + 36 :])
    with media.VideoReader(tmp_path / "b.mp4") as video:
        size = video.size
        frames = list(video)
    assert len(frames) == 2
    assert frames[1].shape == (size[1], size[0], 3) == turn(stored).shape
    assert np.abs(frames[1].astype(int) - turn(stored)).mean() < 8


def test_colours_are_tagged(tmp_path: Path) -> None:
    """Without tags players take a large video for BT.709 and show other colours: greener skin."""
    with av.open(str(made.write_video(tmp_path / "a.mp4"))) as container:
        codec: Any = container.streams.video[0].codec_context
    assert (codec.colorspace, codec.color_primaries, codec.color_trc, codec.color_range) == (6, 1, 1, 1)


@pytest.mark.parametrize("ending", [".mp4", ".mov", ".mkv", ".webm"])
def test_every_ending_keeps_the_metadata(tmp_path: Path, ending: str) -> None:
    media.write_clip(Clip(np.stack([made.picture()] * 3), metadata={"seed": 5}), tmp_path / f"a{ending}")
    assert media.read_metadata(tmp_path / f"a{ending}") == {"seed": 5}


def test_no_memory_is_no_end_of_a_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is cut off keeps its pictures before the cut; a frame that finds no memory is an error."""
    from semibody.media import video

    path, upright = made.write_video(tmp_path / "a.mp4", 4), video._upright
    seen: list[Any] = []

    def without_memory(frame: Any) -> Any:
        if len(seen) == 2:
            raise MemoryError
        seen.append(frame)
        return upright(frame)

    monkeypatch.setattr(video, "_upright", without_memory)
    with pytest.raises(MemoryError), video.VideoReader(path) as reader:
        list(reader)
    assert len(seen) == 2
