"""Recorded cases of the published code: finding them by pattern, reading them, and their weights.

Weights are not stored: each tensor is drawn from a generator seeded by its key, so that two programs
which agree on the keys agree on the weights (rule: standard normal from PCG64 seeded with
crc32(salt + key); divided by the root of the fan-in from two dimensions on, else times 0.02, plus 1
for norm gains).
"""

from __future__ import annotations

import json
import math
import os
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)

HERE = Path(__file__).parent.parent / "golden"
SHARED = Path(__file__).parent.parent.parent.parent / "shared" / "golden"

TABLES = (".pe", "embed_positions.weight")
"""Sinusoid tables belong to the architecture and are not drawn."""

WHISPER_NAMES = (
    ("embed_positions.weight", "positional_embedding"),
    (".layers.", ".blocks."),
    (".self_attn.q_proj.", ".attn.query."),
    (".self_attn.k_proj.", ".attn.key."),
    (".self_attn.v_proj.", ".attn.value."),
    (".self_attn.out_proj.", ".attn.out."),
    (".self_attn_layer_norm.", ".attn_ln."),
    (".fc1.", ".mlp.0."),
    (".fc2.", ".mlp.2."),
    (".final_layer_norm.", ".mlp_ln."),
)


def folder() -> Path:
    """What to test against: SEMIBODY_GOLDEN, else the shared folder, else the few cases beside the tests."""
    given = os.environ.get("SEMIBODY_GOLDEN")
    if given:
        return Path(given)
    return SHARED if SHARED.is_dir() else HERE


@dataclass(frozen=True)
class Case:
    """One recorded file: arrays by key, and ``meta``."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.stem

    @cached_property
    def arrays(self) -> Any:
        return np.load(self.path, allow_pickle=False)

    @cached_property
    def meta(self) -> dict[str, Any]:
        return json.loads(bytes(self.arrays["meta"])) if "meta" in self.arrays.files else {}

    def __contains__(self, key: str) -> bool:
        return key in self.arrays.files

    def __getitem__(self, key: str) -> NDArray[Any]:
        return self.arrays[key]

    def tensor(self, key: str) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(self.arrays[key]))

    def names(self, prefix: str = "") -> list[str]:
        return [k for k in self.arrays.files if k.startswith(prefix) and k != "meta"]

    def sibling(self, ending: str) -> Case:
        base = self.name.removesuffix("_inputs")
        return Case(self.path.with_name(f"{base}_{ending}.npz"))


def cases(pattern: str, *keys: str) -> list[Any]:
    """Parameters for every recorded file that matches ``pattern`` and holds ``keys``."""
    if not folder().is_dir():
        return [
            pytest.param(None, marks=pytest.mark.skip(reason=f"no recorded numbers: {folder()} is absent"))
        ]
    found = []
    for path in sorted(folder().rglob(pattern)):
        case = Case(path)
        if all(key in case for key in keys):
            marks = [pytest.mark.slow] if is_full_size(case) else []
            found.append(pytest.param(case, id=str(path.relative_to(folder()).with_suffix("")), marks=marks))
    if not found:
        reason = f"{folder()} holds no {pattern} with {', '.join(keys) or 'content'}"
        return [pytest.param(None, id="none", marks=pytest.mark.skip(reason=reason))]
    return found


def is_full_size(case: Case) -> bool:
    widths = case.meta.get("block_out_channels", [])
    return case.name.startswith(("full", "vae_full")) or (bool(widths) and widths[0] >= 320)


def draw(key: str, shape: tuple[int, ...], salt: str) -> Tensor:
    """The tensor that belongs to ``key``."""
    generator = np.random.Generator(np.random.PCG64(zlib.crc32((salt + key).encode())))
    noise = generator.standard_normal(shape, dtype=np.float32)
    if len(shape) >= 2:
        return torch.from_numpy(np.asarray(noise * np.float32(1.0 / math.sqrt(math.prod(shape[1:])))))
    noise = noise * np.float32(0.02)
    return torch.from_numpy(np.asarray(noise + np.float32(1.0) if key.endswith("weight") else noise))


def fill(module: M, salt: str, names: tuple[tuple[str, str], ...] = ()) -> M:
    """Give ``module`` the drawn weights; ``names`` turn its keys into those the weights are drawn for."""
    for key, value in module.state_dict().items():
        if key.endswith(TABLES) or not value.is_floating_point():
            continue
        theirs = key
        for ours, other in names:
            theirs = theirs.replace(ours, other)
        value.copy_(draw(theirs, tuple(value.shape), salt))
    return module.eval().requires_grad_(False)
