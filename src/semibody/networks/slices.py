"""Layers computed slice by slice, so that what they need in between is in memory for one slice only.

    in_slices(layer, x)                 # pictures of a batch, a few at a time; layer(x) where x is small
    in_slices(layer, x, dim=2)          # pixels of (b, f, l, c), a few at a time

Convolutions and spatial attention treat the pictures of a batch alone, temporal attention its pixels, and a
feed-forward its tokens. A window of 12 frames at 768 x 768 has 68 MiB at the finest level of published
networks in bf16; for the whole of it a feed-forward needs 16 times that in between, and an attention 20.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

SLICE = 32 * 2**20
"""Bytes of the largest intermediate result of a slice. All of a small picture's layers stay below."""


def in_slices(
    compute: Callable[..., Tensor], x: Tensor, *rows: Tensor | None, growth: float = 1, dim: int = 0
) -> Tensor:
    """``compute(x, *rows)``, slice by slice along ``dim`` where that saves memory.

    ``compute`` treats the places of ``dim`` one by one, and its result has as many. ``growth`` is how many
    times as large as ``x`` its largest intermediate result is. Each of ``rows`` has a row for every place, or
    for every m consecutive ones (``repeat_rows``); None stays None. Where gradients are recorded nothing is
    sliced, since they keep all that was computed.
    """
    places = x.shape[dim]
    slices = min(places, math.ceil(x.nbytes * growth / SLICE))
    if slices <= 1 or torch.is_grad_enabled():
        return compute(x, *rows)
    each = math.ceil(places / slices)
    whole = None
    for start in range(0, places, each):
        length = min(each, places - start)
        made = compute(x.narrow(dim, start, length), *(_rows_of(row, start, length, places) for row in rows))
        if whole is None:
            whole = _empty(made, dim, places)
        whole.narrow(dim, start, length).copy_(made)
    assert whole is not None
    return whole


def repeat_rows(x: Tensor, n: int) -> Tensor:
    """Repeat each of m rows n/m times, so that one row per clip (or per frame) fits n frames."""
    return x if len(x) == n else x.repeat_interleave(n // len(x), dim=0)


def _rows_of(x: Tensor | None, start: int, length: int, places: int) -> Tensor | None:
    """The rows of a slice; one row serves every slice."""
    return x if x is None or len(x) == 1 else repeat_rows(x, places).narrow(0, start, length)


def _empty(x: Tensor, dim: int, places: int) -> Tensor:
    """Memory for so many places of ``dim``, in the layout of ``x``."""
    channels_last = (
        x.ndim == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    )
    layout = torch.channels_last if channels_last else torch.contiguous_format
    shape = (*x.shape[:dim], places, *x.shape[dim + 1 :])
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)
