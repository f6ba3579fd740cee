"""Forearms and hands of a portrait as layers of their own, and what is behind them.

    layers = cut_layers(picture, portrait_pose, person)     # which of them the picture allows
    layers.cut                                              # (left, right)
    layers.uncover(base, moved)                             # the picture without the arms that moved
    layers.draw(base, pose, moved)                          # and these arms before it

A picture that is deformed as one sheet takes the torso along when a hand moves, and tears when it moves far.
A layer moves alone: its bones carry it (``pose.limbs``), and before it comes out of its place that place is
filled. The cut is GrabCut's (Rother, Kolmogorov and Blake, 2004), which starts from the bones; its edge
follows the picture's (guided filter, He, Sun and Tang, 2010). Behind an arm the torso's outline is continued
by the anisotropic Laplace equation, and colours of torso and room are inpainted each from its own side
(Telea, 2004). Where the cut is doubtful there is no layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy.typing import NDArray

from semibody.media import Opacity
from semibody.pose.anchor import Movable, hides_forearm
from semibody.pose.body import shoulder_distance
from semibody.pose.deform import displace
from semibody.pose.head import smooth
from semibody.pose.limbs import Bones, Part, arm_bones
from semibody.pose.matte import fill_behind
from semibody.pose.skeleton import ARM_JOINTS, ARMS, HAND_EDGES
from semibody.types import Floats, Picture, Pose

_SIDE = 512
"""Pixels of a picture's longer side at which arms are cut; larger pictures are cut smaller."""
_ELBOW, _WRIST = 0.10, 0.06
"""Half the width of a forearm at its ends, in shoulder widths."""
_CORE, _FARTHEST = 0.5, 2.0
"""Of that half width: up to where everything is forearm for certain, and from where nothing is."""
_FINGER, _BESIDE_FINGER, _BEYOND_HAND = 0.016, 0.03, 0.11
"""Shoulder widths from a hand's bones up to where a pixel is hand for certain, probably, possibly."""
_NEAR_FINGER = 0.07
"""Shoulder widths from a hand's bones within which nothing is upper arm."""
_UPPER_ARM = 0.14
"""Half the width of an upper arm at most, in shoulder widths."""
_ROUNDS, _SEED = 3, 7
"""Of GrabCut, and the seed of its colour clusters."""
_PALM = (0, 1, 2, 5, 9, 13, 17)
_PERSON, _TRACE = 0.5, 0.05
"""The person's share of a pixel from which it is hers, and from which something of her is in it."""
_THIN = 0.03
"""Half the width of a forearm at least, in shoulder widths."""
_BRIDGE = 0.035
"""Shoulder widths; what hangs by less than that on the body, beside a cut arm, belongs to the arm."""
_SKIN = 0.7
"""Share of a forearm that GrabCut finds where it is bare; of a sleeve, which looks like the torso, less."""
_MARGIN = 0.012
"""Heights of the picture by which the place of an arm is filled beyond its edge."""
_UNKNOWN = 0.07
"""Shoulder widths about an arm in which the person's matte does not tell where the torso ends."""
_COARSE, _SWEEPS, _DOWN, _STEEP = 128, 600, 3.0, 8.0
"""Rows of the grid on which the torso's outline is continued, steps of relaxation, how much more neighbours
above and below count than those beside, and how sharp the outline becomes."""
_LEAK = 0.1
"""Share of the zone farthest from the bones that a cut may hold; beyond, it took its surroundings for arm."""
_COMES_OFF = 1.5
"""Pixels of movement over which a layer comes out of the picture."""
_REACH = 0.25
"""Shoulder widths about an arm's joints within which it is cut and drawn."""
_BESIDE, _SOFT = 0.06, 0.04
"""Shoulder widths beyond a bone's thickness at which nothing moves with it, and over which that fades."""
_SMOOTH = 1e-4 * 255**2
"""Variance of grey levels from which the guided filter keeps an edge."""
_GRID = 128
"""Cells in a picture's height on which a layer's movement is computed."""

Frame = Float[NDArray[np.float32], "h w 3"]
Box = tuple[slice, slice]
Mask = Bool[NDArray[np.bool_], "h w"]
Shares = Float[NDArray[np.float32], "h w"]


