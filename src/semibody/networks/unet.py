"""The U-Net, one class for both roles.

*Denoising role*: frames fold into the batch, ``(b f) c h w``; each resnet (with its spatial
transformer, where a level has attention) is followed by a motion module; audio enters by
cross-attention, the portrait by reference attention, the pose after the first convolution.

*Reference role*: one frame, no motion, no audio, no output convolution (``out_channels=None``).
``appearance`` runs it and returns the normed input tokens of each of its spatial transformers.

Deep features change little from one denoising step to the next. Given ``DeepFeatures``, a pass keeps its own
there, and the next ones compute the outermost layers only (DeepCache: Ma et al. 2023, arXiv 2312.00858).

The published EchoMimicV2 networks are ``UNetConfig()`` and ``UNetConfig().as_reference()``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from semibody.networks.attention import KeyValue, SpatialTransformer
from semibody.networks.layers import Downsample, ResnetBlock, TimestepEmbedding, Upsample
from semibody.networks.motion import MotionModule
from semibody.networks.slices import repeat_rows

Appearance = dict[str, Tensor]
"""Layer name (``down_blocks.0.attentions.1``) -> normed tokens (b, l, c) of the portrait."""

KeyValues = Mapping[str, KeyValue]
"""Layer name -> keys and values projected once: of the Appearance, or of audio tokens."""

OUTER_LAYERS = 1
"""Layers of the way down that are computed where deep features are reused; on the way up one more."""


@dataclass
class DeepFeatures:
    """What a pass of the denoiser keeps for those of the next steps."""

    kept: Float[Tensor, "n c h w"] | None = None
    """input of the last ``OUTER_LAYERS`` + 1 layers of the way up; None: nothing is kept yet"""


@dataclass(frozen=True)
class AudioProjection:
    """n frames' audio tokens, projected for the layers of a denoiser."""

    layers: KeyValues
    """keys and values (n, l, c) of each spatial transformer"""
    time: Float[Tensor, "n e"] | None = None
    """what is added to the time embedding, in networks with ``audio_time_tokens``"""

    def frame(self, i: int) -> AudioProjection:
        """The projection of one frame."""
        layers = {name: KeyValue(kv.key[i : i + 1], kv.value[i : i + 1]) for name, kv in self.layers.items()}
        return AudioProjection(layers, None if self.time is None else self.time[i : i + 1])

    @staticmethod
    def joined(frames: Sequence[AudioProjection]) -> AudioProjection:
        """The projections of several frames as one."""
        layers = {
            name: KeyValue(*(torch.cat(x) for x in zip(*(f.layers[name] for f in frames), strict=True)))
            for name in frames[0].layers
        }
        times = [frame.time for frame in frames if frame.time is not None]
        return AudioProjection(layers, torch.cat(times) if times else None)

    @property
    def nbytes(self) -> int:
        tensors = [x for kv in self.layers.values() for x in kv] + ([] if self.time is None else [self.time])
        return sum(x.nbytes for x in tensors)


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """Sizes of a U-Net, from the published 1.3 B parameters down to a few million."""

    out_channels: int | None = 4
    """channels of the prediction; None: reference role, no output convolution"""
    widths: tuple[int, ...] = (320, 640, 1280, 1280)
    """channels of each level, finest first"""
    layers: int = 2
    """resnets (and transformers, motion modules) of a level on the way down; one more on the way up"""
    attention: tuple[bool, ...] = (True, True, True, False)
    """which levels have spatial transformers; the middle always has one"""
    heads: int = 8
    """attention heads, unless head_width is given"""
    head_width: int | None = None
    """width of an attention head; heads = level width / head_width"""
    audio_width: int | None = 384
    """width of an audio token; None: no audio cross-attention"""
    audio_scale: float = 3.0
    """factor on the audio cross-attention's output; 3.0 in the published code"""
    audio_time_tokens: int | None = None
    """tokens a frame whose concatenation is also added to the time embedding, where the audio mask lets it
    (small models: a mouth is a few cells); None: not at all"""
    motion: bool = True
    """motion modules after every resnet"""
    motion_heads: int = 8
    motion_frames: int = 32
    """longest window the motion modules' position table allows"""
    groups: int = 32
    """groups of the group norms"""

    def as_reference(self) -> UNetConfig:
        """The reference network that pairs with this denoising network, layer by layer."""
        return dataclasses.replace(
            self, out_channels=None, audio_width=None, audio_time_tokens=None, motion=False
        )

    def heads_of(self, width: int) -> int:
        return width // self.head_width if self.head_width else self.heads

    def __post_init__(self) -> None:
        if len(self.attention) != len(self.widths):
            raise ValueError(f"attention names {len(self.attention)} levels, widths {len(self.widths)}")
        for width in self.widths:
            if width % self.groups or width % self.heads_of(width):
                raise ValueError(f"width {width} does not divide into {self.groups} groups and heads")


