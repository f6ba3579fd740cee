"""Hands that something covers in the picture: a cup, a microphone, a book they hold; a table; darkness.

    shown = dim_covered_hands(picture, pose)

A detector gives all joints of a hand, also those behind what the hand holds, with one confidence. Where
several joints lie on the face's colour and several do not, something else is there as well. Moved, such a
hand would be torn from the object, so its confidence is lowered to that of a hand half hidden. In a picture
so dark that nothing can be told, moving hands would be drawn bright. A table is seen by its edge, which
crosses the whole picture in front of the body; a hand on it would take the edge along.
"""

from __future__ import annotations

import cv2
import numpy as np

from semibody.pose.body import SEEN, SHOULDERS, face_found, hands_found
from semibody.pose.skeleton import ARMS
from semibody.types import FACE, HANDS, Floats, Picture, Pose

HALF_HIDDEN = 0.4
"""Confidence of joints of a hand that something covers."""
DARK = 18.0
"""Lightness of a face (L of CIE Lab, 0 … 100) under which a picture is too dark; the darkest skin in ordinary
light has about 25."""
_OTHER_COLOUR = 18.0
"""Distance in a and b of CIE Lab from which a colour is not the skin's: of 54 free hands in 28 photographs
four have one or two joints beyond it."""
_COLOURED = 8.0
"""Length of a face's a and b under which the picture has hardly any colour, and nothing can be said."""
_COVERED = 4
"""Joints on another colour from which a hand counts as covered; as many must be skin, unlike a glove's."""
_EDGE_LEVELS, _EDGE_SHARE = 10.0, 0.9
"""Grey levels by which a table's edge stands out, in this share of the picture's columns."""
_EDGE_ROWS = 0.008
"""Height, of the picture's, in which an edge may lie a little higher or lower from column to column."""
_LEAST_BESIDE = 0.3
"""Share of the columns before the torso, and of those beside it, that hands must leave to be looked at."""
_ALIKE = 32.0
"""Distance in RGB within which columns below the edge show the same surface."""
_NO_TIPS = [j for j in range(21) if j == 0 or j % 4]
"""Nails may be painted, and tips are most easily missed."""
_FACE_SKIN = [FACE.start + j for j in (27, 28, 29, 30, 31, 35)]
"""Bridge and sides of the nose: skin, whatever the hair and the beard."""


def dim_covered_hands(picture: Picture, pose: Pose) -> Pose:
    """The pose with at most ``HALF_HIDDEN`` as confidence of the hands that something covers.

    ``picture`` uint8 (h, w, 3); ``pose`` in fractions of it. Without a face or colours only a table counts.
    """
    if not any(hands_found(pose)):
        return pose
    return _dim_by_colour(picture, _dim_on_table(picture, pose))


def _dim_on_table(picture: Picture, pose: Pose) -> Pose:
    """Hands that reach to the edge of a table, or lie beyond it."""
    edge = table_edge(picture, pose)
    confidence = pose.confidence.copy()
    for hand, *_ in ARMS:
        if edge is not None and pose.joints[hand, 1].max() > edge - _EDGE_ROWS:
            confidence[hand] = np.minimum(confidence[hand], HALF_HIDDEN)
    return pose if edge is None else Pose(pose.joints, confidence)


def table_edge(picture: Picture, pose: Pose) -> float | None:
    """Height, as a fraction of the picture's, of an edge across the whole picture below the shoulders, under
    which one surface lies before the torso and beside it; None without one."""
    grey = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY).astype(np.float32)
    height, width = grey.shape
    near = max(1, round(_EDGE_ROWS * height))
    # The step between the mean of the rows above and of those below.
    step = np.abs(
        cv2.blur(np.roll(grey, -near, axis=0), (3, near)) - cv2.blur(np.roll(grey, near, axis=0), (3, near))
    )
    strong = cv2.dilate(step, np.ones((2 * near + 1, 1))) > _EDGE_LEVELS
    beside = np.ones(width, bool)
    for hand, *_ in ARMS:
        x = pose.joints[hand][pose.confidence[hand] >= SEEN, 0] * width
        if len(x):
            margin = 0.04 * width
            beside[max(0, int(x.min() - margin)) : int(x.max() + margin) + 1] = False
    torso = np.zeros(width, bool)
    left, right = np.sort(pose.joints[SHOULDERS, 0] * width).astype(int).clip(0, width)
    torso[left:right] = True
    if (
        not torso.any()
        or torso.all()
        or beside[torso].mean() < _LEAST_BESIDE
        or beside[~torso].mean() < _LEAST_BESIDE
    ):
        return None
    first = int(pose.joints[SHOULDERS, 1].max() * height) + 4 * near
    for row in range(max(first, 0), height - 6 * near):
        if min(strong[row, beside & torso].mean(), strong[row, beside & ~torso].mean()) < _EDGE_SHARE:
            continue
        surface = np.median(picture[row + 2 * near : row + 5 * near, beside].astype(np.float64), axis=0)
        alike = np.linalg.norm(surface - np.median(surface, axis=0), axis=1) < _ALIKE
        if alike.mean() >= _EDGE_SHARE:
            return row / height
    return None


def _dim_by_colour(picture: Picture, pose: Pose) -> Pose:
    if not face_found(pose):
        return pose
    seen = _colours(picture, pose.joints)
    light, *skin = np.median(seen[_FACE_SKIN], axis=0)
    confidence, colours = pose.confidence.copy(), seen[:, 1:]
    if light < DARK:
        confidence[HANDS] = np.minimum(confidence[HANDS], HALF_HIDDEN)
        return Pose(pose.joints, confidence)
    if float(np.hypot(*skin)) < _COLOURED:
        return pose
    for (hand, *_), found in zip(ARMS, hands_found(pose), strict=True):
        other = np.hypot(*(colours[hand] - skin).T)[_NO_TIPS] > _OTHER_COLOUR
        if found and _COVERED <= np.count_nonzero(other) <= len(other) - _COVERED:
            confidence[hand] = np.minimum(confidence[hand], HALF_HIDDEN)
    return Pose(pose.joints, confidence)


def face_lightness(picture: Picture, pose: Pose) -> float:
    """Lightness of the face's skin, 0 … 100; ``pose`` in fractions of the picture."""
    return float(np.median(_colours(picture, pose.joints)[_FACE_SKIN, 0]))


def _colours(picture: Picture, joints: Floats) -> Floats:
    """L, a and b of CIE Lab where the joints (j, 2) are, of a slightly blurred picture: (j, 3)."""
    height, width = picture.shape[:2]
    blurred = cv2.GaussianBlur(np.ascontiguousarray(picture), (0, 0), max(height, width) / 340)
    x, y = np.floor(joints * (width, height)).astype(int).clip(0, (width - 1, height - 1)).T
    at = blurred[y, x][None].astype(np.float32) / 255
    return np.asarray(cv2.cvtColor(at, cv2.COLOR_RGB2LAB)[0], np.float64)
