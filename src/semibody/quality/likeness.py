"""One clip of a photograph held against the photograph: hands, rest, identity, sharpness.

    with Observer() as observer:
        values = observer.measure(frames, inputs)      # {"hands-found": 1.0, "rest": 41.2, ...}

Every ``LOOK_EVERY``-th frame is looked at by itself, as finished frames are, before any video codec; faces of
all frames, because a blink is short (``quality.liveliness``). A hand
counts as shown where it was found in the portrait as the user gave it, inside the clip's framing. What a
picture cannot tell is NaN: hands found without hands, the PSNR at rest of a clip that never rests.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from semibody.evaluation.faces import DlibEmbedder, Embedder, Face, FaceFinder, open_face_finder
from semibody.evaluation.measures.identity import dlib_cosine
from semibody.inputs import Inputs
from semibody.pose.body import SEEN, SHOULDERS, face_found, hands_found, shoulder_distance
from semibody.pose.detectors import Detector, open_detector
from semibody.pose.hands import hand_variation
from semibody.pose.regions import hull_mask
from semibody.quality.liveliness import measure_life
from semibody.types import FACE, HANDS, N_HAND, Floats, Gesture, MissingPartError, Picture, Pose

LOOK_EVERY = 3
"""Of so many frames one is looked at."""
HKV_SIDE = 768
"""HKV is in pixels of a picture whose longer side has so many."""
_ARMS = ((2, 3, 4), (5, 6, 7))
_HIPS = (8, 11)
_BELOW = 0.15
"""Shoulder widths below the shoulders where cloth begins: above are neck and collar."""
_ARM = 0.35
"""Width of an arm with its sleeve, in shoulder widths."""
_LEAST = 0.002
"""Share of the picture below which a region is too small to tell how sharp it is."""
_MARGIN = 0.02
"""Heights of the picture about a person within which her edge lies."""
_EXACT = 1e-6
"""Fraction of the picture within which a pose is the portrait's own."""
_EQUAL = 60.0
"""dB from which frames count as equal to the portrait, so that one exact clip does not decide a mean."""


@dataclass(frozen=True)
class Likeness:
    """A thing measured: its ``title`` in tables, and its ``unit`` ("" for a share or a ratio)."""

    title: str
    unit: str = ""


LIKENESSES = {
    "hands-found": Likeness("frames with both shown hands, of portraits that show both, share"),
    "HKC-share": Likeness("HKC-mediapipe of shown hands over the portrait's own"),
    "hands-off": Likeness("hand joints found against asked for, of the shoulders", "%"),
    "rest": Likeness("frames whose hands rest against the portrait, outside what lives", "dB"),
    "identity": Likeness("identity to the portrait (dlib, centred)"),
    "face-sharpness": Likeness("gradient energy of the face in moving frames over the portrait's"),
    "cloth-sharpness": Likeness("gradient energy of cloth in moving frames over the portrait's"),
    "HKV": Likeness("movement of hands as found (HKV)", "px of 768"),
    "HKV-planned": Likeness("movement of hands as planned (HKV)", "px of 768"),
    "hands-invented": Likeness("hands found where the portrait shows none, share of frames"),
    "blinks": Likeness("blinks, by the opening of the eyes", "a minute"),
    "head-motion": Likeness("movement of the head, root mean square, of the face's height", "%"),
    "background": Likeness("what is away from head, body and arms against the portrait", "dB"),
    "mouth-shut": Likeness("open mouths of portraits shut in silence, share of silent frames"),
    "seconds": Likeness("computing for a second of video, loading included", "s"),
}
"""By the names that goals and files use, in the order of tables."""


