"""The benchmark of quality: cases in; clips, tables, page and grid out; again, nothing is made twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import made
from semibody import media, quality
from semibody.pose.files import save_gesture
from semibody.types import SemibodyError


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    cases = []
    for number in range(2):
        made.write_video(tmp_path / f"real{number}.mp4", frames=6, fps=12)
        save_gesture(made.gesture(6, fps=12), tmp_path / f"g{number}.npz")
        cases.append({"id": f"case{number}", "video": f"real{number}.mp4", "gesture": f"g{number}.npz"})
    (tmp_path / "cases.jsonl").write_text("\n".join(map(json.dumps, cases)))
    text = 'cases = "cases.jsonl"\nout = "out"\nmetrics = ["PSNR", "SSIM", "FID"]\n'
    (tmp_path / "bench.toml").write_text(text)
    return tmp_path / "bench.toml"


def test_everything_is_written_and_a_second_run_makes_nothing(recipe: Path) -> None:
    animator = made.animator()
    found = quality.bench_quality(recipe, workers=1, animator=animator)
    out = recipe.parent / "out"
    assert set(found.results) == {"PSNR", "SSIM"}
    assert len(found.results["PSNR"].clips) == 2
    facts = json.loads((out / "results.json").read_text())
    assert facts["recipe"]["weights"] == "official"
    assert "| PSNR ↑ |" in (out / "results.md").read_text()
    assert "FID: not computed" in (out / "results.md").read_text()
    assert (out / "report.html").exists()
    grid = media.read_clip(out / "grid.mp4")
    assert grid.frames.shape[1:3] == (512, 768)  # 2 cases below each other; portrait, generated, real
    stamps = {path: path.stat().st_mtime_ns for path in (out / "clips").glob("*.mp4")}
    quality.bench_quality(recipe, workers=1, animator=None)  # official weights are not here: none are needed
    assert stamps == {path: path.stat().st_mtime_ns for path in (out / "clips").glob("*.mp4")}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ('{"id": "a", "gesture": "g0.npz"}', "a case needs"),
        ('{"id": "a", "gesture": "no.npz", "video": "real0.mp4"}', "does not exist"),
        ("", "lists no case"),
        ('{"id": "a", "gesture": "g0.npz", "video": "real0.mp4"}\n' * 2, "occurs twice"),
    ],
)
def test_mistakes_are_named(recipe: Path, line: str, message: str) -> None:
    (recipe.parent / "cases.jsonl").write_text(line)
    with pytest.raises(SemibodyError, match=message):
        quality.bench_quality(recipe, workers=1, animator=made.animator())


def test_recipes_are_strict(recipe: Path) -> None:
    with pytest.raises(SemibodyError, match="did you mean weights"):
        quality.bench_quality(recipe, overrides=["weight=x"], animator=made.animator())
