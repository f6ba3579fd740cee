"""Lips and sound: SyncNet's procedure, and the jaw against the sound or against the true jaw."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semibody import media
from semibody.types import Floats, Speech

LOUDNESS_WINDOW = 0.1
"""Seconds over which the sound's energy is taken around a frame."""


@dataclass(frozen=True)
class Sync:
    """``offset`` frames by which the picture is behind the sound (+) or ahead of it (−) · ``confidence``
    Sync-C · ``distance`` Sync-D."""

    offset: int
    confidence: float
    distance: float


def sync(video: NDArray[Any], audio: NDArray[Any], shift: int, *, inside: bool = False) -> Sync | None:
    """SyncNet's scores of window embeddings (n, d) of a moving mouth and its sound; None without windows.

    For every shift −s … s of the sound the mean L2 distance over all windows; the smallest is Sync-D, the
    median of all minus the smallest is Sync-C (Chung & Zisserman 2016). As in the published code, shifts that
    leave the clip meet zeros, the median of an even number is the lower one, and 1e-6 is added to
    differences. ``inside`` leaves those windows out instead: for embeddings of unit length zeros are nearer
    than strangers, and would win; None then for clips shorter than 2·``shift`` windows.
    """
    windows = min(len(video), len(audio))
    if windows < (2 * shift if inside else 1):
        return None
    v = np.asarray(video[:windows], np.float64)
    padded = np.pad(np.asarray(audio[:windows], np.float64), ((shift, shift), (0, 0)))
    heard = np.pad(np.ones(windows, bool), shift)
    distances = np.array(
        [
            np.linalg.norm(v - padded[k : k + windows] + 1e-6, axis=1)[
                heard[k : k + windows] if inside else slice(None)
            ].mean()
            for k in range(2 * shift + 1)
        ]
    )
    best = int(distances.argmin())
    median = np.sort(distances)[(len(distances) - 1) // 2]
    return Sync(shift - best, float(median - distances[best]), float(distances[best]))


@dataclass(frozen=True)
class Lag:
    """``correlation`` (Pearson) at the best shift · ``frames`` by which the first signal trails the
    second."""

    correlation: float
    frames: int


def best_lag(follower: Floats, leader: Floats, max_lag: int) -> Lag | None:
    """Shift ``follower`` (f,) against ``leader`` (f,) by up to ``max_lag`` frames and keep the best
    correlation.

    Frames where either is NaN (no face) are left out. None when no shift leaves 8 frames that vary.
    """
    frames = min(len(follower), len(leader))
    a, b = np.asarray(follower[:frames], np.float64), np.asarray(leader[:frames], np.float64)
    found = [
        Lag(r, lag) for lag in _outwards(max_lag) if not math.isnan(r := _correlation(*_shifted(a, b, lag)))
    ]
    return max(found, key=lambda lag: round(lag.correlation, 9)) if found else None


def _outwards(reach: int) -> list[int]:
    return sorted(range(-reach, reach + 1), key=abs)  # on equal terms the smaller lag is believed


def _shifted(follower: Floats, leader: Floats, lag: int) -> tuple[Floats, Floats]:
    if lag >= 0:
        return follower[lag:], leader[: len(leader) - lag]
    return follower[:lag], leader[-lag:]


def _correlation(a: Floats, b: Floats) -> float:
    both = np.isfinite(a) & np.isfinite(b)
    a, b = a[both], b[both]
    if len(a) < 8 or a.std() < 1e-6 or b.std() < 1e-6:
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])


def loudness(speech: Speech, frames: int, fps: float) -> Floats:
    """Root mean square of the sound around the middle of every frame, 0 … 1 of the loudest: (f,)."""
    level = media.loudness(speech, frames, fps, LOUDNESS_WINDOW)
    return level / max(level.max(), 1e-9)
