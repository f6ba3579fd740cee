"""The whole way: folders in, numbers, table, JSON and page out; with fakes where a network would be slow."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

import made
from semibody import media
from semibody.cli.app import app
from semibody.evaluation import extract, metrics
from semibody.evaluation.cache import Arrays, Cache
from semibody.evaluation.extract import Frame, Kind
from semibody.evaluation.gather import gather
from semibody.evaluation.protocol import Protocol, pair_clips
from semibody.evaluation.report import show, write_report
from semibody.evaluation.run import Evaluation, evaluate, metrics_device
from semibody.processes import Workers
from semibody.types import Gesture, SemibodyError

JAW = 0.5 + 0.5 * np.sin(np.arange(200) * 1.7)


class FakeFaces:
    """A face whose jaw opens with the mean green of the picture; none in black pictures."""

    every = 1

    def __init__(self) -> None:
        self.rows: list[float] = []

    def add(self, frame: Frame) -> None:
        self.rows.append(frame.picture[..., 1].mean() / 255 if frame.picture.any() else math.nan)

    def finish(self) -> Arrays:
        jaw = np.array(self.rows, np.float32)
        expression = np.tile(jaw[:, None], (1, 52)) * np.linspace(0.1, 1, 52, dtype=np.float32)
        box = np.tile(np.array([0.2, 0.2, 0.5, 0.5], np.float32), (len(jaw), 1))
        lips = np.zeros((len(jaw), 40, 2), np.float32)
        lips[:, 10] = [1.0, 0.0]  # the corners are one apart
        lips[:, 25, 1] = jaw  # the lower lip
        return {"expression": expression, "box": box, "lips": lips}


class FakeIdentity:
    """Who it is: the mean colour of the corner."""

    every = 6

    def __init__(self) -> None:
        self.rows: list[NDArray[Any]] = []
        self.frames: list[int] = []

    def add(self, frame: Frame) -> None:
        self.frames.append(frame.number)
        self.rows.append(frame.picture[:8, :8].mean(axis=(0, 1)) + 1)

    def finish(self) -> Arrays:
        return {"frame": np.array(self.frames), "embedding": np.stack(self.rows)}


class FakeFeatures:
    """Features: a few pixels."""

    every = 1

    def __init__(self) -> None:
        self.rows: list[NDArray[Any]] = []

    def add(self, frame: Frame) -> None:
        self.rows.append(frame.picture[::48, ::48].ravel().astype(np.float32))

    def finish(self) -> Arrays:
        return {"frame": np.arange(len(self.rows)), "features": np.stack(self.rows)}


class FakeJoints:
    """Hands that stand where the picture is red in the mean."""

    every = 3

    def __init__(self) -> None:
        self.rows: list[float] = []

    def add(self, frame: Frame) -> None:
        self.rows.append(float(frame.picture[..., 0].mean() / 255))

    def finish(self) -> Arrays:
        joints = np.tile(made.gesture(1).joints, (len(self.rows), 1, 1)) + np.array(self.rows)[:, None, None]
        return {"frame": np.arange(len(self.rows)) * 3, "size": np.array([96, 96]), "joints": joints,
                "confidence": np.ones((len(self.rows), 128))}  # fmt: skip


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def there() -> str:
        return ""

    made_up = {
        "faces": Kind("faces", 1, there, lambda _, __: FakeFaces()),
        "dlib": Kind("dlib", 1, there, lambda _, __: FakeIdentity()),
        "effnet": Kind("effnet", 1, there, lambda _, __: FakeFeatures(), on_device=True),
        "joints": Kind("joints", 1, there, lambda _, __: FakeJoints()),
        "joints-dwpose": Kind("joints-dwpose", 1, lambda: "needs DWPose", lambda _, __: FakeJoints()),
    }
    for name, kind in made_up.items():
        monkeypatch.setitem(extract.KINDS, name, kind)
    monkeypatch.setattr("semibody.evaluation.faces.expressions_missing", lambda: "")
    monkeypatch.setattr("semibody.evaluation.faces.dlib_centre", lambda: np.zeros(3, np.float32))
    monkeypatch.setattr("semibody.evaluation.sync_small.embed", lambda *_: None)
    yield


def talking(path: Path, *, late: int = 0, noise: float = 0.0, frames: int = 36, seed: int = 0) -> Path:
    """A video whose green follows JAW, ``late`` by so many frames."""
    rng = np.random.default_rng(seed)
    with media.VideoWriter(path, fps=24, width=96, height=96, speech=made.tone(frames / 24), crf=4) as video:
        for number in range(frames):
            picture = made.picture().astype(np.float64)
            picture[:48, :, 1] = 40 + 150 * JAW[max(number - late, 0)]  # the lower half is still
            picture += rng.normal(0, noise, picture.shape)
            video.write(np.clip(picture, 0, 255).astype(np.uint8))
    return path


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for name in ("real", "ours"):
        (folder / name).mkdir()
    for number in range(3):
        talking(folder / "real" / f"clip{number}.mp4", seed=number)
        talking(folder / "ours" / f"clip{number}.mp4", noise=6, late=3, seed=number)
    return folder


@pytest.fixture
def folders(made_once: Path, tmp_path: Path) -> tuple[Path, Path]:
    for name in ("real", "ours"):
        shutil.copytree(made_once / name, tmp_path / name)
    return tmp_path / "ours", tmp_path / "real"


def measure(ours: Path, real: Path | None, tmp_path: Path, *names: str) -> Evaluation:
    return evaluate(ours, real, metrics=names, cache=tmp_path / "cache", workers=1)


def test_the_same_folder_twice_is_perfect(folders: tuple[Path, Path], tmp_path: Path, fakes: None) -> None:
    _, real = folders
    found = measure(real, real, tmp_path).results
    assert found["PSNR"].value == math.inf
    assert found["PSNR"].counts["identical frames"] == 3 * 36
    assert found["SSIM"].value == 1
    assert found["FID-effnet"].value < 1e-6
    assert found["FVD-effnet"].value < 1e-6
    assert found["E-FID-mediapipe"].value < 1e-6
    assert found["ID-pair-dlib"].value == pytest.approx(1)
    assert found["jaw-correlation"].value == pytest.approx(1)
    assert found["jaw-lag"].value == 0
    assert found["mouth-correlation"].value == pytest.approx(1)
    assert found["change-moving"].value == pytest.approx(1)
    assert found["hand-error"].value == 0
    assert found["PCK"].value == 1
    assert found["flicker-rest"].value == 0
    assert found["background-drift"].value == 0


def test_damage_changes_the_metrics_of_its_kind(
    folders: tuple[Path, Path], tmp_path: Path, fakes: None
) -> None:
    found = measure(*folders, tmp_path).results
    assert 15 < found["PSNR"].value < 40
    assert found["PSNR"].interval is not None
    assert found["SSIM"].value < 0.99
    assert found["FID-effnet"].value > 1
    assert found["FID-effnet"].interval is not None
    assert found["jaw-lag"].value == 3
    assert found["mouth-lag"].value == 3
    assert found["change-still"].value > 2
    assert found["HKC-mediapipe"].real == pytest.approx(1)
    assert len(found["CSIM-dlib"].clips) == 3


def test_standards_that_are_not_here_are_reported_not_replaced(
    folders: tuple[Path, Path], tmp_path: Path, fakes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEMIBODY_HOME", str(tmp_path / "empty"))
    found = measure(*folders, tmp_path)
    for name in ("FID", "FVD", "E-FID", "CSIM", "Sync-C", "Sync-D", "HKC", "HKV"):
        assert name not in found.results
        assert len(found.not_computed[name]) > 20 or name in ("HKC", "HKV")
    assert "semibody weights fetch arcface" in found.not_computed["CSIM"]


def test_without_real_clips_only_what_needs_none(
    folders: tuple[Path, Path], tmp_path: Path, fakes: None
) -> None:
    found = measure(folders[0], None, tmp_path)
    assert "needs the real clips" in found.not_computed["PSNR"]
    assert "needs the real clips" in found.not_computed["jaw-lag"]
    assert "its own first face" in found.results["CSIM-dlib"].notes[-1]


def test_portraits_are_the_reference(folders: tuple[Path, Path], tmp_path: Path, fakes: None) -> None:
    portraits = tmp_path / "portraits"
    for number in range(3):
        media.write_image(portraits / f"clip{number}.png", made.picture())
    found = evaluate(folders[0], None, portraits, metrics=["CSIM-dlib"], cache=tmp_path / "cache", workers=1)
    assert found.results["CSIM-dlib"].notes == ("3 clips against portrait",)


def test_truth_of_a_manifest_is_used(folders: tuple[Path, Path], tmp_path: Path, fakes: None) -> None:
    from semibody.pose.files import save_gesture

    ours, _ = folders
    np.savez(ours / "truth.npz", jaw=JAW[:36], **{"boxes/face": np.tile([0.1, 0.1, 0.5, 0.5], (36, 1))})
    still = np.tile(made.gesture(1).joints + 0.5, (36, 1, 1))
    save_gesture(Gesture(still, np.ones((36, 128)), 24.0), ours / "g.npz")
    line = {"id": "x", "video": "clip0.mp4", "truth": "truth.npz", "gesture": "g.npz"}
    (ours / "manifest.jsonl").write_text(json.dumps(line))
    found = measure(ours, None, tmp_path, "jaw-lag", "hand-error").results
    assert found["jaw-lag"].value == 3
    assert 0 < found["hand-error"].value < 60


def test_a_second_run_measures_nothing(
    folders: tuple[Path, Path], tmp_path: Path, fakes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = measure(*folders, tmp_path)

    def never(*_: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr("semibody.evaluation.extract.measure", never)
    monkeypatch.setattr("semibody.evaluation.frames.compare", never)
    second = measure(*folders, tmp_path)
    values = [{name: found.value for name, found in run.results.items()} for run in (first, second)]
    assert json.dumps(values[0]) == json.dumps(values[1])


def test_a_damaged_clip_is_named_and_the_rest_goes_on(folders: tuple[Path, Path], tmp_path: Path) -> None:
    ours, real = folders
    (ours / "clip1.mp4").write_bytes(b"nonsense")
    cut = (ours / "clip2.mp4").read_bytes()
    (ours / "clip2.mp4").write_bytes(cut[: len(cut) // 3])
    found = measure(ours, real, tmp_path, "PSNR")
    assert "clip0" in found.results["PSNR"].clips
    assert "clip1" in {problem.name for problem in found.problems if problem.fatal}
    for path in ours.iterdir():
        path.write_bytes(b"nonsense")
    with pytest.raises(SemibodyError, match="no clip is left"):
        measure(ours, real, tmp_path, "PSNR")


def test_a_damaged_truth_file_leaves_its_clip_out(folders: tuple[Path, Path], tmp_path: Path) -> None:
    ours, _ = folders
    (ours / "bad.npz").write_bytes(b"nonsense")
    lines = [{"video": "clip0.mp4", "truth": "bad.npz"}, {"video": "clip1.mp4"}]
    (ours / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = evaluate(ours, folders[1], metrics=["PSNR"], cache=tmp_path / "cache", workers=1)
    assert list(found.results["PSNR"].clips) == ["clip1"]
    assert any("not a truth file" in problem.what for problem in found.problems)


def test_frames_without_a_face_are_counted(tmp_path: Path, fakes: None) -> None:
    path = tmp_path / "half.mp4"
    with media.VideoWriter(path, fps=24, width=96, height=96, crf=0) as video:
        video.write(np.zeros((10, 96, 96, 3), np.uint8))
        video.write(np.repeat(made.picture()[None], 10, axis=0))
    found = measure(path, path, tmp_path, "E-FID-mediapipe").results["E-FID-mediapipe"]
    assert found.counts["frames without a face"] == 10


def test_features_that_are_not_numbers_are_counted(
    folders: tuple[Path, Path], tmp_path: Path, fakes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(FakeFeatures):
        def finish(self) -> Arrays:
            found = super().finish()
            found["features"][::2] = np.nan
            return found

    monkeypatch.setitem(extract.KINDS, "effnet", Kind("effnet", 1, lambda: "", lambda _, __: Broken()))
    found = measure(*folders, tmp_path, "FID-effnet").results["FID-effnet"]
    assert math.isfinite(found.value)
    assert found.counts["vectors left out because they are not finite"] == 3 * 36


def test_one_clip_has_no_interval(folders: tuple[Path, Path], tmp_path: Path) -> None:
    ours, real = folders
    found = measure(ours / "clip0.mp4", real / "clip0.mp4", tmp_path, "PSNR").results["PSNR"]
    assert found.interval is None


def test_other_rates_and_sizes_follow_the_policy(folders: tuple[Path, Path], tmp_path: Path) -> None:
    ours, _ = folders
    real = tmp_path / "slow.mp4"
    with media.VideoWriter(real, fps=12, width=48, height=48) as video:
        video.write(np.repeat(media.resize_image(made.picture(), 48, 48)[None], 12, axis=0))
    found = measure(ours / "clip0.mp4", real, tmp_path, "PSNR")
    assert len(found.results["PSNR"].series["clip0"][0]) == 24  # one second at the generated 24 fps
    assert len(found.problems) == 3


def test_unknown_metrics_are_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(SemibodyError, match="FIDD: unknown"):
        measure(*folders, tmp_path, "FIDD")


def test_metrics_can_be_named_by_family() -> None:
    assert {m.name for m in metrics.choose(["Sync"])} >= {"Sync-C", "Sync-D", "Sync-jaw", "Sync-C-small"}
    assert [m.name for m in metrics.choose(["FID"])] == ["FID"]
    assert [m.name for m in metrics.choose(["fid-effnet"])] == ["FID-effnet"]


def test_stand_ins_never_carry_a_standard_name() -> None:
    standard = {m.name for m in metrics.METRICS.values() if m.standard}
    assert standard == {
        "FID", "FVD", "FVD-StyleGAN-V", "PSNR", "SSIM", "E-FID", "CSIM", "Sync-C", "Sync-D", "HKC", "HKV",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "text"),
    [(math.nan, "–"), (math.inf, "∞"), (0.0, "0"), (12.3456, "12.35"), (1e-7, "1.00e-07"), (-0.5, "-0.5")],
)
def test_numbers_are_shown_shortly(value: float, text: str) -> None:
    assert show(value) == text


def test_the_page_loads_nothing_and_escapes_names(
    folders: tuple[Path, Path], tmp_path: Path, fakes: None
) -> None:
    ours, real = folders
    for folder in folders:
        (folder / "clip0.mp4").rename(folder / "a<b>.mp4")
    found = measure(ours, real, tmp_path)
    write_report(found, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page)
    assert "url(" not in page
    assert "a&lt;b&gt;" in page and "a<b>" not in page
    for text in ("FID-effnet", "features_every", "Not computed", "<polyline", "data:image/jpeg;base64,"):
        assert text in page


def test_command_prints_a_table_and_json(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEMIBODY_HOME", str(tmp_path / "home"))
    words = ["evaluate", *map(str, folders), "--metrics", "PSNR,SSIM,FID", "--workers", "1"]
    table = CliRunner().invoke(app, words)
    assert table.exit_code == 0, table.output
    assert "PSNR ↑" in table.output
    assert "FID: not computed" in table.output
    reports = [tmp_path / f"r.{ending}" for ending in ("html", "md", "tex", "json")]
    printed = CliRunner().invoke(app, [*words, "--json", *(f"--report={path}" for path in reports)])
    facts = json.loads(printed.stdout)
    assert set(facts["metrics"]) == {"PSNR", "SSIM"}
    assert facts["protocol"]["features_every"] == 4
    assert all(path.stat().st_size for path in reports)
    assert json.loads(reports[-1].read_text())["metrics"] == facts["metrics"]
    assert facts["protocol"]["device"] == metrics_device()
    listed = CliRunner().invoke(app, ["evaluate", "--list"])
    assert "stand-in" in listed.output


def test_workers_give_the_same_json(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """With networks, pixels and sound, and a clip that is left out."""
    (folders[0] / "clip2.mp4").write_bytes(b"nonsense")
    wanted = ["PSNR", "SSIM", "FID-effnet", "FVD-effnet", "change-moving", "background-drift"]
    if extract.KINDS["effnet"].missing():
        wanted = [name for name in wanted if "effnet" not in name]
    runs = [
        evaluate(*folders, metrics=wanted, cache=tmp_path / str(workers), workers=workers).as_dict()
        for workers in (1, 2)
    ]
    for facts in runs:
        facts.pop("seconds")
    assert set(runs[0]["metrics"]) == set(wanted) and runs[0]["clips"] == ["clip0", "clip1"]
    assert json.dumps(runs[0]) == json.dumps(runs[1])


def test_ray_gives_the_same_json(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="could not import ray (pip install 'semibody[cluster]')")
    (folders[0] / "clip2.mp4").write_bytes(b"nonsense")
    monkeypatch.chdir(tmp_path)
    wanted = ["PSNR", "SSIM", "change-moving"]
    runs = [
        evaluate("ours", "real", metrics=wanted, cache=tmp_path / str(where.ray), workers=where).as_dict()
        for where in (Workers(workers=1), Workers(workers=2, ray="local"))
    ]
    for facts in runs:
        facts.pop("seconds")
    assert runs[0]["clips"] == ["clip0", "clip1"]
    assert json.dumps(runs[0]) == json.dumps(runs[1])


def test_a_device_that_is_not_there_is_refused_before_the_work(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(SemibodyError, match="--device cuda:99 cannot be used here"):
        evaluate(*folders, metrics=["PSNR"], protocol=Protocol(device="cuda:99"), cache=tmp_path / "c")
    assert metrics_device("cpu") == "cpu"


def test_values_of_a_gpu_are_kept_apart_from_the_cpus(
    folders: tuple[Path, Path], tmp_path: Path, fakes: None
) -> None:
    """They differ in rounding; what the device does not compute is shared."""
    items, _ = pair_clips(*folders)
    found = [
        gather(items[:1], Protocol(device=device), ["effnet", "joints"], cache=Cache(tmp_path), pairs=False)
        for device in ("cpu", "cuda:0", "cuda:1")
    ]
    keys = [{kind: key for (_, _, kind), key in gathered.keys.items()} for gathered, _ in found]
    assert keys[0]["effnet"] != keys[1]["effnet"] == keys[2]["effnet"]
    assert keys[0]["joints"] == keys[1]["joints"] == keys[2]["joints"]


def test_a_clip_without_a_face_does_not_end_the_others(
    folders: tuple[Path, Path], tmp_path: Path, fakes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own values are missing, and the numbers are the other clips'."""
    ours, real = folders
    with media.VideoWriter(ours / "clip1.mp4", fps=24, width=96, height=96, crf=0) as video:
        video.write(np.zeros((36, 96, 96, 3), np.uint8))
    names = ("E-FID-mediapipe", "jaw-correlation", "CSIM-dlib", "PSNR")
    found = measure(ours, real, tmp_path, *names).results
    assert found["E-FID-mediapipe"].counts["frames without a face"] == 36
    assert set(found["jaw-correlation"].clips) == {"clip0", "clip2"}
    assert math.isfinite(found["jaw-correlation"].value) and math.isfinite(found["E-FID-mediapipe"].value)
    assert set(found["PSNR"].clips) == {"clip0", "clip1", "clip2"}


def test_pixels_every_is_obeyed(folders: tuple[Path, Path], tmp_path: Path) -> None:
    rules = Protocol(pixels_every=5)
    found = evaluate(*folders, metrics=["SSIM"], protocol=rules, cache=tmp_path / "c", workers=1)
    assert found.results["SSIM"].series["clip0"][0].tolist() == list(range(0, 36, 5))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate"], "GENERATED is missing"),
        (["evaluate", "nowhere"], "no such file or folder"),
        (["evaluate", "nowhere", "--report", "r.pdf"], "written as .md, .tex, .json, .html"),
        (["evaluate", "nowhere", "--set", "windows=3"], "did you mean window"),
        (["bench-quality", "nowhere.toml"], "cannot be read"),
        (["build-emtd", "nowhere", "out"], "holds no videos"),
        (["weights", "fetch", "syncnet"], "cannot be fetched by a program"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEMIBODY_HOME", str(tmp_path / "home"))
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, SemibodyError)
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)
