"""The noise schedule and the solvers, which are diffusers'.

The published schedule: 1000 steps, betas linear 0.00085..0.012, rescaled to zero terminal SNR,
v-prediction, trailing spacing, DDIM with eta 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from semibody.diffusion.process import Prediction, clamp_noise, share_noise
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


def build_scheduler(config: ScheduleConfig, solver: Solver, steps: int) -> Any:
    """A diffusers scheduler with its timesteps set. Raises ValueError for an unknown solver."""
    import diffusers

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
    elif solver == "unipc":
        scheduler = diffusers.UniPCMultistepScheduler(**common)
    else:
        raise ValueError(f"unknown solver {solver}; choose ddim, dpm++ or unipc")
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
    for few in noise.split(48, dim=2):
        few.copy_(clamp_noise(share_noise(few, common, shared) if shared > 0 else few))
    return noise[0].transpose(0, 1).float()
