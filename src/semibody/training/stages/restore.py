"""The stage of the restorer, on frames the finished denoiser generates.

A restorer trained on encoded and decoded true pictures would not learn to correct the denoiser's errors. So
samples are generated first (``restore.pool`` of them, once, stored on disk), from noise, with the sampler the
weights are trained for; and the clean plates of their portraits, for a restorer that is conditioned on them.
Then the restorer alone is trained: on whole pictures, and in a share of the steps (``restore.crops``) on
crops about a face or a hand, several for each whole picture. With ``restore.adversarial`` a critic
(``critic.py``) is trained beside it to distinguish restored frames from true ones, and its adversarial loss
is added.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from semibody.data.dataset import PackedClip
from semibody.networks.audio_encoders import LogMelEncoder
from semibody.networks.model import Model
from semibody.networks.restorer import Restorer
from semibody.training.batches import Batch, Generator, generator
from semibody.training.critic import Critic, add_adversarial, adversarial_losses
from semibody.training.crops import face_or_hand
from semibody.training.curriculum import final
from semibody.training.denoiser import Denoiser, generate
from semibody.training.losses import of_mean_one, picture_terms
from semibody.training.parts import part_weights
from semibody.training.pictures import to_picture, to_pixels
from semibody.training.pool import Pool
from semibody.training.samples import DenoisingBatch, DenoisingSamples, Draw, Drawing, PortraitFrame
from semibody.training.settings import RecipeBase, StageSettings, renamed
from semibody.training.stages.base import Context, Stage, digest
from semibody.training.stages.denoise import (
    MotionStage,
    StillStage,
    export_model,
    held_out_batch,
    held_out_draw,
)
from semibody.training.validation import Scores, mouth_figures
from semibody.types import Picture, Progress, silent

_POOL = 2**31
"""A step larger than any in a training: samples of the pool are drawn with it."""
_CELLS = ("lips",)
"""Arrays of a sample that are in latent cells; the rest is in pixels."""
_WHOLE = ("mouth", "name")
"""Values of a sample that a crop does not cut."""


@dataclass(frozen=True, kw_only=True)
class RestoreSettings(StageSettings):
    """The restorer, on frames that the finished denoiser generates; all other networks are frozen."""

    frames: int = 2
    """frames of a clip that share one portrait"""
    pool: int = 2500
    """samples that are generated before the first step, each with its own clip, frames and portrait"""
    crops: float = 0.0
    """share of steps on crops about a face or a hand instead of whole pictures"""
    crop_samples: int = 4
    """crops in such a step for each sample of the batch"""
    crop_cells: int = 16
    """side of such a crop in latent cells"""
    gradient: float = 1.0
    """weight of the multi-scale gradient difference"""
    ssim: float = 0.1
    """weight of 1 − SSIM"""
    change: float = 0.0
    """weight of the mean absolute error of what changes from one frame to the next"""
    adversarial: float = 0.0
    """weight of the adversarial loss (``training.critic``); 0: without a critic"""
    lips: float = 1.0
    """factor in the box of the lips"""
    face: float = 1.0
    """factor in the box of the face"""
    hands: float = 1.0
    """factor in the boxes of the hands, and where the portrait's hands were"""
    arms: float = 1.0
    """factor along the arms, and where the portrait's arms were"""

    @staticmethod
    def read_old_keys(values: Mapping[str, Any]) -> dict[str, Any]:
        """``rival`` under its name of today."""
        return renamed(values, {"rival": "adversarial"})


@dataclass(frozen=True, kw_only=True)
class RestoringBatch(Batch):
    """Generated frames, their truth and what the restorer is conditioned on; pictures and maps are uint8."""

    decoded: Tensor
    """(b, f, 3, H, W) generated frames as the autoencoder gives them"""
    truth: Tensor
    """(b, f, 3, H, W)"""
    maps: Tensor
    """(b, f, 3, H, W) their pose maps"""
    limbs: Tensor | None
    """(b, f, 4, H, W) the portrait's arms and hands carried to the pose, and their cover, for restorers
    conditioned on them"""
    portrait: Tensor
    """(b, 3, H, W)"""
    decoded_portrait: Tensor
    """(b, 3, H, W)"""
    portrait_map: Tensor
    """(b, 3, H, W)"""
    plate: Tensor
    """(b, 3, H, W) the portrait without arms and hands; the portrait itself for models without plates"""
    lips: Float[Tensor, "b 1 h w"]
    """where the mouth is, in latent cells"""
    mouth: Float[Tensor, "b f 2"]
    """its opening and width as the audio encoder predicts them; zeros for models that do not"""
    weight: Float[Tensor, "b f 1 H W"]


