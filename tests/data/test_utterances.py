"""Speech with its lips for what is trained on sound alone, and how it is heard."""

from __future__ import annotations

import numpy as np
import pytest

from semibody.clips.mouth import SHAPES
from semibody.data.synthetic.utterances import (
    Utterance,
    heard_sound,
    make_noise,
    make_song,
    make_utterance,
    sing,
)
from semibody.voices import espeak

needs_espeak = pytest.mark.skipif(espeak.find_library() is None, reason="espeak-ng is not installed")
JAW, PRESS = SHAPES.index("jaw"), SHAPES.index("press")


def made(rows: int = 400) -> Utterance:
    """A tone for two of four seconds, during which the mouth is open."""
    power, mouth = np.full((rows, 80), 1e-6, np.float32), np.zeros((rows, 6), np.float32)
    power[100:300, 20:24] = 1.0
    mouth[100:300, JAW] = 1.0
    return Utterance(power, mouth)


@needs_espeak
def test_an_utterance_is_the_same_again_and_its_lips_close_and_open() -> None:
    first, again = (make_utterance(np.random.default_rng(4), 3.0, held_out=False) for _ in range(2))
    assert (first.power == again.power).all()
    assert (first.mouth == again.mouth).all()
    assert len(first.power) == len(first.mouth) <= 300
    assert first.mouth[:, JAW].max() > 0.2
    assert first.mouth.min() >= 0
    assert first.mouth.max() <= 1
    other = make_utterance(np.random.default_rng(4), 3.0, held_out=True)
    assert other.power.shape != first.power.shape or (other.power != first.power).any()


@pytest.mark.parametrize("seed", range(6))
def test_the_mouth_stays_with_its_sound_however_it_is_heard(seed: int) -> None:
    rng = np.random.default_rng(seed)
    quiet = np.full((300, 80), 1e-9, np.float32)
    power, mouth = heard_sound(rng, made(), quiet, 320)
    assert power.shape == (320, 80)
    assert (power >= 0).all()
    opened = mouth[:, JAW] > 0.5
    if not opened.any():  # one of eight samples hears nobody
        return
    loud = power.sum(axis=1)
    assert np.median(loud[opened]) > 1.5 * np.median(loud[mouth[:, JAW] < 0.1])


def test_in_some_samples_nobody_speaks() -> None:
    rng = np.random.default_rng(0)
    silent = [heard_sound(rng, made(), np.ones((300, 80), np.float32), 320)[1].max() == 0 for _ in range(300)]
    assert 0.05 < np.mean(silent) < 0.25


def test_noises_differ_and_are_heard() -> None:
    rng = np.random.default_rng(0)
    noises = [make_noise(rng, 2.0) for _ in range(8)]
    assert all(noise.shape == (200, 80) and noise.max() > 1e-6 for noise in noises)
    levels = [np.log10(noise.mean(axis=0) + 1e-9) for noise in noises]
    assert min(np.abs(a - b).max() for a in levels for b in levels if a is not b) > 0.1


@pytest.mark.parametrize("formants", [(800, 1200, 2600), (290, 2250, 3000)])
def test_a_sung_note_has_its_pitch_and_the_resonances_of_its_vowel(
    formants: tuple[int, int, int],
) -> None:
    note = sing(np.random.default_rng(1), formants, 200.0, 2.0)
    spectrum = np.abs(np.fft.rfft(note * np.hanning(len(note)))) ** 2
    hertz = np.fft.rfftfreq(len(note), 1 / 16000)

    def power(low: float, high: float) -> float:
        return float(spectrum[(hertz >= low) & (hertz < high)].sum())

    between = sum(power(200 * n + 70, 200 * n + 130) for n in range(1, 15))
    at = sum(power(200 * n - 30, 200 * n + 30) for n in range(1, 16))
    assert at > 5 * between
    # The second resonance stands out against the valley before it.
    middle = (formants[0] + formants[1]) / 2 if formants[1] > 2 * formants[0] else 1700
    assert power(formants[1] - 120, formants[1] + 120) > 4 * power(middle - 120, middle + 120)


def test_a_song_holds_its_vowels_and_shuts_for_an_m() -> None:
    songs = [make_song(np.random.default_rng(seed), 6.0, articulation=1.8) for seed in range(6)]
    for song in songs:
        assert song.power.shape == (len(song.mouth), 80)
        assert song.mouth.min() >= 0
        assert song.mouth.max() <= 1
    lips = np.concatenate([song.mouth for song in songs])
    loud = np.concatenate([song.power.sum(axis=1) for song in songs])
    sounding = loud > 0.01 * np.quantile(loud, 0.9)
    assert np.median(lips[sounding, JAW]) > 0.3
    assert (lips[:, PRESS] > 0.7).any()
    # Within a note lips stay as they are, whatever its vibrato.
    assert np.median(np.abs(np.diff(lips[:, JAW]))) < 1e-3