class Level(nn.Module):
    """The layers of one resolution, in lists whose names are those of the checkpoints."""

    def __init__(self, config: UNetConfig, width: int, inputs: list[int], attention: bool) -> None:
        super().__init__()
        time_width = 4 * config.widths[0]
        if attention:
            self.attentions = nn.ModuleList([_transformer(config, width) for _ in inputs])
        self.resnets = nn.ModuleList([ResnetBlock(c, width, time_width, config.groups) for c in inputs])
        if config.motion:
            self.motion_modules = nn.ModuleList([_motion(config, width) for _ in inputs])

    # A level may also have `downsamplers` or `upsamplers`, a list of one.


class Middle(nn.Module):
    """Resnet, spatial transformer, motion module, resnet at the coarsest resolution."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        width, time_width = config.widths[-1], 4 * config.widths[0]
        self.attentions = nn.ModuleList([_transformer(config, width)])
        self.resnets = nn.ModuleList([ResnetBlock(width, width, time_width, config.groups) for _ in range(2)])
        if config.motion:
            self.motion_modules = nn.ModuleList([_motion(config, width)])


@dataclass(frozen=True)
class Layer:
    """A residual block, with a spatial transformer and a motion module where the network has them there."""

    name: str
    """of the transformer, as checkpoints name it"""
    resnet: nn.Module
    transformer: SpatialTransformer | None
    motion: nn.Module | None


@dataclass(frozen=True)
class Context:
    """What every layer of one forward pass is conditioned on."""

    time: Float[Tensor, "m e"]
    """SiLU of the time embedding, one row per clip or per frame"""
    frames: int = 1
    reference: KeyValues = field(default_factory=dict)
    audio: KeyValues = field(default_factory=dict)
    audio_time: Float[Tensor, "n e"] | None = None
    """SiLU of the time embedding with audio, which replaces ``time`` as far as ``audio_mask`` allows"""
    audio_mask: Float[Tensor, "n 1 h w"] | None = None

    def residual(self, resnet: nn.Module, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h w"]:
        """A residual block."""
        local = None if self.audio_time is None else (self.audio_time, self._mask(x))
        return resnet(x, self.time, local)

    def attention(self, layer: Layer, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """A spatial transformer, if the layer has one."""
        if layer.transformer is None:
            return x
        mask = self._mask(x)
        return layer.transformer(
            x,
            layer.transformer.tokens(x),
            self.reference.get(layer.name),
            self.audio.get(layer.name),
            None if mask is None else mask.flatten(1),
        )

    def motion(self, layer: Layer, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """A motion module, if the layer has one."""
        return x if layer.motion is None else layer.motion(x, self.frames)

    def _mask(self, x: Tensor) -> Float[Tensor, "n 1 h w"] | None:
        """The audio mask at the resolution of ``x``."""
        return None if self.audio_mask is None else F.adaptive_avg_pool2d(self.audio_mask, _size(x))


class UNet(nn.Module):
    """Built for ``in_channels``: the noisy latents' and those of whatever is concatenated with them."""

    def __init__(self, config: UNetConfig, in_channels: int = 4) -> None:
        super().__init__()
        self.config = config
        self.recompute = False
        """training: activation checkpointing, layer by layer"""
        widths, levels = config.widths, len(config.widths)
        time_width = 4 * widths[0]
        self.conv_in = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        self.time_embedding = TimestepEmbedding(widths[0], time_width)
        if config.audio_time_tokens and config.audio_width:
            self.audio_time = nn.Linear(config.audio_time_tokens * config.audio_width, time_width)

        self.down_blocks = nn.ModuleList()
        skips = [widths[0]]
        for i, width in enumerate(widths):
            inputs = [skips[-1]] + [width] * (config.layers - 1)
            level: Any = Level(config, width, inputs, config.attention[i])
            skips += [width] * config.layers
            if i < levels - 1:
                level.downsamplers = nn.ModuleList([Downsample(width)])
                skips.append(width)
            self.down_blocks.append(level)

        self.mid_block: Any = Middle(config)

        self.up_blocks = nn.ModuleList()
        above = widths[-1]
        for i, width in reversed(list(enumerate(widths))):
            inputs = []
            for _ in range(config.layers + 1):
                inputs.append(above + skips.pop())
                above = width
            level = Level(config, width, inputs, config.attention[i])
            if i > 0:
                level.upsamplers = nn.ModuleList([Upsample(width)])
            self.up_blocks.append(level)

        if config.out_channels is not None:
            self.conv_norm_out = nn.GroupNorm(config.groups, widths[0], eps=1e-5)
            self.conv_out = nn.Conv2d(widths[0], config.out_channels, 3, padding=1)

    # -- forward pass, Appearance and projections -------------------------------------------

    def forward(
        self,
        x: Float[Tensor, "n c h w"],
        t: Float[Tensor, " b"],
        *,
        frames: int = 1,
        pose: Float[Tensor, "n d h w"] | None = None,
        reference: KeyValues | None = None,
        audio: AudioProjection | None = None,
        audio_mask: Float[Tensor, "n 1 h w"] | None = None,
        deep: DeepFeatures | None = None,
    ) -> Float[Tensor, "n o h w"]:
        """Predict from noisy latents ``x``, n = (b f), at timesteps ``t``, one per clip.

        ``pose``        pose features, added to the first convolution's output; None: nothing added.
        ``reference``   the portrait's keys and values, from ``project_reference``; None: own tokens only.
        ``audio``       each frame's, from ``project_audio``; None: as for zero tokens.
        ``audio_mask``  0..1 per pixel: how much of the audio attention's output, and of audio's instead of
        silence's time embedding, counts there; None: everywhere all of it.
        ``deep``        where deep features are kept, or taken from once they are; None: all is computed.
        """
        context = self._context(t, frames, reference, audio, audio_mask)

        def whole(layer: Layer, x: Tensor) -> Tensor:
            x = context.residual(layer.resnet, x)
            return context.motion(layer, context.attention(layer, x))

        x = self._through(x, pose, whole, deep=deep)
        if self.config.out_channels is None:
            return x
        return self.conv_out(F.silu(self.conv_norm_out(x)))

    def appearance(
        self, x: Float[Tensor, "b c h w"], pose: Float[Tensor, "b d h w"] | None = None
    ) -> Appearance:
        """The normed tokens of clean latents ``x`` (timestep 0) at every spatial transformer, by its name.

        The pass ends at the last of them, because later layers would change none.
        """
        context = self._context(torch.zeros(1, device=x.device), 1, None, None, None)
        appearance: Appearance = {}
        last = [name for name, _ in self.transformers()][-1]

        def collect(layer: Layer, x: Tensor) -> Tensor:
            x = context.residual(layer.resnet, x)
            if layer.transformer is None:
                return x
            tokens = layer.transformer.tokens(x)
            normed = layer.transformer.block.norm1(tokens)
            # When it is recomputed for the backward pass the first stays: the second would keep all that was
            # recomputed for it alive, as if nothing were.
            appearance.setdefault(layer.name, normed)
            return x if layer.name == last else layer.transformer(x, tokens)

        self._through(x, pose, collect, last)
        return appearance

    def project_reference(self, appearance: Appearance) -> dict[str, KeyValue]:
        """A portrait's Appearance as keys and values: once per clip."""
        return {
            name: layer.block.attn1.project(appearance[name].to(layer.block.attn1.to_k.weight.dtype))
            for name, layer in self.transformers()
        }

    def project_audio(self, tokens: Float[Tensor, "n l d"]) -> AudioProjection:
        """Frames' audio tokens as keys and values, and what they add to the time embedding: once per clip."""
        layers = {name: layer.block.attn2.project(tokens) for name, layer in self.transformers()}
        time = self.audio_time(tokens.flatten(1)) if hasattr(self, "audio_time") else None
        return AudioProjection(layers, time)

    # -- the pass --------------------------------------------------------------------------

    def _context(
        self,
        t: Float[Tensor, " b"],
        frames: int,
        reference: KeyValues | None,
        audio: AudioProjection | None,
        audio_mask: Float[Tensor, "n 1 h w"] | None,
    ) -> Context:
        time, local = self.time_embedding(t), None
        if audio is not None and audio.time is not None:
            with_audio = repeat_rows(time, len(audio.time)) + audio.time
            if audio_mask is None:
                time = with_audio
            else:
                time, local = time + self.audio_time.bias, F.silu(with_audio)  # the bias: zero tokens
        if audio is None and hasattr(self, "audio_time"):
            time = time + self.audio_time.bias  # as for zero tokens
        layers = {} if audio is None else audio.layers
        return Context(F.silu(time), frames, reference or {}, layers, local, audio_mask)

    def _through(
        self,
        x: Float[Tensor, "n c h w"],
        pose: Float[Tensor, "n d h w"] | None,
        compute: Callable[[Layer, Tensor], Tensor],
        last: str | None = None,
        deep: DeepFeatures | None = None,
    ) -> Float[Tensor, "n d h w"]:
        """Down and up again, each layer by ``compute``; the layer named ``last`` ends the pass."""
        if self.recompute and torch.is_grad_enabled():
            compute = partial(checkpoint, compute, use_reentrant=False)

        x = self.conv_in(x)
        if pose is not None:
            x = x + pose
        if deep is not None and deep.kept is not None:
            return self._through_outer(x, deep.kept, compute)
        skips = [x]
        for level, layers in _levels(self.down_blocks, "down_blocks"):
            for layer in layers:
                x = compute(layer, x)
                skips.append(x)
            if hasattr(level, "downsamplers"):
                x = level.downsamplers[0](x)
                skips.append(x)

        first, second = _layers(self.mid_block, "mid_block")
        x = compute(second, compute(first, x))

        for level, layers in _levels(self.up_blocks, "up_blocks"):
            for layer in layers:
                if deep is not None and len(skips) == OUTER_LAYERS + 1:
                    deep.kept = x
                x = compute(layer, torch.cat([x, skips.pop()], dim=1))
                if layer.name == last:
                    return x
            if hasattr(level, "upsamplers"):
                x = level.upsamplers[0](x, _size(skips[-1]))
        return x

    def _through_outer(
        self, x: Float[Tensor, "n c h w"], kept: Tensor, compute: Callable[[Layer, Tensor], Tensor]
    ) -> Float[Tensor, "n d h w"]:
        """The outermost layers alone, down from ``x`` and up from what was ``kept`` of the deep ones."""
        skips = [x]
        for layer in _layers(self.down_blocks[0], "down_blocks.0")[:OUTER_LAYERS]:
            x = compute(layer, x)
            skips.append(x)
        last = len(self.up_blocks) - 1
        x = kept
        for layer in _layers(self.up_blocks[last], f"up_blocks.{last}")[-len(skips) :]:
            x = compute(layer, torch.cat([x, skips.pop()], dim=1))
        return x

    def transformers(self) -> Iterator[tuple[str, SpatialTransformer]]:
        """Every spatial transformer with its name, in the order of the forward pass."""
        for name in ("down_blocks", "mid_block", "up_blocks"):
            block = getattr(self, name)
            levels = [(block, _layers(block, name))] if name == "mid_block" else _levels(block, name)
            for _, layers in levels:
                yield from ((layer.name, layer.transformer) for layer in layers if layer.transformer)


def _levels(levels: nn.ModuleList, name: str) -> Iterator[tuple[Any, list[Layer]]]:
    """Each level with its layers."""
    for number, level in enumerate(levels):
        yield level, _layers(level, f"{name}.{number}")


def _layers(level: Any, name: str) -> list[Layer]:
    """The layers of a level: a residual block each, and what follows it."""

    def at(modules: str, j: int) -> Any:
        listed = getattr(level, modules, ())
        return listed[j] if j < len(listed) else None

    return [
        Layer(f"{name}.attentions.{j}", resnet, at("attentions", j), at("motion_modules", j))
        for j, resnet in enumerate(level.resnets)
    ]


def _size(x: Tensor) -> tuple[int, int]:
    return x.shape[2], x.shape[3]


def _transformer(config: UNetConfig, width: int) -> SpatialTransformer:
    heads = config.heads_of(width)
    return SpatialTransformer(width, heads, config.groups, config.audio_width, config.audio_scale)


def _motion(config: UNetConfig, width: int) -> MotionModule:
    return MotionModule(width, config.motion_heads, config.groups, config.motion_frames)
