"""The noise schedule and the solvers, which are diffusers'.

The published schedule: 1000 steps, betas linear 0.00085..0.012, rescaled to zero terminal SNR,
v-prediction, trailing spacing, DDIM with eta 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch

from semibody.types import Solver


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """How noise is added and what the network predicts; belongs to a set of weights."""

    train_steps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    zero_terminal_snr: bool = True
    """rescale the betas so that the last step is pure noise"""
    prediction: Literal["v_prediction", "sample", "epsilon"] = "v_prediction"
    """what the network's output is: v, the clean latents, or the noise"""


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
    if shared > 0:
        common = torch.randn((1, channels, 1, height, width), generator=generator, dtype=dtype)
        noise.mul_(math.sqrt(1 - shared)).add_(math.sqrt(shared) * common)
    return noise.clamp_(-1.5, 1.5)[0].transpose(0, 1).float().contiguous()
