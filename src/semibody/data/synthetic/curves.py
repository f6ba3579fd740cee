"""Smooth curves over time that movements are made of."""

from __future__ import annotations

import numpy as np

from semibody.types import Floats


def wander(rng: np.random.Generator, times: Floats, size: float, period: float) -> Floats:
    """Smooth noise of standard deviation ``size`` that changes over about ``period`` seconds."""
    total = np.zeros(len(times))
    for _ in range(3):
        total += np.sin(2 * np.pi * times / (period * rng.uniform(0.7, 2.2)) + rng.uniform(0, 2 * np.pi))
    return total * size / np.sqrt(1.5)


def steps(
    rng: np.random.Generator, times: Floats, sizes: tuple[float, ...], hold: float, move: float
) -> Floats:
    """(f, k): places of standard deviations ``sizes``, held for about ``hold`` seconds, left in ``move``."""
    out = np.zeros((len(times), len(sizes)))
    at, before = -1.0, np.zeros(len(sizes))
    while at < times[-1]:
        after = rng.normal(0, 1, len(sizes)) * sizes * (rng.random() < 0.5)
        s = np.clip((times - at) / move, 0, 1)[:, None]
        out += (after - before) * s
        before, at = after, at + rng.exponential(hold) + 0.15
    return out


def blend(schedule: Floats, values: Floats, times: Floats) -> Floats:
    """Follow ``values`` (n, k): the i-th is reached at the end of the i-th move, on a minimum-jerk path."""
    out = np.repeat(values[:1], len(times), axis=0)
    for (start, end), before, after in zip(schedule[1:], values[:-1], values[1:], strict=False):
        s = np.clip((times - start) / (end - start), 0, 1)[:, None]
        out += (after - before) * (s**3 * (10 - 15 * s + 6 * s**2))
    return out
