"""How a portrait's head and face move: the head as an ellipsoid, brows and mouth within it.

    head = Head.of(points)                          # (128, 2), in heights of the picture
    head.flow(grid, moved_face)                     # where the picture of the moved head comes from
    head.face_flow(moved_face, 512, 512)            # what moves within it, and where the mouth is open

The joints of the face place the head: an affine map and a turn in depth are fitted to those that do not move
by themselves. What brows and lips are off from that is their own movement. Everything is a flow: for
every pixel, where in the portrait it comes from.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from semibody.pose.body import face_height
from semibody.pose.skeleton import FACE_PARTS, LIPS
from semibody.types import FACE, Floats

Points = Float[NDArray[np.floating[Any]], "2 n"]

_STILL = 1e-5
"""Heights of the picture under which nothing counts as moved."""
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
_UNSEEN = 1e-3
"""Pixels of movement that change no level of a pixel."""
_FRINGE = 0.45
"""Share of that gap by which an opened mouth shows its inside beyond the lower lip's joints."""
_SOFT_LIP = 1.5
"""Pixels over which the inner edge of a lip fades into the open mouth."""
_SLIT = 2.5
"""Pixels by which lips come apart until what is behind them is seen in full."""
_BROWS = (FACE_PARTS["right_brow"], FACE_PARTS["left_brow"])


def smooth(share: Floats) -> Floats:
    """A smooth step from 0 to 1."""
    share = np.clip(share, 0.0, 1.0)
    return np.asarray(share * share * (3 - 2 * share))


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

    def distance(self, points: Points) -> Floats:
        """(n,) from the head's ellipse in units of the picture's height, 0 inside."""
        low, high = self._box
        centre, half = (low + high) / 2, (high - low) / 2
        radius = np.hypot(*((points - centre[:, None]) / half[:, None]))
        return np.asarray(np.maximum(radius - 1, 0.0) * half.mean())

    def depth(self, points: Points) -> Floats:
        """(n,) how far before its middle the head's surface is, in heights of the face; 0 at its rim."""
        low, high = self._box
        centre, half = (low + high) / 2, (high - low) / 2
        radius = np.square((points - centre[:, None]) / half[:, None]).sum(axis=0)
        return np.asarray(_DEEP * np.sqrt(np.clip(1 - radius, 0.0, 1.0)))

    def _terms(self, points: Points) -> Floats:
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

    def follow(self, points: Points) -> Floats:
        """(n,) 1 on the head, 0 where its movement has faded."""
        return smooth(1 - self.distance(points) / (_AROUND * self.size))

    def flow(self, points: Points, face: Floats) -> Floats:
        """(2, n): where the picture of the moved head comes from, less the points."""
        motion = self.fit(face)
        if not motion.any():
            return np.zeros_like(points)
        share = self.follow(points)
        source = points - share * (self._terms(points) @ motion).T
        # The motion is known at its source; two steps are enough for what a head moves.
        for _ in range(2):
            source = points - share * (self._terms(source) @ motion).T
        return np.asarray(source - points)

    def face_flow(self, face: Floats, height: int, width: int) -> FaceFlow | None:
        """Of brows and mouth, in the portrait's own pixels; None: they do not move."""
        own = self.face + self._terms(self.face.T) @ self.fit(face)
        away = face - own
        if max(np.abs(away[part]).max() for part in (*_BROWS, LIPS)) < 1e-4 * self.size:
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
        # Half the memory of float64, and off by less than a thousandth of a pixel.
        x, y = np.meshgrid(
            *(np.arange(*ends, dtype=np.float32) + 0.5 for ends in zip(low, high, strict=True))
        )
        opened, mouth = _open_mouth(face, away, x, y)
        flow = opened.astype(np.float32)
        for brow in _BROWS:
            if np.abs(away[brow]).max() > _UNSEEN:
                flow += _lift_brow(face[brow], away[brow], x, y)
        return cls(int(low[0]), int(low[1]), flow, mouth.astype(np.float32))

    def taken_at(
        self, flow: Float[NDArray[np.float32], "2 H W"]
    ) -> tuple[Float[NDArray[np.float32], "2 H W"], Float[NDArray[np.float32], "H W"]]:
        """This flow and ``mouth`` for pixels that come from elsewhere by ``flow``."""
        height, width = flow.shape[1:]
        high, wide = self.mouth.shape
        # Only pixels this near to the box can come from within it.
        away_x, away_y = (int(np.abs(part).max()) + 2 for part in flow)
        rows = slice(max(self.top - away_y, 0), max(self.top + high + away_y, 0))
        columns = slice(max(self.left - away_x, 0), max(self.left + wide + away_x, 0))
        where_x = flow[0, rows, columns] + np.arange(width, dtype=np.float32)[columns] - self.left
        where_y = flow[1, rows, columns] + np.arange(height, dtype=np.float32)[rows, None] - self.top
        taken = np.zeros((3, height, width), np.float32)
        for part, into in zip((*self.flow, self.mouth), taken, strict=True):
            into[rows, columns] = cv2.remap(
                part, where_x, where_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
            )
        return taken[:2], taken[2]


