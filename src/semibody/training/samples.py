"""What a step shows the networks. Every random choice is a function of (seed, stage, step, sample).

So a resumed run, another number of workers, or two processes instead of one see exactly the same
samples, and no random state has to be kept in checkpoints.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from semibody.data.dataset import LatentStore, PackedClip
from semibody.networks.audio_encoders import AudioEncoder
from semibody.pose.draw import draw_parts
from semibody.pose.limbs import limb_cover, move_limbs
from semibody.pose.regions import Region, audio_mask
from semibody.training.curriculum import Moment, Stage, at, final
from semibody.training.parts import HANDS, Shown, coverage, part_weights
from semibody.training.recipe import NoiseSettings, Recipe, StageName
from semibody.types import FACE, Pose, SemibodyError

Generator = np.random.Generator

_SOURCES: dict[StageName, int] = {
    "vae": 0, "keypoints": 1, "audio": 2, "still": 3, "motion": 4, "restore": 5, "plate": 6,
}  # fmt: skip
"""Numbers of the stages that never change, so that samples do not when stages are added."""


def generator(seed: int, stage: StageName, step: int, sample: int = 0) -> Generator:
    """The source of every random choice of one sample."""
    return np.random.default_rng([seed, _SOURCES[stage], step, sample])


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What a step computes with: tensors, lists of them, and what says where they are from."""

    names: list[str]
    """clip and first frame of each sample, for messages"""

    @classmethod
    def stacked(cls, samples: Sequence[Mapping[str, Any]]) -> Self:
        """A batch of samples that give its arrays, and their ``name``, one each."""
        arrays = [key for key in samples[0] if key != "name"]
        tensors = {key: torch.from_numpy(np.stack([sample[key] for sample in samples])) for key in arrays}
        return cls(**tensors, names=[sample["name"] for sample in samples])

    def to(self, device: torch.device) -> Self:
        """All tensors on a device."""
        moved = {item.name: _moved(getattr(self, item.name), device) for item in dataclasses.fields(self)}
        return dataclasses.replace(self, **moved)


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, list):
        return [_moved(one, device) for one in value]
    return value


@dataclass(frozen=True, kw_only=True)
class DenoisingBatch(Batch):
    """Samples of the first or second stage."""

    latents: Float[Tensor, "b f c h w"]
    noise: Float[Tensor, "b f c h w"]
    t: Int[Tensor, " b"]
    portrait: Float[Tensor, "b c h w"]
    portrait_pose: Tensor
    """(b, 3, H, W) uint8, the portrait's own pose map"""
    picture: Tensor
    """(b, 3, H, W) uint8, the portrait; empty unless the base is its clean plate"""
    hidden: Float[Tensor, "b 1 H W"]
    """1 about its arms; empty likewise"""
    pose: Tensor
    """(b, f, 3, H, W) uint8"""
    has_pose: Float[Tensor, " b"]
    """0 where the whole pose map is dropped"""
    limbs: Float[Tensor, "b f 3 h w"]
    """flow and cover that carry the portrait's arms and hands; nothing is covered for models without"""
    rows: Tensor
    """(b, f, k, …) the audio encoder's rows of each frame"""
    audio_mask: Float[Tensor, "b f h w"]
    weight: Float[Tensor, "b f h w"]
    """weight of each cell in the loss; 0 in the padding"""
    decoded: Int[Tensor, "d 5"]
    """sample, frame, row, column and side in cells of each estimate that is decoded"""
    pixels: list[Tensor]
    """(3, H', W') uint8, the true picture of each decoded estimate"""
    conditional: bool
    """False: a step without any condition"""


