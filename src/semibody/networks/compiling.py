"""The denoiser's blocks, compiled by ``torch.compile`` for the shapes of a clip, and as they were again.

    with compiling(network) as blocks: ...      # see Animator
    compile_blocks(network)                     # the next pass compiles, and later runs find its work on disk
    restore(network)

A block is compiled once for every shape it meets; blocks of the same shapes share the result. torch keeps what
it compiled below TORCHINDUCTOR_CACHE_DIR, by default in the folder for temporary files.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from semibody.networks.attention import TransformerBlock
from semibody.networks.layers import ResnetBlock
from semibody.networks.motion import MotionModule

BLOCKS = (ResnetBlock, TransformerBlock, MotionModule)
SHAPES = 64
"""Shapes that one kind of block may have: of all levels, with and without conditions."""


def compile_blocks(network: nn.Module, backend: str = "inductor") -> None:
    """Have the blocks of a network compiled when they are next called. Calls may then raise torch's errors."""
    # Beyond its own limit, which is lower, torch computes as if nothing were compiled.
    torch._dynamo.config.recompile_limit = max(SHAPES, torch._dynamo.config.recompile_limit)  # type: ignore[attr-defined]
    for block in _blocks(network):
        block.forward = torch.compile(block.forward, dynamic=False, backend=backend)


def restore(network: nn.Module) -> None:
    """Have the blocks of a network computed as they are written."""
    for block in _blocks(network):
        vars(block).pop("forward", None)


def _blocks(network: nn.Module) -> Iterator[nn.Module]:
    return (module for module in network.modules() if isinstance(module, BLOCKS))
