"""Gestures anchored in the portrait: hands move from where the picture has them, and come back.

    planned = plan_anchored(speech, portrait_pose, seed=3)     # the portrait's own arms, on stresses
    calm = rest(portrait_pose, frames=72, fps=24.0)            # the portrait's pose all the time
    eased = ease(gesture, portrait_pose)                       # any gesture, from and back to the portrait

At rest the pose is the portrait's own, bit for bit, so the frame needs no change. For a stroke the arms
are lifted to space (``pose.lift``): wrists move in the picture plane, forearms turn about the elbows, hands
follow the forearms. Bones keep their length in space, so none appears longer than it
is. ``liveliness`` limits how far a wrist moves, and so does plausibility (``_Arms.cost``).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from semibody import scratch
from semibody.pose.body import (
    SEEN,
    SHOULDERS,
    face_found,
    face_height,
    hands_found,
    shoulder_distance,
    shoulders_seen,
)
from semibody.pose.deform import Deformation
from semibody.pose.library import minimum_jerk
from semibody.pose.lift import in_space, lift
from semibody.pose.limbs import off_segment
from semibody.pose.plan import LEAST_LIVELY, MOST_LIVELY, PlannedGesture, Stroke, time_strokes
from semibody.pose.prosody import Prosody, analyse
from semibody.pose.skeleton import ARM_JOINTS, ARMS
from semibody.types import FACE, Floats, Gesture, Pose, SemibodyError, Speech

Mask = NDArray[np.bool_]

FARTHEST = 0.55
"""Largest displacement of a wrist at liveliness 1 in shoulder widths."""
EASE_SECONDS = 0.5
"""How long a gesture takes from the portrait's pose to its own, and back."""


def farthest(liveliness: float) -> float:
    """Largest displacement of wrists in shoulder widths; above liveliness 1 it grows slowly, to 0.66: strokes
    become more frequent then, and a picture cannot be deformed much farther (``pose.deform``)."""
    return FARTHEST * min(liveliness, 0.9 + 0.1 * liveliness)


def plan_anchored(
    speech: Speech,
    portrait: Pose,
    *,
    aspect: float = 1.0,
    seed: int = 0,
    fps: float = 24.0,
    liveliness: float = 1.0,
    seconds: float | None = None,
    prosody: Prosody | None = None,
) -> PlannedGesture:
    """Strokes on stressed syllables that start and end at the portrait's own arms.

    ``liveliness`` 0 (rest) … 3 sets how far and how often hands move; 1 is a calm speaker.
    ``portrait`` is in fractions of a picture ``aspect`` times as wide as high, and so is the gesture.
    ``seconds`` defaults to the recording's length; ``prosody`` is the result of ``analyse``, if it is
    known. Hands that the picture does not show stay invisible, and hands that ``movable`` excludes stay at
    rest. The same arguments give the same gesture. Raises SemibodyError for a liveliness out of range.
    """
    repertoire = AnchoredRepertoire(portrait, aspect, seed=seed, liveliness=liveliness)
    return plan_from(repertoire, speech, fps=fps, seconds=seconds, prosody=prosody)


def plan_from(
    repertoire: AnchoredRepertoire,
    speech: Speech,
    *,
    fps: float = 24.0,
    seconds: float | None = None,
    prosody: Prosody | None = None,
) -> PlannedGesture:
    """The same with the strokes of a repertoire."""
    prosody = prosody or analyse(speech)
    length = seconds if seconds is not None else speech.seconds
    timed = time_strokes(repertoire, prosody, length, fps=fps, often=repertoire.often, seed=repertoire.seed)
    gesture = repertoire.render(timed.states, timed.nods, fps)
    return PlannedGesture(gesture, timed.strokes, prosody, timed.rests)


def rest(portrait: Pose, frames: int, fps: float, aspect: float = 1.0) -> Gesture:
    """The portrait's own pose for ``frames`` frames: one in memory, not to be written to."""
    joints, confidence = (
        np.broadcast_to(x, (frames, *x.shape)) for x in (portrait.joints, portrait.confidence)
    )
    return Gesture(joints, confidence, fps, aspect, "rest")


