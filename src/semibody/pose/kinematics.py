"""Two arms and ten fingers: joint angles within human limits, and the keypoints they give.

Lengths are in shoulder widths. A body stands at the origin, the middle of its shoulders: x to the
picture's right, y down, z towards the viewer. An arm has 27 angles in radians (``ANGLES``): seven from
shoulder to wrist, sixteen of the four fingers, four of the thumb. Both arms use the same numbers; the
right one is the mirror image. All angles 0: the arm hangs straight down, palm to the thigh, fingers straight.

    angles = reach(wrist=(0.4, 0.8, 0.7), palm=(0, 0, 1), fingers=(0, -1, 0), shape="open")
    gesture = pose_bodies(Body(), left, right, fps=24)      # left, right (f, 27)
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from semibody.pose.skeleton import HAND_EDGES
from semibody.types import FACE, LEFT_HAND, N_JOINTS, RIGHT_HAND, Floats, Gesture

_FINGERS = ("index", "middle", "ring", "little")

LIMITS_IN_DEGREES: dict[str, tuple[float, float]] = {
    "shoulder_flexion": (-50, 160),
    "shoulder_abduction": (-35, 140),
    "shoulder_twist": (-80, 95),
    "elbow": (2, 148),
    "forearm_twist": (-85, 90),
    "wrist_flexion": (-70, 75),
    "wrist_deviation": (-32, 24),
    **{
        f"{finger}_{joint}": limits
        for finger in _FINGERS
        for joint, limits in (
            ("spread", (-16, 16)),
            ("base", (-22, 92)),
            ("middle", (0, 112)),
            ("tip", (0, 82)),
        )
    },
    "thumb_spread": (-12, 62),
    "thumb_opposition": (-10, 72),
    "thumb_middle": (-8, 58),
    "thumb_tip": (-18, 80),
}
"""Each joint's range: towards the palm, the thumb or the body's middle is positive."""

ANGLES = tuple(LIMITS_IN_DEGREES)
N_ARM = 7
LOW, HIGH = (np.radians([limit[i] for limit in LIMITS_IN_DEGREES.values()]) for i in (0, 1))

UPPER_ARM, FOREARM, HAND = 0.78, 0.66, 0.48
"""Lengths of a grown person in shoulder widths; HAND from the wrist to the middle finger's tip."""

KNUCKLES = np.array([(0.0, 0.48, 0.13), (0.0, 0.50, 0.03), (0.0, 0.47, -0.065), (0.0, 0.43, -0.15)])
PHALANGES = np.array([(0.235, 0.135, 0.105), (0.25, 0.155, 0.11), (0.23, 0.145, 0.11), (0.185, 0.105, 0.10)])
THUMB_ROOT = np.array((-0.04, 0.13, 0.12))
_THUMB = (0.24, 0.185, 0.145)
"""The hand in hand lengths: knuckles, then the bones of each finger; y to the fingertips, z to the thumb's
side, −x out of the palm."""


def _turn(axis: int, angle: Floats) -> Floats:
    """Rotations (…, 3, 3) about axis 0, 1 or 2, each turning the next axis to the one after."""
    angle = np.asarray(angle, dtype=np.float64)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.zeros((*angle.shape, 3, 3))
    matrix[..., axis, axis] = 1.0
    matrix[..., i, i] = matrix[..., j, j] = np.cos(angle)
    matrix[..., j, i], matrix[..., i, j] = np.sin(angle), -np.sin(angle)
    return matrix


def _move(matrix: Floats, vector: Floats) -> Floats:
    return np.einsum("...ij,j->...i", matrix, vector)


@dataclass(frozen=True)
class Arm:
    """Where an arm is, relative to its shoulder: ``elbow``, ``wrist`` (…, 3), ``hand`` (…, 21, 3)."""

    elbow: Floats
    wrist: Floats
    hand: Floats
    turned: Floats
    """(…, 3, 3) the hand's axes: columns away from the palm, to the fingertips, to the thumb's side"""


def place_arm(angles: Floats) -> Arm:
    """Forward kinematics of a left arm: ``angles`` (…, 27) to points."""
    a = np.moveaxis(np.asarray(angles, dtype=np.float64), -1, 0)
    elbow, wrist, turned = place_wrist(a)
    points = [wrist]
    points += place_thumb(a[23:27], turned, wrist)
    for finger in range(4):
        points += place_finger(finger, a[7 + 4 * finger : 11 + 4 * finger], turned, wrist)
    return Arm(elbow, wrist, np.stack(points, axis=-2), turned)


