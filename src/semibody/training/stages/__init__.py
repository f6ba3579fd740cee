"""The stages of a training, in order. A new one is a file here, a line below and a field of ``Recipe``."""

from __future__ import annotations

from typing import Any

from semibody.training.stages.audio import AudioStage
from semibody.training.stages.base import Stage
from semibody.training.stages.denoise import MotionStage, StillStage
from semibody.training.stages.keypoints import KeypointStage
from semibody.training.stages.lips import LipStage
from semibody.training.stages.plate import PlateStage
from semibody.training.stages.restore import RestoreStage
from semibody.training.stages.vae import VAEStage

STAGES: dict[str, type[Stage[Any]]] = {
    stage.name: stage
    for stage in (
        VAEStage,
        KeypointStage,
        AudioStage,
        LipStage,
        PlateStage,
        StillStage,
        MotionStage,
        RestoreStage,
    )
}
"""Every stage by its name."""
