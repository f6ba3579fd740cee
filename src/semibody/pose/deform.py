"""A portrait deformed to a pose: what the pose moves takes the picture around it along, smoothly.

    deformation = Deformation(portrait_pose, aspect)
    deformation.reaches(gesture)                # whether all arms stay near enough
    moved = deformation.flow(pose, 512, 512)    # where every pixel comes from

A photograph that is only deformed keeps its skin, cloth and light. Nothing is uncovered and nothing covers
anything else, so no network has to invent what was hidden; but what lies between a hand and its surroundings
is stretched, which is believable for small movements only. Three fields are added up:

* arms and hands move with their bones (skinning), and the field fades with the distance from them, slowly
  enough that the picture never folds;
* the head moves as an ellipsoid that the face's joints place: an affine map and a turn in depth;
* lids and brows move within it, lids along the line from one to the other.

Poses are in fractions of a picture ``aspect`` times as wide as high; lengths are in heights of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from semibody.pose.body import SEEN, face_found, face_height, shoulder_distance, shoulders_seen
from semibody.pose.limbs import Bones, arm_bones
from semibody.pose.skeleton import ARMS, FACE_PARTS, HAND_EDGES
from semibody.types import FACE, Floats, Gesture, Pose

FARTHEST = 0.68
"""Shoulder widths by which an elbow or a wrist may move; beyond, the picture around it is torn visibly."""
_NARROWEST = 0.25
"""Shoulder widths over which an arm's field fades at least."""
_SLOPE = 2.2
"""The field fades over so many times the displacement. A smooth step is 1.5 times as steep as a ramp, so the
picture folds below 1.5."""
_RIGID = 1.3
"""Up to so many times its thickness a bone carries the picture rigidly."""
_COLLAR, _SPINE, _TRUNK = 0.06, 0.12, 1.5
"""Thickness of the line between the shoulders, that of the spine, and its length, in shoulder widths."""
_COARSE = 64
"""Rows of the grid on which arms and head are computed."""
_TESTED, _STRETCHED = 48, 0.04
"""Rows of the grid on which ``torn`` looks, and the share of its area that a cell had before at least."""
_EDGE = 0.06
"""Heights of the picture over which flows fade towards its edges, which do not move."""
_STILL = 1e-5
"""Heights of the picture under which nothing counts as moved."""

_Points = Float[NDArray[np.float64], "2 n"]


def smooth(share: Floats) -> Floats:
    """A smooth step from 0 to 1."""
    share = np.clip(share, 0.0, 1.0)
    return np.asarray(share * share * (3 - 2 * share))


@dataclass(frozen=True)
class Moved:
    """Where every pixel of a deformed picture comes from: how far right and down, in pixels."""

    flow: Float[NDArray[np.float32], "2 H W"]
    around: Float[NDArray[np.float32], "2 H W"]
    """the same without what moves within the face"""
    mouth: Float[NDArray[np.float32], "H W"] | None
    """1 where an open mouth shows what the portrait does not have; None: nowhere"""


