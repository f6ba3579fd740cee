"""A recipe: everything that decides a training, as frozen dataclasses filled from a TOML file.

    recipe = load_recipe("tiny", ["still.optimiser.steps=50"])

Recipes that come with the package are named by their file: ``official``, ``starter``, ``finetune``,
``tiny``. A path to a TOML file of one's own works as well. Default < recipe < ``--set a.b=c``.
Settings that stages share are in ``training.settings``, those of a stage in its file in ``training.stages``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from semibody import config
from semibody.files import exists
from semibody.training.settings import RecipeBase
from semibody.training.stages import STAGES
from semibody.training.stages.audio import AudioSettings
from semibody.training.stages.denoise import MotionSettings, StillSettings
from semibody.training.stages.keypoints import KeypointSettings
from semibody.training.stages.lips import LipSettings
from semibody.training.stages.plate import PlateSettings
from semibody.training.stages.restore import RestoreSettings
from semibody.training.stages.vae import VAESettings
from semibody.types import SemibodyError


@dataclass(frozen=True, kw_only=True)
class Recipe(RecipeBase):
    """A whole training: what stages share, and a field for each stage, of its name."""

    vae: VAESettings = field(default_factory=VAESettings)
    keypoints: KeypointSettings = field(default_factory=KeypointSettings)
    audio: AudioSettings = field(default_factory=AudioSettings)
    lips: LipSettings = field(default_factory=LipSettings)
    plate: PlateSettings = field(default_factory=PlateSettings)
    still: StillSettings = field(default_factory=StillSettings)
    motion: MotionSettings = field(default_factory=MotionSettings)
    restore: RestoreSettings = field(default_factory=RestoreSettings)

    def __post_init__(self) -> None:
        order = list(STAGES)
        unknown = [name for name in self.stages if name not in STAGES]
        if unknown:
            raise ValueError(f"there is no stage {unknown[0]}; choose from {', '.join(order)}")
        positions = [order.index(name) for name in self.stages]
        if positions != sorted(set(positions)):
            raise ValueError(f"stages must be in the order {', '.join(order)}, each once")
        for name in self.stages:
            STAGES[name].check(self)
        if self.model.hints.portrait == "residual" and self.schedule.prediction != "sample":
            raise ValueError('model.hints.portrait = "residual" needs schedule.prediction = "sample"')
        if self.run.shard and (self.start.lora_rank or self.run.precision == "fp16"):
            raise ValueError("run.shard goes neither with start.lora_rank nor with run.precision = fp16")
        if self.data.size % self.model.vae.factor:
            raise ValueError("data.size must be a multiple of the side of a latent cell in pixels")


def bundled() -> dict[str, Path]:
    """Recipes that come with the package, by name."""
    folder = Path(str(resources.files("semibody"))) / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_recipe(name: str | Path, overrides: tuple[str, ...] | list[str] = ()) -> Recipe:
    """A recipe by name or file, with ``a.b=c`` overrides. Raises SemibodyError."""
    path = bundled().get(str(name), Path(name))
    if not (exists(path) and path.is_file()):
        raise SemibodyError(f"recipe {name}: no such recipe; choose {', '.join(bundled())} or a TOML file")
    return config.load(Recipe, toml=path, overrides=overrides)
