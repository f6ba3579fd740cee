"""Framing: the square of a video, or the part of a portrait, that the model was trained on.

The rule of EMTD, the paper's test set: from the brows down to the lowest of elbows and wrists, plus a
margin, a square around the neck. ``emtd_crop`` is the published arithmetic for a video, ``crop_gesture`` the
same for poses alone; ``frame_portrait`` applies the rule to one picture, for any aspect.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from semibody.pose.body import (
    SEEN,
    SHOULDERS,
    face_found,
    face_height,
    shoulder_distance,
    shoulders_seen,
)
from semibody.types import FACE, HANDS, Floats, Gesture, Picture, Pose

Beyond = Literal["soft", "plain", "black"]
"""What is put beyond a picture's edge: the edge continued and softened, continued as it is, or black."""

MARGIN = 0.25
"""Margin as a share of the person's height; ABOVE and BELOW are the shares above and below."""
ABOVE, BELOW = 0.65, 0.5
TRUNK = slice(0, 7)
"""Body joints that decide the lower edge: nose, neck, right arm, left shoulder and elbow."""
_NECK = 1


@dataclass(frozen=True)
class Crop:
    """A rectangle of a picture in pixels (may reach outside it) and, in fractions, what it maps to 0..1.

    ``x0 y0 x1 y1`` pixels to cut, ``low`` and ``high`` the (x, y) fractions that become 0 and 1.
    """

    x0: int
    y0: int
    x1: int
    y1: int
    low: tuple[float, float]
    high: tuple[float, float]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.x1 - self.x0, self.y1 - self.y0

    def outside(self, width: int, height: int) -> float:
        """Share of the rectangle that lies beyond a picture of ``width`` x ``height`` pixels."""
        across, down = self.size
        shown_across = min(self.x1, width) - max(self.x0, 0)
        shown_down = min(self.y1, height) - max(self.y0, 0)
        return 1 - max(0, shown_across) * max(0, shown_down) / (across * down)

    def apply(self, image: Picture, beyond: Beyond = "soft") -> Picture:
        """Cut the picture."""
        return cut(image, self.x0, self.y0, self.x1, self.y1, beyond)

    def joints(self, joints: Floats) -> Floats:
        """Fractions of the picture to fractions of the crop."""
        return _mapped(joints, self.low, self.high)

    def gesture(self, gesture: Gesture) -> Gesture:
        """The gesture as seen in the crop; joints that were not found stay at 0."""
        across, down = self.size
        return _mapped_gesture(gesture, self.low, self.high, across / down)


def _mapped(joints: Floats, low: tuple[float, float], high: tuple[float, float]) -> Floats:
    """Joints (…, 2) such that ``low`` becomes (0, 0) and ``high`` (1, 1)."""
    return np.asarray((joints - np.array(low)) / (np.array(high) - np.array(low)))


def _mapped_gesture(
    gesture: Gesture, low: tuple[float, float], high: tuple[float, float], aspect: float
) -> Gesture:
    found = gesture.confidence[..., None] > 0
    joints = np.where(found, _mapped(gesture.joints, low, high), 0.0)
    return Gesture(joints, gesture.confidence, gesture.fps, aspect, gesture.name)


def box_crop(x0: int, y0: int, x1: int, y1: int, width: int, height: int) -> Crop:
    """A rectangle of a picture of ``width`` x ``height`` pixels; joints follow the same pixels."""
    return Crop(x0, y0, x1, y1, (x0 / width, y0 / height), (x1 / width, y1 / height))


def emtd_crop(joints: Floats, confidence: Floats, width: int, height: int) -> Crop | None:
    """One square for a clip of ``width`` x ``height`` pixels; None where no face or no neck was found.

    ``joints`` (f, 128, 2) in fractions, ``confidence`` (f, 128). The published arithmetic, of which ``low``
    and ``high`` keep the unrounded rows, with two faults corrected: joints that were not found do not count,
    and a square which leaves the picture at the left is padded instead of lost.
    """
    extent = _emtd_extent(joints, confidence)
    if extent is None:
        return None
    low, high, neck = extent
    y0 = int(low * height)
    side = int(high * height) - y0 + 1
    x0 = int(neck * width) - side // 2
    return Crop(x0, y0, x0 + side, y0 + side, (x0 / width, low), ((x0 + side) / width, high))


