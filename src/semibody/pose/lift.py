"""From a gesture in image space to arms in 3D: the angles of ``kinematics`` whose projection it is.

    lifted = lift(load_gesture("talk.npz"))
    lifted.states            # (f, 57) as in ``library.state``
    flat_error(gesture, lifted)

A picture gives no depth. It follows from bones of known length that look shorter than they are. A bone may
point forwards or back; joint limits, effort and neighbouring frames decide which: frames are solved from
several postures, and of the solutions the smoothest sequence is taken (Viterbi). Then all frames are solved
from there, regularised towards their mean over time, so that depth does not jitter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semibody.pose import library
from semibody.pose.body import SEEN, shoulder_width
from semibody.pose.kinematics import (
    ANGLES,
    EASY,
    EFFORT,
    FOREARM,
    HAND,
    HIGH,
    KNUCKLES,
    LOW,
    N_ARM,
    PHALANGES,
    SHAPES,
    STARTS,
    THUMB_ROOT,
    UPPER_ARM,
    VIEWER,
    descend,
    hand_bones,
    place_finger,
    place_thumb,
    place_wrist,
)
from semibody.pose.skeleton import ARMS, HAND_EDGES
from semibody.types import Floats, Gesture, SemibodyError

Mask = NDArray[np.bool_]

_SIGNS = (1.0, -1.0)
"""The sign of x of each side, left first."""
_LENGTH = (0.85, 1.25)
"""Bones have the largest length they show, within these factors of a grown person's."""
_NEARER = (1.0, 1.04, 1.09)
"""How much larger upper arm, forearm and hand appear than the shoulders, being nearer to the viewer."""
_EVERY = 3
"""Every so many frames are solved from several postures; those between start from their neighbours."""
_ENOUGH = 0.2
"""Share of frames that must show a wrist; an arm that is found less often stays at rest."""
_FORWARD = 0.25
"""Shoulder widths by which a gesturing hand is in front of the shoulders, at least."""
_POINTS = 8.0
"""Weight of a joint's place (per shoulder width) relative to that of a posture's effort."""
_PALM_JOINTS = [1, 5, 9, 13, 17]
"""Of a hand's 21: the thumb's root and the knuckles."""
_FINGER_JOINTS = [[5 + 4 * k + i for i in range(1, 4)] for k in range(4)]
"""Of a hand's 21: each finger beyond its knuckle."""


@dataclass(frozen=True)
class Lifted:
    """``states`` (f, 57) angles of both arms, head ahead · ``lengths`` (2, 3) factors on upper arm, forearm
    and hand, left first · ``seen`` (f, 2) where the wrist was seen; elsewhere the arm is interpolated."""

    states: Floats
    lengths: Floats
    seen: Mask


def lift(gesture: Gesture) -> Lifted:
    """The arms of a gesture in space. An arm that is hardly ever found is at rest, as in the library.

    Raises SemibodyError when shoulders or both arms are not seen.
    """
    require_arms(gesture)
    flat, certain = _measure(gesture)
    rest = library.state(library.REST.left, library.REST.right)
    states = np.tile(rest, (len(gesture), 1))
    lengths, seen = np.ones((2, 3)), np.zeros((len(gesture), 2), bool)
    n = len(ANGLES)
    for side in (0, 1):
        seen[:, side] = certain[:, side, 1] >= SEEN
        if seen[:, side].mean() < _ENOUGH:
            continue
        arm = _Arm(flat[:, side], np.where(certain[:, side] >= SEEN, 1.0, 0.0))
        lengths[side] = arm.lengths
        states[:, side * n : (side + 1) * n] = _through_gaps(arm.solve(), seen[:, side])
    return Lifted(states, lengths, seen)


def in_space(lifted: Lifted) -> Floats:
    """Shoulders, elbows, wrists and hands (f, 2, 24, 3) of a lifted gesture, both as a left arm's.

    In shoulder widths from the middle of the shoulders: x outwards on the arm's own side, y down, z to the
    viewer; without perspective.
    """
    n = len(ANGLES)
    nothing = np.zeros((len(lifted.states), 23))
    placed = []
    for side in (0, 1):
        arm = _Arm(nothing[..., None], nothing, lifted.lengths[side])
        placed.append(arm.in_space(lifted.states[:, side * n : (side + 1) * n]))
    joints = np.stack(placed, axis=1)
    shoulders = np.broadcast_to(np.array([0.5, 0.0, 0.0]), (*joints.shape[:2], 1, 3))
    return np.concatenate([shoulders, joints], axis=2)


