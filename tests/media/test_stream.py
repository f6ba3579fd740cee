"""A video that can be played while it is written."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from pathlib import Path

import av
import numpy as np
import pytest

import made
from semibody import media
from semibody.types import Picture, SemibodyError


def moving(frames: int) -> Picture:
    return np.stack([np.roll(made.picture(64, 64), 3 * i, axis=1) for i in range(frames)])


def write(path: Path | str, frames: Picture, *, sound: bool = True) -> None:
    speech = made.tone(len(frames) / 12) if sound else None
    with media.VideoStream(path, fps=12, width=64, height=64, speech=speech, metadata={"seed": 1}) as video:
        for few in np.array_split(frames, 5):
            video.write(few)


def decoded(content: bytes, folder: Path) -> int:
    """How many frames these bytes hold."""
    (folder / "read.mp4").write_bytes(content)
    with media.VideoReader(folder / "read.mp4") as video:
        return sum(1 for _ in video)


@pytest.mark.parametrize("sound", [True, False])
def test_a_whole_stream_is_the_video(tmp_path: Path, sound: bool) -> None:
    frames = moving(40)
    write(tmp_path / "a.mp4", frames, sound=sound)
    clip = media.read_clip(tmp_path / "a.mp4")
    assert clip.frames.shape == frames.shape
    # FFmpeg's average counts the 64 ms by which AAC begins before its sound.
    assert clip.fps == pytest.approx(12, rel=0.025)
    assert np.abs(clip.frames.astype(int) - frames).mean() < 8
    assert media.read_metadata(tmp_path / "a.mp4") == {"seed": 1}
    assert (clip.speech is not None) == sound
    if clip.speech is not None:
        assert clip.speech.seconds == pytest.approx(40 / 12, abs=0.2)


def test_sound_and_pictures_begin_together(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", moving(40))
    with av.open(str(tmp_path / "a.mp4")) as container:
        shown = next(container.decode(video=0)).time
    with av.open(str(tmp_path / "a.mp4")) as container:
        heard = next(container.decode(audio=0)).time
    assert shown is not None
    assert heard is not None
    assert abs(shown - heard) < 0.1


def test_it_is_played_before_its_end_is_made(tmp_path: Path) -> None:
    path, frames = tmp_path / "a.mp4", moving(60)
    with media.VideoStream(path, fps=12, width=64, height=64, speech=made.tone(5.0)) as video:
        video.write(frames[:36])
        assert decoded(path.read_bytes(), tmp_path) >= 12
        video.write(frames[36:])
    assert decoded(path.read_bytes(), tmp_path) == 60


def test_cut_off_anywhere_after_a_fragment_it_is_a_video(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", moving(60))
    content = (tmp_path / "a.mp4").read_bytes()
    second = content.index(b"moof", content.index(b"moof") + 4)
    counts = [decoded(content[:at], tmp_path) for at in range(second, len(content), len(content) // 7)]
    assert counts[0] >= 12
    assert counts == sorted(counts)


@pytest.mark.parametrize("frames", [40, 3])
def test_a_stopped_stream_leaves_what_was_sent_or_nothing(tmp_path: Path, frames: int) -> None:
    path = tmp_path / "a.mp4"
    with (
        pytest.raises(RuntimeError, match="stopped"),
        media.VideoStream(path, fps=12, width=64, height=64, speech=made.tone(5.0)) as video,
    ):
        video.write(moving(frames))
        raise RuntimeError("stopped")
    assert path.exists() == (frames > 12)
    if path.exists():
        assert decoded(path.read_bytes(), tmp_path) == 36


def test_standard_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, into = os.pipe()
    received: list[bytes] = []
    with os.fdopen(out, "rb") as reading, os.fdopen(into, "w") as writing:
        monkeypatch.setattr(sys, "stdout", writing)
        reader = threading.Thread(target=lambda: received.append(reading.read()))
        reader.start()
        write("-", moving(30))
        writing.close()
        reader.join()
    assert decoded(received[0], tmp_path) == 30


def test_a_reader_that_has_gone_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    out, into = os.pipe()
    os.close(out)
    writing = os.fdopen(into, "w")
    monkeypatch.setattr(sys, "stdout", writing)
    with pytest.raises(SemibodyError, match="nobody reads it"):
        write("-", np.random.default_rng(0).integers(0, 255, (60, 64, 64, 3), np.uint8))
    monkeypatch.undo()
    with contextlib.suppress(BrokenPipeError):
        writing.close()


@pytest.mark.parametrize("name", ["a.webm", "a.mkv", "a.txt", "folder.mp4", "folder.mp4/a.mp4/b.mp4"])
def test_names_that_cannot_be_written(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "folder.mp4" / "a.mp4").write_bytes(b"")
    with pytest.raises(SemibodyError):
        write(tmp_path / name, moving(3))


def test_transparency_is_refused() -> None:
    with pytest.raises(SemibodyError, match="--alpha"):
        media.require_stream_name("a.mp4", alpha=True)
