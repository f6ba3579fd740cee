"""Speaks one text with espeak-ng, with the time of every phoneme; lists its voices. Standard library only.

Run as a program it is one fresh process a request: request in, sound or voices out. espeak-ng draws the
noise of its voices from libc's ``rand`` and keeps its oscillators' phase between texts, so in a long-lived
process the same text sounds different each time; in a new one it is always the same, bit for bit.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import importlib.util
import json
import os
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


class _Voice(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_void_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("reserved", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
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


@dataclass(frozen=True)
class Library:
    """espeak-ng's ``file`` and the ``folder`` that holds its voices; None: where the file itself looks."""

    file: str
    folder: str | None = None


@dataclass(frozen=True)
class Listed:
    """A voice of espeak-ng: its ``language`` (en-us), the ``identifier`` that selects it, its ``name``."""

    language: str
    identifier: str
    name: str


@functools.lru_cache(maxsize=1)
def find_library() -> Library | None:
    """The system's espeak-ng, or the one that the package ``espeakng-loader`` holds; None without either."""
    system = ctypes.util.find_library("espeak-ng")
    if system is not None:
        return Library(system)
    package = importlib.util.find_spec("espeakng_loader")
    if package is None or package.origin is None:
        return None
    folder = Path(package.origin).parent
    files = (folder / name for name in ("libespeak-ng.so", "libespeak-ng.dylib", "espeak-ng.dll"))
    return next((Library(str(file), str(folder)) for file in files if file.is_file()), None)


def utter(text: str, voice: str, words_per_minute: int, pitch: int) -> Utterance:
    """Speak in a fresh process; an unknown voice is replaced by an English one.

    Raises EspeakError when the library or its voices are missing.
    """
    request = {"text": text, "voice": voice, "words_per_minute": words_per_minute, "pitch": pitch}
    head, samples = _ask(request)
    return Utterance(samples, head["rate"], tuple((at, symbol) for at, symbol in head["marks"]))


@functools.lru_cache(maxsize=1)
def voices() -> tuple[tuple[Listed, ...], frozenset[str]]:
    """The voices, and the variants (f1, m3, …) that can be added to each: ``en-us+f1``.

    Raises EspeakError when the library or its voices are missing.
    """
    head, _ = _ask({})
    return tuple(Listed(*row) for row in head["voices"]), frozenset(head["variants"])


def _ask(request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """What a fresh process answers: values, and samples."""
    library = find_library()
    if library is None:
        raise EspeakError("its library is not installed")
    done = subprocess.run(  # noqa: S603 - our own file, our own words
        [sys.executable, "-I", "-S", str(Path(__file__))],
        input=json.dumps({"library_file": library.file, **request}).encode(),
        capture_output=True,
        check=False,
        # espeak-ng cuts a long path to its voices, but not one that begins in the working folder.
        cwd=library.folder,
    )
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise EspeakError(lines[-1] if lines else f"its process ended with {done.returncode}")
    head, _, samples = done.stdout.partition(b"\n")
    return json.loads(head), samples


def _open(library_file: str) -> tuple[ctypes.CDLL, int]:
    library = ctypes.CDLL(library_file)
    here = b"." if os.path.isabs(library_file) else None  # noqa: PTH117 - the child imports little
    rate = library.espeak_Initialize(_SYNCHRONOUS, 100, here, _PHONEME_EVENTS)
    if rate <= 0:
        raise EspeakError("it finds no voice data (Debian: espeak-ng-data)")
    return library, int(rate)


def _list_here(library_file: str) -> dict[str, Any]:
    library, _ = _open(library_file)
    library.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))

    def listed(selection: Any) -> list[tuple[str, str, str]]:
        found = library.espeak_ListVoices(selection)
        rows: list[tuple[str, str, str]] = []
        while found[len(rows)]:
            voice = found[len(rows)].contents
            # The first byte of a language is its priority.
            language = ctypes.string_at(voice.languages + 1).decode("utf-8", "replace")
            rows.append((language, voice.identifier.decode(), voice.name.decode("utf-8", "replace")))
        return rows

    # Those of MBROLA need another program and its data.
    spoken = [row for row in listed(None) if not row[1].startswith("mb/")]
    language = ctypes.create_string_buffer(b"variant\0")
    variants = _Voice(languages=ctypes.addressof(language))
    names = [identifier.removeprefix("!v/") for _, identifier, _ in listed(ctypes.byref(variants))]
    return {"voices": spoken, "variants": names}


def _utter_here(library_file: str, text: str, voice: str, words_per_minute: int, pitch: int) -> Utterance:
    library, rate = _open(library_file)
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
    return Utterance(b"".join(sound), rate, tuple(sorted(marks, key=lambda mark: mark[0])))


def _answer() -> int:
    request = json.load(sys.stdin)
    samples = b""
    try:
        if "text" in request:
            spoken = _utter_here(**request)
            head, samples = {"rate": spoken.rate, "marks": spoken.marks}, spoken.samples
        else:
            head = _list_here(**request)
    except (EspeakError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.buffer.write(json.dumps(head).encode() + b"\n" + samples)
    return 0


if __name__ == "__main__":
    sys.exit(_answer())
