"""From noise to latents: every step denoises all windows, averages where they overlap, then moves on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from semibody.diffusion.guidance import Denoise
from semibody.diffusion.windows import Window
from semibody.types import Progress, silent


def sample(
    denoise: Denoise,
    noise: Float[Tensor, "f c h w"],
    scheduler: Any,
    windows: Callable[[int], list[Window]],
    *,
    progress: Progress = silent,
) -> Float[Tensor, "f c h w"]:
    """Run ``scheduler`` over ``noise``; ``windows(step)`` gives the windows of a step.

    Only latents exist for the whole clip; conditions are made per window by ``denoise``.
    """
    latents = noise * scheduler.init_noise_sigma
    timesteps = scheduler.timesteps
    done, total = 0, sum(len(windows(step)) for step in range(len(timesteps)))
    for step, t in enumerate(timesteps):
        prediction = torch.zeros_like(latents)
        counts = torch.zeros(len(latents), 1, 1, 1, device=latents.device)
        for window in windows(step):
            frames = torch.tensor(window, device=latents.device)
            model_input = scheduler.scale_model_input(latents[frames], t)
            out = denoise(model_input, t.to(latents.device, torch.float32)[None], window)
            prediction.index_add_(0, frames, out.to(prediction.dtype))
            counts.index_add_(0, frames, torch.ones_like(counts[: len(window)]))
            done += 1
            progress("denoise", done, total)
        latents = scheduler.step(prediction / counts, t, latents, return_dict=False)[0]
    return latents
