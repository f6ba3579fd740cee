"""Speech with known phoneme times (espeak-ng, flite), and the movement of the mouth that belongs to it.

Phonemes become mouth shapes (``SHAPES``), and neighbours blend into each other by dominance functions
(Cohen & Massaro 1993, "Modeling coarticulation in synthetic visual speech"); m, b and p close the lips.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from semibody.clips.mouth import SHAPES
from semibody.types import RATE, Speech
from semibody.voices import espeak
from semibody.voices.speaking import Spoken, by_espeak, by_flite

JAW = SHAPES.index("jaw")
CLASSES = ("rest", "closed", "teeth", "round", "wide", "open", "other")
"""Visemes: no sound · m, b, p · f, v · rounded sounds · spread ones · open vowels · all others."""
_EXPOSURE = 1 / 24
"""seconds, longest exposure of a frame"""

_VOWELS = {
    "a": (0.85, 0.0, 0.15), "A": (0.9, 0.1, 0.0), "{": (0.8, 0.0, 0.35), "V": (0.6, 0.0, 0.1),
    "E": (0.55, 0.0, 0.4), "e": (0.45, 0.0, 0.5), "i": (0.25, 0.0, 0.75), "I": (0.3, 0.0, 0.5),
    "o": (0.5, 0.75, 0.0), "O": (0.65, 0.6, 0.0), "0": (0.65, 0.4, 0.0), "u": (0.25, 1.0, 0.0),
    "U": (0.3, 0.7, 0.0), "@": (0.35, 0.1, 0.1), "3": (0.35, 0.3, 0.0), "y": (0.25, 0.9, 0.1),
    "Y": (0.3, 0.8, 0.0), "W": (0.45, 0.7, 0.0),
}  # fmt: skip
_CONSONANTS = {
    "m": (0, 0, 0, 1, 0, 0), "b": (0, 0, 0, 1, 0, 0), "p": (0, 0, 0, 1, 0, 0),
    "f": (0.08, 0, 0.1, 0, 1, 0.3), "v": (0.08, 0, 0.1, 0, 1, 0.3), "w": (0.15, 1, 0, 0, 0, 0),
    "S": (0.15, 0.6, 0, 0, 0, 0.4), "Z": (0.15, 0.6, 0, 0, 0, 0.4), "r": (0.2, 0.45, 0, 0, 0, 0.2),
    "T": (0.2, 0, 0.2, 0, 0, 0.2), "D": (0.2, 0, 0.2, 0, 0, 0.2), "j": (0.2, 0, 0.5, 0, 0, 0),
    "s": (0.1, 0, 0.45, 0, 0, 0.3), "z": (0.1, 0, 0.45, 0, 0, 0.3), "t": (0.15, 0, 0.25, 0, 0, 0.1),
    "d": (0.15, 0, 0.25, 0, 0, 0.1), "n": (0.18, 0, 0.2, 0, 0, 0.1), "l": (0.25, 0, 0.2, 0, 0, 0.1),
    "k": (0.25, 0, 0.1, 0, 0, 0), "g": (0.25, 0, 0.1, 0, 0, 0), "N": (0.25, 0, 0.1, 0, 0, 0),
    "h": (0.35, 0, 0, 0, 0, 0),
}  # fmt: skip


def speak(rng: np.random.Generator, seconds: float, female: bool, *, held_out: bool = False) -> Spoken:
    """About ``seconds`` of random sentences in a random voice, possibly after a short silence; ``held_out``:
    in one that the lips of no network were trained on.

    Raises MissingPartError when neither espeak-ng nor flite is installed.
    """
    lead = float(rng.uniform(0.05, 0.45)) if rng.random() < 0.6 else 0.0
    if not held_out and shutil.which("flite") and (rng.random() < 0.25 or espeak.find_library() is None):
        voice = str(rng.choice(["slt"] if female else ["rms", "awb", "kal16"]))
        spoken = by_flite(_sentences(rng, seconds), voice, float(rng.uniform(0.85, 1.2)))
    else:
        base = str(
            rng.choice(
                ["en-us", "en-gb", "en-gb-scotland", "en-029", "en-us", "de", "fr-fr", "es", "it", "pt-br"]
            )
        )
        variant = f"f{rng.integers(1, 6)}" if female else f"m{rng.integers(1, 8)}"
        text = _sentences(rng, seconds) if base.startswith("en") else _syllables(rng, seconds)
        if held_out:
            variant = "f4" if female else "m5"
        pitch = rng.integers(45, 75) if female else rng.integers(15, 50)
        spoken = by_espeak(text, f"{base}+{variant}", int(rng.integers(135, 200)), int(pitch))
    return _cut(spoken, lead, seconds)


def mouth_track(spoken: Spoken, frames: int, fps: float) -> NDArray[np.float32]:
    """The mouth at every frame: (f, 6), columns as in SHAPES, 0..1."""
    oversample = 4
    times = _exposures(frames, fps, oversample).ravel()
    values = np.zeros((len(times), len(SHAPES)))
    total = np.full(len(times), 1e-6)
    closure = np.zeros(len(times))
    for start, end, symbol in _articulated(spoken.phonemes):
        shape, dominance = _shape_of(symbol)
        middle, half = (start + end) / 2, (end - start) / 2
        distance = np.maximum(np.abs(times - middle) - 0.5 * half, 0) / (0.028 + 0.3 * min(half, 0.1))
        weight = dominance * np.exp(-(distance**1.4))
        values += weight[:, None] * shape
        total += weight
        if shape[3] > 0:
            closure = np.maximum(
                closure, np.exp(-((np.maximum(np.abs(times - middle) - half * 0.6, 0) / 0.022) ** 2))
            )
    values /= total[:, None]
    loud = _envelope(spoken.speech, times)
    values[:, 0] *= 0.45 + 0.55 * loud
    values *= (np.clip(loud * 6, 0, 1) ** 0.5)[:, None]  # lips close in silence
    values[:, [0, 2, 5]] *= (1 - closure)[:, None]
    values[:, 3] = np.maximum(values[:, 3], closure)  # also while the sound of a p is held back
    return values.reshape(frames, oversample, -1).mean(axis=1).astype(np.float32)


def loudness(speech: Speech, frames: int, fps: float) -> NDArray[np.float32]:
    """The speech's smoothed envelope at every frame, 0..1: (f,)."""
    return _envelope(speech, _exposures(frames, fps)[:, 0], window=0.08).astype(np.float32)