def ease(gesture: Gesture, portrait: Pose, seconds: float = EASE_SECONDS) -> Gesture:
    """The gesture, starting and ending at the portrait's pose, with ``seconds`` of transition at both ends.

    Both in fractions of the same picture; align the gesture first. In a clip too short for both
    transitions these are shorter. Joints that one of the two does not show keep the other's place, and fade.
    """
    last = len(gesture) - 1
    ways = min(seconds * gesture.fps, last / 2)
    frame = np.arange(len(gesture))
    near = np.minimum(frame, last - frame) / max(ways, 1e-9)
    share = minimum_jerk(np.clip(near, 0.0, 1.0))[:, None]
    ours, theirs = portrait.confidence > 0, gesture.confidence > 0
    start = np.where(ours[None, :, None], portrait.joints, gesture.joints)
    goal = np.where(theirs[..., None], gesture.joints, start)
    joints = np.where(share[..., None] > 0, start + share[..., None] * (goal - start), portrait.joints)
    confidence = portrait.confidence + share * (gesture.confidence - portrait.confidence)
    return replace(gesture, joints=joints, confidence=confidence)


# -- which hands may move ------------------------------------------------------------------

_SURE = 0.5
"""Median confidence of a hand's joints under which it is hidden, or holds something."""
_CUT = 0.25
"""Share of a hand's joints beyond the picture's edge from which it stays at rest."""
_EDGE = 0.015
"""A hand this near the lower edge, in heights of the picture, may lie on something outside the picture."""
_AT_FACE = 0.12
"""Shoulder widths about the face in which a hand touches it."""
_CLASPED = 0.12
"""Shoulder widths between two hands' joints under which they hold each other."""
_ON_ARM = 0.1
"""Shoulder widths between a hand's joints and the other arm under which it lies on that arm."""
_CROSSED = 0.1
"""Shoulder widths beyond the body's middle from which a wrist counts as the other arm's side."""


@dataclass(frozen=True)
class Movable:
    """Which of the portrait's hands may move, left first; ``clasped`` hands only together, and least."""

    hands: tuple[bool, bool]
    clasped: bool = False


def movable(portrait: Pose, aspect: float = 1.0) -> Movable:
    """Hands that are visible with their whole arm and touch nothing.

    Not: hidden ones, those at the face, at the lower edge or partly beyond an edge, crossed arms.
    """
    points, seen = portrait.joints * (aspect, 1.0), portrait.confidence
    if not shoulders_seen(seen):
        return Movable((False, False))
    width = max(float(shoulder_distance(points)), 1e-3)
    hands = [points[hand] / width for hand, *_ in ARMS]
    between = hands[0][:, None] - hands[1][None]
    clasped = all(hands_found(portrait)) and float(np.hypot(*np.moveaxis(between, -1, 0)).min()) < _CLASPED
    tangled = not clasped and _arms_touch(points / width, portrait)
    free = []
    for (hand, *arm), found, sign in zip(ARMS, hands_found(portrait), (1.0, -1.0), strict=True):
        whole = found and seen[arm].min() >= SEEN and float(np.median(seen[hand])) >= _SURE
        cut = (seen[hand] < SEEN).mean() > _CUT or portrait.joints[hand, 1].max() > 1 - _EDGE
        middle = points[SHOULDERS, 0].mean()
        crossed = not clasped and sign * (points[arm[2], 0] - middle) / width < -_CROSSED
        at_face = bool((_off_face(points[hand], portrait, aspect) < _AT_FACE * width).any())
        free.append(bool(whole and not cut and not crossed and not at_face and not tangled))
    both = (free[0] and free[1]) if clasped else None
    return Movable((free[0], free[1]) if both is None else (both, both), clasped)


_FINGERS = [j for j in range(21) if j not in (0, 1, 2)]
"""Of a hand's joints, those that lie before a forearm only where the hand hides it."""
_HIDES = 0.1
"""Shoulder widths between these joints and the upper half of the forearm under which the hand hides it."""


def hides_forearm(portrait: Pose, aspect: float, side: int) -> bool:
    """Whether a hand (0 the left) lies before its own forearm, which then points at the camera."""
    points = portrait.joints * (aspect, 1.0)
    hand, _, elbow, _ = ARMS[side]
    middle = (points[elbow] + points[hand.start]) / 2
    off = off_segment(points[hand][_FINGERS].T, points[elbow], middle).min()
    return bool(off < _HIDES * max(float(shoulder_distance(points)), 1e-3))