def wrists_seen(gesture: Gesture) -> Mask:
    """(f, 2), left first: where a wrist and its shoulder are seen."""
    return np.asarray(_measure(gesture)[1][:, :, 1] >= SEEN)


def require_arms(gesture: Gesture) -> None:
    """Raise SemibodyError when a gesture cannot be lifted: its shoulders or both its arms are not seen."""
    if not (wrists_seen(gesture).mean(axis=0) >= _ENOUGH).any():
        raise SemibodyError(f"{gesture.name}: hardly shows an arm; give gestures in which the hands are seen")


def flat_error(gesture: Gesture, lifted: Lifted) -> Floats:
    """Distances (f, 2, 23) in shoulder widths between the gesture's and the lifted elbows, wrists and hands.

    Measured from each arm's own shoulder; NaN where the gesture's joint was not seen.
    """
    flat, certain = _measure(gesture)
    off = np.full(certain.shape, np.nan)
    n = len(ANGLES)
    for side in (0, 1):
        arm = _Arm(flat[:, side], certain[:, side], lifted.lengths[side])
        shown = arm.project(lifted.states[:, side * n : (side + 1) * n])
        off[:, side] = np.hypot(*np.moveaxis(shown - flat[:, side], -1, 0))
    return np.where((certain >= SEEN) & lifted.seen[..., None], off, np.nan)


def _measure(gesture: Gesture) -> tuple[Floats, Floats]:
    """Elbow, wrist and hand of both arms (f, 2, 23, 2) as a left arm shows them, and how certain (f, 2, 23).

    In shoulder widths from the middle of the shoulders; the shoulder itself is at (0.5, 0).
    """
    points = gesture.joints * (gesture.aspect, 1.0)
    width = shoulder_width(points, gesture.confidence >= SEEN)
    if width is None:
        raise SemibodyError(
            f"{gesture.name}: never shows both shoulders; give gestures that show the upper body"
        )
    flat, certain = [], []
    for (hand, shoulder, elbow, wrist), sign in zip(ARMS, _SIGNS, strict=True):
        joints = np.r_[elbow, wrist, np.arange(hand.start, hand.stop)]
        sure = np.minimum(gesture.confidence[:, joints], gesture.confidence[:, [shoulder]])
        place = points[:, joints] - points[:, [shoulder]]
        # The hand's own wrist is the more exact of the two.
        exact = sure[:, 2] >= SEEN
        place[exact, 1], sure[exact, 1] = place[exact, 2], sure[exact, 2]
        flat.append(place / width * (sign, 1.0) + (0.5, 0.0))
        certain.append(sure)
    return np.stack(flat, axis=1), np.stack(certain, axis=1)


