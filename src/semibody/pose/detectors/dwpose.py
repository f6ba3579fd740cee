"""DWPose, the published system's detector: YOLOX finds people, an RTMPose network their 133 points.

The networks are two ONNX files: `semibody weights fetch dwpose`, or a folder that SEMIBODY_DWPOSE names.
Pre- and postprocessing follow the published code, which differs from rtmlib's: only class 0 counts as a
person (score above 0.3 after suppression at 0.1), a point's score is the smaller of its two maxima, and the
neck has score 1 or 0.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from semibody.pose.body import SEEN, anchor, person_size
from semibody.pose.formats.published import pose_from_official
from semibody.pose.formats.wholebody import to_official
from semibody.processes import own_number
from semibody.types import Floats, MissingPartError, Picture, Pose
from semibody.weights.hub import DWPOSE_FILES, find_dwpose

DWPOSE_VARIABLE = "SEMIBODY_DWPOSE"

_SIDE = 640
_STRIDES = (8, 16, 32)
_GREY = 114
_CANDIDATE, _PERSON, _SAME = 0.1, 0.3, 0.45
"""Scores from which a box is a candidate and a person; overlap from which two are the same."""
_POSE_SIZE = (288, 384)
_PADDING = 1.25
_MEAN, _STD = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
_SPLIT = 2.0
"""SimCC bins a pixel."""
_FARTHEST_STEP = 0.2
"""A person who moved farther than this share of the picture between two frames is another one."""
_OF_GPUS = ("TensorrtExecutionProvider", "CUDAExecutionProvider")


class DWPose:
    """See the module; a ``pose.detectors.Detector``."""

    name = "dwpose"

    def __init__(self, folder: Path | None = None) -> None:
        """``folder`` holds the two files; None: where `weights fetch` puts them. Raises MissingPartError."""
        found = folder or find_dwpose()
        self._find, self._point = (_open(found / file.place) for file in DWPOSE_FILES)

    def people(self, image: Picture) -> list[Pose]:
        poses = [pose for pose in self._poses(image) if pose.confidence.max() >= SEEN]
        aspect = image.shape[1] / image.shape[0]
        return sorted(poses, key=lambda pose: person_size(pose, aspect), reverse=True)

    def follow(self, image: Picture, last: Pose) -> Pose | None:
        was = anchor(last)
        found = self.people(image)
        nearest = min(found, key=lambda pose: float(np.hypot(*(anchor(pose) - was))), default=None)
        if nearest is None or np.hypot(*(anchor(nearest) - was)) > _FARTHEST_STEP:
            return None
        return nearest

    def official(self, image: Picture) -> dict[str, Any]:
        """The published code's dict of all people in the picture; without any, of the whole picture."""
        inputs, ratio = letterbox(image)
        boxes = decode_boxes(self._run(self._find, inputs[None])[0], ratio)
        points, scores = [], []
        for box in boxes if len(boxes) else [np.array([0.0, 0.0, image.shape[1], image.shape[0]])]:
            picture, centre, scale = crop_person(image, box)
            x, y = self._run(self._point, picture.transpose(2, 0, 1)[None])
            joints, score = decode_points(x[0], y[0], centre, scale)
            points.append(joints)
            scores.append(score)
        return to_official(np.stack(points), np.stack(scores), image.shape[1], image.shape[0])

    def _poses(self, image: Picture) -> list[Pose]:
        value = self.official(image)
        return [pose_from_official(value, "DWPose", person) for person in range(len(value["faces"]))]

    def _run(self, network: Any, inputs: NDArray[Any]) -> list[NDArray[np.float32]]:
        return network.run(None, {network.get_inputs()[0].name: inputs.astype(np.float32)})

    def close(self) -> None:
        """Free the networks' memory; the detector cannot be used afterwards."""
        del self._find, self._point
        gc.collect()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def letterbox(image: Picture) -> tuple[NDArray[np.float32], float]:
    """The picture at the upper left of a grey square: (3, 640, 640) in 0..255, and its scale."""
    ratio = min(_SIDE / image.shape[0], _SIDE / image.shape[1])
    height, width = int(image.shape[0] * ratio), int(image.shape[1] * ratio)
    padded = np.full((_SIDE, _SIDE, 3), _GREY, np.uint8)
    padded[:height, :width] = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return padded.transpose(2, 0, 1).astype(np.float32), ratio


