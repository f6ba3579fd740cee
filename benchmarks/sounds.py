"""What the lips do to sounds that are no plain speech, as one JSON line a kind.

    python benchmarks/sounds.py
    python benchmarks/sounds.py --weights OTHER --music song.wav

Made here, ``--number`` of each kind, 4 s each, half a second of silence before and after: music, noise, hum
and knocks; vowels sung by a low, a middle and a high voice with vibrato; sentences (espeak-ng, voices that
nothing is trained on) as they are, 20 dB louder and clipped, shouted at a high pitch, whispered, and in
languages that nothing is trained on. ``open``: mean opening of the lips, 0..1, while it sounds; ``change``:
its mean change from frame to frame at 24 a second; ``open_frames``: share of frames whose lips are apart;
``silence``: the mean opening until 0.3 s before it and from 0.3 s after it; ``jaw_r``: of sentences,
correlation with the true jaw.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from semibody.animator import Animator
from semibody.clips.mouth import SHAPES, correlation
from semibody.conditioning.lips import apart
from semibody.data.synthetic.speech import mouth_track
from semibody.data.synthetic.utterances import FORMANTS, NOISES, sing
from semibody.media import read_speech
from semibody.networks.audio_encoders import audible
from semibody.types import RATE, Speech
from semibody.voices import espeak
from semibody.voices.speaking import Spoken, by_espeak

Wave = NDArray[np.float32]

FPS, SECONDS, PAUSE = 24.0, 4.0, 0.5
AFTER = 0.3
"""seconds from which on lips should rest before a sound, and after it"""
PARTED = 0.05
VOICES = {"low": 120.0, "middle": 230.0, "high": 440.0}
TEXT = "We open fifty blue boxes before summer, and my friends remember the warm room above the river."
OTHER_LANGUAGES = {
    "el": "Σήμερα ο καιρός είναι πολύ καλός και πάμε όλοι μαζί στη θάλασσα.",
    "hi": "आज मौसम बहुत अच्छा है और हम सब मिलकर बाज़ार जा रहे हैं।",
    "da": "Vi bor i et blåt hus ved vandet, og om sommeren spiser vi ude.",
    "vi": "Hôm nay trời đẹp và chúng tôi cùng nhau đi ra biển.",
}


@dataclass(frozen=True)
class Sound:
    """A sound between two pauses; ``spoken`` where the lips are known."""

    wave: Wave
    spoken: Spoken | None = None


def sounds(number: int) -> Iterator[tuple[str, Sound]]:
    """Each with the name of its kind."""
    for name, make in NOISES.items():
        for n in range(number):
            yield name, Sound(between_pauses(make(np.random.default_rng([n, 1]), SECONDS)))
    vowels = [name for name in FORMANTS if name != "m"]
    for voice, hertz in VOICES.items():
        for n in range(number):
            rng, vowel = np.random.default_rng([n, 2]), vowels[n % len(vowels)]
            yield f"sung, {voice} voice", Sound(between_pauses(sing(rng, FORMANTS[vowel], hertz, SECONDS)))
    if espeak.find_library() is None:
        return
    variants = ("f4", "m5", "klatt3", "Andrea", "Michael", "norbert")
    for n in range(number):
        voice = f"en-us+{variants[n % len(variants)]}"
        plain = by_espeak(TEXT, voice, 150, 50)
        yield "speech", of_speech(plain)
        yield "speech, 20 dB louder and clipped", of_speech(plain, louder=10.0)
        yield "shouted", of_speech(by_espeak(TEXT, voice, 140, 95), louder=10.0)
        yield "whispered", of_speech(by_espeak(TEXT, "en-us+whisper" + "f" * (n % 2), 150, 50))
        language = list(OTHER_LANGUAGES)[n % len(OTHER_LANGUAGES)]
        yield (
            "other languages",
            of_speech(
                by_espeak(OTHER_LANGUAGES[language], f"{language}+{variants[n % len(variants)]}", 150, 50)
            ),
        )


def between_pauses(wave: NDArray[Any]) -> Wave:
    """As loud as a recording, with silence before and after."""
    silence = np.zeros(round(PAUSE * RATE), np.float32)
    level = 0.3 / max(float(np.abs(wave).max()), 1e-6)
    return np.concatenate([silence, level * wave.astype(np.float32), silence])


def of_speech(spoken: Spoken, louder: float = 1.0) -> Sound:
    """The first seconds of what is spoken."""
    wave = between_pauses(spoken.speech.waveform[: round(SECONDS * RATE)])
    moved = tuple((a + PAUSE, b + PAUSE, s) for a, b, s in spoken.phonemes if b < SECONDS)
    return Sound((louder * wave).clip(-1, 1), Spoken(Speech(wave, RATE), moved, spoken.voice, spoken.text))


def lips_of(model: Any, wave: Wave) -> NDArray[np.float32]:
    """(f, 6) shapes at 24 frames a second."""
    with torch.inference_mode():
        rows = model.audio_encoder.rows(audible(torch.from_numpy(wave)))
        frames = torch.arange(int(len(wave) / RATE * FPS))
        shapes = model.lips(model.lips.windows(rows, frames, FPS))
    return np.asarray(shapes.float().cpu().numpy())


def measure(model: Any, sound: Sound) -> dict[str, float]:
    shapes = lips_of(model, sound.wave)
    gap = apart(shapes)
    first, last = round(PAUSE * FPS), len(gap) - round(PAUSE * FPS)
    rest = round((PAUSE - AFTER) * FPS)
    found = {
        "open": float(gap[first:last].mean()),
        "change": float(np.abs(np.diff(gap[first:last])).mean()),
        "open_frames": float((gap[first:last] > PARTED).mean()),
        "silence": float(np.concatenate([gap[:rest], gap[-rest:]]).mean()),
    }
    if sound.spoken is not None:
        jaw = SHAPES.index("jaw")
        truth = mouth_track(sound.spoken, len(shapes), FPS)
        found["jaw_r"] = correlation(shapes[:, jaw], truth[:, jaw])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="starter")
    parser.add_argument("--number", type=int, default=6)
    parser.add_argument("--music", type=Path, action="append", default=[])
    arguments = parser.parse_args()
    model = Animator.load(arguments.weights).model
    found: dict[str, list[dict[str, float]]] = {}
    for name, sound in sounds(arguments.number):
        found.setdefault(name, []).append(measure(model, sound))
    for path in arguments.music:
        found[path.name] = [measure(model, Sound(between_pauses(read_speech(path).waveform)))]
    for name, rows in found.items():
        means = {key: round(float(np.mean([row[key] for row in rows])), 3) for key in rows[0]}
        print(json.dumps({"sound": name, "number": len(rows), **means}))


if __name__ == "__main__":
    main()