def place_wrist(a: Floats) -> tuple[Floats, Floats, Floats]:
    """Elbow, wrist (…, 3) and the hand's axes (…, 3, 3) of the first seven angles ``a`` (7, …)."""
    upper = _turn(2, -a[1]) @ _turn(0, a[0]) @ _turn(1, -a[2])
    fore = upper @ _turn(0, a[3]) @ _turn(1, -a[4])
    elbow = UPPER_ARM * upper[..., :, 1]
    return elbow, elbow + FOREARM * fore[..., :, 1], fore @ _turn(2, a[5]) @ _turn(0, a[6])


def place_finger(finger: int, a: Floats, turned: Floats, wrist: Floats) -> list[Floats]:
    """The four joints (…, 3) of finger 0 (index) … 3 (little), bent by its angles ``a`` (4, …)."""
    at = wrist + HAND * _move(turned, KNUCKLES[finger])
    points = [at]
    # Fingers fan out from the middle one, so spreading turns them to either side.
    along = turned @ _turn(0, a[0]) @ _turn(2, a[1])
    for bone, bend in zip(PHALANGES[finger], (0.0, a[2], a[3]), strict=True):
        along = along @ _turn(2, bend) if isinstance(bend, np.ndarray) else along
        at = at + HAND * bone * along[..., :, 1]
        points.append(at)
    return points


def place_thumb(a: Floats, turned: Floats, wrist: Floats) -> list[Floats]:
    """The four joints (…, 3) of the thumb, bent by its angles ``a`` (4, …)."""
    at = wrist + HAND * _move(turned, THUMB_ROOT)
    points = [at]
    along = turned @ _turn(1, -a[1]) @ _turn(0, a[0])
    for bone, bend in zip(_THUMB, (0.0, a[2], a[3]), strict=True):
        along = along @ _turn(0, -bend) if isinstance(bend, np.ndarray) else along
        at = at + HAND * bone * along[..., :, 1]
        points.append(at)
    return points


@functools.cache
def hand_bones() -> Floats:
    """Lengths (20,) of a hand's bones in the order of ``skeleton.HAND_EDGES``, in shoulder widths."""
    hand = place_arm(np.zeros(len(ANGLES))).hand
    ends = np.array(HAND_EDGES)
    return np.asarray(np.linalg.norm(hand[ends[:, 1]] - hand[ends[:, 0]], axis=1))


# -- hand shapes and reaching --------------------------------------------------------------


def _fingers(
    curl: Sequence[float], spread: Sequence[float], thumb: tuple[float, float, float, float]
) -> Floats:
    """Angles (20,) in radians: ``curl`` 0 straight … 1 closed, index to little; the rest in degrees."""
    made = []
    for c, s in zip(curl, spread, strict=True):
        made += [s, -4 + 86 * c, 8 + 96 * c, 5 + 60 * c]
    return np.radians([*made, *thumb])


SHAPES: dict[str, Floats] = {
    "relaxed": _fingers((0.18, 0.22, 0.27, 0.30), (4, 0, -3, -6), (34, 22, 16, 12)),
    "open": _fingers((0.02, 0.0, 0.02, 0.05), (11, 2, -7, -15), (52, 8, 4, -6)),
    "flat": _fingers((0.03, 0.02, 0.03, 0.04), (3, 0, -2, -5), (26, 6, 8, 4)),
    "soft": _fingers((0.10, 0.12, 0.16, 0.18), (7, 1, -5, -10), (44, 14, 10, 6)),
    "fist": _fingers((0.95, 0.98, 0.98, 0.98), (0, 0, 0, 0), (10, 58, 40, 45)),
    "one": _fingers((0.0, 0.94, 0.96, 0.96), (3, 0, 0, 0), (8, 56, 42, 40)),
    "two": _fingers((0.0, 0.0, 0.95, 0.96), (10, -6, 0, 0), (8, 60, 44, 42)),
    "three": _fingers((0.0, 0.0, 0.0, 0.95), (11, 1, -9, 0), (6, 64, 46, 44)),
    "thumb": _fingers((0.92, 0.95, 0.96, 0.96), (0, 0, 0, 0), (58, 0, -6, -16)),
    "pinch": _fingers((0.42, 0.30, 0.26, 0.24), (2, 0, -4, -9), (22, 52, 30, 18)),
    "finger_heart": _fingers((0.36, 0.92, 0.95, 0.96), (0, 0, 0, 0), (30, 26, 18, 36)),
}
"""Hand shapes (20,) by name."""


