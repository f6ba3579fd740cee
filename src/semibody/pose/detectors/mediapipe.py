"""The offline detector: mediapipe's holistic network merged with its hand network.

Holistic gives body and face, and hands it finds by way of the body's wrists; the hand network finds
hands on its own and places fingers better. Each hand is taken from the hand network where it has one at
that wrist, else from holistic, else searched once more in a window around the wrist. The body network's
wrists are up to a hand's width off, so a found hand replaces them.

mediapipe gives no confidence for most joints: a hand has its handedness score, a face the face
detector's score, and what lies outside the picture counts as not seen.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType, TracebackType
from typing import Any, Self

import numpy as np

from semibody.pose.body import (
    SEEN,
    SHOULDERS,
    anchor,
    face_height,
    hand_length,
    person_size,
    shoulder_distance,
)
from semibody.types import BODY, FACE, LEFT_HAND, RIGHT_HAND, Floats, MissingPartError, Picture, Pose

BODY_FROM_33 = (0, -1, 12, 14, 16, 11, 13, 15, 24, 26, 28, 23, 25, 27, 5, 2, 8, 7)
"""OpenPose-18 from mediapipe's 33 body points; −1: the neck, which is the middle of the shoulders."""

FACE_FROM_478 = (
    127, 234, 93, 132, 58, 172, 150, 176, 152, 400, 379, 397, 288, 361, 323, 454, 356,
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,
    168, 197, 5, 4, 75, 97, 2, 326, 305,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,
    78, 82, 13, 312, 308, 317, 14, 87,
)  # fmt: skip
"""iBUG-68 from mediapipe's face mesh."""

_CONFIDENCE = 0.3
"""mediapipe's own threshold: its default of 0.5 misses clearly visible hands."""
_HOLISTIC_HAND = 0.6
"""Confidence of a hand that only holistic found: it gives no score, and is less precise."""
_REACH = 1.3
"""A hand belongs to a wrist if it is nearer than this many shoulder widths."""


@dataclass(frozen=True)
class _Region:
    """A part of the picture in pixels: x0, y0, x1, y1."""

    x0: int
    y0: int
    x1: int
    y1: int

    def cut(self, image: Picture) -> Picture:
        return np.ascontiguousarray(image[self.y0 : self.y1, self.x0 : self.x1])

    def pixels(self, points: Floats) -> Floats:
        """Fractions of the region to pixels of the picture."""
        return points * (self.x1 - self.x0, self.y1 - self.y0) + (self.x0, self.y0)


@dataclass(frozen=True)
class _Hand:
    joints: Floats
    """(21, 2) pixels"""
    score: float
    left: bool
    """as the hand network predicts it, of the person's own left"""


