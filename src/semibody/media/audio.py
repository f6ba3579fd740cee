"""Sound: wav, mp3, m4a, flac, ogg, opus, or the sound of a video.

``read_speech`` gives the input of the models, mono float32 in memory; ``Sound`` the sound of the video, with
the recording's own rate and channels, read block by block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from numpy.typing import NDArray

from semibody import scratch
from semibody.files import atomic_write, exists, require_file
from semibody.media.opening import codec_of, local, open_media
from semibody.types import RATE, Floats, SemibodyError, Speech

LONGEST_SECONDS = 4 * 3600
"""A recording longer than this is refused as a mistake, before it fills the memory."""
MOST_LATE = 600.0
"""Seconds between the beginnings of pictures and sound; more is a damaged file."""
LOWEST_RATE, HIGHEST_RATE = 2000, 768_000
"""Samples a second of a recording; speech on the telephone has 8000."""
MOST_CHANNELS = 64
SILENT_CHANNEL = 3e-4
"""Root mean square (−70 dB) up to which a channel is silent, if the other one is 20 dB louder."""
_KIND = "a sound or video file"
_SHIPPED_LAYOUTS = ("mono", "stereo", "3.0", "4.0", "5.0", "5.1")
"""Layouts that AAC supports; others are mixed to two channels."""

AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
OPUS_RATES = (48000, 24000, 16000, 12000, 8000)
_OTHER_RATE = 48000
"""For recordings at a rate that the video's sound cannot have."""

Samples = NDArray[np.int16]
"""(n, channel)"""


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

    Of a stereo recording with one silent channel the other is taken: their mean would be 6 dB softer.
    Raises SemibodyError for a file without sound, or one that is missing, empty, damaged or absurd.
    """
    path = Path(path)
    require_file(path, "a wav, mp3, m4a, flac, ogg or video file with sound")
    blocks, count = [], 0
    for block in _mono(path, rate):
        blocks.append(block)
        count += len(block)
        if count > LONGEST_SECONDS * rate:
            raise SemibodyError(f"{path}: is longer than {LONGEST_SECONDS // 3600} hours; cut it")
    if not count:
        raise SemibodyError(f"{path}: its sound track is empty; record it again")
    waveform, at = scratch.empty((count,), np.float32), 0
    for block in blocks:
        np.divide(block, np.float32(32768.0), out=waveform[at : at + len(block)])
        at += len(block)
    return Speech(waveform, rate, path)


def _mono(path: Path, rate: int) -> Iterator[NDArray[np.int16]]:
    sound = Sound.open(path)
    alone = _only_channel(sound, rate) if sound.layout == "stereo" else None
    if alone is not None:
        yield from (block[:, alone] for block in sound.blocks(rate))
        return
    with open_media(path, _KIND) as container:
        yield from (block[:, 0] for block in _decode(container, path, rate, "mono"))


def _only_channel(sound: Sound, rate: int) -> int | None:
    """The channel beside which the other one is silent, if there is one."""
    power, count = np.zeros(2), 0
    for block in sound.blocks(rate):
        power += np.square(block, dtype=np.float64).sum(axis=0)
        count += len(block)
        if count > LONGEST_SECONDS * rate:
            return None
    silent = power <= count * (SILENT_CHANNEL * 32768) ** 2
    return int(power.argmax()) if silent.sum() == 1 and power.min() < 0.01 * power.max() else None


def count_tracks(path: Path | str) -> int:
    """Sound tracks of a file; the first one is read. Raises SemibodyError as ``read_speech`` does."""
    path = Path(path)
    require_file(path, "a recording")
    with open_media(path, _KIND) as container:
        return len(container.streams.audio)


@dataclass(frozen=True)
class Sound:
    """A recording with its own rate and channels. It is read from its file in blocks, when needed."""

    path: Path
    rate: int
    """samples a second"""
    layout: str
    """FFmpeg's name of the channels: mono, stereo, 5.1, …"""

    @classmethod
    def open(cls, path: Path | str) -> Sound:
        """Read a recording's header. Raises SemibodyError as ``read_speech`` does."""
        path = Path(path)
        require_file(path, "a recording")
        with open_media(path, _KIND) as container:
            codec = _codec(container, path)
            layout = codec.layout.name.removesuffix("(side)")
            if layout not in _SHIPPED_LAYOUTS:
                layout = "mono" if codec.layout.nb_channels == 1 else "stereo"
            return cls(path, codec.sample_rate, layout)

    @property
    def channels(self) -> int:
        return int(av.AudioLayout(self.layout).nb_channels)

    def blocks(self, rate: int) -> Iterator[Samples]:
        """The samples (n, channel) at ``rate``, a few at a time."""
        with open_media(self.path, _KIND) as container:
            yield from _decode(container, self.path, rate, self.layout)


