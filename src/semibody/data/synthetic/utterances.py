"""Speech of many voices and languages with its lips, and sounds that are no speech, as mel power.

    utterance = make_utterance(np.random.default_rng(7), seconds=5.0, held_out=False)
    heard = heard_sound(rng, utterance, noise)     # another room, another microphone, music behind it

For what is trained on sound alone: texts have no meaning, only the sounds of their language. Augmentation
works on the power of mel bands, where sounds add up, rooms and microphones multiply, and a hundred samples
take no longer than one synthesised recording.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from semibody.clips.mouth import SHAPES
from semibody.data.synthetic.speech import mouth_track, shape_of
from semibody.networks.audio_encoders import MEL_RATE, mel_power
from semibody.types import RATE, Speech
from semibody.voices import espeak
from semibody.voices.speaking import Spoken, by_espeak, by_flite

Power = Float[NDArray[np.float32], "r 80"]

_EXPOSED = 4
"""Rows over which the mouth is averaged: a frame of 24 a second is exposed so long."""
_VARIANTS = (
    "f1", "f2", "f3", "f5", "m1", "m2", "m3", "m4", "m6", "m7", "m8", "klatt", "klatt2", "klatt4", "Alex",
    "Annie", "Gene", "Hugo", "Jacky", "Lee", "Mario", "adam", "anika", "belinda", "benjamin", "boris",
    "caleb", "david", "ed", "edward", "grandma", "grandpa", "iven", "john", "linda", "marcelo", "max",
    "michel", "miguel", "paul", "pedro", "quincy", "rob", "robert", "sandro", "shelby", "steph", "travis",
    "victor", "zac", "croak", "aunty",
)  # fmt: skip
HELD_OUT_VARIANTS = ("f4", "m5", "klatt3", "Andrea", "Michael", "norbert")
"""Voices that nothing is trained on."""
_FLITE, _HELD_OUT_FLITE = ("slt", "awb", "kal16"), ("rms",)
_WORDS = (
    "about above again animal apple apart baby back because before began begin below best better between big "
    "black blue boat body book both bottom box boy bread bridge bring brother build but call came camp can "
    "change children city close cloud cold come company could country cup dance day deep different doctor "
    "door down dream early earth easy eat every eye fall family farm fast father feel field fifty film find "
    "five flower follow food forest form four free fresh friend from full future game garden girl give glove "
    "go gold good green group grow half happy have heavy help high home hope house how idea important jump "
    "just keep kind know lamp large laugh leave letter life light live long love machine make man many map "
    "maybe measure member money month moon more morning most mother mountain mouth move much music my name "
    "never new night number of office often old open orange over own page paint paper part people perfect "
    "person picture piece place plan play please point poor pretty problem program pull push put quick quiet "
    "rain read remember river road room run same school sea see seven shape she shoe short should show "
    "six sleep slow small snow some song soup south speak spring star step stop story street strong "
    "sun table take talk tell temple ten them think this thumb time together tomorrow took town tree turn "
    "umbrella under up use valley very village visit voice walk warm watch water we week well what wheel "
    "white whole window winter wish with woman wonderful wood word work world yellow yes you young zebra"
)
_VOWELS = {
    "de": "a e i o u ei au eu ie", "fr-fr": "a e i o u ou on an eau eu", "es": "a e i o u ue ie",
    "it": "a e i o u io ia", "pt-br": "a e i o u ão", "nl": "a e i o u oe ui ij", "pl": "a e i o u ó ą ę",
    "sv": "a e i o å ö", "tr": "a e ı i o ö u ü", "fi": "a e i o u y ä ö aa uu", "id": "a e i o u",
    "sw": "a e i o u", "ro": "a e i o u oa", "hu": "a á e é i o ö u ü", "cs": "a á e é i í o u ů",
}  # fmt: skip
"""How vowels are written, of languages of espeak-ng."""
_INITIALS = "b p m f d t n l g k h j q x zh ch sh r z c s y w"
_FINALS = "a o e ai ei ao ou an en ang eng ong i ia iao ie iu ian in iang ing u ua uo ui uan un"
_CYRILLIC = ("бпмфвтдлнсрзкгшжх", "аеиоуыюя")
_KANA = (
    "あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもらりるれろわばびぶべぼぱぴぷぺぽ"
)


FORMANTS = {
    "a": (800, 1200, 2600), "E": (570, 1850, 2550), "e": (430, 2000, 2700), "i": (290, 2250, 3000),
    "o": (430, 850, 2600), "u": (320, 750, 2500), "@": (500, 1400, 2500), "y": (290, 1900, 2400),
    "m": (260, 1050, 2200),
}  # fmt: skip
"""Hertz of the first resonances of what is sung."""
_HIGHER, _BANDWIDTHS = (3500, 4500), (80, 90, 120, 160, 220)
"""Resonances that all of them share, and how wide each is, in Hertz."""


@dataclass(frozen=True)
class Utterance:
    """``power`` (r, 80) of mel bands at 100 rows a second, and the mouth at each, columns as ``SHAPES``."""

    power: Power
    mouth: Float[NDArray[np.float32], "r 6"]


def make_utterance(
    rng: np.random.Generator, seconds: float, *, held_out: bool, articulation: float = 1.0
) -> Utterance:
    """Someone says something in some language; ``articulation`` times as wide as a calm speaker.

    Raises MissingPartError when neither espeak-ng nor flite is installed.
    """
    spoken = say_something(rng, seconds, held_out=held_out)
    wave = spoken.speech.waveform[: round(seconds * RATE)]
    rows = len(wave) * MEL_RATE // RATE
    mouth = mouth_track(
        Spoken(Speech(wave, RATE), spoken.phonemes, spoken.voice, spoken.text), rows, MEL_RATE
    )
    mouth[:, SHAPES.index("jaw")] = (articulation * mouth[:, SHAPES.index("jaw")]).clip(0, 1)
    later = np.concatenate([mouth, np.zeros((_EXPOSED - 1, mouth.shape[1]), np.float32)])
    exposed = np.mean([later[n : n + rows] for n in range(_EXPOSED)], axis=0)
    return Utterance(power_of(wave)[:rows], exposed.astype(np.float32))


def make_song(rng: np.random.Generator, seconds: float, *, articulation: float = 1.0) -> Utterance:
    """Someone sings vowels, on notes of up to three seconds, here and there after an m."""
    wave, sung = _sing(rng, seconds)
    rows = len(wave) * MEL_RATE // RATE
    mouth = np.zeros((rows, len(SHAPES)))
    for start, end, symbol in sung:
        mouth[round(start * MEL_RATE) : round(end * MEL_RATE)] = shape_of(symbol)
    mouth[:, SHAPES.index("jaw")] = (articulation * mouth[:, SHAPES.index("jaw")]).clip(0, 1)
    # Lips take about a tenth of a second from one shape to the next, half of it before the sound.
    window = np.hanning(13)[1:-1, None] / np.hanning(13).sum()
    padded = np.pad(mouth, ((5, 5), (0, 0)), "edge")
    moved = sum(padded[n : n + rows] * share for n, share in enumerate(window))
    return Utterance(power_of(wave)[:rows], np.asarray(moved, np.float32))


def _sing(
    rng: np.random.Generator, seconds: float
) -> tuple[NDArray[np.float32], list[tuple[float, float, str]]]:
    """The sound, and when what is sung: (start, end, symbol) in seconds."""
    count = round(seconds * RATE)
    wave = 1e-4 * rng.normal(size=count)
    low, longer = float(rng.uniform(90, 330)), float(rng.uniform(0.86, 1.2))
    sung: list[tuple[float, float, str]] = []
    at = float(rng.uniform(0, 0.4))
    while at < seconds - 0.4:
        if rng.random() < 0.3:
            at = _sing_note(rng, wave, sung, "m", at, float(rng.uniform(0.07, 0.16)), low, longer)
        symbol = str(rng.choice([one for one in FORMANTS if one != "m"]))
        hertz = low * 2 ** (int(rng.integers(0, 13)) / 12)
        at = _sing_note(rng, wave, sung, symbol, at, float(rng.uniform(0.3, 3.0)), hertz, longer)
        if rng.random() < 0.3:
            at += float(rng.uniform(0.15, 0.6))
    return (0.3 * wave / max(float(np.abs(wave).max()), 1e-6)).astype(np.float32), sung


def _sing_note(
    rng: np.random.Generator,
    wave: NDArray[np.float64],
    sung: list[tuple[float, float, str]],
    symbol: str,
    start: float,
    seconds: float,
    hertz: float,
    longer: float,
) -> float:
    """Add a note to ``wave`` and to what is ``sung``; returns its end. ``longer`` shifts resonances."""
    end = min(start + seconds, len(wave) / RATE)
    first, count = round(start * RATE), round(end * RATE) - round(start * RATE)
    note = sing(rng, [longer * f for f in FORMANTS[symbol]], hertz, count / RATE)[:count]
    wave[first : first + len(note)] += note * (0.35 if symbol == "m" else float(rng.uniform(0.5, 1.0)))
    sung.append((start, end, symbol))
    return end


def sing(
    rng: np.random.Generator, formants: Sequence[float], hertz: float, seconds: float
) -> NDArray[np.float64]:
    """A note with vibrato, its loudest sample 1: a pulse train, breath, and the resonances of a throat
    (Klatt 1980, "Software for a cascade/parallel formant synthesizer")."""
    from scipy.signal import lfilter

    time = np.arange(round(seconds * RATE)) / RATE
    deep, fast = float(rng.uniform(0, 0.03)), float(rng.uniform(4.5, 6.5))
    pitch = hertz * (1 + deep * np.sin(2 * np.pi * fast * time) * np.minimum(1, 2 * time))
    phase = np.cumsum(pitch * (1 + 0.003 * rng.normal(size=len(time)))) / RATE % 1
    note = np.diff(phase**2, prepend=0.0) + float(rng.uniform(0.001, 0.02)) * rng.normal(size=len(time))
    for middle, wide in zip((*formants, *_HIGHER), _BANDWIDTHS, strict=True):
        radius = np.exp(-np.pi * wide / RATE)
        poles = (1.0, -2 * radius * np.cos(2 * np.pi * min(middle, 7500) / RATE), radius**2)
        note = lfilter([sum(poles)], poles, note)
    edges = np.minimum(1, np.minimum(time, seconds - time) / 0.04)
    return np.asarray(note * edges / max(float(np.abs(note).max()), 1e-9))


def say_something(rng: np.random.Generator, seconds: float, *, held_out: bool) -> Spoken:
    """At least ``seconds`` of words without meaning, in a random voice of those held out or of the others."""
    words = max(4, round(2.6 * seconds))
    if shutil.which("flite") and (rng.random() < 0.15 or espeak.find_library() is None):
        voice = str(rng.choice(_HELD_OUT_FLITE if held_out else _FLITE))
        return by_flite(_english(rng, words), voice, float(rng.uniform(0.8, 1.3)))
    language, text = _text(rng, words)
    variant = str(rng.choice(HELD_OUT_VARIANTS if held_out else _VARIANTS))
    speed, pitch = int(rng.integers(115, 225)), int(rng.integers(10, 85))
    return by_espeak(text, f"{language}+{variant}", speed, pitch)


def _text(rng: np.random.Generator, words: int) -> tuple[str, str]:
    """A voice of espeak-ng, and a text for it."""
    kind = rng.random()
    if kind < 0.35:
        return str(rng.choice(["en-us", "en-gb", "en-gb-scotland", "en-029", "en-us"])), _english(rng, words)
    if kind < 0.55:
        syllables = (
            f"{rng.choice(_INITIALS.split())}{rng.choice(_FINALS.split())}{rng.integers(1, 5)}"
            for _ in range(2 * words)
        )
        return "cmn-latn-pinyin", _punctuated(rng, list(syllables))
    if kind < 0.62:
        return "ru", _punctuated(
            rng, [_made_word(rng, _CYRILLIC[0], list(_CYRILLIC[1])) for _ in range(words)]
        )
    if kind < 0.68:
        kana = ["".join(rng.choice(list(_KANA), rng.integers(2, 5))) for _ in range(words)]
        return "ja", _punctuated(rng, kana)
    language = str(rng.choice(list(_VOWELS)))
    vowels = _VOWELS[language].split()
    return language, _punctuated(rng, [_made_word(rng, "bmpfvtdlnsrkgbmpw", vowels) for _ in range(words)])


def _english(rng: np.random.Generator, words: int) -> str:
    return _punctuated(rng, [str(word) for word in rng.choice(_WORDS.split(), words)])


def _made_word(rng: np.random.Generator, consonants: str, vowels: list[str]) -> str:
    syllables = (f"{rng.choice(list(consonants))}{rng.choice(vowels)}" for _ in range(rng.integers(1, 4)))
    return "".join(syllables) + (str(rng.choice(list("nslmr"))) if rng.random() < 0.2 else "")


def _punctuated(rng: np.random.Generator, words: list[str]) -> str:
    text, since = "", 0
    for word in words:
        since += 1
        ends = since > 2 and rng.random() < 0.2
        text += f"{word}{rng.choice([',', '.', '!', '?']) if ends else ''} "
        since = 0 if ends else since
    return f"{text.strip()}."


# -- what is no speech ---------------------------------------------------------------------


def make_noise(rng: np.random.Generator, seconds: float) -> Power:
    """Music, or a noise: of air, of machines, of knocks, of nothing at all."""
    kinds = (_music, _music, _music, _coloured, _hum, _knocks)
    return power_of(kinds[rng.integers(len(kinds))](rng, seconds))


def _music(rng: np.random.Generator, seconds: float) -> NDArray[np.float32]:
    """Chords, a melody above them and a beat, each of them possibly left out."""
    time = np.arange(round(seconds * RATE)) / RATE
    beat, root = 60 / rng.uniform(70, 150), rng.uniform(90, 220)
    wave = np.zeros_like(time)
    scale = np.array([0, 2, 4, 5, 7, 9, 11, 12, 14, 16, 19])
    steep, decay = rng.uniform(0.8, 2.2), rng.uniform(1.0, 6.0)
    chords, melody, drums = rng.random(3) < (0.8, 0.8, 0.6)
    for number in range(int(seconds / beat)):
        start = number * beat
        after = time[int(start * RATE) :] - start
        if chords and number % 4 == 0:
            for note in scale[(rng.integers(6) + np.array([0, 2, 4])) % len(scale)]:
                wave[-len(after) :] += 0.4 * _tone(after, root * 2 ** (note / 12), steep, decay / 4)
        if melody and rng.random() < 0.75:
            note = scale[rng.integers(len(scale))]
            vibrato = 1 + 0.01 * rng.random() * np.sin(2 * np.pi * 5.5 * after)
            wave[-len(after) :] += _tone(after * vibrato, 2 * root * 2 ** (note / 12), steep, decay)
        if drums:
            burst = rng.normal(size=len(after)) * np.exp(-after * rng.uniform(15, 60))
            wave[-len(after) :] += rng.uniform(0.2, 1.0) * burst
    return wave.astype(np.float32) * 0.1


def _tone(time: NDArray[np.float64], hertz: float, steep: float, decay: float) -> NDArray[np.float64]:
    harmonics = np.arange(1, max(2, min(12, int(7000 / hertz))))
    waves = (np.sin(2 * np.pi * hertz * n * time) / n**steep for n in harmonics)
    return np.asarray(sum(waves) * np.exp(-decay * time) * np.minimum(1, time * 60))


def _coloured(rng: np.random.Generator, seconds: float) -> NDArray[np.float32]:
    """Noise with a slope of its spectrum, louder and quieter in the course of it."""
    count = round(seconds * RATE)
    hertz = np.fft.rfftfreq(count, 1 / RATE)
    spectrum = np.fft.rfft(rng.normal(size=count)) / np.maximum(hertz, 30) ** rng.uniform(0, 1.2)
    slow = np.interp(np.arange(count), np.linspace(0, count, 12), rng.uniform(0.3, 1, 12))
    wave = np.fft.irfft(spectrum, count) * slow
    return (wave / np.abs(wave).max() * 0.3).astype(np.float32)


def _hum(rng: np.random.Generator, seconds: float) -> NDArray[np.float32]:
    time = np.arange(round(seconds * RATE)) / RATE
    wave = _tone(time, float(rng.uniform(45, 400)), float(rng.uniform(0.5, 2)), 0.0)
    return (0.1 * wave + 0.02 * rng.normal(size=len(time))).astype(np.float32)


def _knocks(rng: np.random.Generator, seconds: float) -> NDArray[np.float32]:
    time = np.arange(round(seconds * RATE)) / RATE
    wave = 0.003 * rng.normal(size=len(time))
    for start in rng.uniform(0, seconds, rng.integers(3, 25)):
        after = np.maximum(time - start, 0)
        ringing = np.sin(2 * np.pi * rng.uniform(150, 3000) * after) + 0.5 * rng.normal(size=len(time))
        wave += (time > start) * rng.uniform(0.1, 1) * ringing * np.exp(-after * rng.uniform(20, 90))
    return (0.2 * wave).astype(np.float32)


NOISES: dict[str, Callable[[np.random.Generator, float], NDArray[np.float32]]] = {
    "music": _music, "noise": _coloured, "hum": _hum, "knocks": _knocks,
}  # fmt: skip
"""What is no speech, by name: sounds at 16 kHz of so many seconds."""


def power_of(wave: NDArray[np.float32]) -> Power:
    """Mel power at 100 rows a second."""
    return mel_power(torch.from_numpy(np.ascontiguousarray(wave))).T.contiguous().numpy()


# -- as it is heard ------------------------------------------------------------------------


def heard_sound(
    rng: np.random.Generator, utterance: Utterance, noise: Power, rows: int
) -> tuple[Power, Float[NDArray[np.float32], "rows 6"]]:
    """``rows`` of an utterance as some microphone in some room hears it: its mel power, and the mouth.

    In one of eight samples nobody speaks: the noise alone, or hardly anything, with lips at rest.
    """
    power, mouth = _cut(rng, utterance, rows)
    power = _formants_moved(power, float(rng.uniform(0.86, 1.16)))
    if rng.random() < 0.5:
        power = _reverberated(power, float(rng.uniform(0.1, 0.9)), float(rng.uniform(0.1, 0.7)))
    level = np.quantile(power.sum(axis=1), 0.95) + 1e-8
    behind = _repeated(noise, rows, int(rng.integers(len(noise))))
    behind = behind / (np.quantile(behind.sum(axis=1), 0.95) + 1e-12)
    if rng.random() < 0.12:
        power, mouth = power * np.float32(0.0), np.zeros_like(mouth)
        power = power + level * behind if rng.random() < 0.8 else power + 1e-3 * level * behind
    else:
        decibels = rng.uniform(0, 40) if rng.random() < 0.6 else 50.0
        power = power + level * 10 ** (-decibels / 10) * behind
    return _recorded(rng, power).astype(np.float32), mouth


def _cut(rng: np.random.Generator, utterance: Utterance, rows: int) -> tuple[Power, NDArray[np.float32]]:
    """A piece of an utterance, spoken slower or faster, now and then as slowly as one sings."""
    slower = rng.uniform(1.4, 2.2) if rng.random() < 0.05 else rng.uniform(0.85, 1.25)
    length = len(utterance.power)
    needed = rows / slower
    first = rng.uniform(-0.2 * needed, max(length - 0.8 * needed, 0))
    places = first + np.arange(rows) / slower
    inside = (places >= 0) & (places <= length - 1)
    at = places.clip(0, length - 1)
    low = np.minimum(at.astype(int), max(length - 2, 0))
    high, share = np.minimum(low + 1, length - 1), (at - low).astype(np.float32)[:, None]
    made = [part[low] * (1 - share) + part[high] * share for part in (utterance.power, utterance.mouth)]
    return made[0] * inside[:, None], made[1] * inside[:, None].astype(np.float32)


def _repeated(noise: Power, rows: int, first: int) -> Power:
    return noise[(first + np.arange(rows)) % len(noise)]


def _formants_moved(power: Power, factor: float) -> Power:
    """As a longer or shorter throat would have made it."""
    bands = (np.arange(power.shape[1]) * factor).clip(0, power.shape[1] - 1)
    low = np.minimum(bands.astype(int), power.shape[1] - 2)
    share = (bands - low).astype(np.float32)
    return power[:, low] * (1 - share) + power[:, low + 1] * share


def _reverberated(power: Power, seconds: float, wet: float) -> Power:
    """With a room behind it that takes ``seconds`` to lose 60 dB."""
    keep = 10 ** (-6 / (seconds * MEL_RATE))
    room, echo = np.zeros_like(power), np.zeros(power.shape[1], np.float32)
    for row, sound in enumerate(power):
        echo = np.float32(keep) * echo + sound
        room[row] = echo
    return power + np.float32(wet * (1 - keep)) * room


def _recorded(rng: np.random.Generator, power: Power) -> Power:
    """Through a microphone, and a format that leaves out what is hardly heard."""
    bands = power.shape[1]
    decibels = np.interp(np.arange(bands), np.linspace(0, bands, 7), rng.normal(0, 4, 7)) + rng.normal(
        0, 5
    ) * np.linspace(-1, 1, bands)
    power = power * (10 ** (decibels / 10)).astype(np.float32)
    if rng.random() < 0.25:
        power[:, int(rng.integers(44, bands)) :] *= 1e-6
    if rng.random() < 0.15:
        power[:, : rng.integers(1, 8)] *= 1e-4
    if rng.random() < 0.3:
        floor = power.max(axis=1, keepdims=True) * 10 ** (-rng.uniform(3.0, 5.0))
        power = np.where(power < floor, floor * 10 ** rng.uniform(-3, 0), power)
    return power
