"""Arms and hands of a portrait, carried to where a pose has them.

    limbs = move_limbs(portrait_pose, pose, 32, 32)          # a flow and a cover, on a grid
    carried = carry_limbs(portrait, portrait_pose, pose)     # the picture they make
    hidden = limb_cover(portrait_pose, 256, 256)             # where they are, with a margin
    moving = moved_cover(portrait_pose, pose, 256, 256)      # of those that move: where they were and are

Every bone of arms and hands carries the pixels around it, stretched with its length; between bones they are
blended by distance (skinning, in the plane). Depth is ignored: a palm that turns away, or fingers that were
hidden, come out wrong. So networks are conditioned on the result, among other things, and do not copy it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from semibody.pose.body import SEEN, shoulder_width
from semibody.pose.skeleton import ARM_JOINTS, ARMS, HAND_EDGES
from semibody.types import Floats, Picture, Pose

_UPPER_ARM, _FOREARM, _FINGER = 0.16, 0.12, 0.05
"""Distance up to which a bone carries pixels, in shoulder widths."""
_FADE = 1.7
"""The cover ends at so many times that distance."""
_NEAREST = 0.05
"""What is added to distances, in units of a bone's thickness, before bones are weighted by their inverse
fourth power."""
_SHORTEST = 0.01
"""A bone that looks shorter (it points at the camera), in shoulder widths, has no reliable direction."""
_STEEP = 4
"""Factor on the cover of a portrait's own limbs over that of carried ones, so that all their pixels go."""
_COARSE = 4
"""Pixels per cell of the grid that pictures are carried on."""
_GREY = 128
_AT_REST = 0.03
"""Displacement in shoulder widths from which an arm counts as moved; below it the cover fades."""

_Floats32 = NDArray[np.float32]


@dataclass(frozen=True)
class Limbs:
    """For every cell of a grid: where in the portrait it comes from, and how far it is arm or hand.

    ``flow``   (2, h, w) right and down, in units of half the picture, as ``networks.pixels.warp`` takes it.
    ``cover``  (h, w) 1 on arms and hands, 0 away from them; there the flow is 0.
    """

    flow: Float[NDArray[np.float32], "2 h w"]
    cover: Float[NDArray[np.float32], "h w"]

    @property
    def planes(self) -> Float[NDArray[np.float32], "3 h w"]:
        """Flow and cover as one array."""
        return np.concatenate([self.flow, self.cover[None]])


def move_limbs(portrait: Pose, pose: Pose, height: int, width: int, aspect: float = 1.0) -> Limbs:
    """How the portrait's arms and hands come to where ``pose`` has them, on a grid (height, width).

    Both poses are in fractions of pictures ``aspect`` times as wide as high. Bones that one of them
    lacks are left out; without any, nothing is covered.
    """
    flow, cover = np.zeros((2, height * width), np.float32), np.zeros(height * width, np.float32)
    limbs = Limbs(flow.reshape(2, height, width), cover.reshape(height, width))
    bones = _bones(portrait, pose, aspect)
    if bones is None:
        return limbs
    xs = (np.arange(width, dtype=np.float32) + np.float32(0.5)) * np.float32(aspect / width)
    ys = (np.arange(height, dtype=np.float32) + np.float32(0.5)) / np.float32(height)
    rows, columns = np.nonzero(bones.about(xs, ys))
    x, y = xs[columns], ys[rows]
    nearest, source = bones.carry(x, y)
    near = nearest < _FADE
    x, y, nearest, source = x[near], y[near], nearest[near], source[:, near] / [[aspect], [1.0]]
    inside = ((source >= 0) & (source <= 1)).all(axis=0)
    cells = (rows * width + columns)[near]
    flow[:, cells] = 2 * (source - [x / aspect, y])
    cover[cells] = ((_FADE - nearest) / (_FADE - 1)).clip(0, 1) * inside
    return limbs


