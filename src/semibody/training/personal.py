"""Weights tuned to one person by a few minutes of training on one picture.

    folder = personalise(read_image("portrait.jpg"), Path("me"))     # a weights folder
    folder = personal_weights(read_image("portrait.jpg"))            # the same, kept for the next time

The one picture becomes a clip of its own mild variations (moved, turned, scaled, brightened), and the
autoencoder's decoder learns to draw them, faces and hands above all: this face, these clothes and this
background come out sharper. How a person moves no single picture can tell, so everything else rests. (U-Nets
tuned on such variations learn that a picture moves as a whole, and double the face as soon as hands move.)
"""

from __future__ import annotations

import dataclasses
import hashlib
import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from semibody import config
from semibody.data.dataset import Packing, pack_clip
from semibody.diffusion.schedule import ScheduleConfig
from semibody.inputs import fit_portrait
from semibody.networks.loading import WeightsInfo, describe, load_model, save_model
from semibody.settings import Settings
from semibody.training.recipe import Recipe, load_recipe
from semibody.training.start import below
from semibody.training.trainer import Training, train
from semibody.types import Gesture, MissingPartError, Picture, Pose, Progress, SemibodyError, silent
from semibody.weights import hub, store

RECIPE = "finetune-starter"
VARIATIONS = 24
SHIFT, SCALE, TURN, BRIGHTNESS = 0.03, 0.04, 2.0, 0.05
"""Largest variations: shares of the picture, of the size, degrees, share of the brightness."""


def personalise(
    portrait: Picture,
    out: Path,
    *,
    recipe: Recipe | None = None,
    device: str = "auto",
    progress: Progress = silent,
) -> Path:
    """Tune weights to the person in ``portrait`` and write them to the folder ``out``, all or nothing.

    ``recipe`` names in ``start.weights`` what is tuned (default: the starter). Raises SemibodyError when
    nobody is found in the portrait, the weights are published ones, or ``out`` is there already, and
    KeyboardInterrupt when it is stopped on the way.
    """
    recipe = recipe or load_recipe(RECIPE)
    if out.exists():
        raise SemibodyError(f"{out}: is there already; choose another folder")
    source, info = find_source(recipe.start.weights)
    recipe = fitted(recipe, info)
    picture, pose = find_person(portrait, recipe.data.size)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".unfinished-") as name:
        folder = Path(name)
        pack_portrait(folder / "packed", picture, pose, recipe)
        done = train(recipe, folder / "run", packed=folder / "packed", device=device, progress=progress)
        if not done.finished:
            raise KeyboardInterrupt
        model, _ = load_model(source)
        final = Training(recipe, folder / "run", device=device).final("vae")
        assert final is not None
        model.vae.load_state_dict(below(final.weights, "vae."))
        facts = {**config.to_dict(info), "origin": f"{info.origin}, tuned to one portrait"}
        save_model(folder / "weights", model, {k: facts[k] for k in ("schedule", "defaults", "origin")},
                   torch.bfloat16)  # fmt: skip
        (folder / "weights").rename(out)
    return out


def personal_weights(
    portrait: Picture,
    weights: str = "starter",
    *,
    recipe: Recipe | None = None,
    device: str = "auto",
    progress: Progress = silent,
) -> Path:
    """The weights tuned to a portrait: from the user's cache, else tuned now. Raises as ``personalise``."""
    recipe = recipe or load_recipe(RECIPE)
    recipe = dataclasses.replace(recipe, start=dataclasses.replace(recipe.start, weights=weights))
    folder = cached(portrait, recipe)
    if not store.is_store(folder):
        personalise(portrait, folder, recipe=recipe, device=device, progress=progress)
    return folder


def cached(portrait: Picture, recipe: Recipe) -> Path:
    """Where the weights of a portrait are kept: named by the picture, the recipe and the weights it tunes."""
    source, _ = find_source(recipe.start.weights)
    digest = hashlib.sha256(f"{portrait.shape} {config.to_dict(recipe)}".encode())
    digest.update(np.ascontiguousarray(portrait).tobytes())
    for path in [source / store.INDEX, *sorted(source.glob("*.safetensors"))]:
        digest.update(path.read_bytes())
    return hub.home() / "personal" / digest.hexdigest()[:24]


def find_source(weights: str) -> tuple[Path, WeightsInfo]:
    """The weights to tune. Raises SemibodyError for published ones, which no CPU can train."""
    folder, _ = hub.find_weights(weights)
    if not store.is_store(folder):
        raise SemibodyError(
            f"{weights}: published weights are too large for this; personalise the starter "
            "(--weights starter), or use the recipe finetune on a GPU"
        )
    return folder, describe(folder)


def fitted(recipe: Recipe, info: WeightsInfo) -> Recipe:
    """The recipe with the sizes and the schedule of the weights it tunes."""
    side = int(info.defaults.get("width", recipe.data.size))
    return dataclasses.replace(
        recipe,
        model=info.model,
        schedule=config.build(ScheduleConfig, info.schedule),
        defaults=info.defaults,
        data=dataclasses.replace(recipe.data, size=side),
    )


def find_person(portrait: Picture, side: int) -> tuple[Picture, Pose]:
    """The framed portrait (side, side, 3) and the pose in it. Raises SemibodyError if nobody is found."""
    shown = fit_portrait(portrait, Settings(width=side, height=side))
    if shown.pose is None:
        said = [f.remedy for f in shown.findings if f.topic == "person" and f.remedy]
        if said:
            raise MissingPartError(f"personalising needs the person's pose: {said[0]}")
        raise SemibodyError("nobody was found in the portrait; give a half-body picture of one person")
    return shown.picture, shown.pose


def pack_portrait(folder: Path, picture: Picture, pose: Pose, recipe: Recipe) -> Path:
    """The portrait and its variations as a packed clip with silence: its mouth says nothing."""
    pictures, gesture = vary(picture, pose, np.random.default_rng(recipe.seed), recipe.data.fps)
    packing = Packing(size=recipe.data.size, fps=recipe.data.fps, head_height=recipe.data.head_height)
    return pack_clip(
        folder / packing.key, "portrait", pictures, gesture, None, None,
        person="portrait", kind="full", split="train", packing=packing,
    )  # fmt: skip


def vary(
    picture: Picture, pose: Pose, rng: np.random.Generator, fps: float
) -> tuple[NDArray[np.uint8], Gesture]:
    """The picture (s, s, 3) as it is, then variations of it: (f, s, s, 3), and the pose of each."""
    side = len(picture)
    pictures, poses = [picture], [pose]
    for _ in range(VARIATIONS - 1):
        shift, (scale, turn, light) = rng.uniform(-SHIFT, SHIFT, 2), rng.uniform(-1, 1, 3)
        matrix = cv2.getRotationMatrix2D((side / 2, side / 2), TURN * turn, 1 + SCALE * scale)
        matrix[:, 2] += shift * side
        moved = cv2.warpAffine(
            picture, matrix, (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )
        lit = np.clip(moved * (1 + BRIGHTNESS * light), 0, 255)
        pictures.append(np.rint(lit).astype(np.uint8))
        joints = (pose.joints * side) @ matrix[:, :2].T + matrix[:, 2]
        poses.append(Pose(joints / side, pose.confidence))
    return np.stack(pictures), Gesture.from_poses(poses, fps, name="portrait")
