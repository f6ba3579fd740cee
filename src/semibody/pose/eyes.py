"""The eyes of a portrait: lids that close over them, and irises that look elsewhere.

    eyes = Eyes.of(picture, face)                    # the joints of the face (68, 2), in pixels
    made = eyes.draw(picture, closed=0.6, gaze=0.2)  # half shut, looking a little to the right of the picture

A lid is skin that an open eye hides. Stretching the skin above it would stretch lashes and brows along, so a
lid is drawn: in the colours of the skin between lashes and brow, darker towards its edge, with a line of
lashes as dark as the portrait's own. An iris moves within the opening of the eye, whose edges stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from semibody.pose.head import smooth
from semibody.pose.skeleton import FACE_PARTS
from semibody.types import Floats

Frame = Float[NDArray[np.float32], "H W 3"]

_EYES = (FACE_PARTS["right_eye"], FACE_PARTS["left_eye"])
_BROWS = (FACE_PARTS["right_brow"], FACE_PARTS["left_brow"])

SMALLEST = 9.0
"""Pixels of length below which an eye stays as it is."""
NARROW = 0.12
"""An eye less open than this share of its length counts as closed."""
_LASHES, _RIM = 0.3, 0.22
"""How far the lashes are above the joints of the upper lid, and the eye is seen below those of the lower lid,
in openings of the eye."""
_SKIN = (0.35, 0.62)
"""Where between upper lid and brow there is nothing but skin, from the lid on."""
_COVERS = 0.6
"""So far up, between lid and brow, the closing lid smooths fold and lashes of the open eye."""
_FARTHEST = 0.085
"""How far an iris moves, in lengths of the eye, at a gaze of 1."""
_LEAST = 0.72
"""Brightness of a lid over the cheek's at least."""
_RIM_OF_GLASSES = 0.5
"""Brightness of the darkest place below an eye over the usual one, below which it is behind glasses."""
_LIFTED = 0.3
"""How far above the lower end of what a closed lid covers its lashes are, in openings of the eye."""
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Eyes:
    """Both eyes, or the one that can be drawn."""

    eyes: tuple[Eye, ...]

    @classmethod
    def of(cls, picture: Frame, face: Floats) -> Self:
        """Of a portrait in −1..1, by the joints of its face (68, 2) in pixels. Eyes that are closed, small or
        behind something are left out, and then both are: a single one does not blink."""
        eyes = [Eye.of(picture, face[eye], face[brow]) for eye, brow in zip(_EYES, _BROWS, strict=True)]
        known = tuple(eye for eye in eyes if eye is not None)
        return cls(known if len(known) == len(eyes) else ())

    def draw(self, picture: Frame, closed: float, gaze: float) -> Frame:
        """The picture with its lids ``closed`` 0..1, looking −1..1 to the right; the given one stays."""
        if not self.eyes or max(closed, abs(gaze)) < 1e-3:
            return picture
        made = picture.copy()
        for eye in self.eyes:
            eye.draw(made, closed, gaze)
        return made