def _lift_brow(brow: Floats, away: Floats, x: Floats, y: Floats) -> Floats:
    """(2, h, w): a brow moves as one, with the skin about it."""
    centre, reach = brow.mean(axis=0), max(float(np.ptp(brow[:, 0])), 1.0)
    near = np.exp(-np.square((x - centre[0]) / (0.6 * reach)) - np.square((y - centre[1]) / (0.35 * reach)))
    return -away.mean(axis=0)[:, None, None] * near


def _thicken(
    outer: Floats, away: Floats, centre: Floats, outwards: Floats, inner: Floats, across: Floats, reach: float
) -> Floats:
    """(h, w) how far outwards a lip's skin has come because its outer edge went ``away`` from the inner one;
    ``inner`` and ``across`` are counted ``outwards``, and it fades over ``reach``."""
    by = float(away @ outwards)
    if abs(by) < _STILL:
        return np.zeros_like(across)
    edge = float((outer - centre) @ outwards)
    thick = np.maximum(edge + by - np.maximum(inner, 0), 1.0)
    beyond = across - inner
    fades = smooth(1 - (beyond - thick) / max(reach - float(thick.mean()), 2.5 * abs(by), 1.0))
    return np.asarray(by * smooth(beyond / thick) * np.where(beyond > 0, fades, 0.0))


@dataclass(frozen=True)
class Mouth:
    """Where pixels are in a mouth whose lips were moved: of the joints only the middles of the inner lips and
    the corners are read."""

    centre: Floats
    ahead: Floats
    """(2,) from the right corner to the left one, of length 1"""
    half: float
    """half the portrait's width of the mouth, in pixels"""
    upper: float
    lower: float
    """the portrait's own inner lips below the corners, in pixels"""
    raised: float
    lowered: float
    """how far they have gone apart"""
    still: Floats
    """(h, w) place across the face in halves of the mouth, 0 in its middle"""
    along: Floats
    """the same within the mouth that has become wider or narrower"""
    across: Floats
    """(h, w) pixels below the corners"""
    arch: Floats
    """how far lips are off the corners there, 1 in the middle"""

    @classmethod
    def of(cls, face: Floats, away: Floats, x: Floats, y: Floats) -> Mouth:
        """``face`` and ``away`` (68, 2) in pixels; ``x`` and ``y`` of the pixels, in the portrait."""
        right, left = face[60], face[64]
        centre, half = (right + left) / 2, max(float(np.hypot(*(left - right))) / 2, 1e-3)
        ahead = (left - right) / (2 * half)
        down = np.array([-ahead[1], ahead[0]])
        still = ((x - centre[0]) * ahead[0] + (y - centre[1]) * ahead[1]) / half
        across = (x - centre[0]) * down[0] + (y - centre[1]) * down[1]
        upper, lower = (float((face[point] - centre) @ down) for point in (62, 66))
        wider = float((away[64] - away[60]) @ ahead) / (2 * half)
        # The corners themselves, which come to lie at 1 + wider, are to come from 1.
        near = np.exp(
            np.square((1 + wider) / 1.6) - np.square(still / 1.6) - np.square(across / (1.2 * half))
        )
        along = still / (1 + wider * np.minimum(near, 1.2))
        arch = np.clip(1 - np.abs(along) ** _ARCH, 0.0, None)
        raised, lowered = -float(away[62] @ down), float(away[66] @ down)
        return cls(centre, ahead, half, upper, max(lower, upper), raised, lowered, still, along, across, arch)

    @property
    def down(self) -> Floats:
        """(2,) from the mouth to the chin, of length 1."""
        return np.array([-self.ahead[1], self.ahead[0]])

    @cached_property
    def top(self) -> Floats:
        """(h, w) lower edge of the upper lip, in pixels below the corners."""
        return (self.upper - self.raised) * self.arch

    @cached_property
    def bottom(self) -> Floats:
        """The upper edge of the lower lip."""
        return max(self.lower + self.lowered, self.upper - self.raised) * self.arch