@dataclass(frozen=True)
class Layer:
    """One forearm with its hand. Arrays are of a ``box`` of the picture."""

    joints: NDArray[np.int_]
    """of the arm, shoulder first"""
    part: Part
    """what carries it: forearm and hand; or the hand alone, where it hides its forearm"""
    colours: Frame
    """its own, −1..1, also of pixels that show it in part"""
    opacity: Shares
    box: Box
    place: Shares
    """what is to be filled when the arm has moved"""
    reach: float
    """pixels about its joints within which it lies"""


@dataclass(frozen=True)
class Layers:
    """The layers of one portrait, left arm first; None for an arm that stays in the picture."""

    own: Pose
    arms: tuple[Layer | None, Layer | None]
    plain: Frame
    """the portrait without the cut arms, −1..1"""
    person: Shares
    """the matte without them"""
    room: Picture
    """the portrait without the person"""

    @property
    def cut(self) -> tuple[bool, bool]:
        return self.arms[0] is not None, self.arms[1] is not None

    def away(self, pose: Pose, height: int, aspect: float) -> tuple[float, float]:
        """How far each layer has come out of a picture of ``height`` pixels: 0 at its place, 1 from 1.5
        pixels on."""
        shares = []
        for arm in self.arms:
            off = 0.0
            if arm is not None:
                moved = (pose.joints - self.own.joints)[arm.joints[1:]] * (aspect, 1.0)
                off = float(np.hypot(*moved.T).max()) * height
            shares.append(min(1.0, off / _COMES_OFF))
        return shares[0], shares[1]

    def uncover(self, picture: Frame, away: tuple[float, float]) -> Frame:
        """A picture, −1..1, of the portrait without the arms that are ``away``; others stay."""
        return self._filled(picture, self.plain, away)

    def person_without(self, matte: Opacity, away: tuple[float, float]) -> Opacity:
        """The person's matte without these arms."""
        return self._filled(matte, self.person, away)

    def _filled(self, values: Shares | Frame, plain: Shares | Frame, away: tuple[float, float]) -> Frame:
        made = values
        for arm, share in zip(self.arms, away, strict=True):
            if arm is None or not share:
                continue
            made = values.copy() if made is values else made
            place = share * arm.place
            here = made[arm.box]
            here += (place if values.ndim == 2 else place[..., None]) * (plain[arm.box] - here)
        return made

    def draw(self, picture: Frame, pose: Pose, away: tuple[float, float]) -> None:
        """Put the arms that are ``away`` into ``picture``, −1..1, where ``pose`` has them."""
        height, width = picture.shape[:2]
        for arm, share in zip(self.arms, away, strict=True):
            bones = arm and share and arm_bones(self.own, pose, width / height, arm.joints, arm.part)
            if not arm or not bones:
                continue
            box = _box(pose.joints[arm.joints[1:]] * (width, height), arm.reach, picture.shape)
            across, down, near = _sources(bones, box, height, arm.reach / height)
            top, left = (part.start for part in arm.box)
            across, down = across - left, down - top
            opacity = cv2.remap(arm.opacity, across, down, cv2.INTER_LINEAR, borderValue=0.0)
            colours = cv2.remap(arm.colours, across, down, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
            here = picture[box]
            if arm.part == "fore":
                opacity *= near
            here += (share * opacity)[..., None] * (colours - here)


def _sources(bones: Bones, box: Box, height: int, reach: float) -> tuple[Shares, Shares, Shares]:
    """Columns and rows in the portrait, in pixels, of a box's pixels that move with ``bones``; and where they
    are near enough to these to move with them: farther away a turned forearm would show its hand again."""
    spans = [(part.start, part.stop) for part in box]
    rows, columns = (max(2, round((stop - start) * _GRID / height)) for start, stop in spans)
    places = [
        start + (np.arange(count) + 0.5) * ((stop - start) / count)
        for (start, stop), count in zip(spans, (rows, columns), strict=True)
    ]
    points = (
        np.stack([part.ravel() for part in np.meshgrid(places[1], places[0])]).astype(np.float32) / height
    )
    across = reach / _REACH
    flow = displace(bones, points, across).reshape(2, rows, columns).astype(np.float32)
    beyond = (bones.distance(bones.beside(points)) - bones.thick[:, None]).min(axis=0).reshape(rows, columns)
    near = smooth((_BESIDE * across - beyond) / (_SOFT * across)).astype(np.float32)
    size = (spans[1][1] - spans[1][0], spans[0][1] - spans[0][0])
    right, down = (cv2.resize(part, size) * np.float32(height) for part in flow)
    return (
        right + np.arange(*spans[1], dtype=np.float32),
        down + np.arange(*spans[0], dtype=np.float32)[:, None],
        cv2.resize(near, size),
    )


def _box(points: Floats, reach: float, shape: tuple[int, ...]) -> Box:
    """Rows and columns within ``reach`` pixels of points (n, 2), inside a picture; one of each at least."""
    first, last = np.floor(points.min(axis=0) - reach), np.ceil(points.max(axis=0) + reach)
    size = (shape[1], shape[0])
    starts = [int(np.clip(value, 0, end - 1)) for value, end in zip(first, size, strict=True)]
    stops = [
        int(np.clip(value, start + 1, end)) for value, start, end in zip(last, starts, size, strict=True)
    ]
    return slice(starts[1], stops[1]), slice(starts[0], stops[0])


# -- cutting -------------------------------------------------------------------------------


def cut_layers(picture: Picture, own: Pose, person: Opacity, moves: Movable) -> Layers | None:
    """The layers of a portrait (H, W, 3) with its ``own`` pose, in fractions of it, and the person's matte
    (H, W), of the arms that may move; None where no arm can be cut."""
    if moves.clasped or not any(moves.hands):
        return None
    scene = _Scene(np.ascontiguousarray(picture), own, person)
    cuts = [scene.cut(side) if moves.hands[side] else None for side in (0, 1)]
    if not any(cut is not None for cut in cuts):
        return None
    plain, without, room = scene.fill([cut for cut in cuts if cut is not None])
    return Layers(own, (cuts[0], cuts[1]), plain, without, room)


class _Scene:
    """A portrait on its way into layers."""

    def __init__(self, picture: Picture, own: Pose, person: Opacity) -> None:
        self.picture, self.person = picture, person
        self.height, self.width = picture.shape[:2]
        self.points = own.joints * (self.width, self.height)
        self.across = max(float(shoulder_distance(self.points)), 1.0)

    def cut(self, side: int) -> Layer | None:
        """One arm's layer; None where the cut is doubtful."""
        hand, _, elbow, _ = ARMS[side]
        joints = ARM_JOINTS[side]
        part: Part = "hand" if hides_forearm(self.points / self.across, side) else "fore"
        reach = _REACH * self.across
        box = _box(self.points[[elbow, *range(hand.start, hand.stop)]], reach, self.picture.shape)
        # Everything from here on is in the box.
        points = self.points - (box[1].start, box[0].start)
        picture, person = np.ascontiguousarray(self.picture[box]), self.person[box]
        zones = _zones(points, side, self.across, person.shape)
        arm = _grab(picture, person, zones, min(1.0, _SIDE / max(self.height, self.width)))
        if arm is None:
            return None
        sleeve = zones.sleeve & (person > _PERSON)
        if part == "fore" and arm[sleeve].mean() < _SKIN:
            arm |= sleeve
        loose = _loose(person, arm, self.across)
        arm |= loose & zones.possible
        # A forearm has no thin parts, fingers are.
        arm &= zones.hand | (
            cv2.morphologyEx(arm.astype(np.uint8), cv2.MORPH_OPEN, _disc(_THIN * self.across)) > 0
        )
        opacity = cv2.ximgproc.guidedFilter(
            picture, arm.astype(np.float32), max(2, round(self.height / 200)), _SMOOTH
        )
        opacity = ((opacity - 0.1) / 0.8).clip(0.0, 1.0).astype(np.float32)
        # A finger's edge outside its probable zone is the surroundings' edge.
        shown = ((opacity > _TRACE) | loose).astype(np.uint8)
        place = cv2.dilate(shown, _disc(_MARGIN * self.height)) > 0
        place &= ~zones.upper_arm | (shown > 0)
        soft = cv2.GaussianBlur(place.astype(np.float32), (3, 3), 0)
        return Layer(joints, part, _own_colours(picture, opacity, self.height), opacity, box, soft, reach)

    def fill(self, layers: list[Layer]) -> tuple[Frame, Shares, Picture]:
        """The picture, −1..1, and the person's matte without these arms; the picture without her."""
        places = np.zeros(self.person.shape, np.float32)
        for layer in layers:
            places[layer.box] = np.maximum(places[layer.box], layer.place)
        gone = (places > 0).astype(np.uint8)
        room = fill_behind(self.picture, np.maximum(self.person, places))
        torso = self._outline(gone)
        near = cv2.dilate(gone, _disc(_UNKNOWN * self.across)) > 0
        hidden = (gone > 0) | ((self.person < 1 - _TRACE) & near)
        cloth = cv2.inpaint(self.picture, hidden.astype(np.uint8), 3, cv2.INPAINT_TELEA)
        behind = torso[..., None] * cloth + (1 - torso)[..., None] * room.astype(np.float32)
        filled = np.where(gone[..., None] > 0, behind, self.picture)
        person = np.where(gone > 0, torso, self.person)
        return (filled / 127.5 - 1).astype(np.float32), person.astype(np.float32), room

    def _outline(self, gone: UInt8[NDArray[np.uint8], "h w"]) -> Shares:
        """The person's share where her arms are gone: torso or room."""
        unknown = cv2.dilate(gone, _disc(_UNKNOWN * self.across))
        size = (max(2, round(_COARSE * self.width / self.height)), _COARSE)
        holes = cv2.resize(unknown, size, interpolation=cv2.INTER_AREA) > 0
        known = cv2.resize(self.person, size, interpolation=cv2.INTER_AREA)
        kernel = np.array([[0, _DOWN, 0], [1, 0, 1], [0, _DOWN, 0]], np.float32)
        kernel /= kernel.sum()
        share = np.where(holes, np.float32(0.5), known)
        for _ in range(_SWEEPS):
            share = np.where(holes, cv2.filter2D(share, -1, kernel, borderType=cv2.BORDER_REPLICATE), known)
        share = cv2.resize(share, (self.width, self.height), interpolation=cv2.INTER_CUBIC)
        return ((share - 0.5) * _STEEP + 0.5).clip(0.0, 1.0)


@dataclass(frozen=True)
class _Zones:
    """Where, in a box, an arm is for certain, probably and possibly, by its bones."""

    core: Mask
    hand: Mask
    probable: Mask
    possible: Mask
    rim: Mask
    """the outermost of what is possible"""
    sleeve: Mask
    """the forearm as wide as forearms are"""
    upper_arm: Mask


def _zones(points: Floats, side: int, across: float, shape: tuple[int, ...]) -> _Zones:
    """``points`` (j, 2) in pixels of the box."""
    hand, shoulder, elbow, _ = ARMS[side]
    joints = points[hand]
    bones = np.ones(shape, np.uint8)
    for start, end in HAND_EDGES:
        cv2.line(bones, _pixel(joints[start]), _pixel(joints[end]), 0, 1)
    cv2.fillConvexPoly(bones, cv2.convexHull(np.float32(joints[list(_PALM)]).round().astype(np.int32)), 0)
    off = cv2.distanceTransform(bones, cv2.DIST_L2, 5) / across

    def forearm(times: float) -> Mask:
        return _limb(points[elbow], joints[0], times * _ELBOW * across, times * _WRIST * across, shape)

    sleeve = forearm(1.0)
    # It ends at the elbow, and the forearm's round end is around it.
    thick = _UPPER_ARM * across
    upwards = points[shoulder] - points[elbow]
    end = points[elbow] + upwards * min(1.0, thick / max(float(np.hypot(*upwards)), 1e-6))
    arm = _limb(points[shoulder], end, thick, thick, shape)
    possible = forearm(_FARTHEST) | (off < _BEYOND_HAND)
    return _Zones(
        core=forearm(_CORE) | (off < _FINGER),
        hand=off < _BEYOND_HAND,
        probable=sleeve | (off < _BESIDE_FINGER),
        possible=possible,
        rim=possible & ~forearm(0.85 * _FARTHEST) & ~(off < 0.85 * _BEYOND_HAND),
        sleeve=sleeve,
        upper_arm=arm & ~forearm(0.8) & ~(off < _NEAR_FINGER),
    )


def _limb(start: Floats, end: Floats, wide: float, narrow: float, shape: tuple[int, ...]) -> Mask:
    """A limb from ``start``, where half its width is ``wide``, to ``end``, where it is ``narrow``."""
    canvas = np.zeros(shape, np.uint8)
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    hull = cv2.convexHull(np.float32(np.concatenate([start + wide * circle, end + narrow * circle])))
    cv2.fillConvexPoly(canvas, hull.round().astype(np.int32), 1)
    return canvas > 0


def _pixel(point: Floats) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))


