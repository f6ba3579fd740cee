"""Fit a gesture to the person in a portrait, by keypoints.

The gesture's skeleton is scaled and moved so that its shoulders lie on the portrait's, and its head on the
portrait's head. Then arms and hands get the portrait's length, where the portrait shows that they differ:
bones that point at the camera look short, so a picture gives a lower bound of an arm's length. Hands are kept
within the arms' reach.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from semibody.pose.body import (
    SEEN,
    SHOULDERS,
    face_found,
    face_height,
    face_seen,
    hand_seen,
    hands_found,
    shoulder_distance,
    shoulder_width,
    shoulders_seen,
)
from semibody.pose.kinematics import FOREARM, HAND, UPPER_ARM, hand_bones
from semibody.pose.skeleton import ARMS, HAND_EDGES, HEAD_BODY_JOINTS
from semibody.types import FACE, HANDS, Floats, Gesture, Pose

_LONGEST = 1.25
"""No arm or hand is made longer by more than this factor."""
_SMALLEST_HAND = 0.9
"""No hand is made smaller by more than this: one that looks small usually points at the camera."""
_TOLERANCE = 0.15
"""A hand whose size differs by less than this is unchanged, because detection is not more accurate."""
_REACH = 1.1 * (UPPER_ARM + FOREARM)
_FACE_OF_SHOULDERS = 0.45
"""Height of the face over the width of the shoulders, for portraits that do not show the shoulders."""


@dataclass(frozen=True)
class Alignment:
    """What was changed. ``scale`` and ``shift`` (in fractions of the portrait) of the whole skeleton,
    ``arms`` and ``hands`` factors on top of it (left, right), ``pulled`` the share of hand poses that
    had to be brought back within reach, ``outside`` the share of hand joints beyond the picture's edge."""

    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)
    arms: tuple[float, float] = (1.0, 1.0)
    hands: tuple[float, float] = (1.0, 1.0)
    pulled: float = 0.0
    outside: float = 0.0
    by: str = "shoulders"
    """shoulders, face, or nothing: what the skeletons were matched by"""

    def line(self) -> str:
        """One line for the user."""
        if self.by == "nothing":
            return "the gesture was not aligned"
        changes = [
            f"scaled {self.scale:.2f}",
            f"moved {self.shift[0]:+.1%} across and {self.shift[1]:+.1%} down",
        ]
        for name, factors in (("arms", self.arms), ("hands", self.hands)):
            if max(abs(f - 1) for f in factors) > 0.005:
                changes.append(f"{name} x {factors[0]:.2f} (left), {factors[1]:.2f} (right)")
        if self.pulled > 0:
            changes.append(f"{self.pulled:.0%} of hand poses brought within reach")
        return f"gesture aligned by the {self.by}: {', '.join(changes)}"


def align(gesture: Gesture, portrait: Pose, aspect: float = 1.0) -> tuple[Gesture, Alignment]:
    """The gesture with the proportions of the person in the portrait, in fractions of the portrait.

    ``portrait`` is the person's pose in a picture ``aspect`` times as wide as high. Where neither
    shoulders nor face can be compared the gesture is returned unchanged.
    """
    points = gesture.joints * (gesture.aspect, 1.0)
    goal = portrait.joints * (aspect, 1.0)
    match = _match(points, gesture.confidence, goal, portrait.confidence)
    if match is None:
        return gesture, Alignment(by="nothing", outside=_outside(gesture))
    by, centre, scale, target = match
    moved = (points - centre) * scale + target
    shoulders = _shoulder_width(moved, gesture.confidence)
    arms, hands = [], []
    pulled = 0.0
    if by == "shoulders":
        _place_head(moved, gesture.confidence, goal, portrait.confidence)
    for where, *arm in ARMS:
        arms.append(_lengthen_arm(moved, gesture.confidence, goal, portrait.confidence, where, arm))
        hands.append(_resize_hand(moved, gesture.confidence, goal, portrait.confidence, where))
        pulled += _pull_back(moved, gesture.confidence, where, arm, shoulders) / 2
    made = Gesture(moved / (aspect, 1.0), gesture.confidence, gesture.fps, aspect, gesture.name)
    shift = target - centre * (aspect / gesture.aspect, 1.0)
    return made, Alignment(
        scale=float(scale),
        shift=(float(shift[0] / aspect), float(shift[1])),
        arms=(arms[0], arms[1]),
        hands=(hands[0], hands[1]),
        pulled=pulled,
        outside=_outside(made),
        by=by,
    )


def _match(
    points: Floats, seen: Floats, goal: Floats, goal_seen: Floats
) -> tuple[str, Floats, float, Floats] | None:
    """What to match by, the gesture's centre, the scale, the portrait's centre."""
    frames = shoulders_seen(seen)
    if shoulders_seen(goal_seen) and frames.any():
        scale = float(shoulder_distance(goal)) / _shoulder_width(points, seen)
        neck = np.median(points[frames][:, SHOULDERS].mean(axis=1), axis=0)
        return "shoulders", neck, scale, goal[SHOULDERS].mean(axis=0)
    frames = face_seen(seen)
    if face_seen(goal_seen) and frames.any():
        return "face", *_match_faces(points[frames], goal)
    return None


def _match_faces(points: Floats, goal: Floats) -> tuple[Floats, float, Floats]:
    """The middle of a gesture's faces, the scale to the portrait's face, and the middle of that."""
    height = float(np.median(face_height(points)))
    centre = np.median(points[:, FACE].mean(axis=1), axis=0)
    return centre, float(face_height(goal)) / max(height, 1e-6), goal[FACE].mean(axis=0)


