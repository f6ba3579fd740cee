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
    assert torch.allclose(scheduler.step(v, torch.tensor(999), noisy)[0], clean, atol=1e-4)


# By hand, from betas on a line 0.00085 … 0.012, rescaled to end without signal: the signal ᾱ of a timestep,
# its ratio to noise r = ᾱ / (1 − ᾱ), and the weights at a cap of 5: min(r + 1, 5) / (r + 1) of v,
# min(r, 5) / r of ε (1 where r is 0), min(r + 1, 5) of the clean latents.
MIN_SNR = (
    # t, ᾱ, v, ε, clean latents
    (999, 0.0, 1.0, 1.0, 1.0),
    (900, 0.0010117, 1.0, 1.0, 1.0010127),
    (700, 0.0237984, 1.0, 1.0, 1.0243786),
    (500, 0.1415126, 1.0, 1.0, 1.1648394),
    (100, 0.8620884, 0.6895578, 0.7998690, 5.0),
)
COLUMNS = {"v_prediction": 2, "epsilon": 3, "sample": 4}


@pytest.mark.parametrize("kind", KINDS)
def test_min_snr_weights_are_those_of_a_table_by_hand(kind: str) -> None:
    t = torch.tensor([row[0] for row in MIN_SNR])
    assert ALPHAS[t].tolist() == pytest.approx([row[1] for row in MIN_SNR], rel=1e-3, abs=1e-7)
    ours = snr_weight(kind, ALPHAS, t, 5.0)  # type: ignore[arg-type]
    assert ours.tolist() == pytest.approx([row[COLUMNS[kind]] for row in MIN_SNR], rel=1e-3, abs=1e-7)
    assert torch.equal(snr_weight(kind, ALPHAS, t, 0.0), torch.ones(5))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "share"), [("v_prediction", 0.1081), ("epsilon", 0.1073), ("sample", 0.0513)]
)
def test_min_snr_leaves_the_pose_phase_its_share(kind: str, share: float) -> None:
    """A tenth of the timesteps. For v and ε all weigh 1 there and those near clean pictures less: a little
    more than a tenth of the weight. For clean latents the others weigh up to 5."""
    weight = snr_weight(kind, ALPHAS, torch.arange(1000), 5.0)  # type: ignore[arg-type]
    assert float(weight[900:].sum() / weight.sum()) == pytest.approx(share, abs=1e-4)


def test_min_snr_of_clean_latents_is_the_same_loss_as_that_of_v() -> None:
    """The error that a wrong prediction makes, measured on v and on the clean latents it amounts to."""
    torch.manual_seed(0)
    clean, noise, wrong = torch.randn(3, 5, 1, 1, 4, 4)
    t = torch.tensor([row[0] for row in MIN_SNR])
    noisy = add_noise(clean, noise, ALPHAS, t)
    v = target("v_prediction", clean, noise, ALPHAS, t)
    estimate = clean_estimate("v_prediction", v + wrong, noisy, ALPHAS, t)
    of_v = wrong.square().mean(dim=(1, 2, 3, 4)) * snr_weight("v_prediction", ALPHAS, t, 5.0)
    of_clean = (estimate - clean).square().mean(dim=(1, 2, 3, 4)) * snr_weight("sample", ALPHAS, t, 5.0)
    torch.testing.assert_close(of_v, of_clean, rtol=1e-4, atol=1e-6)


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
