"""How a batch is run. Nothing here imports torch, so that the command line starts at once."""

from __future__ import annotations

from dataclasses import dataclass

from semibody.config import option
from semibody.processes import Workers


@dataclass(frozen=True, kw_only=True)
class Running(Workers):
    """How a batch is run; nothing here changes a video but the threads it is computed with."""

    workers: int = option(0, at_least=0, at_most=1024)
    """Processes that make clips, each with the weights loaded once; they share the cores, and take GPUs in
    turn. 0: one, or one for each GPU of a Ray cluster."""
    retries: int = option(2, at_least=0, at_most=100)
    """How often a job is begun again after an error that may pass (memory, network, a device)."""
    again: bool = False
    """Also make clips that are there already."""
