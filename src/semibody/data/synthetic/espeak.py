"""Speaks one text with espeak-ng, with the time of every phoneme. Standard library only.

Run as a program it is one fresh process a text: request in, sound out. espeak-ng draws the noise of its
voices from libc's ``rand`` and keeps its oscillators' phase between texts, so in a long-lived process
the same text sounds different each time; in a new one it is always the same, bit for bit.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class _Id(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    )


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Event))
_SYNCHRONOUS, _PHONEME_EVENTS, _UTF8, _EVENT_PHONEME = 2, 1, 1, 7
_RATE, _PITCH = 1, 3


@dataclass(frozen=True)
class Utterance:
    """``samples`` 16-bit little-endian mono at ``rate`` · ``marks`` (start in ms, symbol) of each phoneme."""

    samples: bytes
    rate: int
    marks: tuple[tuple[int, str], ...]


class EspeakError(Exception):
    """espeak-ng failed; the message gives the reason."""


@functools.lru_cache(maxsize=1)
def library_name() -> str | None:
    """The file name of espeak-ng's library; None when it is not installed."""
    return ctypes.util.find_library("espeak-ng")


def utter(text: str, voice: str, words_per_minute: int, pitch: int) -> Utterance:
    """Speak in a fresh process. Raises EspeakError when the library or its voices are missing."""
    library = library_name()
    if library is None:
        raise EspeakError("its library is not installed")
    request = {
        "library_file": library,
        "text": text,
        "voice": voice,
        "words_per_minute": words_per_minute,
        "pitch": pitch,
    }
    done = subprocess.run(  # noqa: S603 - our own file, our own words
        [sys.executable, "-I", "-S", str(Path(__file__))],
        input=json.dumps(request).encode(),
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise EspeakError(lines[-1] if lines else f"its process ended with {done.returncode}")
    head, _, samples = done.stdout.partition(b"\n")
    values = json.loads(head)
    return Utterance(samples, values["rate"], tuple((at, symbol) for at, symbol in values["marks"]))


def _utter_here(library_file: str, text: str, voice: str, words_per_minute: int, pitch: int) -> Utterance:
    library = ctypes.CDLL(library_file)
    rate = library.espeak_Initialize(_SYNCHRONOUS, 100, None, _PHONEME_EVENTS)
    if rate <= 0:
        raise EspeakError("it finds no voice data (Debian: espeak-ng-data)")
    sound: list[bytes] = []
    marks: list[tuple[int, str]] = []

    def collect(samples: int | None, count: int, events: Any) -> int:
        if samples and count > 0:
            sound.append(ctypes.string_at(samples, 2 * count))
        i = 0
        while events[i].type != 0:
            if events[i].type == _EVENT_PHONEME:
                marks.append((events[i].audio_position, events[i].id.string.decode("ascii", "replace")))
            i += 1
        return 0

    callback = _CALLBACK(collect)
    library.espeak_SetSynthCallback(callback)
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        library.espeak_SetVoiceByName(b"en")
    library.espeak_SetParameter(_RATE, words_per_minute, 0)
    library.espeak_SetParameter(_PITCH, pitch, 0)
    data = text.encode()
    status = library.espeak_Synth(data, ctypes.c_size_t(len(data) + 1), 0, 1, 0, _UTF8, None, None)
    if status != 0 or not sound:
        raise EspeakError(f"it made no sound with voice {voice}")
    return Utterance(b"".join(sound), int(rate), tuple(sorted(marks, key=lambda mark: mark[0])))


def _answer() -> int:
    try:
        spoken = _utter_here(**json.load(sys.stdin))
    except EspeakError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    head = json.dumps({"rate": spoken.rate, "marks": spoken.marks})
    sys.stdout.buffer.write(head.encode() + b"\n" + spoken.samples)
    return 0


if __name__ == "__main__":
    sys.exit(_answer())
