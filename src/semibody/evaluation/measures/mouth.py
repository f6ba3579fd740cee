"""Lips and sound: SyncNet's procedure, and the mouth against the sound or against the true jaw."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from semibody.clips.mouth import correlation, opening
from semibody.evaluation import faces
from semibody.evaluation.cache import key_of
from semibody.evaluation.gather import Gathered, Side
from semibody.evaluation.measures import Measure, OneClip, over_clips
from semibody.evaluation.protocol import Item
from semibody.types import Floats

Leader = Literal["sound", "truth"]
"""What a mouth is held against: the loudness of its sound, or the true jaw (without truth, REAL's)."""
_LEAST_FRAMES = 8
"""Fewer frames than these do not determine a lag."""


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
    leave the clip are padded with zeros, the median of an even number is the lower one, and 1e-6 is added to
    differences. ``inside`` leaves those windows out instead: for embeddings of unit length zeros are nearer
    than other embeddings, and would be chosen; None then for clips shorter than 2·``shift`` windows.
    """
    windows = min(len(video), len(audio))
    if windows < (2 * shift if inside else 1):
        return None
    v = np.asarray(video[:windows], np.float64)
    padded = np.pad(np.asarray(audio[:windows], np.float64), ((shift, shift), (0, 0)))
    inside_clip = np.pad(np.ones(windows, bool), shift)
    distances = np.array(
        [
            np.linalg.norm(v - padded[k : k + windows] + 1e-6, axis=1)[
                inside_clip[k : k + windows] if inside else slice(None)
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
    return sorted(range(-reach, reach + 1), key=abs)  # of equal correlations the smaller lag is taken


def _shifted(follower: Floats, leader: Floats, lag: int) -> tuple[Floats, Floats]:
    if lag >= 0:
        return follower[lag:], leader[: len(leader) - lag]
    return follower[:lag], leader[-lag:]


def _correlation(a: Floats, b: Floats) -> float:
    both = np.isfinite(a) & np.isfinite(b)
    return correlation(a[both], b[both], least=_LEAST_FRAMES)


# -- what is measured ----------------------------------------------------------------------------------


def jaw(gathered: Gathered, item: Item, side: Side) -> Floats | None:
    """The blendshape of the open jaw: (f,)."""
    arrays = gathered.arrays(item.name, side, "faces")
    if arrays is None or not np.isfinite(arrays["expression"]).any():
        return None
    return arrays["expression"][:, faces.JAW_OPEN].astype(np.float64)


_INNER_LIPS, _CORNERS = (35, 25), (0, 10)
"""Places in ``faces.LIPS``: the middles of the inner lips, the corners of the mouth."""


def lips(gathered: Gathered, item: Item, side: Side) -> Floats | None:
    """Distance of the inner lips over the width of the mouth, from the points of the face: (f,)."""
    arrays = gathered.arrays(item.name, side, "faces")
    if arrays is None or not np.isfinite(arrays["lips"]).any():
        return None
    return opening(arrays["lips"].astype(np.float64), _INNER_LIPS, _CORNERS)


Opening = Callable[[Gathered, Item, Side], Floats | None]
"""How far the mouth of a clip is open: (f,), NaN in frames without a face."""


def follows(against: Leader, opened: Opening = jaw, *, search: bool = False) -> Measure:
    """Correlation of the mouth with its leader, at the best lag if there is a ``search`` for it.

    0 for a mouth that does not move.
    """
    return _lag(lambda lag: lag.correlation, against, opened, search, still=0.0)


def lags(against: Leader, opened: Opening = jaw) -> Measure:
    """Size of the lag, in frames, at which the mouth fits its leader best."""
    return _lag(lambda lag: float(abs(lag.frames)), against, opened, search=True, still=math.nan)


def _lag(
    value: Callable[[Lag], float], against: Leader, opened: Opening, search: bool, *, still: float
) -> Measure:
    """``still`` is the value of a mouth that does not move."""

    def leader(gathered: Gathered, item: Item, side: Side) -> Floats | None:
        if against == "sound":
            arrays = gathered.arrays(item.name, side, "sound")
            return arrays["loudness"] if arrays is not None and len(arrays["loudness"]) else None
        truth = gathered.truth(item)
        return np.asarray(truth.jaw, np.float64) if truth is not None else opened(gathered, item, "real")

    def one(gathered: Gathered, item: Item, side: Side) -> OneClip | None:
        ours, wanted = opened(gathered, item, side), leader(gathered, item, side)
        if ours is None or wanted is None:
            return None
        lag = best_lag(ours, wanted, gathered.rules.max_lag if search else 0)
        unseen = {"frames without a face": int(np.isnan(ours).sum())}
        if lag is None:  # a mouth that never moves is correlated with nothing
            return OneClip(still, None, unseen)
        return OneClip(value(lag), (np.arange(len(ours)), ours), unseen)

    return lambda gathered: over_clips(gathered, one, real=True)


def synced(value: Callable[[Sync], float]) -> Measure:
    """A value of SyncNet's scores."""

    def one(gathered: Gathered, item: Item, side: Side) -> OneClip | None:
        arrays = gathered.arrays(item.name, side, "syncnet")
        if arrays is None:
            return None
        found = sync(arrays["video"], arrays["audio"], gathered.rules.sync_shift)
        return OneClip(value(found)) if found is not None else None

    return lambda gathered: over_clips(gathered, one, real=True)


def synced_small(value: Callable[[Sync], float]) -> Measure:
    """A value of our own sync network's scores."""

    def one(gathered: Gathered, item: Item, side: Side) -> OneClip | None:
        scores = _small_scores(gathered, item, side)
        return OneClip(value(scores)) if scores is not None else None

    return lambda gathered: over_clips(gathered, one, real=True)


def _small_scores(gathered: Gathered, item: Item, side: Side) -> Sync | None:
    """What our own sync network finds in a clip, kept in the cache beside what it is made of."""
    from semibody.evaluation import sync_small

    shift = gathered.rules.sync_shift
    sources = [gathered.keys.get((item.name, side, kind), "") for kind in ("faces", "sound")]
    key = key_of("sync-small", sync_small.VERSION, shift, *sources)
    stored = gathered.cache.load(key)
    if stored is None:
        found, sound = (gathered.arrays(item.name, side, kind) for kind in ("faces", "sound"))
        if found is None or sound is None:
            return None
        both = sync_small.embed(found, sound["mfcc"], gathered.fps[item.name])
        scores = sync(*both, shift, inside=True) if both is not None else None
        row = [scores.offset, scores.confidence, scores.distance] if scores is not None else []
        stored = {"scores": np.array(row, np.float64)}
        gathered.cache.save(key, stored)
    if not len(stored["scores"]):
        return None
    offset, confidence, distance = stored["scores"].tolist()
    return Sync(int(offset), confidence, distance)
