"""Phrases and stressed syllables of speech, from the audio alone, without a model.

A syllable is a peak of the voice's energy with a dip on both sides (de Jong & Wempe 2009). Its stress
is how far it stands out from its surroundings in energy, pitch and length.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semibody.pose.timing import runs
from semibody.types import RATE, Floats, Speech

Mask = NDArray[np.bool_]

STEP = 0.01
"""Seconds between measurements."""

_WINDOW = 0.032
_BAND = (250.0, 3200.0)
"""Hertz in which vowels are strong, and breath, hum and hiss are weak."""
_DIP = 1.5
"""dB by which energy must fall between two syllables."""
_PITCH = (65.0, 420.0)
_SHORTEST_PAUSE, _SHORTEST_SPEECH = 0.25, 0.12
_BLOCK = 512
"""Measurements made at once: 5 s take 20 MB."""
_ROUND = 2.5
"""Seconds around a syllable that it is compared with."""


@dataclass(frozen=True)
class Syllable:
    """``time`` of the vowel's middle in seconds; ``stress`` in standard deviations above its surroundings."""

    time: float
    stress: float


@dataclass(frozen=True)
class Prosody:
    """``phrases``: (start, end) of speech between pauses; ``syllables`` in order; ``seconds`` in all."""

    phrases: tuple[tuple[float, float], ...]
    syllables: tuple[Syllable, ...]
    seconds: float

    @property
    def rate(self) -> float:
        """Syllables a second while speaking."""
        spoken = sum(end - start for start, end in self.phrases)
        return len(self.syllables) / spoken if spoken else 0.0

    def pauses(self, shortest: float) -> list[tuple[float, float]]:
        """(start, end) of silences of ``shortest`` seconds or more before and between phrases."""
        ends = [0.0, *(end for _, end in self.phrases)]
        starts = (start for start, _ in self.phrases)
        return [(end, start) for end, start in zip(ends, starts, strict=False) if start - end >= shortest]


def analyse(speech: Speech) -> Prosody:
    """Phrases and syllables of a recording of any length."""
    return _prosody(*_measure(speech), seconds=speech.seconds)


class Listener:
    """``analyse`` of a voice that is still speaking, from its last ``SECONDS``.

        listener.hear(samples)      # (n,) at 16 kHz, as they come
        listener.recent()           # phrases and syllables, in seconds from the beginning

    What is loud, high or long is so beside what was heard of late. The last 50 ms are not known yet.
    """

    SECONDS = 8.0
    _AROUND = 8
    """measurements on both sides of a piece that its ends, where sound is missing, do not reach"""

    def __init__(self, rate: int = RATE) -> None:
        self._rate, self._step = rate, round(STEP * rate)
        self._wave = np.zeros(0, np.float32)
        self._dropped = 0
        """measurements before the first sample that is kept"""
        self._level, self._pitch, self._periodic = (np.zeros(0) for _ in range(3))
        self._measured = 0
        """measurements so far"""

    @property
    def seconds(self) -> float:
        """How much was heard."""
        return self._dropped * STEP + len(self._wave) / self._rate

    def hear(self, samples: NDArray[np.float32]) -> None:
        """Take the next samples (n,)."""
        self._wave = np.concatenate([self._wave, samples])
        known = self._dropped + len(self._wave) // self._step - self._AROUND
        if known <= self._measured:
            return
        place = slice(self._measured - self._dropped, known - self._dropped)
        kept = round(self.SECONDS / STEP)
        self._level, self._pitch, self._periodic = (
            np.concatenate([old, new[place]])[-kept:]
            for old, new in zip(
                (self._level, self._pitch, self._periodic),
                _measure(Speech(self._wave, self._rate)),
                strict=True,
            )
        )
        self._measured = known
        done = max(0, self._measured - self._AROUND - self._dropped)
        self._wave, self._dropped = self._wave[done * self._step :], self._dropped + done

    def recent(self) -> Prosody:
        """Phrases and syllables of what is remembered."""
        if not len(self._level):
            return Prosody((), (), 0.0)
        first, seconds = (self._measured - len(self._level)) * STEP, self._measured * STEP
        return _prosody(self._level, self._pitch, self._periodic, seconds=seconds, first=first)


def _prosody(
    level: Floats, pitch: Floats, periodic: Floats, *, seconds: float, first: float = 0.0
) -> Prosody:
    """Phrases and syllables of measurements that begin at second ``first``."""
    active = _voice_activity(level)
    phrases = tuple((first + start * STEP, first + stop * STEP) for start, stop in runs(active))
    rated = _rate(_nuclei(level, periodic, active), level, pitch, active)
    return Prosody(phrases, tuple(Syllable(first + one.time, one.stress) for one in rated), seconds)