def _arms_touch(points: Floats, portrait: Pose) -> bool:
    """Whether a hand lies on the other arm, or forearms cross; then one takes parts of the other with it.

    ``points`` (j, 2) in shoulder widths.
    """
    shown = portrait.confidence >= SEEN
    for (hand, _, own_elbow, own_wrist), (_, *arm) in itertools.permutations(ARMS):
        joints = points[hand][shown[hand]]
        for start, end in itertools.pairwise(arm):
            if not (shown[start] and shown[end]):
                continue
            if len(joints) and float(off_segment(joints.T, points[start], points[end]).min()) < _ON_ARM:
                return True
            if shown[own_elbow] and shown[own_wrist] and _cross(points[[own_elbow, own_wrist, start, end]]):
                return True
    return False


def _cross(ends: Floats) -> bool:
    """Whether the segment of the first two points (4, 2) crosses that of the last two."""

    def side(a: Floats, b: Floats, c: Floats) -> float:
        return float((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))

    a, b, c, d = ends
    return side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0


def _off_face(points: Floats, portrait: Pose, aspect: float) -> Floats:
    """Distances of points (…, 2) from the box of the face and its forehead, 0 inside; without a face far."""
    if not face_found(portrait):
        return np.full(points.shape[:-1], np.inf)
    face = portrait.joints[FACE] * (aspect, 1.0)
    low, high = face.min(axis=0), face.max(axis=0)
    low = low - (0.0, 0.5 * face_height(portrait.joints))
    beyond = np.maximum(np.maximum(low - points, points - high), 0.0)
    return np.asarray(np.hypot(beyond[..., 0], beyond[..., 1]))


# -- the portrait's arms in space ----------------------------------------------------------

_RELIABLE = 0.08
"""Shoulder widths by which a lifted hand may miss the picture's; otherwise the hand is taken flat."""
_FOLLOWS = 0.12
"""Share of a wrist's displacement that its elbow follows; for the rest the forearm turns."""
_CARRIED = 0.5
"""Share of a forearm's turn that its hand follows; for the rest the wrist bends."""
_POINTING = 0.35
"""A forearm that appears shorter than this share of its length points at the camera."""
_PER_ARM = 3
"""Numbers of an arm's state: how far its wrist is moved outwards and down in shoulder widths, how far its
hand is turned up in radians."""
_MARGIN = 0.015
"""Distance that hands keep from the picture's edge, in heights of the picture."""
_NEAR_FACE, _NEAR_HAND = 0.15, 0.18
"""Shoulder widths that a moving hand keeps from the face and from the other hand."""
_TURN = np.radians(36.0)
"""How far a hand turns at liveliness 1."""
_STRETCH = 1.8
"""How much longer or shorter a forearm may look than in the picture."""


