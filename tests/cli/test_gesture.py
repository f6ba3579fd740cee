"""``semibody gesture`` and ``semibody check``, end to end."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import made
from cli.test_cli import run
from semibody import media
from semibody.pose.check import check_gesture
from semibody.pose.files import load_gesture

SHARED = Path(__file__).parents[3] / "shared" / "inputs"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared pictures and clips")


def test_list(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    code, out, _ = run(capsys, monkeypatch, "gesture", "list", "--out", tmp_path / "sheet.png")
    assert code == 0
    assert "wave" in out
    sheet = media.read_image(tmp_path / "sheet.png")
    assert sheet.shape[1] == 6 * 200
    assert sheet.std() > 5


def test_show(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    code, out, _ = run(capsys, monkeypatch, "gesture", "show", "wave", "-o", tmp_path / "w.png")
    assert code == 0
    assert "77 poses" in out
    assert media.read_image(tmp_path / "w.png").std() > 5
    media.write_speech(tmp_path / "s.wav", made.tone(1.0))
    words = (
        "gesture",
        "show",
        "fist",
        "-o",
        tmp_path / "f.mp4",
        "--sound",
        tmp_path / "s.wav",
        "--size",
        128,
    )
    assert run(capsys, monkeypatch, *words)[0] == 0
    clip = media.read_clip(tmp_path / "f.mp4")
    assert clip.frames.shape == (78, 128, 128, 3)
    assert clip.speech is not None


def test_convert_there_and_back(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    steps = ["wave", tmp_path / "a.json", tmp_path / "official", tmp_path / "b.npz"]
    for source, target in itertools.pairwise(steps):
        assert run(capsys, monkeypatch, "gesture", "convert", source, target)[0] == 0
    assert np.allclose(load_gesture(tmp_path / "b.npz").joints, load_gesture(tmp_path / "a.json").joints)
    code, out, _ = run(capsys, monkeypatch, "gesture", "convert", "wave", tmp_path / "c.npz", "--fps", 12)
    assert code == 0
    assert "38 poses at 12 fps" in out


def test_what_is_left_out_of_a_folder_is_reported(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    folder = made.official_folder(tmp_path / "g", 3)
    (folder / "readme.json").write_text("{}")
    code, _, err = run(capsys, monkeypatch, "gesture", "convert", folder, tmp_path / "a.npz")
    assert code == 0
    assert err == f"note: {folder}: readme.json is left out, not poses named 0.npy, 1.npy, …\n"
    lines = [finding.line() for finding in check_gesture(load_gesture(folder))]
    assert f"{folder}: readme.json is left out, not poses named 0.npy, 1.npy, …" in lines


def test_plan(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    media.write_speech(tmp_path / "s.wav", made.tone(2.0))
    code, out, _ = run(capsys, monkeypatch, "gesture", "plan", tmp_path / "s.wav", "--seed", 4)
    assert code == 0
    assert "48 poses" in out
    assert len(load_gesture(tmp_path / "s.npz")) == 48


def test_extract_reports_that_no_person_is_found(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    with media.VideoWriter(tmp_path / "v.mp4", fps=24, width=64, height=64) as writer:
        writer.write(np.stack([made.picture(64, 64)] * 3))
    code, _, err = run(capsys, monkeypatch, "gesture", "extract", tmp_path / "v.mp4", "-q")
    assert code == 2
    assert "no person was found in 3 frames" in err
    assert [p.name for p in tmp_path.iterdir()] == ["v.mp4"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("gesture", "show", "waev"), "neither a file nor one of the gestures"),
        (("gesture", "extract", "none.mp4"), "no such file"),
        (("gesture", "convert", "wave", "out.txt"), "written as"),
        (("gesture", "plan", "none.wav"), "no such file"),
        (("check", "none.png"), "no such file"),
    ],
)
def test_mistakes(words: tuple[str, ...], says: str, tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, monkeypatch, *words)
    assert code == 2
    assert says in err
    assert len(err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_check_of_a_picture_without_people(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    media.write_image(tmp_path / "landscape.png", made.picture(200, 300))
    media.write_speech(tmp_path / "s.wav", made.tone(2.0))
    words = ["check", tmp_path / "landscape.png", "auto", tmp_path / "s.wav"]
    code, out, _ = run(capsys, monkeypatch, *words, "--overlay", tmp_path / "o.png", "--json")
    assert code == 2
    report = json.loads(out)
    assert report["worst"] == "error"
    assert report["findings"][0]["topic"] == "person"
    assert media.read_image(tmp_path / "o.png").shape == (512, 1024, 3)  # the size of the starter's clips
    code, _, err = run(capsys, monkeypatch, *words)
    assert code == 2
    assert "no person was found" in err
    kept = ["--frame", "keep", "--align", "none", "--json"]
    code, out, _ = run(capsys, monkeypatch, *words, *kept)
    assert code == 0
    assert json.loads(out)["findings"][0]["topic"] == "person"
    assert run(capsys, monkeypatch, *words, *kept, "--strict")[0] == 2


@needs_shared
def test_check_of_portraits(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    portrait, speech = SHARED / "portraits" / "demo_0014.png", SHARED / "speech" / "good.wav"
    code, out, _ = run(capsys, monkeypatch, "check", portrait, "salute", speech, "--size", "512x768")
    assert code == 0
    assert "gesture aligned by the shoulders" in out
    handless = SHARED / "portraits" / "emtd_man_0170.png"
    _, out, _ = run(capsys, monkeypatch, "check", handless)
    assert "shows no hands" in out
    two = np.concatenate([media.read_image(portrait), media.read_image(handless)], axis=1)
    media.write_image(tmp_path / "two.png", two)
    _, out, _ = run(capsys, monkeypatch, "check", tmp_path / "two.png")
    assert "2 people" in out


@needs_shared
def test_align(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    portrait = SHARED / "portraits" / "emtd_man_0056.png"
    words = ("gesture", "align", "beat", portrait, "-o", tmp_path / "a.npz")
    code, out, _ = run(capsys, monkeypatch, *words)
    assert code == 0
    assert "scaled" in out
    assert len(load_gesture(tmp_path / "a.npz")) > 0
    shown = ("gesture", "show", "beat", "--portrait", portrait, "-o", tmp_path / "a.png")
    assert run(capsys, monkeypatch, *shown)[0] == 0


@needs_shared
@pytest.mark.slow
def test_extract(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    clip = SHARED / "clips" / "desk_host_two_hands_30fps.mp4"
    words = ("gesture", "extract", clip, "-o", tmp_path / "g.npz", "--preview", tmp_path / "g.mp4", "-q")
    code, out, _ = run(capsys, monkeypatch, *words)
    assert code == 0
    assert "85 poses" in out
    gesture = load_gesture(tmp_path / "g.npz")
    assert gesture.aspect == 1.0
    assert media.read_clip(tmp_path / "g.mp4").frames.shape[0] == 85
    assert sorted(p.name for p in tmp_path.iterdir()) == ["g.mp4", "g.npz"]
