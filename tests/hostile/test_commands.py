"""Commands never write over their inputs, nor over other files without being asked to."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

import made
from cli.test_cli import run
from semibody import media
from semibody.batch.jobs import read_jobs
from semibody.pose.files import save_gesture
from semibody.types import SemibodyError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    media.write_image(tmp_path / "p.png", made.picture())
    made.write_video(tmp_path / "talk.mp4")
    media.write_speech(tmp_path / "talk.wav", made.tone())
    save_gesture(made.gesture(), tmp_path / "g.npz")
    save_gesture(made.gesture(), tmp_path / "talk.npz")
    os.link(tmp_path / "talk.mp4", tmp_path / "hard.mp4")
    (tmp_path / "soft.mp4").symlink_to("talk.mp4")
    return tmp_path


def contents(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("animate p.png talk.mp4 -o talk.mp4", "overwrite"),
        ("animate p.png talk.mp4 -o ./hard.mp4", "overwrite"),
        ("animate p.png talk.mp4 -o soft.mp4", "overwrite"),
        ("check p.png -o p.png", "overwrite"),
        ("check p.png g.npz talk.wav -o talk.wav", "overwrite"),
        ("gesture extract talk.mp4 -o a.npz --preview talk.mp4", "overwrite"),
        ("gesture extract talk.mp4 -o talk.mp4", "overwrite"),
        ("gesture extract talk.mp4", "talk.npz: is there already"),
        ("gesture plan talk.wav", "talk.npz: is there already"),
        ("gesture plan talk.wav -o talk.wav", "overwrite"),
        ("gesture convert g.npz g.npz", "overwrite"),
        ("gesture show g.npz --sound talk.mp4 -o talk.mp4", "overwrite"),
        ("gesture align g.npz p.png -o g.npz", "overwrite"),
    ],
)
def test_no_command_writes_over_its_inputs(
    folder: Path, words: str, message: str, capsys: Any, monkeypatch: Any
) -> None:
    before = contents(folder)
    code, _, err = run(capsys, monkeypatch, *words.split())
    assert (code, contents(folder)) == (2, before), err
    assert message in err
    assert len(err.strip().splitlines()[-1:]) == 1


def test_a_batch_does_not_write_over_its_inputs(folder: Path) -> None:
    job = {"portrait": "p.png", "speech": "talk.mp4", "out": "hard.mp4"}
    (folder / "jobs.jsonl").write_text(json.dumps(job))
    with pytest.raises(SemibodyError, match="would overwrite the input"):
        read_jobs(folder / "jobs.jsonl")


def test_the_library_does_not_write_over_its_inputs(folder: Path) -> None:
    with pytest.raises(SemibodyError, match="would overwrite the input"):
        made.animator().animate_to("soft.mp4", folder / "p.png", folder / "talk.mp4")
