"""The diffusion process in formulas: noise in, targets and estimates out. ᾱ is ``alphas`` by timestep.

    z_t = √ᾱ z0 + √(1−ᾱ) ε                 add_noise
    v   = √ᾱ ε − √(1−ᾱ) z0                 target (Salimans & Ho 2022, arXiv 2202.00512, appendix D)
    z0  = √ᾱ z_t − √(1−ᾱ) v                clean_estimate

Training draws timesteps and uses all of this; the sampler (``sample``) takes the same steps backwards with a
solver of diffusers (``schedule``).
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
    """min-SNR weights of the squared error (Hang et al. 2023, arXiv 2303.09556, eq. 5 and appendix), in terms
    of the prediction; ones when ``cap`` is 0."""
    if cap <= 0:
        return torch.ones_like(alphas[t])
    snr = alphas[t] / (1 - alphas[t]).clamp(min=1e-8)
    capped = snr.clamp(max=cap)
    if prediction == "sample":
        return capped
    return capped / (snr + 1) if prediction == "v_prediction" else capped / snr.clamp(min=1e-8)


def _per_clip(alphas: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    signal = alphas[t].view(-1, 1, 1, 1, 1)
    return signal.sqrt(), (1 - signal).sqrt()
