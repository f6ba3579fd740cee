"""Faces: detection, identity (CSIM), and expression (E-FID, the jaw).

Faces are found by MediaPipe: with ``face_landmarker.task`` when that part is here (it also gives 52
blendshapes), otherwise with the face mesh of the mediapipe package (the same points, no
blendshapes).
"""

from __future__ import annotations

import functools
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from semibody.evaluation.needs import packages_missing, part_missing
from semibody.types import Floats, MissingPartError, Picture
from semibody.weights.parts import find_part

Vector = NDArray[np.float32]

N_POINTS = 468
JAW_OPEN = 25
"""Number of the blendshape ``jawOpen``; 0 is MediaPipe's ``_neutral``."""

# Points of MediaPipe's face mesh; left and right as seen in the picture.
_EYE_LEFT, _EYE_RIGHT, _NOSE, _MOUTH = (33, 133), (362, 263), 1, (61, 291)
_SUBNASALE = 2
LIPS = (
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185,
    78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191,
)  # fmt: skip
"""Outer then inner lip, each once round."""

_ARCFACE_POINTS = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)
"""Where insightface puts eyes, nose and mouth corners in its 112 × 112 crop."""


@dataclass(frozen=True)
class Face:
    """``points`` (468, 2) in pixels; ``expression`` (52,) blendshapes 0..1, or None without that model."""

    points: Floats
    expression: Vector | None

    @property
    def box(self) -> Floats:
        """x0, y0, x1, y1 in pixels around all points."""
        return np.concatenate([self.points.min(axis=0), self.points.max(axis=0)])

    @property
    def five(self) -> Floats:
        """(5, 2) left eye, right eye, nose tip, left and right mouth corner, as seen in the picture."""
        eyes = [self.points[list(eye)].mean(axis=0) for eye in (_EYE_LEFT, _EYE_RIGHT)]
        return np.stack([*eyes, self.points[_NOSE], *self.points[list(_MOUTH)]])


class FaceFinder(Protocol):
    """Finds the face of a picture; ``name`` goes into the report and the cache."""

    name: str

    def find(self, picture: Picture) -> Face | None: ...

    def close(self) -> None: ...


def open_face_finder() -> FaceFinder:
    """The best finder this machine has. Raises MissingPartError without mediapipe."""
    if importlib.util.find_spec("mediapipe") is None:
        raise MissingPartError("faces are found by mediapipe; run: pip install 'semibody[pose]'")
    try:
        return _Landmarker(find_part("face-landmarker"))
    except MissingPartError:
        return _Mesh()


def finder_name() -> str:
    """The name of the finder that ``open_face_finder`` would open, without opening it."""
    return _Mesh.name if expressions_missing() else _Landmarker.name


def expressions_missing() -> str:
    """Empty when blendshapes can be had; otherwise why not and the remedy."""
    return packages_missing("pose", "mediapipe") or part_missing("face-landmarker")


class _Closing:
    def close(self) -> None: ...

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Landmarker(_Closing):
    name = "mediapipe face_landmarker 64184e22"

    def __init__(self, path: Path) -> None:
        _hush()
        import mediapipe as mp

        vision = mp.tasks.vision
        options = vision.FaceLandmarkerOptions(
            # Each picture is processed by itself: tracking would make a frame's result depend on the last.
            base_options=mp.tasks.BaseOptions(model_asset_buffer=path.read_bytes()),
            running_mode=vision.RunningMode.IMAGE,
            output_face_blendshapes=True,
            num_faces=1,
        )
        self._mp, self._model = mp, vision.FaceLandmarker.create_from_options(options)

    def find(self, picture: Picture) -> Face | None:
        image = self._mp.Image(image_format=self._mp.ImageFormat.SRGB, data=np.ascontiguousarray(picture))
        found = self._model.detect(image)
        if not found.face_landmarks:
            return None
        expression = np.array([shape.score for shape in found.face_blendshapes[0]], np.float32)
        return Face(_points(found.face_landmarks[0], picture), expression)

    def close(self) -> None:
        self._model.close()


class _Mesh(_Closing):
    name = "mediapipe face_mesh"

    def __init__(self) -> None:
        _hush()
        from mediapipe.python.solutions.face_mesh import FaceMesh

        self._model = FaceMesh(static_image_mode=True, max_num_faces=1, refine_landmarks=False)

    def find(self, picture: Picture) -> Face | None:
        found = self._model.process(np.ascontiguousarray(picture)).multi_face_landmarks
        return Face(_points(found[0].landmark, picture), None) if found else None

    def close(self) -> None:
        self._model.close()