class MediapipeDetector:
    """See the module; ``people`` and ``follow`` as in ``pose.detectors.Detector``."""

    name = "mediapipe"

    def __init__(self) -> None:
        solutions = import_solutions()
        with quiet():
            self._faces = solutions.face_detection.FaceDetection(
                model_selection=1, min_detection_confidence=_CONFIDENCE
            )
            self._holistic = solutions.holistic.Holistic(
                static_image_mode=True, model_complexity=1, min_detection_confidence=_CONFIDENCE
            )
            self._hands = solutions.hands.Hands(
                static_image_mode=True,
                max_num_hands=4,
                model_complexity=1,
                min_detection_confidence=_CONFIDENCE,
            )
            # The networks print notes from their own threads at the first picture, so they get one here.
            for network in (self._faces, self._holistic, self._hands):
                network.process(np.zeros((64, 64, 3), np.uint8))
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "hands")
        self._has_printed = False

    def people(self, image: Picture) -> list[Pose]:
        height, width = image.shape[:2]
        faces = self._find_faces(image)
        found = [self._pose(image, face, faces) for face in faces] or [self._pose(image, None)]
        poses = sorted(
            (pose for pose in found if pose is not None),
            key=lambda pose: person_size(pose, width / height),
            reverse=True,
        )
        return _distinct(poses)

    def follow(self, image: Picture, last: Pose) -> Pose | None:
        height, width = image.shape[:2]
        size = (width, height)
        was, reach = anchor(last) * size, max(_face_extent(last, size), 0.05 * height)
        faces = self._find_faces(image)
        near = [f for f in faces if np.hypot(*((f[:2] + f[2:4]) / 2 - was)) < 2.5 * reach]
        if near:
            nearest = min(near, key=lambda f: float(np.hypot(*((f[:2] + f[2:4]) / 2 - was))))
            return self._pose(image, nearest, faces)
        # The face detector misses turned heads that holistic still finds where the person was.
        pose = self._pose(image, np.array([*(was - reach / 2), *(was + reach / 2), 0.5]))
        moved = np.hypot(*(anchor(pose) * size - was)) if pose is not None else np.inf
        return pose if moved < 2.5 * reach else None

    def close(self) -> None:
        """Free the networks' memory; the detector cannot be used afterwards."""
        self._thread.shutdown()
        for network in (self._faces, self._holistic, self._hands):
            network.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _silenced(self) -> contextlib.AbstractContextManager[None]:
        """Networks print notes at their first run only; later nothing needs to be silenced."""
        return contextlib.nullcontext() if self._has_printed else quiet()

    def _find_faces(self, image: Picture) -> list[Floats]:
        """Boxes x0, y0, x1, y1 in pixels and a score, as arrays (5,)."""
        height, width = image.shape[:2]
        with self._silenced():
            answer = self._faces.process(image)
        boxes: list[Floats] = []
        for detection in answer.detections or []:
            box = detection.location_data.relative_bounding_box
            x0, y0 = box.xmin, box.ymin
            corners = (x0 * width, y0 * height, (x0 + box.width) * width, (y0 + box.height) * height)
            boxes.append(np.asarray([*corners, detection.score[0]], dtype=np.float64))
        return boxes

    def _pose(self, image: Picture, face: Floats | None, faces: Sequence[Floats] = ()) -> Pose | None:
        """The person whose face is at ``face`` among ``faces``; None when there is no body there."""
        height, width = image.shape[:2]
        region = _person_region(face, faces, width, height)
        part = region.cut(image)
        with self._silenced():
            searching = self._thread.submit(self._hands.process, part)
            answer = self._holistic.process(part)
            hands = _read_hands(searching.result(), region)
        ran = (hands, answer.face_landmarks, answer.left_hand_landmarks, answer.right_hand_landmarks)
        self._has_printed |= all(ran)
        if answer.pose_landmarks is None:
            return None
        pose = Pose.empty()
        body, visible = _points(answer.pose_landmarks, region)
        joints = body[list(BODY_FROM_33)]
        confidence = visible[list(BODY_FROM_33)]
        joints[1], confidence[1] = joints[SHOULDERS].mean(axis=0), confidence[SHOULDERS].min()
        pose.joints[BODY], pose.confidence[BODY] = joints, confidence
        if answer.face_landmarks is not None:
            mesh, _ = _points(answer.face_landmarks, region)
            pose.joints[FACE] = mesh[list(FACE_FROM_478)]
            pose.confidence[FACE] = max(float(face[4]) if face is not None else 0.5, 0.5)
        elif face is None and confidence[SHOULDERS].min() < 0.5:
            return None  # neither a face nor shoulders: not a person to animate
        self._place_hands(image, pose, hands, answer, region)
        pose.joints[:] /= (width, height)
        inside = ((pose.joints >= 0) & (pose.joints <= 1)).all(axis=1)
        pose.confidence[~inside] = 0.0
        return pose

    def _place_hands(
        self, image: Picture, pose: Pose, hands: list[_Hand], answer: Any, region: _Region
    ) -> None:
        """Give each wrist its hand; joints are in pixels here."""
        width = float(shoulder_distance(pose.joints)) or 1.0
        plausible = [hand for hand in hands if _plausible(hand, pose, width)]
        chosen = assign_hands(plausible, pose.joints[7], pose.joints[4], width)
        slots = (
            (LEFT_HAND, 7, answer.left_hand_landmarks, chosen[0]),
            (RIGHT_HAND, 4, answer.right_hand_landmarks, chosen[1]),
        )
        for where, wrist, landmarks, found in slots:
            hand = found
            if hand is None and landmarks is not None:
                points, _ = _points(landmarks, region)
                hand = _Hand(points, _HOLISTIC_HAND, where is LEFT_HAND)
                hand = hand if _plausible(hand, pose, width) else None
            if hand is None and pose.confidence[wrist] >= 0.5:
                hand = self._search_again(image, pose, wrist, width, chosen)
            if hand is not None:
                pose.joints[where], pose.confidence[where] = hand.joints, hand.score
                pose.joints[wrist] = hand.joints[0]
                pose.confidence[wrist] = max(pose.confidence[wrist], hand.score)

    def _search_again(
        self, image: Picture, pose: Pose, wrist: int, width: float, taken: tuple[_Hand | None, _Hand | None]
    ) -> _Hand | None:
        """Detect again, on a crop around a wrist that was found without a hand."""
        height, across = image.shape[:2]
        # The hand is beyond the wrist in the forearm's direction.
        towards = pose.joints[wrist] - pose.joints[wrist - 1]
        middle = pose.joints[wrist] + 0.25 * towards
        half = 0.55 * width
        region = _clip_region(
            middle[0] - half, middle[1] - half, middle[0] + half, middle[1] + half, across, height
        )
        if region is None:
            return None
        with self._silenced():
            found = _read_hands(self._hands.process(region.cut(image)), region)
        others = [hand.joints.mean(axis=0) for hand in taken if hand is not None]
        free = [
            hand
            for hand in found
            if _plausible(hand, pose, width)
            and all(np.hypot(*(hand.joints.mean(axis=0) - other)) > 0.15 * width for other in others)
        ]
        return max(free, key=lambda hand: hand.score, default=None)


