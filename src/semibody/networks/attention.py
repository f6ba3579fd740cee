"""Attention over space, over reference tokens, over audio tokens and over time.

Spatial attention follows official-format EchoMimicV2: the queries are a frame's own tokens, keys and
values are its own tokens followed by those of the portrait (Appearance), with the same projections
for both. The portrait's keys and values do not depend on frame, window or step, so they are
projected once per clip (``UNet.project_reference``).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from semibody.networks.slices import in_slices, repeat_rows


class KeyValue(NamedTuple):
    """Projected keys and values, each (b, l, c): projected once, attended to many times."""

    key: Tensor
    value: Tensor


class Attention(nn.Module):
    """Multi-head attention with separate projections and an output bias, as in Stable Diffusion."""

    def __init__(self, width: int, heads: int, memory_width: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(memory_width or width, width, bias=False)
        self.to_v = nn.Linear(memory_width or width, width, bias=False)
        # The dropout of Stable Diffusion's list is 0, but its place in the key names stays.
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def project(self, memory: Float[Tensor, "b l d"]) -> KeyValue:
        return KeyValue(self.to_k(memory), self.to_v(memory))

    def forward(self, x: Float[Tensor, "n l c"], memory: KeyValue) -> Float[Tensor, "n l c"]:
        return self.to_out[0](attend(self.to_q(x), memory.key, memory.value, self.heads))


def attend(
    q: Float[Tensor, "n l c"], k: Float[Tensor, "n m c"], v: Float[Tensor, "n m c"], heads: int
) -> Float[Tensor, "n l c"]:
    """softmax(q kᵀ / √d) v for each head of width d = c / heads."""
    q, k, v = (x.unflatten(2, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    if q.requires_grad and q.device.type == "cpu":
        # The fused kernel's backward pass is slow on CPUs; two matrix products and a softmax are not.
        weights = torch.softmax(q @ k.transpose(2, 3) * (1 / math.sqrt(q.shape[3])), dim=-1)
        out = weights.to(v.dtype) @ v
    else:
        out = (_kernel.get() or F.scaled_dot_product_attention)(q, k, v)
    return out.transpose(1, 2).flatten(2)


Kernel = Callable[[Tensor, Tensor, Tensor], Tensor]
"""q, k, v, each (n, heads, l, d), to softmax(q kᵀ / √d) v (n, heads, l, d)."""
_kernel: ContextVar[Kernel | None] = ContextVar("kernel", default=None)


@contextlib.contextmanager
def attention_by(kernel: Kernel) -> Iterator[None]:
    """Within it, attention without gradients is computed by ``kernel`` instead of torch's own."""
    token = _kernel.set(kernel)
    try:
        yield
    finally:
        _kernel.reset(token)


