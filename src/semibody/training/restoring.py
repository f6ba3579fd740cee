"""The stage that trains the restorer, on frames the finished denoiser generates.

A restorer that had only seen what the autoencoder makes of true pictures would trust every decoded frame.
So each batch is generated from noise, with the sampler the weights are meant for; then only the restorer
learns, on whole pictures. Between them (``restore.faces``) are cheap steps on crops of faces, which the
denoiser hardly changes: there the portrait stands for the generated frame.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from semibody.data.dataset import PackedClip
from semibody.networks.audio_encoders import LogMelEncoder
from semibody.networks.model import Model
from semibody.networks.restorer import Restorer
from semibody.training.losses import picture_terms
from semibody.training.recipe import Recipe, StageName
from semibody.training.samples import (
    HANDS,
    Boxes,
    DenoisingBatch,
    DenoisingSamples,
    coverage,
    generator,
    part_weight,
)
from semibody.training.tasks import (
    Denoiser,
    Picture,
    Scores,
    channels_last,
    generate,
    grid,
    mouth_figures,
    to_picture,
    to_pixels,
)


@dataclass(frozen=True, kw_only=True)
class RestoringBatch:
    """What the denoiser is told, and the pictures that should come of it."""

    told: DenoisingBatch
    portrait: Tensor
    """(b, 3, H, W) uint8"""
    truth: Tensor
    """(b, f, 3, H, W) uint8"""
    weight: Float[Tensor, "b f 1 H W"]
    crops: Tensor | None = None
    """(b, 2) row and column, in latent cells, of each sample's crop of the face; None: whole pictures"""

    @property
    def names(self) -> list[str]:
        return self.told.names

    def to(self, device: torch.device) -> Self:
        moved = {name: getattr(self, name).to(device) for name in ("told", "portrait", "truth", "weight")}
        return dataclasses.replace(self, **moved)

    def cropped(self, side: int, cell: int) -> Self:
        """The crops in place of the whole pictures: ``side`` cells of ``cell`` pixels."""
        assert self.crops is not None
        corners = self.crops.tolist()

        def cut(pictures: Tensor, scale: int) -> Tensor:
            rows = [slice(y * scale, (y + side) * scale) for y, _ in corners]
            columns = [slice(x * scale, (x + side) * scale) for _, x in corners]
            return torch.stack([p[..., r, c] for p, r, c in zip(pictures, rows, columns, strict=True)])

        told = dataclasses.replace(
            self.told,
            portrait=cut(self.told.portrait, 1),
            audio_mask=cut(self.told.audio_mask, 1),
            portrait_pose=cut(self.told.portrait_pose, cell),
            pose=cut(self.told.pose, cell),
        )
        pictures = {name: cut(getattr(self, name), cell) for name in ("portrait", "truth", "weight")}
        return dataclasses.replace(self, told=told, **pictures, crops=None)


class _Restoring(nn.Module):
    """Look at the portraits, restore their frames: as one module, so that it can be distributed."""

    def __init__(self, restorer: Restorer) -> None:
        super().__init__()
        self.restorer = restorer

    def forward(
        self,
        decoded: Float[Tensor, "n 3 H W"],
        decoded_portrait: Float[Tensor, "b 3 H W"],
        mouth: Float[Tensor, "n 2"] | None,
        batch: RestoringBatch,
    ) -> Float[Tensor, "n 3 H W"]:
        told = batch.told
        portrait_map, maps = told.portrait_pose.float() / 255, told.pose.flatten(0, 1).float() / 255
        view = self.restorer.look(
            to_pixels(batch.portrait), decoded_portrait, portrait_map, told.audio_mask[:, :1]
        )
        return self.restorer(decoded, maps, view, mouth)