def _open_mouth(face: Floats, away: Floats, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """(2, h, w) and (h, w): the lower lip comes down with the chin, the upper lip goes up a little, and both
    ways back; lips get fuller or thinner, their corners go in or out; and where between the lips nothing of
    the portrait is to be seen.

    Only the middles of the inner and outer lips and the corners are read, of ``face`` and ``away`` (68, 2).
    """
    mouth = Mouth.of(face, away, x, y)
    centre, half, ahead, down = mouth.centre, mouth.half, mouth.ahead, mouth.down
    upper, lower, raised, lowered = mouth.upper, mouth.lower, mouth.raised, mouth.lowered
    along, across, arch, top, bottom = mouth.along, mouth.across, mouth.arch, mouth.top, mouth.bottom
    nose, chin = (float((face[point] - centre) @ down) for point in (33, 8))
    above = smooth(1 - (top - across) / max(upper - nose, 0.2 * half))
    lip = raised * arch * above
    # The lower lip keeps its arch; farther down the whole chin moves, as far as the jaw is wide.
    low = np.clip((across - bottom) / max(chin - lower, half), 0.0, 1.0)
    below = smooth(1 - (across - (chin + lowered)) / (_BELOW_CHIN * float(np.ptp(face[:, 1]))))
    jaw = -lowered * ((1 - low) * arch + low * smooth(1 - np.abs(along) / _JAW)) * below
    lip = lip + _thicken(face[51], away[51] - away[62], centre, -down, -top, -across, upper - nose) * arch
    jaw = (
        jaw
        - _thicken(face[57], away[57] - away[66], centre, down, bottom, across, 0.7 * (chin - lower)) * arch
    )
    # Upper teeth that the portrait shows stay with the upper lip; a closing mouth presses them together.
    gap, own = np.maximum(bottom - top, 1e-3), (lower - upper) * arch
    between = np.where(gap > own, np.minimum(across - top, own), (across - top) * own / gap)
    inside = (across > top) & (across < bottom)
    shift = np.where(across <= top, lip, np.where(inside, upper * arch + between - across, jaw))
    sideways = (along - mouth.still) * half
    flow = ahead[:, None, None] * sideways + down[:, None, None] * shift
    # Lower teeth that the portrait shows would go down with the lip, on whose edge the joints lie.
    begins, ends = top + _TEETH * own, bottom + _FRINGE * own * smooth(gap / np.maximum(own, 1.0) - 1)
    # Up to the lip itself: what lies between is the portrait's line between closed lips, stretched. A slit
    # appears gradually.
    wide = smooth((gap - own - 0.5) / _SLIT)
    soft = np.minimum(across - begins, ends + _SOFT_LIP * wide - across) / _SOFT_LIP
    return flow, smooth(soft) * wide * (across > top)