def _hush() -> None:
    # Its log lines mean nothing to the user. Only effective before the native library is loaded.
    os.environ.setdefault("GLOG_minloglevel", "2")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def _points(landmarks: Any, picture: Picture) -> Floats:
    height, width = picture.shape[:2]
    return np.array([(p.x * width, p.y * height) for p in landmarks[:N_POINTS]], np.float64)


# -- identity ----------------------------------------------------------------------------------------


class Embedder(Protocol):
    """A face to a vector; ``name`` goes into the report and the cache."""

    name: str

    def embed(self, picture: Picture, face: Face) -> Vector: ...


class DlibEmbedder:
    """The face network of dlib (King 2017): 128 numbers; people differ by more than 0.6 in L2. A stand-in."""

    name = "dlib_face_recognition_resnet_model_v1"

    def __init__(self) -> None:
        package = importlib.util.find_spec("face_recognition_models")
        if importlib.util.find_spec("dlib") is None or package is None:
            raise MissingPartError("dlib is not installed; run: pip install 'semibody[eval]'")
        import dlib

        # Importing the package would import pkg_resources only to name this file.
        folder = Path((package.submodule_search_locations or ["."])[0])
        self._dlib = dlib
        self._model = dlib.face_recognition_model_v1(str(folder / "models" / f"{self.name}.dat"))

    def embed(self, picture: Picture, face: Face) -> Vector:
        corners = [*_EYE_RIGHT[::-1], *_EYE_LEFT, _SUBNASALE]  # the order of dlib's five points
        points = [self._dlib.point(*(int(v) for v in np.rint(face.points[k]))) for k in corners]
        box = self._dlib.rectangle(*(int(v) for v in np.rint(face.box)))
        chip = self._dlib.get_face_chip(
            np.ascontiguousarray(picture), self._dlib.full_object_detection(box, points), 150, 0.25
        )
        return np.array(self._model.compute_face_descriptor(chip), np.float32)


class ArcFaceEmbedder:
    """ArcFace (Deng et al. 2019) as insightface publishes it: 512 numbers of a 112 × 112 aligned crop."""

    name = "arcface"

    def __init__(self, path: Path, device: str = "cpu") -> None:
        if importlib.util.find_spec("onnxruntime") is None:
            raise MissingPartError("ArcFace runs on onnxruntime; run: pip install 'semibody[pose]'")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        providers: list[Any] = ["CPUExecutionProvider"]
        if device.startswith("cuda") and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            number = int(device.partition(":")[2] or 0)
            # TensorFloat-32 would change the third digit of embeddings.
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": number, "use_tf32": 0}))
        self._session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        self._input = self._session.get_inputs()[0].name

    def embed(self, picture: Picture, face: Face) -> Vector:
        crop = align(picture, face.five, np.array(_ARCFACE_POINTS), 112, 112)
        values = (crop.astype(np.float32) - 127.5) / 127.5
        (vector,) = self._session.run(None, {self._input: values.transpose(2, 0, 1)[None]})
        return np.asarray(vector[0], np.float32)


@functools.lru_cache(maxsize=1)
def dlib_centre() -> Vector:
    """(128,) the mean embedding of rendered people. All faces lie on one side of zero, so that raw cosines
    are 0.84 to 0.99 even between people; relative to this centre they spread out."""
    return np.load(Path(__file__).parent / "dlib_centre.npy", allow_pickle=False)


def align(picture: Picture, points: Floats, target: Floats, width: int, height: int) -> Picture:
    """The picture moved, turned and scaled so that ``points`` (k, 2) fall on ``target`` (k, 2) as well as
    they can."""
    import cv2

    return cv2.warpAffine(
        picture,
        similarity(points, target),
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )


def similarity(points: Floats, target: Floats) -> Floats:
    """The 2 × 3 matrix of the least-squares turn, scale and shift from ``points`` to ``target`` (Umeyama
    1991)."""
    from_mean, to_mean = points.mean(axis=0), target.mean(axis=0)
    a, b = points - from_mean, target - to_mean
    u, sizes, vt = np.linalg.svd(b.T @ a)
    flip = np.diag([1.0, np.sign(np.linalg.det(u @ vt))])
    turn = u @ flip @ vt
    scale = (sizes * np.diag(flip)).sum() / (a * a).sum()
    return np.concatenate([scale * turn, (to_mean - scale * turn @ from_mean)[:, None]], axis=1)


def cosine(vectors: NDArray[Any], reference: NDArray[Any], centre: NDArray[Any] | float = 0.0) -> Floats:
    """Cosine of every row (n, d) with ``reference`` (d,), both taken from ``centre``."""
    a, b = np.asarray(vectors, np.float64) - centre, np.asarray(reference, np.float64) - centre
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b)
    return (a @ b) / np.maximum(norms, 1e-12)