def mouth_from_energy(speech: Speech, frames: int, fps: float) -> NDArray[np.float32]:
    """The mouth of a recording whose phonemes are unknown: it opens with the energy. (f, 6) as SHAPES."""
    loud = _envelope(speech, _exposures(frames, fps)[:, 0], window=0.05)
    track = np.zeros((frames, len(SHAPES)), np.float32)
    track[:, 0] = 0.75 * loud
    track[:, 2] = 0.25 * loud
    return track


def _exposures(frames: int, fps: float, samples: int = 1) -> NDArray[np.float64]:
    """(f, samples): seconds, evenly over the exposure of each frame.

    The exposure is at most a 24th of a second, so that a clip of few frames a second shows the same mouths as
    one of many, not their mean over the time between.
    """
    within = (np.arange(samples) + 0.5) / samples * min(1 / fps, _EXPOSURE)
    return np.arange(frames)[:, None] / fps + within


def _articulated(
    phonemes: tuple[tuple[float, float, str], ...],
) -> Iterator[tuple[float, float, str]]:
    """The phonemes, diphthongs and affricates in their parts: aU as a and U, tS as t and S.

    Marks of another language, as espeak-ng gives them, are no sounds.
    """
    for start, end, symbol in phonemes:
        if symbol.startswith("("):
            continue
        parts = [letter for letter in symbol if letter in _VOWELS or letter in _CONSONANTS] or [symbol]
        vowels = [letter in _VOWELS for letter in parts]
        if not (all(vowels) or not any(vowels)):
            parts = parts[:1]
        length = (end - start) / len(parts)
        for number, part in enumerate(parts):
            yield start + number * length, start + (number + 1) * length, part


def phoneme_class(symbol: str) -> str:
    """Which lips a sound is made with (``CLASSES``), by its first part."""
    if not symbol:
        return "rest"
    shape = _shape_of(next((part for _, _, part in _articulated(((0.0, 1.0, symbol),))), ""))[0]
    if shape[3] or shape[4]:
        return "closed" if shape[3] else "teeth"
    if shape[1] >= 0.4:
        return "round"
    if shape[2] >= 0.4:
        return "wide"
    return "open" if shape[0] >= 0.5 else "other"


