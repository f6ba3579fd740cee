"""The Fréchet distance equals a float64 scipy reference; intervals cover what they claim."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semibody.evaluation import distributions
from semibody.types import Floats

linalg = pytest.importorskip("scipy.linalg", reason="scipy is the reference")


def reference(one: Floats, other: Floats) -> float:
    """As the published FID code does it: with a matrix square root."""
    a, b = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    root = linalg.sqrtm(a @ b)
    shift = one.mean(axis=0) - other.mean(axis=0)
    return float(shift @ shift + np.trace(a + b - 2 * root.real))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 12), st.floats(0.1, 5), st.floats(-3, 3))
def test_equals_scipy(seed: int, dimensions: int, spread: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(dimensions, dimensions))
    one = rng.normal(size=(200, dimensions)) @ mixing
    other = spread * rng.normal(size=(150, dimensions)) + shift
    assert distributions.frechet_distance(one, other) == pytest.approx(reference(one, other), rel=1e-6)


@pytest.mark.parametrize(
    ("n", "m", "dimensions"), [(300, 250, 40), (30, 200, 40), (200, 30, 40), (20, 30, 40)]
)
def test_the_quick_way_is_good_enough_for_standard_errors(n: int, m: int, dimensions: int) -> None:
    rng = np.random.default_rng(0)
    scale = np.exp(rng.normal(0, 2, dimensions))
    one, other = (
        rng.normal(size=(n, dimensions)) * scale,
        0.3 + rng.normal(size=(m, dimensions)) * scale[::-1],
    )
    exact = distributions.frechet_distance(one, other)
    assert distributions.frechet_distance(one, other, quick=True) == pytest.approx(exact, rel=1e-3)


def test_gaussians_in_one_dimension_by_hand() -> None:
    # Means 0 and 3, deviations 1 and 2: 9 + (1 − 2)² = 10.
    one = np.array([[-1.0], [1.0]]) / np.sqrt(2)
    other = 3 + 2 * one
    assert distributions.frechet_distance(one, other) == pytest.approx(10)


def test_equal_sets_have_no_distance_even_with_fewer_vectors_than_dimensions() -> None:
    few = np.random.default_rng(0).normal(size=(10, 64)).astype(np.float32)
    assert distributions.frechet_distance(few, few) < 1e-9


def test_fewer_vectors_than_dimensions_equal_the_exact_low_rank_answer() -> None:
    # Vectors that live in 3 of 40 dimensions: the answer is that of the 3.
    rng = np.random.default_rng(1)
    one, other = rng.normal(size=(12, 3)), rng.normal(1, 2, size=(12, 3))
    basis = np.linalg.qr(rng.normal(size=(40, 3)))[0].T
    wide = distributions.frechet_distance(one @ basis, other @ basis)
    assert wide == pytest.approx(distributions.frechet_distance(one, other), rel=1e-9)


def test_one_vector_is_too_few() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        distributions.frechet_distance(np.ones((1, 3)), np.ones((5, 3)))


def test_few_vectors_are_warned_about() -> None:
    assert "full rank" in distributions.too_few(100, 5000, 1280)
    assert "biased" in distributions.too_few(5000, 5000, 1280)
    assert distributions.too_few(20_000, 20_000, 1280) == ""


def test_bootstrap_covers_the_mean_about_as_often_as_its_level() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for number in range(200):
        interval = distributions.bootstrap_mean(rng.normal(5, 1, 30), resamples=300, seed=number)
        assert interval is not None
        covered += interval.low <= 5 <= interval.high
    assert 0.88 <= covered / 200 <= 0.99


def test_an_interval_needs_clips() -> None:
    assert distributions.bootstrap_mean([1.0]) is None
    assert distributions.bootstrap_mean([1.0, float("nan")]) is None
    assert distributions.jackknife(10, lambda kept: 0.0, 2) is None


def test_jackknife_of_a_mean_is_the_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=40)
    interval = distributions.jackknife(40, lambda kept: float(values[list(kept)].mean()), 40)
    assert interval is not None
    error = values.std(ddof=1) / np.sqrt(40)
    assert interval.high - values.mean() == pytest.approx(1.96 * error, rel=1e-4)
