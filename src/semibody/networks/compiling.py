"""The denoiser's blocks, compiled by ``torch.compile`` for the shapes of a clip; and as they are written.

    compile_blocks(network)     # the next pass compiles
    restore(network)

A block is compiled once for every shape it meets; blocks of the same shapes share the result. torch keeps
what it compiled below TORCHINDUCTOR_CACHE_DIR, by default in the folder for temporary files, so later runs
need seconds. Results differ by rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from semibody.networks.attention import TransformerBlock
from semibody.networks.layers import ResnetBlock
from semibody.networks.motion import MotionModule

BLOCKS = (ResnetBlock, TransformerBlock, MotionModule)
SHAPES = 64
"""Shapes that one kind of block may have: of all levels, with and without conditions."""


def compile_blocks(network: nn.Module, backend: str | Callable[..., Any] = "inductor") -> None:
    """Have the blocks of a network compiled when they are next called, which may raise torch's errors."""
    import torch._dynamo.config as limits

    # Beyond its own limit, which is lower, torch computes as if nothing were compiled.
    limits.recompile_limit = max(SHAPES, limits.recompile_limit)
    for block in _blocks(network):
        block.forward = torch.compile(block.forward, dynamic=False, backend=backend)


def restore(network: nn.Module) -> None:
    """Have the blocks of a network computed as they are written."""
    for block in _blocks(network):
        vars(block).pop("forward", None)


def _blocks(network: nn.Module) -> Iterator[nn.Module]:
    return (module for module in network.modules() if isinstance(module, BLOCKS))
