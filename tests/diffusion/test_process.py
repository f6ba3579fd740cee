"""The formulas of the diffusion process, against each other and against diffusers' solver."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from semibody.diffusion.process import (
    add_noise,
    clamp_noise,
    clean_estimate,
    share_noise,
    snr_weight,
    target,
)
from semibody.diffusion.schedule import ScheduleConfig, build_scheduler

ALPHAS = build_scheduler(ScheduleConfig(), "ddim", 1).alphas_cumprod.float()
KINDS = ("v_prediction", "sample", "epsilon")


@pytest.mark.parametrize("kind", KINDS)
def test_the_estimate_undoes_the_noise(kind: str) -> None:
    torch.manual_seed(0)
    clean, noise = torch.randn(2, 3, 2, 1, 4, 4)
    t = torch.tensor([40, 700, 900])
    noisy = add_noise(clean, noise, ALPHAS, t)
    wanted = target(kind, clean, noise, ALPHAS, t)  # type: ignore[arg-type]
    estimate = clean_estimate(kind, wanted, noisy, ALPHAS, t)  # type: ignore[arg-type]
    assert torch.allclose(estimate, clean, atol=2e-4)


def test_the_target_is_the_one_the_sampler_undoes() -> None:
    """One DDIM step from pure noise with the true v ends at the clean latents."""
    scheduler = build_scheduler(ScheduleConfig(), "ddim", 1)
    clean, noise = torch.randn(2, 1, 1, 4, 8, 8)
    t = torch.tensor([999])
    v = target("v_prediction", clean, noise, ALPHAS, t)
    noisy = add_noise(clean, noise, ALPHAS, t)
    assert torch.allclose(scheduler.step(v, 999, noisy).prev_sample, clean, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_min_snr_weights_are_equal_in_terms_of_the_clean_picture(kind: str) -> None:
    """Whatever is predicted, the error of the estimate weighs min(snr, cap)."""
    t = torch.tensor([50, 400, 800])
    snr = ALPHAS[t] / (1 - ALPHAS[t])
    of_clean = {"sample": torch.ones(3), "epsilon": 1 / snr, "v_prediction": 1 / (snr + 1)}[kind]
    ours = snr_weight(kind, ALPHAS, t, 5.0)  # type: ignore[arg-type]
    assert torch.allclose(ours, snr.clamp(max=5.0) * of_clean, rtol=1e-4)
    assert torch.equal(snr_weight(kind, ALPHAS, t, 0.0), torch.ones(3))  # type: ignore[arg-type]


def test_noise_is_the_same_in_numpy_and_torch() -> None:
    rng = np.random.default_rng(0)
    own, common = (rng.standard_normal((n, 2, 16, 16), np.float32) for n in (5, 1))
    made = clamp_noise(share_noise(own, common, 0.4))
    theirs = clamp_noise(share_noise(torch.from_numpy(own), torch.from_numpy(common), 0.4))
    np.testing.assert_array_equal(made, theirs.numpy())
    assert np.abs(made).max() == 1.5
    whole = share_noise(own, common, 0.4)
    assert whole.var() == pytest.approx(1, abs=0.1)
    assert np.corrcoef(whole.reshape(5, -1))[0, 1] == pytest.approx(0.4, abs=0.1)