def decode_boxes(output: NDArray[np.float32], ratio: float) -> Floats:
    """YOLOX's output (1, 8400, 85) to the boxes of people (n, 4): x0, y0, x1, y1 in pixels."""
    from rtmlib.tools.object_detection.post_processings import multiclass_nms

    grids, strides = [], []
    for stride in _STRIDES:
        y, x = np.mgrid[0 : _SIDE // stride, 0 : _SIDE // stride]
        grids.append(np.stack([x, y], axis=-1).reshape(-1, 2))
        strides.append(np.full((x.size, 1), stride))
    grid, stride_of = np.concatenate(grids), np.concatenate(strides)
    rows = output[0]
    centre = (rows[:, :2] + grid) * stride_of
    size = np.exp(rows[:, 2:4]) * stride_of
    boxes = np.concatenate([centre - size / 2, centre + size / 2], axis=1) / ratio
    kept, _ = multiclass_nms(boxes, rows[:, 4:5] * rows[:, 5:], nms_thr=_SAME, score_thr=_CANDIDATE)
    if kept is None:
        return np.zeros((0, 4))
    people = kept[(kept[:, 4] > _PERSON) & (kept[:, 5] == 0)]
    return np.asarray(people[:, :4], dtype=np.float64)


def crop_person(image: Picture, box: Floats) -> tuple[Floats, Floats, Floats]:
    """A person's box, widened and in the network's aspect: (384, 288, 3) normalised, centre, scale."""
    from rtmlib.tools.pose_estimation.pre_processings import bbox_xyxy2cs, top_down_affine

    centre, scale = bbox_xyxy2cs(np.asarray(box, dtype=np.float64), padding=_PADDING)
    picture, scale = top_down_affine(_POSE_SIZE, scale, centre, image)
    return (picture - _MEAN) / _STD, centre, scale


def decode_points(
    x: NDArray[np.float32], y: NDArray[np.float32], centre: Floats, scale: Floats
) -> tuple[Floats, Floats]:
    """SimCC outputs (133, bins) to points (133, 2) in pixels and scores (133,); −1 where none is found."""
    bins = np.stack([x.argmax(axis=1), y.argmax(axis=1)], axis=1).astype(np.float64)
    scores = np.minimum(x.max(axis=1), y.max(axis=1))
    bins[scores <= 0] = -1
    return bins / _SPLIT / _POSE_SIZE * scale + centre - scale / 2, scores


def _open(path: Path) -> Any:
    if not path.is_file():
        raise MissingPartError(
            f"{path}: no such file; put {' and '.join(file.place for file in DWPOSE_FILES)} there, or unset "
            f"{DWPOSE_VARIABLE} and run: semibody weights fetch dwpose"
        )
    try:
        import onnxruntime
    except ImportError:
        raise MissingPartError("DWPose needs onnxruntime; pip install 'semibody[pose]'") from None
    try:
        providers = gpus_in_turn(onnxruntime.get_available_providers())
        return onnxruntime.InferenceSession(str(path), providers=providers)
    except Exception as error:  # onnxruntime's own errors share no base class
        reason = str(error).splitlines()[0]
        raise MissingPartError(
            f"{path}: not an ONNX network that can be read ({reason}); copy it again"
        ) from None


def gpus_in_turn(providers: Sequence[str]) -> list[str | tuple[str, dict[str, int]]]:
    """onnxruntime's ways to compute, those of NVIDIA GPUs with the GPU of this worker process: workers of one
    machine take its GPUs in turn."""
    import torch

    count = torch.cuda.device_count()
    own = {"device_id": own_number() % max(1, count)}
    return [(name, own) if name in _OF_GPUS and count > 1 else name for name in providers]
