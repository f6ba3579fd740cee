"""The tables of the 128 joints: edges and groups.

Body joints are OpenPose-18: 0 nose, 1 neck, 2–4 right shoulder, elbow, wrist, 5–7 left, 8–10 right hip,
knee, ankle, 11–13 left, 14 right eye, 15 left eye, 16 right ear, 17 left ear. Face points are iBUG-68, hands
21 each in OpenPose order (wrist, then thumb to little finger, from palm to tip). "Left" is the person's own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from semibody.types import BODY, FACE, HANDS, LEFT_HAND, N_JOINTS, RIGHT_HAND

Joints = NDArray[np.int_]

BODY_EDGES = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13),
    (1, 0), (0, 14), (14, 16), (0, 15), (15, 17),
)  # fmt: skip

HAND_EDGES = tuple((0 if i % 4 == 1 else i - 1, i) for i in range(1, 21))
"""Each finger is a chain of four joints that starts at the wrist (0)."""

FACE_PARTS = {
    "jaw": slice(0, 17),
    "right_brow": slice(17, 22),
    "left_brow": slice(22, 27),
    "nose": slice(27, 36),
    "right_eye": slice(36, 42),
    "left_eye": slice(42, 48),
    "outer_lips": slice(48, 60),
    "inner_lips": slice(60, 68),
}
LIPS = slice(FACE_PARTS["outer_lips"].start, FACE_PARTS["inner_lips"].stop)
"""Both of a face's lips."""

HEAD_BODY_JOINTS = (0, 14, 15, 16, 17)
"""Body joints that belong to the head: nose, eyes, ears."""

ARMS = ((LEFT_HAND, 5, 6, 7), (RIGHT_HAND, 2, 3, 4))
"""Hand, shoulder, elbow, wrist of each side."""
ARM_JOINTS = np.array([[*arm, *range(hand.start, hand.stop)] for hand, *arm in ARMS])
"""(2, 24) numbers of each side's shoulder, elbow, wrist and hand."""


def _group(*indices: int | slice) -> Joints:
    every = np.arange(N_JOINTS)
    return np.concatenate([np.atleast_1d(every[i]) for i in indices])


_FACE_START = FACE.start

GROUPS: dict[str, Joints] = {
    "lips": _group(slice(_FACE_START + 48, _FACE_START + 68)),
    "head": _group(slice(_FACE_START, _FACE_START + 48), *HEAD_BODY_JOINTS),
    "body": _group(*(i for i in range(BODY.stop) if i not in HEAD_BODY_JOINTS)),
    "hands": _group(HANDS),
    "face": _group(FACE),
    "left_hand": _group(LEFT_HAND),
    "right_hand": _group(RIGHT_HAND),
}
"""Joint numbers by name. ``lips``, ``head``, ``body``, ``hands`` are disjoint and cover all joints:
they are the groups that spatial pose sampling removes one after another (all but the hands)."""
