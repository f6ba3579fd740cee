"""What a training will take, before anything is spent: memory of each GPU, storage, hours.

A step is rehearsed on the meta device, where tensors have shapes and no content: forward and backward pass of
a micro-batch, activation checkpointing included. What lives at once is counted as it is made and freed, and
so are floating point operations. Weights, gradients and the states of AdamW and EMA are known exactly;
everything is an estimate of what a GPU will need beside its driver's own.
"""

from __future__ import annotations

import contextlib
import math
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import flop_registry

from semibody.clips.manifest import read_manifest
from semibody.data.dataset import packed_clips
from semibody.networks.audio_encoders import AudioConfig
from semibody.training.recipe import Recipe
from semibody.training.stages import STAGES
from semibody.training.stages.base import Rehearsal

JPEG_BYTES = 0.3
"""Bytes of a packed picture for each of its pixels: 173 KB at 768 x 768, measured."""
_ROW_RATE = {"whisper": 50, "wav2vec2": 50, "logmel": 100}
"""Rows of an audio encoder in a second."""


@dataclass(frozen=True, kw_only=True)
class StageEstimate:
    """What one stage takes; bytes are those of one GPU."""

    name: str
    trained: int
    """parameters that are trained"""
    frozen: int
    """parameters that are only used"""
    half: bool
    """activations are in 16 bits, and so are copies of the weights"""
    ema: bool
    several: bool
    """gradients are exchanged with other GPUs"""
    activations: float
    """bytes that live at once in a step beside what is kept from step to step"""
    tflop: float
    """work of one step on all GPUs"""
    shards: int = 1
    """GPUs over which weights, AdamW and EMA are sharded; in a step, weights are gathered"""

    @property
    def kept(self) -> dict[str, float]:
        """Bytes that are kept from step to step, by what they are."""
        weights, shard = self.trained + self.frozen, 4 / self.shards if self.shards > 1 else 0.0
        return {
            "weights": weights * ((6 if self.half else 4) + shard),
            "gradients": self.trained * ((8 if self.several else 4) + shard),
            "AdamW": self.trained * 8 / self.shards,
            "EMA": self.trained * 4 / self.shards if self.ema else 0,
        }

    @property
    def memory(self) -> float:
        return sum(self.kept.values()) + self.activations

    def line(self) -> str:
        parts = [*self.kept.items(), ("activations", self.activations)]
        return f"{self.memory / 1e9:.1f} GB a GPU: " + ", ".join(
            f"{name} {size / 1e9:.1f}" for name, size in parts if size
        )


def estimate_lines(recipe: Recipe, data: Path | None, packed: Path | None) -> Iterator[tuple[str, str]]:
    """Memory, time and storage in words, line by line. Raises SemibodyError for unreadable data."""
    run, found, hours = recipe.run, [], 0.0
    for name in recipe.stages:
        stage = estimate_stage(recipe, name)
        if stage is None:
            yield f"{name}", "memory and time are not estimated"
            continue
        found.append(stage)
        took = (
            STAGES[name].settings_in(recipe).optimiser.steps
            * stage.tflop
            / (run.gpus * run.gpu_tflops)
            / 3600
        )
        hours += took
        yield f"{name}", stage.line()
        yield f"{name}", f"{stage.tflop:,.1f} TFLOP a step, about {took:,.1f} hours"
    rate = f"{run.gpus} GPUs of {run.gpu_tflops:g} TFLOP/s each (run.gpus, run.gpu_tflops)"
    yield "hours", f"about {hours:,.1f} on {rate}"
    yield from _storage_lines(recipe, found, _frames(recipe, data, packed))