class Restored(NamedTuple):
    """Restored frames, and the critic's terms where there is one."""

    pixels: Float[Tensor, "n 3 H W"]
    adversarial: dict[str, Tensor]
    """the terms of ``critic.adversarial_losses``; empty without a critic"""


class Restoring(nn.Module):
    """Encode the portraits, restore their frames, apply the critic: as one module, to be distributed."""

    def __init__(self, restorer: Restorer, critic: Critic | None, largest: float) -> None:
        """``largest``: the largest weight of a pixel in the critic's terms."""
        super().__init__()
        self.restorer, self.critic, self.largest = restorer, critic, largest

    def forward(self, batch: RestoringBatch) -> Restored:
        encoded = self.restorer.encode(
            to_pixels(batch.portrait),
            to_pixels(batch.decoded_portrait),
            batch.portrait_map.float() / 255,
            batch.lips,
            to_pixels(batch.plate),
        )
        decoded, maps, mouth, truth = (
            x.flatten(0, 1) for x in (batch.decoded, batch.maps, batch.mouth, batch.truth)
        )
        limbs = None if batch.limbs is None else batch.limbs.flatten(0, 1)
        decoded, maps = to_pixels(decoded), maps.float() / 255
        restored = self.restorer(decoded, maps, encoded, mouth, limbs)
        if self.critic is None or not self.training:
            return Restored(restored, {})
        weight = batch.weight.flatten(0, 1).clamp(max=self.largest)
        condition = torch.cat([decoded, maps], dim=1)
        terms = adversarial_losses(self.critic, restored, to_pixels(truth), condition, weight)
        return Restored(restored, terms)


