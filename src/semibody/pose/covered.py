"""Hands that something covers in the picture: a cup, a microphone, a book they hold, or darkness.

    shown = dim_covered_hands(picture, pose)

A detector gives all joints of a hand, also those behind what the hand holds, with one confidence. Where
several joints lie on the face's colour and several do not, something else is there as well. Moved, such a
hand would be torn from the object, so its confidence is lowered to that of a hand half hidden. In a picture
so dark that nothing can be told, moving hands would be drawn bright.
"""

from __future__ import annotations

import cv2
import numpy as np

from semibody.pose.body import face_found, hands_found
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
_NO_TIPS = [j for j in range(21) if j == 0 or j % 4]
"""Nails may be painted, and tips are most easily missed."""
_FACE_SKIN = [FACE.start + j for j in (27, 28, 29, 30, 31, 35)]
"""Bridge and sides of the nose: skin, whatever the hair and the beard."""


def dim_covered_hands(picture: Picture, pose: Pose) -> Pose:
    """The pose with at most ``HALF_HIDDEN`` as confidence of the hands that something covers.

    ``picture`` uint8 (h, w, 3); ``pose`` in fractions of it. Without a face or colours it is the same pose.
    """
    if not face_found(pose) or not any(hands_found(pose)):
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