class _Arms:
    """Both arms of a portrait in space, left first, each as a left arm.

    ``joints`` (2, 24, 3) are shoulder, elbow, wrist and hand in shoulder widths; x and y are the picture's
    own, z is lifted.
    """

    def __init__(self, portrait: Pose, aspect: float, moves: Movable) -> None:
        self.portrait, self.aspect, self.moves = portrait, aspect, moves
        points = portrait.joints * (aspect, 1.0)
        self.width = max(float(shoulder_distance(points)), 1e-3)
        self.signs = np.array([1.0, -1.0])
        flat = points[ARM_JOINTS] / self.width * np.stack([self.signs, [1.0, 1.0]], axis=1)[:, None]
        # The hand's own wrist is the more exact of the two; the body's goes with it.
        flat[:, 2] = flat[:, 3]
        self.joints = np.concatenate([flat, self._depth(flat)[..., None]], axis=2)
        shoulder, elbow, wrist = self.joints[:, 0], self.joints[:, 1], self.joints[:, 2]
        self.upper = np.maximum(np.linalg.norm(elbow - shoulder, axis=1), 1e-6)
        self.fore = np.maximum(np.linalg.norm(wrist - elbow, axis=1), 1e-6)

    def _depth(self, flat: Floats) -> Floats:
        """z (2, 24) in shoulder widths; 0 for what cannot be lifted."""
        depth = np.zeros(flat.shape[:2])
        if not any(self.moves.hands):
            return depth
        lifted = lift(Gesture.from_poses([self.portrait], aspect=self.aspect))
        space = in_space(lifted)[0]
        shown = space[:, 3:, :2] - space[:, 2:3, :2]
        missed = np.hypot(*np.moveaxis(shown - (flat[:, 3:] - flat[:, 2:3]), -1, 0))
        for side in (0, 1):
            depth[side] = space[side, :, 2]
            if np.median(missed[side]) > _RELIABLE:
                depth[side, 3:] = space[side, 2, 2]
        return depth

    def move(self, states: Floats) -> tuple[Floats, Floats]:
        """Joints (f, 2, 24, 3) of both arms in states (f, 6), and how far each hand is turned (f, 2)."""
        made = [self._move_arm(side, states[:, _of(side)]) for side in (0, 1)]
        return np.stack([m[0] for m in made], axis=1), np.stack([m[1] for m in made], axis=1)

    def _move_arm(self, side: int, state: Floats) -> tuple[Floats, Floats]:
        base = self.joints[side]
        shoulder, elbow, wrist = base[0], base[1], base[2]
        upper, fore = self.upper[side], self.fore[side]
        moved = np.zeros((len(state), 3))
        moved[:, :2] = state[:, :2]
        guess = elbow + _FOLLOWS * moved
        goal = wrist + moved
        goal[:, 2] += self._nearer(goal, guess, fore) - self._nearer(wrist[None], elbow[None], fore)
        # Two bones: the wrist within reach, the elbow on its circle where it is nearest to its guess.
        way = goal - shoulder
        far = np.linalg.norm(way, axis=1, keepdims=True)
        reach = np.clip(far, abs(upper - fore) + 1e-6, upper + fore - 1e-6)
        ahead = way / np.maximum(far, 1e-9)
        goal = shoulder + ahead * reach
        along = (upper**2 - fore**2 + reach**2) / (2 * reach)
        radius = np.sqrt(np.maximum(upper**2 - along**2, 0.0))
        centre = shoulder + ahead * along
        aside = guess - centre
        aside -= (aside * ahead).sum(axis=1, keepdims=True) * ahead
        aside /= np.maximum(np.linalg.norm(aside, axis=1, keepdims=True), 1e-9)
        bent = centre + radius * aside
        turned = self._turn_hand(side, goal - bent, wrist - elbow) - state[:, 2]
        cosine, sine = np.cos(turned), np.sin(turned)
        turn = np.stack([cosine, -sine, sine, cosine], axis=1).reshape(-1, 2, 2)
        hand = goal[:, None] + (base[3:] - wrist)
        hand[..., :2] = goal[:, None, :2] + (base[3:] - wrist)[:, :2] @ np.swapaxes(turn, 1, 2)
        rest = np.broadcast_to(shoulder, (len(state), 1, 3))
        return np.concatenate([rest, bent[:, None], goal[:, None], hand], axis=1), np.abs(turned)

    def _turn_hand(self, side: int, after: Floats, before: Floats) -> Floats:
        """How far a hand turns with its forearm in the picture's plane, in radians (f,); out of the plane it
        does not, because a palm that the picture does not show would come into view."""
        if self.moves.clasped:
            return np.zeros(len(after))
        cross = before[0] * after[:, 1] - before[1] * after[:, 0]
        angle = np.arctan2(cross, (after[:, :2] * before[:2]).sum(axis=1))
        # A forearm that points at the camera has no direction in the plane.
        shown = np.minimum(_length(after), _length(before)) / (_POINTING * self.fore[side])
        return np.asarray(_CARRIED * np.clip(shown, 0.0, 1.0) * angle)

    @staticmethod
    def _nearer(wrist: Floats, elbow: Floats, fore: float) -> Floats:
        """How far wrists (f, 3) are before their elbows (f, 3) when the forearm turns: (f,), never abrupt."""
        flat = wrist[:, :2] - elbow[:, :2]
        left = fore**2 - (flat**2).sum(axis=1)
        return np.asarray(np.sqrt((left + np.hypot(left, 0.1 * fore**2)) / 2))

    def to_picture(self, joints: Floats) -> Floats:
        """Joints (f, 2, 24, 3) as fractions of the picture (f, 2, 24, 2)."""
        flat = joints[..., :2] * np.stack([self.signs, [1.0, 1.0]], axis=1)[:, None]
        return np.asarray(flat * self.width / (self.aspect, 1.0))

    def cost(self, states: Floats, liveliness: float) -> Floats:
        """How implausible states (f, 6) are, given the picture: (f, 2); up to 1 is plausible.

        The worst of: how far the hand turns, how much longer or shorter the forearm looks, how far hands
        leave the picture or come near the face or each other.
        """
        joints, turned = self.move(states)
        turn = turned / (_TURN * max(1.0, liveliness) ** 0.6)
        fore = _length(joints[:, :, 2] - joints[:, :, 1])
        usual = _length(self.joints[:, 2] - self.joints[:, 1])
        stretch = np.abs(np.log(np.maximum(fore, 0.25) / np.maximum(usual, 0.25))) / np.log(_STRETCH)
        shown = self.to_picture(joints)[:, :, 3:] * (self.aspect, 1.0)
        outside = np.maximum(_MARGIN - shown, shown - (np.array([self.aspect, 1.0]) - _MARGIN))
        before = self.to_picture(self.joints[None])[:, :, 3:] * (self.aspect, 1.0)
        were = np.maximum(_MARGIN - before, before - (np.array([self.aspect, 1.0]) - _MARGIN))
        out = 1 + (outside - np.maximum(were, 0)).max(axis=(2, 3)) / self.width
        face = _off_face(shown, self.portrait, self.aspect).min(axis=2) / self.width
        at_face = 1 + (_NEAR_FACE - np.minimum(face, 1.0))
        worst = np.maximum.reduce([turn, stretch, out, at_face])
        if not self.moves.clasped:
            off = shown[:, 0, :, None] - shown[:, 1, None]
            near = _length(off).min(axis=(1, 2)) / self.width
            worst = np.maximum(worst, (1 + _NEAR_HAND - np.minimum(near, 1.0))[:, None])
        return np.asarray(worst)


