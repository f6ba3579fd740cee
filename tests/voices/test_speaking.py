"""A text is spoken by a voice of this machine; without one, or with a bad text, the remedy is named."""

from __future__ import annotations

import ctypes.util
import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import made
from cli.test_cli import run
from semibody import media
from semibody.batch import read_jobs, run_jobs
from semibody.inputs import choose_speech
from semibody.settings import Words
from semibody.types import RATE, MissingPartError, SemibodyError, Speech
from semibody.voices import espeak, speaking
from semibody.voices.speaking import Spoken, say

needs_espeak = pytest.mark.skipif(espeak.find_library() is None, reason="espeak-ng is not installed")


@pytest.fixture
def fresh() -> Iterator[None]:
    """What was found on this machine is forgotten before and after."""
    kept = (espeak.find_library, espeak.voices)
    for cached in kept:
        cached.cache_clear()
    yield
    for cached in kept:
        cached.cache_clear()


@needs_espeak
def test_a_longer_text_is_a_longer_recording_with_every_phoneme_in_it() -> None:
    short, long = say("Good morning."), say("Good morning, everybody, and thank you for coming.")
    for spoken in (short, long):
        assert spoken.speech.rate == RATE
        assert 0.1 < np.abs(spoken.speech.waveform).max() <= 1
        starts = [start for start, _, _ in spoken.phonemes]
        assert starts == sorted(starts)
        assert spoken.phonemes[-1][1] == pytest.approx(spoken.speech.seconds)
    assert 0.4 < short.speech.seconds < 0.6 * long.speech.seconds
    assert len(long.phonemes) > 2 * len(short.phonemes)


@needs_espeak
def test_the_same_text_sounds_the_same_and_another_voice_sounds_different() -> None:
    first, again = say("Hello there", "en-us"), say("Hello there", "en-us")
    assert np.array_equal(first.speech.waveform, again.speech.waveform)
    for voice in ("en-us+f3", "de", "en-gb"):
        other = say("Hello there", voice).speech.waveform
        assert not np.array_equal(other, first.speech.waveform), voice


@needs_espeak
def test_a_language_alone_is_spoken_as_in_its_usual_country() -> None:
    assert say("hello", "EN").voice == say("hello", "en-us").voice
    assert say("bonjour", "fr").voice == say("bonjour", "fr-fr").voice


@needs_espeak
def test_every_listed_voice_is_found() -> None:
    names = [voice.name for voice in speaking.installed()]
    assert len(names) > 50
    assert "en-us" in names
    for name in names:
        speaking._find_voice(name)
    assert {"f1", "m1"} <= set(speaking.variants())


@needs_espeak
@pytest.mark.parametrize(
    ("voice", "near"),
    [
        ("en-uk", "en-us"),
        ("en-us+zzz", "en-us"),
        ("de+", "de"),
        ("../../x", ""),
        ("", "empty"),
        ("x" * 999, ""),
    ],
)
def test_an_unknown_voice_is_refused_and_the_nearest_named(voice: str, near: str) -> None:
    with pytest.raises(SemibodyError, match=r"--voice .*unknown.*semibody say --voices") as caught:
        say("Hello", voice)
    assert near in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("text", ["", "  \n\t ", "\0\0", "\ud800"])
def test_an_empty_text_is_refused(text: str) -> None:
    with pytest.raises(SemibodyError, match="text is empty"):
        say(text)


@needs_espeak
@pytest.mark.parametrize("text", ["...", "-", "?!"])
def test_a_text_without_words_is_refused(text: str) -> None:
    with pytest.raises(SemibodyError, match="nothing in it can be spoken"):
        say(text)


def test_a_text_that_is_too_long_is_refused_at_once() -> None:
    with pytest.raises(SemibodyError, match="100000 characters; give at most 10000"):
        say("a" * 100_000)


@needs_espeak
def test_control_characters_and_markup_end_nothing() -> None:
    whole = say("Hello my dear friends").speech.seconds
    assert say("Hello\0 my\n dear \x1b friends").speech.seconds == pytest.approx(whole, rel=0.1)
    assert say("<speak>Hello</speak> my dear friends").speech.seconds > whole


@pytest.mark.usefixtures("fresh")
def test_without_a_voice_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes.util, "find_library", lambda _: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert speaking.installed() == []
    with pytest.raises(MissingPartError, match=r"pip install 'semibody\[voice\]'.*apt install espeak-ng"):
        say("Hello")


