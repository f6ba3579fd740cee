"""What each extractor makes of a video, with stubs in place of networks: windows, clocks, lost faces."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import made
from semibody import media
from semibody.evaluation import extract, faces
from semibody.evaluation.extract import KINDS, SampledVideo, measure
from semibody.evaluation.protocol import Protocol, probe
from semibody.types import N_JOINTS, Pose, Speech

RULES = Protocol(device="cpu")


class FakeFinder:
    """A face in the middle of every bright picture."""

    name = "fake"

    def find(self, picture: NDArray[np.uint8]) -> faces.Face | None:
        if picture.mean() < 20:
            return None
        height, width = picture.shape[:2]
        rng = np.random.default_rng(0)
        points = rng.uniform(0.4, 0.6, (faces.N_POINTS, 2)) * (width, height)
        return faces.Face(points, np.full(52, 0.25, np.float32))

    def close(self) -> None: ...


class FakeNetwork:
    """Stands for every network: the mean of what it is given."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []

    def __call__(self, x: Tensor) -> Tensor:
        self.seen.append(tuple(x.shape))
        return x.mean(dim=tuple(range(1, x.ndim)), keepdim=False)[:, None].repeat(1, 400)

    def embed_faces(self, x: Tensor) -> Tensor:
        self.seen.append(tuple(x.shape))
        return x.mean(dim=(1, 2, 3, 4))[:, None].repeat(1, 1024)

    def embed_sound(self, x: Tensor) -> Tensor:
        return torch.zeros(len(x), 1024)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> FakeNetwork:
    fake = FakeNetwork()
    monkeypatch.setattr(extract, "_network", lambda name, device: fake)
    monkeypatch.setattr(extract, "face_finder", FakeFinder)
    return fake


def video(path: Path, frames: int, fps: float, *, dark: int = 0) -> SampledVideo:
    with media.VideoWriter(
        path, fps=fps, width=96, height=96, speech=made.tone(frames / fps), crf=0
    ) as writer:
        for number in range(frames):
            writer.write(made.picture() if number >= dark else np.zeros((96, 96, 3), np.uint8))
    return SampledVideo(path, probe(path).fps, path)


@pytest.mark.parametrize(("frames", "fps", "ticks"), [(25, 25, 25), (24, 24, 25), (30, 30, 25), (12, 12, 25)])
def test_syncnet_sees_25_frames_of_every_second(
    tmp_path: Path, network: FakeNetwork, frames: int, fps: float, ticks: int
) -> None:
    found = measure(video(tmp_path / "v.mp4", frames, fps), [KINDS["syncnet"]], RULES)["syncnet"]
    assert len(found["video"]) == ticks - 4
    assert network.seen[0] == (1, 3, 5, 224, 224)
    assert abs(len(found["audio"]) - (ticks - 5)) <= 1  # sound in mp4 ends on its own grid


def test_syncnet_crop_keeps_the_published_margins() -> None:
    picture = np.zeros((100, 100, 3), np.uint8)
    picture[40:60, 40:60] = 255  # the face box: centre 50, half side 10
    crop = extract.syncnet_crop(picture, 50, 50, 10)
    rows, columns = np.flatnonzero(crop[:, 112, 0] > 128), np.flatnonzero(crop[80, :, 0] > 128)
    # From 10 above to 18 below the centre, and 14 to either side.
    assert rows[0] == 0
    assert rows[-1] == pytest.approx(20 / 28 * 224, abs=5)
    assert columns[0] == pytest.approx(4 / 28 * 224, abs=5)
    assert columns[-1] == pytest.approx(24 / 28 * 224, abs=5)


def test_video_features_of_overlapping_windows(tmp_path: Path, network: FakeNetwork) -> None:
    found = measure(video(tmp_path / "v.mp4", 33, 24), [KINDS["i3d"]], RULES)["i3d"]
    assert found["frame"].tolist() == [0, 8, 16]
    assert network.seen == [(1, 3, 16, 224, 224)] * 3
    short = measure(video(tmp_path / "s.mp4", 5, 24), [KINDS["i3d"]], RULES)["i3d"]
    assert short["features"].shape == (0, 400)