class _Arm:
    """One arm of a clip: ``flat`` (f, 23, 2) elbow, wrist, hand, with weights (f, 23)."""

    def __init__(self, flat: Floats, weights: Floats, lengths: Floats | None = None) -> None:
        self._flat, self._weights = flat, weights
        self.lengths = self._longest() if lengths is None else lengths

    def _longest(self) -> Floats:
        """Factors (3,) on upper arm, forearm and hand: the largest lengths in the picture."""
        ends = np.array(HAND_EDGES) + 2
        pairs = ([(-1, 0)], [(0, 1)], [tuple(e) for e in ends])
        nominal = (np.array([UPPER_ARM]), np.array([FOREARM]), hand_bones())
        found = []
        for bones, length, nearer in zip(pairs, nominal, _NEARER, strict=True):
            factors = []
            for (a, b), usual in zip(bones, length, strict=True):
                start = self._flat[:, a] if a >= 0 else np.array([0.5, 0.0])
                sure = self._weights[:, b] > 0
                if a >= 0:
                    sure &= self._weights[:, a] > 0
                if sure.any():
                    long = np.hypot(*(self._flat[:, b] - start)[sure].T)
                    factors.append(np.percentile(long, 95) / (usual * nearer))
            found.append(float(np.clip(np.median(factors), *_LENGTH)) if factors else 1.0)
        return np.array(found)

    # -- forward ---------------------------------------------------------------------------

    def _place(self, arm: Floats) -> tuple[Floats, Floats, Floats]:
        """Elbow, wrist (…, 3) from the middle of the shoulders and the hand's axes of angles (…, 7)."""
        elbow, wrist, turned = place_wrist(np.moveaxis(arm, -1, 0))
        fore = (wrist - elbow) * self.lengths[1]
        elbow = elbow * self.lengths[0] + (0.5, 0.0, 0.0)
        return elbow, elbow + fore, turned

    def in_space(self, angles: Floats) -> Floats:
        """Where angles (f, 27) put elbow, wrist and hand: (f, 23, 3)."""
        elbow, wrist, turned = self._place(angles[..., :N_ARM])
        elbow, wrist = elbow[..., None, :], wrist[..., None, :]
        return np.concatenate([elbow, wrist, wrist + self._hand(angles, turned)], axis=-2)

    def project(self, angles: Floats) -> Floats:
        """Projection of angles (f, 27): (f, 23, 2)."""
        return _projected(self.in_space(angles))

    def _hand(self, angles: Floats, turned: Floats) -> Floats:
        """A hand's joints (…, 21, 3) from its wrist."""
        a = np.moveaxis(angles[..., N_ARM:], -1, 0)
        at = np.zeros(3)
        points = [np.zeros((*angles.shape[:-1], 3)), *place_thumb(a[16:20], turned, at)]
        for finger in range(4):
            points += place_finger(finger, a[4 * finger : 4 * finger + 4], turned, at)
        return np.stack(points, axis=-2) * self.lengths[2]

    # -- backward --------------------------------------------------------------------------

    def solve(self) -> Floats:
        """Angles (f, 27)."""
        few = np.unique(np.r_[np.arange(0, len(self._flat), _EVERY), len(self._flat) - 1])
        coarse = _Arm(self._flat[few], self._weights[few], self.lengths)._smoothest()
        frames = np.arange(len(self._flat))
        arm = self._refine(np.stack([np.interp(frames, few, column) for column in coarse.T], axis=1))
        angles = np.concatenate([arm[:, :N_ARM], np.zeros((len(arm), len(ANGLES) - N_ARM))], axis=1)
        _, wrist, turned = self._place(angles[:, :N_ARM])
        for finger in range(5):
            where = slice(N_ARM + 4 * finger, N_ARM + 4 * finger + 4)
            angles[:, where] = self._bend(finger, wrist, turned)
        return angles

    def _solutions(self) -> tuple[Floats, Floats]:
        """Angles (k, f, 8) from several postures, the eighth how far the fingers are closed; their costs."""
        found, costs = [], []
        for posture in STARTS:
            start = np.tile(np.r_[posture, 0.2], (len(self._flat), 1))
            solved = descend(self._misses, start, _ARM_LOW, _ARM_HIGH, rounds=18)
            found.append(solved)
            costs.append((self._misses(solved) ** 2).sum(axis=-1))
        return np.stack(found), np.stack(costs)

    def _misses(self, arm: Floats) -> Floats:
        elbow, wrist, turned = self._place(arm[..., :N_ARM])
        at = _projected(wrist)
        hand = _projected(wrist[..., None, :] + _mitten(arm[..., N_ARM], turned) * self.lengths[2])
        weights = _POINTS * self._weights
        wanted = self._flat[:, _MITTEN_JOINTS] - self._flat[:, [1]]
        off = (hand - at[..., None, :] - wanted) * (weights[:, _MITTEN_JOINTS] * _MITTEN_TRUST)[..., None]
        parts = (
            (_projected(elbow) - self._flat[:, 0]) * weights[:, :1],
            (at - self._flat[:, 1]) * weights[:, 1:2],
            off.reshape(*off.shape[:-2], -1),
            2.0 * np.maximum(_FORWARD - wrist[..., 2:], 0),
            EFFORT * (arm[..., :N_ARM] - EASY),
            0.1 * (arm[..., N_ARM:] - 0.25),
        )
        return np.concatenate(parts, axis=-1)

    def _smoothest(self) -> Floats:
        """Of each frame's solutions the one on the path of least cost through all frames: (f, 8)."""
        found, costs = self._solutions()
        elbow, wrist, turned = self._place(found[..., :N_ARM])
        places = np.concatenate([elbow, wrist, 0.5 * turned[..., :, 0], 0.5 * turned[..., :, 1]], axis=-1)
        frames = found.shape[1]
        total, back = costs[:, 0], np.zeros((frames, len(found)), int)
        for frame in range(1, frames):
            step = ((places[:, frame, None] - places[None, :, frame - 1]) ** 2).sum(axis=-1)
            ways = total[None] + 4.0 * step
            back[frame] = ways.argmin(axis=1)
            total = ways.min(axis=1) + costs[:, frame]
        chosen = np.empty(frames, int)
        chosen[-1] = total.argmin()
        for frame in range(frames - 1, 0, -1):
            chosen[frame - 1] = back[frame, chosen[frame]]
        return found[chosen, np.arange(frames)]

    def _refine(self, arm: Floats) -> Floats:
        """Solve again, regularised towards the mean over time."""
        for _ in range(2):
            steady = _mean_over_time(arm, 3.0)

            def misses(tried: Floats, steady: Floats = steady) -> Floats:
                return np.concatenate([self._misses(tried), 1.2 * (tried - steady)], axis=-1)

            arm = descend(misses, steady, _ARM_LOW, _ARM_HIGH, rounds=8)
        return arm

    def _bend(self, finger: int, wrist: Floats, turned: Floats) -> Floats:
        """The four angles (f, 4) of finger 0 (index) … 3 (little) or 4, the thumb."""
        joints = np.array([2, 3, 4] if finger == 4 else _FINGER_JOINTS[finger]) + 2
        known = np.minimum(self._weights[:, joints], self._weights[:, joints[:1] - 1])
        weights = 1.5 * _POINTS * known[..., None]
        where = slice(N_ARM + 4 * finger, N_ARM + 4 * finger + 4)
        low, high = LOW[where], HIGH[where]
        usual = SHAPES["relaxed"][4 * finger : 4 * finger + 4]
        wanted = self._flat[:, joints] - self._flat[:, joints[:1] - 1]

        def points(a: Floats) -> Floats:
            a = np.moveaxis(a, -1, 0)
            thumb = finger == 4
            at = place_thumb(a, turned, _NOWHERE) if thumb else place_finger(finger, a, turned, _NOWHERE)
            return np.stack([np.broadcast_to(p, at[-1].shape) for p in at], axis=-2)

        def misses(a: Floats, steady: Floats = usual, pull: float = 0.15) -> Floats:
            placed = _projected(wrist[..., None, :] + points(a) * self.lengths[2])
            off = (placed[..., 1:, :] - placed[..., :1, :] - wanted) * weights
            # The last two joints bend together.
            coupled = 0.3 * (a[..., 3:] - 0.6 * a[..., 2:3])
            return np.concatenate([off.reshape(*off.shape[:-2], -1), pull * (a - steady), coupled], axis=-1)

        start = np.tile(usual, (len(wrist), 1))
        bent = descend(misses, start, low, high, rounds=12)
        steady = _mean_over_time(bent, 2.0)
        return _mean_over_time(descend(lambda a: misses(a, steady, 1.5), steady, low, high, rounds=6), 0.8)


