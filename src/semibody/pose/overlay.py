"""Pictures for the user: the whole skeleton over a picture, and many pictures on one sheet.

Networks are conditioned on the maps of ``pose.draw``, not on these.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from semibody.media import resize_image
from semibody.pose.skeleton import BODY_EDGES, FACE_PARTS, HAND_EDGES
from semibody.types import BODY, FACE, LEFT_HAND, RIGHT_HAND, Floats, Picture, Pose

_BODY_COLOUR = (90, 220, 120)
_FACE_COLOUR = (240, 240, 240)
_LEFT_COLOUR = (255, 150, 60)
"""The person's left hand is orange, the right one blue: so that a swap is visible."""
_RIGHT_COLOUR = (80, 160, 255)
_FAINT = 0.3
_SHIFT = 4
"""OpenCV draws between pixels when coordinates carry this many binary digits."""


def draw_skeleton(image: Picture, pose: Pose, *, faint: bool = True) -> Picture:
    """``pose`` over a copy of ``image`` (h, w, 3); uncertain hands and faces darker, or not at all."""
    canvas = image.copy()
    height, width = canvas.shape[:2]
    points = pose.joints * (width, height)
    thick = max(1, round(min(height, width) / 300))
    draw = _Drawing(canvas, points, pose.confidence, thick, 0.0 if faint else _FAINT)
    # Legs outside the picture have joints too, with low confidence.
    _Drawing(canvas, points, pose.confidence, thick, _FAINT).edges(BODY, BODY_EDGES, _BODY_COLOUR)
    for part in FACE_PARTS.values():
        draw.chain(FACE.start + part.start, FACE.start + part.stop, _FACE_COLOUR)
    draw.edges(LEFT_HAND, HAND_EDGES, _LEFT_COLOUR)
    draw.edges(RIGHT_HAND, HAND_EDGES, _RIGHT_COLOUR)
    return canvas


class _Drawing:
    def __init__(
        self, canvas: Picture, points: Floats, confidence: Floats, thick: int, threshold: float
    ) -> None:
        self._canvas, self._points, self._confidence = canvas, points, confidence
        self._thick, self._threshold = thick, threshold

    def edges(self, part: slice, edges: Sequence[tuple[int, int]], colour: tuple[int, int, int]) -> None:
        for a, b in edges:
            self._line(part.start + a, part.start + b, colour)

    def chain(self, start: int, stop: int, colour: tuple[int, int, int]) -> None:
        for joint in range(start, stop - 1):
            self._line(joint, joint + 1, colour)

    def _line(self, a: int, b: int, colour: tuple[int, int, int]) -> None:
        seen = min(self._confidence[a], self._confidence[b])
        if seen <= self._threshold:
            return
        shade = tuple(int(c * min(1.0, 0.35 + 0.65 * seen)) for c in colour)
        cv2.line(
            self._canvas, self._at(a), self._at(b), shade, self._thick, lineType=cv2.LINE_AA, shift=_SHIFT
        )

    def _at(self, joint: int) -> tuple[int, int]:
        x, y = np.clip(self._points[joint], -30000, 30000) * 2**_SHIFT
        return int(x), int(y)


def contact_sheet(
    pictures: Sequence[Picture], labels: Sequence[str] = (), *, columns: int = 6, side: int = 256
) -> Picture:
    """``pictures`` in rows on one sheet, each fitted into ``side`` x ``side`` pixels, with labels below."""
    strip = 22 if labels else 0
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * (side + strip), columns * side, 3), 24, np.uint8)
    for number, picture in enumerate(pictures):
        y, x = number // columns * (side + strip), number % columns * side
        fitted = fit_into(picture, side)
        height, width = fitted.shape[:2]
        top, left = y + (side - height) // 2, x + (side - width) // 2
        sheet[top : top + height, left : left + width] = fitted
        if labels:
            write_text(sheet, labels[number], x + 4, y + side + 15)
    return sheet


def fit_into(picture: Picture, side: int) -> Picture:
    """Scaled so that the longer side is ``side``."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    return resize_image(picture, max(1, round(width * scale)), max(1, round(height * scale)))


def write_text(
    canvas: Picture,
    text: str,
    x: int,
    y: int,
    colour: tuple[int, int, int] = (230, 230, 230),
    scale: float = 0.42,
) -> None:
    """Write a line of ASCII text onto ``canvas``; ``x``, ``y`` is where its base line starts."""
    plain = text.encode("ascii", "replace").decode()
    cv2.putText(canvas, plain, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA)
