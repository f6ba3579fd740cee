"""Classifier-free guidance: from two predictions, one that leans towards the conditions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from semibody.diffusion.windows import Window

Denoise = Callable[[Tensor, Tensor, Window], Tensor]
"""(latents (f, c, h, w) of a window, timestep (1,), frame numbers) -> prediction (f, c, h, w)."""


@dataclass(frozen=True)
class Interval:
    """The part of the steps in which predictions are guided (Kynkäänniemi et al. 2024, arXiv 2404.07724):
    in the first ones guidance costs variety, in the last ones it changes next to nothing."""

    start: float = 0.0
    """share of the steps before it"""
    stop: float = 1.0
    """share of the steps up to its end"""

    def holds(self, done: float) -> bool:
        """Whether a step is guided before which the share ``done`` of the steps is done."""
        rounded = done + 0.0005  # timesteps are whole numbers, of which there are about a thousand
        return self.start <= rounded < self.stop


def guide(
    conditional: Denoise,
    unconditional: Denoise,
    scale: float,
    during: Callable[[Tensor], bool] = lambda t: True,  # noqa: ARG005
) -> Denoise:
    """u + scale (c − u), or c alone at timesteps that are not in ``during``. At scale <= 1 the unconditional
    half is never computed.

    The halves run one after the other: their attention differs in length, and separately they need
    less memory and fewer operations than as one batch.
    """
    if scale <= 1.0:
        return conditional

    def denoise(latents: Float[Tensor, "f c h w"], t: Float[Tensor, " b"], window: Window) -> Tensor:
        c = conditional(latents, t, window).float()
        if not during(t):
            return c
        u = unconditional(latents, t, window).float()
        return u + scale * (c - u)

    return denoise
