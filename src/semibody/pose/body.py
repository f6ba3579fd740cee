"""Measures of a person by their joints, each defined once: what was found, widths, heights, sizes.

    face_found(pose)                            # whether the face was found
    shoulder_width(points, confidence >= SEEN)  # over all frames of a gesture

Joints are numbered as in ``pose.skeleton``. Functions of ``points`` (…, 128, 2) and ``confidence`` (…, 128)
take one frame or many. Points are in one unit for both axes (fractions of a picture times its aspect, or
pixels), and lengths come out in that unit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from semibody.pose.skeleton import HAND_EDGES
from semibody.types import BODY, FACE, LEFT_HAND, RIGHT_HAND, Floats, Pose

SEEN = 0.3
"""Confidence from which a joint counts as found, as in the published code."""
SHOULDERS = [2, 5]
"""The right and the left one."""
USUAL_SHOULDERS = 0.3
"""Assumed width of the shoulders in heights of the picture, where none were found."""


def shoulders_seen(confidence: Floats) -> NDArray[np.bool_]:
    """(…,) whether both shoulders were found."""
    return np.asarray(confidence[..., SHOULDERS].min(axis=-1) >= SEEN)


def face_seen(confidence: Floats) -> NDArray[np.bool_]:
    """(…,) whether the face was found: the mean of its points."""
    return np.asarray(confidence[..., FACE].mean(axis=-1) >= SEEN)


def hand_seen(confidence: Floats, hand: slice) -> NDArray[np.bool_]:
    """(…,) whether a hand (LEFT_HAND or RIGHT_HAND) was found: at least half of its joints."""
    return np.asarray(np.median(confidence[..., hand], axis=-1) >= SEEN)


def face_found(pose: Pose) -> bool:
    """Whether the face was found."""
    return bool(face_seen(pose.confidence))


def hands_found(pose: Pose) -> tuple[bool, bool]:
    """Whether the left and the right hand were found."""
    return bool(hand_seen(pose.confidence, LEFT_HAND)), bool(hand_seen(pose.confidence, RIGHT_HAND))


def shoulder_distance(points: Floats) -> Floats:
    """(…,) from shoulder to shoulder, found or not."""
    across = points[..., SHOULDERS[0], :] - points[..., SHOULDERS[1], :]
    return np.asarray(np.hypot(across[..., 0], across[..., 1]))


def shoulder_width(points: Floats, seen: NDArray[np.bool_]) -> float | None:
    """Median distance of the shoulders over the frames that show both; None when none does.

    ``points`` (f, 128, 2), ``seen`` (f, 128).
    """
    both = seen[:, SHOULDERS].all(axis=1)
    if not both.any():
        return None
    return max(float(np.median(shoulder_distance(points[both]))), 1e-3)


def face_height(points: Floats) -> Floats:
    """(…,) from the brows to the chin."""
    return np.asarray(np.ptp(points[..., FACE, 1], axis=-1))


def hand_length(hand: Floats) -> float:
    """Length of a hand (21, 2): wrist to middle fingertip along the bones."""
    bones = [np.hypot(*(hand[b] - hand[a])) for a, b in HAND_EDGES[8:12]]
    return float(np.sum(bones))


def person_size(pose: Pose, aspect: float = 1.0) -> float:
    """How large a person appears, for ranking: the diagonal of face, neck and shoulders."""
    points = pose.joints[: FACE.stop][pose.confidence[: FACE.stop] >= SEEN]
    if len(points) == 0:
        return 0.0
    upper = points[points[:, 1] <= np.median(points[:, 1]) + face_height(pose.joints) * 3]
    return float(np.hypot(*(np.ptp(upper, axis=0) * (aspect, 1.0))))


def anchor(pose: Pose) -> Floats:
    """One point by which a person is recognised in the next frame: the mean of the found face, or body."""
    for part in (FACE, BODY):
        seen = pose.confidence[part] >= SEEN
        if seen.any():
            return np.asarray(pose.joints[part][seen].mean(axis=0))
    return np.array([0.5, 0.5])
