"""The shapes of the lips that a sound is made with, predicted from speech.

    rows = model.audio_encoder.rows(waveform)                     # (r, 80) at 100 a second
    shapes = model.lips(model.lips.windows(rows, frames, fps))    # (f, 6), columns as ``clips.mouth.SHAPES``

Convolutions over 0.64 s of the log-mel spectrogram, 0.2 s of them after the frame: lips close before the
sound of a b, and no sound tells of them earlier. They are trained on synthesised speech, whose phonemes are
known (the training stage ``lips``). The network belongs to small models and is neither in the paper nor in
the published code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from semibody.networks.audio_encoders import MEL_RATE

_FIRST = 4
"""Rows that the first convolution joins; it moves by two, so that the others work at 50 a second."""


@dataclass(frozen=True, kw_only=True)
class LipsConfig:
    """Sizes of the network that predicts the shapes of the lips."""

    width: int = 96
    """channels"""
    layers: int = 4
    """residual convolutions of three steps, each twice as far apart as the one before"""
    after: int = 20
    """rows of 10 ms after a frame that it hears"""
    shapes: int = 6
    """what is predicted"""

    def __post_init__(self) -> None:
        if self.after >= self.rows:
            raise ValueError("lips.after must be less than the rows that all layers together join")

    @property
    def rows(self) -> int:
        """Rows that one prediction is made from."""
        return _FIRST + 2 * 2 * (2**self.layers - 1)


class LipShapes(nn.Module):
    """Predicts the shapes of the lips from a log-mel spectrogram; nothing is padded."""

    def __init__(self, config: LipsConfig) -> None:
        super().__init__()
        self.config = config
        self.conv_in = nn.Conv1d(80, config.width, _FIRST, stride=2)
        self.layers = nn.ModuleList(_Layer(config.width, 2**n) for n in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.out = nn.Linear(config.width, config.shapes)

    def windows(
        self, rows: Float[Tensor, "r 80"], frames: Int[Tensor, " f"], fps: float
    ) -> Float[Tensor, "f k 80"]:
        """The rows that each numbered frame is predicted from; those at the ends of a recording go on."""
        after, count = self.config.after, self.config.rows
        centre = (frames.double() * MEL_RATE / fps).long()
        around = torch.arange(after + 1 - count, after + 1)
        return rows[(centre[:, None] + around).clamp(0, len(rows) - 1)]

    def logits(self, rows: Float[Tensor, "n k 80"]) -> Float[Tensor, "n s c"]:
        """Of every second place at which ``rows`` have a whole window, before the sigmoid."""
        x = F.gelu(self.conv_in(rows.transpose(1, 2).to(self.conv_in.weight)))
        for layer in self.layers:
            x = layer(x)
        logits: Tensor = self.out(self.norm(x.transpose(1, 2)))
        return logits

    def forward(self, windows: Float[Tensor, "n k 80"]) -> Float[Tensor, "n c"]:
        """Shapes in 0..1 of frames, from their ``windows``."""
        return self.logits(windows)[:, 0].sigmoid()


class _Layer(nn.Module):
    """A residual block: a norm, three steps ``apart``, and a mixture of the channels."""

    def __init__(self, width: int, apart: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.conv = nn.Conv1d(width, width, 3, dilation=apart)
        self.mix = nn.Conv1d(width, width, 1)
        self.apart = apart

    def forward(self, x: Float[Tensor, "n c s"]) -> Float[Tensor, "n c t"]:
        change = self.mix(F.gelu(self.conv(self.norm(x.transpose(1, 2)).transpose(1, 2))))
        return x[:, :, self.apart : -self.apart] + change
