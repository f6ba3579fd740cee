"""The sound of a video is the recording's own; the model's input is 16 kHz mono."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

import made
from semibody import media
from semibody.animator import _cut
from semibody.inputs import prepare
from semibody.settings import Settings
from semibody.types import SemibodyError, Speech


def record(path: Path, rate: int, layout: str, hertz: tuple[float, ...], seconds: float = 2.0) -> Path:
    """A recording with another tone in each channel."""
    time = np.arange(int(seconds * rate)) / rate
    waves = [0.3 * np.sin(2 * np.pi * h * time) for h in hertz]
    samples = np.rint(np.stack(waves, axis=1) * 32767).astype(np.int16).reshape(1, -1)
    codec = {".wav": "pcm_s16le", ".flac": "flac"}[path.suffix]
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout=layout)
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return path


def carried(path: Path) -> tuple[int, NDArray[np.float64]]:
    """The rate and the samples (channel, n) of a video's sound track."""
    with av.open(str(path)) as container:
        blocks = [frame.to_ndarray() for frame in container.decode(audio=0)]
        return int(container.streams.audio[0].sample_rate), np.concatenate(blocks, axis=1).astype(float)


def loudest(samples: NDArray[np.float64], rate: int) -> float:
    """The frequency with most power, in hertz."""
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(power.argmax() * rate / len(samples))


def write(path: Path, speech: Speech, frames: int = 36) -> Path:
    with media.VideoWriter(path, fps=24, width=64, height=64, speech=speech) as video:
        for _ in range(frames):
            video.write(made.picture(64, 64))
    return path


@pytest.mark.parametrize(
    ("rate", "layout", "hertz", "kept"),
    [
        (48000, "stereo", (440.0, 11000.0), 48000),
        (44100, "mono", (15000.0,), 44100),
        (16000, "mono", (440.0,), 16000),
        (8000, "stereo", (440.0, 1000.0), 8000),
        (96000, "mono", (440.0,), 96000),
        (37800, "stereo", (440.0, 9000.0), 48000),
        (48000, "5.1", (300.0, 400.0, 500.0, 60.0, 700.0, 800.0), 48000),
    ],
)
def test_rate_and_channels_stay(
    tmp_path: Path, rate: int, layout: str, hertz: tuple[float, ...], kept: int
) -> None:
    speech = media.read_speech(record(tmp_path / "a.wav", rate, layout, hertz))
    assert (speech.rate, speech.waveform.ndim) == (16000, 1)
    found, samples = carried(write(tmp_path / "a.mp4", speech))
    assert (found, len(samples)) == (kept, len(hertz))
    assert samples.shape[1] / found == pytest.approx(1.5, abs=0.1)
    for channel, wanted in zip(samples, hertz, strict=True):
        assert loudest(channel, found) == pytest.approx(wanted, rel=0.01, abs=2)


def test_sound_is_in_sync(tmp_path: Path) -> None:
    """A click at second one stays there, whatever the rate."""
    rate = 48000
    path = record(tmp_path / "a.flac", rate, "mono", (0.0,))
    click = np.zeros(2 * rate, np.float32)
    click[rate : rate + 48] = 0.9
    media.write_speech(path, Speech(click, rate))
    found, samples = carried(write(tmp_path / "a.mkv", media.read_speech(path)))
    # The encoder puts a few milliseconds of its own before the sound.
    assert np.abs(samples[0]).argmax() / found == pytest.approx(1.0, abs=0.03)


def test_other_layouts_are_mixed_to_two_channels(tmp_path: Path) -> None:
    path = record(tmp_path / "a.wav", 48000, "7.1", (440.0,) * 8)
    assert carried(write(tmp_path / "a.mp4", media.read_speech(path)))[1].shape[0] == 2


def test_speech_without_a_file_is_written_itself(tmp_path: Path) -> None:
    path = record(tmp_path / "a.wav", 48000, "stereo", (440.0, 880.0))
    speech = media.read_speech(path)
    bare = Speech(speech.waveform, speech.rate)
    rate, samples = carried(write(tmp_path / "bare.mp4", bare))
    assert (rate, len(samples)) == (16000, 1)
    path.unlink()
    assert write(tmp_path / "gone.mp4", speech).read_bytes() == (tmp_path / "bare.mp4").read_bytes()