class RestoringTask:
    """L1, multi-scale gradients and SSIM of restored frames; lips, face and hands counting more."""

    stage: StageName = "restore"

    def __init__(
        self,
        recipe: Recipe,
        model: Model,
        samples: DenoisingSamples,
        held_out: Sequence[PackedClip],
        *,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        assert model.restorer is not None
        self.recipe, self.settings, self.model = recipe, recipe.restore, model
        self.samples, self.held_out = samples, list(held_out)
        self.frames = samples.window
        model.requires_grad_(False)
        model.restorer.requires_grad_(True)
        self.denoiser = Denoiser(model)
        self.module: nn.Module = _Restoring(model.restorer)
        self.autocast = autocast

    def batch(self, step: int, samples: Sequence[int]) -> RestoringBatch:
        settings = self.settings
        # By whole steps, so that a batch stays one computation.
        if generator(self.recipe.seed, self.stage, step, 2**31).random() >= settings.faces:
            return self._stack([self._sample(step, number) for number in samples])
        times = settings.face_samples
        numbers = [times * number + k for number in samples for k in range(times)]
        return self._stack([self._sample(step, number, faces=True) for number in numbers])

    def _sample(self, step: int, number: int, *, faces: bool = False) -> dict[str, Any]:
        rng = generator(self.recipe.seed, self.stage, step, number)
        # No padded heads: their border is no picture, and what is in the middle full clips show as well.
        clip, frames, portrait_clip, portrait_frame = self.samples.choose(rng, 0.0)
        made = self._given(clip, frames, portrait_clip, portrait_frame, rng)
        if faces:
            gone = portrait_clip.boxes(portrait_frame)
            made["crops"] = self._corner(gone)
            # The portrait does not show hands where they are now.
            for i, frame in enumerate(frames):
                for box in [b[hand] for b in (clip.boxes(frame), gone) for hand in HANDS if hand in b]:
                    made["weight"][i, 0] *= coverage(box, clip.size, clip.size) == 0
        return made

    def _corner(self, boxes: Boxes) -> NDArray[np.int64]:
        """Row and column, in latent cells, of the crop about the face; in the middle where there is none."""
        x0, y0, x1, y1 = boxes.get("face", np.array([0.0, 0.0, 1.0, 1.0]))
        cells = self.recipe.data.size // self.model.vae.factor
        middle = np.array([(y0 + y1) / 2, (x0 + x1) / 2]) * cells
        corner = np.rint(middle - self.settings.face_cells / 2).astype(np.int64)
        return corner.clip(0, max(0, cells - self.settings.face_cells))

    def _given(
        self,
        clip: PackedClip,
        frames: list[int],
        portrait_clip: PackedClip,
        portrait_frame: int,
        rng: np.random.Generator,
    ) -> dict[str, Any]:
        told = self.samples.to_generate(clip, frames, portrait_clip, portrait_frame, rng)
        factors = {part: getattr(self.settings, part) for part in ("lips", "face", "hands")}
        gone, size = portrait_clip.boxes(portrait_frame), clip.size
        weight = [part_weight(clip.boxes(frame), gone, factors, size, size) for frame in frames]
        return {
            "told": told,
            "portrait": portrait_clip.pictures([portrait_frame])[0].transpose(2, 0, 1),
            "truth": clip.pictures(frames).transpose(0, 3, 1, 2),
            "weight": np.stack(weight)[:, None],
        }

    def _stack(self, made: Sequence[dict[str, Any]]) -> RestoringBatch:
        def stack(name: str) -> Tensor:
            return torch.from_numpy(np.stack([one[name] for one in made]))

        return RestoringBatch(
            told=self.samples.stack([one["told"] for one in made], conditional=True),
            portrait=stack("portrait"),
            truth=stack("truth"),
            weight=stack("weight"),
            crops=stack("crops") if "crops" in made[0] else None,
        )

    def losses(self, module: nn.Module, batch: RestoringBatch) -> dict[str, Tensor]:
        if batch.crops is not None:
            batch = batch.cropped(self.settings.face_cells, self.model.vae.factor)
            shown = self._stood_for(batch)
        else:
            shown = self._decoded(batch)
        restored = module(*shown, batch).float()
        truth, weight = to_pixels(batch.truth.flatten(0, 1)), batch.weight.flatten(0, 1)
        level = weight.mean(dim=(1, 2, 3), keepdim=True).clamp(min=1e-6)
        settings = self.settings
        return picture_terms(
            restored, truth, weight / level, gradient=settings.gradient, ssim_share=settings.ssim
        )

    @torch.no_grad()
    def _decoded(
        self, batch: RestoringBatch
    ) -> tuple[Float[Tensor, "n 3 H W"], Float[Tensor, "b 3 H W"], Float[Tensor, "n 2"] | None]:
        """Generated frames and the portraits as the autoencoder gives them; what is heard of the mouth."""
        with self.autocast():
            latents = generate(self.denoiser, self.recipe, batch.told)
            decoded = self.model.decode(latents.flatten(0, 1))
            decoded_portrait = self.model.decode(batch.told.portrait)
        return decoded.float(), decoded_portrait.float(), self._heard(batch)

    @torch.no_grad()
    def _stood_for(
        self, batch: RestoringBatch
    ) -> tuple[Float[Tensor, "n 3 H W"], Float[Tensor, "b 3 H W"], Float[Tensor, "n 2"] | None]:
        """As ``_decoded``, with the portrait in place of what would be generated."""
        with self.autocast():
            portrait = self.model.decode(channels_last(batch.told.portrait)).float()
        return portrait.repeat_interleave(self.frames, dim=0), portrait, self._heard(batch)

    def _heard(self, batch: RestoringBatch) -> Float[Tensor, "n 2"] | None:
        ear = self.model.audio_encoder
        if not (isinstance(ear, LogMelEncoder) and ear.config.mouth_token):
            return None
        return ear.mouth_heard(batch.told.rows.flatten(0, 1)).float()

    def _restored(self, batch: RestoringBatch) -> tuple[Float[Tensor, "n 3 H W"], Picture]:
        """Generated frames as the autoencoder gives them, and restored."""
        decoded, *others = self._decoded(batch)
        with self.autocast():
            return decoded, to_picture(self.module(decoded, *others, batch))

    def frozen(self, step: int) -> list[str]:  # noqa: ARG002 - all of it trains all the time
        return []

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
            rng = np.random.default_rng([7, number])
            batch = self._stack([self._given(clip, frames, clip, 0, rng)]).to(device)
            decoded, restored = self._restored(batch)
            plain, truth, portrait = to_picture(decoded), clip.pictures(frames), clip.pictures([0])[0]
            for i, frame in enumerate(frames):
                scores.add("psnr", restored[i], truth[i], clip, frame)
                scores.add("plain", plain[i], truth[i], clip, frame)
                scores.add("repeat", portrait, truth[i], clip, frame)

            def heard(frame: int, clip: PackedClip = clip, batch: RestoringBatch = batch) -> Picture:
                told = self.samples.hearing(batch.told, clip, frame)
                return self._restored(dataclasses.replace(batch, told=told))[1][-1]

            scores.update(mouth_figures(clip, frames[-1], heard))
            rows.append([portrait, plain[-1], restored[-1], truth[-1]])
        return scores.means(), grid(rows[:8]) if rows else None
