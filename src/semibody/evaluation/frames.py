"""Pictures against pictures: PSNR, SSIM, flicker, drift and change, and one pass over a pair of videos.

Pictures are uint8 (h, w, 3) RGB, the data range is 255.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semibody.clips.truth import boxes_at
from semibody.evaluation.cache import Arrays
from semibody.media import VideoReader, resize_image
from semibody.types import Floats, Picture, SemibodyError

Mask = NDArray[np.bool_]

IDENTICAL_DB = 100.0
"""PSNR of an identical frame in the mean over frames: 8-bit pictures that differ at all stay near or below
it."""

_RADIUS, _SIGMA, _K1, _K2 = 5, 1.5, 0.01, 0.03
STILL = 3.0
"""Grey levels: a pixel of the real video is still while it moves less than this from frame to frame."""

APART = 4
"""Pixels: a still pixel this far from all that moves is away from it."""


def psnr(generated: Picture, real: Picture, where: Mask | None = None) -> float:
    """Peak signal-to-noise ratio in dB over all channels of all pixels, or of those of a mask (h, w).

    Stacks of pictures (…, h, w, 3), with a mask (…, h, w), count as one large picture. ``inf`` for identical
    pictures, NaN for an empty mask.
    """
    import cv2

    _require_same_shape(generated, real)
    count = generated[..., 0].size if where is None else np.count_nonzero(where)
    if not count:
        return math.nan
    width = generated.shape[-2]
    mask = None if where is None else where.reshape(-1, width).astype(np.uint8)
    ours, theirs = (np.ascontiguousarray(p).reshape(-1, width, p.shape[-1]) for p in (generated, real))
    error = cv2.norm(ours, theirs, cv2.NORM_L2SQR, mask) / (count * generated.shape[-1])
    return 10 * math.log10(255.0**2 / error) if error else math.inf


def ssim(generated: Picture, real: Picture) -> float:
    """Structural similarity (Wang et al. 2004): 11×11 Gaussian window of σ 1.5, the mean of the three
    channels.

    Equals scikit-image's ``structural_similarity(…, channel_axis=2, data_range=255, gaussian_weights=True,
    sigma=1.5, use_sample_covariance=False)`` at a fraction of its time.
    """
    import cv2

    _require_same_shape(generated, real)
    if min(generated.shape[:2]) <= 2 * _RADIUS:
        raise ValueError(f"SSIM needs pictures larger than {2 * _RADIUS} pixels, got {generated.shape}")
    kernel = np.exp(-0.5 * (np.arange(-_RADIUS, _RADIUS + 1) / _SIGMA) ** 2)
    kernel = (kernel / kernel.sum()).astype(np.float32)

    c1, c2 = (_K1 * 255) ** 2, (_K2 * 255) ** 2
    inner = slice(_RADIUS, -_RADIUS)

    def blur(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return cv2.sepFilter2D(values, -1, kernel, kernel, borderType=cv2.BORDER_REFLECT)

    def of_channel(x: NDArray[np.float32], y: NDArray[np.float32]) -> float:
        mean_x, mean_y = blur(x), blur(y)
        # The two variances are only ever added.
        variances = blur(x * x + y * y) - (mean_x**2 + mean_y**2)
        covariance = blur(x * y) - mean_x * mean_y
        mean_x += 128
        mean_y += 128
        similar = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
        similar /= (mean_x**2 + mean_y**2 + c1) * (variances + c2)
        return float(similar[inner, inner].mean(dtype=np.float64))

    # Greys are centred first, so that variances as differences of squares lose few digits of float32; channel
    # by channel, because its arrays stay in the processor's cache, which takes a third of the time.
    pairs = ((picture[..., k].astype(np.float32) - 128 for picture in (generated, real)) for k in range(3))
    return float(np.mean([of_channel(x, y) for x, y in pairs]))


def mean_psnr(values: Floats) -> float:
    """Mean over frames (n,): identical frames count ``IDENTICAL_DB``; ``inf`` only if all are identical."""
    if not len(values):
        return math.nan
    if np.isinf(values).all():
        return math.inf
    return float(np.minimum(values, IDENTICAL_DB).mean())


@dataclass
class Stillness:
    """Flicker and drift of a generated video where the real one does not move, frame by frame.

    A pixel is still at frame t when the real video changed by less than ``STILL`` grey levels between
    t − 2, t − 1 and t (blurred a little against sensor noise). There the real video has no temporal
    high-frequency energy, so that of the generated video is flicker: the mean absolute second difference
    |g_t − 2 g_{t−1} + g_{t−2}| minus the real video's own, in grey levels, never below 0. Drift is
    |g_t − g_0| − |r_t − r_0| over the pixels that have not changed since the real video's first frame.
    """

    _generated: list[Floats] = field(default_factory=list)
    _real: list[Floats] = field(default_factory=list)
    _first: tuple[Floats, Floats] | None = None

    def add(self, generated: Picture, real: Picture, regions: Mapping[str, Mask]) -> dict[str, float]:
        """Values of the next frame: ``drift`` and ``flicker/<region>``; NaN where a region has no still
        pixel."""
        g, r = _grey(generated), _grey(real)
        if self._first is None:
            self._first = (g, r)
        self._generated = [*self._generated[-2:], g]
        self._real = [*self._real[-2:], r]
        unmoved = np.abs(r - self._first[1]) < STILL
        change = np.abs(g - self._first[0]) - np.abs(r - self._first[1])
        values = {"drift": max(_mean(change, unmoved), 0.0)}
        if len(self._real) < 3:
            return {**values, **{f"flicker/{name}": math.nan for name in regions}}
        still = np.maximum(np.abs(r - self._real[1]), np.abs(self._real[1] - self._real[0])) < STILL
        energy = _second_difference(self._generated) - _second_difference(self._real)
        for name, region in regions.items():
            values[f"flicker/{name}"] = max(_mean(energy, still & region), 0.0)
        return values


@dataclass
class ChangeEnergy:
    """How much changes from frame to frame, where the real video moves and where it does not.

    A pixel moves when the real video changes by at least ``STILL`` grey levels from frame to frame; all
    others are still; of them those are away that have no moving pixel within ``APART`` pixels. So flicker,
    which is everywhere, is distinguished from moving edges that are a little off their place. The energy of a
    region is the sum of the squared changes of grey in it, per pixel of the picture, so that the energies
    of frames add up to that of the clip.
    """

    _before: tuple[Floats, Floats] | None = None

    def add(self, generated: Picture, real: Picture) -> dict[str, float]:
        """``energy/<region>`` and ``real-energy/<region>`` of ``REGIONS``; NaN for the first frame."""
        import cv2

        g, r = _grey(generated), _grey(real)
        before, self._before = self._before, (g, r)
        if before is None:
            return dict.fromkeys(ENERGIES, math.nan)
        ours, theirs = (g - before[0]) ** 2, (r - before[1]) ** 2
        moving = theirs >= STILL**2
        near = cv2.dilate(moving.astype(np.uint8), np.ones((2 * APART + 1, 2 * APART + 1), np.uint8)) > 0
        parts = [energy * where for energy in (ours, theirs) for where in (moving, ~moving, ~near)]
        return {name: float(part.mean()) for name, part in zip(ENERGIES, parts, strict=True)}


REGIONS = ("moving", "still", "away")
ENERGIES = tuple(f"{whose}energy/{region}" for whose in ("", "real-") for region in REGIONS)


def _second_difference(last: list[Floats]) -> Floats:
    before, middle, now = last
    return np.abs(now - 2 * middle + before)


def _grey(picture: Picture) -> Floats:
    import cv2

    grey = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY)
    return cv2.GaussianBlur(grey.astype(np.float32), (3, 3), 0)


def _mean(values: Floats, where: Mask) -> float:
    import cv2

    return cv2.mean(values, where.astype(np.uint8))[0] if where.any() else math.nan


def boxes_to_regions(boxes: Mapping[str, Floats], height: int, width: int) -> dict[str, Mask]:
    """Masks (h, w) of ``face``, ``hands`` and the ``rest`` from boxes x0, y0, x1, y1 in fractions (NaN:
    unseen)."""
    regions = {name: np.zeros((height, width), bool) for name in ("face", "hands")}
    for part, box in boxes.items():
        name = "hands" if part.endswith("hand") else part
        if name in regions and np.isfinite(box).all():
            x0, x1 = np.clip(np.rint(np.array([box[0], box[2]]) * width), 0, width).astype(int)
            y0, y1 = np.clip(np.rint(np.array([box[1], box[3]]) * height), 0, height).astype(int)
            regions[name][y0:y1, x0:x1] = True
    regions["rest"] = ~(regions["face"] | regions["hands"])
    return regions


def _require_same_shape(one: Picture, other: Picture) -> None:
    if one.shape != other.shape:
        raise ValueError(f"pictures differ in size: {one.shape} and {other.shape}")


# -- one pass over a pair of videos -------------------------------------------------------------------

VERSION = 4
COLUMNS = (
    "psnr", "psnr/face", "psnr/hands", "ssim", "drift", "flicker/face", "flicker/hands", "flicker/rest",
    *ENERGIES,
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
    still, changes = Stillness(), ChangeEnergy()
    with VideoReader(generated) as ours, VideoReader(real) as theirs:
        fps = None if abs(ours.fps - theirs.fps) < 1e-3 * ours.fps else ours.fps
        for number, (picture, wanted) in enumerate(zip(ours, theirs.frames(fps), strict=False)):
            if number < start or number % every:
                continue
            height, width = picture.shape[:2]
            reference = resize_image(wanted, width, height)
            regions = boxes_to_regions(boxes_at(boxes, number), height, width)
            values = still.add(picture, reference, regions)
            values |= changes.add(picture, reference)
            values |= {"psnr": psnr(picture, reference), "ssim": ssim(picture, reference)}
            for part in ("face", "hands"):
                values[f"psnr/{part}"] = psnr(picture, reference, regions[part])
            rows.append([values[column] for column in COLUMNS])
            numbers.append(number)
    if not rows:
        after = f" after the first {start}" if start else ""
        raise SemibodyError(f"{generated}: shares no frame with {real}{after}; give longer clips")
    table = np.array(rows)
    return {"frame": np.array(numbers), **{name: table[:, k] for k, name in enumerate(COLUMNS)}}
