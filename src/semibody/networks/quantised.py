"""Linear layers in eight bits, by torchao: ``--precision int8`` and ``fp8``.

Weights are rounded once, by rows; inputs at every call, by rows too ("dynamic"), and products are those of
the GPU's eight-bit units. Convolutions, norms and attention stay as they are. It is not exact: lips and
identity are what relatives of this model lose first (docs/performance.md).
"""

from __future__ import annotations

import torch
from torch import nn

from semibody.runtime import EIGHT_BITS
from semibody.types import MissingPartError, SemibodyError

LEAST = 256
"""Layers with fewer inputs or outputs stay as they are: time embeddings' gains are lost in rounding."""


def require(precision: str, memory: str = "full") -> str:
    """The ``--memory`` to use. Raises MissingPartError without torchao, and SemibodyError for low memory: its
    networks are read again and again, each time unrounded."""
    if memory not in ("auto", "full"):
        raise SemibodyError(f"--precision {precision} works with --memory full; leave out one of them")
    try:
        import torchao  # noqa: F401
    except ImportError:
        raise MissingPartError(
            f"--precision {precision} needs torchao; run: pip install 'semibody[quantise]', or choose bf16"
        ) from None
    return "full"


def quantise(network: nn.Module, precision: str) -> None:
    """Replace the weights of wide linear layers by those in eight bits. Raises MissingPartError."""
    assert precision in EIGHT_BITS, precision
    require(precision)
    from torchao.quantization import (
        Float8DynamicActivationFloat8WeightConfig,
        Int8DynamicActivationInt8WeightConfig,
        PerRow,
        quantize_,
    )

    config = (
        Int8DynamicActivationInt8WeightConfig()
        if precision == "int8"
        else Float8DynamicActivationFloat8WeightConfig(granularity=PerRow())
    )
    with torch.no_grad():
        quantize_(network, config, filter_fn=_is_wide)


def _is_wide(module: nn.Module, name: str) -> bool:
    return (
        isinstance(module, nn.Linear)
        and min(module.in_features, module.out_features) >= LEAST
        and not name.startswith("time_embedding")
    )
