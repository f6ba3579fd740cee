"""The diffusion process in formulas: noise in, targets and estimates out. ᾱ is ``alphas`` by timestep.

    z_t = √ᾱ z0 + √(1−ᾱ) ε                 add_noise
    v   = √ᾱ ε − √(1−ᾱ) z0                 target (Salimans & Ho 2022, arXiv 2202.00512, appendix D)
    z0  = √ᾱ z_t − √(1−ᾱ) v                clean_estimate

Training draws timesteps and uses all of this; the sampler (``sample``) takes the same steps backwards with a
solver (``schedule``).
"""

from __future__ import annotations

import math
from typing import Literal, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

Prediction = Literal["v_prediction", "sample", "epsilon"]
"""What a network predicts: v, the clean latents, or the noise."""

NOISE_LIMIT = 1.5
"""The first noise of a clip is clamped to ± this, as in the published code."""

Noise = TypeVar("Noise", Tensor, NDArray[np.float32])


# -- noise --------------------------------------------------------------------------------------


def share_noise(own: Noise, common: Noise, shared: float) -> Noise:
    """√(1−s) ε_own + √s ε_common: noise of unit variance, of which the share s is common to all frames.

    ``own`` (f, …), ``common`` (1, …) or of any shape that broadcasts to it.
    """
    return math.sqrt(1 - shared) * own + math.sqrt(shared) * common


def clamp_noise(noise: Noise, limit: float = NOISE_LIMIT) -> Noise:
    """Noise cut to ± ``limit``."""
    return noise.clip(-limit, limit)


# -- one timestep for each clip of a batch --------------------------------------------------------


def add_noise(
    clean: Float[Tensor, "b f c h w"],
    noise: Float[Tensor, "b f c h w"],
    alphas: Float[Tensor, " t"],
    t: Int[Tensor, " b"],
) -> Float[Tensor, "b f c h w"]:
    """z_t = √ᾱ z0 + √(1−ᾱ) ε."""
    a, s = _per_clip(alphas, t)
    return a * clean + s * noise


def target(
    prediction: Prediction, clean: Tensor, noise: Tensor, alphas: Float[Tensor, " t"], t: Int[Tensor, " b"]
) -> Tensor:
    """What the network should predict: v = √ᾱ ε − √(1−ᾱ) z0, the clean latents, or the noise."""
    if prediction == "sample":
        return clean
    if prediction == "epsilon":
        return noise
    a, s = _per_clip(alphas, t)
    return a * noise - s * clean


def clean_estimate(
    prediction: Prediction,
    predicted: Tensor,
    noisy: Tensor,
    alphas: Float[Tensor, " t"],
    t: Int[Tensor, " b"],
) -> Tensor:
    """The one-step estimate of z0 from what the network ``predicted`` of ``noisy``."""
    if prediction == "sample":
        return predicted
    a, s = _per_clip(alphas, t)
    if prediction == "v_prediction":
        return a * noisy - s * predicted
    # Where no signal is left, ε tells nothing of the picture; the floor keeps the estimate finite.
    return (noisy - s * predicted) / a.clamp(min=1e-3)


def snr_weight(
    prediction: Prediction, alphas: Float[Tensor, " t"], t: Int[Tensor, " b"], cap: float
) -> Float[Tensor, " b"]:
    """Weights of the squared error by signal-to-noise ratio r, at most ``cap`` (γ; Hang et al. 2023, arXiv
    2303.09556); ones when ``cap`` is 0. They are not normalised:

        v               min(r + 1, γ) / (r + 1)     1 up to pure noise
        ε               min(r, γ) / r               1 up to pure noise
        clean latents   min(r + 1, γ)               1 at pure noise, more from there on

    For v this is the form of Animate Anyone's open training code, whose descendants share this schedule. The
    paper's own, min(r, γ) / (r + 1), weighs what min(r, γ) does for clean latents: where a schedule ends
    without signal, as this one does, the timesteps in which the pose is decided would count nothing. The
    squared error of v is r + 1 times that of the clean latents it amounts to (``clean_estimate``), so the
    last form is the same loss as the first: the "SNR + 1" weighting of Salimans & Ho (2022, Sec. 4) with a
    cap. They rule out r alone for the same reason.
    """
    if cap <= 0:
        return torch.ones_like(alphas[t])
    signal, noise = alphas[t], 1 - alphas[t]
    if prediction == "v_prediction":
        return (cap * noise).clamp(max=1)  # r + 1 = 1 / (1 − ᾱ)
    if prediction == "epsilon":
        return (cap * noise / signal.clamp(min=1e-8)).clamp(max=1)
    return (1 / noise.clamp(min=1e-8)).clamp(max=cap)


def _per_clip(alphas: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    signal = alphas[t].view(-1, 1, 1, 1, 1)
    return signal.sqrt(), (1 - signal).sqrt()