def _of(side: int) -> slice:
    return slice(side * _PER_ARM, (side + 1) * _PER_ARM)


def _length(vectors: Floats) -> Floats:
    return np.asarray(np.hypot(vectors[..., 0], vectors[..., 1]))


# -- strokes -------------------------------------------------------------------------------

_State = tuple[float, float, float]

# How far outwards, how far down, in FARTHEST; how far the hand turns up, in radians.
_PLACES: dict[str, _State] = {
    "rest": (0.0, 0.0, 0.0),
    "raised": (-0.10, -0.95, -0.05),
    "struck": (0.05, 0.02, 0.04),
    "raised_wide": (0.45, -0.80, -0.10),
    "wide": (0.55, -0.40, 0.12),
    "gathered": (-0.40, -0.70, -0.06),
    "offered": (0.40, -0.25, 0.14),
    "lifted": (0.15, -0.55, 0.0),
}
_FAMILIES: tuple[tuple[tuple[str, str, str], ...], ...] = (
    (("both", "raised", "struck"), ("both", "raised", "struck"), ("both", "gathered", "offered")),
    (("both", "gathered", "wide"), ("both", "raised", "offered")),
    (("main", "raised", "struck"), ("main", "gathered", "offered")),
    (("main", "raised_wide", "struck"), ("both", "raised", "wide")),
    (("other", "raised", "struck"), ("both", "gathered", "offered")),
    (("main", "gathered", "wide"), ("other", "gathered", "wide")),
)
"""Which arms move (the seed chooses the main one), from which place to which."""
_CLASPED_PLACES: dict[str, _State] = {
    "rest": (0.0, 0.0, 0.0),
    "raised": (0.05, -0.55, 0.0),
    "struck": (0.0, 0.02, 0.0),
    "aside": (0.30, -0.25, 0.0),
    "back": (-0.26, -0.10, 0.0),
}
_CLASPED_FAMILIES = (
    (("both", "raised", "struck"), ("both", "raised", "aside")),
    (("both", "raised", "struck"), ("both", "raised", "back")),
)
_SHARES = np.array([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
"""Of a stroke, tried until it is plausible."""
_LEAST = 0.35
"""A stroke that only a smaller share of is left out, if there are others."""
_TORN = 0.015
"""How much of a picture a stroke may tear at liveliness 1, see ``Deformation.torn``."""
_TORN_APART, _TORN_HIDDEN = 0.02, 0.011
"""The same where forearms and hands pass before the body, which is not torn then; and where a hand hides its
forearm, which the picture does not have and a farther hand would show."""
_SECOND = 0.72
"""How far the other hand moves of what the main one does, when both do."""

_BLOCK = 1024
"""Frames whose arms are moved at once."""


class AnchoredRepertoire:
    """Strokes of the portrait's own arms; a state is how far both wrists are from their places (6,).

    ``apart``: forearms and hands pass before the body (``pose.foreground``), so they go farther. Raises
    SemibodyError for a liveliness out of range.
    """

    def __init__(
        self,
        portrait: Pose,
        aspect: float,
        *,
        seed: int,
        liveliness: float,
        apart: bool = False,
    ) -> None:
        if not 0 <= liveliness <= MOST_LIVELY:
            raise SemibodyError(f"liveliness {liveliness:g} must be from 0 to {MOST_LIVELY:g}")
        self.seed, self.liveliness = seed, liveliness
        self._moves = movable(portrait, aspect) if liveliness > 0 else Movable((False, False))
        self._arms = _Arms(portrait, aspect, self._moves)
        self._deformation = Deformation(portrait, aspect)
        hidden = any(hides_forearm(portrait, aspect, side) for side in (0, 1) if self._moves.hands[side])
        self._torn = _TORN_HIDDEN if hidden else _TORN_APART if apart else _TORN
        self._farthest = farthest(liveliness)
        rng = np.random.default_rng([seed, 23])
        self._main = int(rng.random() < 0.65)
        self._tilt = rng.normal(0, np.radians(9.0), 2)
        self.rest = np.zeros(2 * _PER_ARM)
        self.families = self._plausible() if any(self._moves.hands) else []

    @property
    def often(self) -> float:
        """How frequent strokes are, as ``plan`` takes it: less lively ones are smaller too."""
        return float(np.clip(self.liveliness**0.5, LEAST_LIVELY, MOST_LIVELY))

    def _plausible(self) -> list[list[Stroke]]:
        """The families, each stroke scaled until it is plausible; those scaled too far down are left out."""
        scripts = _CLASPED_FAMILIES if self._moves.clasped else _FAMILIES
        families, kept = [], []
        for family in scripts:
            scaled = [self._scaled(*stroke) for stroke in family]
            scaled = [(stroke, share) for stroke, share in scaled if share > 0]
            if scaled:
                families.append([stroke for stroke, _ in scaled])
                kept.append(max(share for _, share in scaled))
        return [f for f, share in zip(families, kept, strict=True) if share >= min(_LEAST, max(kept))]

    def _scaled(self, who: str, start: str, end: str) -> tuple[Stroke, float]:
        """The stroke at the largest share that is plausible on its whole path, and that share; 0 for none."""
        wanted = np.stack([self._state(who, start), self._state(who, end)])
        if not wanted.any():
            return Stroke(self.rest, self.rest), 0.0
        # From rest to the start, on to the end, and back.
        stops = (self.rest, wanted[0], wanted[1], self.rest)
        way = np.concatenate([np.linspace(a, b, 4) for a, b in itertools.pairwise(stops)])
        fine = self._plausible_at(_SHARES[:, None, None] * way).all(axis=1)
        shares = np.array([next((s for s, f in zip(_SHARES, fine[:, side], strict=True) if f), 0.0)
                           for side in (0, 1)])  # fmt: skip
        if self._moves.clasped:
            shares[:] = shares.min()
        while shares.max() > 0 and not self._deformable(wanted * np.repeat(shares, _PER_ARM)):
            shares = np.where(shares > _SHARES.min(), 0.85 * shares, 0.0)
        used = wanted * np.repeat(shares, _PER_ARM)
        moving = [shares[side] for side in (0, 1) if wanted[:, _of(side)].any()]
        return Stroke(used[0], used[1]), float(max(moving))

    def _plausible_at(self, states: Floats) -> NDArray[np.bool_]:
        """Whether either arm is plausible in states (…, 6): (…, 2)."""
        costs = self._arms.cost(states.reshape(-1, states.shape[-1]), self.liveliness)
        at_rest = self._arms.cost(self.rest[None], self.liveliness)
        return np.asarray((costs <= np.maximum(1.0, at_rest + 1e-6)).reshape(*states.shape[:-1], 2))

    def _deformable(self, states: Floats) -> bool:
        """Whether a picture can be deformed to states (n, 6) without being torn."""
        arms, allowed = self._arms, self._torn * max(1.0, self.liveliness) ** 2
        off = arms.to_picture(arms.move(states)[0] - arms.move(self.rest[None])[0])
        for moved in off:
            joints = arms.portrait.joints.copy()
            for side in (0, 1):
                if self._moves.hands[side]:
                    joints[ARM_JOINTS[side]] += moved[side]
            if self._deformation.torn(replace(arms.portrait, joints=joints)) > allowed:
                return False
        return True

    def _state(self, who: str, place: str) -> Floats:
        state = np.zeros(2 * _PER_ARM)
        main, other = self._main, 1 - self._main
        if self._moves.clasped:
            across, down, _ = _CLASPED_PLACES[place]
            # Both move to the same side of the picture, which is outwards for only one of them.
            for side, sign in ((main, 1.0), (other, -1.0)):
                state[_of(side)] = self._farthest * sign * across, self._farthest * down, 0.0
            return state
        for side in (0, 1):
            moves = who == "both" or side == (main if who == "main" else other)
            if not self._moves.hands[side] or not moves:
                continue
            across, down, palm = _PLACES[place]
            second = who == "both" and side == other and self._moves.hands[main]
            size = _SECOND if second else 1.0
            turned = _rotated(across, down, self._tilt[side])
            livelier = min(self.liveliness, 1.5)
            state[_of(side)] = *(size * self._farthest * turned), size * livelier * palm
        return state

    def top_speed(self, a: Floats, b: Floats) -> float:
        share = minimum_jerk(np.linspace(0, 1, 9))
        joints, _ = self._arms.move(a + share[:, None] * (b - a))
        return float(_length(np.diff(joints, axis=0)).max()) * 8

    def vary(self, state: Floats, rng: np.random.Generator) -> Floats:
        varied = state.copy()
        shares = 1 + np.clip(rng.normal(0, 0.1, 2), -0.2, 0.1)
        shifts = rng.normal(0, 0.05 * self._farthest, (2, 2))
        for side in (0, 1):
            if self._moves.clasped:
                varied[_of(side)] *= shares[0]
            elif state[_of(side)].any():
                varied[_of(side)] *= shares[side]
                varied[_of(side)][:2] += shifts[side]
        return self._within(varied)

    def _within(self, states: Floats) -> Floats:
        """States (…, 6) with no wrist farther than ``farthest`` from its place."""
        kept = states.copy()
        for side in (0, 1):
            moved = kept[..., _of(side)][..., :2]
            moved *= np.minimum(1.0, self._farthest / np.maximum(_length(moved), 1e-9))[..., None]
        return kept

    def render(self, states: Floats, nods: Floats, fps: float, first: int = 0) -> Gesture:  # noqa: ARG002
        """States (f, 6) of frames from number ``first`` on to a gesture.

        Frames at rest are the portrait's pose, bit for bit. Heads move by ``pose.alive``.
        """
        made = rest(self._arms.portrait, len(states), fps, self._arms.aspect)
        joints = scratch.empty(made.joints.shape, np.float64)
        for start in range(0, len(states), _BLOCK):  # memory does not grow with the recording
            block = slice(start, start + _BLOCK)
            joints[block] = self._place(states[block], fps, first + start)
        return replace(made, joints=joints, name="planned")

    def _place(self, states: Floats, fps: float, first: int) -> Floats:
        """Joints (f, 128, 2) in these states."""
        arms = self._arms
        moving = _drift(states, fps, 0.02 * self._farthest, together=self._moves.clasped, first=first)
        placed = np.repeat(arms.portrait.joints[None], len(states), axis=0)
        joints, _ = arms.move(self._within(moving))
        base, _ = arms.move(self.rest[None])
        off = arms.to_picture(joints - base)
        for side in (0, 1):
            if self._moves.hands[side]:
                away = states[:, _of(side)].any(axis=1)
                placed[np.ix_(away, ARM_JOINTS[side])] += off[away, side]
        return placed


def _rotated(across: float, down: float, angle: float) -> Floats:
    """(2,) a way outwards and downwards, turned downwards by ``angle`` in radians."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([across * cosine - down * sine, across * sine + down * cosine])


def _drift(states: Floats, fps: float, size: float, *, together: bool, first: int) -> Floats:
    """States (f, 6) with slow oscillations of wrists away from rest, of up to about ``size``."""
    time = (first + np.arange(len(states))[:, None]) / fps
    moved = states.copy()
    for side in (0, 1):
        away = np.clip(_length(states[:, _of(side)]) / (8 * max(size, 1e-9)), 0.0, 1.0)[:, None]
        phases = np.array([0.0, 1.9]) + (0.0 if together else 2.3 * side)
        sign = np.array([-1.0 if together and side else 1.0, 1.0])
        slow = np.sin(2 * np.pi * 0.31 * time + phases) + 0.6 * np.sin(2 * np.pi * 0.73 * time + 2.1 * phases)
        moved[:, _of(side)][:, :2] += size * away * sign * slow
    return moved
