"""Samples of the denoiser: frames, their portrait, and what they are conditioned on."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from semibody.conditioning.evidence import Evidence
from semibody.data.dataset import Labels, LatentStore, PackedClip
from semibody.diffusion.process import clamp_noise, share_noise
from semibody.networks.audio_encoders import AudioEncoder
from semibody.networks.model import ModelConfig
from semibody.pose.regions import Region, audio_mask
from semibody.training.batches import Batch, Generator, generator
from semibody.training.crops import face_or_hand
from semibody.training.curriculum import CurriculumStep, at, final
from semibody.training.parts import coverage, part_weights
from semibody.training.settings import NoiseSettings, RecipeBase
from semibody.types import FACE, Pose, SemibodyError

_NOT_STACKED = ("decoded", "compares_poses")
"""Values of a sample that are not stacked to a tensor of the batch."""


class PortraitFrame(NamedTuple):
    """The frame of a clip that is a sample's portrait."""

    clip: PackedClip
    frame: int


class Draw(NamedTuple):
    """The frames of a sample and its portrait."""

    clip: PackedClip
    frames: list[int]
    portrait: PortraitFrame


class DecodedPlace(NamedTuple):
    """Which estimate of a sample is decoded, and its true picture."""

    place: tuple[int, int, int, int]
    """frame; row, column and side in cells"""
    picture: NDArray[np.uint8]
    """(3, H', W')"""
    inside: NDArray[np.bool_]
    """(1, H', W'), False in the padding"""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How a stage draws its samples."""

    stage: str
    """its name, for messages"""
    source: int
    """its number, see ``batches.generator``"""
    frames: int
    """of a sample"""
    steps: int
    """of the whole stage"""
    consecutive: bool = False
    """frames follow each other"""
    curriculum: bool = False
    """samples change with the step, as ``curriculum.at``; else they are those of its end"""


@dataclass(frozen=True, kw_only=True)
class DenoisingBatch(Batch):
    """Samples of the first or second stage."""

    on_host: ClassVar[frozenset[str]] = frozenset({"t", "decoded"})

    latents: Float[Tensor, "b f c h w"]
    noise: Float[Tensor, "b f c h w"]
    t: Int[Tensor, " b"]
    portrait: Float[Tensor, "b c h w"]
    portrait_pose: Tensor | None
    """(b, 3, H, W) uint8, the portrait's own pose map, for models conditioned on it"""
    compares_poses: bool
    """whether the portrait's pose features are subtracted from those of the frames"""
    picture: Tensor | None
    """(b, 3, H, W) uint8, the portrait, for models with a clean plate"""
    hidden: Float[Tensor, "b 1 H W"] | None
    """1 about its arms, likewise"""
    pose: Tensor
    """(b, f, 3, H, W) uint8"""
    has_pose: Float[Tensor, " b"]
    """0 where the whole pose map is dropped"""
    hints: dict[str, Float[Tensor, "b f _ h w"]]
    """what frames are conditioned on beside their pose maps, by name (``Evidence.hints``)"""
    rows: Tensor
    """(b, f, k, …) the audio encoder's rows of each frame"""
    has_audio: Float[Tensor, " b"]
    """0 where the audio is dropped"""
    audio_mask: Float[Tensor, "b f h w"]
    weight: Float[Tensor, "b f h w"]
    """weight of each cell in the loss; 0 in the padding"""
    decoded: Int[Tensor, "d 5"]
    """sample, frame, row, column and side in cells of each estimate that is decoded"""
    pixels: list[Tensor]
    """(3, H', W') uint8, the true picture of each decoded estimate"""
    inside: list[Tensor]
    """(1, H', W') bool, False in the padding of that picture"""
    conditional: bool
    """False: a step without any condition"""