_NOWHERE = np.zeros(3)
_ARM_LOW, _ARM_HIGH = np.r_[LOW[:N_ARM], 0.0], np.r_[HIGH[:N_ARM], 1.0]
_MITTEN_JOINTS = [*(j + 2 for j in _PALM_JOINTS), *(j + 2 for f in _FINGER_JOINTS for j in f)]
_MITTEN_TRUST = np.r_[np.ones(5), np.full(12, 0.35)]
"""A mitten's fingers are less accurate than its palm."""


def _mitten(closed: Floats, turned: Floats) -> Floats:
    """A hand whose four fingers close equally: (…, 17, 3) from the wrist; ``closed`` (…,) 0 straight, 1 fist.

    This determines which way the palm faces, because fingers bend to one side only.
    """
    angles = np.cumsum(np.stack([-0.07 + 1.5 * closed, 0.14 + 1.68 * closed, 0.09 + 1.05 * closed]), axis=0)
    along = np.stack([-np.sin(angles), np.cos(angles), 0 * angles], axis=-1)  # (3, …, 3) in the hand's axes
    points = [np.broadcast_to(p, along.shape[1:]) for p in (THUMB_ROOT, *KNUCKLES)]
    for finger in range(4):
        at = KNUCKLES[finger]
        for bone in range(3):
            at = at + PHALANGES[finger, bone] * along[bone]
            points.append(at)
    return HAND * np.einsum("...ij,...kj->...ki", turned, np.stack(points, axis=-2))


def _projected(points: Floats) -> Floats:
    """Perspective projection of points (…, 3) to (…, 2)."""
    return points[..., :2] / (1 - points[..., 2:] / VIEWER)


def _mean_over_time(values: Floats, width: float) -> Floats:
    """(f, k) smoothed by a Gaussian of ``width`` frames; the ends are padded with their values."""
    reach = int(3 * width)
    bell = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    padded = np.pad(values, ((reach, reach), (0, 0)), "edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=0)
    return np.asarray(windows @ (bell / bell.sum()))


def _through_gaps(angles: Floats, seen: Mask) -> Floats:
    """Angles (f, k) where the arm was seen, interpolated linearly in between."""
    at = np.flatnonzero(seen)
    frames = np.arange(len(angles))
    return np.stack([np.interp(frames, at, column[at]) for column in angles.T], axis=1)
