"""The stage that trains the restorer, on frames the finished denoiser generates.

A restorer that had only seen what the autoencoder makes of true pictures would trust every decoded frame.
So samples are generated first (``restore.pool`` of them, once, kept on the disk), from noise, with the
sampler the weights are meant for; and the clean plates of their portraits, for a restorer that is given
them. Then only the restorer learns: on whole pictures, and between them
(``restore.crops``) on crops about a face or a hand, of which a step can hold many. With ``restore.rival`` a
critic (``critic.py``) learns beside it to tell restored frames from true ones, and it to be taken for true.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from semibody.data.dataset import PackedClip
from semibody.files import atomic_write
from semibody.networks.audio_encoders import LogMelEncoder
from semibody.networks.model import Model
from semibody.networks.restorer import Restorer
from semibody.pose.limbs import carry_limbs, limb_cover
from semibody.training.critic import Critic, duel, with_critic
from semibody.training.losses import of_mean_one, picture_terms
from semibody.training.parts import HANDS, Shown, part_weights
from semibody.training.recipe import Recipe, StageName
from semibody.training.samples import Batch, DenoisingBatch, DenoisingSamples, Generator, generator
from semibody.training.tasks import (
    Denoiser,
    Picture,
    Scores,
    generate,
    grid,
    mouth_figures,
    to_picture,
    to_pixels,
)
from semibody.types import Pose, Progress, silent

_POOL = 2**31
"""Where the steps' numbers end: samples of the pool draw from here."""
_CELLS = ("lips",)
"""What of a batch is in latent cells; the rest is in pixels."""


@dataclass(frozen=True, kw_only=True)
class RestoringBatch(Batch):
    """Generated frames with what belongs to them; pictures and maps are uint8."""

    decoded: Tensor
    """(b, f, 3, H, W) generated frames as the autoencoder gives them"""
    truth: Tensor
    """(b, f, 3, H, W)"""
    maps: Tensor
    """(b, f, 3, H, W) their pose maps"""
    limbs: Tensor
    """(b, f, 4, H, W) the portrait's arms and hands carried to where they should be, and their cover"""
    portrait: Tensor
    """(b, 3, H, W)"""
    decoded_portrait: Tensor
    """(b, 3, H, W)"""
    portrait_map: Tensor
    """(b, 3, H, W)"""
    plate: Tensor
    """(b, 3, H, W) the portrait without arms and hands; the portrait itself where nobody paints it"""
    lips: Float[Tensor, "b 1 h w"]
    """where the mouth is, in latent cells"""
    mouth: Float[Tensor, "b f 2"]
    """how open and wide it sounds; zeros where nobody listens"""
    weight: Float[Tensor, "b f 1 H W"]


class Pool:
    """Generated samples in a folder, one file each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.safetensors"

    def fill(
        self,
        numbers: Iterable[int],
        make: Callable[[int], Mapping[str, NDArray[Any]]],
        *,
        progress: Progress = silent,
    ) -> None:
        """Make what is missing."""
        from safetensors.numpy import save_file

        missing = [number for number in numbers if not self.path(number).exists()]
        for done, number in enumerate(missing, start=1):
            arrays = make(number)
            with atomic_write(self.path(number)) as unfinished:
                # safetensors writes memory as it lies: a transposed array would come back scrambled.
                save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, unfinished)
            progress("generate pictures", done, len(missing))

    def read(self, number: int) -> dict[str, NDArray[Any]]:
        from safetensors.numpy import load_file

        return load_file(self.path(number))


class Restored(NamedTuple):
    """Restored frames, and what a critic says of them where there is one."""

    pixels: Float[Tensor, "n 3 H W"]
    judged: dict[str, Tensor]
    """the terms of ``critic.duel``"""


class _Restoring(nn.Module):
    """Look at the portraits, restore their frames, ask the critic: as one module, to be distributed."""

    def __init__(self, restorer: Restorer, critic: Critic | None, most: float) -> None:
        """``most``: the largest weight of a place in the critic's eyes."""
        super().__init__()
        self.restorer, self.critic, self.most = restorer, critic, most

    def forward(self, batch: RestoringBatch) -> Restored:
        view = self.restorer.encode(
            to_pixels(batch.portrait),
            to_pixels(batch.decoded_portrait),
            batch.portrait_map.float() / 255,
            batch.lips,
            to_pixels(batch.plate),
        )
        decoded, maps, mouth, limbs, truth = (
            x.flatten(0, 1) for x in (batch.decoded, batch.maps, batch.mouth, batch.limbs, batch.truth)
        )
        decoded, maps = to_pixels(decoded), maps.float() / 255
        restored = self.restorer(decoded, maps, view, mouth, limbs)
        if self.critic is None or not self.training:
            return Restored(restored, {})
        weight = batch.weight.flatten(0, 1).clamp(max=self.most)
        known = torch.cat([decoded, maps], dim=1)
        return Restored(restored, duel(self.critic, restored, to_pixels(truth), known, weight))


