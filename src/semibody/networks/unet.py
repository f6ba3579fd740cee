"""The U-Net, one class for both roles.

*Denoising role*: frames fold into the batch, ``(b f) c h w``; each resnet (with its spatial
transformer, where a level has attention) is followed by a motion module; audio enters by
cross-attention, the portrait by reference attention, the pose after the first convolution.

*Reference role*: one frame, no motion, no audio, no output convolution (``out_channels=None``).
``appearance`` runs it and returns what each of its spatial transformers sees.

The published EchoMimicV2 networks are ``UNetConfig()`` and ``UNetConfig().as_reference()``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from semibody.networks.attention import KeyValue, SpatialTransformer
from semibody.networks.layers import Downsample, ResnetBlock, TimestepEmbedding, Upsample, repeat_rows
from semibody.networks.motion import MotionModule

Appearance = dict[str, Tensor]
"""Layer name (``down_blocks.0.attentions.1``) -> normed tokens (b, l, c) of the portrait."""

Memory = Mapping[str, KeyValue]
"""Layer name -> keys and values projected once: of the Appearance, or of audio tokens."""


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """Sizes of a U-Net, from the published 1.3 B parameters down to a few million."""

    in_channels: int = 4
    """channels of the noisy latents, and of whatever is concatenated with them"""
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

    def as_reference(self, in_channels: int | None = None) -> UNetConfig:
        """The reference network that pairs with this denoising network, layer by layer."""
        return dataclasses.replace(
            self,
            in_channels=in_channels or self.in_channels,
            out_channels=None,
            audio_width=None,
            audio_time_tokens=None,
            motion=False,
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


class UNet(nn.Module):
    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        self.recompute = False
        """training: keep only what goes from layer to layer; the backward pass computes the rest again"""
        widths, levels = config.widths, len(config.widths)
        time_width = 4 * widths[0]
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
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

    # -- the three things a U-Net is asked for ---------------------------------------------

    def forward(
        self,
        x: Float[Tensor, "n c h w"],
        t: Float[Tensor, " b"],
        *,
        frames: int = 1,
        pose: Float[Tensor, "n d h w"] | None = None,
        reference: Memory | None = None,
        audio: Memory | None = None,
        audio_time: Float[Tensor, "n e"] | None = None,
        audio_mask: Float[Tensor, "n 1 h w"] | None = None,
        seen: Appearance | None = None,
    ) -> Float[Tensor, "n o h w"]:
        """Predict from noisy latents ``x``, n = (b f), at timesteps ``t``, one per clip.

        ``pose``        pose features, added to the first convolution's output; None: nothing added.
        ``reference``   the portrait's keys and values, from ``remember``; None: own tokens only.
        ``audio``       each frame's keys and values, from ``remember_audio``; None: as for zero tokens.
        ``audio_time``  each frame's addition to the time embedding, from ``remember_audio``.
        ``audio_mask``  0..1 per pixel: how much of the audio attention's output, and of ``audio_time``
        instead of silence's, counts there; None: everywhere all of it.
        ``seen``        filled with the Appearance; the pass then ends where nothing more can be seen.
        """
        time, heard = self.time_embedding(t), None
        if audio_time is not None and audio_mask is None:
            time = repeat_rows(time, len(x)) + audio_time
        elif audio_time is not None:
            heard = F.silu(repeat_rows(time, len(x)) + audio_time)
            time = time + self.audio_time.bias  # what silence adds
        time = F.silu(time)
        reference, audio = reference or {}, audio or {}
        last = self._last_transformer if seen is not None else None

        def mask_at(x: Tensor) -> Tensor | None:
            return None if audio_mask is None else F.adaptive_avg_pool2d(audio_mask, _size(x))

        def resnet(block: Any, x: Tensor, mask: Tensor | None) -> Tensor:
            return block(x, time, None if heard is None else (heard, mask))

        def layer(x: Tensor, level: Any, name: str, j: int) -> Tensor:
            mask = mask_at(x)
            x = resnet(level.resnets[j], x, mask)
            if hasattr(level, "attentions"):
                key, transformer = f"{name}.attentions.{j}", level.attentions[j]
                tokens = transformer.tokens(x)
                if seen is not None:
                    seen[key] = transformer.block.norm1(tokens)
                    if key == last:
                        return x
                weight = None if mask is None else mask.flatten(1)
                x = transformer(x, tokens, reference.get(key), audio.get(key), weight)
            return level.motion_modules[j](x, frames) if hasattr(level, "motion_modules") else x

        def work(x: Tensor, level: Any, name: str, j: int) -> Tensor:
            if self.recompute and torch.is_grad_enabled():
                return checkpoint(layer, x, level, name, j, use_reentrant=False)
            return layer(x, level, name, j)

        x = self.conv_in(x)
        if pose is not None:
            x = x + pose
        skips = [x]
        for name, level in _named(self.down_blocks, "down_blocks"):
            for j in range(self.config.layers):
                x = work(x, level, name, j)
                skips.append(x)
            if hasattr(level, "downsamplers"):
                x = level.downsamplers[0](x)
                skips.append(x)

        x = work(x, self.mid_block, "mid_block", 0)
        x = resnet(self.mid_block.resnets[1], x, mask_at(x))

        for name, level in _named(self.up_blocks, "up_blocks"):
            for j in range(self.config.layers + 1):
                x = work(torch.cat([x, skips.pop()], dim=1), level, name, j)
                if seen is not None and last in seen:
                    return x
            if hasattr(level, "upsamplers"):
                x = level.upsamplers[0](x, _size(skips[-1]))

        if self.config.out_channels is None:
            return x
        return self.conv_out(F.silu(self.conv_norm_out(x)))

    def appearance(
        self, x: Float[Tensor, "b c h w"], pose: Float[Tensor, "b d h w"] | None = None
    ) -> Appearance:
        """What every spatial transformer sees of clean latents ``x`` (timestep 0), by layer name."""
        seen: Appearance = {}
        self(x, torch.zeros(1, device=x.device), pose=pose, seen=seen)
        return seen

    def remember(self, appearance: Appearance) -> dict[str, KeyValue]:
        """Project a portrait's Appearance to keys and values, once per clip."""
        return {
            name: layer.block.attn1.project(appearance[name].to(layer.block.attn1.to_k.weight.dtype))
            for name, layer in self.transformers()
        }

    def remember_audio(
        self, tokens: Float[Tensor, "n l d"]
    ) -> tuple[dict[str, KeyValue], Float[Tensor, "n e"] | None]:
        """Project each frame's audio tokens to keys and values, once per clip; and its time addition."""
        audio = {name: layer.block.attn2.project(tokens) for name, layer in self.transformers()}
        return audio, self.audio_time(tokens.flatten(1)) if hasattr(self, "audio_time") else None

    @property
    def _last_transformer(self) -> str:
        return [name for name, _ in self.transformers()][-1]

    def transformers(self) -> Iterator[tuple[str, SpatialTransformer]]:
        """Every spatial transformer with its name, in the order of the forward pass."""
        blocks = [*_named(self.down_blocks, "down_blocks"), ("mid_block", self.mid_block)]
        for name, level in [*blocks, *_named(self.up_blocks, "up_blocks")]:
            for j, transformer in enumerate(getattr(level, "attentions", ())):
                yield f"{name}.attentions.{j}", transformer


def _named(levels: nn.ModuleList, name: str) -> list[tuple[str, Any]]:
    return [(f"{name}.{i}", level) for i, level in enumerate(levels)]


def _size(x: Tensor) -> tuple[int, int]:
    return x.shape[2], x.shape[3]


def _transformer(config: UNetConfig, width: int) -> SpatialTransformer:
    heads = config.heads_of(width)
    return SpatialTransformer(width, heads, config.groups, config.audio_width, config.audio_scale)


def _motion(config: UNetConfig, width: int) -> MotionModule:
    return MotionModule(width, config.motion_heads, config.groups, config.motion_frames)
