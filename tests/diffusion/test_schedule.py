"""DDIM against diffusers' own scheduler, to the bit."""

from __future__ import annotations

import pytest
import torch

from semibody.diffusion.process import Prediction
from semibody.diffusion.schedule import ScheduleConfig, build_scheduler, diffusers_scheduler


@pytest.mark.parametrize("zero_snr", [True, False], ids=["zero terminal SNR", "some signal left"])
@pytest.mark.parametrize("prediction", ["v_prediction", "sample", "epsilon"])
def test_every_step_is_theirs_to_the_bit(prediction: Prediction, zero_snr: bool) -> None:
    config = ScheduleConfig(prediction=prediction, zero_terminal_snr=zero_snr)
    random = torch.Generator().manual_seed(4)
    for steps in range(1, 51):
        ours, theirs = (build(config, "ddim", steps) for build in (build_scheduler, diffusers_scheduler))
        for name in ("betas", "alphas_cumprod", "final_alpha_cumprod", "timesteps"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
        assert ours.init_noise_sigma == theirs.init_noise_sigma
        latents = torch.randn(2, 3, 4, 5, generator=random)
        for t in ours.timesteps:
            if prediction == "epsilon" and ours.alphas_cumprod[t] == 0:
                continue  # without signal, noise says nothing of the picture: both divide by 0
            assert ours.scale_model_input(latents, t) is latents
            predicted = torch.randn(2, 3, 4, 5, generator=random)
            wanted = theirs.step(predicted, t, latents, return_dict=False)[0]
            latents = ours.step(predicted, t, latents, return_dict=False)[0]
            assert torch.equal(latents, wanted), (steps, t)
        assert bool(torch.isfinite(latents).all())


def test_other_schedules_are_theirs_to_the_bit() -> None:
    config = ScheduleConfig(train_steps=37, beta_start=0.001, beta_end=0.3)
    for steps in range(1, 38):
        ours, theirs = (build(config, "ddim", steps) for build in (build_scheduler, diffusers_scheduler))
        assert torch.equal(ours.timesteps, theirs.timesteps)
        assert torch.equal(ours.alphas_cumprod, theirs.alphas_cumprod)


def test_more_steps_than_were_trained() -> None:
    with pytest.raises(ValueError, match=r"steps must be from 1 to .* 37"):
        build_scheduler(ScheduleConfig(train_steps=37), "ddim", 38)
