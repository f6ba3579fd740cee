"""A portrait deformed to a pose: what the pose moves takes the picture around it along, smoothly.

    deformation = Deformation(portrait_pose, aspect, apart=True)
    deformation.reaches(gesture)                # whether all arms stay near enough
    moved = deformation.flow(pose, 512, 512)    # where every pixel comes from

A photograph that is only deformed keeps its skin, cloth and light. Nothing is uncovered and nothing covers
anything else, so no network has to invent what was hidden; but what lies between a hand and its surroundings
is stretched, which is believable for small movements only. Two kinds of fields are added up:

* arms and hands move with their bones (skinning), and the field fades with the distance from them, slowly
  enough that the picture never folds; where the person's matte is known, forearms and hands pass before the
  body instead, and sleeves and shoulders stay (``apart``);
* the head moves with the face's joints, and brows and mouth within it (``pose.head``).

Poses are in fractions of a picture ``aspect`` times as wide as high; lengths are in heights of the picture.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from semibody.pose.body import SEEN, SHOULDERS, face_found, shoulder_distance, shoulders_seen
from semibody.pose.head import Head, Points, smooth
from semibody.pose.limbs import Beside, Bones, Part, arm_bones, off_segment
from semibody.pose.skeleton import ARM_JOINTS
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
_ALONE = 0.5
"""Share of that, and of ``_NARROWEST``, for an upper arm whose forearm passes before the body: the torso
beside it stays."""
_WITH, _LEAVES = 1.0, 0.12
"""An arm at rest is deformed as a whole within so many thicknesses of its forearm and hand; from there its
forearm comes off what is behind over so many shoulder widths."""
_ELBOW, _ELBOW_FADES = 0.2, 0.1
"""The same about the elbow, in shoulder widths."""
_OFF = 0.5
"""Pixels by which forearms differ from what is behind before they are drawn apart."""
_WRIST = 0.2
"""Shoulder widths over which a hand's movement goes over into its forearm's."""
_FADES = 0.3
"""Shoulder widths beside a bone over which its turning fades."""
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

Floats32 = Float[NDArray[np.float32], "n k"]


@dataclass(frozen=True)
class Before:
    """A part of a deformed picture in which forearms and hands pass before what is behind them."""

    rows: slice
    columns: slice
    flow: Float[NDArray[np.float32], "2 h w"]
    """where their pixels come from, as ``Moved.flow``"""
    off: Float[NDArray[np.float32], "h w"]
    """how far, in pixels, from where those behind come from"""


@dataclass(frozen=True)
class Moved:
    """Where every pixel of a deformed picture comes from: how far right and down, in pixels."""

    flow: Float[NDArray[np.float32], "2 H W"]
    around: Float[NDArray[np.float32], "2 H W"]
    """the same without what moves within the face"""
    before: Before | None
    """None: nothing passes before anything"""
    mouth: Float[NDArray[np.float32], "H W"] | None
    """1 where an open mouth shows what the portrait does not have; None: nowhere"""


class Deformation:
    """How one portrait is deformed. Without shoulders its arms stay, without a face its head."""

    def __init__(self, portrait: Pose, aspect: float = 1.0, *, apart: bool = False) -> None:
        """``apart``: forearms and hands pass before the body (``pose.foreground``)."""
        self._own, self._aspect, self._apart = portrait, aspect, apart
        self._points = portrait.joints * (aspect, 1.0)
        self._head = Head.of(self._points) if face_found(portrait) else None
        self._width = max(float(shoulder_distance(self._points)), 1e-3)
        self._armed = bool(shoulders_seen(portrait.confidence))
        self._grids: dict[tuple[int, int], _Grid] = {}

    def reaches(self, gesture: Gesture) -> bool:
        """Whether no elbow or wrist is farther than ``FARTHEST`` from its place, and no joint of an arm
        appears or disappears."""
        if not self._armed:
            return False
        for joints in ARM_JOINTS:
            arm = joints[:3]
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
        coarse, arms = self._coarse_flow(pose, rows, columns)
        around = _enlarged(coarse, height, width)
        before = None if arms is None else _find_before(_enlarged(arms, height, width), around)
        whole, mouth = around, None
        if self._head is not None:
            face = self._head.face_flow(pose.joints[FACE] * (self._aspect, 1.0), height, width)
            if face is not None:
                within, mouth = face.taken_at(around)
                whole = around + within
        if np.abs(whole).max() < _STILL * height and mouth is None:
            return None
        return Moved(whole, around, before, mouth)

    def torn(self, pose: Pose) -> float:
        """How much of the deformed picture is stretched beyond recognition or folded, in squares of the
        shoulders' width; up to about 0.02 nobody sees it."""
        columns = max(2, round(_TESTED * self._aspect))
        flow, _ = self._coarse_flow(pose, _TESTED, columns)
        cell = (1 / _TESTED, self._aspect / columns)
        (xy, xx), (yy, yx) = (np.gradient(part, *cell) for part in flow)
        # How large each cell is in the portrait, as a share of itself.
        area = (1 + xx) * (1 + yy) - xy * yx
        return float(np.count_nonzero(area < _STRETCHED) * cell[0] * cell[1] / self._width**2)

    def _coarse_flow(self, pose: Pose, rows: int, columns: int) -> tuple[Floats, Floats | None]:
        """(2, rows, columns), without brows and mouth; and the same of forearms and hands where these pass
        before the body, else None."""
        grid = self._grid(rows, columns)
        moved = pose.joints * (self._aspect, 1.0)
        trunk, head = self._trunk_flow(grid.points, moved), self._head
        arms = behind = np.zeros_like(grid.points)
        if self._armed:
            arms = behind = self._arm_flow(grid, pose, "arm")
            if self._apart and np.abs(arms).max() > _STILL:
                behind = arms + grid.stays * (self._arm_flow(grid, pose, "upper") - arms)
        turned = None if head is None else head.flow(grid.points[:, grid.about_head], moved[FACE])

        def whole(flow: Floats) -> Floats:
            if turned is not None:
                # What else moves does not deform the face.
                flow = flow * grid.off_head
                flow[:, grid.about_head] += turned
            return (flow * grid.inside).reshape(2, rows, columns)

        return whole(trunk + behind), None if behind is arms else whole(trunk + arms)

    def _grid(self, rows: int, columns: int) -> _Grid:
        """What no pose changes of a grid: computed once."""
        if (rows, columns) in self._grids:
            return self._grids[rows, columns]
        x = ((np.arange(columns) + 0.5) * (self._aspect / columns)).astype(np.float32)
        y = ((np.arange(rows) + 0.5) / rows).astype(np.float32)
        points = np.stack([part.ravel() for part in np.meshgrid(x, y)])
        head = self._head
        away = np.zeros(0) if head is None else head.distance(points)
        self._grids[rows, columns] = grid = _Grid(
            x, y, points,
            inside=self._inside(points),
            trunk=1 / np.square(self._off_trunk(points) + 0.02 * self._width),
            stays=self._stays(points),
            off_head=smooth(away / (0.15 * self._width)),
            about_head=np.flatnonzero(away) if head is None else np.flatnonzero(head.follow(points)),
        )  # fmt: skip
        return grid

    # -- arms ------------------------------------------------------------------------------

    def _stays(self, points: Points) -> Floats:
        """(n,) 1 where the picture stays when forearms and hands pass before it, 0 about the arms at rest."""
        about = np.zeros(points.shape[1])
        for joints in ARM_JOINTS if self._apart else ():
            bones = arm_bones(self._own, self._own, self._aspect, joints, "fore")
            if bones is None:
                continue
            elbow = np.hypot(*(points - self._points[joints[1]][:, None])) / self._width
            limb = _beyond(bones, bones.distance(bones.beside(points)), _WITH).min(axis=0) / self._width
            about = np.maximum.reduce(
                [about, smooth(0.5 + (_ELBOW - elbow) / _ELBOW_FADES), smooth(1 - limb / _LEAVES)]
            )
        return 1 - about

    def _arm_flow(self, grid: _Grid, pose: Pose, part: Part) -> Floats:
        """Of both arms (2, n). The trunk, and an arm at rest, hold their place against the other's field."""
        arms = [
            _Arm(bones, self._farthest(pose, joints, part), _ALONE if part == "upper" else 1.0, self._width)
            for joints in ARM_JOINTS
            if (bones := arm_bones(self._own, pose, self._aspect, joints, part)) is not None
        ]
        total, moves = np.zeros_like(grid.points), np.zeros((len(grid.y), len(grid.x)), bool)
        for arm in arms:
            if arm.farthest > _STILL:
                moves |= arm.bones.about(grid.x, grid.y, arm.reach)
        cells = np.flatnonzero(moves)
        if not len(cells):
            return total
        points = grid.points[:, cells]
        places = [arm.bones.beside(points) for arm in arms]
        distances = [arm.bones.distance(place) for arm, place in zip(arms, places, strict=True)]
        beyond = [arm.beyond(distance) for arm, distance in zip(arms, distances, strict=True)]
        weights = [1 / np.square(off.min(axis=0) + 0.02 * self._width) for off in beyond]
        together = np.sum([grid.trunk[cells], *weights], axis=0)
        for n, arm in enumerate(arms):
            if arm.farthest > _STILL:
                share = smooth(1 - beyond[n].min(axis=0) / arm.fades) * weights[n]
                near = np.flatnonzero(share)
                away = _Away(
                    places[n].of(near), distances[n].take(near, axis=1), beyond[n].take(near, axis=1)
                )
                displaced = _displace(arm.bones, points.take(near, axis=1), away, self._width)
                total[:, cells[near]] += displaced * share[near] / together[near]
        return total

    def _farthest(self, pose: Pose, joints: Collection[int], part: Part) -> float:
        """How far a joint of an arm is from its place at most."""
        moving = np.array(list(joints)[:2] if part == "upper" else list(joints))
        moving = moving[self._own.confidence[moving] >= SEEN]
        away = (pose.joints - self._own.joints)[moving] * (self._aspect, 1.0)
        return float(np.hypot(*away.T).max(initial=0.0))

    def _off_trunk(self, points: Points) -> Floats:
        """(n,) from the line between the shoulders and the spine, less their thickness."""
        right, left = self._points[SHOULDERS]
        neck, hips = (right + left) / 2, np.array([0.0, _TRUNK * self._width])
        across = off_segment(points, right, left) - _COLLAR * self._width
        spine = off_segment(points, neck, neck + hips) - _SPINE * self._width
        return np.maximum(np.minimum(across, spine), 0.0)

    def _trunk_flow(self, points: Points, moved: Floats) -> Floats:
        """Of the shoulders and the neck, which rise with the breath."""
        if not self._armed:
            return np.zeros_like(points)
        away = self._points[SHOULDERS] - moved[SHOULDERS]
        if np.abs(away).max() < _STILL:
            return np.zeros_like(points)
        off = points[:, None] - moved[SHOULDERS].T[..., None]
        near = np.exp(-np.square(off / (0.55 * self._width)).sum(axis=0))
        share = near / np.maximum(near.sum(axis=0), 1.0)
        return np.asarray((away.T[..., None] * share).sum(axis=1))

    def _inside(self, points: Points) -> Floats:
        """1 inside, 0 on the edges of the picture: of an edge the direction across it is held."""
        across = [np.minimum(p, end - p) / _EDGE for p, end in zip(points, (self._aspect, 1.0), strict=True)]
        return np.stack([smooth(part) for part in across])


