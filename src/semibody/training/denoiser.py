"""The networks that denoise as one module, what conditions them, and the sampler that training runs.

Validation and the restorer's pool of generated frames are made with ``diffusion.sample``, as animating does.
"""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor, nn

from semibody.conditioning.clip import encode_portrait
from semibody.diffusion.guidance import guide
from semibody.diffusion.sample import sample
from semibody.diffusion.schedule import build_scheduler
from semibody.diffusion.windows import Window
from semibody.networks.model import Conditions, Model
from semibody.training.pictures import channels_last, to_pixels
from semibody.training.samples import DenoisingBatch
from semibody.training.settings import RecipeBase


class Denoiser(nn.Module):
    """The networks of a Model that denoise, as one module; parameters are named ``network.name``."""

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
        """What the denoiser is conditioned on."""
        model = self.model
        base = self._base(batch)
        if not batch.conditional:
            return Conditions(base=base)
        drawn = batch.pose.flatten(0, 1).to(batch.latents.dtype) / 255
        pose = model.pose_encoder(drawn).unflatten(0, batch.pose.shape[:2])
        own_map = None if batch.portrait_pose is None else batch.portrait_pose.to(batch.latents.dtype) / 255
        portrait = encode_portrait(
            model, channels_last(batch.portrait), base, own_map, compare=batch.compares_poses
        )
        has_pose = batch.has_pose.view(-1, 1, 1, 1, 1)
        made = portrait.conditions(
            model,
            pose=pose,
            audio=model.project_audio(self._audio_tokens(batch)),
            audio_mask=batch.audio_mask,
            hints={name: hint * has_pose for name, hint in batch.hints.items()},
        )
        assert made.pose is not None
        return dataclasses.replace(made, pose=made.pose * has_pose.to(made.pose.dtype))

    def _audio_tokens(self, batch: DenoisingBatch) -> Float[Tensor, "n l d"]:
        """The audio tokens of all frames; zeros, which act as no audio does, where it is dropped."""
        tokens = self.model.audio_encoder.embed(batch.rows.flatten(0, 1))
        has_audio = batch.has_audio.to(tokens.dtype).repeat_interleave(batch.rows.shape[1])
        return tokens * has_audio[:, None, None]

    @torch.no_grad()
    def _base(self, batch: DenoisingBatch) -> Float[Tensor, "b c h w"] | None:
        """``Model.base`` of the portraits or of their clean plates."""
        if batch.picture is None:
            return self.model.base(batch.portrait, None)
        plate = self.model.predict_plate(channels_last(to_pixels(batch.picture)), batch.hidden)
        return self.model.base(batch.portrait, None if plate is None else channels_last(plate))


def blank_batch(
    recipe: RecipeBase, model: Model, samples: int, frames: int, dtype: torch.dtype
) -> DenoisingBatch:
    """A batch without content, of the shapes of the recipe's, on the default device."""
    size, config = recipe.data.size, model.config
    cells, channels = size // config.vae.factor, config.vae.latent_channels
    audio = config.audio
    row = {"whisper": (5, audio.width), "wav2vec2": (audio.width,), "logmel": (80,)}[audio.kind]
    maps = torch.empty(samples, frames, 3, size, size, dtype=torch.uint8)
    one, each = torch.empty(samples, dtype=dtype), torch.empty(samples, frames, cells, cells, dtype=dtype)
    latents = torch.empty(samples, frames, channels, cells, cells, dtype=dtype)
    return DenoisingBatch(
        names=[], latents=latents, noise=latents, t=torch.empty(samples), portrait=latents[:, 0],
        portrait_pose=maps[:, 0] if config.hints.own_pose else None, compares_poses=False, picture=None,
        hidden=None, pose=maps, has_pose=one, hints={},
        rows=torch.empty(samples, frames, audio.rows_per_frame, *row, dtype=dtype), has_audio=one,
        audio_mask=each, weight=each, decoded=torch.empty(0, 5), pixels=[], inside=[], conditional=True,
    )  # fmt: skip


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