class DenoisingSamples:
    """Draws the samples of a denoising stage from packed and encoded clips."""

    def __init__(
        self,
        recipe: RecipeBase,
        drawing: Drawing,
        model: ModelConfig,
        clips: Sequence[PackedClip],
        store: LatentStore,
        encoder: AudioEncoder,
    ) -> None:
        """``model``: the sizes and hints of the networks, which decide what samples contain.

        Raises SemibodyError for clips too short for a sample, and without half-body clips.
        """
        self.recipe, self.drawing, self.model = recipe, drawing, model
        self.store, self.encoder = store, encoder
        self.window = drawing.frames
        for clip in clips:
            if len(clip) < self.window + 1:
                raise SemibodyError(
                    f"{clip.id}: has {len(clip)} frames, a window of {self.window} and a portrait need "
                    f"{self.window + 1}; leave the clip out or lower {drawing.stage}.frames"
                )
        self._clips = _ClipChoice(clips)
        self._require_choices()
        self.cell = recipe.model.vae.factor
        self._faces: dict[str, NDArray[np.float64]] = {}

    def curriculum_step(self, step: int) -> CurriculumStep:
        """What the curriculum decides for a step of this stage."""
        curriculum = self.recipe.curriculum
        return at(curriculum, step) if self.drawing.curriculum else final(curriculum)

    def batch(self, step: int, samples: Sequence[int]) -> DenoisingBatch:
        """The samples with these numbers of a step's batch."""
        made = [self.sample(step, number) for number in samples]
        # A whole step is conditional or unconditional, so that its batch is one forward pass.
        drawn = generator(self.recipe.seed, self.drawing.source, step, 2**31).random()
        return self.stack(made, conditional=bool(drawn >= self.recipe.noise.unconditional))

    def stack(self, made: Sequence[dict[str, Any]], *, conditional: bool) -> DenoisingBatch:
        """Samples as one batch."""
        decoded, pixels, inside = [], [], []
        for row, one in enumerate(made):
            if one["decoded"] is not None:
                decoded.append((row, *one["decoded"].place))
                pixels.append(torch.from_numpy(one["decoded"].picture))
                inside.append(torch.from_numpy(one["decoded"].inside))
        alike = [{key: value for key, value in one.items() if key not in _NOT_STACKED} for one in made]
        return DenoisingBatch.stacked(
            alike,
            compares_poses=made[0]["compares_poses"],
            decoded=torch.tensor(decoded, dtype=torch.long).reshape(-1, 5),
            pixels=pixels,
            inside=inside,
            conditional=conditional,
        )

    def sample(self, step: int, number: int) -> dict[str, Any]:
        recipe, decided = self.recipe, self.curriculum_step(step)
        rng = generator(recipe.seed, self.drawing.source, step, number)
        draw = self.choose(rng, decided)
        groups = [group for group, p in decided.keep.items() if rng.random() < p]
        # Where the curriculum mutes audio there is none to drop.
        dropped = rng.random() < recipe.noise.drop_audio and decided.region != "none"
        pose_dropped = rng.random() < decided.pose_dropout
        made = self.at_pure_noise(draw, rng, decided.region, groups)
        return {
            **made,
            "t": np.int64(draw_timestep(rng, recipe, refine=self._refines(step))),
            "has_pose": np.float32(not pose_dropped),
            "has_audio": np.float32(not dropped),
            # As in guidance's unconditional half: no audio acts the same everywhere.
            "audio_mask": np.ones_like(made["audio_mask"]) if dropped else made["audio_mask"],
            "decoded": self._decoded(rng, draw, made["latents"].shape, step, number),
        }

    def _refines(self, step: int) -> bool:
        """Whether all samples of a step have a timestep of the sampler: few-step refinement."""
        last, steps = self.recipe.noise.refine, self.drawing.steps
        return last > 0 and step >= (1 - last) * steps

    def choose(self, rng: Generator, decided: CurriculumStep) -> Draw:
        """The frames to generate and their portrait, of one of the people who take part in a step."""
        clips = self._clips.of_person(rng, decided)
        return self._of_person(rng, clips, clips[rng.integers(len(clips))])

    def _require_choices(self) -> None:
        """Raise SemibodyError if there are no clips to draw from in some block of the stage."""
        curriculum = self.recipe.curriculum
        starts = np.cumsum([0, *curriculum.lengths])
        steps = [int(start) for start in starts[:-1]] if self.drawing.curriculum else []
        reached = [at(curriculum, step) for step in steps if step < self.drawing.steps]
        for decided in [*reached, *([] if reached else [final(curriculum)])]:
            self._clips.require(decided)

    def at_pure_noise(
        self, draw: Draw, rng: Generator, region: Region = "body", groups: Sequence[str] = ("hands",)
    ) -> dict[str, Any]:
        """A sample at the last timestep; ``rng`` draws the noise."""
        recipe, noise, clip, frames = self.recipe, self.recipe.noise, draw.clip, draw.frames
        if not self.drawing.consecutive:
            noise = dataclasses.replace(noise, shared=0.0)
        latents = self.store.latents(clip, frames)
        if clip.kind == "head" and region == "body" and recipe.curriculum.partial_attention:
            region = "face"
        labels = clip.labels(frames)
        poses, portrait = [one.pose for one in labels], draw.portrait
        evidence = self.evidence(portrait)
        return {
            "latents": latents,
            "noise": draw_noise(rng, latents.shape, noise),
            "t": np.int64(recipe.schedule.train_steps - 1),
            "portrait": self.store.latents(portrait.clip, [portrait.frame])[0],
            **self._plate(portrait, evidence),
            "portrait_pose": evidence.own_map(parts=groups),
            "compares_poses": evidence.compares_poses,
            "pose": evidence.maps(poses, groups),
            "has_pose": np.float32(1),
            "hints": evidence.hints(poses),
            "rows": self.windows(clip, frames).numpy(),
            "has_audio": np.float32(1),
            "audio_mask": self._audio_mask(evidence, poses, region),
            "weight": self._weight(draw, labels, *evidence.cells),
            "decoded": None,
            "name": f"{clip.id}:{frames[0]}",
        }

    def evidence(self, portrait: PortraitFrame) -> Evidence:
        """The model's conditions of a portrait, and of frames with it."""
        own = portrait.clip.portrait_pose(portrait.frame)
        return Evidence(self.model, own, portrait.clip.size, portrait.clip.size)

    def _audio_mask(self, evidence: Evidence, poses: Sequence[Pose], region: Region) -> NDArray[np.float32]:
        """(f, h, w): where audio attention may write, in the curriculum's ``region`` of each frame."""
        own = evidence.audio_mask() if region == "body" else None
        if own is not None:
            # As when animating, where the frames' own lips are unknown.
            return np.stack([own] * len(poses))
        dilation = self.recipe.curriculum.mask_dilation
        return np.stack([audio_mask(pose, region, *evidence.cells, dilation) for pose in poses])

    def to_generate(self, draw: Draw, rng: Generator) -> dict[str, Any]:
        """As ``at_pure_noise``, with the noise that the sampler starts from."""
        made = self.at_pure_noise(draw, rng)
        return {**made, "noise": clamp_noise(made["noise"])}

    def windows(self, clip: PackedClip, frames: Sequence[int]) -> Float[Tensor, "f k ..."]:
        """The audio encoder's rows of frames."""
        rows = torch.from_numpy(self.store.rows(clip))
        return self.encoder.windows(rows, torch.tensor(frames), clip.fps)

    def with_audio_of(self, batch: DenoisingBatch, clip: PackedClip, frame: int) -> DenoisingBatch:
        """A batch of one sample, all its frames conditioned on the audio of ``frame`` of the clip."""
        rows = self.windows(clip, [frame] * batch.rows.shape[1]).to(batch.rows)
        return dataclasses.replace(batch, rows=rows[None])

    def _of_person(self, rng: Generator, clips: list[PackedClip], clip: PackedClip) -> Draw:
        """Frames of a clip, a window or any, and a portrait from one of the person's ``clips``."""
        if self.drawing.consecutive:
            start = int(rng.integers(len(clip) - self.window + 1))
            frames = list(range(start, start + self.window))
        elif self.recipe.data.calm < 1:
            portrait = int(rng.integers(len(clip)))
            return Draw(clip, self._calm_frames(rng, clip, portrait), PortraitFrame(clip, portrait))
        else:
            frames = sorted(rng.choice(len(clip), self.window, replace=False).tolist())
        return Draw(clip, frames, self._portrait(rng, clips, clip, frames))

    def _calm_frames(self, rng: Generator, clip: PackedClip, portrait: int) -> list[int]:
        """Frames whose head is where it is in the portrait, as nearly as the clip has them."""
        if clip.id not in self._faces:
            # Without the lips: they may move.
            self._faces[clip.id] = clip.gesture().joints[:, FACE][:, :48]
        faces = self._faces[clip.id]
        away = np.linalg.norm(faces - faces[portrait], axis=-1).mean(axis=-1)
        gap = min(self.recipe.data.gap, (len(clip) - self.window) // 2)
        away[max(0, portrait - gap + 1) : portrait + gap] = np.inf
        count = max(self.window, round(self.recipe.data.calm * len(clip)))
        return sorted(rng.choice(np.argsort(away)[:count], self.window, replace=False).tolist())

    def _portrait(
        self, rng: Generator, clips: list[PackedClip], clip: PackedClip, frames: list[int]
    ) -> PortraitFrame:
        others = [c for c in clips if c is not clip]
        if others and rng.random() < self.recipe.data.other_clip:
            other = others[rng.integers(len(others))]
            return PortraitFrame(other, int(rng.integers(len(other))))
        return PortraitFrame(clip, portrait_frame(rng, len(clip), frames, self.recipe.data.gap))

    def _plate(self, portrait: PortraitFrame, evidence: Evidence) -> dict[str, NDArray[Any] | None]:
        """Inputs of the clean plate's network."""
        hidden = evidence.hidden()
        if hidden is None:
            return {"picture": None, "hidden": None}
        picture = portrait.clip.pictures([portrait.frame])[0].transpose(2, 0, 1)
        return {"picture": np.ascontiguousarray(picture), "hidden": hidden}

    def _weight(self, draw: Draw, labels: Sequence[Labels], height: int, width: int) -> NDArray[np.float32]:
        """(f, height, width): the weight of each cell in the loss."""
        (portrait,) = draw.portrait.clip.labels([draw.portrait.frame])
        weight = part_weights(self.recipe.loss, labels, portrait, height, width)
        return weight * self._unpadded(draw.clip, height, width)

    def _unpadded(self, clip: PackedClip, height: int, width: int) -> NDArray[np.float32]:
        """(height, width): share of each cell that is no padding, for padded head clips (HPA)."""
        if clip.kind != "head" or not self.recipe.curriculum.partial_attention:
            return np.ones((height, width), np.float32)
        return coverage(np.array(clip.valid, np.float32), height, width)

    def _decoded(
        self, rng: Generator, draw: Draw, shape: tuple[int, ...], step: int, number: int
    ) -> DecodedPlace | None:
        """The estimate to decode; None: none of this sample's."""
        loss, (height, width) = self.recipe.loss, shape[2:]
        if not (loss.decodes and is_decoded(step, number, loss.decode_every)):
            return None
        index = int(rng.integers(len(draw.frames)))
        frame = draw.frames[index]
        picture = draw.clip.pictures([frame])[0].transpose(2, 0, 1)
        side = min(loss.decode_cells or max(height, width), height, width)
        top = left = 0
        if loss.decode_cells:
            cx, cy = rng.random(2)
            box = face_or_hand(rng, draw.clip.boxes(frame))
            if box is not None:
                x0, y0, x1, y1 = box
                cx, cy = (x0 + x1) / 2 + 0.05 * (cx - 0.5), (y0 + y1) / 2 + 0.05 * (cy - 0.5)
            top = int(np.clip(round(cy * height - side / 2), 0, height - side))
            left = int(np.clip(round(cx * width - side / 2), 0, width - side))
        c = self.cell
        rows, columns = slice(top * c, (top + side) * c), slice(left * c, (left + side) * c)
        inside = self._unpadded(draw.clip, *picture.shape[1:])[None, rows, columns] > 0
        return DecodedPlace((index, top, left, side), picture[:, rows, columns].copy(), inside)


def is_decoded(step: int, number: int, every: int) -> bool:
    """Whether the estimate of a sample is decoded, as those of one in ``every`` samples are.

    By the sum of the digits of ``number`` to the base ``every``: processes have every n-th number, and by the
    number itself the same few processes would decode all of a step's samples while the others wait.
    """
    turn = step
    while number and every > 1:
        number, digit = divmod(number, every)
        turn += digit
    return turn % every == 0


def portrait_frame(rng: Generator, length: int, frames: Sequence[int], gap: int) -> int:
    """A frame at least ``gap`` away from all ``frames``; in a short clip, one of the farthest."""
    distance = np.abs(np.arange(length)[:, None] - np.asarray(frames)).min(axis=1)
    far = np.flatnonzero(distance >= min(gap, distance.max()))
    return int(far[rng.integers(len(far))])


def draw_timestep(rng: Generator, recipe: RecipeBase, *, refine: bool = False) -> int:
    """A timestep 0 … 999, by ``recipe.noise``; with ``refine`` always one of the sampler's."""
    total, noise = recipe.schedule.train_steps, recipe.noise
    u = rng.random()
    if rng.random() < noise.sampler_share or refine:
        # Trailing spacing: the sampler's timesteps are T − 1, T − 1 − T/n, …
        timesteps = np.round(np.arange(total, 0, -total / noise.sampler_steps)).astype(int) - 1
        return int(timesteps[int(u * len(timesteps))])
    return min(total - 1, int(total * u ** (1 / noise.power)))


def draw_noise(rng: Generator, shape: tuple[int, ...], settings: NoiseSettings) -> NDArray[np.float32]:
    """Noise (f, c, h, w) of a window, by ``recipe.noise``."""
    noise = rng.standard_normal(shape, np.float32)
    if settings.shared > 0 and shape[0] > 1:
        common = rng.standard_normal((1, *shape[1:]), np.float32)
        noise = share_noise(noise, common, settings.shared)
    if settings.clamp > 0:
        noise = clamp_noise(noise, settings.clamp)
    if settings.offset > 0:
        noise += np.float32(settings.offset) * rng.standard_normal((1, shape[1], 1, 1), np.float32)
    return noise


class _ClipChoice:
    """Which clips are drawn in a step: by kind, source and person."""

    def __init__(self, clips: Sequence[PackedClip]) -> None:
        self._clips = list(clips)
        self._known: dict[tuple[str, bool, str | None], list[list[PackedClip]]] = {}

    def of_person(self, rng: Generator, decided: CurriculumStep) -> list[PackedClip]:
        """The clips of a person of one source and kind."""
        # Without heads or shares nothing is drawn for them: older runs continue with the same samples.
        heads = bool(self._people("head", decided, None)) and rng.random() < decided.head_share
        kind = "head" if heads else "full"
        people = self._people(kind, decided, self._source(rng, kind, decided))
        return people[rng.integers(len(people))]

    def _source(self, rng: Generator, kind: str, decided: CurriculumStep) -> str | None:
        """A source by its share, of those that have clips of this kind; None: all."""
        shares = {
            source: share
            for source, share in sorted(decided.shares.items())
            if self._people(kind, decided, source)
        }
        if not shares:
            return None
        limits = np.cumsum(list(shares.values()))
        return list(shares)[int(np.searchsorted(limits, rng.random() * limits[-1], side="right"))]

    def _people(self, kind: str, decided: CurriculumStep, source: str | None) -> list[list[PackedClip]]:
        """Each person's clips that may be drawn, by the person's name: silent ones only where audio is muted.

        Kept, because there may be a hundred thousand."""
        key = kind, decided.muted, source
        if key not in self._known:
            self._known[key] = _by_person(
                [
                    clip
                    for clip in self._clips
                    if (decided.muted or not clip.silent) and source in (None, clip.source)
                ],
                kind,
            )
        return self._known[key]

    def require(self, decided: CurriculumStep) -> None:
        """Raise SemibodyError if there is nothing to draw in a step."""
        if not self._people("full", decided, None):
            heard = "" if decided.muted else " with sound"
            raise SemibodyError(
                f"the data has no half-body clips{heard} to train on; make some with --heads 0.15"
            )
        if decided.shares and not any(self._people("full", decided, source) for source in decided.shares):
            known = sorted({clip.source for clip in self._clips if decided.muted or not clip.silent})
            raise SemibodyError(
                f"curriculum.shares: no source with a share in the block {decided.block} has half-body "
                f"clips; the data has {', '.join(known)}"
            )


def _by_person(clips: Sequence[PackedClip], kind: str) -> list[list[PackedClip]]:
    people: dict[str, list[PackedClip]] = defaultdict(list)
    for clip in clips:
        if clip.kind == kind:
            people[clip.person].append(clip)
    return [people[name] for name in sorted(people)]