def assign_hands(
    hands: list[_Hand], left_wrist: Floats, right_wrist: Floats, width: float
) -> tuple[_Hand | None, _Hand | None]:
    """Which found hand is the left and which the right one.

    Distance to the body's wrists in shoulder widths decides; the network's prediction of left and right
    decides where wrists are near each other (crossed and folded hands).
    """

    def cost(hand: _Hand | None, wrist: Floats, left: bool) -> float:
        if hand is None:
            return _REACH
        distance = float(np.hypot(*(hand.joints[0] - wrist))) / width
        return distance + (0.35 * hand.score if hand.left != left else 0.0)

    options: list[_Hand | None] = [*hands, None]
    pairs = [(a, b) for a in options for b in options if a is None or a is not b]
    return min(pairs, key=lambda pair: cost(pair[0], left_wrist, True) + cost(pair[1], right_wrist, False))


def _plausible(hand: _Hand, pose: Pose, width: float) -> bool:
    """A hand of about human size that is not a part of the face."""
    length = hand_length(hand.joints)
    face = pose.joints[FACE]
    if not 0.1 * width < length < 1.2 * width:
        return False
    if pose.confidence[FACE].max() < SEEN:
        return True
    inside = (hand.joints > face.min(axis=0)).all(axis=1) & (hand.joints < face.max(axis=0)).all(axis=1)
    return not (inside.all() and hand.score < 0.8)


def _person_region(face: Floats | None, faces: Sequence[Floats], width: int, height: int) -> _Region:
    """The part of the picture in which a person with this face may move body and hands.

    It ends half-way to the neighbours' faces: holistic finds one person, the most prominent, in its
    input.
    """
    whole = _Region(0, 0, width, height)
    if face is None:
        return whole
    side = max(face[2] - face[0], face[3] - face[1])
    x, y = (face[0] + face[2]) / 2, (face[1] + face[3]) / 2
    left, right = x - 5 * side, x + 5 * side
    for other in faces:
        middle = (other[0] + other[2]) / 2
        if middle - x > 0.5 * side:
            right = min(right, (x + middle) / 2)
        elif x - middle > 0.5 * side:
            left = max(left, (x + middle) / 2)
    region = _clip_region(left, y - 3 * side, right, y + 7 * side, width, height)
    if region is None:
        return whole
    share = (region.x1 - region.x0) * (region.y1 - region.y0) / (width * height)
    return whole if share > 0.7 and len(faces) < 2 else region