@functools.cache
def reach(
    wrist: tuple[float, float, float],
    palm: tuple[float, float, float],
    fingers: tuple[float, float, float],
    shape: str = "relaxed",
    elbow_out: float = 0.25,
) -> tuple[float, ...]:
    """Angles (27,) of an arm nearest to what is wanted, within its limits and with little effort.

    ``wrist`` in shoulder widths from the middle of the shoulders, x outwards on the arm's own side;
    ``palm`` where the palm faces and ``fingers`` where the fingertips point, both directions with the same
    x; ``elbow_out`` how far the elbow is held from the body.
    """
    target = np.array(wrist) - (0.5, 0.0, 0.0)
    facing = np.array(palm) / np.linalg.norm(palm)
    along = np.array(fingers) - facing * (np.array(fingers) @ facing)
    along /= np.linalg.norm(along)

    def misses(arms: Floats) -> Floats:
        """(…, 7) angles to (…, 17) misses, the squares of which are to be small."""
        elbow, at, turned = place_wrist(np.moveaxis(arms, -1, 0))
        parts = (
            8.0 * (at - target),
            1.2 * (-turned[..., 0] - facing),
            1.2 * (turned[..., 1] - along),
            elbow[..., :1] - elbow_out,
            EFFORT * (arms - EASY),
        )
        return np.concatenate(parts, axis=-1)

    solved = descend(misses, STARTS, LOW[:N_ARM], HIGH[:N_ARM])
    best = solved[(misses(solved) ** 2).sum(axis=-1).argmin()]
    return (*best.tolist(), *SHAPES[shape].tolist())


EASY = np.radians([25.0, 15.0, 25.0, 70.0, 0.0, 0.0, 0.0])
EFFORT = np.array([0.1, 0.1, 0.1, 0.1, 0.15, 0.3, 0.3])
"""The posture towards which arms are regularised, and the weight of each angle: largest for the wrist."""
STARTS = np.radians(
    [
        (25, 15, 25, 70, 0, 0, 0),
        (60, 10, 60, 110, -40, 0, 0),
        (20, 30, -20, 120, 50, 20, 0),
        (90, 40, 30, 60, 60, 0, 0),
    ]
)


def descend(
    misses: Callable[[Floats], Floats], starts: Floats, low: Floats, high: Floats, rounds: int = 60
) -> Floats:
    """Levenberg's damped least squares within limits, for many problems at once: ``starts`` (n, k).

    ``misses`` takes values (…, n, k) to misses (…, n, m); its Jacobian is computed by finite differences.
    """
    at, damping = starts.copy(), np.full(len(starts), 0.1)
    going = np.ones(len(starts), bool)
    count = starts.shape[1]
    steps = np.concatenate([np.zeros((1, count)), 1e-4 * np.eye(count)])[:, None]
    for _ in range(rounds):
        near = misses(at + steps)
        now, slope = near[0], (near[1:] - near[0]) / 1e-4
        square = np.einsum("knm,lnm->nkl", slope, slope, optimize=True)
        square += damping[:, None, None] * np.eye(count)
        push = np.linalg.solve(square, -np.einsum("knm,nm->nk", slope, now)[..., None])[..., 0]
        tried = np.clip(at + push, low, high)
        gain = (now**2).sum(axis=-1) - (misses(tried) ** 2).sum(axis=-1)
        better = going & (gain > 0)
        at[better] = tried[better]
        damping = np.where(better, np.maximum(damping / 3, 1e-5), damping * 4)
        going &= ~(better & (gain < 1e-7)) & (damping < 1e4)
        if not going.any():
            break
    return at


# -- the whole body in the picture ----------------------------------------------------------

