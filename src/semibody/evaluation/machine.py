"""What of this machine an evaluation uses. Light, so that the command line can make its options from it."""

from __future__ import annotations

from dataclasses import dataclass

from semibody.config import option


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Processes and device; both leave the numbers as they are, but for a device's rounding."""

    workers: int = option(0, at_least=0)
    """Processes; 0 = one a core."""
    device: str = "auto"
    """Of networks: auto, cpu, cuda, cuda:1."""
