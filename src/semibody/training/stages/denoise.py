"""The stages that denoise: single frames (``still``), then motion modules on clips (``motion``).

L_latent, and the phase-specific terms on decoded one-step estimates (``training.losses``). Both stages
validate with the sampler the weights are trained for.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from semibody.data.dataset import PackedClip
from semibody.diffusion.process import add_noise, clean_estimate, snr_weight, target
from semibody.diffusion.schedule import build_scheduler
from semibody.files import exists
from semibody.networks.loading import save_model
from semibody.networks.model import Model
from semibody.training import curriculum, lora
from semibody.training.checkpoint import Snapshot
from semibody.training.denoiser import Denoiser, blank_batch, generate
from semibody.training.losses import change_loss, latent_loss, perceptual_network, phase_terms
from semibody.training.pictures import channels_last, to_picture, to_pixels
from semibody.training.samples import DenoisingBatch, DenoisingSamples, Draw, Drawing, PortraitFrame
from semibody.training.settings import RecipeBase, StageSettings
from semibody.training.stages.base import Context, Rehearsal, Stage
from semibody.training.stages.keypoints import KeypointStage
from semibody.training.start import fill
from semibody.training.validation import Scores, flicker, mouth_figures
from semibody.types import Picture


@dataclass(frozen=True, kw_only=True)
class DenoisingSettings(StageSettings):
    """Settings of both stages."""

    frames: int = 1
    """frames of a sample"""


@dataclass(frozen=True, kw_only=True)
class StillSettings(DenoisingSettings):
    """First stage, single frames: both U-Nets, pose encoder, audio."""

    frames: int = 1
    """random frames of a clip that share one portrait, so that the reference network encodes it once"""


@dataclass(frozen=True, kw_only=True)
class MotionSettings(DenoisingSettings):
    """Second stage, clips: motion modules only."""

    frames: int = 24
    """frames of a window"""


D = TypeVar("D", bound=DenoisingSettings)


class DenoisingStage(Stage[D]):
    """Common to both stages: L_latent and the phase-specific terms on decoded estimates."""

    module: Denoiser
    columns: ClassVar[str] = "portrait | pose | generated | truth (held-out people)"
    card_figures: ClassVar[tuple[str, ...]] = ("psnr",)

    @classmethod
    def build(cls, context: Context) -> Self:
        context.find_portraits()
        with context.seeded():
            model = cls.start(context)
        model.to(context.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        drawing, store = cls.drawing(context.recipe), context.encode(model)
        samples = DenoisingSamples(
            context.recipe, drawing, model.config, context.clips, store, model.audio_encoder
        )
        stage = cls(context, model, samples)
        stage.load_loss_networks(context)
        return stage

    @classmethod
    @abstractmethod
    def start(cls, context: Context) -> Model:
        """The networks that the stage starts from."""

    @classmethod
    def rehearse(cls, recipe: RecipeBase, samples: int) -> Rehearsal:
        """Without the frozen networks of the loss, which see small crops."""
        settings, unet = cls.settings_in(recipe), recipe.model.unet
        unet = dataclasses.replace(unet, motion=unet.motion and cls is MotionStage)
        model = Model(dataclasses.replace(recipe.model, unet=unet, restorer=None))
        module = Denoiser(model)
        model.requires_grad_(False)
        for name, parameter in module.named_parameters():
            pretrained = name.startswith("audio_encoder.encoder.")
            parameter.requires_grad_(recipe.start.trains(name) and cls.trains(name) and not pretrained)
        model.denoising_unet.recompute = model.reference_unet.recompute = recipe.run.recompute
        loss = recipe.loss
        crops = -(-samples // loss.decode_every) if loss.decodes else 0

        def forward(dtype: torch.dtype) -> Tensor:
            batch = blank_batch(recipe, model, samples, settings.frames, dtype)
            predicted = module(batch.latents.clone().requires_grad_(), batch.t, batch)
            total = predicted.float().square().mean()
            if crops:
                side = loss.decode_cells or predicted.shape[-1]
                total = (
                    total + model.vae.decode(predicted[:crops, 0, :, :side, :side].to(dtype)).float().mean()
                )
            return total

        return Rehearsal(module, (model.vae,), forward)

    @classmethod
    def drawing(cls, recipe: RecipeBase) -> Drawing:
        """How it draws its samples."""
        settings = cls.settings_in(recipe)
        return Drawing(
            stage=cls.name, source=cls.source, frames=settings.frames, steps=settings.optimiser.steps
        )

    @classmethod
    def load_into(cls, final: Snapshot, model: Model, source: str) -> None:
        fill(Denoiser(model), final.weights, source)

    def __init__(self, context: Context, model: Model, samples: DenoisingSamples) -> None:
        super().__init__(context)
        self.model, self.samples = model, samples
        self.frames = samples.window
        self.window = MotionStage.settings_in(context.recipe).frames
        self.heat_maps: Any = None
        self.perceptual: Any = None
        self.module = Denoiser(model)
        model.vae.requires_grad_(False)
        if (pretrained := getattr(model.audio_encoder, "encoder", None)) is not None:
            pretrained.requires_grad_(False)  # its rows are encoded once
        model.denoising_unet.recompute = model.reference_unet.recompute = self.recipe.run.recompute
        rank = self.recipe.start.lora_rank
        if rank:
            lora.inject(self.module, rank, self._is_trained, seed=self.recipe.seed)
        for name, parameter in self.module.named_parameters():
            chosen = self._is_trained(name) and (not rank or lora.is_adapter(name))
            parameter.requires_grad_(parameter.requires_grad and chosen)
        self.alphas = build_scheduler(self.recipe.schedule, "ddim", 1).alphas_cumprod.float()

    def load_loss_networks(self, context: Context) -> None:
        """The frozen networks of L_pose and L_low, where these have a weight."""
        loss = self.recipe.loss
        if loss.pose > 0 and loss.pose_from < self.recipe.schedule.train_steps:
            self.heat_maps = KeypointStage.trained(context).heat_maps
        if loss.low > 0:
            self.perceptual = perceptual_network(self.recipe.perceptual).to(context.device)

    def _is_trained(self, name: str) -> bool:
        return self.recipe.start.trains(name) and self.trains(name)

    @staticmethod
    @abstractmethod
    def trains(name: str) -> bool:
        """Whether the stage trains a parameter."""

    def export(self, folder: Path, step: int) -> None:
        export_model(folder, self.model, self.recipe, self.window, f"stage {self.name}, step {step}")

    # -- a step -------------------------------------------------------------------------------

    def batch(self, step: int, samples: Sequence[int]) -> DenoisingBatch:
        return self.samples.batch(step, samples)

    def losses(self, module: nn.Module, batch: DenoisingBatch) -> dict[str, Tensor]:
        loss, kind, device = self.recipe.loss, self.recipe.schedule.prediction, batch.latents.device
        alphas = self.alphas = self.alphas.to(device)  # once: the copy waits for the device
        t = batch.t.to(device, non_blocking=True)
        noisy = self.noisy(batch, alphas, t)
        predicted = module(noisy, t, batch)
        wanted = target(kind, batch.latents, batch.noise, alphas, t)
        each = latent_loss(predicted, wanted, batch.weight)
        terms = {"latent": (each * snr_weight(kind, alphas, t, loss.min_snr)).mean()}
        total = terms["latent"]
        estimate = clean_estimate(kind, predicted.float(), noisy, alphas, t)
        for name, value in self.extra_terms(estimate, batch).items():
            terms[name] = value
            total = total + getattr(loss, name) * value
        return {"loss": total, **terms}

    def noisy(self, batch: DenoisingBatch, alphas: Tensor, t: Tensor) -> Float[Tensor, "b f c h w"]:
        """The noisy latents, the denoiser's input."""
        return add_noise(batch.latents, batch.noise, alphas, t)

    def extra_terms(self, estimate: Float[Tensor, "b f c h w"], batch: DenoisingBatch) -> dict[str, Tensor]:
        """The terms besides L_latent, by the names of their weights in ``LossSettings``."""
        if not len(batch.decoded) or not batch.conditional:
            return {}
        # Scaled to the mean over the whole batch, as if every sample were decoded.
        return {
            name: values.sum() * self.recipe.loss.decode_every / len(batch.latents)
            for name, values in self._phase_terms(estimate, batch).items()
        }

    def _phase_terms(
        self, estimate: Float[Tensor, "b f c h w"], batch: DenoisingBatch
    ) -> dict[str, Float[Tensor, " d"]]:
        rows = batch.decoded.tolist()
        # Decoders mix cells: in the padding the estimate is the truth, so that no gradient leads there.
        unpadded = (batch.weight > 0)[:, :, None]
        estimate = torch.where(unpadded, estimate, batch.latents.to(estimate.dtype))
        cut = torch.stack([estimate[b, f, :, y : y + s, x : x + s] for b, f, y, x, s in rows])
        decoded = self._decode(cut)
        with self.autocast():
            return phase_terms(
                decoded,
                to_pixels(torch.stack(batch.pixels)),
                batch.t[batch.decoded[:, 0]],
                self.recipe.loss,
                heat_maps=self.heat_maps,
                perceptual=self.perceptual,
                inside=torch.stack(batch.inside),
            )

    def _decode(self, latents: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 3 H W"]:
        """Decode with gradient; the decoder's activations are computed again in the backward pass."""
        from torch.utils.checkpoint import checkpoint

        latents = channels_last(latents)
        with self.autocast():
            if self.recipe.run.recompute:
                return checkpoint(self.model.vae.decode, latents, use_reentrant=False).float()
            return self.model.vae.decode(latents).float()

    # -- validation -----------------------------------------------------------------------

    def validate_clip(self, clip: PackedClip, number: int, scores: Scores) -> list[Picture]:
        """Generate it with the sampler the weights are trained for; PSNR against the truth.

        ``psnr*`` generated, ``repeat*`` the portrait repeated, ``ceiling*`` the autoencoder's picture of
        the truth; whole picture, face and hands. ``one_step`` is the loss at pure noise. ``mouth_change``
        and ``mouth_ratio``: see ``mouth_figures``. Returns portrait, pose, generated and true picture.
        """
        with self.autocast():
            return self._validate_clip(clip, number, scores)

    def _validate_clip(self, clip: PackedClip, number: int, scores: Scores) -> list[Picture]:
        draw = held_out_draw(clip, self.frames)
        batch = held_out_batch(self.samples, draw, number).to(next(self.module.parameters()).device)
        made = to_picture(self.model.decode(generate(self.module, self.recipe, batch)))
        ceiling = to_picture(self.model.decode(batch.latents[0]))
        truth, portrait = clip.pictures(draw.frames), clip.pictures([0])[0]
        for i, frame in enumerate(draw.frames):
            scores.add("psnr", made[i], truth[i], clip, frame)
            scores.add("repeat", portrait, truth[i], clip, frame)
            scores.add("ceiling", ceiling[i], truth[i], clip, frame)
        scores.update({"one_step": self._one_step_error(batch)})

        def with_audio_of(frame: int) -> Picture:
            other = self.samples.with_audio_of(batch, clip, frame)
            return to_picture(self.model.decode(generate(self.module, self.recipe, other)[-1:]))[0]

        scores.update(mouth_figures(clip, draw.frames[-1], with_audio_of))
        scores.update(self.clip_figures(made, truth))
        pose = batch.pose[0, -1].permute(1, 2, 0).cpu().numpy()
        return [portrait, pose, made[-1], truth[-1]]

    def clip_figures(self, made: Picture, truth: Picture) -> dict[str, float]:  # noqa: ARG002
        """Figures of generated consecutive frames (f, H, W, 3)."""
        return {}

    def _one_step_error(self, batch: DenoisingBatch) -> float:
        device = batch.latents.device
        t = torch.full((1,), self.recipe.schedule.train_steps - 1, device=device)
        alphas = self.alphas.to(device)
        noisy = add_noise(batch.latents, batch.noise, alphas, t)
        predicted = self.module(noisy, t, batch)
        estimate = clean_estimate(self.recipe.schedule.prediction, predicted.float(), noisy, alphas, t)
        return float((estimate - batch.latents).square().mean())


class StillStage(DenoisingStage[StillSettings]):
    """Trains all but the motion modules on single frames, by the curriculum."""

    name: ClassVar[str] = "still"
    source: ClassVar[int] = 3

    @classmethod
    def plan(cls, recipe: RecipeBase) -> list[tuple[str, str]]:
        steps = cls.settings_in(recipe).optimiser.steps
        blocks = curriculum.described(recipe.curriculum, steps)
        return [*super().plan(recipe), *((f"  {name}", text) for name, text in blocks)]

    @classmethod
    def start(cls, context: Context) -> Model:
        return context.model(motion=False, restorer=False, plate=context.recipe.model.hints.base == "plate")

    @classmethod
    def drawing(cls, recipe: RecipeBase) -> Drawing:
        return dataclasses.replace(super().drawing(recipe), curriculum=True)

    @staticmethod
    def trains(name: str) -> bool:
        return curriculum.trains("mixed", name)

    def frozen(self, step: int) -> list[str]:
        block = self.samples.curriculum_step(step).block
        return [name for name, _ in self.module.named_parameters() if not curriculum.trains(block, name)]


class MotionStage(DenoisingStage[MotionSettings]):
    """Trains the motion modules only, on consecutive frames."""

    name: ClassVar[str] = "motion"
    source: ClassVar[int] = 4
    needs: ClassVar[tuple[type[Stage[Any]], ...]] = (StillStage,)

    @classmethod
    def check(cls, recipe: RecipeBase) -> None:
        if not recipe.model.unet.motion:
            raise ValueError(f"the stage {cls.name} needs model.unet.motion = true")
        if cls.settings_in(recipe).frames > recipe.model.unet.motion_frames:
            raise ValueError(f"{cls.name}.frames is longer than model.unet.motion_frames")

    @classmethod
    def start(cls, context: Context) -> Model:
        return context.model(motion=True, restorer=False, plate=context.recipe.model.hints.base == "plate")

    @classmethod
    def drawing(cls, recipe: RecipeBase) -> Drawing:
        return dataclasses.replace(super().drawing(recipe), consecutive=True)

    @staticmethod
    def trains(name: str) -> bool:
        return curriculum.is_motion(name)

    def noisy(self, batch: DenoisingBatch, alphas: Tensor, t: Tensor) -> Float[Tensor, "b f c h w"]:
        # torch 2.13 crashes in GroupNorm's backward pass (CPU, channels last) when only its weights
        # require a gradient, so the first motion module's input must require one too.
        return super().noisy(batch, alphas, t).requires_grad_()

    def extra_terms(self, estimate: Float[Tensor, "b f c h w"], batch: DenoisingBatch) -> dict[str, Tensor]:
        terms = {}
        if self.recipe.loss.change > 0:
            terms["change"] = change_loss(estimate, batch.latents, batch.weight).mean()
        return {**terms, **super().extra_terms(estimate, batch)}

    def clip_figures(self, made: Picture, truth: Picture) -> dict[str, float]:
        return {"flicker": flicker(made, truth)}


def held_out_draw(clip: PackedClip, frames: int) -> Draw:
    """The last frames of a clip and its first as their portrait: the farthest apart."""
    return Draw(clip, list(range(len(clip) - frames, len(clip))), PortraitFrame(clip, 0))


def held_out_batch(samples: DenoisingSamples, draw: Draw, number: int) -> DenoisingBatch:
    """A held-out clip as a batch of one sample; ``number`` is the clip's and decides its noise."""
    made = samples.to_generate(draw, np.random.default_rng([7, number]))
    return samples.stack([made], conditional=True)


def _sources(recipe: RecipeBase) -> list[str]:
    """Where the weights come from that the recipe starts from, for metadata; folders by their names."""
    start = recipe.start
    named = [start.weights] if start.weights else list(dict.fromkeys(start.public.values()))
    return (
        ["from " + ", ".join(Path(one).name if exists(Path(one)) else one for one in named)] if named else []
    )


def export_model(folder: Path, model: Model, recipe: RecipeBase, window: int, made: str) -> None:
    """Write a model as a weights folder; ``window`` is the number of frames its motion modules trained on."""
    defaults: dict[str, Any] = {"width": recipe.data.size, "height": recipe.data.size, "fps": recipe.data.fps}
    if model.config.unet.motion:
        defaults |= {"window": window, "overlap": window // 4, "shift": max(1, window // 4)}
    else:
        # Frames are generated independently of each other: windows need not overlap.
        defaults |= {"overlap": 0, "shift": 0}
    info = {
        "schedule": dataclasses.asdict(recipe.schedule),
        "defaults": {**defaults, **recipe.defaults},
        "origin": ", ".join([f"recipe {recipe.name}", made, *_sources(recipe)]),
    }
    save_model(folder, model, info)
