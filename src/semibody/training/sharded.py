"""Training with weights, AdamW's moments and EMA sharded over the processes (FSDP2).

    trained = sharded_copy(stage.module, device)     # parameters are shards; this is what steps train
    fill(stage.module, dict(trained.named_parameters()))   # whole weights, to validate and export
    release(stage.module)                                  # their memory is free again

FSDP changes a module in place: its forward pass waits for all processes, and its state is shards. Validating
is shared out by clips and exporting is one process's work, so both use the stage's own, ordinary module; its
weights are there only meanwhile. All parameters are one group, gathered for a whole step, because networks
use each other's projections outside of forward passes (``Model.project_audio``). So what is saved is the
memory of moments and EMA, half of what training keeps; gradients are whole until the step's end.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from semibody.training.checkpoint import whole


def sharded_copy(module: nn.Module, device: torch.device) -> nn.Module:
    """A copy of ``module`` whose parameters are shards; ``module`` is released.

    Every process must call it, with equal weights.
    """
    from torch import distributed
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    # FSDP shards contiguous parameters only, and splits them by their first axis.
    copied = copy.deepcopy(module).to(device=device).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    mesh = init_device_mesh(device.type, (distributed.get_world_size(),))
    made: nn.Module = fully_shard(copied, mesh=mesh, reshard_after_forward=False)
    release(module)
    return made


def fill(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give a released module its parameters, whole, from ``state``. Every process must call it."""
    for name, parameter in module.named_parameters():
        value = whole(state[name]).clone()
        channels_last = value.ndim == 4
        parameter.data = value.contiguous(memory_format=torch.channels_last) if channels_last else value


def release(module: nn.Module) -> None:
    """Free the memory of a module's parameters until it is filled again."""
    for parameter in module.parameters():
        parameter.data = parameter.data.new_empty(0)
