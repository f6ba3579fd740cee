"""The stage of the network that hears which lips a sound is made with (``networks.lips``).

It needs no clip: its utterances are synthesised, hundreds of voices in two dozen languages, whose phonemes
and so whose lips are known, and songs of vowels, and kept in the folder of the training. Every sample hears
one of them in another room, through another microphone, with other music or noise behind it, or hears no
speech at all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from semibody.clips.mouth import SHAPES, correlation
from semibody.data.synthetic.utterances import (
    Power,
    Utterance,
    heard_sound,
    make_noise,
    make_song,
    make_utterance,
)
from semibody.media import atomic_write
from semibody.networks.audio_encoders import LogMelEncoder
from semibody.networks.lips import LipsConfig, LipShapes
from semibody.networks.model import Model
from semibody.training.batches import Batch, generator
from semibody.training.ranks import ALONE, Ranks
from semibody.training.settings import Optimiser, RecipeBase, StageSettings
from semibody.training.stages.base import Context, Stage
from semibody.training.stages.denoise import export_model
from semibody.training.start import fill
from semibody.types import Progress

_NOISES = 64
_VALIDATED = 48
"""Held-out utterances."""
_LEVELS = (-0.18, 0.14)
"""By how much rows are off, because a piece of a recording is not as loud as the whole."""
_PRESS = SHAPES.index("press")


class LipPrediction(nn.Module):
    """The network's prediction at every second row as one module, so that it can be distributed."""

    def __init__(self, lips: LipShapes) -> None:
        super().__init__()
        self.lips = lips

    def forward(self, rows: Float[Tensor, "n r 80"]) -> Float[Tensor, "n s 6"]:
        return self.lips.logits(rows)


@dataclass(frozen=True, kw_only=True)
class LipBatch(Batch):
    """Log-mel rows, and the lips at every second of them that has a whole window."""

    rows: Float[Tensor, "n r 80"]
    mouth: Float[Tensor, "n s 6"]


@dataclass(frozen=True, kw_only=True)
class LipSettings(StageSettings):
    """The training of the network that predicts the shapes of the lips."""

    optimiser: Optimiser = field(default_factory=lambda: Optimiser(steps=2500, batch=32))
    utterances: int = 2000
    """synthesised once, beside those held out"""
    seconds: float = 5.0
    """of an utterance"""
    articulation: float = 1.8
    """how far jaws open, times a calm speaker's: as in the clips that the other networks are trained on"""
    songs: int = 240
    """sung beside them, so that a long note keeps the mouth open"""
    rows: int = 320
    """of 10 ms in a sample"""
    closing: float = 3.0
    """weight of closed lips beside open ones, because a b is short"""


class LipStage(Stage[LipSettings]):
    """Trains the network on the cross-entropy of the shapes."""

    name: ClassVar[str] = "lips"
    source: ClassVar[int] = 7
    network_name: ClassVar[str] = "lips"
    card_figures: ClassVar[tuple[str, ...]] = ("jaw_r", "round_r", "press_r", "lower_r")

    @classmethod
    def check(cls, recipe: RecipeBase) -> None:
        if recipe.model.lips is None:
            raise ValueError(f"the stage {cls.name} needs model.lips, for example model.lips = {{}}")

    @classmethod
    def build(cls, context: Context) -> Self:
        with context.seeded():
            network = LipShapes(context.recipe.model.lips or LipsConfig())
        given = None if context.given is None else context.given.lips
        if given is not None:
            fill(network, given.state_dict(), f"{context.recipe.start.weights} ({cls.network_name})")
        return cls(context, network)

    def __init__(self, context: Context, network: LipShapes) -> None:
        super().__init__(context)
        self.network = network
        self.module = LipPrediction(network)
        self._given, self._out = context.given, context.out
        self._sounds = Sounds(context.out / "sounds", self.recipe.seed, self.settings)
        workers = self.recipe.data.workers
        context.ranks.share(
            self._sounds.names,
            lambda names: self._sounds.make(names, workers=workers, progress=context.progress),
        )

    def batch(self, step: int, samples: Sequence[int]) -> LipBatch:
        """Random utterances, each as it is heard somewhere."""
        return self._batch([generator(self.recipe.seed, self.source, step, n) for n in samples], False)

    def _batch(self, generators: Sequence[np.random.Generator], held_out: bool) -> LipBatch:
        config, sounds = self.network.config, self._sounds
        rows, mouths, names = [], [], []
        for rng in generators:
            number = int(rng.integers(_VALIDATED if held_out else sounds.count))
            noise = int(rng.integers(_NOISES))
            utterance = sounds.held_out(number) if held_out else sounds.trained(number)
            power, mouth = heard_sound(rng, utterance, sounds.noise(noise), self.settings.rows)
            heard = LogMelEncoder.rows_of(torch.from_numpy(power).T.clone())
            rows.append((heard + float(rng.uniform(*_LEVELS))).clamp(min=-1.0))
            mouths.append(mouth[config.rows - 1 - config.after :: 2])
            names.append(f"{number}:{noise}")
        count = (self.settings.rows - config.rows) // 2 + 1
        truth = torch.from_numpy(np.stack([one[:count] for one in mouths]))
        return LipBatch(rows=torch.stack(rows), mouth=truth, names=names)

    def losses(self, module: nn.Module, batch: LipBatch) -> dict[str, Tensor]:
        logits = module(batch.rows).float()
        weight = 1 + (self.settings.closing - 1) * batch.mouth[..., _PRESS : _PRESS + 1]
        entropy = F.binary_cross_entropy_with_logits(logits, batch.mouth.clamp(0, 1), reduction="none")
        error = (entropy * weight).mean(dim=(0, 1))
        return {"loss": error.sum(), **dict(zip(SHAPES, error, strict=True))}

    @torch.no_grad()
    def validate(self, ranks: Ranks = ALONE) -> tuple[dict[str, float], None]:  # noqa: ARG002
        """Correlation of predicted and true shapes of held-out voices, as they are heard; one batch, so every
        process computes all of it."""
        generators = [generator(self.recipe.seed, self.source, 2**31, n) for n in range(_VALIDATED)]
        batch = self._batch(generators, True)
        device = next(self.network.parameters()).device
        predicted = self.module(batch.rows.to(device)).float().sigmoid().cpu().flatten(0, 1).numpy()
        truth = batch.mouth.flatten(0, 1).numpy()
        found = {f"{name}_r": correlation(predicted[:, k], truth[:, k]) for k, name in enumerate(SHAPES)}
        closed, parted = truth[:, _PRESS] > 0.7, truth[:, _PRESS] < 0.1
        found["closed"] = float((predicted[closed, _PRESS] > 0.5).mean()) if closed.any() else np.nan
        found["closed_wrongly"] = float((predicted[parted, _PRESS] > 0.5).mean()) if parted.any() else np.nan
        return {name: value for name, value in found.items() if not np.isnan(value)}, None

    def export(self, folder: Path, step: int) -> None:
        """Where weights are given to start from, they with this network."""
        if self._given is None:
            return
        config = dataclasses.replace(self._given.config, lips=self.network.config)
        networks = {name: getattr(self._given, name) for name in self._given.config.networks}
        model = Model(config, {**networks, "lips": self.network})
        export_model(folder, model, self.recipe, 1, f"stage {self.name}, step {step}")