def crop_gesture(gesture: Gesture) -> Gesture:
    """A detected gesture as seen in the square of ``emtd_crop``, which it does not round to pixels.

    Joints that were not found stay at 0. Without face and neck the gesture comes back as it is.
    """
    extent = _emtd_extent(gesture.joints, gesture.confidence)
    if extent is None:
        return gesture
    low, high, neck = extent
    half = (high - low) / 2 / gesture.aspect
    return _mapped_gesture(gesture, (neck - half, low), (neck + half, high), 1.0)


def _emtd_extent(joints: Floats, confidence: Floats) -> tuple[float, float, float] | None:
    """Upper edge, lower edge and middle across of EMTD's square, in fractions of the picture."""
    found = confidence >= SEEN
    if not found[:, FACE].any() or not found[:, _NECK].any():
        return None
    top = float(joints[:, FACE, 1][found[:, FACE]].min())
    bottom = float(joints[:, TRUNK, 1][found[:, TRUNK]].max())
    neck = float(joints[:, _NECK, 0][found[:, _NECK]].mean())
    margin = MARGIN * (bottom - top)
    return max(0.0, top - ABOVE * margin), min(1.0, bottom + BELOW * margin), neck


def fit_square(image: Picture, side: int) -> Picture:
    """Scaled to fit a square of ``side`` pixels, in the middle of black, as published frames are saved."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = (round(width * scale), round(height * scale))
    canvas = np.zeros((side, side, 3), np.uint8)
    left, top = (side - size[0] + 1) // 2, (side - size[1] + 1) // 2
    canvas[top : top + size[1], left : left + size[0]] = cv2.resize(image, size)
    return canvas


@dataclass(frozen=True)
class Framing:
    """How a portrait was framed: the crop, whether the picture is unchanged, and notices for the user."""

    crop: Crop
    kept: bool
    notices: tuple[str, ...] = ()


HEAD_ROOM = 0.126
"""Where the brows are in the published gestures: this share of the height below the upper edge."""
_CLOSE_SCALE, _CLOSE_SHIFT = 0.15, 0.08
"""A picture that is framed this nearly right stays as it is."""
_MOST_PADDING = 0.2
"""Sides and top may be continued by at most this share of the crop."""
_WAIST = 1.05
"""Where wrists rest, in shoulder widths below the shoulders; gestures need that space in any picture."""
_WRISTS = (4, 7)
_HAIR = 0.95
"""Top of full hair above the brows, in heights of the face from brows to chin; a bald head ends at 0.7."""
_SMALL = 256


def frame_portrait(pose: Pose, width: int, height: int, aspect: float = 1.0) -> Framing:
    """The part of a ``width`` x ``height`` picture to animate, ``aspect`` wide for 1 high.

    Head room and size become those of the training set as far as the picture allows: it is never
    stretched, and continued beyond its edges by a fifth at most. Without a face the whole picture is
    kept. A picture that is already framed about right is unchanged.
    """
    plain = _plain_crop(width, height, aspect)
    if not face_found(pose) or not shoulders_seen(pose.confidence):
        return Framing(plain, True)
    points = pose.joints * (width, height)
    wanted, notices = _wanted(points, pose, width, height, aspect)
    across, down = wanted.size
    off = np.array([wanted.x0 - plain.x0 + wanted.x1 - plain.x1, 2 * (wanted.y0 - plain.y0)]) / 2
    same_size = abs(down / plain.size[1] - 1) < _CLOSE_SCALE
    if same_size and (np.abs(off) < _CLOSE_SHIFT * np.array([across, down])).all():
        return Framing(plain, True)
    if down < _SMALL:
        notices.append(f"the person is only {down} pixels high in the picture: use a larger picture")
    return Framing(wanted, False, tuple(notices))


def _wanted(points: Floats, pose: Pose, width: int, height: int, aspect: float) -> tuple[Crop, list[str]]:
    notices = []
    seen = pose.confidence >= SEEN
    shoulders = float(shoulder_distance(points))
    low = [points[i, 1] for i in (*range(TRUNK.start, TRUNK.stop), *_WRISTS) if seen[i]]
    bottom = max(*low, points[SHOULDERS, 1].max() + _WAIST * shoulders)
    top = points[FACE, 1].min()
    person = bottom - top
    y0 = top - ABOVE * MARGIN * person
    y1 = min(bottom + BELOW * MARGIN * person, height)
    # The lower edge is limited to the picture's, so the remaining height decides size and head room.
    hair = top - _HAIR * float(face_height(points))
    y0 = max(min(y0, hair, top - HEAD_ROOM * (y1 - y0)), -_MOST_PADDING * (y1 - y0))
    # A narrow video needs more height to hold the hands, where the picture has it.
    hands = points[HANDS, 0][seen[HANDS]]
    space = 2.1 * float(np.abs(hands - points[1, 0]).max()) if len(hands) else 0.0
    missing = max(0.0, space / aspect - (y1 - y0))
    grow_down = min(missing, max(0.0, height - y1))
    y0, y1 = y0 - min(missing - grow_down, max(0.0, y0)), y1 + grow_down
    down = y1 - y0
    across = down * aspect
    x0 = points[1, 0] - across / 2
    # A small shift off the middle is better than padding beyond the picture's edge.
    slack = 0.05 * across
    x0 += float(np.clip(-x0, 0, slack)) - float(np.clip(x0 + across - width, 0, slack))
    outside = max(-x0, x0 + across - width) / across
    if outside > _MOST_PADDING:
        shrink = (1 - 2 * _MOST_PADDING) / max(1e-6, 1 - 2 * outside) if outside < 0.5 else 0.5
        across, x0 = across * shrink, points[1, 0] - across * shrink / 2
        y1, down = y0 + down * shrink, down * shrink
        notices.append("the picture is too narrow for the whole gesture space: hands may leave the video")
    elif outside > 0.01:
        notices.append(f"the picture was continued at its sides by {outside:.0%}")
    if y0 < -0.01 * down:
        notices.append(f"head room was added: {-y0 / down:.0%} above the picture")
    left, over = round(x0), round(y0)
    crop = box_crop(left, over, left + round(across), over + round(down), width, height)
    return crop, notices


def _plain_crop(width: int, height: int, aspect: float) -> Crop:
    """The largest part of the wanted aspect: the middle across, the top down."""
    if width / height > aspect:
        across = max(1, round(height * aspect))
        left = (width - across) // 2
        return box_crop(left, 0, left + across, height, width, height)
    return box_crop(0, 0, width, max(1, round(width / aspect)), width, height)


def keep_whole(width: int, height: int, aspect: float) -> Crop:
    """The smallest rectangle of the wanted aspect that holds the whole picture, in its middle."""
    across, down = max(width, round(height * aspect)), max(height, round(width / aspect))
    left, over = -((across - width) // 2), -((down - height) // 2)
    return box_crop(left, over, left + across, over + down, width, height)


def cut(image: Picture, x0: int, y0: int, x1: int, y1: int, beyond: Beyond = "soft") -> Picture:
    """A rectangle of a picture. Raises ValueError when nothing of the picture lies in it."""
    height, width = image.shape[:2]
    left, top, right, below = max(0, -x0), max(0, -y0), max(0, x1 - width), max(0, y1 - height)
    inner = image[max(0, y0) : min(height, y1), max(0, x0) : min(width, x1)]
    if not (left or top or right or below):
        return np.ascontiguousarray(inner)
    if inner.size == 0:
        raise ValueError(f"nothing of the picture lies in {x0, y0, x1, y1}")
    border = cv2.BORDER_CONSTANT if beyond == "black" else cv2.BORDER_REPLICATE
    wide = np.asarray(cv2.copyMakeBorder(inner, top, below, left, right, border), np.uint8)
    if beyond != "soft":
        return wide
    soft = cv2.GaussianBlur(wide, (0, 0), max(left, top, right, below) / 6)
    soft[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    return soft