@pytest.mark.usefixtures("fresh")
def test_the_library_of_the_package_speaks_without_the_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("espeakng_loader") is None:
        pytest.skip("the extra voice is not installed")
    monkeypatch.setattr(ctypes.util, "find_library", lambda _: None)
    found = espeak.find_library()
    assert found is not None
    assert found.folder is not None
    assert say("Good morning, everybody").speech.seconds > 0.8


@pytest.mark.usefixtures("fresh")
def test_flite_speaks_where_there_is_no_espeak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(espeak, "find_library", lambda: None)
    media.write_speech(tmp_path / "sound.wav", made.tone(0.5))
    program = tmp_path / "flite"
    program.write_text(
        "#!/bin/sh\n"
        'if [ "$1" = -lv ]; then echo "Voices available: kal slt"; exit; fi\n'
        f'for last; do :; done; cp "{tmp_path / "sound.wav"}" "$last"; echo "pau:0.1 hh:0.2 ay:0.5"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert [voice.name for voice in speaking.installed()] == ["kal", "slt"]
    spoken = say("-o hi", "slt")
    assert spoken.voice == "flite slt"
    assert spoken.phonemes == ((0.0, 0.1, ""), (0.1, 0.2, "h"), (0.2, 0.5, "a"))
    assert say("hi").voice == "flite kal"
    with pytest.raises(SemibodyError, match="--voice https://x is unknown"):
        say("hi", "https://x")


# -- where a text may stand for a recording --------------------------------------------------


@pytest.fixture
def spoken(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
    """Who said what; a tone stands for it."""
    calls = []

    def record(text: str, voice: str | None = None) -> Spoken:
        calls.append((text, voice))
        return Spoken(made.tone(0.5), (), voice or "", text)

    monkeypatch.setattr("semibody.inputs.say", record)
    return calls


def test_a_recording_or_words_and_not_both(spoken: list[tuple[str, str | None]]) -> None:
    assert choose_speech("a.wav", Words()) == "a.wav"
    assert choose_speech(None, Words()) is None
    assert isinstance(choose_speech(None, Words(say="Hi", voice="de")), Speech)
    assert spoken == [("Hi", "de")]
    with pytest.raises(SemibodyError, match=r"a\.wav: give either a recording or --say"):
        choose_speech("a.wav", Words(say="Hi"))
    with pytest.raises(SemibodyError, match="add --say"):
        choose_speech("a.wav", Words(voice="de"))


def test_animate_and_check_speak(
    spoken: list[tuple[str, str | None]], tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    media.write_image(tmp_path / "ann.png", made.picture())
    weights, out = made.weights_folder(tmp_path / "w"), tmp_path / "a.mp4"
    command = ["animate", tmp_path / "ann.png", "--say", "Hello you", "--voice", "en-gb", "-w", weights]
    keep = ["--frame", "keep", "--align", "none"]
    code, _, err = run(capsys, monkeypatch, *command, "-g", "wave", "-o", out, *keep)
    assert code == 0, err
    clip = media.read_clip(out)
    assert clip.speech is not None
    assert np.abs(clip.speech.waveform).max() > 0.1
    code, shown, err = run(
        capsys, monkeypatch, "check", tmp_path / "ann.png", "wave", "--say", "Hello you", "-w", weights, *keep
    )
    assert code == 0, err
    assert "speech" in shown
    assert spoken == [("Hello you", "en-gb"), ("Hello you", None)]


def test_a_line_of_a_batch_speaks(spoken: list[tuple[str, str | None]], tmp_path: Path) -> None:
    media.write_image(tmp_path / "ann.png", made.picture())
    line = '{"portrait": "ann.png", "say": "Bye", "voice": "de", "gesture": "wave", "out": "a.mp4"}'
    (tmp_path / "jobs.jsonl").write_text(line)
    (result,) = run_jobs(made.animator(), read_jobs(tmp_path / "jobs.jsonl"))
    assert result.state == "made", result.notices
    assert spoken == [("Bye", "de")]
    assert len(media.read_clip(tmp_path / "a.mp4").frames) > 1


@needs_espeak
def test_say_writes_what_animate_would_speak(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    target = tmp_path / "hello.wav"
    code, out, err = run(capsys, monkeypatch, "say", "Hello you", "--voice", "en-us", "-o", target)
    assert code == 0, err
    assert "hello.wav" in out
    written, direct = media.read_speech(target), say("Hello you", "en-us").speech
    assert np.abs(written.waveform - direct.waveform).max() < 1e-4
    code, out, _ = run(capsys, monkeypatch, "say", "--voices")
    assert code == 0
    assert "en-us" in out
