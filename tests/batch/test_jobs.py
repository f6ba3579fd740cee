"""What is to be made: lines are jobs or named, paths are the file's, a key is what decides the video."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import made
from semibody import media
from semibody.batch.jobs import read_jobs, sort_jobs
from semibody.batch.work import identify
from semibody.settings import Settings, Source
from semibody.types import SemibodyError, Speech


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    media.write_image(tmp_path / "ann.png", made.picture())
    media.write_speech(tmp_path / "hello.wav", made.tone(0.3))
    media.write_speech(tmp_path / "nothing.wav", Speech(np.zeros(4800, np.float32), 16000))
    return tmp_path


def write(folder: Path, *jobs: dict[str, Any] | str) -> Path:
    path = folder / "jobs.jsonl"
    lines = [job if isinstance(job, str) else json.dumps(job) for job in jobs]
    path.write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    return path


def job(out: str = "a.mp4", **more: Any) -> dict[str, Any]:
    return {"portrait": "ann.png", "speech": "hello.wav", "gesture": "wave", "out": out, "steps": 1, **more}


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


def test_a_bad_line_leaves_the_others(folder: Path) -> None:
    jobs, bad = sort_jobs(write(folder, job("a.mp4"), "{", job("a.mp4"), job("b.mp4")))
    assert [one.line for one in jobs] == [1, 4]
    assert [one.line for one in bad] == [2, 3]
    assert "jobs.jsonl:2: not JSON" in bad[0].why


def test_paths_are_relative_to_the_file(folder: Path) -> None:
    (folder / "hands").mkdir()
    (read,) = read_jobs(write(folder, job(gesture="hands")))
    assert (read.portrait, read.gesture) == (folder / "ann.png", str(folder / "hands"))
    (read,) = read_jobs(write(folder, job(gesture="wave")))
    assert read.gesture == "wave"
    with pytest.raises(SemibodyError, match="cannot be read"):
        read_jobs(folder / "no.jsonl")


def test_a_table_says_the_same_as_lines_of_json(folder: Path) -> None:
    table = folder / "jobs.csv"
    table.write_text(
        "portrait, speech, out, gesture, steps, frame, guidance, anchor\r\n"
        "ann.png,hello.wav,a.mp4,wave,1,keep,2.5,true\r\n\r\n"
        'ann.png,"hello.wav","b.mp4",,,,,\r\n',
        encoding="utf-8-sig",
    )
    first, second = read_jobs(table)
    (same,) = read_jobs(write(folder, job(frame="keep", guidance=2.5, anchor=True)))
    assert dataclasses.replace(first, line=1) == same
    assert (second.line, second.gesture, second.settings) == (4, "auto", {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty|first row"),
        ("portrait,speech\na,b\n", r"its first row must name portrait, speech \(or say\) and out"),
        ("portrait,speech,out,out\n", "each name once"),
        ("portrait,speech,out\n", "is empty"),
        ("portrait,speech,out\nann.png,hello.wav,a.mp4,7\n", "jobs.csv:2: has 4 cells, the first row 3"),
        ('portrait,speech,out\n"ann.png,hello.wav,a.mp4\n', "jobs.csv:2: not CSV"),
        ("portrait,speech,out,steps\nann.png,hello.wav,a.mp4,x\n", "jobs.csv:2: steps"),
    ],
)
def test_mistakes_in_a_table(folder: Path, text: str, message: str) -> None:
    (folder / "jobs.csv").write_text(text)
    with pytest.raises(SemibodyError, match=message):
        read_jobs(folder / "jobs.csv")


def test_a_key_is_what_decides_the_video(folder: Path, tmp_path: Path) -> None:
    made.weights_folder(tmp_path / "w")
    identity = identify(Source(weights=str(tmp_path / "w")))

    def key(**more: Any) -> str:
        (read,) = read_jobs(write(folder, job(**more)))
        return read.key(identity)

    first = key()
    (folder / "other.png").write_bytes((folder / "ann.png").read_bytes())
    made.official_folder(folder / "hands")
    assert key(portrait="other.png", out="elsewhere.mp4") == first
    assert key(seed=Settings().seed) == first, "the default says nothing"
    with_hands = key(gesture="hands")
    (folder / "hands" / "0.npy").write_bytes((folder / "hands" / "1.npy").read_bytes())
    keys = {first, key(seed=1), key(gesture="beat"), key(speech="nothing.wav"), key(out="a.mkv"), with_hands}
    keys |= {key(gesture="hands")}
    assert len(keys) == 7
    media.write_image(folder / "ann.png", made.picture()[::-1])
    assert key() not in keys


def test_other_weights_are_another_identity(tmp_path: Path) -> None:
    from semibody.networks.loading import save_model

    animator = made.animator()
    save_model(tmp_path / "a", animator.model, animator.info())
    save_model(tmp_path / "b", animator.model, animator.info())
    assert identify(Source(weights=str(tmp_path / "a"))) == identify(Source(weights=str(tmp_path / "b")))
    for parameter in animator.model.pose_encoder.parameters():
        parameter.data *= 1.01
    save_model(tmp_path / "b", animator.model, animator.info())
    assert identify(Source(weights=str(tmp_path / "a"))) != identify(Source(weights=str(tmp_path / "b")))
    with pytest.raises(SemibodyError, match=r"vae\.safetensors: is missing"):
        (tmp_path / "b" / "vae.safetensors").unlink()
        identify(Source(weights=str(tmp_path / "b")))


def test_a_background_is_seen_from_the_files_folder_and_never_overwritten(folder: Path) -> None:
    media.write_image(folder / "beach.png", made.picture())
    (found,) = read_jobs(write(folder, job(background="beach.png")))
    assert found.settings["background"] == str(folder / "beach.png")
    (found,) = read_jobs(write(folder, job(background="#102030")))
    assert found.settings["background"] == "#102030"
    with pytest.raises(SemibodyError, match=r"jobs\.jsonl:1: .*\.mp4 cannot be transparent"):
        read_jobs(write(folder, job(alpha=True)))
    assert read_jobs(write(folder, job("a.webm", alpha=True)))[0].settings["alpha"] is True