@dataclass(frozen=True)
class Eye:
    """One eye, inside a box of the picture. Distances are in pixels, across the line of its corners."""

    rows: slice
    columns: slice
    along: Floats
    """(h, w) 0 at its right corner, 1 at its left one"""
    across: Floats
    """(h, w) below the line of the corners"""
    upper: Floats
    lower: Floats
    """(h, w) where the lids are, at the same ``along``"""
    gap: float
    length: float
    brow: float
    """distance from the upper lid to the brow"""
    skin: Float[NDArray[np.float32], "h w 6"]
    """above the eye, and on its lid"""
    lashes: Float[NDArray[np.float32], " 3"]

    @classmethod
    def of(cls, picture: Frame, eye: Floats, brow: Floats) -> Self | None:
        """``eye`` (6, 2): corner, two on the upper lid, corner, two on the lower lid (iBUG-68's order); None:
        it cannot be drawn."""
        start, end = eye[0], eye[3]
        length = float(np.hypot(*(end - start)))
        if length < SMALLEST:
            return None
        ahead = (end - start) / length
        down = np.array([-ahead[1], ahead[0]])
        heights, places = (eye - start) @ down, (eye - start) @ ahead / length
        gap = float(heights[[4, 5]].mean() - heights[[1, 2]].mean())
        above = float(heights[[1, 2]].mean() - ((brow - start) @ down).mean())
        if gap < NARROW * length or above < 0.5 * gap:
            return None
        room = 0.15 * length
        low, high = eye.min(axis=0) - np.array([room, above]), eye.max(axis=0) + np.array([room, gap])
        first = np.floor(low).astype(int).clip(0)
        last = np.minimum(np.ceil(high).astype(int), picture.shape[1::-1])
        if (last - first < 4).any():
            return None
        x, y = np.meshgrid(np.arange(first[0], last[0]), np.arange(first[1], last[1]))
        off = np.stack([x, y], axis=-1) + 0.5 - start
        along, across = off @ ahead / length, off @ down
        upper, lower = (_curve(places[of], heights[of]) for of in ([0, 1, 2, 3], [0, 5, 4, 3]))
        frame = (start, ahead * length, down)
        if _behind_something(picture, frame, lower, gap):
            return None
        skin, lashes = _colours(picture, frame, upper, lower, above, gap)
        inside = along.clip(0, 1)
        places = np.linspace(0, 1, len(skin))
        filled = np.stack([np.interp(inside, places, skin[:, n]) for n in range(6)], axis=-1)
        return cls(
            slice(first[1], last[1]), slice(first[0], last[0]), along, across, np.polyval(upper, inside),
            np.polyval(lower, inside), gap, length, above, filled.astype(np.float32), lashes,
        )  # fmt: skip

    def draw(self, picture: Frame, closed: float, gaze: float) -> None:
        """Into a picture."""
        seen = picture[self.rows, self.columns]
        if abs(gaze) > 1e-3:
            seen = self._looking(seen, gaze)
        if closed > 1e-3:
            seen = self._shut(seen, closed)
        picture[self.rows, self.columns] = seen

    @property
    def _arch(self) -> Floats:
        return np.clip(1 - np.square(2 * self.along - 1), 0.0, None)

    def _looking(self, seen: Frame, gaze: float) -> Frame:
        """The iris aside: the white of the eye is stretched on one side and narrowed on the other."""
        open_by = np.maximum(self.lower - self.upper, 1e-3)
        within = np.minimum(self.across - self.upper, self.lower - self.across) / open_by
        share = smooth(within / 0.3 + 0.35) * smooth(self.along / 0.3) * smooth((1 - self.along) / 0.3)
        aside = (-_FARTHEST * gaze * self.length * share).astype(np.float32)
        height, width = aside.shape
        columns = np.arange(width, dtype=np.float32)[None] + aside
        rows = np.broadcast_to(np.arange(height, dtype=np.float32)[:, None], (height, width)).copy()
        return np.asarray(cv2.remap(seen, columns, rows, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE))

    def _shut(self, seen: Frame, closed: float) -> Frame:
        """The lid over the eye, and its lashes."""
        arch = self._arch
        top = self.upper - _LASHES * self.gap * arch
        bottom = self.lower + _RIM * self.gap * arch
        edge = top + closed * (bottom - top)
        lashes = edge - closed * _LIFTED * self.gap * arch
        covers = self.upper - _COVERS * self.brow
        begins = smooth((self.across - covers) / np.maximum(0.5 * (top - covers), 1.0))
        # Fold and lashes of the open eye go as the lid comes down.
        above = begins * np.where(self.across < top, smooth(np.full_like(top, closed / 0.4)), 1.0)
        ends = smooth(self.along / 0.1 + 0.3) * smooth((1 - self.along) / 0.1 + 0.3) * (arch > 0)
        lid = above * ends * np.clip(edge - self.across + 0.5, 0.0, 1.0)
        deep = np.clip((self.across - covers) / np.maximum(edge - covers, 1.0), 0.0, 1.0)
        lit = 1 - 0.1 * deep**3 - 0.05 * (1 - arch)
        down = smooth(deep * 1.4 - 0.2)[..., None]
        skin = self.skin[..., :3] + down * (self.skin[..., 3:] - self.skin[..., :3])
        skin = (skin + 1) * lit[..., None] - 1
        made = seen + lid[..., None] * (skin - seen)
        thick = np.maximum(0.11 * self.gap, 0.75)
        line = np.exp(-np.square((self.across - lashes) / thick)) * np.sqrt(arch)
        line *= 0.85 * float(smooth(np.array(closed / 0.15))) * (arch > 0)
        return np.asarray(made + line[..., None] * (self.lashes - made), np.float32)