def _grab(picture: Picture, person: Opacity, zones: _Zones, shrink: float) -> Mask | None:
    """The arm in a box, by GrabCut on a picture ``shrink`` times as large; None where it took its
    surroundings for arm."""
    marks = np.full(person.shape, cv2.GC_BGD, np.uint8)
    marks[zones.possible & (zones.probable | (person > _TRACE))] = cv2.GC_PR_BGD
    marks[zones.probable] = cv2.GC_PR_FGD
    marks[zones.core] = cv2.GC_FGD
    # The upper arm looks like the forearm and says nothing of the surroundings.
    painted = picture.copy()
    painted[zones.upper_arm] = np.median(picture[zones.core], axis=0)
    marks[zones.upper_arm] = cv2.GC_FGD
    if not (marks == cv2.GC_BGD).any():
        return None
    size = (max(1, round(shrink * marks.shape[1])), max(1, round(shrink * marks.shape[0])))
    painted = cv2.resize(painted, size, interpolation=cv2.INTER_AREA)
    small = cv2.resize(marks, size, interpolation=cv2.INTER_NEAREST)
    # GrabCut draws from OpenCV's generator; the same portrait is always cut alike.
    cv2.setRNGSeed(_SEED)
    cv2.grabCut(painted, small, None, np.zeros((1, 65)), np.zeros((1, 65)), _ROUNDS, cv2.GC_INIT_WITH_MASK)
    marks = cv2.resize(small, marks.shape[::-1], interpolation=cv2.INTER_NEAREST)
    found = ((marks == cv2.GC_FGD) | (marks == cv2.GC_PR_FGD)) & ~zones.upper_arm
    if found[zones.rim].mean() > _LEAK:
        return None
    _, parts = cv2.connectedComponents(found.astype(np.uint8))
    return np.isin(parts, np.unique(parts[zones.core & found])) & found


