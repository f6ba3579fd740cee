"""PSNR and SSIM equal scikit-image's; flicker and drift are felt where they are."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import made
from semibody.evaluation import frames

skimage_metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is the reference")


def pair(seed: int, strength: float) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    one = made.picture(40, 56)
    other = np.clip(one + rng.normal(0, strength, one.shape), 0, 255).astype(np.uint8)
    return one, other


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(0.5, 100))
def test_psnr_and_ssim_equal_scikit_image(seed: int, strength: float) -> None:
    one, other = pair(seed, strength)
    if (one == other).all():
        return
    assert frames.psnr(one, other) == pytest.approx(
        skimage_metrics.peak_signal_noise_ratio(other, one, data_range=255), abs=1e-9
    )
    reference = skimage_metrics.structural_similarity(
        one,
        other,
        channel_axis=2,
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert frames.ssim(one, other) == pytest.approx(reference, abs=2e-6)


def test_identical_pictures() -> None:
    one, _ = pair(0, 1.0)
    assert frames.psnr(one, one) == math.inf
    assert frames.ssim(one, one) == 1.0


@pytest.mark.parametrize(
    ("values", "mean"),
    [([math.inf, math.inf], math.inf), ([math.inf, 20.0], 60.0), ([10.0, 30.0], 20.0)],
)
def test_mean_psnr_counts_identical_frames_as_100_db(values: list[float], mean: float) -> None:
    assert frames.mean_psnr(np.array(values)) == mean


def test_pictures_of_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in size"):
        frames.psnr(made.picture(20, 20), made.picture(20, 22))
    with pytest.raises(ValueError, match="larger than 10"):
        frames.ssim(made.picture(8, 8), made.picture(8, 8))


def flicker(deviation: float, region: str) -> float:
    """Mean flicker of a still video to which noise of this deviation is added in the left half only."""
    rng = np.random.default_rng(0)
    still = np.full((32, 32, 3), 128, np.uint8)
    left = np.zeros((32, 32), bool)
    left[:, :16] = True
    regions = {"face": left, "rest": ~left}
    watch, seen = frames.Stillness(), []
    for _ in range(8):
        noisy = still + rng.normal(0, deviation, still.shape) * left[..., None]
        values = watch.add(np.clip(noisy, 0, 255).astype(np.uint8), still, regions)
        seen.append(values[f"flicker/{region}"])
    assert all(math.isnan(value) for value in seen[:2])
    return float(np.mean(seen[2:]))


def test_flicker_grows_with_noise_where_the_noise_is() -> None:
    grown = [flicker(deviation, "face") for deviation in (0, 2, 4, 8)]
    assert grown == sorted(grown)
    assert grown[0] == 0
    assert flicker(8, "rest") < 0.1 * grown[-1]


def test_flicker_ignores_what_moves_in_the_real_video() -> None:
    rng = np.random.default_rng(0)
    watch = frames.Stillness()
    whole = {"rest": np.ones((16, 16), bool)}
    for _ in range(4):
        moving = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        values = watch.add(moving, moving, whole)
    assert math.isnan(values["flicker/rest"]) or values["flicker/rest"] == 0
    assert values["drift"] == 0 or math.isnan(values["drift"])


def test_regions_come_from_boxes() -> None:
    boxes = {"face": np.array([0.0, 0.0, 0.5, 0.5]), "left_hand": np.full(4, np.nan)}
    regions = frames.boxes_to_regions(boxes, 8, 16)
    assert regions["face"].sum() == 4 * 8
    assert not regions["hands"].any()
    assert (regions["rest"] == ~regions["face"]).all()


def test_psnr_of_a_part_depends_on_that_part_alone() -> None:
    real = np.full((16, 16, 3), 100, np.uint8)
    bad = real.copy()
    bad[:4, :4] = 110
    corner = np.zeros((16, 16), bool)
    corner[:4, :4] = True
    assert frames.psnr(bad, real, corner) == pytest.approx(10 * math.log10(255**2 / 100))
    assert math.isinf(frames.psnr(bad, real, ~corner))
    assert math.isnan(frames.psnr(bad, real, np.zeros((16, 16), bool)))


def test_energy_of_changes_is_separated_by_where_the_real_video_moves() -> None:
    rng = np.random.default_rng(0)
    real, made = [], []
    for t in range(6):
        picture = np.full((32, 32, 3), 90, np.uint8)
        picture[:, 4 * t : 4 * t + 8] = 200
        real.append(picture)
        noisy = picture.astype(float)
        noisy[24:] += rng.normal(0, 12, (8, 32, 1))  # the lower rows flicker
        made.append(noisy.clip(0, 255).astype(np.uint8))

    def total(video: list[Any]) -> dict[str, float]:
        changes = frames.ChangeEnergy()
        rows = [changes.add(a, b) for a, b in zip(video, real, strict=True)]
        assert all(math.isnan(value) for value in rows[0].values())
        return {name: sum(row[name] for row in rows[1:]) for name in rows[0]}

    same, flickering, frozen = total(real), total(made), total([real[0]] * 6)
    assert same["energy/moving"] == same["real-energy/moving"] > 0
    assert flickering["energy/still"] > 10 + same["energy/still"]
    assert frozen["energy/moving"] == 0


def test_edges_off_their_place_are_no_flicker_away_from_them() -> None:
    """A bar that comes along three pixels late changes still pixels, but only beside those that move."""

    def bar(left: int) -> NDArray[np.uint8]:
        picture = np.full((32, 64, 3), 90, np.uint8)
        picture[:, left : left + 8] = 200
        return picture

    changes, noise = frames.ChangeEnergy(), np.random.default_rng(0)
    flickering = frames.ChangeEnergy()
    for t in range(4):
        late = changes.add(bar(11 + 4 * t), bar(8 + 4 * t))
        noisy = bar(8 + 4 * t)
        noisy[:, 48:] += noise.integers(0, 20, (32, 16, 1), dtype=np.uint8)
        values = flickering.add(noisy, bar(8 + 4 * t))
    assert late["energy/still"] > 100
    assert late["energy/away"] == 0
    assert values["energy/away"] > 1