class RestoringTask:
    """L1, slopes, SSIM, change and a critic's doubt of restored frames, lips, face and hands first."""

    stage: StageName = "restore"

    def __init__(
        self,
        recipe: Recipe,
        model: Model,
        samples: DenoisingSamples,
        held_out: Sequence[PackedClip],
        pool: Path,
        plates: Path,
        *,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        """``pool`` is the folder of generated samples, ``plates`` that of their portraits' clean plates, for
        models that have them; ``prepare`` fills both."""
        assert model.restorer is not None
        self.recipe, self.settings, self.model = recipe, recipe.restore, model
        self.samples, self.held_out = samples, list(held_out)
        self.frames = samples.window
        self.shows_limbs = model.restorer.config.limbs
        self.pool, self.plates = Pool(pool), Pool(plates)
        model.requires_grad_(False)
        model.restorer.requires_grad_(True)
        self.denoiser = Denoiser(model)
        critic = Critic(known=6) if self.settings.rival > 0 else None
        # Lips weigh far more than the rest for the sound's sake; how they look, the portrait knows.
        self.module: nn.Module = _Restoring(model.restorer, critic, most=self.settings.hands)
        self.autocast = autocast

    # -- generated samples --------------------------------------------------------------------

    def prepare(self, numbers: Iterable[int], progress: Progress = silent) -> None:
        """Make those of the pool's samples and plates that are missing."""
        device = next(self.module.parameters()).device

        def make(number: int) -> Mapping[str, NDArray[Any]]:
            given = self.samples.to_generate(*self._chosen(number))
            batch = self.samples.stack([given], conditional=True)
            return self._generated(batch.to(device))

        def paint(number: int) -> Mapping[str, NDArray[Any]]:
            _, _, clip, frame, _ = self._chosen(number)
            return {"plate": self._plate(clip.pictures([frame])[0], clip.portrait_pose(frame), device)}

        self.pool.fill(numbers, make, progress=progress)
        if self.model.plate is not None:
            self.plates.fill(numbers, paint, progress=progress)

    def _chosen(self, number: int) -> tuple[PackedClip, list[int], PackedClip, int, Generator]:
        """Clip, frames, the portrait's clip and frame of a sample of the pool; what draws its noise."""
        rng = generator(self.recipe.seed, self.stage, _POOL, number)
        # No padded heads: their border is no picture, and what is in the middle full clips show as well.
        return *self.samples.choose(rng, 0.0), rng

    @torch.no_grad()
    def _generated(self, told: DenoisingBatch) -> dict[str, NDArray[Any]]:
        """One sample: frames and portrait as the autoencoder gives them, what is heard of the mouth."""
        with self.autocast():
            latents = generate(self.denoiser, self.recipe, told)
            decoded = self.model.decode(latents[0])
            decoded_portrait = self.model.decode(told.portrait)
            ear, mouth = self.model.audio_encoder, torch.zeros(self.frames, 2)
            if isinstance(ear, LogMelEncoder) and ear.config.mouth_token:
                mouth = ear.predict_mouth(told.rows[0])
        return {
            "decoded": to_picture(decoded).transpose(0, 3, 1, 2),
            "decoded_portrait": to_picture(decoded_portrait)[0].transpose(2, 0, 1),
            "maps": told.pose[0].cpu().numpy(),
            "portrait_map": told.portrait_pose[0].cpu().numpy(),
            "lips": told.audio_mask[0, :1].float().cpu().numpy(),
            "mouth": mouth.float().cpu().numpy(),
        }

    @torch.no_grad()
    def _plate(self, picture: Picture, pose: Pose, device: torch.device) -> NDArray[np.uint8]:
        """(3, H, W): a portrait's clean plate, the portrait itself where nobody paints it."""
        if self.model.plate is None:
            return picture.transpose(2, 0, 1)
        hidden = torch.from_numpy(limb_cover(pose, *picture.shape[:2]))[None, None].to(device)
        pixels = to_pixels(torch.from_numpy(picture).permute(2, 0, 1)[None]).to(device)
        with self.autocast():
            return to_picture(self.model.plate(pixels, hidden))[0].transpose(2, 0, 1)

    # -- batches ------------------------------------------------------------------------------

    def batch(self, step: int, samples: Sequence[int]) -> RestoringBatch:
        settings = self.settings
        # By whole steps, so that a batch stays one computation.
        crops = generator(self.recipe.seed, self.stage, step, _POOL).random() < settings.crops
        times = settings.crop_samples if crops else 1
        numbers = [times * number + k for number in samples for k in range(times)]
        return RestoringBatch.stacked([self._sample(step, number, crop=crops) for number in numbers])

    def _sample(self, step: int, number: int, *, crop: bool) -> dict[str, Any]:
        rng = generator(self.recipe.seed, self.stage, step, number)
        of_pool = int(rng.integers(self.settings.pool))
        chosen = self._chosen(of_pool)
        known = self.pool.read(of_pool) | (self.plates.read(of_pool) if self.model.plate is not None else {})
        made = self._pictures(known, *chosen[:4])
        return self._cropped(made, chosen[0], chosen[1], rng) if crop else made

    def _pictures(
        self,
        generated: Mapping[str, NDArray[Any]],
        clip: PackedClip,
        frames: list[int],
        portrait_clip: PackedClip,
        portrait_frame: int,
    ) -> dict[str, Any]:
        portrait, size = Shown(portrait_clip, portrait_frame), clip.size
        weight = part_weights(self.settings, clip, frames, portrait, size, size)
        picture = portrait_clip.pictures([portrait_frame])[0]
        own = portrait_clip.portrait_pose(portrait_frame)
        limbs = [self._carried(picture, own, clip.pose(frame)) for frame in frames]
        return {
            "plate": picture.transpose(2, 0, 1),
            **generated,
            "portrait": picture.transpose(2, 0, 1),
            "limbs": np.stack(limbs).transpose(0, 3, 1, 2),
            "truth": clip.pictures(frames).transpose(0, 3, 1, 2),
            "weight": weight[:, None],
            "name": f"{clip.id}:{frames[0]}",
        }

    def _carried(self, picture: Picture, own: Pose, pose: Pose) -> NDArray[np.uint8]:
        if not self.shows_limbs:
            return np.zeros((*picture.shape[:2], 4), np.uint8)
        return carry_limbs(picture, own, pose)

    def _cropped(
        self, made: dict[str, Any], clip: PackedClip, frames: list[int], rng: Generator
    ) -> dict[str, Any]:
        """A square about the face or a hand of one of the frames, off its middle by up to a quarter."""
        cell, side = self.model.vae.factor, self.settings.crop_cells
        boxes = clip.boxes(frames[int(rng.integers(len(frames)))])
        parts = [part for part in ("face", *HANDS) if part in boxes]
        x0, y0, x1, y1 = boxes[parts[int(rng.integers(len(parts)))]] if parts else (0.0, 0.0, 1.0, 1.0)
        cells = clip.size // cell
        middle = np.array([y0 + y1, x0 + x1]) / 2 * cells + rng.uniform(-side / 4, side / 4, 2)
        top, left = np.rint(middle - side / 2).astype(int).clip(0, max(0, cells - side))

        def cut(name: str, array: NDArray[Any]) -> NDArray[Any]:
            k = 1 if name in _CELLS else cell
            return array[..., top * k : (top + side) * k, left * k : (left + side) * k]

        whole = ("mouth", "name")
        return {name: value if name in whole else cut(name, value) for name, value in made.items()}

    def losses(self, module: nn.Module, batch: RestoringBatch) -> dict[str, Tensor]:
        settings = self.settings
        restored, judged = module(batch)
        restored = restored.float()
        truth, weight = to_pixels(batch.truth.flatten(0, 1)), of_mean_one(batch.weight.flatten(0, 1))
        terms = picture_terms(restored, truth, weight, gradient=settings.gradient, ssim_share=settings.ssim)
        if self.frames > 1 and settings.change > 0:
            # What two frames have in common cancels: what is left is flicker, and motion that is not there.
            error = (restored - truth).unflatten(0, (-1, self.frames)).diff(dim=1)
            change = (error.abs() * weight.unflatten(0, (-1, self.frames))[:, 1:]).mean()
            terms |= {"loss": terms["loss"] + settings.change * change, "change": change}
        return with_critic(terms, judged, settings.rival)

    def frozen(self, step: int) -> list[str]:  # noqa: ARG002 - all of it trains all the time
        return []

    # -- validation ---------------------------------------------------------------------------

    @torch.no_grad()
    def validate(self) -> tuple[dict[str, float], Picture | None]:
        """Held-out clips; PSNR of ``psnr*`` restored, ``plain*`` unrestored, ``repeat*`` the portrait.

        ``mouth_change`` and ``mouth_ratio`` as for the denoiser, of what is restored.
        """
        device = next(self.module.parameters()).device
        scores, rows = Scores(), []
        for number, clip in enumerate(self.held_out[: self.recipe.run.validation_clips]):
            # The last frames: farthest from the portrait, which is the first.
            frames = list(range(len(clip) - self.frames, len(clip)))
            given = self.samples.to_generate(clip, frames, clip, 0, np.random.default_rng([7, number]))
            told = self.samples.stack([given], conditional=True).to(device)

            plate = self._plate(clip.pictures([0])[0], clip.portrait_pose(0), device)

            def shown(
                told: DenoisingBatch,
                clip: PackedClip = clip,
                frames: list[int] = frames,
                plate: NDArray[np.uint8] = plate,
            ) -> tuple[Picture, Picture]:
                """Generated frames as the autoencoder gives them, and restored."""
                known = {**self._generated(told), "plate": plate}
                batch = RestoringBatch.stacked([self._pictures(known, clip, frames, clip, 0)]).to(device)
                with self.autocast():
                    restored = to_picture(self.module(batch).pixels)
                return batch.decoded[0].permute(0, 2, 3, 1).cpu().numpy(), restored

            plain, restored = shown(told)
            truth, portrait = clip.pictures(frames), clip.pictures([0])[0]
            for i, frame in enumerate(frames):
                scores.add("psnr", restored[i], truth[i], clip, frame)
                scores.add("plain", plain[i], truth[i], clip, frame)
                scores.add("repeat", portrait, truth[i], clip, frame)

            def heard(
                frame: int, told: DenoisingBatch = told, clip: PackedClip = clip, shown: Any = shown
            ) -> Picture:
                return shown(self.samples.hearing(told, clip, frame))[1][-1]

            scores.update(mouth_figures(clip, frames[-1], heard))
            rows.append([portrait, plain[-1], restored[-1], truth[-1]])
        return scores.means(), grid(rows[:8]) if rows else None
