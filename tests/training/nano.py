"""The smallest training there is: drawn people of 64 pixels, networks of a few thousand parameters."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from semibody.training.drawn import make_drawn_clips
from semibody.training.recipe import Recipe, load_recipe

NANO = (
    'stages=["vae","keypoints","plate","still","motion","restore"]', "data.size=64", "data.gap=2",
    "data.workers=1", "model.restorer.plate=true", "model.plate.widths=[8,16,16]", "model.plate.groups=4",
    "plate.optimiser.steps=4", "plate.optimiser.batch=4", "plate.optimiser.warmup=2", "plate.other_frames=2",
    "data.prefetch=2", "model.restorer.widths=[8,16]", "model.restorer.groups=4", "model.restorer.limbs=true",
    "model.unet.widths=[32,32]", "model.unet.attention=[false,true]", "model.unet.head_width=16",
    "model.unet.audio_width=16", "model.limbs=true", "model.plate_latents=true",
    "model.unet.in_channels=13", "model.unet.out_channels=4",
    "model.audio.width=16", "model.pose_encoder.out_channels=32", "model.pose_encoder.widths=[8,8,16,16]",
    "model.vae.widths=[16,16]", "model.vae.patch=4", "model.vae.latent_channels=4",
    "vae.crop=32", "vae.optimiser.steps=6", "vae.optimiser.batch=4", "vae.optimiser.warmup=2",
    "keypoints.width=8", "keypoints.crop=32", "keypoints.optimiser.steps=4", "keypoints.optimiser.batch=4",
    "still.optimiser.steps=6", "still.optimiser.batch=4", "still.optimiser.warmup=2",
    "motion.frames=3", "motion.optimiser.steps=4", "motion.optimiser.batch=2",
    "restore.frames=2", "restore.optimiser.steps=4", "restore.optimiser.batch=2", "restore.lips=3.0",
    "restore.change=0.5",
    "restore.pool=6", "restore.crops=0.5", "restore.crop_samples=2", "restore.crop_cells=4",
    "loss.decode_every=2", "loss.decode_cells=4", "loss.change=0.5", "perceptual=efficientnet",
    "run.precision=fp32", "run.log_every=2", "run.validation_clips=2", "run.tensorboard=false",
)  # fmt: skip


def nano(*changes: str) -> Recipe:
    return load_recipe("tiny", [*NANO, *changes])


@cache
def _clips(folder: Path) -> Path:
    make_drawn_clips(folder, nano(), people=3, frames=8, held_out=1)
    return folder


def packed(folder: Path) -> Path:
    """A folder of packed drawn clips, made once a session."""
    return _clips(folder)