class Deformation:
    """How one portrait is deformed. Without shoulders its arms stay, without a face its head."""

    def __init__(self, portrait: Pose, aspect: float = 1.0) -> None:
        self._own, self._aspect = portrait, aspect
        self._points = portrait.joints * (aspect, 1.0)
        self._head = Head.of(self._points) if face_found(portrait) else None
        self._width = max(float(shoulder_distance(self._points)), 1e-3)
        self._armed = bool(shoulders_seen(portrait.confidence))

    def reaches(self, gesture: Gesture) -> bool:
        """Whether no elbow or wrist is farther than ``FARTHEST`` from its place, and no joint of an arm
        appears or disappears."""
        if not self._armed:
            return False
        for hand, *arm in ARMS:
            joints = np.array([*arm, *range(hand.start, hand.stop)])
            here = self._own.confidence[joints] >= SEEN
            if (here != (gesture.confidence[:, joints] >= SEEN)).any():
                return False
            away = (gesture.joints[:, arm] - self._own.joints[arm]) * (self._aspect, 1.0)
            seen = here[: len(arm)]
            if np.hypot(away[..., 0], away[..., 1])[:, seen].max(initial=0.0) > FARTHEST * self._width:
                return False
        return True

    def flow(self, pose: Pose, height: int, width: int) -> Moved | None:
        """How a picture of ``height`` x ``width`` pixels is deformed; None: nothing moves."""
        rows, columns = _COARSE, max(2, round(_COARSE * self._aspect))
        coarse = self._coarse_flow(pose, rows, columns)
        around = np.stack([cv2.resize(part.astype(np.float32), (width, height)) * height for part in coarse])
        whole, mouth = around, None
        if self._head is not None:
            face = self._head.face_flow(pose.joints[FACE] * (self._aspect, 1.0), height, width)
            if face is not None:
                within, mouth = face.taken_at(around)
                whole = around + within
        if np.abs(whole).max() < _STILL * height and mouth is None:
            return None
        return Moved(whole, around, mouth)

    def torn(self, pose: Pose) -> float:
        """How much of the deformed picture is stretched beyond recognition or folded, in squares of the
        shoulders' width; up to about 0.02 nobody sees it."""
        columns = max(2, round(_TESTED * self._aspect))
        flow = self._coarse_flow(pose, _TESTED, columns)
        cell = (1 / _TESTED, self._aspect / columns)
        (xy, xx), (yy, yx) = (np.gradient(part, *cell) for part in flow)
        # How large each cell is in the portrait, as a share of itself.
        area = (1 + xx) * (1 + yy) - xy * yx
        return float(np.count_nonzero(area < _STRETCHED) * cell[0] * cell[1] / self._width**2)

    def _coarse_flow(self, pose: Pose, rows: int, columns: int) -> Floats:
        """(2, rows, columns), without lids and brows."""
        x = (np.arange(columns) + 0.5) * (self._aspect / columns)
        y = (np.arange(rows) + 0.5) / rows
        points = np.stack([part.ravel() for part in np.meshgrid(x, y)])
        moved = pose.joints * (self._aspect, 1.0)
        flow = self._trunk_flow(points, moved)
        if self._armed:
            flow = flow + self._arm_flow(points, pose)
        if self._head is not None:
            flow = self._off_head(points, flow) + self._head.flow(points, moved[FACE])
        return (flow * self._inside(points)).reshape(2, rows, columns)

    # -- arms ------------------------------------------------------------------------------

    def _arm_flow(self, points: _Points, pose: Pose) -> Floats:
        """Of both arms (2, n). The trunk, and an arm at rest, hold their place against the other's field."""
        fields, weights = [], [1 / np.square(self._off_trunk(points) + 0.02 * self._width)]
        for hand, *arm in ARMS:
            joints = np.array([*arm, *range(hand.start, hand.stop)])
            bones = arm_bones(self._own, pose, self._aspect, joints)
            if bones is None:
                continue
            seen = self._own.confidence[joints] >= SEEN
            away = (pose.joints - self._own.joints)[joints[seen]] * (self._aspect, 1.0)
            farthest = float(np.hypot(*away.T).max(initial=0.0))
            displaced, beyond = _displace(bones, points, self._width)
            fades = max(_NARROWEST * self._width, _SLOPE * farthest)
            fields.append(displaced * smooth(1 - beyond / fades) * float(farthest > _STILL))
            weights.append(1 / np.square(beyond + 0.02 * self._width))
        total = np.zeros_like(points)
        for displaced, weight in zip(fields, weights[1:], strict=True):
            total += displaced * weight / sum(weights)
        return total

    def _off_trunk(self, points: _Points) -> Floats:
        """(n,) from the line between the shoulders and the spine, less their thickness."""
        right, left = self._points[2], self._points[5]
        neck, hips = (right + left) / 2, np.array([0.0, _TRUNK * self._width])
        across = _from_segment(points, right, left) - _COLLAR * self._width
        spine = _from_segment(points, neck, neck + hips) - _SPINE * self._width
        return np.maximum(np.minimum(across, spine), 0.0)

    def _trunk_flow(self, points: _Points, moved: Floats) -> Floats:
        """Of the shoulders and the neck, which rise with the breath."""
        if not self._armed:
            return np.zeros_like(points)
        shoulders = np.array([2, 5])
        away = self._points[shoulders] - moved[shoulders]
        if np.abs(away).max() < _STILL:
            return np.zeros_like(points)
        off = points[:, None] - moved[shoulders].T[..., None]
        near = np.exp(-np.square(off / (0.55 * self._width)).sum(axis=0))
        share = near / np.maximum(near.sum(axis=0), 1.0)
        return np.asarray((away.T[..., None] * share).sum(axis=1))

    def _off_head(self, points: _Points, flow: Floats) -> Floats:
        """``flow`` without what would deform the face."""
        assert self._head is not None
        return flow * smooth(self._head.distance(points) / (0.15 * self._width))

    def _inside(self, points: _Points) -> Floats:
        """1 inside, 0 on the edges of the picture: of an edge the direction across it is held."""
        across = [np.minimum(p, end - p) / _EDGE for p, end in zip(points, (self._aspect, 1.0), strict=True)]
        return np.stack([smooth(part) for part in across])


