"""The stage of a small audio encoder: it learns to predict jaw and mouth before it conditions a denoiser.

The published encoders are pretrained on years of speech. A log-mel encoder is initialised at random, and the
gradient through the few latent cells of a mouth is weak. So it is first trained on the true opening of the
jaw and width of the mouth, and predicts both in one token for the denoiser.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from semibody.clips.mouth import correlation
from semibody.data.dataset import PackedClip
from semibody.networks.audio_encoders import LogMelEncoder
from semibody.networks.model import Model
from semibody.pose.skeleton import GROUPS
from semibody.training.batches import Batch, generator
from semibody.training.checkpoint import Snapshot
from semibody.training.settings import Optimiser, RecipeBase, StageSettings
from semibody.training.stages.base import Context, Stage
from semibody.training.validation import Scores
from semibody.types import Picture, SemibodyError

TARGETS = ("jaw", "width")
"""opening of the jaw 0..1 · width of the mouth over the distance of the eyes, about 1"""


class MouthPrediction(nn.Module):
    """The audio encoder's prediction of the mouth as one module, so that it can be distributed."""

    def __init__(self, encoder: LogMelEncoder) -> None:
        super().__init__()
        self.audio_encoder = encoder

    def forward(self, windows: Float[Tensor, "n k 80"]) -> Float[Tensor, "n 2"]:
        return self.audio_encoder.predict_mouth(windows)


@dataclass(frozen=True, kw_only=True)
class MouthBatch(Batch):
    """Audio around single frames, and the true mouth in them."""

    windows: Tensor
    """(n, k, …) rows of the audio encoder"""
    mouth: Float[Tensor, "n 2"]
    """as ``TARGETS``"""


@dataclass(frozen=True, kw_only=True)
class AudioSettings(StageSettings):
    """The training of a small audio encoder to predict jaw and mouth."""

    optimiser: Optimiser = field(default_factory=lambda: Optimiser(steps=1500, batch=64))


class AudioStage(Stage[AudioSettings]):
    """Trains the log-mel encoder on the squared error of jaw and mouth."""

    name: ClassVar[str] = "audio"
    source: ClassVar[int] = 2
    network_name: ClassVar[str] = "audio_encoder"
    card_figures: ClassVar[tuple[str, ...]] = tuple(f"{name}_r" for name in TARGETS)

    @classmethod
    def check(cls, recipe: RecipeBase) -> None:
        audio = recipe.model.audio
        if not (audio.kind == "logmel" and audio.mouth_token):
            raise ValueError(
                f'the stage {cls.name} needs model.audio.kind = "logmel" with mouth_token = true; other '
                "encoders are pretrained"
            )

    @classmethod
    def build(cls, context: Context) -> Self:
        with context.seeded():
            encoder = LogMelEncoder(context.recipe.model.audio)
        return cls(context, encoder)

    @classmethod
    def load_into(cls, final: Snapshot, model: Model, source: str) -> None:
        super().load_into(final, model, source)
        # Trained with the denoiser, the encoder would lose its accurate prediction of the mouth.
        model.audio_encoder.requires_grad_(False)

    def __init__(self, context: Context, encoder: LogMelEncoder) -> None:
        super().__init__(context)
        self.encoder = encoder
        self.module = MouthPrediction(encoder)
        self.heard = [clip for clip in self.clips if not clip.silent]
        if not self.heard:
            raise SemibodyError(f"the stage {self.name} needs clips with sound; all of the data are silent")
        self._cache: dict[str, tuple[Tensor, NDArray[np.float32]]] = {}

    def batch(self, step: int, samples: Sequence[int]) -> MouthBatch:
        """Random frames of random clips."""
        windows, mouths, names = [], [], []
        for number in samples:
            rng = generator(self.recipe.seed, self.source, step, number)
            clip = self.heard[rng.integers(len(self.heard))]
            frame = int(rng.integers(len(clip)))
            rows, mouth = self._rows_and_mouths(clip)
            windows.append(self.encoder.windows(rows, torch.tensor([frame]), clip.fps)[0])
            mouths.append(mouth[frame])
            names.append(f"{clip.id}:{frame}")
        return MouthBatch(windows=torch.stack(windows), mouth=torch.from_numpy(np.stack(mouths)), names=names)

    def losses(self, module: nn.Module, batch: MouthBatch) -> dict[str, Tensor]:
        error = (module(batch.windows).float() - batch.mouth).square().mean(dim=0)
        return {"loss": error.sum(), **dict(zip(TARGETS, error, strict=True))}

    @property
    def validated(self) -> Sequence[PackedClip]:
        """All: each takes an instant."""
        return self.held_out

    def validate_clip(self, clip: PackedClip, number: int, scores: Scores) -> list[Picture]:  # noqa: ARG002
        """Correlation of prediction and truth, where either changes."""
        device = next(self.module.parameters()).device
        rows, mouth = self._rows_and_mouths(clip)
        windows = self.encoder.windows(rows, torch.arange(len(clip)), clip.fps).to(device)
        predicted = self.module(windows).float().cpu().numpy()
        found = {f"{name}_r": correlation(predicted[:, k], mouth[:, k]) for k, name in enumerate(TARGETS)}
        scores.update({name: r for name, r in found.items() if not np.isnan(r)})
        return []

    def _rows_and_mouths(self, clip: PackedClip) -> tuple[Tensor, NDArray[np.float32]]:
        """Audio rows and mouths of a clip, cached: a few seconds of audio take a tenth of a megabyte."""
        if clip.id not in self._cache:
            with torch.no_grad():
                rows = self.encoder.rows(torch.from_numpy(clip.speech().waveform))
            self._cache[clip.id] = rows, mouths(clip)
        return self._cache[clip.id]


def mouths(clip: PackedClip) -> NDArray[np.float32]:
    """(f, 2): ``TARGETS`` of every frame."""
    face = clip.gesture().joints[:, GROUPS["face"]]
    eyes = np.linalg.norm(face[:, 36:42].mean(axis=1) - face[:, 42:48].mean(axis=1), axis=1)
    width = np.linalg.norm(face[:, 48] - face[:, 54], axis=1)
    return np.stack([clip.jaw(), width / np.maximum(eyes, 1e-6)], axis=1).clip(0, 3).astype(np.float32)
