"""How often planned strokes meet stressed syllables, on speech whose stress is known.

    python benchmarks/strokes.py            # needs Debian's espeak-ng

Sentences with emphasised words are spoken by espeak-ng in four voices; it says when each phoneme
begins. Planned are the library's strokes, and those of a portrait with raised hands. A stroke hits when
it ends within 80 ms of the vowel of an emphasised word. Words that nobody marked are stressed too in
natural speech, so the share found is a lower bound.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import json
from typing import Any

import numpy as np

from semibody.pose.anchor import plan_anchored
from semibody.pose.library import find_gesture
from semibody.pose.plan import plan_gesture
from semibody.types import Speech

SENTENCES = (
    "I think that *dogs are the *best of them all, and you would *see it if you *came to my house.",
    "There is a *plan for the *town that we have *made, and it will be *done by the end of the *year.",
    "When we *talk about the *light of a *star, we should *know that it is *old.",
    "It was the *first of the *three, but it was not the *last that we *heard of.",
    "You can *take it or *leave it, for it is all the *same to the rest of us.",
    "We *went to the *shop for some *bread and we came *back with a *cake.",
)
VOICES = (("en-us", 165, 50), ("en-gb", 150, 35), ("en-us+f3", 175, 60), ("en-us+m3", 140, 30))
VOWELS = "aeiouɑɛɪʊʌɔəæɐɜøyɒɚ"
NEAR = 0.08
MARK, PHONEME = 3, 7
RETRIEVAL, EVENTS, UTF8_SSML = 2, 1, 0x11


class _Id(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int), ("unique", ctypes.c_uint), ("text", ctypes.c_int), ("length", ctypes.c_int),
        ("milliseconds", ctypes.c_int), ("sample", ctypes.c_int), ("user", ctypes.c_void_p), ("id", _Id),
    ]  # fmt: skip


def speak(library: Any, rate: int, text: str, voice: str, speed: int, pitch: int) -> tuple[Speech, list[Any]]:
    """The sound, and events (kind, seconds, name)."""
    parts: list[Any] = []
    events: list[Any] = []
    kind = ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
    )

    def receive(wave: Any, count: int, event: Any) -> int:
        if wave and count > 0:
            parts.append(np.ctypeslib.as_array(wave, (count,)).copy())
        i = 0
        while event[i].type:
            name = event[i].id.name if event[i].type == MARK else event[i].id.string
            if event[i].type in (MARK, PHONEME):
                events.append((event[i].type, event[i].milliseconds / 1000, name.decode("utf8", "ignore")))
            i += 1
        return 0

    callback = kind(receive)
    library.espeak_SetSynthCallback(callback)
    library.espeak_SetVoiceByName(voice.encode())
    library.espeak_SetParameter(1, speed, 0)
    library.espeak_SetParameter(3, pitch, 0)
    data = text.encode()
    library.espeak_Synth(data, len(data) + 1, 0, 1, 0, UTF8_SSML, None, None)
    return Speech(np.concatenate(parts).astype(np.float32) / 32768, rate), events


def marked(sentence: str) -> str:
    first, *rest = sentence.split("*")
    made = first
    for number, part in enumerate(rest):
        word, _, after = part.partition(" ")
        made += f'<mark name="{number}"/><emphasis level="strong">{word}</emphasis> {after}'
    return made


def stressed_vowels(events: list[Any]) -> list[tuple[float, float]]:
    """(start, end) of the first vowel after each mark."""
    found, waiting = [], False
    for number, (kind, start, name) in enumerate(events):
        if kind == MARK:
            waiting = True
        elif waiting and name and name[0] in VOWELS:
            later = [time for k, time, _ in events[number + 1 :] if k == PHONEME and time > start]
            found.append((start, later[0] if later else start + 0.15))
            waiting = False
    return found


def main() -> None:
    library = ctypes.CDLL(ctypes.util.find_library("espeak-ng") or "libespeak-ng.so.1")
    rate = library.espeak_Initialize(RETRIEVAL, 500, None, EVENTS | 2)
    portrait = find_gesture("beat")[24]
    spoken = [
        (seed, *speak(library, rate, marked(sentence), *voice))
        for voice in VOICES
        for seed, sentence in enumerate(SENTENCES)
    ]
    for way in ("library", "portrait"):
        strokes = hits = vowels = met = 0
        for seed, speech, events in spoken:
            truth = stressed_vowels(events)
            own = way == "portrait"
            plan = plan_anchored(speech, portrait, seed=seed) if own else plan_gesture(speech, seed=seed)
            times = [stroke.time for stroke in plan.strokes]
            strokes += len(times)
            hits += sum(min(max(a - t, t - b, 0.0) for a, b in truth) <= NEAR for t in times)
            vowels += len(truth)
            met += sum(any(a - NEAR <= t <= b + NEAR for t in times) for a, b in truth)
        print(json.dumps({"strokes of": way, "strokes": strokes, "on_stress": round(hits / strokes, 3),
                          "stressed": vowels, "with_stroke": round(met / vowels, 3)}))  # fmt: skip


if __name__ == "__main__":
    main()
