"""Transparent portraits: another background behind them, and the opacity of the frames made from them.

    picture, opacity = read_cutout("ann.png", WHITE)
    put_behind(picture, opacity, WHITE, beach)         # the same portrait before another picture

    key = key_colour(picture, opacity)                 # a colour that the person does not wear
    matte = Matte(put_behind(picture, opacity, WHITE, key), opacity, key)
    matte.cut(frames)                                  # (f, h, w, 4): frames made before that colour

A composite is C = αF + (1−α)B (Porter & Duff 1984, "over"). Where a frame equals the portrait, α is the
portrait's. Where something moved, α follows from how far C is from the constant B (Smith & Blinn 1996, "Blue
screen matting", Sec. 2), and F = (C − (1−α)B) / α takes the background's colour out of the edge.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from semibody.media.image import Colour, Opacity, resize_image

_KEYS: tuple[Colour, ...] = ((0, 177, 64), (0, 71, 187), (190, 40, 190), (128, 128, 128), (255, 255, 255))
"""Colours that may stand behind a person: the greens and blues of studios first."""
_SAME = (4.0, 16.0)
"""Levels by which a changed pixel differs: where it starts to count as one, and where it wholly does."""
_KEYED = 20.0
"""Distance from the key colour at which a changed pixel starts to be opaque; it is wholly so at the distance
that the person's own colours keep."""
_SOFT = 5
"""Pixels over which the two opacities are blended."""


def put_behind(
    picture: NDArray[np.uint8], opacity: Opacity, before: Colour, background: NDArray[np.uint8] | Colour
) -> NDArray[np.uint8]:
    """A picture composed over ``before`` composed over ``background`` instead.

    A picture as background covers the whole, its middle is shown; it is not stretched.
    """
    height, width = opacity.shape
    behind = np.asarray(background, np.float32)
    if behind.ndim == 3:
        behind = _cover(np.asarray(background, np.uint8), height, width).astype(np.float32)
    change = (1 - opacity)[..., None] * (behind - np.asarray(before, np.float32))
    return np.clip(np.rint(picture + change), 0, 255).astype(np.uint8)


def _cover(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """The largest middle part of a picture that has the aspect of ``width`` x ``height``, at that size."""
    high, wide = picture.shape[:2]
    scale = max(height / high, width / wide)
    part_high, part_wide = min(high, round(height / scale)), min(wide, round(width / scale))
    top, left = (high - part_high) // 2, (wide - part_wide) // 2
    return resize_image(picture[top : top + part_high, left : left + part_wide], width, height)


def key_colour(picture: NDArray[np.uint8], opacity: Opacity) -> Colour:
    """The colour of a few that is farthest from those of the picture's opaque part."""
    return max(_KEYS, key=lambda key: _least_distance(picture, opacity, key))


def _least_distance(picture: NDArray[np.uint8], opacity: Opacity, key: Colour) -> float:
    """How far the opaque part's colours are from a colour; a hundredth of them may be nearer."""
    worn = picture[opacity > 0.9].astype(np.float32)
    if not len(worn):
        return 0.0
    return float(np.percentile(np.linalg.norm(worn - np.asarray(key, np.float32), axis=1), 1))


@dataclass(frozen=True)
class Matte:
    """What is needed to take a person out of frames again."""

    portrait: NDArray[np.uint8]
    """(h, w, 3) as the frames were made from, before the key colour"""
    opacity: Opacity
    """(h, w) of the portrait"""
    key: Colour
    """what stands behind the person"""

    def cut(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Frames (f, h, w, 3) with their opacity, (f, h, w, 4); their colours are not multiplied by it."""
        return np.stack([self._cut(frame) for frame in frames])

    @functools.cached_property
    def _reach(self) -> float:
        return max(2 * _KEYED, _least_distance(self.portrait, self.opacity, self.key))

    def _cut(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        seen, key = frame.astype(np.float32), np.asarray(self.key, np.float32)
        changed = _ramp(np.abs(seen - self.portrait).max(axis=2), *_SAME)
        changed = cv2.blur(cv2.dilate(changed, np.ones((3, 3), np.uint8)), (_SOFT, _SOFT))
        keyed = _ramp(np.linalg.norm(seen - key, axis=2), _KEYED, self._reach)
        alpha = self.opacity + changed * (keyed - self.opacity)
        alpha = np.rint(alpha * 255) / 255
        person = key + (seen - key) / np.maximum(alpha, 1 / 255)[..., None]
        person = np.where((alpha > 0)[..., None], person, 0)
        return np.dstack([np.clip(np.rint(person), 0, 255), alpha * 255]).astype(np.uint8)


def _ramp(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    """0 up to ``low``, 1 from ``high``, straight between."""
    return np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
