"""Many clips by several workers: results of all, none twice, a stopped batch continues."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import batch as bench
import made
from semibody import (
    Job,
    animate_many,
    cli,  # noqa: F401 - registers the commands
    media,
)
from semibody.batch import many
from semibody.batch.work import load_once
from semibody.cli.app import app
from semibody.types import MissingPartError, SemibodyError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    media.write_image(tmp_path / "ann.png", made.picture())
    media.write_speech(tmp_path / "hello.wav", made.tone(0.3))
    media.write_speech(tmp_path / "nothing.wav", made.tone(0.3, hertz=0))
    made.weights_folder(tmp_path / "weights")
    return tmp_path


def write(folder: Path, *jobs: dict[str, Any] | str) -> Path:
    path = folder / "jobs.jsonl"
    path.write_text("\n".join(one if isinstance(one, str) else json.dumps(one) for one in jobs))
    return path


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are called here, which takes seconds less; the slow tests start real ones."""

    def call(function: Any, calls: Any, *_: Any, **__: Any) -> Any:
        load_once.cache_clear()
        return (function(*one) for one in calls)

    monkeypatch.setattr(many, "run_jobs", call)
    monkeypatch.setattr("torch.set_num_threads", lambda _: None)


def job(out: str, **more: Any) -> dict[str, Any]:
    return {"portrait": "ann.png", "speech": "hello.wav", "gesture": "wave", "out": out, "steps": 1, **more}


@pytest.mark.usefixtures("in_this_process")
def test_a_batch_continues_and_names_what_failed(folder: Path) -> None:
    silent, cut = job("b.mp4", speech="nothing.wav"), job("c.mp4", length=2)
    jobs = write(folder, job("a.mp4", seed=3), silent, cut, "{")
    command = ["batch", str(jobs), "--weights", str(folder / "weights"), "--quiet"]
    first = CliRunner().invoke(app, [*command, "--workers", "2"])
    assert isinstance(first.exception, SemibodyError)
    assert "lines 2, 4 of 4 failed" in str(first.exception)
    states = sorted(line.split()[0] for line in first.stdout.split("\n\n")[0].splitlines())
    assert states == ["failed", "failed", "made", "made"]
    table = dict(line.split(maxsplit=1) for line in first.stdout.split("\n\n")[1].splitlines()[:3])
    assert table == {"made": "2", "kept": "0", "failed": "2"}
    assert media.read_metadata(folder / "a.mp4")["settings"]["seed"] == 3
    assert len(media.read_clip(folder / "c.mp4").frames) == 2
    assert not (folder / "b.mp4").exists()

    write(folder, job("a.mp4", seed=3), job("c.mp4", length=3))
    before = (folder / "a.mp4").stat().st_mtime_ns
    second = CliRunner().invoke(app, command)
    assert second.exit_code == 0, second.output
    assert [line.split()[0] for line in second.stdout.splitlines()[:2]] == ["kept", "made"]
    assert (folder / "a.mp4").stat().st_mtime_ns == before
    assert len(media.read_clip(folder / "c.mp4").frames) == 3, "made from other things, it is made anew"


def test_what_befalls_every_job_raises(folder: Path) -> None:
    one = Job(portrait=folder / "ann.png", speech=folder / "hello.wav", out=folder / "a.mp4")
    with pytest.raises(SemibodyError, match=r"a\.mp4: is the video of two jobs"):
        animate_many([one, Job(portrait=one.portrait, speech=one.speech, out=one.out, gesture="wave")])
    with pytest.raises(SemibodyError, match="animate_many: unknown setting wrokers; did you mean workers"):
        animate_many([one], wrokers=2)
    with pytest.raises(SemibodyError, match="no-weights"):
        list(animate_many([one], str(folder / "no-weights")))
    assert not one.out.exists()


def test_an_input_that_is_gone_fails_alone(folder: Path) -> None:
    gone, speech = folder / "gone.png", folder / "hello.wav"
    jobs = [Job(portrait=gone, speech=speech, out=folder / f"{name}.mp4") for name in "ab"]
    results = list(animate_many(jobs, str(folder / "weights")))
    assert [one.state for one in results] == ["failed", "failed"]
    assert "gone.png: cannot be read" in results[0].notices[0]


def test_ray_that_is_not_installed_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    jobs = write(folder, job("a.mp4"))
    with pytest.raises(MissingPartError, match=r"pip install 'semibody\[cluster\]'"):
        list(animate_many(jobs, str(folder / "weights"), ray="local"))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_kill_in_the_middle_loses_nothing(tmp_path: Path) -> None:
    made.weights_folder(tmp_path / "weights")
    jobs, bad = bench.write_jobs(tmp_path, 20, "videos", every=4)
    done = bench.run(jobs, 6, "--workers", "2", "--weights", str(tmp_path / "weights"))
    assert (done["videos"], done["failed names"], done["twice"], done["left over"]) == (15, bad, 0, 0)
    assert done["there at the kill"] >= 6
    assert done["made"] == 15 - done["kept"]
    assert (done["kept"], done["exit code"]) == (done["there at the kill"], 2)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ray_makes_the_same_bytes(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="could not import ray (pip install 'semibody[cluster]')")
    made.weights_folder(tmp_path / "weights")
    weights = ("--workers", "2", "--weights", str(tmp_path / "weights"))
    here, bad = bench.write_jobs(tmp_path, 10, "here", every=2)
    there, _ = bench.write_jobs(tmp_path, 10, "there", every=2)
    local = bench.run(here, None, *weights)
    ray = bench.run(there, 2, *weights, "--ray", "local")
    assert local["failed names"] == ray["failed names"] == bad
    assert (ray["videos"], ray["twice"], ray["left over"]) == (5, 0, 0)
    assert ray["bytes"] == local["bytes"]
