"""Drawing poses: hands only, as the published pose encoder was trained on, or more parts for training.

``draw_pose`` is the published drawing: fingers in rainbow colours, joints red. ``draw_parts`` adds body,
head and lips around the same hands, for the blocks of a training in which more keypoints are drawn.
"""

from __future__ import annotations

import colorsys
import itertools
from collections.abc import Collection
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from semibody.pose.skeleton import BODY_EDGES, FACE_PARTS, HAND_EDGES, HEAD_BODY_JOINTS
from semibody.types import BODY, FACE, HANDS, Floats, Pose

_REFERENCE_SIDE = 800
"""Drawing happens at this length of the shorter side, then is scaled: line widths stay in proportion."""
_FAR = 32000
# The published code draws these on a canvas of OpenCV's colour order: red and blue are exchanged.
_EDGE_COLOURS = [colorsys.hsv_to_rgb(i / len(HAND_EDGES), 1.0, 1.0)[::-1] for i in range(len(HAND_EDGES))]


def draw_pose(pose: Pose, height: int, width: int) -> NDArray[np.uint8]:
    """Draw the hands of ``pose`` on a black canvas, uint8 (height, width, 3) RGB."""
    return draw_hands(
        pose.joints[HANDS].reshape(2, 21, 2), pose.confidence[HANDS].reshape(2, 21), height, width
    )


def draw_parts(pose: Pose, height: int, width: int, parts: Collection[str]) -> NDArray[np.uint8]:
    """Draw the chosen ``parts`` of a pose: any of lips, head, body, hands (``pose.skeleton.GROUPS``).

    Returns uint8 (height, width, 3) RGB. With hands alone it is ``draw_pose``. Limbs have one colour
    each, the face is drawn in white strokes, the lips in red; a joint that was not found is left out.
    """
    canvas = draw_pose(pose, height, width) if "hands" in parts else np.zeros((height, width, 3), np.uint8)
    size = np.array([width, height])
    thickness = max(1, round(min(height, width) / 128))
    body, face = pose.joints[BODY] * size, pose.joints[FACE] * size
    seen_body, seen_face = pose.confidence[BODY] > 0, pose.confidence[FACE] > 0
    for number, (a, b) in enumerate(BODY_EDGES):
        part = "head" if b in HEAD_BODY_JOINTS else "body"
        if part in parts and seen_body[a] and seen_body[b]:
            hue = colorsys.hsv_to_rgb(number / len(BODY_EDGES), 1.0, 0.6)
            cv2.line(canvas, _pixel(body[a]), _pixel(body[b]), tuple(255 * c for c in hue), thickness)
    for name, where in FACE_PARTS.items():
        lips = name.endswith("lips")
        if ("lips" if lips else "head") not in parts:
            continue
        points, seen = face[where], seen_face[where]
        closed = lips or name.endswith("eye")
        order = [*range(len(points)), 0] if closed else range(len(points))
        for a, b in itertools.pairwise(order):
            if seen[a] and seen[b]:
                colour = (255, 60, 60) if lips else (255, 255, 255)
                cv2.line(canvas, _pixel(points[a]), _pixel(points[b]), colour, thickness)
    return canvas


def draw_hands(hands: Floats, scores: Floats, height: int, width: int) -> NDArray[np.uint8]:
    """Draw ``hands`` (n, 21, 2), fractions of the picture, with brightness ``scores`` (n, 21).

    Pixel for pixel the published drawing at every size (which itself only works for squares): an edge
    is drawn if both its ends lie right of and below the origin, its brightness the product of their
    scores; then the joints. Colours above 255 saturate.
    """
    scale = _REFERENCE_SIDE / min(height, width)
    canvas_height, canvas_width = int(height * scale), int(width * scale)
    canvas = np.zeros((canvas_height, canvas_width, 3), np.uint8)
    for hand, score in zip(hands, scores, strict=True):
        places = (hand * [canvas_width, canvas_height]).astype(int)
        # Points far outside are invisible too, and OpenCV's coordinates are 32-bit.
        points = [(x, y) for x, y in places.clip(-_FAR, _FAR).tolist()]
        right_below = (places.min(axis=1) > 0).tolist()
        levels = score.tolist()
        for (a, b), colour in zip(HAND_EDGES, _EDGE_COLOURS, strict=True):
            if right_below[a] and right_below[b]:
                brightness = float(int(levels[a] * levels[b] * 255))
                shade = tuple(c * brightness for c in colour)
                cv2.line(canvas, points[a], points[b], shade, thickness=2)
        for point, level, inside in zip(points, levels, right_below, strict=True):
            if inside:
                cv2.circle(canvas, point, 4, (int(level * 255), 0, 0), thickness=-1)
    return np.asarray(cv2.resize(canvas, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def _pixel(point: NDArray[Any]) -> tuple[int, int]:
    x, y = (int(min(max(v, -_FAR), _FAR)) for v in point.tolist())
    return x, y
