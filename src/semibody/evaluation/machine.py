"""What of this machine an evaluation uses. Light, so that the command line can make its options from it."""

from __future__ import annotations

from dataclasses import dataclass

from semibody.processes import Workers


@dataclass(frozen=True, kw_only=True)
class Machine(Workers):
    """Processes and device; both leave the numbers as they are, but for a device's rounding."""

    device: str = "auto"
    """Of networks: auto, cpu, cuda, cuda:1."""
