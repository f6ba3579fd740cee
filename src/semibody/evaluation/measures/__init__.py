"""What is measured, by family, from what was gathered of the clips.

``pixels``    pictures against pictures
``sets``      distances between sets of feature vectors
``identity``  whether the person is the same
``mouth``     lips and jaw against the sound and the truth
``hands``     their confidence, their variation, their distance from the truth

A measure takes a ``Gathered`` and gives a ``Measured``; most are means over clips of a value of one clip
(``over_clips``). ``evaluation.metrics`` is the table that names them all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semibody.evaluation import distributions
from semibody.evaluation.distributions import Interval
from semibody.evaluation.gather import Gathered, Side
from semibody.evaluation.protocol import Item
from semibody.types import Floats

Series = tuple[NDArray[Any], NDArray[Any]]
"""Numbers of frames and a value for each, to be drawn over time."""


@dataclass(frozen=True)
class OneClip:
    """A metric's value of one clip; NaN when it has none. ``counts`` are added up over clips."""

    value: float
    series: Series | None = None
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """A metric's value of the whole set. ``real`` is the same measure of the real clips, where that means
    something."""

    value: float
    clips: dict[str, float] = field(default_factory=dict)
    interval: Interval | None = None
    real: float | None = None
    counts: dict[str, int] = field(default_factory=dict)
    series: dict[str, Series] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


Measure = Callable[[Gathered], Measured]


def over_clips(
    gathered: Gathered,
    one: Callable[[Gathered, Item, Side], OneClip | None],
    *,
    mean: Callable[[Floats], float] = lambda values: float(values.mean()),
    real: bool = False,
) -> Measured:
    """The mean over clips of ``one`` clip's value, with a bootstrap interval; clips without a value are
    counted."""
    found = {item.name: one(gathered, item, "generated") for item in gathered.items}
    known = {name: clip for name, clip in found.items() if clip is not None and not math.isnan(clip.value)}
    values = np.array([clip.value for clip in known.values()])
    counts = _sum([clip.counts for clip in found.values() if clip is not None])
    without = count_without(len(found) - len(known), len(found))
    if not known:
        return Measured(math.nan, counts=counts, notes=("no clip has a value",))
    theirs = None
    if real:
        others = [one(gathered, item, "real") for item in gathered.items if item.real is not None]
        finite = [clip.value for clip in others if clip is not None and math.isfinite(clip.value)]
        theirs = float(np.mean(finite)) if finite else None
    return Measured(
        mean(values),
        {name: clip.value for name, clip in known.items()},
        distributions.bootstrap_mean(values),
        theirs,
        counts,
        {name: clip.series for name, clip in known.items() if clip.series is not None},
        (without,) if without else (),
    )


def count_without(count: int, total: int) -> str:
    """A note on clips without a value; empty when all have one."""
    return f"{count} of {total} clips have no value" if count else ""


def _sum(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for one in counts:
        for name, count in one.items():
            total[name] = total.get(name, 0) + count
    return total