class FeedForward(nn.Module):
    """GEGLU: half of a wide projection gates the other half (exact erf GELU), then back."""

    def __init__(self, width: int, factor: int = 4) -> None:
        super().__init__()
        self.factor = factor
        # Indices 0 and 2 keep Stable Diffusion's key names (its index 1 is a dropout).
        self.net = nn.ModuleDict(
            {"0": GatedLinear(width, width * factor), "2": nn.Linear(width * factor, width)}
        )

    def forward(self, x: Float[Tensor, "*n c"]) -> Float[Tensor, "*n c"]:
        def compute(tokens: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
            return self.net["2"](self.net["0"](tokens))

        return in_slices(compute, x.flatten(0, -2), growth=self.factor).view_as(x)


class GatedLinear(nn.Module):
    """value * gelu(gate), where one projection makes both halves."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.proj = nn.Linear(c_in, 2 * c_out)

    def forward(self, x: Float[Tensor, "*n c"]) -> Float[Tensor, "*n d"]:
        if type(self.proj) is not nn.Linear or type(self.proj.weight) is not nn.Parameter:
            value, gate = self.proj(x).chunk(2, dim=-1)  # adapted or quantised: the weight alone is not all
            return value * F.gelu(gate)
        # Two products instead of one that is split afterwards: each half comes out contiguous,
        # which the memory-bound gate needs more than the product needs width.
        (value, gate), (value_bias, gate_bias) = self.proj.weight.chunk(2), self.proj.bias.chunk(2)
        gate = F.gelu(F.linear(x, gate, gate_bias))
        return F.linear(x, value, value_bias) * gate


class TransformerBlock(nn.Module):
    """Self-attention over own and reference tokens, audio cross-attention, feed-forward; all residual."""

    def __init__(self, width: int, heads: int, audio_width: int | None, audio_scale: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn1 = Attention(width, heads)
        if audio_width is not None:
            self.norm2 = nn.LayerNorm(width)
            self.attn2 = Attention(width, heads, audio_width)
        self.norm3 = nn.LayerNorm(width)
        self.ff = FeedForward(width)
        self.audio_scale = audio_scale

    @property
    def attends_to_audio(self) -> bool:
        return hasattr(self, "attn2")

    def forward(
        self,
        x: Float[Tensor, "n l c"],
        reference: KeyValue | None = None,
        audio: KeyValue | None = None,
        audio_mask: Float[Tensor, "n l"] | None = None,
    ) -> Float[Tensor, "n l c"]:
        """``reference`` has one row per clip, ``audio`` one per frame; None leaves either out.

        Without audio the cross-attention is what it is for zero tokens: its output bias
        (keys and values have no bias). ``audio_mask`` weights its output per token (APDH, HPA).
        """
        growth = 1 if reference is None else 2  # keys and values are those of frame and portrait
        x = in_slices(self._attend, x, *_pair(reference), *_pair(audio), audio_mask, growth=growth)
        return x + self.ff(self.norm3(x))

    def _attend(self, x: Float[Tensor, "n l c"], *rows: Tensor | None) -> Float[Tensor, "n l c"]:
        """Both attentions; ``rows`` are keys and values of the reference, of audio, and the audio mask."""
        reference, audio, audio_mask = _key_value(*rows[:2]), _key_value(*rows[2:4]), rows[4]
        own = self.norm1(x)
        x = x + self.attn1(own, join(self.attn1.project(own), reference))
        if self.attends_to_audio:
            output_bias: Any = self.attn2.to_out[0].bias
            attended = self.attn2(self.norm2(x), audio) if audio is not None else output_bias
            if audio_mask is not None:
                attended = attended * audio_mask[:, :, None].to(attended.dtype)
            x = torch.add(x, attended, alpha=self.audio_scale)
        return x


def _pair(given: KeyValue | None) -> KeyValue | tuple[None, None]:
    return (None, None) if given is None else given


def _key_value(key: Tensor | None, value: Tensor | None) -> KeyValue | None:
    return None if key is None or value is None else KeyValue(key, value)


def join(own: KeyValue, reference: KeyValue | None) -> KeyValue:
    """Append the portrait's keys and values (one row per clip) to those of each frame."""
    if reference is None:
        return own
    n = len(own.key)
    return KeyValue(*(torch.cat([a, repeat_rows(b, n)], dim=1) for a, b in zip(own, reference, strict=True)))


class SpatialTransformer(nn.Module):
    """Group norm, 1x1 convolution in, one transformer block over the pixels of a frame, 1x1 out, residual."""

    def __init__(
        self, width: int, heads: int, groups: int, audio_width: int | None, audio_scale: float
    ) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, width, eps=1e-6)
        self.proj_in = nn.Conv2d(width, width, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(width, heads, audio_width, audio_scale)])
        self.proj_out = nn.Conv2d(width, width, 1)

    @property
    def block(self) -> TransformerBlock:
        block = self.transformer_blocks[0]
        assert isinstance(block, TransformerBlock)
        return block

    def tokens(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n l c"]:
        """The pixels of ``x`` as tokens: what the transformer block works on."""
        return in_slices(lambda part: self.proj_in(self.norm(part)).flatten(2).transpose(1, 2), x)

    def forward(
        self,
        x: Float[Tensor, "n c h w"],
        tokens: Float[Tensor, "n l c"],
        reference: KeyValue | None = None,
        audio: KeyValue | None = None,
        audio_mask: Float[Tensor, "n l"] | None = None,
    ) -> Float[Tensor, "n c h w"]:
        """``tokens`` are ``self.tokens(x)``; the rest is TransformerBlock's."""
        return in_slices(self._add, x, self.block(tokens, reference, audio, audio_mask))

    def _add(self, x: Float[Tensor, "n c h w"], tokens: Float[Tensor, "n l c"]) -> Float[Tensor, "n c h w"]:
        return x + self.proj_out(tokens.transpose(1, 2).unflatten(2, x.shape[2:]))
