"""The batch of a step. Every random choice is a function of (seed, stage, step, sample).

So a resumed run, another number of workers, or two processes instead of one train on exactly the same
samples, and checkpoints need no random state.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

Generator = np.random.Generator


def generator(seed: int, source: int, step: int, sample: int = 0) -> Generator:
    """The source of every random choice of one sample; ``source`` is the number of its stage."""
    return np.random.default_rng([seed, source, step, sample])


@cache
def constant(values: tuple[Any, ...], device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """Numbers on a device, copied there once: each copy waits for all work the device has been given."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Tensors, lists and mappings of them, and the names of the samples."""

    on_host: ClassVar[frozenset[str]] = frozenset()
    """fields whose values Python reads, so that they stay where that waits for no device"""

    names: list[str]
    """clip and first frame of each sample, for messages"""

    @classmethod
    def stacked(cls, samples: Sequence[Mapping[str, Any]], **others: Any) -> Self:
        """A batch of samples, each its arrays, mappings of them or None, and its ``name``; ``others`` are
        taken as they are."""
        tensors = {key: _stacked([one[key] for one in samples]) for key in samples[0] if key != "name"}
        return cls(**tensors, **others, names=[sample["name"] for sample in samples])

    def to(self, device: torch.device) -> Self:
        """All tensors on a device, but those of ``on_host``."""
        return self._with(lambda tensor: tensor.to(device, non_blocking=True), but=self.on_host)

    def pinned(self) -> Self:
        """All tensors in memory that a GPU reads while the host goes on."""
        return self._with(lambda tensor: tensor.pin_memory())

    def _with(self, change: Callable[[Tensor], Tensor], but: Collection[str] = ()) -> Self:
        names = [item.name for item in dataclasses.fields(self) if item.name not in but]
        return dataclasses.replace(self, **{name: _changed(getattr(self, name), change) for name in names})


def _stacked(values: Sequence[Any]) -> Any:
    """Arrays as one tensor, mappings of them as a mapping; None stays."""
    if values[0] is None:
        return None
    if isinstance(values[0], Mapping):
        return {key: _stacked([one[key] for one in values]) for key in values[0]}
    return torch.from_numpy(np.stack(values))


def _changed(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """``value`` with all its tensors changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: _changed(one, change) for key, one in value.items()}
    if isinstance(value, list):
        return [_changed(one, change) for one in value]
    return value
