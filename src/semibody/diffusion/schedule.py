"""The noise schedule and the solvers: DDIM is written out here, the others are diffusers'.

The published schedule: 1000 steps, betas linear 0.00085..0.012, rescaled to zero terminal SNR,
v-prediction, trailing spacing, DDIM with eta 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from semibody.diffusion.process import Prediction, clamp_noise, share_noise
from semibody.diffusion.state import STEP_FRAMES
from semibody.types import Solver

MOST_TRAIN_STEPS = 100_000


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """How noise is added and what the network predicts; belongs to a set of weights."""

    train_steps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    zero_terminal_snr: bool = True
    """rescale the betas so that the last step is pure noise"""
    prediction: Prediction = "v_prediction"
    """what the network's output is: v, the clean latents, or the noise"""

    def __post_init__(self) -> None:
        # Solvers keep several tables of train_steps numbers.
        if not 1 <= self.train_steps <= MOST_TRAIN_STEPS:
            raise ValueError(f"train_steps must be from 1 to {MOST_TRAIN_STEPS}")
        if not 0 < self.beta_start <= self.beta_end < 1:
            raise ValueError("betas must be above 0 and below 1, beta_start not above beta_end")


class DDIM:
    """The deterministic solver (Song et al. 2021, arXiv 2010.02502, equation 12 with η 0), trailing spacing.

    Takes the place of a diffusers scheduler in ``sample``, and gives the same bits as ``DDIMScheduler``.
    Raises ValueError for more steps than were trained.
    """

    init_noise_sigma = 1.0

    def __init__(self, config: ScheduleConfig, steps: int) -> None:
        if not 1 <= steps <= config.train_steps:
            raise ValueError(f"steps must be from 1 to the schedule's train_steps, {config.train_steps}")
        self.prediction = config.prediction
        self.betas = torch.linspace(config.beta_start, config.beta_end, config.train_steps)
        if config.zero_terminal_snr:
            self.betas = without_signal_at_the_end(self.betas)
        self.alphas_cumprod = torch.cumprod(1 - self.betas, dim=0)
        self.final_alpha_cumprod = torch.tensor(1.0)
        """ᾱ of the clean latents"""
        self.stride = config.train_steps // steps
        """timesteps that one step goes back"""
        trailing = np.arange(config.train_steps, 0, -config.train_steps / steps).round().astype(np.int64) - 1
        self.timesteps = torch.from_numpy(trailing)

    def scale_model_input(self, latents: Tensor, t: Tensor) -> Tensor:  # noqa: ARG002 - others use it
        """The latents as they are: DDIM's noise has unit variance."""
        return latents

    def step(
        self, predicted: Tensor, t: Tensor, latents: Tensor, *, return_dict: Literal[False] = False
    ) -> tuple[Tensor]:
        """The latents one step before timestep ``t``, as the first of a tuple."""
        assert not return_dict
        before = t - self.stride
        alpha = self.alphas_cumprod[t]
        alpha_before = self.alphas_cumprod[before] if before >= 0 else self.final_alpha_cumprod
        signal, noise = alpha**0.5, (1 - alpha) ** 0.5
        if self.prediction == "epsilon":
            clean, epsilon = (latents - noise * predicted) / signal, predicted
        elif self.prediction == "sample":
            clean, epsilon = predicted, (latents - signal * predicted) / noise
        else:
            clean, epsilon = signal * latents - noise * predicted, signal * predicted + noise * latents
        return (alpha_before**0.5 * clean + (1 - alpha_before) ** 0.5 * epsilon,)


def without_signal_at_the_end(betas: Float[Tensor, " t"]) -> Float[Tensor, " t"]:
    """Betas whose last √ᾱ is 0 and whose first is kept (Lin et al. 2024, arXiv 2305.08891, algorithm 1)."""
    roots = torch.cumprod(1 - betas, dim=0).sqrt()
    first, last = roots[0].clone(), roots[-1].clone()
    products = ((roots - last) * (first / (first - last))) ** 2
    return 1 - torch.cat([products[:1], products[1:] / products[:-1]])


def build_scheduler(config: ScheduleConfig, solver: Solver, steps: int) -> Any:
    """A solver for ``sample``. Raises ValueError for an unknown one, or more steps than were trained."""
    return DDIM(config, steps) if solver == "ddim" else diffusers_scheduler(config, solver, steps)


def diffusers_scheduler(config: ScheduleConfig, solver: Solver, steps: int) -> Any:
    """The solver as a scheduler of diffusers with its timesteps set. Raises ValueError as build_scheduler."""
    if solver not in ("ddim", "dpm++", "unipc"):
        raise ValueError(f"unknown solver {solver}; choose ddim, dpm++ or unipc")
    import diffusers  # takes seconds

    common = {
        "num_train_timesteps": config.train_steps,
        "beta_start": config.beta_start,
        "beta_end": config.beta_end,
        "beta_schedule": "linear",
        "prediction_type": config.prediction,
        "timestep_spacing": "trailing",
        "steps_offset": 1,
        "rescale_betas_zero_snr": config.zero_terminal_snr,
    }
    if solver == "ddim":
        scheduler = diffusers.DDIMScheduler(**common, clip_sample=False)
    elif solver == "dpm++":
        scheduler = diffusers.DPMSolverMultistepScheduler(**common)
    else:
        scheduler = diffusers.UniPCMultistepScheduler(**common)
    scheduler.set_timesteps(steps)
    return scheduler


def initial_noise(
    frames: int, channels: int, height: int, width: int, *, seed: int, shared: float = 0.0,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:  # fmt: skip
    """Latents (f, c, h, w) to start from: normal noise of ``seed``, clamped to ±1.5 as published.

    Drawn on the CPU in the published layout (1, c, f, h, w), so a seed gives the same noise on every
    device; ``dtype`` is the weights' (float16 noise is the float32 noise, rounded). ``shared`` is the share
    of the noise, in variance, that is the same in all frames: what frames do not have to agree upon by
    themselves cannot flicker.
    """
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn((1, channels, frames, height, width), generator=generator, dtype=dtype)
    common = torch.randn((1, channels, 1, height, width), generator=generator, dtype=dtype)
    # In place and a few frames at a time, and given as a view: there is never a second copy of all frames.
    for few in noise.split(STEP_FRAMES, dim=2):
        few.copy_(clamp_noise(share_noise(few, common, shared) if shared > 0 else few))
    return noise[0].transpose(0, 1).float()
