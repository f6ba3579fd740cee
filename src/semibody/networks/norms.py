"""Group norms with fixed statistics: a part of a picture is computed as the whole picture would be.

    fixed, made = with_statistics(network, lambda copy: copy(whole))     # a copy, and what it made of whole
    fixed(part)                                                    # whole's own values, but for its rim

A group norm's mean and variance are those of the whole picture, so a network computes a part of it otherwise
than as part of the whole. Where pictures hardly differ, one of them gives the statistics for all.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)
Result = TypeVar("Result")


class FixedNorm(nn.Module):
    """A group norm whose statistics do not depend on its input: a factor and an offset by channel."""

    def __init__(self, norm: nn.GroupNorm, x: Float[Tensor, "1 c h w"]) -> None:
        """``x``: the input whose mean and variance are used."""
        super().__init__()
        groups = x[0].float().reshape(norm.num_groups, -1)
        factor = torch.rsqrt(groups.var(dim=1, correction=0) + norm.eps)
        each = norm.num_channels // norm.num_groups
        factor, mean = factor.repeat_interleave(each), groups.mean(dim=1).repeat_interleave(each)
        factor = factor * norm.weight.float()
        offset = norm.bias.float() - mean * factor
        self.register_buffer("factor", factor.to(x.dtype)[:, None, None])
        self.register_buffer("offset", offset.to(x.dtype)[:, None, None])

    factor: Tensor
    offset: Tensor

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return torch.addcmul(self.offset, x, self.factor)


def with_statistics(network: Network, run: Callable[[Network], Result]) -> tuple[Network, Result]:
    """A copy of ``network`` whose group norms keep the statistics of what ``run`` gives them, and its result.

    ``run`` calls the network it is given, once, with a single picture (n = 1). Norms that it does not reach
    stay as they are.
    """
    made = copy.deepcopy(network)
    fixed: dict[nn.Module, FixedNorm] = {}

    def keep(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        assert isinstance(norm, nn.GroupNorm)
        fixed[norm] = FixedNorm(norm, *inputs)

    norms = [module for module in made.modules() if isinstance(module, nn.GroupNorm)]
    hooks = [norm.register_forward_pre_hook(keep) for norm in norms]
    result = run(made)
    for hook in hooks:
        hook.remove()
    for parent in list(made.modules()):
        for name, child in list(parent.named_children()):
            if child in fixed:
                setattr(parent, name, fixed[child])
    return made, result