def estimate_stage(recipe: Recipe, name: str) -> StageEstimate | None:
    """Rehearse a step of a stage; None for a stage that cannot be rehearsed."""
    stage, run = STAGES[name], recipe.run
    o = stage.settings_in(recipe).optimiser
    samples = max(1, o.batch // (run.gpus * o.accumulate))
    half = run.precision != "fp32"
    with torch.device("meta"):
        rehearsal = stage.rehearse(recipe, samples)
        if rehearsal is None:
            return None
        trained, frozen = _parameters(rehearsal)
        flops, peak = _rehearse(rehearsal, torch.bfloat16 if half else torch.float32)
    return StageEstimate(
        name=name, trained=trained, frozen=frozen, half=half, ema=o.ema > 0, several=run.gpus > 1,
        activations=peak, tflop=flops * o.accumulate * run.gpus / 1e12,
        shards=run.gpus if run.shard else 1,
    )  # fmt: skip


def _parameters(rehearsal: Rehearsal) -> tuple[int, int]:
    """Numbers of trained and frozen parameters; one in several modules counts once."""
    every = {id(p): p for module in (rehearsal.module, *rehearsal.frozen) for p in module.parameters()}
    trained = sum(p.numel() for p in rehearsal.module.parameters() if p.requires_grad)
    return trained, sum(p.numel() for p in every.values()) - trained


def _rehearse(rehearsal: Rehearsal, dtype: torch.dtype) -> tuple[float, float]:
    """(floating point operations, bytes that live at once) of a micro-batch. Gradients of parameters are not
    counted: each is freed as soon as it is made."""
    for module in (rehearsal.module, *rehearsal.frozen):
        module.to(dtype)
    known = [t for m in (rehearsal.module, *rehearsal.frozen) for t in (*m.parameters(), *m.buffers())]
    for parameter in (p for p in rehearsal.module.parameters() if p.requires_grad):
        parameter.register_post_accumulate_grad_hook(_free_gradient)
    counted = Counted(known)
    with _fused_attention(), counted:
        rehearsal.loss(dtype).backward()
    return float(counted.flops), float(counted.peak)


def _free_gradient(parameter: Tensor) -> None:
    parameter.grad = None


class Counted(TorchDispatchMode):
    """Counts floating point operations (``flops``) and the bytes of tensors that live at once (``peak``).

    A storage counts once, those of ``known`` tensors never.

    PyTorch's ``FlopCounterMode`` keeps gradients alive, so both cannot be counted in one pass with it; its
    formulas are used here.
    """

    def __init__(self, known: Sequence[Tensor] = ()) -> None:
        super().__init__()
        self._known = [tensor.untyped_storage() for tensor in known]
        self._counted = {id(storage) for storage in self._known}
        self.now = self.peak = self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **(kwargs or {}), out_val=made)
        tree_map_only(Tensor, self._count, made)
        return made

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if id(storage) in self._counted:
            return
        self._counted.add(id(storage))
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, id(storage), size)

    def _free(self, storage: int, size: int) -> None:
        self._counted.discard(storage)
        self.now -= size


@contextlib.contextmanager
def _fused_attention() -> Iterator[None]:
    """Within it, attention keeps no weights: the kernels of GPUs do not, the meta device's does.

    A mode (``TorchFunctionMode``) would not see what is recomputed during the backward pass.
    """
    usual = F.scaled_dot_product_attention

    def fused(q: Tensor, k: Tensor, v: Tensor, **_: Any) -> Tensor:
        out: Tensor = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v)[0]
        return out

    F.scaled_dot_product_attention = fused  # type: ignore[assignment]
    try:
        yield
    finally:
        F.scaled_dot_product_attention = usual


# -- storage ------------------------------------------------------------------------------------------


def _frames(recipe: Recipe, data: Path | None, packed: Path | None) -> int | None:
    """Frames of the data at the recipe's rate; None where there is no data yet."""
    settings = recipe.data
    if data is not None:
        return sum(round(entry.seconds * settings.fps) for entry in read_manifest(data))
    if packed is not None:
        return sum(len(clip) for clip in packed_clips(packed, settings.packing))
    return None


def _storage_lines(
    recipe: Recipe, stages: Sequence[StageEstimate], frames: int | None
) -> Iterator[tuple[str, str]]:
    keep = recipe.run.keep
    checkpoints = sum(keep * s.trained * (16 if s.ema else 12) + 4 * (s.trained + s.frozen) for s in stages)
    yield "storage", f"{checkpoints / 1e9:,.1f} GB of checkpoints ({keep} of each stage, and its end)"
    hour = 3600 * recipe.data.fps
    given = hour if frames is None else frames
    picture, latent = picture_bytes(recipe), latent_bytes(recipe)
    whose = (
        f"{given / hour:,.1f} hours of video" if frames is not None else "each hour of video (--data: yours)"
    )
    parts = f"packed {given * picture / 1e9:,.1f}, latents and audio {given * latent / 1e9:,.1f}"
    yield "storage", f"{given * (picture + latent) / 1e9:,.1f} GB for {whose}: {parts}"


def picture_bytes(recipe: Recipe) -> float:
    """Bytes of a packed frame."""
    return JPEG_BYTES * recipe.data.size**2


def latent_bytes(recipe: Recipe) -> float:
    """Bytes of a frame's latents and of its share of the audio rows, in 16 bits."""
    side = recipe.data.size // recipe.model.vae.factor
    audio = recipe.model.audio
    rows = _ROW_RATE[audio.kind] / recipe.data.fps * math.prod(_row_shape(audio))
    return 2 * (recipe.model.vae.latent_channels * side**2 + rows)


def _row_shape(audio: AudioConfig) -> tuple[int, ...]:
    return {"whisper": (5, audio.width), "wav2vec2": (audio.width,), "logmel": (80,)}[audio.kind]
