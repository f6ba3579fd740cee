"""The four stages as tasks of the loop: autoencoder, keypoints, stills, motion."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from semibody.conditioning.clip import encode_portrait
from semibody.data.dataset import PackedClip
from semibody.diffusion.schedule import build_scheduler
from semibody.networks.model import Conditions, Model
from semibody.networks.vae import VAE
from semibody.training import curriculum, lora
from semibody.training.keypoints import JOINTS, KeypointNetwork, blobs, find, heat_map_loss
from semibody.training.losses import (
    Compare,
    add_noise,
    change_loss,
    clean_estimate,
    latent_loss,
    phase_terms,
    picture_terms,
    snr_weight,
    target_of,
)
from semibody.training.parts import HANDS, coverage
from semibody.training.recipe import Recipe, StageName
from semibody.training.samples import CropBatch, CropSamples, DenoisingBatch, DenoisingSamples

Picture = NDArray[np.uint8]


def to_pixels(pictures: Tensor) -> Float[Tensor, "n 3 H W"]:
    """uint8 (n, 3, H, W) to −1..1."""
    return pictures.float() / 127.5 - 1


def to_picture(pixels: Float[Tensor, "n 3 H W"]) -> Picture:
    """−1..1 to uint8 (n, H, W, 3)."""
    levels = ((pixels.float() / 2 + 0.5).clamp(0, 1) * 255).round()
    return levels.to("cpu", torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def psnr(a: Picture, b: Picture) -> float:
    """Peak signal-to-noise ratio of 8-bit pictures in dB; 99 when they are equal."""
    error = np.square(a.astype(np.float64) - b.astype(np.float64)).mean()
    return 99.0 if error == 0 else float(10 * np.log10(255**2 / error))


def grid(rows: Sequence[Sequence[Picture]]) -> Picture:
    """Pictures of one size side by side and below each other."""
    return np.ascontiguousarray(np.concatenate([np.concatenate(list(row), axis=1) for row in rows]))


# -- autoencoder ------------------------------------------------------------------------------


class _AutoencoderPass(nn.Module):
    """Encode, add noise to the latents, decode: as one module, so that it can be distributed."""

    def __init__(self, vae: VAE) -> None:
        super().__init__()
        self.vae = vae

    def forward(
        self, pixels: Float[Tensor, "n 3 H W"], noise: Float[Tensor, "n c h w"] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.vae.distribution(pixels)
        latents = mean
        if noise is not None:
            spread = mean.detach().float().std()
            latents = mean + noise.to(mean.dtype) * spread
        return self.vae.decode(latents * self.vae.config.scale), mean, log_variance


class VAETask:
    """L1, multi-scale gradients and SSIM on crops, faces and hands counting more; noise on the latents."""

    stage: StageName = "vae"
    frames = 1

    def __init__(
        self, recipe: Recipe, vae: VAE, clips: Sequence[PackedClip], held_out: Sequence[PackedClip]
    ) -> None:
        self.recipe, self.settings, self.held_out = recipe, recipe.vae, list(held_out)
        self.vae = vae
        self.module: nn.Module = _AutoencoderPass(vae)
        for name, parameter in self.module.named_parameters():
            parameter.requires_grad_(recipe.start.trains(name))
        self.samples = CropSamples(
            recipe,
            "vae",
            clips,
            side=self.settings.crop,
            on_parts=self.settings.on_parts,
            factor=self.settings.parts,
        )

    def batch(self, step: int, samples: Sequence[int]) -> _Noisy:
        crops = self.samples.batch(step, samples)
        side = crops.pixels.shape[-1] // self.vae.factor
        shape = (len(samples), self.vae.config.latent_channels, side, side)
        seeds = [[self.recipe.seed, 101, step, number] for number in samples]
        noise = np.stack([np.random.default_rng(s).standard_normal(shape[1:], np.float32) for s in seeds])
        return _Noisy(**vars(crops), noise=torch.from_numpy(noise) * self.settings.noise)

    def losses(self, module: nn.Module, batch: _Noisy) -> dict[str, Tensor]:
        pixels, weight = to_pixels(batch.pixels), batch.weight
        seen, mean, log_variance = module(channels_last(pixels), batch.noise)
        settings = self.settings
        terms = picture_terms(
            seen.float(), pixels, weight, gradient=settings.gradient, ssim_share=settings.ssim
        )
        mean, log_variance = mean.float(), log_variance.float()
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        return {**terms, "loss": terms["loss"] + settings.kl * kl, "kl": kl}

    def frozen(self, step: int) -> list[str]:  # noqa: ARG002 - all of it trains all the time
        return []

    @torch.no_grad()
    def validate(self) -> tuple[dict[str, float], Picture | None]:
        device = next(self.vae.parameters()).device
        rows, scores = [], Scores()
        for clip in self.held_out[: self.recipe.run.validation_clips]:
            frame = len(clip) // 2
            truth = clip.pictures([frame])[0]
            pixels = to_pixels(torch.from_numpy(truth).permute(2, 0, 1)[None]).to(device)
            seen = to_picture(self.vae.decode(self.vae.encode(pixels)))[0]
            scores.add("psnr", seen, truth, clip, frame)
            rows.append([truth, seen])
        return scores.means(), grid(rows) if rows else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Noisy(CropBatch):
    noise: Tensor


class Scores:
    """PSNR of whole picture, face and hands, gathered over clips."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}

    def add(self, name: str, made: Picture, truth: Picture, clip: PackedClip, frame: int) -> None:
        regions = {"": (0.0, 0.0, 1.0, 1.0)}
        boxes = clip.boxes(frame)
        if "face" in boxes:
            regions["_face"] = tuple(boxes["face"])
        for hand in HANDS:
            if hand in boxes:
                regions[f"_{hand}"] = tuple(boxes[hand])
        size = truth.shape[0]
        for region, (x0, y0, x1, y1) in regions.items():
            cut = (
                slice(int(y0 * size), max(int(y0 * size) + 4, int(np.ceil(y1 * size)))),
                slice(int(x0 * size), max(int(x0 * size) + 4, int(np.ceil(x1 * size)))),
            )
            label = "_hands" if region.endswith("hand") else region
            self.values.setdefault(f"{name}{label}", []).append(psnr(made[cut], truth[cut]))

    def update(self, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            self.values.setdefault(name, []).append(value)

    def means(self) -> dict[str, float]:
        return {name: float(np.mean(values)) for name, values in self.values.items()}


# -- keypoints --------------------------------------------------------------------------------


class KeypointTask:
    """Soft heat maps of joints on crops, from the truth."""

    stage: StageName = "keypoints"
    frames = 1

    def __init__(
        self,
        recipe: Recipe,
        network: KeypointNetwork,
        clips: Sequence[PackedClip],
        held_out: Sequence[PackedClip],
    ) -> None:
        self.recipe, self.network, self.held_out = recipe, network, list(held_out)
        self.module: nn.Module = network
        self.samples = CropSamples(
            recipe, "keypoints", clips, side=recipe.keypoints.crop, on_parts=0.6, factor=1.0
        )

    def batch(self, step: int, samples: Sequence[int]) -> CropBatch:
        return self.samples.batch(step, samples)

    def losses(self, module: nn.Module, batch: CropBatch) -> dict[str, Tensor]:
        logits = module(channels_last(to_pixels(batch.pixels)))
        height, width = logits.shape[2:]
        rows = list(JOINTS)
        joints, confidence = batch.joints[:, rows], batch.confidence[:, rows]
        scale = torch.tensor([width, height], device=joints.device)
        wanted = blobs(joints * scale, (confidence >= 0.5).float(), height, width)
        # A joint that is hidden (0.3) may or may not be drawn; only seen and absent ones teach.
        known = ((confidence >= 0.5) | (confidence < 0.05)).float()
        return {"loss": heat_map_loss(logits, wanted, known)}

    def frozen(self, step: int) -> list[str]:  # noqa: ARG002
        return []

    @torch.no_grad()
    def validate(self) -> tuple[dict[str, float], Picture | None]:
        """Share of seen joints found within 5 % of the picture, and the mean error of those found."""
        device = next(self.network.parameters()).device
        hits, errors = [], []
        for clip in self.held_out[: self.recipe.run.validation_clips]:
            frame = len(clip) // 2
            truth = torch.from_numpy(clip.pictures([frame])[0]).permute(2, 0, 1)[None].to(device)
            where, _ = find(self.network.heat_maps(to_pixels(truth)))
            pose = clip.pose(frame)
            seen = pose.confidence[list(JOINTS)] >= 0.5
            off = np.linalg.norm(where[0].cpu().numpy() - pose.joints[list(JOINTS)], axis=1)[seen]
            hits.append((off < 0.05).mean() if len(off) else np.nan)
            errors.append(np.median(off) if len(off) else np.nan)
        return {"found": float(np.nanmean(hits)), "median_error": float(np.nanmean(errors))}, None


# -- denoising --------------------------------------------------------------------------------


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
        model, hints = self.model, self.model.config.hints
        base = self._base(batch)
        if not batch.conditional:
            return Conditions(base=base)
        own_map = batch.portrait_pose.float() / 255 if hints.own_pose else None
        portrait = encode_portrait(
            model, channels_last(batch.portrait), base, own_map, compare=hints.pose == "change"
        )
        pose = model.pose_encoder(batch.pose.flatten(0, 1).float() / 255).unflatten(0, batch.pose.shape[:2])
        has_pose = batch.has_pose.view(-1, 1, 1, 1, 1)
        made = portrait.conditions(
            model,
            pose=pose,
            audio=model.project_audio(model.audio_encoder.embed(batch.rows.flatten(0, 1))),
            audio_mask=batch.audio_mask,
            limbs=batch.limbs * has_pose if hints.limbs else None,
        )
        assert made.pose is not None
        return dataclasses.replace(made, pose=made.pose * has_pose.to(made.pose.dtype))

    @torch.no_grad()
    def _base(self, batch: DenoisingBatch) -> Float[Tensor, "b c h w"] | None:
        """Latents of the portraits or of their clean plates."""
        if self.model.config.hints.base == "portrait":
            return self.model.base(batch.portrait, None)
        plate = self.model.predict_plate(channels_last(to_pixels(batch.picture)), batch.hidden)
        return self.model.base(batch.portrait, None if plate is None else channels_last(plate))


class DenoisingTask:
    """Stills or motion: L_latent and the phase-specific terms on decoded estimates."""

    def __init__(
        self,
        recipe: Recipe,
        stage: curriculum.Stage,
        model: Model,
        samples: DenoisingSamples,
        held_out: Sequence[PackedClip],
        *,
        heat_maps: Any = None,
        perceptual: Compare | None = None,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.stage: StageName = stage
        self._stage: curriculum.Stage = stage
        self.recipe, self.model, self.samples = recipe, model, samples
        self.held_out = list(held_out)
        self.frames = samples.window
        self.module: nn.Module = Denoiser(model)
        self.heat_maps, self.perceptual = heat_maps, perceptual
        self.autocast = autocast
        model.vae.requires_grad_(False)
        model.denoising_unet.recompute = model.reference_unet.recompute = recipe.run.recompute
        rank = recipe.start.lora_rank
        if rank:
            lora.inject(self.module, rank, self._ever_trains, seed=recipe.seed)
        for name, parameter in self.module.named_parameters():
            chosen = self._ever_trains(name) and (not rank or lora.is_adapter(name))
            parameter.requires_grad_(parameter.requires_grad and chosen)
        self.alphas = build_scheduler(recipe.schedule, "ddim", 1).alphas_cumprod.float()

    def _ever_trains(self, name: str) -> bool:
        return self.recipe.start.trains(name) and curriculum.trains(self._stage, "mixed", name)

    def frozen(self, step: int) -> list[str]:
        if self.stage == "motion":
            return []
        block = self.samples.moment(step).block
        return [n for n, _ in self.module.named_parameters() if not curriculum.trains("still", block, n)]

    def batch(self, step: int, samples: Sequence[int]) -> DenoisingBatch:
        return self.samples.batch(step, samples)

    def losses(self, module: nn.Module, batch: DenoisingBatch) -> dict[str, Tensor]:
        recipe, alphas = self.recipe, self.alphas.to(batch.latents.device)
        kind = recipe.schedule.prediction
        noisy = add_noise(batch.latents, batch.noise, alphas, batch.t)
        if self.stage == "motion":
            # torch 2.13 crashes in GroupNorm's backward pass (CPU, channels last) when only its weights,
            # not its input, want a gradient: so the first motion module's input must want one.
            noisy.requires_grad_()
        said = module(noisy, batch.t, batch)
        target = target_of(kind, batch.latents, batch.noise, alphas, batch.t)
        each = latent_loss(said, target, batch.weight)
        latent = (each * snr_weight(kind, alphas, batch.t, recipe.loss.min_snr)).mean()
        losses = {"latent": latent}
        total = latent
        estimate = clean_estimate(kind, said.float(), noisy, alphas, batch.t)
        if self.stage == "motion" and recipe.loss.change > 0:
            losses["change"] = change_loss(estimate, batch.latents, batch.weight).mean()
            total = total + recipe.loss.change * losses["change"]
        if len(batch.decoded) and batch.conditional:
            for name, values in self._phase_terms(estimate, batch).items():
                # The mean over the whole batch, as if every sample had been decoded.
                losses[name] = values.sum() * self.recipe.loss.decode_every / len(batch.latents)
                total = total + getattr(recipe.loss, name) * losses[name]
        return {"loss": total, **losses}

    def _phase_terms(
        self, estimate: Float[Tensor, "b f c h w"], batch: DenoisingBatch
    ) -> dict[str, Float[Tensor, " d"]]:
        rows = batch.decoded.tolist()
        cut = torch.stack([estimate[b, f, :, y : y + s, x : x + s] for b, f, y, x, s in rows])
        seen = self._decode(cut)
        with self.autocast():
            return phase_terms(
                seen,
                to_pixels(torch.stack(batch.pixels)),
                batch.t[batch.decoded[:, 0]],
                self.recipe.loss,
                heat_maps=self.heat_maps,
                perceptual=self.perceptual,
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

    @torch.no_grad()
    def validate(self) -> tuple[dict[str, float], Picture | None]:
        """Generate held-out clips with the sampler the weights are meant for; PSNR against the truth.

        ``psnr*`` generated, ``repeat*`` the portrait repeated, ``ceiling*`` the autoencoder's picture of
        the truth; whole picture, face and hands. ``one_step`` is the loss at pure noise. ``mouth_change``
        and ``mouth_ratio``: what the sound of an open instead of a shut mouth changes, see ``mouth_figures``.
        """
        scores, rows = Scores(), []
        clips = self.held_out[: self.recipe.run.validation_clips]
        with self.autocast():
            for number, clip in enumerate(clips):
                batch = self._validation_batch(clip, number)
                latents = self._generate(batch)[0]
                made = to_picture(self.model.decode(latents))
                ceiling = to_picture(self.model.decode(batch.latents[0]))
                frames = self._validation_frames(clip)
                truth = clip.pictures(frames)
                portrait = clip.pictures([0])[0]
                for i, frame in enumerate(frames):
                    scores.add("psnr", made[i], truth[i], clip, frame)
                    scores.add("repeat", portrait, truth[i], clip, frame)
                    scores.add("ceiling", ceiling[i], truth[i], clip, frame)
                scores.update({"one_step": self._one_step_error(batch)})

                def heard(frame: int, clip: PackedClip = clip, batch: DenoisingBatch = batch) -> Picture:
                    told = self.samples.hearing(batch, clip, frame)
                    return to_picture(self.model.decode(self._generate(told)[0, -1:]))[0]

                scores.update(mouth_figures(clip, frames[-1], heard))
                if self.stage == "motion":
                    scores.update({"flicker": flicker(made, truth)})
                pose = batch.pose[0, -1].permute(1, 2, 0).cpu().numpy()
                rows.append([portrait, pose, made[-1], truth[-1]])
        return scores.means(), grid(rows[:8]) if rows else None

    def _validation_frames(self, clip: PackedClip) -> list[int]:
        # The last frames: farthest from the portrait, which is the first.
        return list(range(len(clip) - self.frames, len(clip)))

    def _validation_batch(self, clip: PackedClip, number: int) -> DenoisingBatch:
        made = self.samples.to_generate(
            clip, self._validation_frames(clip), clip, 0, np.random.default_rng([7, number])
        )
        batch = self.samples.stack([made], conditional=True)
        return batch.to(next(self.module.parameters()).device)

    def _one_step_error(self, batch: DenoisingBatch) -> float:
        device = batch.latents.device
        t = torch.full((1,), self.recipe.schedule.train_steps - 1, device=device)
        alphas = self.alphas.to(device)
        noisy = add_noise(batch.latents, batch.noise, alphas, t)
        said = self.module(noisy, t, batch)
        estimate = clean_estimate(self.recipe.schedule.prediction, said.float(), noisy, alphas, t)
        return float((estimate - batch.latents).square().mean())

    def _generate(self, batch: DenoisingBatch) -> Float[Tensor, "b f c h w"]:
        assert isinstance(self.module, Denoiser)
        return generate(self.module, self.recipe, batch)


def generate(denoiser: Denoiser, recipe: Recipe, batch: DenoisingBatch) -> Float[Tensor, "b f c h w"]:
    """Sample from the batch's noise with the steps and guidance the weights are meant for."""
    steps = int(recipe.defaults.get("steps", 10))
    guidance = float(recipe.defaults.get("guidance", 1.0))
    scheduler = build_scheduler(recipe.schedule, "ddim", steps)
    conditions, latents = denoiser.conditions(batch), batch.noise
    for t in scheduler.timesteps:
        when = t.to(latents.device, torch.float32)[None]
        said = denoiser.model.denoise(latents, when, conditions).float()
        if guidance != 1.0:
            without = denoiser.model.denoise(latents, when, conditions.unconditional()).float()
            said = without + guidance * (said - without)
        latents = scheduler.step(said, t, latents, return_dict=False)[0]
    return latents


def mouth_figures(clip: PackedClip, frame: int, heard: Callable[[int], Picture]) -> dict[str, float]:
    """How much the same sample changes with the sound of the most open instead of the most shut mouth.

    ``heard(i)`` gives the picture of ``frame`` with the sound of frame i. ``mouth_change`` is the mean
    difference of pixels (0..255) in the box of the lips, ``mouth_ratio`` that over the mean difference in
    the rest of the picture. Empty for a clip without lips in ``frame`` or whose mouth hardly moves.
    """
    jaw, boxes = clip.jaw(), clip.boxes(frame)
    if "lips" not in boxes or float(np.ptp(jaw)) < 0.1:
        return {}
    wide, shut = (heard(int(i)).astype(np.float64) for i in (jaw.argmax(), jaw.argmin()))
    change = np.abs(wide - shut).mean(axis=2)
    inside = coverage(boxes["lips"], *change.shape) > 0.5
    lips, rest = float(change[inside].mean()), float(change[~inside].mean())
    return {"mouth_change": lips, "mouth_ratio": lips / max(rest, 1e-3)}


def flicker(made: Picture, truth: Picture) -> float:
    """Energy of differences between frames, generated over true."""
    a, b = (np.square(np.diff(x.astype(np.float64), axis=0)).mean() for x in (made, truth))
    return float(a / max(b, 1e-9))


def channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def load_perceptual(recipe: Recipe) -> Any:
    """The network behind L_low, or None when the loss does not use it."""
    from semibody.training.losses import perceptual_network

    return perceptual_network(recipe.perceptual) if recipe.loss.low > 0 else None