def _enlarged(flow: Floats, height: int, width: int) -> Float[NDArray[np.float32], "2 h w"]:
    """A flow (2, rows, columns) in heights of the picture for all of its pixels, in pixels."""
    return np.stack([cv2.resize(part.astype(np.float32), (width, height)) * height for part in flow])


def _find_before(
    arms: Float[NDArray[np.float32], "2 h w"], behind: Float[NDArray[np.float32], "2 h w"]
) -> Before | None:
    """The part in which two flows differ."""
    off = cv2.magnitude(*(arms - behind))
    rows, columns = (np.flatnonzero((off > _OFF).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return None
    part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return Before(*part, arms[:, *part], off[part])


@dataclass(frozen=True)
class _Grid:
    """n points of a grid, row by row, and what no pose changes of them."""

    x: Floats32
    """its columns"""
    y: Floats32
    """its rows"""
    points: Points
    inside: Floats
    """as ``Deformation._inside``"""
    trunk: Floats
    """(n,) how much the trunk holds its place"""
    stays: Floats
    """as ``Deformation._stays``"""
    off_head: Floats
    """(n,) 0 on the head, 1 away from it"""
    about_head: NDArray[np.intp]
    """which of the points the head takes along"""


@dataclass(frozen=True)
class _Arm:
    """An arm and how far it is moved, in heights of the picture."""

    bones: Bones
    farthest: float
    """of all its joints"""
    alone: float
    """share of ``_RIGID`` and ``_NARROWEST``"""
    width: float
    """of the shoulders"""

    @property
    def fades(self) -> float:
        """Over how far its field fades."""
        return max(self.alone * _NARROWEST * self.width, _SLOPE * self.farthest)

    @property
    def reach(self) -> Floats32:
        """(n,) how far from each bone there is any of the field."""
        return self.fades + self.alone * _RIGID * self.bones.thick

    def beyond(self, distance: Floats32) -> Floats32:
        """``_beyond`` of points at these distances."""
        return _beyond(self.bones, distance, self.alone * _RIGID)


def _beyond(bones: Bones, distance: Floats32, rigid: float = _RIGID) -> Floats32:
    """(n, k) how far points are beyond what each bone carries rigidly."""
    return np.maximum(distance - rigid * bones.thick[:, None], 0.0)


class _Away(NamedTuple):
    """Where k points are beside n bones."""

    place: Beside
    distance: Floats32
    beyond: Floats32
    """as ``_beyond``"""


def _displace(bones: Bones, points: Points, away: _Away, width: float) -> Floats32:
    """(2, k): how far the picture of points beside moved bones is displaced."""
    at = bones.along(away.place)
    # Near a bone the picture turns with it; farther away that would grow with the distance.
    turning = np.clip(1 - away.beyond / (_FADES * width), 0.0, 1.0)
    displaced = turning * (at.source - points[:, None]) + (1 - turning) * (at.old_foot - at.foot)
    weight = 1 / np.square(np.square(away.distance / width + 0.02))
    # A hand has twenty thin bones and counts as much as its nearest: else it would pull at the shoulder.
    fingers = bones.thick < 0.6 * bones.thick.max()
    if fingers.any() and not fingers.all():
        weight[fingers] *= weight[fingers].max(axis=0) / weight[fingers].sum(axis=0)
        # It is before its forearm, which may point at the camera, and moves as a whole.
        weight[~fingers] *= smooth(away.beyond[fingers].min(axis=0) / (_WRIST * width)) + 1e-4
    weight /= weight.sum(axis=0)
    return np.asarray((weight * displaced).sum(axis=1))
