"""Which frames are denoised together.

A clip longer than a window is covered by overlapping windows that close into a ring (the last ones
wrap to the first frames), and in every step all windows move on by a few frames, so that no frame is
always at a window's edge. This is the ``uniform`` scheme of the published code, which uses stride 1.
"""

from __future__ import annotations

import math

Window = list[int]
"""Frame numbers denoised together, in temporal order (modulo the clip's length)."""


def ring_windows(
    frames: int, length: int = 12, overlap: int = 3, *, strides: int = 1, shift: int = 0
) -> list[Window]:
    """Windows of ``length`` frames that start every ``length - overlap`` frames, moved on by ``shift``.

    A clip of at most ``length`` frames is one window, which ``shift`` rotates. With ``strides`` > 1
    there follow windows over every 2nd, 4th, … frame, as many as the clip is long enough for.
    Raises ValueError unless 0 <= overlap < length and frames >= 1.
    """
    if frames < 1:
        raise ValueError(f"a clip needs at least one frame, got {frames}")
    if not 0 <= overlap < length:
        raise ValueError(f"overlap must be from 0 to {length - 1}, got {overlap}")
    if frames <= length:
        return [[(i + shift) % frames for i in range(frames)]]
    levels = min(strides, math.ceil(math.log2(frames / length)) + 1)
    return [
        [(start + i * stride + shift) % frames for i in range(length)]
        for stride in (2**level for level in range(levels))
        for start in range(0, frames, length * stride - overlap)
    ]
