"""What a rendered data set is to hold. Light, so that the command line can make its options from it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from semibody.config import option
from semibody.types import SemibodyError

if TYPE_CHECKING:
    from semibody.data.synthetic.assets import Assets

GENERATOR = 8
"""Grows whenever the same order would give other pictures, so that one folder never mixes two kinds."""
MAY_GROW = ("people", "clips")
"""What a later run may ask more of, in the same folder."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to make. The same order gives the same bytes (on one machine's libraries and driver)."""

    people: int = option(20, at_least=1, at_most=1_000_000)
    """Number of people."""
    clips: int = option(2, at_least=1, at_most=10_000)
    """Clips of each person."""
    seconds: float = option(3.0, at_least=0.04, at_most=600)
    """Length of a clip."""
    size: int = option(256, at_least=64, at_most=2048)
    """Width and height in pixels."""
    fps: float = option(24.0, at_least=1, at_most=120)
    """Frames per second."""
    seed: int = option(0, at_least=0)
    """Another seed, other people."""
    head_share: float = option(0.15, name="--heads", at_least=0, at_most=1)
    """Share of clips that show the head only."""
    backgrounds: str = option("", metavar="<path>")
    """Folder of pictures to use as backgrounds too."""
    speech: str = option("", metavar="<path>")
    """Folder of recordings to speak instead of synthesised sentences."""
    sway: float = option(1.0, at_least=0, at_most=2)
    """How far head and torso move about their place; 1 is lively."""
    photographed: float = option(0.0, at_least=0, at_most=1)
    """Share of clips with camera faults: grain, blur, compression, colour casts."""
    planned: float = option(0.5, at_least=0, at_most=1)
    """Share of clips whose arms follow a gesture planned from the speech; those of the others are drawn."""
    gestures: str = option("", metavar="<path>")
    """Folder of gestures (.npz, .json, folders of poses) to take the arms' movement from instead."""
    lifted: float = option(1.0, at_least=0, at_most=1)
    """Share of clips that follow --gestures, when there are any."""
    articulation: float = option(1.0, at_least=0, at_most=3)
    """How far mouths open in speech; 1 is a calm speaker."""

    def __post_init__(self) -> None:
        for name in ("head_share", "photographed", "planned", "lifted"):
            if not 0 <= getattr(self, name) <= 1:
                raise SemibodyError(f"{name} = {getattr(self, name)}: a share must be from 0 to 1")
        for name in ("people", "clips", "seconds", "size", "fps"):
            if not getattr(self, name) > 0:
                raise SemibodyError(f"{name} = {getattr(self, name)}: must be positive")
        if self.seconds > 600:  # frames of a clip are in memory together
            raise SemibodyError(f"seconds = {self.seconds}: must be 600 at most; ask for more clips instead")
        if self.size % 2:
            raise SemibodyError(f"size = {self.size}: must be even")

    def person(self, number: int) -> str:
        """The name of person ``number``: another seed, another person."""
        return f"synthetic-{self.seed}-{number:05d}"

    def record(self, assets: Assets) -> dict[str, Any]:
        """What decides the clips, to be kept beside them."""
        return dataclasses.asdict(self) | {"assets": assets.fingerprint(), "generator": GENERATOR}