def _shoulder_width(points: Floats, seen: Floats) -> float:
    """By the shoulders, else by the face."""
    faces = float(np.median(face_height(points)))
    return shoulder_width(points, seen >= SEEN) or max(faces / _FACE_OF_SHOULDERS, 1e-6)


def _place_head(moved: Floats, seen: Floats, goal: Floats, goal_seen: Floats) -> None:
    """Give the head the portrait's size and position, in place: necks differ in length, and heads in size."""
    frames = face_seen(seen)
    if not face_seen(goal_seen) or not frames.any():
        return
    centre, factor, target = _match_faces(moved[frames], goal)
    head = [*range(FACE.start, FACE.stop), *HEAD_BODY_JOINTS]
    moved[:, head] = (moved[:, head] - centre) * factor + target


def _lengthen_arm(
    moved: Floats, seen: Floats, goal: Floats, goal_seen: Floats, where: slice, arm: list[int]
) -> float:
    """Make the arm longer in place if the portrait's is longer than the gesture's ever looks."""
    if goal_seen[arm].min() < SEEN:
        return 1.0
    frames = seen[:, arm].min(axis=1) >= SEEN
    if not frames.any():
        return 1.0
    shoulder, elbow, wrist = arm
    ours = _length(moved[frames][:, elbow] - moved[frames][:, shoulder]) + _length(
        moved[frames][:, wrist] - moved[frames][:, elbow]
    )
    theirs = _length(goal[elbow] - goal[shoulder]) + _length(goal[wrist] - goal[elbow])
    factor = float(np.clip(theirs / max(float(ours.max()), 1e-6), 1.0, _LONGEST))
    if factor < 1 + _TOLERANCE * 2 / 3:
        return 1.0
    new_wrist = moved[:, shoulder] + factor * (moved[:, wrist] - moved[:, shoulder])
    step = new_wrist - moved[:, wrist]
    moved[:, elbow] = moved[:, shoulder] + factor * (moved[:, elbow] - moved[:, shoulder])
    moved[:, wrist] = new_wrist
    moved[:, where] += step[:, None]
    return factor


def _resize_hand(moved: Floats, seen: Floats, goal: Floats, goal_seen: Floats, where: slice) -> float:
    """Give the hand the portrait's size in place, about its wrist."""
    frames = hand_seen(seen, where)
    if not hand_seen(goal_seen, where) or not frames.any():
        return 1.0
    ours = float(np.percentile(hand_size(moved[frames][:, where]), 75))
    factor = float(hand_size(goal[where][None])[0]) / max(ours, 1e-6)
    if abs(factor - 1) < _TOLERANCE:
        return 1.0
    factor = float(np.clip(factor, _SMALLEST_HAND, _LONGEST))
    root = moved[:, where.start : where.start + 1]
    moved[:, where] = root + factor * (moved[:, where] - root)
    return factor


def hand_size(hands: Floats) -> Floats:
    """Size of hands (f, 21, 2) as if they lay flat in the picture, (f,): by the bones that look longest.

    Each bone's length over what it is in a hand of size 1; those that point at the camera look short, so
    a high percentile is taken.
    """
    ends = np.array(HAND_EDGES)
    bones = _length(hands[:, ends[:, 1]] - hands[:, ends[:, 0]])
    return np.asarray(np.percentile(bones / hand_bones(), 80, axis=1) * HAND)


def _pull_back(moved: Floats, seen: Floats, where: slice, arm: list[int], shoulders: float) -> float:
    """Bring hands that are farther from their shoulder than an arm reaches back in place; their share."""
    shoulder = moved[:, arm[0]]
    offset = moved[:, where.start] - shoulder
    far = _length(offset)
    known = (seen[:, arm[0]] >= SEEN) & hand_seen(seen, where)
    too_far = known & (far > _REACH * shoulders)
    if not too_far.any():
        return 0.0
    step = offset * (np.minimum(1.0, _REACH * shoulders / np.maximum(far, 1e-9)) - 1)[:, None]
    step[~too_far] = 0.0
    moved[:, where] += step[:, None]
    moved[:, arm[2]] += step
    return float(too_far.sum() / max(int(known.sum()), 1))


def _length(vectors: Floats) -> Floats:
    return np.asarray(np.hypot(vectors[..., 0], vectors[..., 1]))


def _outside(gesture: Gesture) -> float:
    seen = gesture.confidence[:, HANDS] > 0
    if not seen.any():
        return 0.0
    hands = gesture.joints[:, HANDS]
    return float((((hands < 0) | (hands > 1)).any(axis=2) & seen).sum() / seen.sum())


def portrait_notices(portrait: Pose) -> list[str]:
    """What a portrait lacks for a gesture to be fitted to it, a line each."""
    notices = []
    if not shoulders_seen(portrait.confidence):
        notices.append("the portrait does not show both shoulders: the gesture's arms and hands may not fit")
    left, right = hands_found(portrait)
    if not left and not right:
        notices.append("the portrait shows no hands: a planned gesture leaves them out, others add them")
    elif not left or not right:
        side = "left" if not left else "right"
        notices.append(
            f"the portrait does not show the {side} hand: a planned gesture leaves it out, others add it"
        )
    if not face_found(portrait):
        notices.append("no face was found in the portrait: the lips may not move")
    return notices