def test_windows_are_cut_to_the_middle_square() -> None:
    picture = np.zeros((50, 100, 3), np.uint8)
    picture[:, 25:75] = 200
    square = extract._centre_square(picture, 20)
    assert square.shape == (20, 20, 3)
    assert (square[:, 2:-2] == 200).all()


@pytest.mark.parametrize(("count", "every"), [(16, 1), (4, 8)])
def test_styleganv_takes_one_window_a_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, every: int
) -> None:
    """Generated from its start, real from a place that its content draws; bytes at the frames' own size."""
    rules = Protocol(styleganv_frames=count, styleganv_every=every, device="cpu")
    source = counting(tmp_path / "v.mp4", 40)
    kind = KINDS["i3d-torchscript"]
    seen: list[list[int]] = []

    class Reader(FakeNetwork):
        def __call__(self, x: Tensor) -> Tensor:
            assert x.dtype == torch.uint8 and x.shape == (1, 3, count, 32, 32)
            seen.append([round(float(frame.float().mean()) / 5) for frame in x[0].transpose(0, 1)])
            return torch.zeros(1, 400)

    monkeypatch.setattr(extract, "_network", lambda name, device: Reader())
    found = measure(source, [kind], rules)["i3d-torchscript"]
    real = dataclasses.replace(source, real=True)
    starts = [int(measure(real, [kind], rules)["i3d-torchscript"]["frame"][0]) for _ in range(2)]
    assert found["features"].shape == (1, 400) and found["frame"].tolist() == [0]
    assert seen[0] == list(range(0, count * every, every))
    assert starts[0] == starts[1] and 0 <= starts[0] <= 40 - count * every
    assert seen[1] == seen[2] == [starts[0] + k for k in range(0, count * every, every)]


def test_a_clip_shorter_than_styleganvs_window_gives_no_vector(tmp_path: Path, network: FakeNetwork) -> None:
    for real in (False, True):
        source = dataclasses.replace(counting(tmp_path / "v.mp4", 10), real=real)
        found = measure(source, [KINDS["i3d-torchscript"]], RULES)["i3d-torchscript"]
        assert found["features"].shape == (0, 400) and not network.seen


def counting(path: Path, frames: int) -> SampledVideo:
    """Frame n is grey of level 5 n."""
    with media.VideoWriter(path, fps=25, width=32, height=32, crf=0) as writer:
        for number in range(frames):
            writer.write(np.full((32, 32, 3), 5 * number, np.uint8))
    return SampledVideo(path, 25.0, None)


@pytest.mark.parametrize("kind", ["effnet", "inception", "i3d", "i3d-torchscript", "syncnet"])
def test_networks_look_at_frames_on_the_device_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    asked: list[tuple[str, str]] = []

    class Elsewhere(FakeNetwork):
        def __call__(self, x: Tensor) -> Tensor:
            assert x.device.type == "meta"
            return torch.zeros(len(x), 400)

        def embed_faces(self, x: Tensor) -> Tensor:
            assert x.device.type == "meta"
            return torch.zeros(len(x), 1024)

        embed_sound = embed_faces

    def network(name: str, device: str) -> Elsewhere:
        asked.append((name, device))
        return Elsewhere()

    monkeypatch.setattr(extract, "_network", network)
    monkeypatch.setattr(extract, "face_finder", FakeFinder)
    measure(video(tmp_path / "v.mp4", 25, 25), [KINDS[kind]], Protocol(device="meta"))
    assert asked == [(kind, "meta")]
    assert KINDS[kind].on_device


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_features_are_the_same_on_a_gpu(tmp_path: Path) -> None:
    source = video(tmp_path / "v.mp4", 8, 24)
    here, there = (
        measure(source, [KINDS["effnet"]], Protocol(device=device))["effnet"]["features"]
        for device in ("cpu", "cuda")
    )
    assert np.abs(here - there).max() < 1e-3 * np.abs(here).max()


