"""What a camera does to a clean picture: exposure, white balance, softness, grain, compression.

One camera is drawn for a clip, so that the portrait and every other frame of it agree; only the grain is new
in each frame. Networks trained on such clips do better on real photographs.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Pictures = NDArray[np.uint8]


@dataclass(frozen=True)
class Camera:
    """A camera's faults; the defaults change nothing."""

    exposure: float = 1.0
    """factor on the light"""
    contrast: float = 1.0
    """slope about middle grey"""
    saturation: float = 1.0
    """distance of the colours from grey"""
    balance: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """factors on red, green and blue"""
    softness: float = 0.0
    """standard deviation of the blur in pixels of a 256-pixel picture"""
    grain: float = 0.0
    """standard deviation of the noise in levels of 255"""
    quality: int = 100
    """of JPEG; 100: not compressed"""

    def photograph(self, pictures: Pictures, rng: np.random.Generator) -> Pictures:
        """Pictures (f, h, w, 3) RGB as this camera takes them; ``rng`` draws the grain."""
        return np.stack([self._one(picture, rng) for picture in pictures])

    def _one(self, picture: Pictures, rng: np.random.Generator) -> Pictures:
        levels = picture.astype(np.float32)
        if self.softness > 0:
            levels = np.asarray(
                cv2.GaussianBlur(levels, (0, 0), self.softness * picture.shape[0] / 256), np.float32
            )
        levels *= np.float32(self.exposure) * np.array(self.balance, np.float32)
        grey = levels.mean(axis=2, keepdims=True)
        levels = grey + np.float32(self.saturation) * (levels - grey)
        levels = np.float32(self.contrast) * (levels - 128) + 128
        if self.grain > 0:
            # Grain of real pictures is coarser than a pixel and mostly brightness.
            noise = rng.standard_normal((*picture.shape[:2], 1), np.float32)
            noise = np.asarray(cv2.GaussianBlur(noise, (0, 0), 0.7), np.float32)[..., None]
            levels = levels + noise * np.float32(self.grain / noise.std())
        taken: Pictures = levels.round().clip(0, 255).astype(np.uint8)
        if self.quality < 100:
            done, code = cv2.imencode(".jpg", taken, [cv2.IMWRITE_JPEG_QUALITY, self.quality])
            assert done
            taken = np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR), np.uint8)
        return taken


def draw_camera(rng: np.random.Generator) -> Camera:
    """A camera as people have them: most are good, some are not."""
    warmth = rng.normal(0, 0.05)
    return Camera(
        exposure=float(np.exp(rng.normal(0, 0.12))),
        contrast=float(np.exp(rng.normal(0, 0.08))),
        saturation=float(np.clip(rng.normal(0.95, 0.12), 0.6, 1.3)),
        balance=(1 + float(warmth), 1.0 + float(rng.normal(0, 0.015)), 1 - float(warmth)),
        softness=float(rng.uniform(0.3, 0.7)) if rng.random() < 0.3 else 0.0,
        grain=float(rng.uniform(0.5, 2)) if rng.random() < 0.3 else 0.0,
        quality=int(rng.integers(70, 97)) if rng.random() < 0.4 else 100,
    )
