"""Our own small sync network: whether the mouth moves with the sound.

Two networks of one-dimensional convolutions embed 0.4 s of lip movement (MediaPipe's lip points and mouth
blendshapes) and of sound (mel cepstra) in 32 dimensions, 25 times a second. Trained by
``tools/sync_training.py`` on rendered people only, so its numbers order methods, and find shifts, but are no
SyncNet's: the metrics are called ``Sync-C-small`` and ``Sync-D-small``.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from semibody.evaluation.cache import Arrays
from semibody.types import Floats
from semibody.weights.state import check, read_state, shapes_of

Rows = NDArray[np.float32]

VERSION = 1
"""Counts up when the weights or the arithmetic change."""
FPS, STEPS = 25, 4
"""Embeddings a second, and cepstra (100 Hz) to each."""
WEIGHTS = Path(__file__).parent / "sync_small.safetensors"

_MOUTH_SHAPES = slice(23, 52)
"""The blendshapes from jawForward on: jaw, mouth, nose."""
_LIPS, _CEPSTRA, _WIDTH, _OUT = 80, 13, 64, 32
_INPUTS = _LIPS + _MOUTH_SHAPES.stop - _MOUTH_SHAPES.start
_LEAST_FACES = 10


def _wide(inputs: int, outputs: int) -> nn.Conv1d:
    return nn.Conv1d(inputs, outputs, kernel_size=5, padding=2)


def _halving(width: int) -> nn.Conv1d:
    return nn.Conv1d(width, width, kernel_size=4, stride=2, padding=1)


class SyncSmall(nn.Module):
    """Movement (b, 109, n) and cepstra (b, 13, 4n) to unit vectors (b, 32, n) each."""

    def __init__(self) -> None:
        super().__init__()
        self.video = nn.Sequential(
            _wide(_INPUTS, _WIDTH), nn.GELU(), _wide(_WIDTH, _WIDTH), nn.GELU(), nn.Conv1d(_WIDTH, _OUT, 1)
        )
        self.audio = nn.Sequential(
            _wide(_CEPSTRA, _WIDTH), nn.GELU(),
            _halving(_WIDTH), nn.GELU(),
            _halving(_WIDTH), nn.GELU(),
            _wide(_WIDTH, _WIDTH), nn.GELU(),
            nn.Conv1d(_WIDTH, _OUT, 1),
        )  # fmt: skip

    def forward(self, movement: Tensor, cepstra: Tensor) -> tuple[Tensor, Tensor]:
        return F.normalize(self.video(movement), dim=1), F.normalize(self.audio(cepstra), dim=1)


def load_sync_small(path: Path = WEIGHTS) -> SyncSmall:
    """The shipped network. Raises SemibodyError for another file."""
    network = SyncSmall()
    state = read_state(path)
    check(state, shapes_of(network), str(path))
    network.load_state_dict({key: value.float() for key, value in state.items()})
    return network.eval()


@functools.lru_cache(maxsize=1)
def _shipped() -> SyncSmall:
    return load_sync_small()


def movement(found: Arrays, fps: float) -> Rows | None:
    """Lip movement (n, 109) at 25 Hz from the arrays of the kind ``faces``; None with too few faces.

    Lip points relative to their centre, upright, in eye distances; the person's own mean mouth is taken
    off, so that only movement is left. Frames without a face are bridged by their neighbours.
    """
    points = found["lips"].astype(np.float64)
    seen = np.isfinite(points).all(axis=(1, 2)) & np.isfinite(found["expression"]).all(axis=1)
    if seen.sum() < _LEAST_FACES:
        return None
    points, five = _bridge(points, seen), _bridge(found["five"].astype(np.float64), seen)
    shapes = _bridge(found["expression"].astype(np.float64), seen)[:, _MOUTH_SHAPES]
    eyes = five[:, 1] - five[:, 0]
    cos, sin = (eyes / np.linalg.norm(eyes, axis=1, keepdims=True)).T
    upright = np.stack([np.stack([cos, sin], axis=1), np.stack([-sin, cos], axis=1)], axis=1)
    shape = np.einsum("fij,fkj->fki", upright, points - points.mean(axis=1, keepdims=True))
    shape /= np.median(np.linalg.norm(eyes, axis=1))
    rows = np.concatenate([shape.reshape(len(shape), -1) * 10, shapes * 3], axis=1)
    rows -= rows.mean(axis=0)
    ticks = (np.arange(int(len(rows) / fps * FPS + 1e-6)) + 0.5) / FPS * fps - 0.5
    frames = np.arange(len(rows))
    return np.stack([np.interp(ticks, frames, column) for column in rows.T], axis=1).astype(np.float32)


def _bridge(values: Floats, seen: NDArray[np.bool_]) -> Floats:
    flat = values.reshape(len(values), -1)
    frames = np.arange(len(values))
    filled = [np.interp(frames, frames[seen], column[seen]) for column in flat.T]
    return np.stack(filled, axis=1).reshape(values.shape)


def cepstra(mfcc: NDArray[np.float32], ticks: int) -> Rows:
    """Cepstra (13, steps) cut or padded to (13, 4·ticks), each row at mean 0 and deviation 1 over the
    clip."""
    values = mfcc.astype(np.float64)
    values = (values - values.mean(axis=1, keepdims=True)) / (values.std(axis=1, keepdims=True) + 1e-3)
    lacking = max(STEPS * ticks - values.shape[1], 0)
    return np.pad(values, ((0, 0), (0, lacking)), mode="edge")[:, : STEPS * ticks].astype(np.float32)


def embed(
    found: Arrays, mfcc: NDArray[np.float32], fps: float, network: SyncSmall | None = None
) -> tuple[Rows, Rows] | None:
    """Embeddings (n, 32) of movement and sound at 25 Hz; None without sound or with too few faces."""
    rows = movement(found, fps)
    if rows is None or not mfcc.shape[1]:
        return None
    return embed_rows(rows, cepstra(mfcc, len(rows)), network or _shipped())


def embed_rows(rows: Rows, cepstra: Rows, network: SyncSmall) -> tuple[Rows, Rows]:
    with torch.inference_mode():
        video, audio = network(torch.from_numpy(rows.T.copy())[None], torch.from_numpy(cepstra)[None])
    return video[0].numpy().T, audio[0].numpy().T
