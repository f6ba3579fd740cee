"""A folder of pictures becomes clips, values, tables and a sheet; again, nothing is made twice."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import made
from semibody import config, media, quality
from semibody.cli.app import app
from semibody.evaluation.faces import Face
from semibody.quality import photographs
from semibody.quality.bench import bundled
from semibody.quality.likeness import LIKENESSES, Observer
from semibody.types import Picture, Pose, SemibodyError

POSE = made.gesture(1)[0]


class Detector:
    """Finds the same pose everywhere."""

    name = "told"

    def people(self, image: Picture) -> list[Pose]:
        return [POSE]

    def follow(self, image: Picture, last: Pose) -> Pose | None:
        return POSE

    def close(self) -> None: ...

    def __enter__(self) -> Detector:
        return self

    def __exit__(self, *_: object) -> None: ...


class Finder:
    name = "told"

    def find(self, picture: Picture) -> Face | None:
        return Face(np.zeros((468, 2)), None)

    def close(self) -> None: ...


class Embedder:
    name = "told"

    def embed(self, picture: Picture, face: Face) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        return np.linspace(-1, 1, 128, dtype=np.float32) + picture.mean(dtype=np.float32) / 255


def observer() -> Observer:
    return Observer(Detector(), Finder(), Embedder())


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("semibody.inputs.shared_detector", Detector)
    (tmp_path / "faces").mkdir()
    for number in range(2):
        media.write_image(tmp_path / "faces" / f"p{number}.png", np.roll(made.picture(), 9 * number, axis=1))
    media.write_speech(tmp_path / "a.wav", made.tone(1.0))
    text = """
portraits = "faces"
speech = "a.wav"
out = "out"
seconds = 0.5
sizes = [[64, 64], [64, 96]]
[settings]
frame = "keep"
[goals]
identity = ">= -1"
HKV = ">= 1000000"
"""
    (tmp_path / "photographs.toml").write_text(text)
    return tmp_path / "photographs.toml"


def bench(recipe: Path, *overrides: str, seen: Observer | None = None) -> quality.Album:
    return quality.bench_photographs(
        recipe, overrides=overrides, animator=made.animator(), observer=seen or observer()
    )


def test_everything_is_written_and_a_second_run_makes_nothing(recipe: Path) -> None:
    out = recipe.parent / "out"
    album = bench(recipe)
    assert [clip.portrait for clip in album.clips] == ["p0.png", "p1.png"] * 2
    assert all(set(clip.values) == set(LIKENESSES) for clip in album.clips)
    clip = media.read_clip(out / "64x96" / "p1+a.mp4")
    assert clip.frames.shape == (6, 96, 64, 3)  # half a second at 12 frames a second
    sheet = media.read_image(out / "sheet-64x96.png")
    assert sheet.shape == (2 * (256 + 22), 9 * 256, 3)
    assert "sheet-64x64.png" in (out / "report.html").read_text()
    kept = json.loads((out / "results.json").read_text())
    assert len(kept["clips"]) == 4 and kept["recipe"]["seconds"] == 0.5

    stamps = {path: path.stat().st_mtime_ns for path in out.glob("*x*/*")}
    again = quality.bench_photographs(recipe, animator=made.animator())  # no detector is opened for it
    assert stamps == {path: path.stat().st_mtime_ns for path in out.glob("*x*/*")}
    assert [row.value for row in again.rows] == [row.value for row in album.rows]


def test_rows_are_means_over_portraits(recipe: Path) -> None:
    media.write_speech(recipe.parent / "b.wav", made.tone(1.0, hertz=330))
    album = bench(recipe, 'speech=["a.wav", "b.wav"]', "sizes=[[64, 64]]")
    records = [json.loads(path.read_text()) for path in (recipe.parent / "out/64x64").glob("*.json")]
    assert len(records) == 4
    identity, movement = album.rows
    assert identity.value == pytest.approx(np.mean([r["values"]["identity"] for r in records]))
    assert identity.reached and not movement.reached
    assert identity.interval is not None  # of two portraits, though there are four clips
    assert album.lines()[0].split(" | ")[1:] == ["value", "95 % interval", "goal", "reached |"]
    assert photographs.means(album.clips, "identity") == pytest.approx(
        [
            np.mean([r["values"]["identity"] for r in records if r["portrait"] == name])
            for name in ("p0.png", "p1.png")
        ]
    )


def test_a_picture_that_cannot_be_animated_is_named_and_does_not_stop_the_others(recipe: Path) -> None:
    media.write_image(recipe.parent / "faces" / "a.png", made.picture(20, 20))
    album = bench(recipe, "sizes=[[64, 64]]")
    (failed,) = album.failed
    assert failed.portrait == "a.png" and "20 x 20 pixels" in failed.said[0]
    assert any(line.startswith("not made: a.png") for line in album.lines())
    assert math.isfinite(album.rows[0].value)


def test_what_lacks_is_said(recipe: Path) -> None:
    blind = observer()
    blind.without["identity"] = "dlib is not installed"
    album = bench(recipe, "sizes=[[64, 64]]", "limit=1", seen=blind)
    assert "identity: not measured: dlib is not installed" in album.lines()
    assert len(album.clips) == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("portraits=", "add --set portraits="),
        ("portraits=nowhere", "no such file or folder"),
        ("goals.beauty='>= 1'", "goals.beauty: unknown; choose from hands-found"),
        ("goals.HKV=much", "is no range"),
        ("speach=a.wav", "did you mean speech"),
        ("settings.livelyness=2", "did you mean"),
    ],
)
def test_mistakes_are_named(recipe: Path, override: str, message: str) -> None:
    with pytest.raises(SemibodyError, match=message):
        bench(recipe, override)


def test_clips_of_other_settings_are_refused(recipe: Path) -> None:
    made.weights_folder(recipe.parent / "weights")
    weights = f"weights={recipe.parent / 'weights'}"
    bench(recipe, weights, "limit=1")
    with pytest.raises(SemibodyError, match="other weights or settings"):
        bench(recipe, weights, "seconds=0.25")


def test_two_pictures_of_one_name_are_refused(recipe: Path) -> None:
    media.write_image(recipe.parent / "faces" / "p1.webp", made.picture())
    with pytest.raises(SemibodyError, match="the same name"):
        bench(recipe)


def test_the_bundled_recipe_is_whole_and_asks_for_pictures() -> None:
    rules = config.load(quality.Photographs, toml=bundled()["photographs"])
    assert photographs.read_goals(rules.goals).keys() < LIKENESSES.keys()
    assert quality.is_of_photographs("photographs") and not quality.is_of_photographs("starter")
    shown = CliRunner().invoke(app, ["bench-quality", "photographs"])
    assert shown.exit_code != 0 and "portraits is empty" in str(shown.exception or shown.output)