class RestoreStage(Stage[RestoreSettings]):
    """Trains the restorer on L1, gradients, SSIM, change and an adversarial loss, weighted by body parts."""

    name: ClassVar[str] = "restore"
    source: ClassVar[int] = 5
    needs: ClassVar[tuple[type[Stage[Any]], ...]] = (StillStage, MotionStage)
    columns: ClassVar[str] = "portrait | generated | restored | truth (held-out people)"
    card_figures: ClassVar[tuple[str, ...]] = ("psnr",)

    @classmethod
    def check(cls, recipe: RecipeBase) -> None:
        if recipe.model.restorer is None:
            raise ValueError(f"the stage {cls.name} needs model.restorer, for example model.restorer = {{}}")

    @classmethod
    def build(cls, context: Context) -> Self:
        context.find_portraits()
        with context.seeded():
            given = context.given is not None and context.given.config.unet.motion
            motion = given or context.final(MotionStage) is not None
            model = context.model(motion=motion, restorer=True, plate=True)
        model.to(context.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        settings = cls.settings_in(context.recipe)
        drawing = Drawing(
            stage=cls.name,
            source=cls.source,
            frames=settings.frames,
            steps=settings.optimiser.steps,
            consecutive=motion,
        )
        store = context.encode(model)
        samples = DenoisingSamples(
            context.recipe, drawing, model.config, context.clips, store, model.audio_encoder
        )
        with context.seeded():
            stage = cls(context, model, samples)
        context.ranks.share(range(settings.pool), lambda numbers: stage.prepare(numbers, context.progress))
        return stage

    def __init__(self, context: Context, model: Model, samples: DenoisingSamples) -> None:
        super().__init__(context)
        assert model.restorer is not None
        self.model, self.samples = model, samples
        self.frames = samples.window
        self.window = MotionStage.settings_in(context.recipe).frames
        model.requires_grad_(False)
        model.restorer.requires_grad_(True)
        self.denoiser = Denoiser(model)
        pool, plates = self._pools(context.out)
        self.pool, self.plates = Pool(pool), Pool(plates)
        critic = Critic(condition=6) if self.settings.adversarial > 0 else None
        # Lips have by far the largest weight, so that they follow the audio. The critic is for texture, so
        # its weights are limited to that of hands.
        self.module: Restoring = Restoring(model.restorer, critic, largest=self.settings.hands)

    def export(self, folder: Path, step: int) -> None:
        export_model(folder, self.model, self.recipe, self.window, f"stage {self.name}, step {step}")

    # -- generated samples --------------------------------------------------------------------

    def _pools(self, out: Path) -> tuple[Path, Path]:
        """The folders of generated samples and of clean plates, named by a hash of all they depend on."""
        recipe, data, model = self.recipe, self.recipe.data, self.model
        drawn = [
            recipe.seed,
            self.frames,
            data.size,
            data.fps,
            data.gap,
            data.calm,
            data.other_clip,
            data.found_portraits,
        ]
        sampled = [recipe.schedule, recipe.noise, recipe.defaults]
        names = sorted(clip.id for clip in self.clips)
        plate = [] if model.plate is None else [model.plate]
        conditioning = plate if model.config.hints.base == "plate" else []
        generating = dataclasses.replace(
            model.config, restorer=None, plate=model.config.plate if conditioning else None
        )
        key = digest([*drawn, *sampled, generating, *names], self.denoiser, model.vae, *conditioning)
        plates = digest([*drawn, model.config.plate, *names], *plate)
        return out / f"generated-{key}", out / f"plates-{plates}"

    def prepare(self, numbers: Iterable[int], progress: Progress = silent) -> None:
        """Generate the samples and plates of the pool that are missing."""
        device = next(self.module.parameters()).device

        def make(number: int) -> Mapping[str, NDArray[Any]]:
            batch = self.samples.stack([self.samples.to_generate(*self._chosen(number))], conditional=True)
            return self._generated(batch.to(device))

        def predict_plate(number: int) -> Mapping[str, NDArray[Any]]:
            return {"plate": self._plate(self._chosen(number)[0].portrait, device)}

        numbers = list(numbers)
        self.pool.fill(numbers, make, progress=progress)
        if self.model.plate is not None:
            self.plates.fill(numbers, predict_plate, progress=progress)

    def _chosen(self, number: int) -> tuple[Draw, Generator]:
        """The frames of a sample of the pool, and the generator of its noise."""
        rng = generator(self.recipe.seed, self.source, _POOL, number)
        # No padded heads: their border is padding, and half-body clips have heads too.
        decided = dataclasses.replace(final(self.recipe.curriculum), head_share=0.0)
        return self.samples.choose(rng, decided), rng

    @torch.no_grad()
    def _generated(self, batch: DenoisingBatch) -> dict[str, NDArray[Any]]:
        """One sample: frames and portrait as decoded, and the audio encoder's prediction of the mouth."""
        assert batch.portrait_pose is not None, "a restorer comes with the portrait's own pose map"
        with self.autocast():
            decoded = self.model.decode(generate(self.denoiser, self.recipe, batch))
            decoded_portrait = self.model.decode(batch.portrait)
            encoder, mouth = self.model.audio_encoder, torch.zeros(self.frames, 2)
            if isinstance(encoder, LogMelEncoder) and encoder.config.mouth_token:
                mouth = encoder.predict_mouth(batch.rows[0])
        return {
            "decoded": to_picture(decoded).transpose(0, 3, 1, 2),
            "decoded_portrait": to_picture(decoded_portrait)[0].transpose(2, 0, 1),
            "maps": batch.pose[0].cpu().numpy(),
            "portrait_map": batch.portrait_pose[0].cpu().numpy(),
            "lips": batch.audio_mask[0, :1].float().cpu().numpy(),
            "mouth": mouth.float().cpu().numpy(),
        }

    @torch.no_grad()
    def _plate(self, portrait: PortraitFrame, device: torch.device) -> NDArray[np.uint8]:
        """(3, H, W): a portrait's clean plate, the portrait itself for models without one."""
        picture = portrait.clip.pictures([portrait.frame])[0]
        hidden = self.samples.evidence(portrait).hidden()
        if hidden is None:
            return picture.transpose(2, 0, 1)
        pixels = to_pixels(torch.from_numpy(picture).permute(2, 0, 1)[None]).to(device)
        with self.autocast():
            plate = self.model.predict_plate(pixels, torch.from_numpy(hidden)[None].to(device))
        assert plate is not None
        return to_picture(plate)[0].transpose(2, 0, 1)

    # -- a step -------------------------------------------------------------------------------

    def batch(self, step: int, samples: Sequence[int]) -> RestoringBatch:
        settings = self.settings
        # A whole step has crops or whole pictures, so that its batch is one forward pass.
        crops = generator(self.recipe.seed, self.source, step, _POOL).random() < settings.crops
        times = settings.crop_samples if crops else 1
        numbers = [times * number + k for number in samples for k in range(times)]
        return RestoringBatch.stacked([self._sample(step, number, crop=crops) for number in numbers])

    def _sample(self, step: int, number: int, *, crop: bool) -> dict[str, Any]:
        rng = generator(self.recipe.seed, self.source, step, number)
        of_pool = int(rng.integers(self.settings.pool))
        draw, _ = self._chosen(of_pool)
        known = self.pool.read(of_pool) | (self.plates.read(of_pool) if self.model.plate is not None else {})
        made = self._pictures(known, draw)
        return self._cropped(made, draw, rng) if crop else made

    def _pictures(self, generated: Mapping[str, NDArray[Any]], draw: Draw) -> dict[str, Any]:
        """A generated sample with its portrait, its truth and the weight of each pixel."""
        clip, portrait, size = draw.clip, draw.portrait, draw.clip.size
        labels = clip.labels(draw.frames)
        (portrait_labels,) = portrait.clip.labels([portrait.frame])
        weight = part_weights(self.settings, labels, portrait_labels, size, size)
        picture = portrait.clip.pictures([portrait.frame])[0]
        return {
            "plate": picture.transpose(2, 0, 1),
            **generated,
            "portrait": picture.transpose(2, 0, 1),
            "limbs": self.samples.evidence(portrait).carried(picture, [one.pose for one in labels]),
            "truth": clip.pictures(draw.frames).transpose(0, 3, 1, 2),
            "weight": weight[:, None],
            "name": f"{clip.id}:{draw.frames[0]}",
        }

    def _cropped(self, made: dict[str, Any], draw: Draw, rng: Generator) -> dict[str, Any]:
        """A square about the face or a hand of one of the frames, off centre by up to a quarter."""
        cell, side = self.model.vae.factor, self.settings.crop_cells
        box = face_or_hand(rng, draw.clip.boxes(draw.frames[int(rng.integers(len(draw.frames)))]))
        x0, y0, x1, y1 = (0.0, 0.0, 1.0, 1.0) if box is None else box
        cells = draw.clip.size // cell
        middle = np.array([y0 + y1, x0 + x1]) / 2 * cells + rng.uniform(-side / 4, side / 4, 2)
        top, left = np.rint(middle - side / 2).astype(int).clip(0, max(0, cells - side))

        def cut(name: str, array: NDArray[Any]) -> NDArray[Any]:
            k = 1 if name in _CELLS else cell
            return array[..., top * k : (top + side) * k, left * k : (left + side) * k]

        return {
            name: value if name in _WHOLE or value is None else cut(name, value)
            for name, value in made.items()
        }

    def losses(self, module: nn.Module, batch: RestoringBatch) -> dict[str, Tensor]:
        settings = self.settings
        restored, adversarial = module(batch)
        restored = restored.float()
        truth, weight = to_pixels(batch.truth.flatten(0, 1)), of_mean_one(batch.weight.flatten(0, 1))
        terms = picture_terms(restored, truth, weight, gradient=settings.gradient, ssim_share=settings.ssim)
        if self.frames > 1 and settings.change > 0:
            # The error that two frames share cancels. What remains is flicker and wrong motion.
            error = (restored - truth).unflatten(0, (-1, self.frames)).diff(dim=1)
            change = (error.abs() * weight.unflatten(0, (-1, self.frames))[:, 1:]).mean()
            terms |= {"loss": terms["loss"] + settings.change * change, "change": change}
        return add_adversarial(terms, adversarial, settings.adversarial)

    # -- validation ---------------------------------------------------------------------------

    def validate_clip(self, clip: PackedClip, number: int, scores: Scores) -> list[Picture]:
        """PSNR of ``psnr*`` restored, ``plain*`` unrestored, ``repeat*`` the portrait.

        ``mouth_change`` and ``mouth_ratio`` as for the denoiser, of restored frames. Returns portrait,
        generated, restored and true picture.
        """
        device = next(self.module.parameters()).device
        draw = held_out_draw(clip, self.frames)
        batch = held_out_batch(self.samples, draw, number).to(device)
        plate = self._plate(draw.portrait, device)
        plain, restored = self._restored(batch, draw, plate)
        truth, portrait = clip.pictures(draw.frames), clip.pictures([0])[0]
        for i, frame in enumerate(draw.frames):
            scores.add("psnr", restored[i], truth[i], clip, frame)
            scores.add("plain", plain[i], truth[i], clip, frame)
            scores.add("repeat", portrait, truth[i], clip, frame)

        def with_audio_of(frame: int) -> Picture:
            return self._restored(self.samples.with_audio_of(batch, clip, frame), draw, plate)[1][-1]

        scores.update(mouth_figures(clip, draw.frames[-1], with_audio_of))
        return [portrait, plain[-1], restored[-1], truth[-1]]

    def _restored(
        self, given: DenoisingBatch, draw: Draw, plate: NDArray[np.uint8]
    ) -> tuple[Picture, Picture]:
        """Generated frames as the autoencoder decodes them, and restored."""
        known = {**self._generated(given), "plate": plate}
        batch = RestoringBatch.stacked([self._pictures(known, draw)]).to(given.latents.device)
        with self.autocast():
            restored = to_picture(self.module(batch).pixels)
        return batch.decoded[0].permute(0, 2, 3, 1).cpu().numpy(), restored
