"""Where metrics are computed: settings that hardly change a number. Light, for the command line."""

from __future__ import annotations

from dataclasses import dataclass

from semibody.config import option
from semibody.processes import Workers


@dataclass(frozen=True, kw_only=True)
class Computing(Workers):
    """In which processes, on which machines and devices."""

    device: str = option("auto")
    """Of the metrics' networks: auto, cpu, cuda, cuda:1."""
