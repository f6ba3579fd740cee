"""The stage of the keypoint network, whose heat maps L_pose compares: trained on crops and true joints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from semibody.data.dataset import PackedClip
from semibody.training.batches import constant
from semibody.training.crops import CropBatch, CropSamples
from semibody.training.keypoints import JOINTS, KeypointNetwork, blobs, find, heat_map_loss
from semibody.training.pictures import channels_last, to_pixels
from semibody.training.settings import Optimiser, RecipeBase, StageSettings
from semibody.training.stages.base import Context, Rehearsal, Stage
from semibody.training.start import fill
from semibody.training.validation import Scores
from semibody.types import Picture, SemibodyError

_ON_PARTS = 0.6
"""Share of crops placed on faces and hands."""
_NEAR = 0.05
"""A joint counts as found within this share of the picture."""


@dataclass(frozen=True, kw_only=True)
class KeypointSettings(StageSettings):
    """The small frozen network whose heat maps L_pose compares."""

    optimiser: Optimiser = field(default_factory=lambda: Optimiser(steps=3000, batch=16))
    width: int = 32
    """channels at a quarter of the picture; doubled at each further halving"""
    crop: int = 128
    """side of the crops in pixels"""


class KeypointStage(Stage[KeypointSettings]):
    """Trains the keypoint network, which is part of the loss and of no model."""

    name: ClassVar[str] = "keypoints"
    source: ClassVar[int] = 1
    card_figures: ClassVar[tuple[str, ...]] = ("found",)

    @classmethod
    def build(cls, context: Context) -> Self:
        with context.seeded():
            network = KeypointNetwork(cls.settings_in(context.recipe).width)
        return cls(context, network)

    @classmethod
    def rehearse(cls, recipe: RecipeBase, samples: int) -> Rehearsal:
        settings = cls.settings_in(recipe)
        network = KeypointNetwork(settings.width)
        crops = torch.empty(samples, 3, settings.crop, settings.crop)
        return Rehearsal(network, (), lambda dtype: network(crops.to(dtype)).float().mean())

    @classmethod
    def trained(cls, context: Context) -> KeypointNetwork:
        """The finished network, frozen. Raises SemibodyError when there is none."""
        final = context.final(cls)
        if final is None:
            raise SemibodyError(f"L_pose needs the stage {cls.name}; add it to stages, or set loss.pose = 0")
        network = KeypointNetwork(cls.settings_in(context.recipe).width)
        fill(network, final.weights, str(context.out / cls.name))
        return network.eval().requires_grad_(False).to(context.device)

    def __init__(self, context: Context, network: KeypointNetwork) -> None:
        super().__init__(context)
        self.network = self.module = network
        self.samples = CropSamples(
            recipe=self.recipe,
            source=self.source,
            clips=self.clips,
            side=self.settings.crop,
            on_parts=_ON_PARTS,
        )

    def batch(self, step: int, samples: Sequence[int]) -> CropBatch:
        return self.samples.batch(step, samples)

    def losses(self, module: nn.Module, batch: CropBatch) -> dict[str, Tensor]:
        logits = module(channels_last(to_pixels(batch.pixels)))
        height, width = logits.shape[2:]
        rows = constant(tuple(JOINTS), batch.joints.device, torch.long)
        joints, confidence = (x.index_select(1, rows) for x in (batch.joints, batch.confidence))
        scale = constant((width, height), joints.device, torch.long)
        wanted = blobs(joints * scale, (confidence >= 0.5).float(), height, width)
        # Occluded joints (0.3) have no weight: the target is a blob for visible and none for absent joints.
        known = ((confidence >= 0.5) | (confidence < 0.05)).float()
        return {"loss": heat_map_loss(logits, wanted, known)}

    def validate_clip(self, clip: PackedClip, number: int, scores: Scores) -> list[Picture]:  # noqa: ARG002
        """Share of the middle frame's visible joints that are found, and their median error."""
        device = next(self.network.parameters()).device
        frame = len(clip) // 2
        truth = torch.from_numpy(clip.pictures([frame])[0]).permute(2, 0, 1)[None].to(device)
        where, _ = find(self.network.heat_maps(to_pixels(truth)))
        pose = clip.pose(frame)
        visible = pose.confidence[list(JOINTS)] >= 0.5
        off = np.linalg.norm(where[0].cpu().numpy() - pose.joints[list(JOINTS)], axis=1)[visible]
        if len(off):
            scores.update({"found": float((off < _NEAR).mean()), "median_error": float(np.median(off))})
        return []
