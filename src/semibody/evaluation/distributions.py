"""Distances between sets of feature vectors, and how far a mean can be trusted.

All arithmetic is float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semibody.types import Floats


@dataclass(frozen=True)
class Interval:
    """A confidence interval: ``low`` … ``high`` at ``level``, and how it was made."""

    low: float
    high: float
    level: float
    method: str


def frechet_distance(one: NDArray[Any], other: NDArray[Any], *, quick: bool = False) -> float:
    """Fréchet distance between Gaussians fitted to two sets of vectors (n, d) and (m, d), n, m ≥ 2.

    |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½) with unbiased covariances (Dowson & Landau 1982; FID: Heusel et
    al. 2017). No matrix square root is taken: with Σ = AᵀA for centred rows A / √(n − 1), the trace of
    (Σ₁Σ₂)^½ is the sum of the singular values of A₁A₂ᵀ. This stays exact where Σ is singular, as it always
    is with fewer vectors than dimensions. ``quick`` finds the singular values as roots of eigenvalues:
    several times faster and right to about 1e-4 of the variances, for standard errors.
    """
    a, b = _centred(one), _centred(other)
    shift = np.asarray(one, np.float64).mean(axis=0) - np.asarray(other, np.float64).mean(axis=0)
    overlap = _quick_overlap(a, b) if quick else _overlap(a, b)
    distance = float(shift @ shift + (a * a).sum() + (b * b).sum() - 2 * overlap)
    return max(distance, 0.0)  # rounding may leave −1e-13 for equal sets


def _centred(vectors: NDArray[Any]) -> Floats:
    """A with AᵀA = covariance of the rows of ``vectors``."""
    rows = np.asarray(vectors, np.float64)
    if rows.ndim != 2 or len(rows) < 2:
        raise ValueError(f"a covariance needs at least 2 vectors, got shape {rows.shape}")
    return np.asarray((rows - rows.mean(axis=0)) / np.sqrt(len(rows) - 1))


def _overlap(a: Floats, b: Floats) -> float:
    """The sum of the singular values of ABᵀ, which the triangle R of A = QR shares when A has more rows."""
    a, b = (np.asarray(np.linalg.qr(x, mode="r")) if len(x) > x.shape[1] else x for x in (a, b))
    return float(np.linalg.svd(a @ b.T, compute_uv=False).sum())


def _quick_overlap(a: Floats, b: Floats) -> float:
    """The same as the roots of the eigenvalues of LᵀAᵀAL with BᵀB = LLᵀ, or of the smaller Gram matrix."""
    dimensions = a.shape[1]
    if min(len(a), len(b)) > dimensions:
        covariance = b.T @ b
        covariance.flat[:: dimensions + 1] += 1e-12 * np.trace(covariance)  # rank may lack a little
        half = a @ np.linalg.cholesky(covariance)
        gram = half.T @ half
    else:
        product = a @ b.T if len(a) <= len(b) else b @ a.T
        gram = product @ product.T
    return float(np.sqrt(np.maximum(np.linalg.eigvalsh(gram), 0)).sum())


def too_few(n: int, m: int, dimensions: int) -> str:
    """A warning when sets of ``n`` and ``m`` vectors are small for a Fréchet distance; else empty.

    The estimate is biased upwards, the more so the fewer vectors (Chong & Forsyth 2020).
    """
    fewest = min(n, m)
    if fewest >= 10 * dimensions:
        return ""
    rank = "; the covariance has not even full rank" if fewest <= dimensions else ""
    return (
        f"{fewest} vectors of {dimensions} numbers: the distance is biased upwards{rank}; "
        "compare only with sets of the same size"
    )


def bootstrap_mean(
    values: Sequence[float] | Floats, *, resamples: int = 2000, level: float = 0.95, seed: int = 0
) -> Interval | None:
    """Percentile bootstrap interval of the mean over clips; None for fewer than 2 finite values."""
    known = np.asarray(values, np.float64)
    known = known[np.isfinite(known)]
    if len(known) < 2:
        return None
    rng = np.random.default_rng(seed)
    means = known[rng.integers(0, len(known), (resamples, len(known)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(
        float(low), float(high), level, f"bootstrap over {len(known)} clips, {resamples} resamples"
    )


def jackknife(
    groups: int, statistic: Callable[[Sequence[int]], float], clips: int, *, level: float = 0.95
) -> Interval | None:
    """Delete-a-group jackknife interval of a ``statistic`` of the numbers of the clips that are kept.

    For statistics that are biased by repeated clips, as the Fréchet distance is, where a bootstrap would
    lie too high. None when there are fewer than 2 clips to spare.
    """
    groups = min(groups, clips)
    if groups < 3:
        return None
    whole = statistic(range(clips))
    parts = np.array(
        [statistic([c for c in range(clips) if c % groups != gone]) for gone in range(groups)], np.float64
    )
    error = np.sqrt((groups - 1) / groups * ((parts - parts.mean()) ** 2).sum())
    reach = 1.959963984540054 * error if level == 0.95 else _normal_quantile(level) * error
    return Interval(
        whole - reach, whole + reach, level, f"delete-a-group jackknife, {groups} groups of clips"
    )


def _normal_quantile(level: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf((1 + level) / 2)


def finite(values: NDArray[Any]) -> NDArray[Any]:
    """The numbers of ``values`` that are neither NaN nor infinite, in one row."""
    return values[np.isfinite(values)]
