"""From noise to latents: every step denoises all windows, averages where they overlap, then moves on."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from semibody.diffusion.guidance import Denoise
from semibody.diffusion.windows import Window
from semibody.types import Progress, silent

STEP_FRAMES = 48
"""Frames that a solver moves on at once: it makes about ten copies of what it is given."""
COPIES = {"ddim": 3.0, "dpm++": 5.0, "unipc": 6.0}
"""Measured peak of ``sample`` in copies of the clip's latents (float32), by solver."""
AfterStep = Callable[[int, Tensor, Tensor], None]
"""Called with a step's number, its timestep and the latents (f, c, h, w), which it may change in place."""


def sample(
    denoise: Denoise,
    noise: Float[Tensor, "f c h w"],
    scheduler: Any,
    windows: Callable[[int], list[Window]],
    *,
    after_step: AfterStep | None = None,
    progress: Progress = silent,
) -> Float[Tensor, "f c h w"]:
    """Run ``scheduler`` over ``noise``; ``windows(step)`` gives the windows of a step.

    ``noise`` is overwritten: it becomes the latents, which with the prediction are all that exists for the
    whole clip (and what the solver remembers of earlier steps: ``COPIES``); conditions are made per window by
    ``denoise``. Raises FloatingPointError, naming the step, for a prediction that is not finite.
    """
    latents = noise.mul_(scheduler.init_noise_sigma)
    timesteps = scheduler.timesteps
    # Solvers remember earlier predictions, so each part of the clip has one of its own.
    parts = [slice(start, start + STEP_FRAMES) for start in range(0, len(latents), STEP_FRAMES)]
    solvers = [copy.deepcopy(scheduler) for _ in parts]
    done, total = 0, sum(len(windows(step)) for step in range(len(timesteps)))
    prediction = torch.empty_like(latents)
    for step, t in enumerate(timesteps):
        prediction.zero_()
        counts = torch.zeros(len(latents), 1, 1, 1, device=latents.device)
        for window in windows(step):
            frames = torch.tensor(window, device=latents.device)
            model_input = scheduler.scale_model_input(latents[frames], t)
            out = denoise(model_input, t.to(latents.device, torch.float32)[None], window)
            if not bool(torch.isfinite(out).all()):
                raise FloatingPointError(f"step {step + 1} of {len(timesteps)}")
            prediction.index_add_(0, frames, out.to(prediction.dtype))
            counts.index_add_(0, frames, torch.ones_like(counts[: len(window)]))
            done += 1
            progress("denoise", done, total)
        for part, solver in zip(parts, solvers, strict=True):
            mean = prediction[part] / counts[part]
            # A copy, because unipc looks back at what it was given.
            latents[part] = solver.step(mean, t, latents[part].clone(), return_dict=False)[0]
        if after_step is not None:
            after_step(step, t, latents)
    return latents