class Sounds:
    """Utterances and noises on disk, a file each, made where they are missing."""

    def __init__(self, folder: Path, seed: int, settings: LipSettings) -> None:
        self._folder, self._seed, self._settings = folder, seed, settings
        self._kept: dict[str, Utterance] = {}

    @property
    def names(self) -> list[tuple[str, int]]:
        """Name and number of each."""
        return [
            *((f"noise-{n}", n) for n in range(_NOISES)),
            *((f"held-out-{n}", n) for n in range(_VALIDATED)),
            *((f"song-{n}", n) for n in range(self._settings.songs)),
            *((f"{n}", n) for n in range(self._settings.utterances)),
        ]

    @property
    def count(self) -> int:
        """How many are trained on."""
        return self._settings.utterances + self._settings.songs

    def make(self, names: Sequence[tuple[str, int]], *, workers: int, progress: Progress) -> None:
        """Those of ``names`` that are missing. Raises MissingPartError when no voice is installed."""
        missing = [one for one in names if not (self._folder / f"{one[0]}.npz").exists()]
        with ThreadPoolExecutor(max(1, workers)) as threads:
            for done, _ in enumerate(threads.map(lambda one: self._make(*one), missing)):
                progress("synthesise speech", done, len(missing))

    def trained(self, number: int) -> Utterance:
        """One of ``count``: what is said, then what is sung."""
        sung = number - self._settings.utterances
        return self._read(f"{number}" if sung < 0 else f"song-{sung}")

    def held_out(self, number: int) -> Utterance:
        return self._read(f"held-out-{number}")

    def noise(self, number: int) -> Power:
        return self._read(f"noise-{number}").power

    def _make(self, name: str, number: int) -> None:
        kind = ("noise", "held-out", "", "song").index(name.rpartition("-")[0])
        rng = generator(self._seed, LipStage.source, 2**31 + 1 + kind, number)
        if kind == 0:
            power = make_noise(rng, self._settings.seconds + 3)
            made = Utterance(power, np.zeros((len(power), len(SHAPES)), np.float32))
        elif kind == 3:
            made = make_song(rng, self._settings.seconds, articulation=self._settings.articulation)
        else:
            made = make_utterance(
                rng, self._settings.seconds, held_out=kind == 1, articulation=self._settings.articulation
            )
        with atomic_write(self._folder / f"{name}.npz") as unfinished, unfinished.open("wb") as file:
            np.savez(file, power=np.log10(np.maximum(made.power, 1e-10)).astype(np.float16),
                     mouth=made.mouth.astype(np.float16))  # fmt: skip

    def _read(self, name: str) -> Utterance:
        if name not in self._kept:
            path = self._folder / f"{name}.npz"
            with np.load(path, allow_pickle=False) as kept:
                power, mouth = (kept[part].astype(np.float32) for part in ("power", "mouth"))
            self._kept[name] = Utterance(10**power, mouth)
        return self._kept[name]