def test_a_clip_in_memory_keeps_its_recording(tmp_path: Path) -> None:
    speech = media.read_speech(record(tmp_path / "a.wav", 48000, "stereo", (440.0, 880.0)))
    cut = _cut(speech, 1.0)
    assert (cut.seconds, cut.recording) == (1.0, tmp_path / "a.wav")
    louder = dataclasses.replace(speech, waveform=2 * speech.waveform)
    assert carried(write(tmp_path / "a.mp4", louder))[0] == 48000


def test_the_sound_of_a_video_can_be_used_for_another(tmp_path: Path) -> None:
    speech = media.read_speech(record(tmp_path / "a.wav", 48000, "stereo", (440.0, 880.0)))
    write(tmp_path / "a.mp4", speech)
    media.write_clip(media.read_clip(tmp_path / "a.mp4"), tmp_path / "b.mp4")
    rate, samples = carried(tmp_path / "b.mp4")
    assert (rate, len(samples)) == (48000, 2)


def test_a_short_recording_ends_before_the_video(tmp_path: Path) -> None:
    path = record(tmp_path / "a.wav", 44100, "stereo", (440.0, 880.0), seconds=0.5)
    rate, samples = carried(write(tmp_path / "a.mp4", media.read_speech(path)))
    assert samples.shape[1] / rate == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("silent", [0, 1])
def test_a_silent_channel_is_not_averaged_in(tmp_path: Path, silent: int) -> None:
    hertz = [440.0, 440.0]
    hertz[silent] = 0.0
    one = media.read_speech(record(tmp_path / "one.wav", 16000, "stereo", tuple(hertz)))
    both = media.read_speech(record(tmp_path / "both.wav", 16000, "stereo", (440.0, 440.0)))
    assert np.abs(one.waveform).max() == pytest.approx(np.abs(both.waveform).max(), rel=0.01)
    assert len(one.waveform) == len(both.waveform)


def test_two_channels_that_speak_are_averaged(tmp_path: Path) -> None:
    path = record(tmp_path / "two.wav", 16000, "stereo", (440.0, 1000.0))
    left, right = (
        media.read_speech(record(tmp_path / f"{h:g}.wav", 16000, "mono", (h,))).waveform
        for h in (440.0, 1000.0)
    )
    np.testing.assert_allclose(media.read_speech(path).waveform, (left + right) / 2, atol=2e-4)


def late_sound(path: Path, late: float, tracks: tuple[float, ...] = (1.0,)) -> Path:
    """Two seconds of video whose sound, a tone of half a second a track, begins ``late`` seconds after it."""
    with av.open(str(path), "w") as container:
        pictures: Any = container.add_stream("libx264", rate=24)
        pictures.width = pictures.height = 32
        pictures.pix_fmt = "yuv420p"
        sounds: list[Any] = [container.add_stream("aac", rate=16000, layout="mono") for _ in tracks]
        for number in range(48):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            frame.pts = number
            container.mux(pictures.encode(frame))
        container.mux(pictures.encode(None))
        for stream, level in zip(sounds, tracks, strict=True):
            wave = (np.sin(np.arange(8192) / 5) * level * 0.5).astype(np.float32)
            for at in range(0, len(wave), 1024):
                block = av.AudioFrame.from_ndarray(wave[None, at : at + 1024], format="fltp", layout="mono")
                block.sample_rate, block.pts = 16000, at + round(late * 16000)
                container.mux(stream.encode(block))
            container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
@pytest.mark.parametrize("late", [0.0, 0.8])
def test_sound_that_begins_late_in_a_video_keeps_its_time(tmp_path: Path, ending: str, late: float) -> None:
    """Time 0 of sound and pictures is the same: mouths of a gesture's video, or of ingested ones, need it."""
    speech = media.read_speech(late_sound(tmp_path / f"a.{ending}", late))
    begins = int(np.argmax(np.abs(speech.waveform) > 0.1)) / speech.rate
    assert begins == pytest.approx(late, abs=0.07)  # an AAC encoder's first block is 0.064 s


def test_of_several_tracks_the_first_is_taken_and_named(tmp_path: Path) -> None:
    """Recording programs put the microphone on the second track; the first may be silent."""
    path = late_sound(tmp_path / "a.mkv", 0.0, (0.0, 1.0))
    assert media.count_tracks(path) == 2
    settings = Settings(width=64, height=64, frame="keep", align="none")
    with pytest.raises(SemibodyError, match=r"a\.mkv \(the first of its 2 sound tracks\): is silent"):
        prepare(made.picture(), path, "still", settings)
    inputs = prepare(made.picture(), late_sound(path, 0.0, (1.0, 0.5)), "still", settings)
    assert any("2 sound tracks" in notice and "save it alone" in notice for notice in inputs.notices)
