"""A text spoken by a voice of this machine, with the time of every phoneme.

    spoken = say("Good morning!")                  # the first voice there is: English
    spoken = say("Guten Morgen!", "de+f3")         # espeak-ng's German voice, variant f3
    for voice in installed(): print(voice.name, voice.about)

Nothing is sent anywhere, and nothing is chosen by chance: the same text and voice give the same sound.
"""

from __future__ import annotations

import difflib
import shutil
import subprocess
import tempfile
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semibody.media import read_speech
from semibody.types import RATE, MissingPartError, SemibodyError, Speech
from semibody.voices import espeak

LONGEST_TEXT = 10_000
"""Characters; about ten minutes of speech."""
HOW_TO_INSTALL = "run: pip install 'semibody[voice]' (Debian: apt install espeak-ng)"
_USUAL = "en-us"
_WORDS_PER_MINUTE, _PITCH = 160, 50
_ARPABET = {
    "aa": "A", "ae": "{", "ah": "V", "ao": "O", "aw": "a", "ax": "@", "axr": "3", "ay": "a", "eh": "E",
    "er": "3", "ey": "e", "ih": "I", "iy": "i", "ow": "o", "oy": "O", "uh": "U", "uw": "u", "ch": "S",
    "jh": "S", "sh": "S", "zh": "Z", "th": "T", "dh": "D", "ng": "N", "hh": "h", "y": "j",
}  # fmt: skip


@dataclass(frozen=True)
class Spoken:
    """A recording and when which phoneme is spoken: (start, end, symbol) in seconds; "" is silence."""

    speech: Speech
    phonemes: tuple[tuple[float, float, str], ...]
    voice: str
    text: str


@dataclass(frozen=True)
class Voice:
    """A voice of this machine: the ``name`` that selects it, and what it is."""

    name: str
    about: str


def installed() -> list[Voice]:
    """The voices of this machine, one for each language of espeak-ng, then flite's English ones."""
    listed, _ = _espeak_voices()
    voices = {one.language: Voice(one.language, f"{one.name}, espeak-ng") for one in reversed(listed)}
    return [*sorted(voices.values(), key=lambda voice: voice.name),
            *(Voice(name, "English, flite") for name in _flite_voices())]  # fmt: skip


def require_installed() -> list[Voice]:
    """As ``installed``. Raises MissingPartError without any voice."""
    voices = installed()
    if not voices:
        raise MissingPartError(f"there is no voice on this machine to speak a text; {HOW_TO_INSTALL}")
    return voices


def variants() -> list[str]:
    """What can be added to the name of an espeak-ng voice, after ``+``."""
    return sorted(_espeak_voices()[1], key=str.lower)


def say(text: str, voice: str | None = None) -> Spoken:
    """Speak ``text`` with a voice that ``installed`` names, after which ``+f1`` or ``+m3`` varies it.

    Raises SemibodyError for a text that is empty, too long or has nothing that can be spoken, and for an
    unknown voice; MissingPartError without any voice.
    """
    words = _readable(text)
    engine, chosen = _find_voice(voice)
    if engine == "flite":
        spoken = by_flite(words, chosen, 1.0)
    else:
        spoken = by_espeak(words, chosen, _WORDS_PER_MINUTE, _PITCH)
    if not spoken.phonemes or float(np.abs(spoken.speech.waveform).max(initial=0.0)) < 1e-3:
        raise SemibodyError(f"--say {_short(words)}: nothing in it can be spoken; write a sentence")
    return spoken


def _readable(text: str) -> str:
    """The text in a line, without control characters."""
    if len(text) > LONGEST_TEXT:
        raise SemibodyError(
            f"--say: the text has {len(text)} characters; give at most {LONGEST_TEXT}, or a recording"
        )
    spaced = (" " if unicodedata.category(letter) in ("Cc", "Cs", "Cn") else letter for letter in text)
    words = " ".join("".join(spaced).split())
    if not words:
        raise SemibodyError("--say: the text is empty; write what is to be said")
    return words


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."