def _from_segment(points: _Points, start: Floats, end: Floats) -> Floats:
    """(n,) distance from the line between two points."""
    along = end - start
    share = ((points - start[:, None]) * along[:, None]).sum(axis=0) / max(float(along @ along), 1e-12)
    off = points - start[:, None] - np.clip(share, 0.0, 1.0) * along[:, None]
    return np.asarray(np.hypot(*off))


def _displace(bones: Bones, points: _Points, width: float) -> tuple[Floats, Floats]:
    """Of points beside moved bones: how far their picture is displaced (2, n), and how far they are beyond
    what the nearest bone carries rigidly (n)."""
    at = bones.along(points)
    beyond = np.maximum(at.distance - _RIGID * bones.thick[:, None], 0.0)
    # Near a bone the picture turns with it; farther away that would grow with the distance.
    turning = np.clip(1 - beyond / (0.3 * width), 0.0, 1.0)
    displaced = turning * (at.source - points[:, None]) + (1 - turning) * (at.old_foot - at.foot)
    # A hand has twenty thin bones and counts as much as one of the arm's: else it would pull at the shoulder.
    share = np.where(bones.thick < 0.6 * bones.thick.max(), 1 / len(HAND_EDGES), 1.0)
    weight = share[:, None] / np.square(np.square(at.distance / width + 0.02))
    weight /= weight.sum(axis=0)
    return (weight * displaced).sum(axis=1), beyond.min(axis=0)


# -- the head ------------------------------------------------------------------------------

_HAIR, _CHEEKS, _NECK = 0.95, 0.28, 0.05
"""How far the head goes beyond the face's joints, above, beside and below, in heights of the face."""
_AROUND = 0.9
"""Heights of the face over which the head's field fades around it."""
_DEEP = 0.62
"""Half the depth of the head, in heights of the face."""
_JAW = 2.7
"""Half the width of the jaw, in halves of the mouth's width: so far aside the chin's movement fades."""
_BELOW_CHIN = 0.6
"""Heights of the face below the chin over which its movement fades."""
_ARCH = 2.4
"""Exponent of the lips' arch: 2 is a parabola, more is rounder at the corners."""
_TEETH = 0.7
"""Share of the portrait's own gap between the lips that is kept below the upper lip."""
_SOFT_LIP = 1.5
"""Pixels over which the inner edge of a lip fades into the open mouth."""
_EYES = (FACE_PARTS["right_eye"], FACE_PARTS["left_eye"])
_BROWS = (FACE_PARTS["right_brow"], FACE_PARTS["left_brow"])
_LIPS = slice(FACE_PARTS["outer_lips"].start, FACE_PARTS["inner_lips"].stop)


_RIM = 0.2
"""How far below the joints of a lower lid the eye is still seen, in openings of the eye."""
_LASHES_HIGH = 0.45
"""How high the line of the lashes is, in openings of the eye."""
_LASHES = 0.25
"""How far above the joints of an upper lid its lashes begin, in openings of the eye."""