def test_image_features_of_every_nth_frame(tmp_path: Path, network: FakeNetwork) -> None:
    found = measure(video(tmp_path / "v.mp4", 41, 24), [KINDS["inception"]], RULES)["inception"]
    assert found["frame"].tolist() == list(range(0, 41, 4))
    assert len(found["features"]) == 11


def test_lost_faces_are_nan_not_gone(tmp_path: Path, network: FakeNetwork) -> None:
    found = measure(video(tmp_path / "v.mp4", 10, 24, dark=4), [KINDS["faces"]], RULES)["faces"]
    assert len(found["box"]) == 10
    assert np.isnan(found["box"][:4]).all()
    assert np.isfinite(found["lips"][4:]).all()
    assert 0 <= found["box"][5].min() <= found["box"][5].max() <= 1


def test_all_kinds_share_one_pass_and_one_face(
    tmp_path: Path, network: FakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    detections: list[int] = []

    class Counting(FakeFinder):
        def find(self, picture: NDArray[np.uint8]) -> faces.Face | None:
            detections.append(1)
            return super().find(picture)

    monkeypatch.setattr(extract, "face_finder", Counting)
    embedder = SimpleNamespace(embed=lambda picture, face: np.ones(4, np.float32))
    monkeypatch.setattr(extract, "_embedder", lambda name, device: embedder)
    source = video(tmp_path / "v.mp4", 13, 24, dark=1)
    found = measure(source, [KINDS[name] for name in ("faces", "dlib", "sound", "syncnet")], RULES)
    assert len(detections) == 13
    assert found["dlib"]["frame"].tolist() == [0, 6, 12]
    assert np.isnan(found["dlib"]["embedding"][0]).all()
    assert len(found["sound"]["loudness"]) == 13


def test_joints_where_nobody_is_have_no_confidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Detector:
        def people(self, picture: NDArray[np.uint8]) -> list[Pose]:
            return [Pose(np.full((N_JOINTS, 2), 0.5), np.ones(N_JOINTS))] if picture.mean() > 20 else []

    monkeypatch.setattr(extract, "hand_detector", lambda name: Detector())
    found = measure(video(tmp_path / "v.mp4", 9, 24, dark=3), [KINDS["joints"]], RULES)["joints"]
    assert found["frame"].tolist() == [0, 3, 6]
    assert found["confidence"][:, 0].tolist() == [0, 1, 1]
    boxes = extract.regions_of(None, found)
    assert boxes["left_hand"].shape == (7, 4)
    assert np.isnan(boxes["left_hand"][0]).all()


def test_a_silent_clip_has_no_sound(tmp_path: Path) -> None:
    path = made.write_video(tmp_path / "v.mp4", frames=4, sound=False)
    found = measure(SampledVideo(path, 12.0, None), [KINDS["sound"]], RULES)["sound"]
    assert found["loudness"].shape == (0,)


def test_arcface_is_fed_as_insightface_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fed: list[NDArray[Any]] = []

    class Session:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        def get_inputs(self) -> list[Any]:
            return [SimpleNamespace(name="data")]

        def run(self, _: None, inputs: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
            fed.append(inputs["data"])
            return [np.ones((1, 512), np.float32)]

    fake = SimpleNamespace(SessionOptions=SimpleNamespace, InferenceSession=Session)
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[..., 0] = 255
    face = FakeFinder().find(picture)
    assert face is not None
    vector = faces.ArcFaceEmbedder(tmp_path / "model.onnx").embed(picture, face)
    assert vector.shape == (512,)
    assert fed[0].shape == (1, 3, 112, 112)
    assert fed[0][0, :, 0, 0].tolist() == [1.0, -1.0, -1.0]  # red first, −1..1


def test_loudness_follows_the_sound() -> None:
    quiet, loud = np.zeros(16000, np.float32), made.tone(1.0).waveform
    level = extract.loudness(Speech(np.concatenate([quiet, loud])), 50, 25)
    assert level[:20].max() < 0.01
    assert level[30:].min() > 0.9