class Observer:
    """Detectors, opened once for many clips. Raises MissingPartError without mediapipe; without dlib
    ``without`` says what is not measured and why."""

    def __init__(
        self,
        detector: Detector | None = None,
        finder: FaceFinder | None = None,
        embedder: Embedder | None = None,
    ) -> None:
        self.without: dict[str, str] = {}
        self._detector = detector or open_detector()
        self._finder = finder or open_face_finder()
        self._embedder = embedder
        if embedder is None:
            try:
                self._embedder = DlibEmbedder()
            except MissingPartError as error:
                self.without["identity"] = str(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the detectors' memory."""
        self._detector.close()
        self._finder.close()

    def measure(self, frames: NDArray[np.uint8], inputs: Inputs) -> dict[str, float]:
        """Every likeness of a clip (f, h, w, 3) but the seconds; NaN for what it cannot have."""
        own, gesture = inputs.portrait_pose, inputs.gesture
        looked = range(0, len(frames), LOOK_EVERY)
        poses = [self._pose(frames[number]) for number in looked]
        values = dict.fromkeys((name for name in LIKENESSES if name != "seconds"), math.nan)
        known = self._finder.find(inputs.portrait)
        faces = [self._finder.find(frame) for frame in frames]
        values["identity"] = self._identity(frames, faces, inputs.portrait, known)
        values |= measure_life(faces, known, inputs.speech, gesture.fps)
        if own is None:
            return values
        asked = Gesture(gesture.joints[looked.start : len(frames) : LOOK_EVERY],
                        gesture.confidence[looked.start : len(frames) : LOOK_EVERY])  # fmt: skip
        resting = at_rest(gesture, own)[: len(frames)]
        values |= measure_hands(poses, asked, own, self._pose(inputs.portrait), frames.shape[1:3])
        values["HKV-planned"] = _planned(inputs.gesture, frames.shape[1:3])
        values["background"] = background_psnr(frames[::LOOK_EVERY], asked, inputs, own)
        values["rest"] = rest_psnr(frames[resting], inputs.portrait, living(inputs, own))
        moving = [n for n in looked if not resting[n]] or list(looked)
        face, cloth = sharpness(frames[moving], [gesture[n] for n in moving], inputs.portrait, own)
        return values | {"face-sharpness": face, "cloth-sharpness": cloth}

    def _pose(self, picture: Picture) -> Pose:
        people = self._detector.people(picture)
        return people[0] if people else Pose.empty()

    def _identity(
        self, frames: NDArray[np.uint8], faces: list[Face | None], portrait: Picture, known: Face | None
    ) -> float:
        """Mean centred cosine to the portrait's face ``known``; a frame without a face counts 0."""
        if self._embedder is None or known is None:
            return math.nan
        reference = self._embedder.embed(portrait, known)
        cosines = [
            float(dlib_cosine(self._embedder.embed(frames[n], face)[None], reference)[0]) if face else 0.0
            for n, face in list(enumerate(faces))[::LOOK_EVERY]
        ]
        return float(np.mean(cosines))


# -- hands -----------------------------------------------------------------------------------


def measure_hands(
    poses: list[Pose], asked: Gesture, own: Pose, best: Pose, size: tuple[int, ...]
) -> dict[str, float]:
    """What ``poses`` found in frames of ``size`` (height, width) say of the hands.

    ``asked`` has a pose for each; ``own`` is the portrait's pose as the clip was planned from it, ``best``
    as the same detector finds it in the portrait at the clip's size.
    """
    pixels = np.array([size[1], size[0]], float)
    shown = np.array(hands_found(own))
    found = np.array([hands_found(pose) for pose in poses])
    confidence = np.stack([np.minimum(pose.confidence[HANDS], 1) for pose in poses])
    points = np.stack([pose.joints[HANDS] for pose in poses])
    joints = np.repeat(shown, N_HAND)
    values = {"hands-found": float(found.all(axis=1).mean()) if shown.all() else math.nan}
    hidden = ~(shown | np.array(hands_found(best)))
    values["hands-invented"] = float(found[:, hidden].any(axis=1).mean()) if hidden.any() else math.nan
    if not shown.any():
        return values
    at_best = float(np.minimum(best.confidence[HANDS], 1)[joints].mean())
    values["HKC-share"] = float(confidence[:, joints].mean()) / at_best if at_best else math.nan
    off = np.hypot(*np.moveaxis((points - asked.joints[:, HANDS]) * pixels, -1, 0))
    seen = (confidence >= SEEN) & joints
    shoulders = float(shoulder_distance(own.joints * pixels))
    values["hands-off"] = 100 * float(off[seen].mean()) / shoulders if seen.any() else math.nan
    both = (len(poses), 2, N_HAND)
    values["HKV"] = hand_variation(
        points.reshape(*both, 2) * _hkv_scale(size), (confidence * joints).reshape(both), threshold=SEEN
    )
    return values


def _planned(gesture: Gesture, size: tuple[int, ...]) -> float:
    return hand_variation(gesture.hands * _hkv_scale(size), gesture.hands_confidence, threshold=SEEN)


def _hkv_scale(size: tuple[int, ...]) -> Floats:
    return np.array([size[1], size[0]], float) / max(size[:2]) * HKV_SIDE


# -- rest ------------------------------------------------------------------------------------


def at_rest(gesture: Gesture, own: Pose) -> NDArray[np.bool_]:
    """(f,) where the whole pose is the portrait's own."""
    return np.asarray((np.abs(gesture.joints - own.joints) <= _EXACT).all(axis=(1, 2)))


def living(inputs: Inputs, own: Pose) -> NDArray[np.bool_]:
    """(h, w) what moves while the hands rest: the lower half of the face, or where head and shoulders live
    the whole person, as the matte has her, and a margin."""
    height, width = inputs.portrait.shape[:2]
    if inputs.life is not None and inputs.person is not None:
        size = 2 * round(_MARGIN * height) + 1
        return cv2.dilate((inputs.person > 0).astype(np.uint8), np.ones((size, size), np.uint8)) > 0
    face = own.joints[FACE]
    return hull_mask(np.concatenate([face[2:15], face[31:36]]), height, width, 0.1) > 0


def background_psnr(frames: NDArray[np.uint8], asked: Gesture, inputs: Inputs, own: Pose) -> float:
    """PSNR in dB of what is neither person nor arms in any of these frames, whose poses were ``asked``, at
    most 60; NaN where the portrait's background is not known."""
    if inputs.person is None:
        return math.nan
    taken = living(inputs, own) | (inputs.person > 0)
    for n in range(len(frames)):
        taken = taken | _arms(asked[n], own, inputs.portrait)
    return rest_psnr(frames, inputs.portrait, taken) if (~taken).mean() > _LEAST else math.nan


def rest_psnr(frames: NDArray[np.uint8], portrait: Picture, moving: NDArray[np.bool_]) -> float:
    """PSNR in dB outside ``moving`` (h, w), at most 60; NaN without frames."""
    if not len(frames):
        return math.nan
    errors = [((frame.astype(float) - portrait) ** 2)[~moving].mean() for frame in frames]
    return float(min(10 * np.log10(255**2 / max(float(np.mean(errors)), 1e-9)), _EQUAL))


# -- sharpness -------------------------------------------------------------------------------


def sharpness(
    frames: NDArray[np.uint8], poses: list[Pose], portrait: Picture, own: Pose
) -> tuple[float, float]:
    """Mean gradient energy of frames over the portrait's, of the face and of the torso's cloth.

    ``poses`` are those the frames were made for. Each face is taken where it is; cloth where neither the
    portrait nor the frame has arms or hands. NaN for a region that is too small.
    """
    before = gradient_energy(portrait)
    face, cloth = [], []
    for frame, pose in zip(frames, poses, strict=True):
        energy = gradient_energy(frame)
        if face_found(own):
            face.append(_ratio(energy, _face(pose, portrait), before, _face(own, portrait)))
        free = _torso(own, portrait) & ~_arms(own, own, portrait) & ~_arms(pose, own, portrait)
        cloth.append(_ratio(energy, free, before, free))
    return _known_mean(face), _known_mean(cloth)


def gradient_energy(picture: Picture) -> Floats:
    """(h, w) squared length of the gradient of the luma, in grey levels per pixel."""
    down, across = np.gradient(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float64))
    return np.asarray(down**2 + across**2)


