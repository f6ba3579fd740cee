"""Many clips from a file: mistakes are found first, a bad clip stops no other, nothing is done twice."""

from __future__ import annotations

import json
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
from semibody.batch import read_jobs
from semibody.cli.app import app
from semibody.types import SemibodyError, Speech


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    media.write_image(tmp_path / "ann.png", made.picture())
    media.write_speech(tmp_path / "hello.wav", made.tone(0.3))
    media.write_speech(tmp_path / "nothing.wav", Speech(np.zeros(4800, np.float32), 16000))
    made.weights_folder(tmp_path / "weights")
    return tmp_path


def write(folder: Path, *jobs: dict[str, Any] | str) -> Path:
    path = folder / "jobs.jsonl"
    lines = [job if isinstance(job, str) else json.dumps(job) for job in jobs]
    path.write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    return path


def job(out: str = "a.mp4", **more: Any) -> dict[str, Any]:
    return {"portrait": "ann.png", "speech": "hello.wav", "gesture": "wave", "out": out, "steps": 1, **more}


def test_a_batch_continues_and_names_what_failed(folder: Path) -> None:
    jobs = write(folder, job("a.mp4", seed=3), job("b.mp4", speech="nothing.wav"), job("c.mp4", length=2))
    command = ["batch", str(jobs), "--weights", str(folder / "weights"), "--quiet"]
    first = CliRunner().invoke(app, command)
    assert isinstance(first.exception, SemibodyError)
    assert "line 2 of 3 failed" in str(first.exception)
    states = [line.split()[0] for line in first.stdout.splitlines()]
    assert states == ["made", "failed", "made"]
    assert media.read_metadata(folder / "a.mp4")["settings"]["seed"] == 3
    assert len(media.read_clip(folder / "c.mp4").frames) == 2
    assert not (folder / "b.mp4").exists()

    write(folder, job("a.mp4", seed=3), job("b.mp4", length=2))
    before = (folder / "a.mp4").stat().st_mtime_ns
    second = CliRunner().invoke(app, command)
    assert second.exit_code == 0, second.output
    assert [line.split()[0] for line in second.stdout.splitlines()] == ["kept", "made"]
    assert (folder / "a.mp4").stat().st_mtime_ns == before
    third = CliRunner().invoke(app, [*command, "--again"])
    assert [line.split()[0] for line in third.stdout.splitlines()] == ["made", "made"]


@pytest.mark.parametrize(
    ("jobs", "message"),
    [
        (['{"portrait": '], "jobs.jsonl:1: not JSON"),
        (["3"], "jobs.jsonl:1: write an object"),
        ([job(), {"portrait": "ann.png"}], "jobs.jsonl:2: speech and out missing"),
        ([job(portrait="bob.png")], "bob.png: no such file"),
        ([job(out="a.gif")], "written as .mp4"),
        ([job(portrait=3)], "portrait must be text"),
        ([job(say="Hello")], "either speech, or say and voice"),
        ([job(voice="en-us")], "either speech, or say and voice"),
        ([{"portrait": "ann.png", "voice": "en-us", "out": "a.mp4"}], "speech missing"),
        ([job(say=3)], "say must be text"),
        ([job(stepz=3)], "unknown setting stepz; did you mean steps"),
        ([job(steps="many")], "steps"),
        ([job(), job()], "jobs.jsonl:2: makes the same video as line 1"),
        ([""], "is empty"),
    ],
)
def test_mistakes_are_found_before_anything_is_made(folder: Path, jobs: list[Any], message: str) -> None:
    with pytest.raises(SemibodyError, match=message):
        read_jobs(write(folder, *jobs))


def test_paths_are_relative_to_the_file(folder: Path) -> None:
    (folder / "hands").mkdir()
    (read,) = read_jobs(write(folder, job(gesture="hands")))
    assert (read.portrait, read.gesture) == (folder / "ann.png", str(folder / "hands"))
    (read,) = read_jobs(write(folder, job(gesture="wave")))
    assert read.gesture == "wave"
    with pytest.raises(SemibodyError, match="cannot be read"):
        read_jobs(folder / "no.jsonl")


def test_a_background_is_seen_from_the_files_folder_and_never_overwritten(folder: Path) -> None:
    media.write_image(folder / "beach.png", made.picture())
    (found,) = read_jobs(write(folder, job(background="beach.png")))
    assert found.settings["background"] == str(folder / "beach.png")
    (found,) = read_jobs(write(folder, job(background="#102030")))
    assert found.settings["background"] == "#102030"
    with pytest.raises(SemibodyError, match=r"jobs\.jsonl:1: .*\.mp4 cannot be transparent"):
        read_jobs(write(folder, job(alpha=True)))
    assert read_jobs(write(folder, job("a.webm", alpha=True)))[0].settings["alpha"] is True
