"""The inside of an open mouth, drawn at the picture's own size: teeth, tongue, and the dark behind them.

    inside = Inside.of(picture, face)             # its light, from the skin about the portrait's mouth
    colours, share = inside.draw(mouth)           # of the pixels of a ``pose.head.Mouth``

Upper teeth belong to the skull: lips and jaw move before them. Lower teeth and tongue go down with the jaw.
The less a mouth is open the darker it is, as light comes in between the lips alone. Sizes are those of adults
(a mouth 50 mm wide, incisors of 8.5 and 6.5 mm), in halves of the portrait's mouth. Where the portrait shows
its own teeth they are kept below the upper lip (``pose.head``) and no others are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from semibody.pose.head import Mouth, smooth
from semibody.types import Floats

Frame = Float[NDArray[np.float32], "h w 3"]

_UPPER = np.array([0.34, 0.60, 0.83, 1.02])
"""Where upper teeth end, from the middle to the side."""
_LOWER = np.array([0.21, 0.43, 0.68, 0.90])
_EDGE, _SHORTER, _ROUNDED = 0.08, 0.02, 0.03
"""How far incisors reach below closed lips, how much shorter every second tooth is, and its corners."""
_JAW_FOLLOWS = 0.93
"""How far lower teeth come down beside the lower lip."""
_IVORY = np.array([0.74, 0.69, 0.62])
_FLESH, _DARK = np.array([0.58, 0.27, 0.26]), np.array([0.17, 0.06, 0.06])
"""Colours of teeth, tongue and throat where skin is as bright as 1."""
_SHOWN = 0.013
"""Gap of the portrait's lips, in heights of the face, that shows its own teeth."""
_USUAL_SKIN, _TINTED = np.array([1.24, 0.94, 0.82]), 0.6
"""Colour of skin in white light, and how much of a light's colour teeth and tongue take on."""


@dataclass(frozen=True)
class Inside:
    """What is behind the lips of one portrait."""

    light: Floats
    """(3,) how bright it is there, 0..1"""
    teeth: bool
    """whether upper teeth are drawn"""

    @classmethod
    def of(cls, picture: Frame, face: Floats) -> Inside:
        """``picture`` in −1..1, ``face`` (68, 2) in its pixels."""
        height, width = picture.shape[:2]
        low, high = face[[31, 48]].min(axis=0), face[[35, 54, 57]].max(axis=0)
        rows, columns = (
            slice(int(np.clip(a, 0, n - 1)), int(np.clip(b + 1, 1, n)))
            for a, b, n in ((low[1], high[1], height), (low[0], high[0], width))
        )
        skin = (picture[rows, columns].reshape(-1, 3).astype(np.float64) + 1) / 2
        gap = float(np.hypot(*(face[66] - face[62])))
        typical = np.median(skin, axis=0) + 0.02
        tint = np.clip(typical / typical.mean() / _USUAL_SKIN, 0.8, 1.25) ** _TINTED
        # Dark skin is dark in bright light too.
        light = (0.35 + 0.65 * float(np.quantile(skin.mean(axis=1), 0.8))) * tint
        return cls(light, gap < _SHOWN * float(np.ptp(face[:, 1])))

    def draw(self, mouth: Mouth) -> Frame:
        """(h, w, 3) in −1..1 of all pixels, seen or not."""
        half, pixel = mouth.half, 1 / mouth.half
        middle = (mouth.upper + mouth.lower) / (2 * half)
        side, down = np.abs(mouth.still), mouth.across / half
        top, bottom = mouth.top / half, mouth.bottom / half
        opened = float(max(mouth.raised + mouth.lowered, 0.0)) / half
        jaw = _JAW_FOLLOWS * max(mouth.lowered, 0.0) / half
        deep = smooth((down - top) / (0.35 + 0.3 * opened)) * smooth((bottom - down) / (0.3 + 0.4 * opened))
        colour = _DARK * (1.25 - 0.8 * deep[..., None])
        # The tongue lies behind the lower teeth, its back in the dark.
        crest = middle + jaw - (0.10 + 0.34 * jaw) * np.clip(1 - np.square(side / 0.75), 0.0, None)
        tongue = _share(down - crest, max(0.08, pixel)) * smooth((0.85 - side) / 0.25)
        lit = 0.35 + 0.65 * smooth((down - crest) / (0.12 + 0.3 * jaw))
        groove = 1 - 0.1 * np.exp(-np.square(mouth.still / 0.07))
        colour = _over(colour, _FLESH * (lit * groove)[..., None], tongue)
        lower = _edge(side, _LOWER, 0.3)
        row = mouth.lower / half + jaw + 0.01 + 0.08 * np.square(side) - lower
        shade = 0.6 * (1 - 0.7 * np.square(side)) * _parting(side, _LOWER, pixel)
        there = _share(down - row, max(1.5 * pixel, 0.03)) * smooth((_LOWER[-1] - side) / 0.3)
        colour = _over(colour, (0.6 * _IVORY + 0.4 * _FLESH) * shade[..., None], there)
        if self.teeth:
            row = middle + _EDGE - 0.07 * np.square(side) + _edge(side, _UPPER, 1.0)
            # The upper lip throws a shadow on them, and cheeks take the light from those at the side.
            shadow = 0.5 + 0.5 * smooth((down - top) / 0.2)
            shade = shadow * (1 - 0.75 * np.square(np.minimum(side, 1.0))) * _parting(side, _UPPER, pixel)
            there = _share(row - down, max(1.5 * pixel, 0.03)) * smooth((_UPPER[-1] - side) / 0.35)
            colour = _over(colour, _IVORY * shade[..., None], there)
        bright = self.light * (0.5 + 0.5 * float(smooth(np.array(opened / 0.35))))
        return np.asarray(2 * bright * colour - 1, np.float32)


def _share(inside: Floats, soft: float) -> Floats:
    """How much of a pixel lies ``inside`` an edge that is ``soft`` wide."""
    return np.clip(inside / soft + 0.5, 0.0, 1.0)


def _over(below: Floats, above: Floats, share: Floats) -> Floats:
    return below + (above - below) * share[..., None]


def _place(side: Floats, ends: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Which tooth each place is on, and where across it, −1..1."""
    number = np.searchsorted(ends, side).clip(0, len(ends) - 1)
    begins = np.concatenate([[0.0], ends[:-1]])
    return number, 2 * (side - begins[number]) / (ends - begins)[number] - 1


def _edge(side: Floats, ends: Floats, uneven: float) -> Floats:
    """How far teeth reach, beside the longest: corners are round, every second tooth is shorter."""
    number, across = _place(side, ends)
    return -_SHORTER * uneven * (number % 2) - _ROUNDED * np.minimum(np.abs(across), 1.0) ** 6


def _parting(side: Floats, ends: Floats, pixel: float) -> Floats:
    """Darker between teeth, by a line that is never thinner than a pixel shows."""
    nearest = np.abs(side[..., None] - np.concatenate([[0.0], ends])).min(axis=-1)
    wide = max(0.012, 0.8 * pixel)
    return 1 - 0.4 * (0.012 / wide) * np.exp(-np.square(nearest / wide))
