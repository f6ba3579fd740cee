"""Classifier-free guidance: from two predictions, one that leans towards the conditions."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from semibody.diffusion.windows import Window

Denoise = Callable[[Tensor, Tensor, Window], Tensor]
"""(latents (f, c, h, w) of a window, timestep (1,), frame numbers) -> prediction (f, c, h, w)."""


def guide(conditional: Denoise, unconditional: Denoise, scale: float) -> Denoise:
    """u + scale (c − u). At scale <= 1 the unconditional half is never computed.

    The halves run one after the other: their attention differs in length, and separately they need
    less memory and fewer operations than as one batch.
    """
    if scale <= 1.0:
        return conditional

    def denoise(latents: Float[Tensor, "f c h w"], t: Float[Tensor, " b"], window: Window) -> Tensor:
        c = conditional(latents, t, window).float()
        u = unconditional(latents, t, window).float()
        return u + scale * (c - u)

    return denoise