def shape_of(symbol: str) -> NDArray[np.float64]:
    """(6,) of the lips of a phoneme said by a calm speaker, columns as ``SHAPES``."""
    return _shape_of(symbol)[0]


def _shape_of(symbol: str) -> tuple[NDArray[np.float64], float]:
    if not symbol:
        return np.zeros(6), 0.6
    for length in (2, 1):
        key = symbol[:length]
        if key in _VOWELS:
            jaw, lips, wide = _VOWELS[key]
            return np.array([jaw, lips, wide, 0, 0, 0.05]), 1.0
        if key in _CONSONANTS:
            shape = np.array(_CONSONANTS[key], float)
            return shape, 2.2 if shape[3] or shape[4] else 0.8
    return np.array([0.25, 0.1, 0.1, 0, 0, 0]), 0.5


def _envelope(speech: Speech, times: NDArray[np.float64], window: float = 0.06) -> NDArray[np.float64]:
    power = np.concatenate([[0.0], np.cumsum(speech.waveform.astype(np.float64) ** 2)])
    half = int(window / 2 * speech.rate)
    at = (times * speech.rate).astype(int)
    low, high = np.clip(at - half, 0, len(power) - 1), np.clip(at + half, 0, len(power) - 1)
    level = np.sqrt((power[high] - power[low]) / (2 * half))
    peak = np.percentile(level, 95) if len(level) else 0.0
    return np.clip(level / peak, 0, 1) if peak > 1e-4 else np.zeros_like(level)


def _cut(spoken: Spoken, lead: float, seconds: float) -> Spoken:
    count = round(seconds * RATE)
    wave = np.concatenate([np.zeros(int(lead * RATE), np.float32), spoken.speech.waveform])[:count]
    wave = np.pad(wave, (0, count - len(wave)))
    peak = float(np.abs(wave).max())
    wave = (wave * (0.5 / peak) if peak > 1e-3 else wave).astype(np.float32)
    moved = tuple((a + lead, b + lead, s) for a, b, s in spoken.phonemes if a + lead < seconds)
    return Spoken(Speech(wave, RATE), moved, spoken.voice, spoken.text)


# --- sentences -------------------------------------------------------------------------------------

_THINGS = (
    "a blue house", "the whole map", "fifty maps", "a much better idea", "five big boxes",
    "the morning paper",
    "a warm room", "the bridge above the river", "a very simple plan", "music for everyone",
    "the path to the farm", "our view of the future",
)  # fmt: skip
_PLACES = (
    "before summer", "by the window", "every Monday", "from above", "for a moment", "with both hands",
    "in the open", "step by step", "at home", "for the people upstairs", "over there", "as before",
)  # fmt: skip


def _sentences(rng: np.random.Generator, seconds: float) -> str:
    subjects = [
        "we",
        "you",
        "they",
        "many people",
        "my friends",
        "the teachers",
        "some visitors",
        "our neighbours",
    ]
    verbs = [
        "build",
        "move",
        "open",
        "paint",
        "remember",
        "follow",
        "bring",
        "measure",
        "improve",
        "keep",
        "prefer",
    ]
    starts = ["", "", "Well, ", "Of course ", "Maybe ", "Above all, ", "But ", "Believe me, "]
    sentences = []
    for _ in range(max(1, int(seconds / 1.6) + 1)):
        parts = [str(rng.choice(words)) for words in (subjects, verbs, _THINGS, _PLACES)]
        words = f"{rng.choice(starts)}{' '.join(parts)}"
        sentences.append(words[0].upper() + words[1:] + str(rng.choice([".", ".", "!", "?"])))
    return " ".join(sentences)


def _syllables(rng: np.random.Generator, seconds: float) -> str:
    def word() -> str:
        return "".join(
            str(rng.choice(list("bmpfvtdlnsrkg"))) + str(rng.choice(list("aeiou")))
            for _ in range(rng.integers(1, 4))
        )

    return " ".join(
        ", ".join(" ".join(word() for _ in range(rng.integers(3, 6))) for _ in range(2)).capitalize() + "."
        for _ in range(int(seconds / 2) + 1)
    )
