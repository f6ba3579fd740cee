"""The interface of diffusers: ``SemibodyPipeline.from_pretrained(dir)``, call it, ``save_pretrained(dir)``.

It is Animator under the names that users of diffusers expect.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from semibody.animator import Animator
from semibody.networks.loading import save_model
from semibody.types import Clip, Progress, silent


class SemibodyPipeline:
    """``pipeline(portrait, speech, gesture, num_inference_steps=6, guidance_scale=1.0)`` gives a Clip."""

    def __init__(self, animator: Animator) -> None:
        self.animator = animator

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, *, torch_dtype: torch.dtype | None = None, device: str = "auto"
    ) -> SemibodyPipeline:
        """Load a weights folder or a name (``starter``, ``official`` …). Raises SemibodyError."""
        precision = {None: "auto", torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
        return cls(Animator.load(folder, precision=precision[torch_dtype], device=device))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the networks, their sizes, schedule and default settings; ``from_pretrained`` reads it."""
        animator = self.animator
        save_model(Path(folder), animator.model, animator.info())

    def to(
        self, device: str | torch.device | None = None, dtype: torch.dtype | None = None
    ) -> SemibodyPipeline:
        """The same pipeline on another device or in another precision."""
        old = self.animator
        model = old.model.to(device=device, dtype=dtype)
        return SemibodyPipeline(
            Animator(model, schedule=old.schedule, defaults=old.defaults, origin=old.origin)
        )

    def __call__(
        self,
        image: Any,
        audio: Any,
        poses: Any,
        *,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        progress: Progress = silent,
        **settings: Any,
    ) -> Clip:
        """As Animator.animate, with diffusers' names for steps and guidance."""
        return self.animator.animate(
            image,
            audio,
            poses,
            steps=num_inference_steps,
            guidance=guidance_scale,
            progress=progress,
            **settings,
        )
