"""Sound: wav, mp3, m4a, flac, ogg, opus, or the sound of a video, as mono float32."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from semibody.files import atomic_write, require_file
from semibody.types import RATE, Floats, SemibodyError, Speech

LONGEST_SECONDS = 4 * 3600
"""A recording longer than this is taken for a mistake rather than filling the memory."""


def loudness(speech: Speech, frames: int, fps: float, seconds: float) -> Floats:
    """Root mean square (f,) of the ``seconds`` of sound around the middle of every frame of a video."""
    squares = np.concatenate([[0.0], np.cumsum(speech.waveform.astype(np.float64) ** 2)])
    middle = (np.arange(frames) + 0.5) / fps
    first, last = (
        np.clip(np.rint((middle + side * seconds / 2) * speech.rate), 0, len(speech.waveform)).astype(int)
        for side in (-1, 1)
    )
    return np.asarray(np.sqrt((squares[last] - squares[first]) / np.maximum(last - first, 1)))


def read_speech(path: Path | str, rate: int = RATE) -> Speech:
    """Read a recording as mono at ``rate``, by way of 16-bit samples / 32768, as published.

    Raises SemibodyError for a file without sound, or one that is missing, empty or damaged.
    """
    path = Path(path)
    require_file(path, "a wav, mp3, m4a, flac, ogg or video file with sound")
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise SemibodyError(f"{path}: has no sound track; give a recording of speech")
            samples = np.concatenate([*_decode(container, rate, path), np.zeros(0, np.int16)])
    except av.FFmpegError as error:
        raise SemibodyError(
            f"{path}: is not a sound or video file that can be read ({error.strerror}); convert it to wav"
        ) from None
    if not len(samples):
        raise SemibodyError(f"{path}: its sound track is empty; record it again")
    return Speech(samples.astype(np.float32) / 32768.0, rate)


def _decode(container: av.container.InputContainer, rate: int, path: Path) -> Iterator[NDArray[np.int16]]:
    resampler = av.AudioResampler(format="s16", layout="mono", rate=rate)
    decoded = 0
    try:
        for frame in container.decode(audio=0):
            for out in resampler.resample(frame):
                decoded += out.samples
                if decoded > LONGEST_SECONDS * rate:
                    raise SemibodyError(f"{path}: is longer than {LONGEST_SECONDS // 3600} hours; cut it")
                yield out.to_ndarray()[0]
    except (av.error.InvalidDataError, av.error.EOFError):
        if not decoded:  # a file cut off in the middle still has the speech before the cut
            raise
    for out in resampler.resample(None):
        yield out.to_ndarray()[0]


def write_speech(path: Path | str, speech: Speech) -> None:
    """Write 16-bit mono wav (or flac, by the file's ending), all or nothing."""
    path = Path(path)
    codec = {".wav": "pcm_s16le", ".flac": "flac"}.get(path.suffix.lower())
    if codec is None:
        raise SemibodyError(f"{path}: sound is written as .wav or .flac")
    with atomic_write(path) as unfinished, av.open(str(unfinished), "w") as container:
        stream: Any = container.add_stream(codec, rate=speech.rate, layout="mono")
        for packet in [*stream.encode(audio_frame(speech.waveform, speech.rate)), *stream.encode(None)]:
            container.mux(packet)


def audio_frame(waveform: NDArray[np.float32], rate: int, start: int = 0) -> av.AudioFrame:
    """One PyAV frame of 16-bit mono samples that begins at sample number ``start``."""
    samples = np.clip(np.rint(waveform * 32768.0), -32768, 32767).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
    frame.sample_rate = rate
    frame.pts = start
    return frame