FACE_SHAPE = np.array([
    (-0.552, 0.152), (-0.547, 0.276), (-0.53, 0.372), (-0.505, 0.476), (-0.458, 0.628), (-0.385, 0.745),
    (-0.306, 0.836), (-0.17, 0.949), (0, 1), (0.17, 0.949), (0.306, 0.836), (0.385, 0.745),
    (0.458, 0.628), (0.505, 0.476), (0.53, 0.372), (0.547, 0.276), (0.552, 0.152), (-0.442, 0.072),
    (-0.37, 0.023), (-0.321, 0), (-0.196, 0.01), (-0.124, 0.019), (0.124, 0.019), (0.196, 0.01),
    (0.321, 0), (0.37, 0.023), (0.442, 0.072), (0, 0.122), (0, 0.19), (0, 0.285), (0, 0.393),
    (-0.093, 0.507), (-0.05, 0.518), (0, 0.525), (0.05, 0.518), (0.093, 0.507), (-0.343, 0.151),
    (-0.294, 0.121), (-0.209, 0.122), (-0.135, 0.17), (-0.211, 0.183), (-0.292, 0.178), (0.135, 0.17),
    (0.209, 0.122), (0.294, 0.121), (0.343, 0.151), (0.292, 0.178), (0.211, 0.183), (-0.197, 0.665),
    (-0.11, 0.605), (-0.05, 0.592), (0, 0.602), (0.05, 0.592), (0.11, 0.605), (0.197, 0.665),
    (0.098, 0.721), (0.044, 0.75), (0, 0.758), (-0.044, 0.75), (-0.098, 0.721), (-0.18, 0.666),
    (-0.078, 0.664), (0, 0.668), (0.078, 0.664), (0.18, 0.666), (0.074, 0.67), (0, 0.674),
    (-0.074, 0.67),
])  # fmt: skip
"""A calm face of iBUG-68 from brows (0) to chin (1), measured on the MakeHuman base mesh (CC0)."""
_EARS = np.array([(-0.674, 0.185), (0.674, 0.185)])


@dataclass(frozen=True)
class Body:
    """Where a person stands in the picture, as fractions of a square one; the published sets' medians."""

    neck: tuple[float, float] = (0.5, 0.446)
    shoulders: float = 0.415
    face_height: float = 0.185
    brows: float = 0.132
    hips: float = 1.55
    """the hips below the shoulders, in shoulder widths"""


VIEWER = 6.0
"""Distance of the camera in shoulder widths: what is nearer appears larger."""


def pose_bodies(
    body: Body, left: Floats, right: Floats, fps: float = 24.0, *, head: Floats | None = None, name: str = ""
) -> Gesture:
    """A gesture of arm angles ``left`` and ``right`` (f, 27).

    ``head`` (f, 3): the head's turn to its left, nod and tilt in radians. Every keypoint has confidence 1
    but for the legs, which do not show.
    """
    frames = len(left)
    head = np.zeros((frames, 3)) if head is None else head
    points = np.zeros((frames, N_JOINTS, 3))
    for angles, side, where, arm in ((left, 1.0, LEFT_HAND, (5, 6, 7)), (right, -1.0, RIGHT_HAND, (2, 3, 4))):
        placed = place_arm(angles)
        mirror = np.array([side, 1.0, 1.0])
        shoulder = np.array([0.5 * side, 0.0, 0.0])
        points[:, arm[0]] = shoulder
        points[:, arm[1]] = shoulder + placed.elbow * mirror
        points[:, arm[2]] = shoulder + placed.wrist * mirror
        points[:, where] = shoulder + placed.hand * mirror
    points[:, 8], points[:, 11] = (-0.3, body.hips, 0.0), (0.3, body.hips, 0.0)
    face, ears = _place_face(body, head)
    points[:, FACE] = face
    points[:, 16:18] = ears
    points[:, 0] = face[:, 30]
    points[:, 14], points[:, 15] = face[:, 36:42].mean(axis=1), face[:, 42:48].mean(axis=1)
    nearer = 1.0 / (1.0 - points[..., 2:] / VIEWER)
    joints = np.asarray(np.array(body.neck) + body.shoulders * points[..., :2] * nearer, dtype=np.float64)
    confidence = np.ones((frames, N_JOINTS))
    confidence[:, [9, 10, 12, 13]] = 0.0
    return Gesture(joints, confidence, fps, 1.0, name)


def _place_face(body: Body, head: Floats) -> tuple[Floats, Floats]:
    """Face (f, 68, 3) and ears (f, 2, 3), turned about the middle of the head."""
    scale = body.face_height / body.shoulders
    flat = np.concatenate([FACE_SHAPE, _EARS]) - (0.0, 0.45)
    # The face is modelled as half an ellipsoid: depth falls from the nose to the ears.
    depth = 0.55 - 1.1 * flat[:, 0] ** 2
    depth[27:36] += 0.12
    depth[68:] = -0.1
    solid = np.column_stack([flat, depth]) * scale
    turned = _turn(1, head[:, 0]) @ _turn(0, head[:, 1]) @ _turn(2, head[:, 2])
    centre = np.array([0.0, (body.brows - body.neck[1]) / body.shoulders + 0.45 * scale, 0.0])
    placed = np.einsum("fij,kj->fki", turned, solid) + centre
    placed[..., 2] -= 0.3 * scale
    return placed[:, :68], placed[:, 68:]