def carry_limbs(picture: Picture, portrait: Pose, pose: Pose) -> NDArray[np.uint8]:
    """(H, W, 4): arms and hands of the picture where ``pose`` has them, on grey; and their cover, 0..255."""
    height, width = picture.shape[:2]
    limbs = move_limbs(portrait, pose, -(-height // _COARSE), -(-width // _COARSE), width / height)
    # Source positions in the picture, in pixels; scaled on the coarse grid, which is cheaper.
    moved = limbs.flow.transpose(1, 2, 0) * np.array([width / 2, height / 2], np.float32)
    where, cover = (cv2.resize(x, (width, height)) for x in (moved, limbs.cover))
    where[..., 0] += np.arange(width, dtype=np.float32)
    where[..., 1] += np.arange(height, dtype=np.float32)[:, None]
    carried = cv2.remap(picture, where, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    shown = cv2.blendLinear(carried, np.full_like(carried, _GREY), cover, 1 - cover)
    return np.asarray(cv2.merge([*cv2.split(shown), cv2.convertScaleAbs(cover, alpha=255)]))


def limb_cover(pose: Pose, height: int, width: int) -> Float[NDArray[np.float32], "H W"]:
    """1 on arms and hands of a pose and on a margin about them, 0 elsewhere; the margin is for sleeves."""
    limbs = move_limbs(pose, pose, -(-height // _COARSE), -(-width // _COARSE), width / height)
    cover = cv2.resize(limbs.cover, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray((_STEEP * cover).clip(0, 1), np.float32)


def moved_cover(portrait: Pose, pose: Pose, height: int, width: int) -> Float[NDArray[np.float32], "H W"]:
    """1 on the arms and hands that ``pose`` has elsewhere than the portrait, where they were and where they
    are, and on a margin about them; 0 elsewhere. An arm at rest is 0 too, with a smooth transition.

    1 everywhere when the portrait's shoulders are not found, because its arms are then unknown.
    """
    aspect, cover = width / height, np.zeros((height, width), np.float32)
    across = shoulder_width(portrait.joints[None] * [aspect, 1.0], portrait.confidence[None] >= SEEN)
    if across is None:
        return np.ones_like(cover)
    for _, *arm in ARM_JOINTS:  # a shoulder stays
        old, new = (x.confidence[arm] >= SEEN for x in (portrait, pose))
        away = np.linalg.norm((pose.joints - portrait.joints)[arm] * [aspect, 1.0], axis=1)
        farthest = np.inf if (old != new).any() else float(away[old].max(initial=0.0))
        share = min(1.0, farthest / (_AT_REST * across))
        if share > 0:
            covers = [limb_cover(_with_one_arm(x, arm), height, width) for x in (portrait, pose)]
            cover = np.maximum(cover, np.float32(share) * np.maximum(*covers))
    return cover


def _with_one_arm(pose: Pose, arm: Collection[int]) -> Pose:
    """The pose without elbow, wrist and hand of the other arm."""
    confidence = pose.confidence.copy()
    for _, *joints in ARM_JOINTS:
        if joints[-1] not in arm:
            confidence[joints] = 0.0
    return Pose(pose.joints, confidence)


@dataclass(frozen=True)
class Bones:
    """n bones of the pose and where the portrait has them; lengths in heights of the picture."""

    start: Float[NDArray[np.float32], "n 2"]
    ahead: Float[NDArray[np.float32], "n 2"]
    """unit vector along the bone"""
    length: Float[NDArray[np.float32], " n"]
    thick: Float[NDArray[np.float32], " n"]
    old_start: Float[NDArray[np.float32], "n 2"]
    old_ahead: Float[NDArray[np.float32], "n 2"]
    old_length: Float[NDArray[np.float32], " n"]

    def about(
        self, xs: _Floats32, ys: _Floats32, reach: _Floats32 | None = None
    ) -> Bool[NDArray[np.bool_], "h w"]:
        """Cells of a grid of these columns and rows in a box about a bone, ``reach`` (n,) wide around it; by
        default so wide that outside nothing is covered."""
        end, beside = self.start + self.ahead * self.length[:, None], _FADE * self.thick[:, None]
        beside = beside if reach is None else reach[:, None]
        first, last = np.minimum(self.start, end) - beside, np.maximum(self.start, end) + beside
        left, right = (np.searchsorted(xs, corner[:, 0]) for corner in (first, last))
        top, bottom = (np.searchsorted(ys, corner[:, 1]) for corner in (first, last))
        boxes = np.zeros((len(ys), len(xs)), bool)
        for x0, y0, x1, y1 in zip(left, top, right, bottom, strict=True):
            boxes[y0:y1, x0:x1] = True
        return boxes

    def carry(self, x: _Floats32, y: _Floats32) -> tuple[_Floats32, _Floats32]:
        """Of k points: how far the nearest bone is (k), in units of its thickness; and where in the portrait
        they come from (2, k), bones weighted by distance."""
        right, down = x - self.start[:, :1], y - self.start[:, 1:]
        dx, dy = self.ahead.T[..., None]
        far, off = right * dx + down * dy, down * dx - right * dy  # along the bones, and to their side
        on = far.clip(0, self.length[:, None])
        beyond = far - on
        away = np.sqrt(beyond * beyond + off * off) / self.thick[:, None]
        # Along the bone by shares of its length, beyond its ends and beside it by distance.
        far += on * (self.old_length / self.length - 1)[:, None]
        weights = 1 / np.square(np.square(away + np.float32(_NEAREST)))
        weights /= weights.sum(axis=0)
        dx, dy = self.old_ahead.T[..., None]
        from_x = self.old_start[:, :1] + far * dx - off * dy
        from_y = self.old_start[:, 1:] + far * dy + off * dx
        return away.min(axis=0), np.stack([(weights * from_x).sum(axis=0), (weights * from_y).sum(axis=0)])

    def beside(self, points: Float[NDArray[np.float32], "2 k"]) -> Beside:
        """Where k points are, seen from every bone."""
        right, down = points[0] - self.start[:, :1], points[1] - self.start[:, 1:]
        dx, dy = self.ahead.T[..., None]
        return Beside(right * dx + down * dy, down * dx - right * dy)

    def distance(self, beside: Beside) -> Float[NDArray[np.float32], "n k"]:
        """Of k points from every bone."""
        beyond = beside.far - beside.far.clip(0, self.length[:, None])
        return np.asarray(np.sqrt(beyond * beyond + beside.off * beside.off))

    def along(self, beside: Beside) -> Along:
        """Of k points, for every bone: where the portrait has the point if it moves with this bone, and the
        bone's nearest point now and in the portrait."""
        far, off = beside
        on = far.clip(0, self.length[:, None])
        foot = self.start.T[..., None] + on * self.ahead.T[..., None]
        old_on = on * (self.old_length / self.length)[:, None]
        dx, dy = self.old_ahead.T[..., None]
        old_foot = self.old_start.T[..., None] + old_on * np.stack([dx, dy])
        beyond = far - on
        source = old_foot + beyond * np.stack([dx, dy]) + off * np.stack([-dy, dx])
        return Along(source, foot, old_foot)


class Beside(NamedTuple):
    """How far along each of n bones k points are, and how far to its side."""

    far: Float[NDArray[np.float32], "n k"]
    off: Float[NDArray[np.float32], "n k"]

    def of(self, points: NDArray[np.intp]) -> Beside:
        """Of some of the points."""
        return Beside(self.far.take(points, axis=1), self.off.take(points, axis=1))


@dataclass(frozen=True)
class Along:
    """What ``Bones.along`` finds of k points beside n bones; lengths in heights of the picture."""

    source: Float[NDArray[np.float32], "2 n k"]
    foot: Float[NDArray[np.float32], "2 n k"]
    old_foot: Float[NDArray[np.float32], "2 n k"]


def off_segment(points: Float[NDArray[Any], "2 n"], start: Floats, end: Floats) -> Floats:
    """(n,) distance from the line between two points."""
    along = end - start
    share = ((points - start[:, None]) * along[:, None]).sum(axis=0) / max(float(along @ along), 1e-12)
    off = points - start[:, None] - np.clip(share, 0.0, 1.0) * along[:, None]
    return np.asarray(np.hypot(*off))


Part = Literal["arm", "upper", "fore"]
"""The whole arm with its hand, its upper arm alone, or forearm and hand."""


def arm_bones(
    portrait: Pose, pose: Pose, aspect: float, arm: Collection[int], part: Part = "arm"
) -> Bones | None:
    """The bones of one arm and its hand (``arm``: their joints) that both poses have; None without any."""
    return _bones(_with_one_arm(portrait, arm), _with_one_arm(pose, arm), aspect, part)


def _bones(portrait: Pose, pose: Pose, aspect: float, part: Part = "arm") -> Bones | None:
    """The bones of arms and hands that both poses have; None without any."""
    old, new = (x.joints * [aspect, 1.0] for x in (portrait, pose))
    seen = (portrait.confidence >= SEEN) & (pose.confidence >= SEEN)
    across = shoulder_width(old[None], portrait.confidence[None] >= SEEN)
    if across is None:
        return None
    bones = []
    for hand, shoulder, elbow, wrist in ARMS:
        root = hand.start
        if part in ("arm", "upper"):
            bones.append((shoulder, elbow, _UPPER_ARM))
        if part in ("arm", "fore"):
            bones.append((elbow, root if seen[root] else wrist, _FOREARM))
        if part != "upper":
            bones += [(root + a, root + b, _FINGER) for a, b in HAND_EDGES]
    bones = [(a, b, thick) for a, b, thick in bones if seen[a] and seen[b]]
    if not bones:
        return None
    starts, ends = np.array([(a, b) for a, b, _ in bones]).T
    along, old_along = new[ends] - new[starts], old[ends] - old[starts]
    length, old_length = np.linalg.norm(along, axis=1), np.linalg.norm(old_along, axis=1)
    clear = np.minimum(length, old_length) > _SHORTEST * across
    if not clear.any():
        return None
    made = Bones(
        new[starts], along / np.maximum(length, 1e-9)[:, None], length,
        across * np.array([thick for *_, thick in bones]),
        old[starts], old_along / np.maximum(old_length, 1e-9)[:, None], old_length,
    )  # fmt: skip
    return Bones(*(value[clear].astype(np.float32) for value in vars(made).values()))