def _ratio(energy: Floats, where: NDArray[np.bool_], before: Floats, there: NDArray[np.bool_]) -> float:
    if min(where.mean(), there.mean()) < _LEAST:
        return math.nan
    reference = float(before[there].mean())
    return float(energy[where].mean()) / reference if reference else math.nan


def _known_mean(values: list[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return float(np.mean(known)) if known else math.nan


def _face(pose: Pose, picture: Picture) -> NDArray[np.bool_]:
    height, width = picture.shape[:2]
    return hull_mask(pose.joints[FACE], height, width, 0.0, oversample=1) > 0.5


def _torso(own: Pose, picture: Picture) -> NDArray[np.bool_]:
    """From below the shoulders to the hips, or to the lower edge where no hips are seen."""
    height, width = picture.shape[:2]
    if own.confidence[SHOULDERS].min() < SEEN:
        return np.zeros((height, width), bool)
    size = np.array([width, height])
    across = float(shoulder_distance(own.joints * size))
    upper = own.joints[SHOULDERS] + (0.0, _BELOW * across / height)
    seen = own.confidence[list(_HIPS)].min() >= SEEN
    lower = own.joints[list(_HIPS)] if seen else np.stack([upper[:, 0], np.ones(2)], axis=1)
    return hull_mask(np.concatenate([upper, lower]), height, width, 0.0, oversample=1) > 0.5


def _arms(pose: Pose, own: Pose, picture: Picture) -> NDArray[np.bool_]:
    """Arms and hands of ``pose``, of those that ``own`` shows, with some room around them."""
    height, width = picture.shape[:2]
    points = np.round(pose.joints * (width, height)).clip(-30000, 30000).astype(np.int32)
    across = float(shoulder_distance(own.joints * (width, height)))
    canvas = np.zeros((height, width), np.uint8)
    for arm in _ARMS:
        for a, b in itertools.pairwise(arm):
            if min(own.confidence[[a, b]]) >= SEEN:
                ends = (points[a].tolist(), points[b].tolist())
                cv2.line(canvas, *ends, 255, max(1, round(_ARM * across)))
    covered = canvas > 0
    for hand in _shown_hands(own):
        covered |= hull_mask(pose.joints[hand], height, width, 0.2, oversample=1) > 0
    return covered


def _shown_hands(own: Pose) -> Iterator[slice]:
    for number, found in enumerate(hands_found(own)):
        if found:
            yield slice(HANDS.start + number * N_HAND, HANDS.start + (number + 1) * N_HAND)
