"""Frames that networks drew, from which an open mouth is taken when the portrait's own pixels are moved.

drawn = Drawn(channels_last(pixels))
drawn.at(frame, across, down, (512, 512))    # pixels of one, as of a picture of 512 x 512
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Drawn:
    """Frames in −1..1, of any size."""

    pictures: Float[NDArray[np.float32], "f h w 3"]

    def at(
        self,
        frame: int,
        across: Float[NDArray[np.float32], "h w"],
        down: Float[NDArray[np.float32], "h w"],
        size: tuple[int, int],
    ) -> Float[NDArray[np.float32], "h w 3"]:
        """The frame at columns and rows of a picture of ``size`` (height, width)."""
        picture = self.pictures[frame]
        rows, columns = picture.shape[:2]
        x = (across + 0.5) * np.float32(columns / size[1]) - np.float32(0.5)
        y = (down + 0.5) * np.float32(rows / size[0]) - np.float32(0.5)
        return np.asarray(cv2.remap(picture, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE))


def channels_last(pixels: Float[Tensor, "f 3 H W"]) -> Float[NDArray[np.float32], "f H W 3"]:
    """As arrays of OpenCV."""
    return np.ascontiguousarray(pixels.float().permute(0, 2, 3, 1).cpu().numpy())