class DenoisingSamples:
    """Draws the samples of a denoising stage from packed and encoded clips."""

    def __init__(
        self,
        recipe: Recipe,
        stage: Stage,
        clips: Sequence[PackedClip],
        store: LatentStore,
        encoder: AudioEncoder,
        *,
        motion: bool = False,
    ) -> None:
        """``motion``: with motion modules, the frames of ``restore`` follow each other too."""
        self.recipe, self.stage, self.store, self.encoder = recipe, stage, store, encoder
        self.consecutive = stage == "motion" or (stage == "restore" and motion)
        self.window = getattr(recipe, stage).frames
        for clip in clips:
            if len(clip) < self.window + 1:
                raise SemibodyError(
                    f"{clip.id}: has {len(clip)} frames, a window of {self.window} and a portrait need "
                    f"{self.window + 1}; leave the clip out or lower {stage}.frames"
                )
        self.full, self.heads = (_by_person(clips, kind) for kind in ("full", "head"))
        if not self.full:
            raise SemibodyError("the data has no half-body clips to train on; make some with --heads 0.15")
        self.cell = recipe.model.vae.factor
        self._faces: dict[str, NDArray[np.float64]] = {}

    def moment(self, step: int) -> Moment:
        curriculum = self.recipe.curriculum
        return at(curriculum, step) if self.stage == "still" else final(curriculum)

    def batch(self, step: int, samples: Sequence[int]) -> DenoisingBatch:
        """The samples with these numbers of a step's batch."""
        made = [self.sample(step, number) for number in samples]
        # Guidance's unconditional half is trained by whole steps, so that a batch stays one computation.
        drawn = generator(self.recipe.seed, self.stage, step, 2**31).random()
        return self.stack(made, conditional=bool(drawn >= self.recipe.noise.unconditional))

    def stack(self, made: Sequence[dict[str, Any]], *, conditional: bool) -> DenoisingBatch:
        """Samples as one batch."""
        decoded, pixels = [], []
        for row, one in enumerate(made):
            if one["decoded"] is not None:
                frame, top, left, side, picture = one["decoded"]
                decoded.append([row, frame, top, left, side])
                pixels.append(torch.from_numpy(picture))
        tensors = {
            item.name: torch.from_numpy(np.stack([one[item.name] for one in made]))
            for item in dataclasses.fields(DenoisingBatch)
            if item.name not in ("decoded", "pixels", "conditional", "names")
        }
        return DenoisingBatch(
            **tensors,
            decoded=torch.tensor(decoded, dtype=torch.long).reshape(-1, 5),
            pixels=pixels,
            conditional=conditional,
            names=[one["name"] for one in made],
        )

    def sample(self, step: int, number: int) -> dict[str, Any]:
        recipe, moment = self.recipe, self.moment(step)
        rng = generator(recipe.seed, self.stage, step, number)
        clip, frames, portrait_clip, portrait_frame = self.choose(rng, moment.head_share)
        groups = [group for group, p in moment.keep.items() if rng.random() < p]
        muted = rng.random() < recipe.noise.drop_audio
        pose_dropped = rng.random() < moment.pose_dropout
        made = self.given(clip, frames, portrait_clip, portrait_frame, rng, moment.region, groups)
        return {
            **made,
            "t": np.int64(draw_timestep(rng, recipe, refine=self._refines(step))),
            "has_pose": np.float32(not pose_dropped),
            "audio_mask": made["audio_mask"] * np.float32(not muted),
            "decoded": self._decoded(rng, clip, frames, made["latents"].shape, step + number),
        }

    def _refines(self, step: int) -> bool:
        """Whether all samples of a step have a timestep the sampler visits: few-step refinement."""
        last, steps = self.recipe.noise.refine, getattr(self.recipe, self.stage).optimiser.steps
        return last > 0 and step >= (1 - last) * steps

    def choose(self, rng: Generator, head_share: float) -> tuple[PackedClip, list[int], PackedClip, int]:
        """The clip and its frames to generate, the clip and the frame of the portrait."""
        heads = bool(self.heads) and rng.random() < head_share
        people = self.heads if heads else self.full
        clips = people[sorted(people)[rng.integers(len(people))]]
        clip = clips[rng.integers(len(clips))]
        portrait_clip, portrait_frame, frames = self._moments(rng, clips, clip)
        return clip, frames, portrait_clip, portrait_frame

    def given(
        self,
        clip: PackedClip,
        frames: list[int],
        portrait_clip: PackedClip,
        portrait_frame: int,
        rng: Generator,
        region: Region = "body",
        groups: Sequence[str] = ("hands",),
    ) -> dict[str, Any]:
        """A sample of these frames with this portrait, at pure noise; ``rng`` draws the noise."""
        recipe, noise = self.recipe, self.recipe.noise
        if not self.consecutive:
            noise = dataclasses.replace(noise, shared=0.0)
        latents = self.store.latents(clip, frames)
        height, width = latents.shape[2:]
        if clip.kind == "head" and region == "body" and recipe.curriculum.partial_attention:
            region = "face"
        poses = [clip.pose(frame) for frame in frames]
        own_pose = portrait_clip.portrait_pose(portrait_frame)
        portrait = Shown(portrait_clip, portrait_frame)
        masked, dilation = poses, recipe.curriculum.mask_dilation
        if region == "body" and recipe.model.hints.audio_region != "body":
            # As when animating: of the finished clip only the portrait is known.
            region, dilation = recipe.model.hints.audio_region, recipe.model.hints.audio_dilation
            masked = [own_pose] * len(frames)
        return {
            "latents": latents,
            "noise": draw_noise(rng, latents.shape, noise),
            "t": np.int64(recipe.schedule.train_steps - 1),
            "portrait": self.store.latents(portrait_clip, [portrait_frame])[0],
            **self._plate(portrait_clip, portrait_frame, own_pose),
            "portrait_pose": self._map(own_pose, {*groups, *recipe.model.hints.own_parts}),
            "pose": np.stack([self._map(pose, groups) for pose in poses]),
            "has_pose": np.float32(1),
            "limbs": self._limbs(own_pose, poses, height, width),
            "rows": self.windows(clip, frames).numpy(),
            "audio_mask": np.stack([audio_mask(pose, region, height, width, dilation) for pose in masked]),
            "weight": self._weight(clip, frames, portrait, height, width),
            "decoded": None,
            "name": f"{clip.id}:{frames[0]}",
        }

    def to_generate(
        self,
        clip: PackedClip,
        frames: list[int],
        portrait_clip: PackedClip,
        portrait_frame: int,
        rng: Generator,
    ) -> dict[str, Any]:
        """As ``given``, with the noise that the sampler begins from."""
        made = self.given(clip, frames, portrait_clip, portrait_frame, rng)
        return {**made, "noise": made["noise"].clip(-1.5, 1.5)}  # as diffusion.schedule.initial_noise

    def windows(self, clip: PackedClip, frames: Sequence[int]) -> Float[Tensor, "f k ..."]:
        """The audio encoder's rows of frames."""
        rows = torch.from_numpy(self.store.rows(clip))
        return self.encoder.windows(rows, torch.tensor(frames), clip.fps)

    def hearing(self, batch: DenoisingBatch, clip: PackedClip, frame: int) -> DenoisingBatch:
        """A batch of one sample, all of whose frames hear what ``frame`` of the clip hears."""
        rows = self.windows(clip, [frame] * batch.rows.shape[1]).to(batch.rows)
        return dataclasses.replace(batch, rows=rows[None])

    def _moments(
        self, rng: Generator, clips: list[PackedClip], clip: PackedClip
    ) -> tuple[PackedClip, int, list[int]]:
        """Clip and frame of the portrait, and the frames to generate: a window for motion, any for stills."""
        if self.consecutive:
            start = int(rng.integers(len(clip) - self.window + 1))
            frames = list(range(start, start + self.window))
        elif self.recipe.data.calm < 1:
            portrait = int(rng.integers(len(clip)))
            return clip, portrait, self._calm_frames(rng, clip, portrait)
        else:
            frames = sorted(rng.choice(len(clip), self.window, replace=False).tolist())
        return *self._portrait(rng, clips, clip, frames), frames

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
    ) -> tuple[PackedClip, int]:
        others = [c for c in clips if c is not clip]
        if others and rng.random() < self.recipe.data.other_clip:
            other = others[rng.integers(len(others))]
            return other, int(rng.integers(len(other)))
        return clip, portrait_frame(rng, len(clip), frames, self.recipe.data.gap)

    def _map(self, pose: Any, groups: Collection[str]) -> NDArray[np.uint8]:
        side = self.recipe.data.size
        return np.ascontiguousarray(draw_parts(pose, side, side, groups).transpose(2, 0, 1))

    def _plate(self, clip: PackedClip, frame: int, own: Pose) -> dict[str, NDArray[Any]]:
        """What the clean plate is painted from."""
        if self.recipe.model.hints.base == "portrait":
            return {"picture": np.zeros((3, 0, 0), np.uint8), "hidden": np.zeros((1, 0, 0), np.float32)}
        picture = np.ascontiguousarray(clip.pictures([frame])[0].transpose(2, 0, 1))
        return {"picture": picture, "hidden": limb_cover(own, *picture.shape[1:])[None]}

    def _limbs(self, own: Pose, poses: Sequence[Pose], height: int, width: int) -> NDArray[np.float32]:
        """(f, 3, height, width)"""
        if not self.recipe.model.hints.limbs:
            return np.zeros((len(poses), 3, height, width), np.float32)
        return np.stack([move_limbs(own, pose, height, width).planes for pose in poses])

    def _weight(
        self, clip: PackedClip, frames: Sequence[int], portrait: Shown, height: int, width: int
    ) -> NDArray[np.float32]:
        """(f, height, width): how much each cell counts."""
        weight = part_weights(self.recipe.loss, clip, frames, portrait, height, width)
        if clip.kind == "head" and self.recipe.curriculum.partial_attention:
            weight = weight * coverage(np.array(clip.valid, np.float32), height, width)
        return weight

    def _decoded(
        self, rng: Generator, clip: PackedClip, frames: list[int], shape: tuple[int, ...], turn: int
    ) -> tuple[int, int, int, int, NDArray[np.uint8]] | None:
        loss, (height, width) = self.recipe.loss, shape[2:]
        if not loss.decodes or turn % loss.decode_every:
            return None
        index = int(rng.integers(len(frames)))
        picture = clip.pictures([frames[index]])[0].transpose(2, 0, 1)
        side = min(loss.decode_cells or max(height, width), height, width)
        top = left = 0
        if loss.decode_cells:
            boxes = clip.boxes(frames[index])
            parts = [p for p in ("face", *HANDS) if p in boxes]
            cx, cy = rng.random(2)
            if parts:
                x0, y0, x1, y1 = boxes[parts[rng.integers(len(parts))]]
                cx, cy = (x0 + x1) / 2 + 0.05 * (cx - 0.5), (y0 + y1) / 2 + 0.05 * (cy - 0.5)
            top = int(np.clip(round(cy * height - side / 2), 0, height - side))
            left = int(np.clip(round(cx * width - side / 2), 0, width - side))
        c = self.cell
        cut = picture[:, top * c : (top + side) * c, left * c : (left + side) * c]
        return index, top, left, side, np.ascontiguousarray(cut)


