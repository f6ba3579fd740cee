"""One pass over a pair of videos: PSNR, SSIM, flicker, drift and change of every pair of frames."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semibody.evaluation import frames
from semibody.evaluation.cache import Arrays
from semibody.evaluation.truth import boxes_at
from semibody.media import VideoReader, resize_image
from semibody.types import SemibodyError

VERSION = 4
COLUMNS = (
    "psnr", "psnr/face", "psnr/hands", "ssim", "drift", "flicker/face", "flicker/hands", "flicker/rest",
    *frames.ENERGIES,
)  # fmt: skip


def compare(
    generated: Path, real: Path, boxes: Mapping[str, NDArray[np.float64]], *, every: int = 1, start: int = 0
) -> Arrays:
    """Arrays (n,) of every column in COLUMNS, and ``frame`` (n,), for every ``every``-th pair of frames
    from ``start`` on.

    ``boxes`` part → (f, 4) where the face and the hands of the real video are, in fractions of the picture.
    Follows the policy of ``protocol.check``. Raises SemibodyError for a damaged file.
    """
    rows: list[list[float]] = []
    numbers: list[int] = []
    still, changes = frames.Stillness(), frames.Changes()
    with VideoReader(generated) as ours, VideoReader(real) as theirs:
        fps = None if abs(ours.fps - theirs.fps) < 1e-3 * ours.fps else ours.fps
        for number, (picture, wanted) in enumerate(zip(ours, theirs.frames(fps), strict=False)):
            if number < start or number % every:
                continue
            height, width = picture.shape[:2]
            reference = resize_image(wanted, width, height)
            regions = frames.boxes_to_regions(boxes_at(boxes, number), height, width)
            values = still.see(picture, reference, regions)
            values |= changes.see(picture, reference)
            values |= {"psnr": frames.psnr(picture, reference), "ssim": frames.ssim(picture, reference)}
            for part in ("face", "hands"):
                values[f"psnr/{part}"] = frames.psnr(picture, reference, regions[part])
            rows.append([values[column] for column in COLUMNS])
            numbers.append(number)
    if not rows:
        after = f" after the first {start}" if start else ""
        raise SemibodyError(f"{generated}: shares no frame with {real}{after}; give longer clips")
    table = np.array(rows)
    return {"frame": np.array(numbers), **{name: table[:, k] for k, name in enumerate(COLUMNS)}}