def _loose(person: Opacity, arm: Mask, across: float) -> Mask:
    """What hangs on the body by the arm alone: a cuff, the rim of a sleeve."""
    rest = (person > _PERSON) & ~arm
    body = cv2.morphologyEx(rest.astype(np.uint8), cv2.MORPH_OPEN, _disc(_BRIDGE * across))
    loose = rest & (cv2.dilate(body, _disc(2)) == 0)
    _, parts = cv2.connectedComponents(loose.astype(np.uint8))
    beside = cv2.dilate(arm.astype(np.uint8), _disc(2)) > 0
    return np.isin(parts, np.unique(parts[beside & loose])) & loose


def _disc(radius: float) -> UInt8[NDArray[np.uint8], "k k"]:
    size = 2 * max(1, round(radius)) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)), np.uint8)


def _own_colours(picture: Picture, opacity: Shares, height: int) -> Frame:
    """The arm's colours, −1..1: at its edge, where pixels show its surroundings too, those from inside."""
    inside = cv2.erode((opacity > 1 - _TRACE).astype(np.float32), np.ones((3, 3)))
    colours = picture.astype(np.float32)
    size = 2 * round(height / 100) + 1
    near = cv2.GaussianBlur(inside, (size, size), 0)[..., None]
    mean = cv2.GaussianBlur(colours * inside[..., None], (size, size), 0) / np.maximum(near, 1e-4)
    return np.where((inside[..., None] > 0) | (near < 1e-3), colours, mean) / np.float32(127.5) - 1
