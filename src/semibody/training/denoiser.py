"""The networks that denoise as one module, what conditions them, and the sampler that training runs.

Validation and the restorer's pool of generated frames are made with ``diffusion.sample``, as animating does.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from semibody.diffusion.guidance import guide
from semibody.diffusion.sample import sample
from semibody.diffusion.schedule import build_scheduler
from semibody.diffusion.windows import Window
from semibody.networks.model import Conditions, Model
from semibody.training.pictures import channels_last, to_pixels
from semibody.training.samples import DenoisingBatch
from semibody.training.settings import RecipeBase


class Denoiser(nn.Module):
    """The networks of a Model that denoise, as one module; parameters are named ``part.name``."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.reference_unet, self.denoising_unet = model.reference_unet, model.denoising_unet
        self.pose_encoder, self.audio_encoder = model.pose_encoder, model.audio_encoder
        # The model itself is kept out of the list of submodules: it also holds the autoencoder.
        self._model = [model]

    @property
    def model(self) -> Model:
        return self._model[0]

    def forward(
        self, noisy: Float[Tensor, "b f c h w"], t: Tensor, batch: DenoisingBatch
    ) -> Float[Tensor, "b f c h w"]:
        return self.model.denoise(noisy, t.float(), self.conditions(batch))

    def conditions(self, batch: DenoisingBatch) -> Conditions:
        """What the samples are denoised towards."""
        plate = self._plate(batch)
        if not batch.conditional:
            return Conditions(portrait=batch.portrait, plate=plate)
        model = self.model
        own_pose = batch.portrait_pose.float() / 255 if model.config.reference_pose else None
        frames = batch.rows.shape[1]
        pose = model.pose_features(batch.pose.float() / 255, own_pose)
        has_pose = batch.has_pose.view(-1, 1, 1, 1, 1)
        audio = model.audio_encoder.embed(batch.rows.flatten(0, 1)).unflatten(0, (-1, frames))
        return Conditions(
            portrait=batch.portrait,
            plate=plate,
            reference=model.remember(channels_last(batch.portrait), own_pose),
            audio=audio,
            audio_mask=batch.audio_mask,
            pose=pose * has_pose.to(pose.dtype),
            limbs=batch.limbs * has_pose,
        )

    @torch.no_grad()
    def _plate(self, batch: DenoisingBatch) -> Float[Tensor, "b c h w"] | None:
        """Latents of the portraits' clean plates, for models whose denoiser sees them."""
        if not self.model.config.plate_latents:
            return None
        assert self.model.plate is not None
        plate = self.model.plate(channels_last(to_pixels(batch.picture)), batch.hidden)
        return self.model.encode(channels_last(plate)).float()


def generate(denoiser: Denoiser, recipe: RecipeBase, batch: DenoisingBatch) -> Float[Tensor, "f c h w"]:
    """The latents of a batch's one sample, from its noise, with the steps, the guidance and the solver that
    the recipe's ``defaults`` name; its frames are one window."""
    (noise,), defaults = batch.noise, recipe.defaults
    conditions = denoiser.conditions(batch)

    def conditional(latents: Tensor, t: Tensor, _: Window) -> Tensor:
        return denoiser.model.denoise(latents[None], t, conditions)[0]

    def unconditional(latents: Tensor, t: Tensor, _: Window) -> Tensor:
        return denoiser.model.denoise(latents[None], t, conditions.unconditional())[0]

    return sample(
        guide(conditional, unconditional, float(defaults.get("guidance", 1.0))),
        noise,
        build_scheduler(recipe.schedule, defaults.get("solver", "ddim"), int(defaults.get("steps", 10))),
        lambda _: [list(range(len(noise)))],
    )
