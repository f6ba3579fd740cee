"""Speech with its lips for what is trained on sound alone, and how it is heard."""

from __future__ import annotations

import numpy as np
import pytest

from semibody.clips.mouth import SHAPES
from semibody.data.synthetic.utterances import Utterance, heard_sound, make_noise, make_utterance
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