@dataclass(frozen=True)
class Head:
    """The head of a portrait, by the joints of its face (68, 2)."""

    face: Floats
    size: float
    """height of the face"""

    @classmethod
    def of(cls, points: Floats) -> Head:
        """``points`` (128, 2) of the whole person."""
        return cls(points[FACE], max(float(face_height(points)), 1e-3))

    @cached_property
    def _box(self) -> tuple[Floats, Floats]:
        beside, above, below = _CHEEKS * self.size, _HAIR * self.size, _NECK * self.size
        low, high = self.face.min(axis=0), self.face.max(axis=0)
        return low - np.array([beside, above]), high + np.array([beside, below])

    def distance(self, points: _Points) -> Floats:
        """(n,) from the head's ellipse in units of the picture's height, 0 inside."""
        low, high = self._box
        centre, half = (low + high) / 2, (high - low) / 2
        radius = np.hypot(*((points - centre[:, None]) / half[:, None]))
        return np.asarray(np.maximum(radius - 1, 0.0) * half.mean())

    def depth(self, points: _Points) -> Floats:
        """(n,) how far before its middle the head's surface is, in heights of the face; 0 at its rim."""
        low, high = self._box
        centre, half = (low + high) / 2, (high - low) / 2
        radius = np.square((points - centre[:, None]) / half[:, None]).sum(axis=0)
        return np.asarray(_DEEP * np.sqrt(np.clip(1 - radius, 0.0, 1.0)))

    def _terms(self, points: _Points) -> Floats:
        """(n, 4): what a moved head is linear in: position, 1 and depth."""
        around = (points - self.face.mean(axis=0)[:, None]) / self.size
        return np.stack([*around, np.ones(points.shape[1]), self.depth(points)], axis=1)

    def fit(self, face: Floats) -> Floats:
        """(4, 2): by ``_terms`` how far the joints of the face have come; lids, brows and lips move by
        themselves and do not count."""
        stiff = np.r_[0:17, 27:36, 36, 39, 42, 45]
        away = (face - self.face)[stiff]
        if np.abs(away).max() < _STILL:
            return np.zeros((4, 2))
        return np.asarray(np.linalg.lstsq(self._terms(self.face[stiff].T), away, rcond=None)[0])

    def flow(self, points: _Points, face: Floats) -> Floats:
        """(2, n): where the picture of the moved head comes from, less the points."""
        motion = self.fit(face)
        if not motion.any():
            return np.zeros_like(points)
        share = smooth(1 - self.distance(points) / (_AROUND * self.size))
        source = points - share * (self._terms(points) @ motion).T
        # The motion is known at its source; two steps are enough for what a head moves.
        for _ in range(2):
            source = points - share * (self._terms(source) @ motion).T
        return np.asarray(source - points)

    def face_flow(self, face: Floats, height: int, width: int) -> FaceFlow | None:
        """Of lids, brows and mouth, in the portrait's own pixels; None: they do not move."""
        own = self.face + self._terms(self.face.T) @ self.fit(face)
        away = face - own
        if max(np.abs(away[part]).max() for part in (*_EYES, *_BROWS, _LIPS)) < 1e-4 * self.size:
            return None
        # Pixels are heights of the picture times its height, on both axes.
        return FaceFlow.of(self.face * height, away * height, height, width)


