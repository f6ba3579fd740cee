"""Teach a small audio encoder to listen before it has to steer a picture.

The published encoders arrive trained on years of speech; a log-mel encoder arrives with random weights, and
what reaches it through a few latent cells of a mouth is a faint teacher. So it first learns from the truth
itself how far the jaw is open and how wide the mouth is, and says so in a token of its own, which the
denoiser cannot overhear.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from semibody.data.dataset import PackedClip
from semibody.networks.audio_encoders import LogMelEncoder
from semibody.pose.skeleton import GROUPS
from semibody.training.recipe import Recipe, StageName
from semibody.training.samples import Batch, generator

TARGETS = ("jaw", "width")
"""opening of the jaw 0..1 · width of the mouth over the distance of the eyes, about 1"""


class Listener(nn.Module):
    """The part of the audio encoder that hears the mouth, as a module that can be distributed."""

    def __init__(self, encoder: LogMelEncoder) -> None:
        super().__init__()
        self.audio_encoder = encoder

    def forward(self, windows: Float[Tensor, "n k 80"]) -> Float[Tensor, "n 2"]:
        return self.audio_encoder.predict_mouth(windows)


@dataclass(frozen=True, kw_only=True)
class HeardBatch(Batch):
    """Sound around single frames, and the mouth in them."""

    windows: Tensor
    """(n, k, …) rows of the audio encoder"""
    mouth: Float[Tensor, "n 2"]
    """as ``TARGETS``"""


class ListeningTask:
    """Squared error of jaw and mouth from sound alone."""

    stage: StageName = "audio"
    frames = 1

    def __init__(
        self,
        recipe: Recipe,
        encoder: LogMelEncoder,
        clips: Sequence[PackedClip],
        held_out: Sequence[PackedClip],
    ) -> None:
        self.recipe, self.clips, self.held_out = recipe, list(clips), list(held_out)
        self.encoder = encoder
        self.module: nn.Module = Listener(encoder)
        self._heard: dict[str, tuple[Tensor, NDArray[np.float32]]] = {}

    def batch(self, step: int, samples: Sequence[int]) -> HeardBatch:
        """Frames anywhere in any clips."""
        windows, mouths, names = [], [], []
        for number in samples:
            rng = generator(self.recipe.seed, self.stage, step, number)
            clip = self.clips[rng.integers(len(self.clips))]
            frame = int(rng.integers(len(clip)))
            rows, mouth = self._of(clip)
            windows.append(self.encoder.windows(rows, torch.tensor([frame]), clip.fps)[0])
            mouths.append(mouth[frame])
            names.append(f"{clip.id}:{frame}")
        return HeardBatch(windows=torch.stack(windows), mouth=torch.from_numpy(np.stack(mouths)), names=names)

    def losses(self, module: nn.Module, batch: HeardBatch) -> dict[str, Tensor]:
        error = (module(batch.windows).float() - batch.mouth).square().mean(dim=0)
        return {"loss": error.sum(), **dict(zip(TARGETS, error, strict=True))}

    def frozen(self, step: int) -> list[str]:  # noqa: ARG002 - all of it trains all the time
        return []

    @torch.no_grad()
    def validate(self) -> tuple[dict[str, float], None]:
        """Mean correlation of what is heard with what is seen, over clips nobody learned from."""
        device = next(self.module.parameters()).device
        found: dict[str, list[float]] = {name: [] for name in TARGETS}
        for clip in self.held_out:
            rows, mouth = self._of(clip)
            windows = self.encoder.windows(rows, torch.arange(len(clip)), clip.fps).to(device)
            said = self.module(windows).float().cpu().numpy()
            for k, name in enumerate(TARGETS):
                if min(said[:, k].std(), mouth[:, k].std()) > 1e-6:
                    found[name].append(float(np.corrcoef(said[:, k], mouth[:, k])[0, 1]))
        return {f"{name}_r": float(np.mean(r)) for name, r in found.items() if r}, None

    def _of(self, clip: PackedClip) -> tuple[Tensor, NDArray[np.float32]]:
        """Audio rows and mouths of a clip, kept: a few seconds of sound are a tenth of a megabyte."""
        if clip.id not in self._heard:
            with torch.no_grad():
                rows = self.encoder.rows(torch.from_numpy(clip.speech().waveform))
            self._heard[clip.id] = rows, mouths(clip)
        return self._heard[clip.id]


def mouths(clip: PackedClip) -> NDArray[np.float32]:
    """(f, 2): ``TARGETS`` of every frame."""
    face = clip.gesture().joints[:, GROUPS["face"]]
    eyes = np.linalg.norm(face[:, 36:42].mean(axis=1) - face[:, 42:48].mean(axis=1), axis=1)
    width = np.linalg.norm(face[:, 48] - face[:, 54], axis=1)
    return np.stack([clip.jaw(), width / np.maximum(eyes, 1e-6)], axis=1).clip(0, 3).astype(np.float32)
