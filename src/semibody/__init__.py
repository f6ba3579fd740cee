"""Semibody: one picture of a half body, speech and hand poses in; a talking, gesturing person out.

The public names are loaded when first used, so that ``import semibody`` and ``semibody --help``
stay instant (no torch, no media libraries).
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Animator": "semibody.animator",
    "Job": "semibody.batch.jobs",
    "animate_many": "semibody.batch.many",
    "SemibodyPipeline": "semibody.pipeline",
    "evaluate": "semibody.evaluation.run",
    "Live": "semibody.live",
    "load_gesture": "semibody.pose.files",
    "save_gesture": "semibody.pose.files",
    "read_clip": "semibody.media",
    "read_speech": "semibody.media",
    "say": "semibody.voices.speaking",
    "write_clip": "semibody.media",
    "Pose": "semibody.types",
    "Gesture": "semibody.types",
    "Speech": "semibody.types",
    "Clip": "semibody.types",
    "SemibodyError": "semibody.types",
}

__all__ = [
    "Animator",
    "Clip",
    "Gesture",
    "Job",
    "Live",
    "Pose",
    "SemibodyError",
    "SemibodyPipeline",
    "Speech",
    "__version__",
    "animate_many",
    "evaluate",
    "load_gesture",
    "read_clip",
    "read_speech",
    "save_gesture",
    "say",
    "write_clip",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'semibody' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