@dataclass(frozen=True)
class FaceFlow:
    """Movements within a face, in pixels, inside a box about it; outside nothing moves."""

    left: int
    top: int
    flow: Float[NDArray[np.float32], "2 h w"]
    mouth: Float[NDArray[np.float32], "h w"]
    """1 between lips that have come apart, where the portrait has nothing to show"""

    @classmethod
    def of(cls, face: Floats, away: Floats, height: int, width: int) -> FaceFlow:
        """``face`` (68, 2) and how far each joint is moved, in pixels."""
        size = float(np.ptp(face[:, 1]))
        beyond = np.array([[0.3, 0.3], [0.3, _BELOW_CHIN]]) * size + 2
        low = np.floor((face.min(axis=0) - beyond[0]).clip(0)).astype(int)
        high = np.ceil(np.minimum(face.max(axis=0) + beyond[1], (width, height))).astype(int)
        high = np.maximum(high, low + 1)
        x, y = np.meshgrid(np.arange(low[0], high[0]) + 0.5, np.arange(low[1], high[1]) + 0.5)
        flow = np.zeros((2, *x.shape))
        for eye, brow in zip(_EYES, _BROWS, strict=True):
            flow += _lift_brow(face[brow], away[brow], x, y)
            flow += _close_eye(face[eye], away[eye], face[brow], x, y)
        opened, mouth = _open_mouth(face, away, x, y)
        return cls(int(low[0]), int(low[1]), (flow + opened).astype(np.float32), mouth.astype(np.float32))

    def taken_at(
        self, flow: Float[NDArray[np.float32], "2 H W"]
    ) -> tuple[Float[NDArray[np.float32], "2 H W"], Float[NDArray[np.float32], "H W"]]:
        """This flow and ``mouth`` for pixels that come from elsewhere by ``flow``."""
        height, width = flow.shape[1:]
        where_x = flow[0] + np.arange(width, dtype=np.float32) - self.left
        where_y = flow[1] + np.arange(height, dtype=np.float32)[:, None] - self.top
        right, down, mouth = (
            cv2.remap(part, where_x, where_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
            for part in (*self.flow, self.mouth)
        )
        return np.stack([right, down]), mouth


def _lift_brow(brow: Floats, away: Floats, x: Floats, y: Floats) -> Floats:
    """(2, h, w): a brow moves as one, with the skin about it."""
    centre, reach = brow.mean(axis=0), max(float(np.ptp(brow[:, 0])), 1.0)
    near = np.exp(-np.square((x - centre[0]) / (0.6 * reach)) - np.square((y - centre[1]) / (0.35 * reach)))
    return -away.mean(axis=0)[:, None, None] * near


def _close_eye(eye: Floats, away: Floats, brow: Floats, x: Floats, y: Floats) -> Floats:
    """(2, h, w): the upper lid comes down with its lashes, the skin above it is stretched, and what lies
    under it is covered.

    ``eye`` (6, 2): corner, two on the upper lid, corner, two on the lower lid (iBUG-68's order).
    """
    start, end = eye[0], eye[3]
    length = max(float(np.hypot(*(end - start))), 1e-3)
    ahead = (end - start) / length
    down = np.array([-ahead[1], ahead[0]]) * (1.0 if ahead[0] >= 0 else -1.0)
    along = ((x - start[0]) * ahead[0] + (y - start[1]) * ahead[1]) / length
    across = (x - start[0]) * down[0] + (y - start[1]) * down[1]
    heights = (eye - start) @ down
    upper, lower = heights[[1, 2]].mean(), heights[[4, 5]].mean()
    gap = max(float(lower - upper), 1e-3)
    closed = float(np.clip((away[[1, 2]].mean(axis=0) @ down) / gap, 0.0, 1.0))
    arch = np.clip(1 - np.square(2 * along - 1), 0.0, None)
    # Joints lie within the lashes: the lid that comes down begins a little above them.
    top = arch * (upper * 1.125 - _LASHES * gap)
    bottom = arch * (lower * 1.125 + _RIM * gap)
    above = max(0.55 * float(upper - ((brow - start) @ down).mean()), 0.8 * gap)
    fold = top - above * arch
    lashes = _LASHES_HIGH * gap * arch
    lid = top + closed * np.maximum(bottom - lashes - top, 0.0)
    skin = fold + (across - fold) / np.maximum(lid - fold, 1e-3) * (top - fold)
    # The eye itself stays, and the lid with its lashes comes down over it.
    source = np.where(across < lid, skin, np.where(across < lid + lashes, across - (lid - top), across))
    source = np.where((across > fold) & (arch > 0), source, across)
    return down[:, None, None] * (source - across)


def _open_mouth(face: Floats, away: Floats, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """(2, h, w) and (h, w): the lower lip comes down with the chin, the upper lip goes up a little, and both
    ways back; and where between them nothing of the portrait is to be seen.

    Only the middles of the inner lips and the corners are read, of ``face`` and ``away`` (68, 2).
    """
    right, left = face[60], face[64]
    centre, half = (right + left) / 2, max(float(np.hypot(*(left - right))) / 2, 1e-3)
    ahead = (left - right) / (2 * half)
    down = np.array([-ahead[1], ahead[0]])
    along = ((x - centre[0]) * ahead[0] + (y - centre[1]) * ahead[1]) / half
    across = (x - centre[0]) * down[0] + (y - centre[1]) * down[1]
    upper, lower = (float((face[point] - centre) @ down) for point in (62, 66))
    lower = max(lower, upper)
    raised, lowered = -float(away[62] @ down), float(away[66] @ down)
    wider = float((away[64] - away[60]) @ ahead) / (2 * half)
    nose, chin = (float((face[point] - centre) @ down) for point in (33, 8))
    along = along / (1 + wider * np.exp(-np.square(along / 1.6) - np.square(across / (1.2 * half))))
    arch = np.clip(1 - np.abs(along) ** _ARCH, 0.0, None)
    top, bottom = (upper - raised) * arch, np.maximum(lower + lowered, upper - raised) * arch
    above = smooth(1 - (top - across) / max(upper - nose, 0.2 * half))
    lip = raised * arch * above
    # The lower lip keeps its arch; farther down the whole chin moves, as far as the jaw is wide.
    low = np.clip((across - bottom) / max(chin - lower, half), 0.0, 1.0)
    below = smooth(1 - (across - (chin + lowered)) / (_BELOW_CHIN * float(np.ptp(face[:, 1]))))
    jaw = -lowered * ((1 - low) * arch + low * smooth(1 - np.abs(along) / _JAW)) * below
    # Upper teeth that the portrait shows stay with the upper lip; a closing mouth presses them together.
    gap, own = np.maximum(bottom - top, 1e-3), (lower - upper) * arch
    between = np.where(gap > own, np.minimum(across - top, own), (across - top) * own / gap)
    inside = (across > top) & (across < bottom)
    shift = np.where(across <= top, lip, np.where(inside, upper * arch + between - across, jaw))
    sideways = along * half - ((x - centre[0]) * ahead[0] + (y - centre[1]) * ahead[1])
    flow = ahead[:, None, None] * sideways + down[:, None, None] * shift
    begins = top + _TEETH * own
    soft = np.minimum(across - begins, bottom - across) / _SOFT_LIP
    return flow, smooth(soft) * inside * (gap > own + 1)