def portrait_frame(rng: Generator, length: int, frames: Sequence[int], gap: int) -> int:
    """A frame at least ``gap`` away from all ``frames``; in a short clip, one of the farthest."""
    distance = np.abs(np.arange(length)[:, None] - np.asarray(frames)).min(axis=1)
    far = np.flatnonzero(distance >= min(gap, distance.max()))
    return int(far[rng.integers(len(far))])


def draw_timestep(rng: Generator, recipe: Recipe, *, refine: bool = False) -> int:
    """A timestep 0 … 999, by ``recipe.noise``; with ``refine`` always one the sampler visits."""
    total, noise = recipe.schedule.train_steps, recipe.noise
    u = rng.random()
    if rng.random() < noise.sampler_share or refine:
        # Trailing spacing: the sampler visits T − 1, T − 1 − T/n, …
        visited = np.round(np.arange(total, 0, -total / noise.sampler_steps)).astype(int) - 1
        return int(visited[int(u * len(visited))])
    return min(total - 1, int(total * u ** (1 / noise.power)))


def draw_noise(rng: Generator, shape: tuple[int, ...], settings: NoiseSettings) -> NDArray[np.float32]:
    """Noise (f, c, h, w) of a window, by ``recipe.noise``."""
    noise = rng.standard_normal(shape, np.float32)
    if settings.shared > 0 and shape[0] > 1:
        common = rng.standard_normal((1, *shape[1:]), np.float32)
        own = np.float32(np.sqrt(1 - settings.shared))
        noise = own * noise + np.float32(np.sqrt(settings.shared)) * common
    if settings.clamp > 0:
        noise = noise.clip(-settings.clamp, settings.clamp)
    if settings.offset > 0:
        noise += np.float32(settings.offset) * rng.standard_normal((1, shape[1], 1, 1), np.float32)
    return noise


