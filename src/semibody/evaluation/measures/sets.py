"""Distances between the set of generated and the set of real feature vectors (FID, FVD, E-FID)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semibody.evaluation import distributions
from semibody.evaluation.distributions import Interval
from semibody.evaluation.gather import Gathered, Side
from semibody.evaluation.measures import Measure, Measured, count_without
from semibody.evaluation.protocol import Item

_JACKKNIFE_GROUPS = 10

Rows = Callable[[Gathered, Item, Side], NDArray[Any] | None]
"""Feature vectors (n, d) of one clip."""
Pair = tuple[NDArray[Any], NDArray[Any]]
"""Of a clip the generated and the real vectors."""
_SIDES: tuple[Side, Side] = ("generated", "real")


def _between_sets(gathered: Gathered, rows: Rows) -> Measured:
    """Fréchet distance between all generated and all real vectors, with a jackknife interval over clips."""
    pairs = [[rows(gathered, item, side) for side in _SIDES] for item in gathered.items]
    finite = [[None if found is None else _finite(found) for found in pair] for pair in pairs]
    known = [(g, r) for g, r in finite if g is not None and r is not None and len(g) and len(r)]
    count = sum(len(g) for g, _ in known), sum(len(r) for _, r in known)
    if min(count) < 2:
        return Measured(math.nan, notes=("fewer than 2 feature vectors; give more or longer clips",))
    value, interval = _stored_distance(gathered, known)
    counts = {"generated vectors": count[0], "real vectors": count[1]}
    broken = _vectors(pairs) - _vectors(finite)
    if broken:
        counts["vectors left out because they are not finite"] = broken
    warning = distributions.too_few(*count, known[0][0].shape[1])
    without = count_without(len(pairs) - len(known), len(pairs))
    notes = tuple(filter(None, [warning, without]))
    return Measured(value, {}, interval, None, counts, {}, notes)


def _finite(vectors: NDArray[Any]) -> NDArray[Any]:
    return vectors[np.isfinite(vectors).all(axis=1)]


def _vectors(pairs: Sequence[Sequence[NDArray[Any] | None]]) -> int:
    return sum(len(found) for pair in pairs for found in pair if found is not None)


def _stored_distance(gathered: Gathered, known: Sequence[Pair]) -> tuple[float, Interval | None]:
    """The distance with its interval, kept in the cache under the vectors themselves."""

    def distance(kept: Sequence[int], *, quick: bool = True) -> float:
        ours, theirs = (np.concatenate([known[k][side] for k in kept]) for side in (0, 1))
        if min(len(ours), len(theirs)) < 2:
            return math.nan
        return distributions.frechet_distance(ours, theirs, quick=quick)

    key = _print(known)
    stored = gathered.cache.load(key)
    if stored is None:
        found = distributions.jackknife(_JACKKNIFE_GROUPS, distance, len(known))
        bounds = [found.low, found.high] if found else []
        value = distance(range(len(known)), quick=False)
        stored = {"value": np.array(value), "bounds": np.array(bounds)}
        gathered.cache.save(key, stored)
    interval = None
    if len(stored["bounds"]):
        low, high = (float(v) for v in stored["bounds"])
        method = f"delete-a-group jackknife over {len(known)} clips"
        interval = Interval(max(low, 0.0), high, 0.95, method)
    return float(stored["value"]), interval


def _print(known: Sequence[Pair]) -> str:
    """A key of the vectors themselves, so that the singular values are not sought again."""
    digest = hashlib.sha256(b"frechet 2")
    for pair in known:
        for side in pair:
            digest.update(str(side.shape).encode())
            digest.update(np.ascontiguousarray(side).tobytes())
    return digest.hexdigest()


def features(kind: str) -> Measure:
    def rows(gathered: Gathered, item: Item, side: Side) -> NDArray[Any] | None:
        arrays = gathered.arrays(item.name, side, kind)
        return arrays["features"] if arrays is not None else None

    return lambda gathered: _between_sets(gathered, rows)


def windows_of_features(gathered: Gathered) -> Measured:
    rules = gathered.rules
    length = max(rules.window // rules.features_every, 2)
    step = max(rules.window_step // rules.features_every, 1)

    def rows(gathered: Gathered, item: Item, side: Side) -> NDArray[Any] | None:
        arrays = gathered.arrays(item.name, side, "effnet")
        if arrays is None or len(arrays["features"]) < length:
            return None
        windows = np.lib.stride_tricks.sliding_window_view(arrays["features"], length, axis=0)[::step]
        change = np.abs(np.diff(windows, axis=-1)).mean(axis=-1)
        return np.concatenate([windows.mean(axis=-1), change], axis=1)

    return _between_sets(gathered, rows)


def expressions(gathered: Gathered) -> Measured:
    unseen = {"frames without a face": 0}

    def rows(gathered: Gathered, item: Item, side: Side) -> NDArray[Any] | None:
        arrays = gathered.arrays(item.name, side, "faces")
        if arrays is None:
            return None
        known = np.isfinite(arrays["expression"]).all(axis=1)
        if side == "generated":
            unseen["frames without a face"] += int((~known).sum())
        # The neutral share (column 0) is no expression; percent, so that distances are not tiny.
        return arrays["expression"][known][:, 1:].astype(np.float64) * 100

    measured = _between_sets(gathered, rows)
    return replace(measured, counts={**measured.counts, **unseen})
