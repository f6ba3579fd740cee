"""Adapters of low rank (LoRA, Hu et al. 2021): fine-tuning of low-rank matrices added to frozen weights.

    inject(denoiser, 8, lambda name: "attn1" in name)    # only the adapters are trained
    with merged(denoiser): state = denoiser.state_dict() # ordinary weights, without adapters

Adapters are added to the projections of attention (``to_q``, ``to_k``, ``to_v``, ``to_out.0``). A checkpoint
holds the adapters only; ``final`` and the exported weights hold the sums.
"""

from __future__ import annotations

import contextlib
import copy
import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from semibody.types import MissingPartError, SemibodyError

_PROJECTION = re.compile(r".*\.to_(q|k|v|out\.0)")
_ADAPTER = "lora_"
"""What peft's names of an adapter's parameters contain."""


def inject(module: nn.Module, rank: int, wanted: Callable[[str], bool], *, seed: int = 0) -> None:
    """Add an adapter of ``rank`` to every projection whose parameter ``wanted`` names, initialised to 0.

    Raises MissingPartError without peft, SemibodyError when no projection is wanted.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise MissingPartError("start.lora_rank needs peft; pip install 'semibody[train]'") from None

    places = [n for n, _ in module.named_modules() if _PROJECTION.fullmatch(n) and wanted(f"{n}.weight")]
    if not places:
        raise SemibodyError(
            "start.lora_rank: start.train names no projection of attention; correct its patterns"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=places), module)


def is_adapter(parameter: str) -> bool:
    """Whether a parameter of this name belongs to an adapter."""
    return _ADAPTER in parameter


@contextlib.contextmanager
def merged(module: nn.Module) -> Iterator[None]:
    """Within it, projections with an adapter are replaced by plain ones that compute the same."""
    adapted: dict[str, Any] = {
        name: layer for name, layer in module.named_modules() if hasattr(layer, "get_delta_weight")
    }
    for name, layer in adapted.items():
        plain = copy.deepcopy(layer.get_base_layer())
        with torch.no_grad():
            plain.weight += layer.get_delta_weight("default").to(plain.weight.dtype)
        _put(module, name, plain)
    try:
        yield
    finally:
        for name, layer in adapted.items():
            _put(module, name, layer)


def _put(module: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(module.get_submodule(parent), child, layer)
