from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import made
from semibody import media
from semibody.media.audio import audio_frame
from semibody.types import SemibodyError


def encode(path: Path, codec: str, rate: int = 48000) -> Path:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.layout = "mono"
        frame = audio_frame(made.tone(1.0, rate).waveform, rate)
        resampler = av.AudioResampler(format=stream.format, layout="mono", rate=rate)
        fifo = av.AudioFifo()
        for part in resampler.resample(frame):
            fifo.write(part)
        size = stream.codec_context.frame_size or 1024
        while piece := fifo.read(size):
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return path


def test_wav_is_exact(tmp_path: Path) -> None:
    speech = made.tone()
    media.write_speech(tmp_path / "a.wav", speech)
    read = media.read_speech(tmp_path / "a.wav")
    assert read.rate == 16000
    assert np.abs(read.waveform - speech.waveform).max() <= 1 / 65536 + 1e-7


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp3", "libmp3lame"), ("a.m4a", "aac"), ("a.flac", "flac"), ("a.opus", "libopus")]
)
def test_every_format(tmp_path: Path, name: str, codec: str) -> None:
    speech = media.read_speech(encode(tmp_path / name, codec))
    assert speech.seconds == pytest.approx(1.0, abs=0.12)
    assert np.sqrt(np.mean(speech.waveform**2)) == pytest.approx(0.3 / np.sqrt(2), rel=0.15)


def test_sound_of_a_video(tmp_path: Path) -> None:
    assert media.read_speech(made.write_video(tmp_path / "a.mp4")).seconds == pytest.approx(1.0, abs=0.1)


def test_bad_sounds_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("not a sound " * 100)
    made.write_video(tmp_path / "mute.mp4", sound=False)
    media.write_speech(tmp_path / "whole.flac", made.tone())
    (tmp_path / "cut.flac").write_bytes((tmp_path / "whole.flac").read_bytes()[:50])
    for name in ("missing.wav", "empty.wav", "text.wav", "mute.mp4", "cut.flac", "."):
        with pytest.raises(SemibodyError) as error:
            media.read_speech(tmp_path / name)
        assert str(tmp_path / name) in str(error.value)
        assert "\n" not in str(error.value)