def _find_voice(name: str | None) -> tuple[str, str]:
    """(engine, what selects the voice in it). Raises SemibodyError."""
    require_installed()
    listed, variants = _espeak_voices()
    languages = {one.language.lower(): one.identifier for one in reversed(listed)}
    others = _flite_voices()
    wanted = name.strip().lower() if name is not None else _USUAL if languages else others[0]
    language, plus, variant = wanted.partition("+")
    found = {one.lower(): f"+{one}" for one in variants}.get(variant) if plus else ""
    spoken = _usual_country(language, list(languages))
    if spoken is not None and found is not None:
        return "espeak-ng", languages[spoken] + found
    if wanted in others:
        return "flite", wanted
    raise SemibodyError(
        f"--voice {_short(wanted) or '(empty)'} is unknown; {_suggest(language, [*languages, *others])}"
        "`semibody say --voices` lists all"
    )


def _usual_country(language: str, known: Sequence[str]) -> str | None:
    """The known voice of this name, or of a country that speaks it: en-us for en, fr-fr for fr."""
    of_it = [name for name in known if name == language or name.startswith(f"{language}-")]
    usual = (name for name in (language, _USUAL, f"{language}-{language}") if name in of_it)
    return next(usual, of_it[0] if of_it else None)


def _suggest(wanted: str, names: list[str]) -> str:
    near = difflib.get_close_matches(wanted, names, 3, 0.5) or [n for n in names if n[:2] == wanted[:2]][:3]
    return f"near it are {', '.join(near)}; " if near else ""


def _espeak_voices() -> tuple[tuple[espeak.Listed, ...], frozenset[str]]:
    try:
        return espeak.voices()
    except espeak.EspeakError:
        return (), frozenset()


def _flite_voices() -> list[str]:
    program = shutil.which("flite")
    if program is None:
        return []
    done = subprocess.run([program, "-lv"], capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.partition(":")[2].split()


def by_espeak(text: str, voice: str, words_per_minute: int, pitch: int) -> Spoken:
    """Speak with espeak-ng. Raises MissingPartError where it is not, or does not speak."""
    try:
        spoken = espeak.utter(text, voice, words_per_minute, pitch)
    except espeak.EspeakError as error:
        raise MissingPartError(f"espeak-ng failed ({error}); {HOW_TO_INSTALL}") from None
    wave = _resample(np.frombuffer(spoken.samples, "<i2").astype(np.float32) / 32768, spoken.rate)
    starts = [at / 1000 for at, _ in spoken.marks]
    ends = [*starts[1:], len(wave) / RATE]
    phonemes = tuple(
        (start, end, _plain_symbol(symbol))
        for start, end, (_, symbol) in zip(starts, ends, spoken.marks, strict=True)
        if end > start
    )
    return Spoken(Speech(wave, RATE), phonemes, voice, text)


def _plain_symbol(symbol: str) -> str:
    if symbol == ";":  # espeak-ng's sign of a palatal sound, which is one by itself
        return "j"
    return symbol.strip("_:;,'%=-|~^!?* ")


def _resample(wave: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """Band-limited resampling of a whole recording to RATE by its spectrum."""
    if rate == RATE:
        return wave
    size = 1 << (len(wave) - 1).bit_length()
    spectrum = np.fft.rfft(wave, size)
    count = round(size * RATE / rate / 2) * 2
    spectrum = (
        spectrum[: count // 2 + 1] if count < size else np.pad(spectrum, (0, count // 2 + 1 - len(spectrum)))
    )
    out = np.fft.irfft(spectrum, count) * (count / size)
    return out[: int(len(wave) * RATE / rate)].astype(np.float32)


def by_flite(text: str, voice: str, stretch: float) -> Spoken:
    """Speak with a voice of flite; ``stretch`` over 1 is slower.

    Raises MissingPartError where flite is not installed, SemibodyError where it does not speak.
    """
    program = shutil.which("flite")
    if program is None:
        raise MissingPartError("flite is not installed (Debian: apt install flite)")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "speech.wav"
        setting = f"duration_stretch={stretch:.3f}"
        command = [program, "-voice", voice, "--setf", setting, "-psdur", "-t", text, "-o", str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode != 0 or not out.exists():
            raise SemibodyError(
                f"flite failed with voice {voice} ({done.stderr.strip()[:80]}); check the installation"
            )
        speech = read_speech(out, RATE)
    phonemes, start = [], 0.0
    for word in done.stdout.split():
        name, _, end = word.partition(":")
        try:
            stop = float(end)
        except ValueError:
            continue
        symbol = "" if name in ("pau", "ssil", "sil") else _ARPABET.get(name, name)
        if stop > start:
            phonemes.append((start, stop, symbol))
        start = stop
    # Its file is gone; the video takes the samples.
    return Spoken(Speech(speech.waveform, RATE), tuple(phonemes), f"flite {voice}", text)