class SoundTrack:
    """The sound of a video that is being written: the next samples, as many as are asked for.

    It is the speech's recording where there is one, with its own channels, at its own rate or, where that is
    not among ``rates``, at 48 kHz; else the speech itself.
    """

    def __init__(self, speech: Speech, rates: Sequence[int] = AAC_RATES) -> None:
        recording = speech.recording
        self._left = np.zeros((0, 1), np.int16)
        if recording is None or not exists(recording):
            self.rate, self.layout = speech.rate, "mono"
            second = range(0, len(speech.waveform), speech.rate)
            self._blocks: Iterator[Samples] = (
                _quantised(speech.waveform[at : at + speech.rate]) for at in second
            )
            return
        sound = Sound.open(recording)
        self.rate = sound.rate if sound.rate in rates else _OTHER_RATE
        self.layout = sound.layout
        self._left = np.zeros((0, sound.channels), np.int16)
        self._blocks = sound.blocks(self.rate)

    @property
    def bit_rate(self) -> int:
        channels = self._left.shape[1]
        return {1: 128_000, 2: 192_000}.get(channels, 80_000 * channels)

    def frame(self, count: int, start: int) -> av.AudioFrame | None:
        """The next ``count`` samples, fewer at the end, as a frame that starts at sample ``start``."""
        blocks, have = [self._left], len(self._left)
        while have < count and (block := next(self._blocks, None)) is not None:
            blocks.append(block)
            have += len(block)
        samples = np.concatenate(blocks)
        taken, self._left = samples[:count], samples[count:]
        if not len(taken):
            return None
        frame = av.AudioFrame.from_ndarray(taken.reshape(1, -1), format="s16", layout=self.layout)
        frame.sample_rate, frame.pts = self.rate, start
        return frame


def _codec(container: InputContainer, path: Path) -> Any:
    if not container.streams.audio:
        raise SemibodyError(f"{path}: has no sound track; give a recording of speech")
    codec = codec_of(container.streams.audio[0], path)
    if not LOWEST_RATE <= codec.sample_rate <= HIGHEST_RATE:
        raise SemibodyError(
            f"{path}: has {codec.sample_rate} samples a second, not {LOWEST_RATE} to {HIGHEST_RATE}; "
            "export it again, at 16000 or 48000"
        )
    if codec.layout.nb_channels > MOST_CHANNELS:
        raise SemibodyError(f"{path}: has {codec.layout.nb_channels} channels; export it with one or two")
    return codec


def _decode(container: InputContainer, path: Path, rate: int, layout: str) -> Iterator[Samples]:
    """Blocks (n, channel) of the first sound track. Raises SemibodyError."""
    _codec(container, path)
    resampler = av.AudioResampler(format="s16", layout=layout, rate=rate)
    channels = int(av.AudioLayout(layout).nb_channels)
    decoded, early = False, None
    try:
        for frame in container.decode(audio=0):
            _require_finite(frame, path)
            if early is None:
                early = -round(_seconds_late(container, frame) * rate)
                yield np.zeros((max(0, -early), channels), np.int16)
            for out in resampler.resample(frame):
                decoded = decoded or out.samples > 0
                samples = _samples(out, channels)
                yield samples[max(0, early) :]
                early -= min(max(0, early), len(samples))
    except (av.error.InvalidDataError, av.error.EOFError) as error:
        if not decoded:  # a file cut off in the middle still has the speech before the cut
            raise _damaged(path, error) from None
    except (av.FFmpegError, ValueError) as error:
        raise _damaged(path, error) from None
    for out in resampler.resample(None):
        yield _samples(out, channels)


def _seconds_late(container: InputContainer, first: av.AudioFrame) -> float:
    """How much later than the pictures of a video its sound begins, so that both have the same time 0."""
    shown = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not shown or shown[0].start_time is None or shown[0].time_base is None or first.time is None:
        return 0.0
    late = first.time - float(shown[0].start_time * shown[0].time_base)
    return late if abs(late) < MOST_LATE else 0.0


def _samples(frame: av.AudioFrame, channels: int) -> Samples:
    return frame.to_ndarray().reshape(-1, channels).astype(np.int16, copy=False)


def _damaged(path: Path, error: Exception) -> SemibodyError:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return SemibodyError(f"{path}: is not {_KIND} that can be read ({reason}); convert it to wav")


def _require_finite(frame: av.AudioFrame, path: Path) -> None:
    if frame.format.name[:3] in ("flt", "dbl") and not np.isfinite(frame.to_ndarray()).all():
        raise SemibodyError(f"{path}: holds samples that are not numbers; export it again")


def write_speech(path: Path | str, speech: Speech) -> None:
    """Write 16-bit mono wav (or flac, by the file's ending), all or nothing."""
    path = Path(path)
    codec = {".wav": "pcm_s16le", ".flac": "flac"}.get(path.suffix.lower())
    if codec is None:
        raise SemibodyError(f"{path}: sound is written as .wav or .flac")
    with atomic_write(path) as unfinished, av.open(local(unfinished), "w") as container:
        stream: Any = container.add_stream(codec, rate=speech.rate, layout="mono")
        for packet in [*stream.encode(audio_frame(speech.waveform, speech.rate)), *stream.encode(None)]:
            container.mux(packet)


def _quantised(waveform: NDArray[np.float32]) -> Samples:
    return np.clip(np.rint(waveform * 32768.0), -32768, 32767).astype(np.int16)[:, None]


def audio_frame(waveform: NDArray[np.float32], rate: int, start: int = 0) -> av.AudioFrame:
    """One PyAV frame of 16-bit mono samples that starts at sample number ``start``."""
    frame = av.AudioFrame.from_ndarray(_quantised(waveform).T, format="s16", layout="mono")
    frame.sample_rate = rate
    frame.pts = start
    return frame