def _by_person(clips: Sequence[PackedClip], kind: str) -> dict[str, list[PackedClip]]:
    people: dict[str, list[PackedClip]] = defaultdict(list)
    for clip in clips:
        if clip.kind == kind:
            people[clip.person].append(clip)
    return dict(people)


# -- crops of pictures, for the autoencoder and the keypoint network ---------------------------


@dataclass(frozen=True, kw_only=True)
class CropBatch(Batch):
    """Crops of single pictures."""

    pixels: Tensor
    """(n, 3, s, s) uint8"""
    weight: Float[Tensor, "n 1 s s"]
    """1, and more on faces and hands; 0 in the padding"""
    joints: Float[Tensor, "n j 2"]
    """all joints, as fractions of the crop"""
    confidence: Float[Tensor, "n j"]


class CropSamples:
    """Draws crops of pictures, many of them on faces and hands."""

    def __init__(
        self,
        recipe: Recipe,
        stage: StageName,
        clips: Sequence[PackedClip],
        *,
        side: int,
        on_parts: float,
        factor: float,
    ) -> None:
        self.recipe, self.stage, self.clips = recipe, stage, list(clips)
        self.side, self.on_parts, self.factor = min(side, recipe.data.size), on_parts, factor

    def batch(self, step: int, samples: Sequence[int]) -> CropBatch:
        draws = [generator(self.recipe.seed, self.stage, step, number) for number in samples]
        return CropBatch.stacked([self._crop(draw) for draw in draws])

    def _crop(self, rng: Generator) -> dict[str, Any]:
        clip = self.clips[rng.integers(len(self.clips))]
        frame = int(rng.integers(len(clip)))
        picture, boxes, pose = clip.pictures([frame])[0], clip.boxes(frame), clip.pose(frame)
        total, side = clip.size, self.side
        cx, cy = rng.random(2)
        parts = [p for p in ("face", *HANDS) if p in boxes]
        if parts and rng.random() < self.on_parts:
            x0, y0, x1, y1 = boxes[parts[rng.integers(len(parts))]]
            cx, cy = x0 + (x1 - x0) * cx, y0 + (y1 - y0) * cy
        left = int(np.clip(round(cx * total - side / 2), 0, total - side))
        top = int(np.clip(round(cy * total - side / 2), 0, total - side))
        weight = np.ones((total, total), np.float32)
        for part in ("face", *HANDS):
            if part in boxes:
                weight = np.maximum(weight, 1 + (self.factor - 1) * coverage(boxes[part], total, total))
        weight *= coverage(np.array(clip.valid, np.float32), total, total)
        cut = (slice(top, top + side), slice(left, left + side))
        pixels, weight = picture[cut].transpose(2, 0, 1), weight[cut]
        joints = (pose.joints * total - [left, top]) / side
        if rng.random() < 0.5 and self.stage == "vae":
            # A mirrored person would have left and right joints swapped; only the autoencoder may look.
            pixels, weight = pixels[:, :, ::-1], weight[:, ::-1]
        return {
            "pixels": pixels,
            "weight": weight[None],
            "joints": joints.astype(np.float32),
            "confidence": pose.confidence.astype(np.float32),
            "name": f"{clip.id}:{frame}",
        }
