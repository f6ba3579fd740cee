"""A tiny decoder for the latents of Stable Diffusion: ``taesd``, an autoencoder distilled from theirs.

It needs an eighteenth of the work, and gives pictures that are a little softer. The network is diffusers'
``AutoencoderTiny``; ``semibody weights fetch taesd`` brings its weights.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from semibody.files import first_line
from semibody.networks.vae import VAEConfig
from semibody.types import SemibodyError
from semibody.weights import public

NAME = "taesd"


class TinyDecoder:
    """Takes the place of ``Model.decode``."""

    def __init__(self, network: Any) -> None:
        """``network``: an ``AutoencoderTiny`` of 4 latent channels."""
        self._network = network

    @classmethod
    def load(cls, dtype: torch.dtype, device: torch.device) -> TinyDecoder:
        """Read what was fetched. Raises SemibodyError where it is missing or damaged."""
        folder = public.find("tiny", NAME).parent
        from diffusers import AutoencoderTiny  # takes seconds

        try:
            network = AutoencoderTiny.from_pretrained(
                folder, dtype=dtype, local_files_only=True, use_safetensors=True
            )
        except Exception as error:  # its readers fail in many ways
            raise SemibodyError(
                f"{folder}: cannot be read ({first_line(error)}); remove it and run: semibody weights fetch "
                f"{NAME}"
            ) from None
        if network.config.latent_channels != VAEConfig().latent_channels:
            raise SemibodyError(
                f"{folder}: is a decoder of other latents; remove it and run: semibody weights fetch {NAME}"
            )
        return cls(network.to(device).eval().requires_grad_(False))

    def __call__(self, latents: Float[Tensor, "n 4 h w"]) -> Float[Tensor, "n 3 H W"]:
        """Scaled latents to pixels, about −1..1."""
        pixels: Tensor = self._network.decode(latents, return_dict=False)[0]
        return pixels