def _curve(along: Floats, heights: Floats) -> Floats:
    """Coefficients of the cubic through four points of a lid."""
    return np.asarray(np.polyfit(along, heights, 3))


def _colours(
    picture: Frame,
    frame: tuple[Floats, Floats, Floats],
    upper: Floats,
    lower: Floats,
    brow: float,
    gap: float,
) -> tuple[Float[NDArray[np.float32], "k 6"], Float[NDArray[np.float32], " 3"]]:
    """Skin above the eye and on its lid, from corner to corner, and the colour of the lashes."""
    along = np.linspace(0.0, 1.0, 17)
    cheek = np.median(_sample(picture, frame, along, lower, np.linspace(0.9, 1.8, 5) * gap), axis=0)
    above = _sample(picture, frame, along, upper, -np.linspace(*_SKIN, 7) * brow)
    # Of each place the brighter ones: hairs of the brow are dark.
    order = np.argsort(above @ _LUMA, axis=0)[2 * len(above) // 3 :]
    skin = np.take_along_axis(above, order[..., None], axis=0).mean(axis=0)
    # The hollow of a deep eye is darker than a lid that comes forward.
    light = (np.stack([skin, cheek]) + 1) @ _LUMA
    short = (_LEAST * light[1] - light[0]) / np.maximum(light[1] - light[0], 1e-3)
    lid = skin + (cheek - skin) * np.where(light[0] < _LEAST * light[1], short.clip(0, 1), 0.0)[:, None]
    both = np.concatenate([skin, lid], axis=1).astype(np.float32)
    smoothing, padded = np.hanning(11)[1:-1] / 5, np.pad(both, ((4, 4), (0, 0)), "edge")
    skin = np.stack([np.convolve(one, smoothing, "valid") for one in padded.T], axis=1).astype(np.float32)
    near = _sample(picture, frame, np.linspace(0.25, 0.75, 9), upper, np.linspace(-_LASHES, 0.15, 6) * gap)
    dark = near.reshape(-1, 3)[np.argsort(near.reshape(-1, 3) @ _LUMA)[: near.size // 15]]
    return skin, dark.mean(axis=0)


def _behind_something(
    picture: Frame, frame: tuple[Floats, Floats, Floats], lower: Floats, gap: float
) -> bool:
    """Whether below the eye a dark line crosses the cheek, as the rim of glasses does."""
    below = _sample(picture, frame, np.linspace(0.2, 0.8, 9), lower, np.linspace(0.8, 3.0, 23) * gap)
    light = (below + 1) @ _LUMA
    darkest = light.min(axis=0) / np.maximum(np.median(light, axis=0), 1e-3)
    return bool(np.median(darkest) < _RIM_OF_GLASSES)


def _sample(
    picture: Frame, frame: tuple[Floats, Floats, Floats], along: Floats, curve: Floats, below: Floats
) -> Float[NDArray[np.float32], "b a 3"]:
    """Colours ``below`` pixels under a lid, at places ``along`` it; ``frame``: its first corner, the way to
    the other, and down."""
    start, way, down = frame
    across = np.polyval(curve, along) + below[:, None]
    places = (start + along[None, :, None] * way + across[..., None] * down - 0.5).astype(np.float32)
    x, y = places[..., 0].copy(), places[..., 1].copy()
    return np.asarray(cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
