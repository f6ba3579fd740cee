"""Temporal attention over the frames of a window: the "motion module" of AnimateDiff.

Each pixel attends over its own course through time; positions come from a sinusoid table of fixed
length, so a window may not be longer than the table (32 frames in the published weights).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from semibody.networks.attention import FeedForward, attend
from semibody.networks.slices import in_slices


class MotionModule(nn.Module):
    """The wrapper whose name stands in the checkpoints: ``motion_modules.N.temporal_transformer``."""

    def __init__(self, width: int, heads: int, groups: int, longest: int) -> None:
        super().__init__()
        self.temporal_transformer = TemporalTransformer(width, heads, groups, longest)

    def forward(self, x: Float[Tensor, "n c h w"], frames: int) -> Float[Tensor, "n c h w"]:
        return self.temporal_transformer(x, frames)


class TemporalTransformer(nn.Module):
    """Group norm per frame, linear in, one temporal block, linear out, residual.

    Tokens stay in the order (b, f, pixel, c) throughout; only attention itself runs along time.
    """

    def __init__(self, width: int, heads: int, groups: int, longest: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, width, eps=1e-6)
        self.proj_in = nn.Linear(width, width)
        self.transformer_blocks = nn.ModuleList([TemporalBlock(width, heads, longest)])
        self.proj_out = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "n c h w"], frames: int) -> Float[Tensor, "n c h w"]:
        tokens = in_slices(lambda part: self.proj_in(self.norm(part).flatten(2).transpose(1, 2)), x)
        tokens = tokens.unflatten(0, (len(x) // frames, frames))
        block = self.transformer_blocks[0]
        tokens = in_slices(block, tokens, growth=4, dim=2).flatten(0, 1)
        return in_slices(self._add, x, tokens)

    def _add(self, x: Float[Tensor, "n c h w"], tokens: Float[Tensor, "n l c"]) -> Float[Tensor, "n c h w"]:
        return x + self.proj_out(tokens).transpose(1, 2).unflatten(2, x.shape[2:])


class TemporalBlock(nn.Module):
    """Two self-attentions over time and a feed-forward, each pre-normed and residual."""

    def __init__(self, width: int, heads: int, longest: int) -> None:
        super().__init__()
        self.attention_blocks = nn.ModuleList([TemporalAttention(width, heads, longest) for _ in range(2)])
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(2)])
        self.ff = FeedForward(width)
        self.ff_norm = nn.LayerNorm(width)

    def forward(self, x: Float[Tensor, "b f l c"]) -> Float[Tensor, "b f l c"]:
        for norm, attention in zip(self.norms, self.attention_blocks, strict=True):
            x = x + attention(norm(x))
        return x + self.ff(self.ff_norm(x))


class TemporalAttention(nn.Module):
    """Self-attention over frames; the input carries the frame's position, in q, k and v alike."""

    def __init__(self, width: int, heads: int, longest: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])
        self.pos_encoder = PositionTable(width, longest)

    def forward(self, x: Float[Tensor, "b f l c"]) -> Float[Tensor, "b f l c"]:
        x = self.pos_encoder(x)
        b, frames, pixels, _ = x.shape

        def along_time(tokens: Tensor) -> Tensor:
            return tokens.transpose(1, 2).reshape(b * pixels, frames, -1)

        out = attend(along_time(self.to_q(x)), along_time(self.to_k(x)), along_time(self.to_v(x)), self.heads)
        return self.to_out[0](out.unflatten(0, (b, pixels)).transpose(1, 2))


class PositionTable(nn.Module):
    """Adds the sinusoid table ``pe`` (1, longest, c): sines in even channels, cosines in odd ones."""

    pe: Tensor

    def __init__(self, width: int, longest: int) -> None:
        super().__init__()
        self.register_buffer("pe", position_table(width, longest)[None])

    def forward(self, x: Float[Tensor, "b f l c"]) -> Float[Tensor, "b f l c"]:
        if x.shape[1] > self.pe.shape[1]:
            raise ValueError(
                f"a window of {x.shape[1]} frames is longer than the table of {self.pe.shape[1]}"
            )
        return x + self.pe[:, : x.shape[1], None].to(x.dtype)


def position_table(width: int, longest: int) -> Float[Tensor, "f c"]:
    position = torch.arange(longest, dtype=torch.float32)[:, None]
    rates = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * (-math.log(10000.0) / width))
    return torch.stack([(position * rates).sin(), (position * rates).cos()], dim=2).flatten(1)
