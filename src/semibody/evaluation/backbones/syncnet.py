"""SyncNet (Chung & Zisserman 2016, "Out of time: automated lip sync in the wild"), and its MFCCs.

Names are those of the published ``syncnet_v2.model``, which is a state dict.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from semibody.evaluation.backbones.published import load_published
from semibody.types import RATE, Speech

FPS, FRAMES, SIDE = 25, 5, 224
"""Frames per second it was made for, frames of a window, side of the face crop in pixels."""
STEPS = 20
"""Columns of MFCC (at 100 Hz) that belong to a window."""

_FILTERS, _COEFFICIENTS, _LIFTER, _FFT = 26, 13, 22, 512
_WINDOW, _HOP = 400, 160


class SyncNet(nn.Module):
    """Two networks that embed a moving mouth and its sound near each other in 1024 dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.netcnnaud = nn.Sequential(
            nn.Conv2d(1, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(1, 1),
            nn.Conv2d(64, 192, 3, padding=1), nn.BatchNorm2d(192), nn.ReLU(), nn.MaxPool2d(3, (1, 2)),
            nn.Conv2d(192, 384, 3, padding=1), nn.BatchNorm2d(384), nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1), nn.BatchNorm2d(256), nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1), nn.BatchNorm2d(256), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(256, 512, (5, 4)), nn.BatchNorm2d(512), nn.ReLU(),
        )  # fmt: skip
        self.netfcaud = _head()
        self.netfclip = _head()
        self.netcnnlip = nn.Sequential(
            nn.Conv3d(3, 96, (5, 7, 7), (1, 2, 2)), nn.BatchNorm3d(96), nn.ReLU(),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            nn.Conv3d(96, 256, (1, 5, 5), (1, 2, 2), (0, 1, 1)), nn.BatchNorm3d(256), nn.ReLU(),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1)), nn.BatchNorm3d(256), nn.ReLU(),
            nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1)), nn.BatchNorm3d(256), nn.ReLU(),
            nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1)), nn.BatchNorm3d(256), nn.ReLU(),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            nn.Conv3d(256, 512, (1, 6, 6)), nn.BatchNorm3d(512), nn.ReLU(),
        )  # fmt: skip

    def embed_sound(self, mfcc: Tensor) -> Tensor:
        """Sound (b, 1, 13, 20) to (b, 1024)."""
        return self.netfcaud(self.netcnnaud(mfcc).flatten(1))

    def embed_faces(self, faces: Tensor) -> Tensor:
        """Face crops (b, 3 [blue, green, red], f=5, 224, 224) in 0..255 to (b, 1024)."""
        return self.netfclip(self.netcnnlip(faces).flatten(1))


def _head() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 1024))


def load_syncnet(path: Path) -> SyncNet:
    """Fill the network from the published file. Raises SemibodyError."""
    return load_published(SyncNet(), path)


def mfcc(speech: Speech) -> NDArray[np.float32]:
    """Mel cepstra (13, steps) at 100 Hz of 16 kHz speech, as SyncNet was trained on.

    16-bit sample values, pre-emphasis 0.97, 25 ms frames without a window function, 26 mel filters over
    0..8 kHz, orthonormal DCT, lifter 22, and the log energy in place of the first coefficient.
    """
    if speech.rate != RATE:
        raise ValueError(f"SyncNet needs {RATE} Hz, got {speech.rate}")
    samples = np.rint(speech.waveform.astype(np.float64) * 32768)
    samples = np.append(samples[:1], samples[1:] - 0.97 * samples[:-1])
    steps = 1 if len(samples) <= _WINDOW else 1 + -(-(len(samples) - _WINDOW) // _HOP)
    padded = np.zeros((steps - 1) * _HOP + _WINDOW)
    padded[: len(samples)] = samples
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP]
    power = np.abs(np.fft.rfft(frames, _FFT)) ** 2 / _FFT
    tiny = np.finfo(np.float64).eps
    energy = np.where(power.sum(axis=1) == 0, tiny, power.sum(axis=1))
    mel = power @ _filters().T
    cepstra = np.log(np.where(mel == 0, tiny, mel)) @ _cosines().T
    order = np.arange(_COEFFICIENTS)
    cepstra *= 1 + _LIFTER / 2 * np.sin(np.pi * order / _LIFTER)
    cepstra[:, 0] = np.log(energy)
    return cepstra.T.astype(np.float32)


def _filters() -> NDArray[np.float64]:
    """Triangles (26, 257), equally wide in mel, with corners at whole FFT bins."""
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    hertz = 700 * (10 ** (np.linspace(0, top, _FILTERS + 2) / 2595) - 1)
    corners = np.floor((_FFT + 1) * hertz / RATE).astype(int)
    bank = np.zeros((_FILTERS, _FFT // 2 + 1))
    for row, (low, peak, high) in enumerate(zip(corners, corners[1:], corners[2:], strict=False)):
        bank[row, low:peak] = (np.arange(low, peak) - low) / (peak - low)
        bank[row, peak:high] = (high - np.arange(peak, high)) / (high - peak)
    return bank


def _cosines() -> NDArray[np.float64]:
    """The first 13 rows of the orthonormal DCT-II of 26 numbers."""
    k, n = np.arange(_COEFFICIENTS)[:, None], np.arange(_FILTERS)
    rows = np.sqrt(2 / _FILTERS) * np.cos(np.pi * k * (2 * n + 1) / (2 * _FILTERS))
    rows[0] /= np.sqrt(2)
    return rows
