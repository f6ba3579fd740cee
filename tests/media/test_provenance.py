"""Content credentials: made, read back, broken by any change, and never in the way."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import made
from semibody import (
    cli,  # noqa: F401 - registers the commands
    media,
)
from semibody.cli.app import app
from semibody.media import provenance
from semibody.types import MissingPartError, SemibodyError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("c2pa", reason="could not import c2pa (pip install 'semibody[provenance]')")
    monkeypatch.setenv("SEMIBODY_PROVENANCE", "on")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("SEMIBODY_SIGNING_KEY", raising=False)
    media.write_image(tmp_path / "ann.png", made.picture())
    media.write_speech(tmp_path / "hello.wav", made.tone(0.3))
    return tmp_path


def animate(home: Path, name: str = "a.mp4") -> Path:
    made.animator().animate_to(home / name, home / "ann.png", home / "hello.wav", made.gesture(), length=2)
    return home / name


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_clip_says_that_a_model_made_it_and_from_what(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = animate(home)
    found = provenance.read(video)
    assert found is not None
    assert (found.made_by_model, found.intact, found.known) == (True, True, False)
    assert found.sources == {"portrait": sha256(home / "ann.png"), "speech": sha256(home / "hello.wav")}
    assert found.maker.startswith("Semibody ")
    for name in (b"ann.png", b"hello.wav", str(home).encode()):
        assert name not in video.read_bytes(), "names of files are nobody's business"
    assert not [path for path in home.iterdir() if path.name.startswith(".")]

    monkeypatch.setenv("SEMIBODY_PROVENANCE", "off")
    plain = animate(home, "plain.mp4")
    assert provenance.read(plain) is None
    signed, unsigned = media.read_clip(video), media.read_clip(plain)
    np.testing.assert_array_equal(signed.frames, unsigned.frames)
    assert signed.metadata == {**unsigned.metadata, "sources": found.sources}


def test_any_change_shows(home: Path) -> None:
    video = animate(home)
    content = bytearray(video.read_bytes())
    content[content.index(b"mdat") + 100] ^= 1
    video.write_bytes(content)
    found = provenance.read(video)
    assert found is not None
    assert not found.intact
    assert any("mismatch" in one for one in found.failures)
    ended = CliRunner().invoke(app, ["provenance", str(video)])
    assert "NOT as signed" in ended.stdout
    assert "was changed after it was signed" in str(ended.exception)


def test_the_key_is_private_and_made_once(home: Path) -> None:
    animate(home)
    key = provenance.key_path()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = key.read_bytes()
    animate(home, "b.mp4")
    assert key.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n", None])
def test_a_wrong_key_is_named_before_the_work(
    home: Path, content: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = home / "mine.pem"
    monkeypatch.setenv("SEMIBODY_SIGNING_KEY", str(key))
    if content is not None:
        key.write_bytes(content)
    animator = made.animator()

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("the clip was computed")

    monkeypatch.setattr(animator, "denoise", never)
    with pytest.raises(SemibodyError, match=r"mine\.pem: ") as error:
        animator.animate_to(home / "a.mp4", home / "ann.png", home / "hello.wav", made.gesture())
    assert "\n" not in str(error.value)
    assert not (home / "a.mp4").exists()


def test_a_key_without_its_certificates(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [home / "one.pem", home / "two.pem"]
    for path in paths:
        provenance._make_key(path)
    key = paths[0].read_bytes().partition(b"-----BEGIN CERT")[0]
    mixed = home / "mixed.pem"
    mixed.write_bytes(key + b"".join(paths[1].read_bytes().partition(b"-----BEGIN CERT")[1:]))
    monkeypatch.setenv("SEMIBODY_SIGNING_KEY", str(mixed))
    with pytest.raises(SemibodyError, match=r"mixed\.pem: "):
        animate(home)
    assert not (home / "a.mp4").exists()


def test_other_videos_and_containers_have_none(home: Path) -> None:
    assert provenance.read(made.write_video(home / "filmed.mp4")) is None
    animate(home, "a.mkv")
    shown = CliRunner().invoke(app, ["provenance", str(home / "filmed.mp4")])
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.splitlines()[0].split() == ["credentials", "none"]


def test_without_the_extra_the_metadata_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "c2pa", None)
    video = made.write_video(tmp_path / "a.mp4")
    with pytest.raises(MissingPartError, match=r"semibody\[provenance\]"):
        provenance.read(video)
    shown = CliRunner().invoke(app, ["provenance", str(video)])
    assert shown.exit_code == 0, shown.output
    assert "pip install 'semibody[provenance]'" in shown.stdout
    assert "seed" in shown.stdout