def _clip_region(x0: float, y0: float, x1: float, y1: float, width: int, height: int) -> _Region | None:
    left, right = int(np.clip(x0, 0, width)), int(np.clip(x1, 0, width))
    top, bottom = int(np.clip(y0, 0, height)), int(np.clip(y1, 0, height))
    return _Region(left, top, right, bottom) if right - left >= 16 and bottom - top >= 16 else None


def _points(landmarks: Any, region: _Region) -> tuple[Floats, Floats]:
    values = np.array([(p.x, p.y, p.visibility) for p in landmarks.landmark], dtype=np.float64)
    return region.pixels(values[:, :2]), values[:, 2]


def _read_hands(answer: Any, region: _Region) -> list[_Hand]:
    if not answer.multi_hand_landmarks:
        return []
    hands = []
    for landmarks, side in zip(answer.multi_hand_landmarks, answer.multi_handedness, strict=True):
        points, _ = _points(landmarks, region)
        label = side.classification[0]
        # The network was made for mirrored pictures: its "Right" is the person's left.
        hands.append(_Hand(points, float(label.score), label.label == "Right"))
    return hands


def _face_extent(pose: Pose, size: tuple[int, int]) -> float:
    """Height of the face in pixels."""
    points = pose.joints * size
    if pose.confidence[FACE].max() >= SEEN:
        return float(face_height(points))
    return 0.5 * float(shoulder_distance(points))


def _distinct(poses: list[Pose]) -> list[Pose]:
    """Without the same body found twice: by way of two faces in one region, or a face on a poster."""
    kept: list[Pose] = []
    for pose in poses:
        reach = 0.3 * np.ptp(pose.joints[FACE], axis=0).max() if pose.confidence[FACE].any() else 0.05
        if all(np.hypot(*(anchor(pose) - anchor(other))) > reach for other in kept):
            kept.append(pose)
    return kept


_TOO_NEW = (3, 13)
"""mediapipe 0.10.21, the last with models in its package, has no build for this Python or a later one."""
_USE_DWPOSE = "it has no build for this Python; run: semibody weights fetch dwpose (or use Python 3.12)"


def import_solutions() -> Any:
    # Read by the native library when it loads: without it, every network prints to the terminal.
    os.environ.setdefault("GLOG_minloglevel", "3")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with warnings.catch_warnings(), quiet(), loaded_when_used("matplotlib.pyplot"):
            warnings.simplefilter("ignore")
            import mediapipe
    except ImportError as error:
        remedy = "pip install 'semibody[pose]'" if sys.version_info < _TOO_NEW else _USE_DWPOSE
        raise MissingPartError(f"pose detection needs mediapipe ({error}); {remedy}") from None
    if not hasattr(mediapipe, "solutions"):
        raise MissingPartError(
            "this mediapipe holds no models; pip install 'semibody[pose]' installs mediapipe==0.10.21"
        )
    return mediapipe.solutions


@contextlib.contextmanager
def loaded_when_used(name: str) -> Iterator[None]:
    """Let a module that is imported meanwhile be loaded when something of it is first used.

    mediapipe draws landmarks with matplotlib, which takes longer to import than all the rest, and nothing
    here draws with it.
    """
    finder = _Lazy(name)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Lazy(importlib.abc.MetaPathFinder):
    """Finds one module, with the standard library's loader for modules that are rarely used."""

    def __init__(self, name: str) -> None:
        self._name = name

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self._name:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = importlib.util.LazyLoader(spec.loader)
        return spec


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep native code, which ignores Python's streams, from printing notes to the terminal."""
    with contextlib.ExitStack() as stack:
        sys.stderr.flush()
        kept = os.dup(2)
        stack.callback(os.close, kept)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        stack.callback(os.close, nowhere)
        os.dup2(nowhere, 2)
        stack.callback(os.dup2, kept, 2)
        yield
