"""The batch of a step. Every random choice is a function of (seed, stage, step, sample).

So a resumed run, another number of workers, or two processes instead of one train on exactly the same
samples, and checkpoints need no random state.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

Generator = np.random.Generator


def generator(seed: int, source: int, step: int, sample: int = 0) -> Generator:
    """The source of every random choice of one sample; ``source`` is the number of its stage."""
    return np.random.default_rng([seed, source, step, sample])


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Tensors, lists and mappings of them, and the names of the samples."""

    names: list[str]
    """clip and first frame of each sample, for messages"""

    @classmethod
    def stacked(cls, samples: Sequence[Mapping[str, Any]], **others: Any) -> Self:
        """A batch of samples, each its arrays, mappings of them or None, and its ``name``; ``others`` are
        taken as they are."""
        tensors = {key: _stacked([one[key] for one in samples]) for key in samples[0] if key != "name"}
        return cls(**tensors, **others, names=[sample["name"] for sample in samples])

    def to(self, device: torch.device) -> Self:
        """All tensors on a device."""
        moved = {item.name: _moved(getattr(self, item.name), device) for item in dataclasses.fields(self)}
        return dataclasses.replace(self, **moved)


def _stacked(values: Sequence[Any]) -> Any:
    """Arrays as one tensor, mappings of them as a mapping; None stays."""
    if values[0] is None:
        return None
    if isinstance(values[0], Mapping):
        return {key: _stacked([one[key] for one in values]) for key in values[0]}
    return torch.from_numpy(np.stack(values))


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, dict):
        return {key: _moved(one, device) for key, one in value.items()}
    if isinstance(value, list):
        return [_moved(one, device) for one in value]
    return value
