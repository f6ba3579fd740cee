"""What a stage of a training is, and what it is built from.

A stage is one class in a file of its own: its settings, its networks with the weights that earlier stages
trained, its batches, losses and validation, and how reports show it. ``stages.STAGES`` lists them in order;
trainer, loop and reports name no stage.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from semibody import config
from semibody.data.dataset import LatentStore, PackedClip
from semibody.data.found import find_poses
from semibody.networks.model import Model, ModelConfig
from semibody.training import checkpoint
from semibody.training.batches import Batch
from semibody.training.pictures import channels_last, grid, to_pixels
from semibody.training.ranks import ALONE, Ranks
from semibody.training.settings import RecipeBase, StageSettings
from semibody.training.sources import Taken, take
from semibody.training.start import below, copy_networks, fill, given_model, initialise_motion
from semibody.training.validation import Scores
from semibody.types import Picture, Progress, SemibodyError, Speech

S = TypeVar("S", bound=StageSettings)

_ENCODED_AT_ONCE = 16
"""Frames the autoencoder encodes together when clips are prepared."""
_GRID_ROWS = 8
"""Rows of a validation picture, at most."""


class Rehearsal(NamedTuple):
    """A step of a stage on the meta device, without content (``training.estimate``)."""

    module: nn.Module
    """what is trained; parameters that require no gradient are frozen"""
    frozen: tuple[nn.Module, ...]
    """networks that are only used"""
    loss: Callable[[torch.dtype], Tensor]
    """the forward pass of a micro-batch in a precision"""


class Stage(ABC, Generic[S]):
    """One stage of a training."""

    name: ClassVar[str]
    """of its table in a recipe, its folder in a training and its lines in the log"""
    source: ClassVar[int]
    """its number in ``batches.generator``; never changed, so that samples stay when stages are added"""
    network_name: ClassVar[str] = ""
    """the network of a Model that it trains from the start, if it is one; parameters are named after it"""
    missing: ClassVar[str] = ""
    """message with the remedy, for a training whose later stages need the network and do not have it"""
    needs: ClassVar[tuple[type[Stage[Any]], ...]] = ()
    """stages one of which must be finished, unless the recipe names weights to start from"""
    columns: ClassVar[str] = ""
    """what the columns of its validation picture show"""
    card_figures: ClassVar[tuple[str, ...]] = ()
    """how the names of the validation figures on a model card start"""

    module: nn.Module
    """what is trained; parameters that require no gradient are frozen"""
    frames: int = 1
    """frames of a sample, for the throughput"""

    def __init__(self, context: Context) -> None:
        self.recipe, self.settings = context.recipe, self.settings_in(context.recipe)
        self.clips, self.held_out = list(context.clips), list(context.held_out)
        self.autocast = context.autocast

    @classmethod
    def settings_in(cls, recipe: RecipeBase) -> S:
        """The stage's own settings: the recipe's field of its name."""
        settings: S = getattr(recipe, cls.name)
        return settings

    @classmethod
    def check(cls, recipe: RecipeBase) -> None:
        """Raises ValueError where a recipe with this stage contradicts itself."""

    @classmethod
    def plan(cls, recipe: RecipeBase) -> list[tuple[str, str]]:
        """Lines of the plan: a name and a text."""
        o = cls.settings_in(recipe).optimiser
        return [(cls.name, f"{o.steps:,} steps of {o.batch} samples, lr {o.lr:g}")]

    @classmethod
    def rehearse(cls, recipe: RecipeBase, samples: int) -> Rehearsal | None:  # noqa: ARG003
        """A step of this many samples, built on the meta device; None: it cannot be rehearsed."""
        return None

    # -- networks -----------------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def build(cls, context: Context) -> Self:
        """The stage with its networks, as earlier stages trained them."""

    @classmethod
    def sized(cls, sizes: ModelConfig, final: checkpoint.Snapshot) -> ModelConfig:  # noqa: ARG003
        """The sizes of a Model that can load the weights of this stage."""
        return sizes

    @classmethod
    def load_into(cls, final: checkpoint.Snapshot, model: Model, source: str) -> None:
        """Load the finished weights of this stage into a Model. Raises SemibodyError on misfits."""
        if cls.network_name in model.config.networks:
            fill(getattr(model, cls.network_name), below(final.weights, f"{cls.network_name}."), source)

    def facts(self) -> dict[str, Any]:
        """Values to store with the finished weights."""
        return {}

    def export(self, folder: Path, step: int) -> None:
        """Write a weights folder, if the stage has a whole model."""

    # -- a step -------------------------------------------------------------------------------

    @abstractmethod
    def batch(self, step: int, samples: Sequence[int]) -> Batch:
        """The samples with these numbers; called from threads."""

    @abstractmethod
    def losses(self, module: nn.Module, batch: Any) -> dict[str, Tensor]:
        """``loss`` and its terms, each a scalar; ``module`` is the (wrapped) module."""

    def frozen(self, step: int) -> list[str]:  # noqa: ARG002
        """Names of parameters that are frozen at this step although the stage trains them."""
        return []

    # -- validation ---------------------------------------------------------------------------

    @property
    def validated(self) -> Sequence[PackedClip]:
        """The held-out clips that are validated."""
        return self.held_out[: self.recipe.run.validation_clips]

    def validate_clip(self, clip: PackedClip, number: int, scores: Scores) -> list[Picture]:  # noqa: ARG002
        """Add to ``scores`` the figures of a held-out clip, the ``number``-th, with the module's current
        weights. Returns the clip's row of the validation picture; empty where there is none. A stage that
        validates on something else has a ``validate`` of its own."""
        return []

    @torch.no_grad()
    def validate(self, ranks: Ranks = ALONE) -> tuple[dict[str, float], Picture | None]:
        """Figures, means over the held-out clips, and a picture.

        Each process validates its share of the clips; the result is the same in all, and that of one process.
        """
        share = []
        for number, clip in ranks.mine(list(enumerate(self.validated))):
            scores = Scores()
            row = self.validate_clip(clip, number, scores)
            share.append((number, scores, row))
        every = sorted(itertools.chain(*ranks.gather(share)), key=lambda one: one[0])
        rows = [row for _, _, row in every if row][:_GRID_ROWS]
        figures = Scores.merged([scores for _, scores, _ in every]).means()
        return figures, grid(rows) if rows else None


@dataclass(kw_only=True)
class Context:
    """What a stage is built from."""

    stage: type[Stage[Any]]
    before: Sequence[type[Stage[Any]]]
    """all stages before it, whether the recipe trains them or not"""
    recipe: RecipeBase
    out: Path
    """the folder of the training"""
    clips: Sequence[PackedClip]
    held_out: Sequence[PackedClip]
    every_clip: Sequence[PackedClip]
    """also those of neither training nor validation"""
    device: torch.device
    autocast: Callable[[], contextlib.AbstractContextManager[Any]]
    ranks: Ranks
    """the processes of the training, which share what is prepared"""
    progress: Progress
    taken: list[Taken] = field(default_factory=list)
    """what the networks of the last ``model`` took from public weights"""

    @contextlib.contextmanager
    def seeded(self) -> Iterator[None]:
        """Within it, networks are initialised from the recipe's seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.recipe.seed)
            yield

    def final(self, stage: type[Stage[Any]]) -> checkpoint.Snapshot | None:
        """The finished weights of a stage, if it is done."""
        return checkpoint.read_final(self.out / stage.name)

    @cached_property
    def given(self) -> Model | None:
        """The weights to start from, where the recipe names some."""
        return given_model(self.recipe.start)

    def model(self, *, motion: bool, restorer: bool, plate: bool) -> Model:
        """The networks as earlier stages trained them, with or without those that not every stage needs.

        Raises SemibodyError when a network is missing or does not fit.
        """
        finals = [(stage, final) for stage in self.before if (final := self.final(stage)) is not None]
        done, given, sizes = [stage for stage, _ in finals], self.given, self.recipe.model
        sizes = dataclasses.replace(
            sizes,
            unet=dataclasses.replace(sizes.unet, motion=motion),
            restorer=sizes.restorer if restorer else None,
            plate=sizes.plate if plate else None,
            # Small networks work at the size they are trained on only; published ones at any.
            side=self.recipe.data.size if sizes.hints.concatenates else None,
        )
        self._require_networks(sizes, done)
        if given is not None:
            vae = dataclasses.replace(sizes.vae, scale=given.vae.config.scale)
            sizes = dataclasses.replace(sizes, vae=vae)
        for stage, final in finals:
            sizes = stage.sized(sizes, final)
        model = Model(sizes)
        initialise_motion(model)
        start = self.recipe.start
        if given is not None:
            copy_networks(model, given, start.weights, but={stage.network_name for stage in done})
            if sizes.audio.mouth_token:
                # A denoiser's long training would undo what the encoder has learned of the mouth.
                model.audio_encoder.requires_grad_(False)
        self.taken = take(model, start)
        for stage, final in finals:
            stage.load_into(final, model, str(self.out / stage.name))
        self._require_stages(done)
        return model

    def _require_networks(self, sizes: ModelConfig, done: Sequence[type[Stage[Any]]]) -> None:
        start = self.recipe.start
        given = () if self.given is None else self.given.config.networks
        if start.vae:
            given = (*given, "vae")
        if sizes.audio.kind != "logmel" and self.given is None and not start.audio:
            raise SemibodyError(
                f"the audio encoder {sizes.audio.kind} is pretrained and trained by no stage: "
                "set start.audio (whisper-tiny or wav2vec2-base-960h), or start.weights"
            )
        for stage in self.before:
            if (
                stage.missing
                and stage.network_name in sizes.networks
                and stage not in done
                and stage.network_name not in given
            ):
                raise SemibodyError(stage.missing)

    def _require_stages(self, done: Sequence[type[Stage[Any]]]) -> None:
        needed = self.stage.needs
        if needed and not self.recipe.start.weights and not any(stage in done for stage in needed):
            raise SemibodyError(
                f"the stage {self.stage.name} needs the stage {needed[0].name} first, or start.weights"
            )

    def find_portraits(self) -> None:
        """Detect the poses of all portraits, if the recipe asks for detected ones."""
        data = self.recipe.data
        if data.found_portraits:
            self.ranks.share(
                self.every_clip,
                lambda clips: find_poses(clips, workers=data.workers, progress=self.progress),
            )

    def encode(self, model: Model) -> LatentStore:
        """Latents and audio rows of all clips of training and validation, encoded once for an autoencoder."""
        # Clips of another frame rate may have the same names.
        pretrained = getattr(model.audio_encoder, "encoder", None)
        networks = [model.vae] if pretrained is None else [model.vae, pretrained]
        key = digest([model.config.vae, model.config.audio], *networks)
        folder = Path(self.recipe.data.latents) if self.recipe.data.latents else self.out
        store = LatentStore(folder / f"latents-{key}-{self.recipe.data.fps:g}fps")

        def encode(pictures: Picture) -> NDArray[np.float16]:
            pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2)
            made = []
            with torch.inference_mode(), self.autocast():
                for chunk in pixels.split(_ENCODED_AT_ONCE):
                    made.append(model.encode(channels_last(to_pixels(chunk.to(self.device)))).float().cpu())
            return torch.cat(made).numpy().astype(np.float16)

        def encode_audio(speech: Speech) -> NDArray[np.float16]:
            with torch.inference_mode():
                rows = model.audio_encoder.rows(torch.from_numpy(speech.waveform).to(self.device))
            return rows.float().cpu().numpy().astype(np.float16)

        model.eval()
        self.ranks.share(
            [*self.clips, *self.held_out],
            lambda clips: store.fill(clips, encode, encode_audio, progress=self.progress),
        )
        return store


def digest(settings: Sequence[Any], *networks: nn.Module) -> str:
    """A hash of settings and weights, for the name of files made with them."""
    plain = [config.to_dict(one) if dataclasses.is_dataclass(one) else one for one in settings]
    made = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    for network in networks:
        for _, value in sorted(network.state_dict().items()):
            made.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return made.hexdigest()[:12]