def _measure(speech: Speech) -> tuple[Floats, Floats, Floats]:
    """At every step: the band's energy in dB, pitch in semitones (NaN: none) and periodicity 0..1."""
    step, width = round(STEP * speech.rate), round(_WINDOW * speech.rate)
    wave, before = speech.waveform, width // 2
    count = max(1, len(wave) // step)
    size = 1 << (2 * width - 1).bit_length()
    hertz = np.fft.rfftfreq(size, 1 / speech.rate)
    band = (hertz >= _BAND[0]) & (hertz <= _BAND[1])
    window = np.hanning(width)
    lags = np.arange(int(speech.rate / _PITCH[1]), int(min(speech.rate / _PITCH[0], 0.8 * width)))
    # Without dividing by the window's autocorrelation, short periods would be preferred (Boersma 1993).
    fade = np.fft.irfft(np.abs(np.fft.rfft(window, size)) ** 2)
    level, pitch, periodic = np.zeros(count), np.full(count, np.nan), np.zeros(count)
    for block in range(0, count, _BLOCK):  # memory does not grow with the recording
        last = min(block + _BLOCK, count)
        starts = np.arange(last - block) * step
        begin, end = block * step - before, (last - 1) * step - before + width
        piece = wave[max(0, begin) : max(0, end)].astype(np.float64)
        piece = np.pad(piece, (max(0, -begin), max(0, end - len(wave))))
        frames = np.lib.stride_tricks.sliding_window_view(piece, width)[starts] * window
        power = np.abs(np.fft.rfft(frames, size)) ** 2
        rows = slice(block, block + len(starts))
        level[rows] = 10 * np.log10(power[:, band].sum(axis=1) + 1e-7)
        autocorrelation = np.fft.irfft(power)[:, : lags[-1] + 1]
        energy = np.maximum(autocorrelation[:, :1] / fade[0], 1e-12)
        autocorrelation = autocorrelation[:, lags] / fade[lags] / energy
        # Multiples of a period correlate as well, so longer periods get a penalty.
        best = (autocorrelation - 0.08 * np.log2(lags / lags[0])).argmax(axis=1)
        strength = np.take_along_axis(autocorrelation, best[:, None], axis=1)[:, 0]
        periodic[rows] = np.clip(strength, 0, 1)
        pitch[rows] = np.where(strength > 0.5, 12 * np.log2(speech.rate / lags[best] / 100), np.nan)
    return _smooth(level, 3), pitch, periodic


def _voice_activity(level: Floats) -> Mask:
    """Where there is speech: clearly above the quietest and not far below the loudest sound."""
    floor, top = np.percentile(level, 8), np.percentile(level, 95)
    if top < -25 or top - floor < 6:
        # Constant level: silence, or speech without a pause.
        return np.full(len(level), top > -25)
    threshold = max(floor + 0.3 * (top - floor), top - 32)
    active = level > threshold
    for start, stop in runs(~active):
        if (stop - start) * STEP < _SHORTEST_PAUSE and start > 0 and stop < len(active):
            active[start:stop] = True
    for start, stop in runs(active):
        if (stop - start) * STEP < _SHORTEST_SPEECH:
            active[start:stop] = False
    return active


def _nuclei(level: Floats, periodic: Floats, active: Mask) -> list[int]:
    """Peaks of energy in voiced sound, with a dip before and after."""
    peaks = np.flatnonzero((level[1:-1] >= level[:-2]) & (level[1:-1] > level[2:])) + 1
    kept: list[int] = []
    for peak in peaks:
        if not active[peak] or periodic[max(0, peak - 2) : peak + 3].max() < 0.45:
            continue
        if kept and min(level[kept[-1]], level[peak]) - level[kept[-1] : peak + 1].min() < _DIP:
            if level[peak] > level[kept[-1]]:
                kept[-1] = int(peak)
        else:
            kept.append(int(peak))
    return kept


def _rate(nuclei: list[int], level: Floats, pitch: Floats, active: Mask) -> list[Syllable]:
    if not nuclei:
        return []
    edges = [0, *((a + b) // 2 for a, b in itertools.pairwise(nuclei)), len(level)]
    loud, high, long, middle = [], [], [], []
    for nucleus, start, stop in zip(nuclei, edges, edges[1:], strict=False):
        near = np.arange(max(start, nucleus - 20), min(stop, nucleus + 21))
        vowel = near[(level[near] > level[nucleus] - 5) & active[near]]
        vowel = vowel if len(vowel) else np.array([nucleus])
        tones = pitch[vowel][np.isfinite(pitch[vowel])]
        loud.append(level[nucleus])
        high.append(np.percentile(tones, 80) if len(tones) else np.nan)
        long.append(len(vowel) * STEP)
        middle.append(float(vowel.mean()) * STEP)
    times = np.array(middle)
    stress = 1.0 * _stand_out(times, np.array(loud)) + 0.9 * _stand_out(times, np.array(high))
    stress += 0.7 * _stand_out(times, np.array(long))
    return [Syllable(float(t), float(s)) for t, s in zip(times, stress / 2.6, strict=True)]


def _stand_out(times: Floats, values: Floats) -> Floats:
    """How far each value lies above those around it, in their standard deviations; 0 where unknown."""
    spread = max(float(np.nanstd(values)), 1e-6) if np.isfinite(values).any() else 1.0
    out = np.zeros(len(values))
    for i, time in enumerate(times):
        around = values[(np.abs(times - time) <= _ROUND) & np.isfinite(values)]
        if np.isfinite(values[i]) and len(around) > 1:
            out[i] = (values[i] - around.mean()) / spread
    return out


def _smooth(values: Floats, half: int) -> Floats:
    kernel = np.hanning(2 * half + 3)[1:-1]
    return np.convolve(np.pad(values, half, mode="edge"), kernel / kernel.sum(), mode="valid")
