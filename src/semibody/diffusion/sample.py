"""From noise to latents: every step denoises all windows, averages where they overlap, then moves on."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from semibody.diffusion.guidance import Denoise
from semibody.diffusion.spread import Call, Each
from semibody.diffusion.state import SamplingState
from semibody.diffusion.windows import Window
from semibody.resume import Unfinished
from semibody.types import Progress, silent

COPIES = {"ddim": 1.0, "dpm++": 4.7, "unipc": 6.5}
"""Measured peak of ``sample`` in copies of the clip's latents (float32), by solver: the latents themselves,
and what it remembers of earlier steps."""
WAITING = 4
"""Parts of the clip that hold a sum of predictions at the same time, and what a solver makes of one."""
AfterStep = Callable[[int, Tensor, Tensor], None]
"""Called with a step's number, its timestep and the latents (f, c, h, w), which it may change in place."""


def sample(
    denoise: Denoise,
    noise: Float[Tensor, "f c h w"],
    scheduler: Any,
    windows: Callable[[int], list[Window]],
    *,
    after_step: AfterStep | None = None,
    unfinished: Unfinished | None = None,
    each: Each = itertools.starmap,
    progress: Progress = silent,
) -> Float[Tensor, "f c h w"]:
    """Run ``scheduler`` over ``noise``; ``windows(step)`` gives the windows of a step.

    ``noise`` is overwritten: it becomes the latents, which are all that exists for the whole clip (and what
    the solver remembers of earlier steps: ``COPIES``); conditions are made per window by ``denoise``. With
    ``unfinished`` the state is saved there after every step, and goes on from what is saved there. ``each``
    makes a step's calls of ``denoise``, here or on several devices (``Spread``). Raises
    FloatingPointError, naming the step, for a prediction that is not finite.
    """
    timesteps = scheduler.timesteps
    state = SamplingState(noise.mul_(scheduler.init_noise_sigma), scheduler)
    if unfinished is not None:
        state.load(unfinished)
    latents = state.latents
    numbers = [len(windows(step)) for step in range(len(timesteps))]
    done = sum(numbers[: state.step]) + state.windows
    for step in range(state.step, len(timesteps)):
        t = timesteps[step]
        todo = state.begin_step(windows(step))
        # No window changes before it is predicted, so several may be under way at once.
        calls = (_call(latents, t, window, scheduler) for window in todo)
        for window, out in zip(todo, each(denoise, calls), strict=True):
            if not bool(torch.isfinite(out).all()):
                raise FloatingPointError(f"step {step + 1} of {len(timesteps)}")
            state.add(window, out, t)
            done += 1
            progress("denoise", done, sum(numbers))
            if unfinished is not None and unfinished.due():
                state.save(unfinished)
        state.end_step()
        if after_step is not None:
            after_step(step, t, latents)
        if unfinished is not None:
            state.save(unfinished)
    return latents


def _call(latents: Float[Tensor, "f c h w"], t: Tensor, window: Window, scheduler: Any) -> Call:
    """What the denoiser is given of a window."""
    given = latents[torch.tensor(window, device=latents.device)].contiguous()
    model_input = scheduler.scale_model_input(given, t)
    return model_input, t.to(latents.device, torch.float32)[None], window
