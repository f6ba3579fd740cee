"""Filling a network of ours from a published state dict."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from torch import nn

from semibody.weights.state import check, read_state, shapes_of

Network = TypeVar("Network", bound=nn.Module)
_COUNTS = "num_batches_tracked"
"""How often batch normalisation was trained: some files hold it, and nothing needs it."""


def load_published(network: Network, path: Path, *, without: tuple[str, ...] = ()) -> Network:
    """``network`` with the weights of a file, for inference; keys that start with ``without`` are left out.

    Raises SemibodyError, naming the file and what does not fit.
    """
    state = {
        k: v for k, v in read_state(path).items() if not k.endswith(_COUNTS) and not k.startswith(without)
    }
    expected = {k: v for k, v in shapes_of(network).items() if not k.endswith(_COUNTS)}
    check(state, expected, str(path))
    network.load_state_dict(state, strict=False)
    return network.eval()
