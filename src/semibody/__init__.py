"""Semibody: one picture of a half body, speech and hand poses in; a talking, gesturing person out.

The public names are loaded when first used, so that ``import semibody`` and ``semibody --help``
stay instant (no torch, no media libraries).
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Pose": "semibody.types",
    "Gesture": "semibody.types",
    "Speech": "semibody.types",
    "Clip": "semibody.types",
    "SemibodyError": "semibody.types",
}

__all__ = ["Clip", "Gesture", "Pose", "SemibodyError", "Speech", "__version__"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'semibody' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
