"""A whole training: data, stages one after the other, export, report. The file to open first here.

    train(load_recipe("starter"), data=Path("data"), out=Path("run"))

The folder ``run`` then holds

=====================  =========================================================================
``recipe.json``        the recipe as it was resolved
``packed/``            the clips in the form the trainer reads (a setting of the call)
``latents-…/``         what autoencoder and audio encoder make of them, for each of them and frame rate
``vae/ still/ …``      checkpoints of each stage, and ``final/`` when it is done
``log.jsonl``          every figure; ``tensorboard/`` and ``pictures/`` beside it
``weights/``           the finished networks, for ``animate --weights`` and ``Animator.load``
``report.html``        curves, pictures and figures
=====================  =========================================================================
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from semibody import config, runtime
from semibody.clips.manifest import read_manifest
from semibody.data.dataset import LatentStore, PackedClip, Packing, pack_manifest, packed_clips
from semibody.data.found import find_poses
from semibody.media import atomic_write
from semibody.networks.audio_encoders import LogMelEncoder
from semibody.networks.loading import load_model, save_model
from semibody.networks.model import Model
from semibody.networks.plate import CleanPlate
from semibody.networks.vae import VAE
from semibody.training import checkpoint, lora
from semibody.training.keypoints import KeypointNetwork
from semibody.training.listening import ListeningTask
from semibody.training.loop import Log, StageRun, Task
from semibody.training.plates import PlateTask
from semibody.training.recipe import Recipe, StageName
from semibody.training.restoring import RestoringTask
from semibody.training.samples import DenoisingSamples
from semibody.training.tasks import (
    Denoiser,
    DenoisingTask,
    KeypointTask,
    VAETask,
    load_perceptual,
    to_pixels,
)
from semibody.types import MissingPartError, Progress, SemibodyError, Speech, silent
from semibody.weights.hub import find_weights
from semibody.weights.state import read_state

WEIGHTS = "weights"
_ENCODED_AT_ONCE = 16
"""Frames the autoencoder encodes together when clips are prepared."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a training ended."""

    finished: bool
    """False: the time was up; the same call with ``resume`` goes on"""
    stage: StageName | None
    """the stage it stopped in"""
    weights: Path | None
    """the exported weights folder, once a denoising stage is done"""


def train(
    recipe: Recipe,
    out: Path,
    *,
    data: Path | None = None,
    packed: Path | None = None,
    resume: bool = False,
    max_minutes: float | None = None,
    device: str = "auto",
    progress: Progress = silent,
) -> Outcome:
    """Run the stages of ``recipe`` that are not finished in ``out``.

    ``data`` is a manifest; ``packed`` a folder of packed clips (default: made from ``data`` in ``out``).
    Raises SemibodyError for unusable data, contradictory settings, a folder in use, a loss that is not a
    number, lack of memory or disk. Whatever happens, the newest checkpoint of each stage stays.
    """
    deadline = math.inf if max_minutes is None else time.monotonic() + 60 * max_minutes
    training = Training(recipe, out, device=device)
    training.claim(resume=resume)
    clips = training.pack(data, packed, progress)
    for name in recipe.stages:
        if training.final(name) is None and not training.run_stage(name, clips, deadline, progress):
            training.report()
            return Outcome(finished=False, stage=name, weights=training.exported())
    training.report()
    return Outcome(finished=True, stage=None, weights=training.exported())


class Training:
    """One training folder: which stages are done, and how to build what the next one needs."""

    def __init__(self, recipe: Recipe, out: Path, *, device: str = "auto") -> None:
        self.recipe, self.out = recipe, out
        target = runtime.choose_device(device)
        if target.type == "cpu":
            runtime.prepare_cpu()
        self.accelerator = _accelerator(recipe, target)
        self.device: torch.device = self.accelerator.device
        self.log = Log(
            folder=out, tensorboard=recipe.run.tensorboard, active=self.accelerator.is_main_process
        )

    # -- the folder ---------------------------------------------------------------------------

    def claim(self, *, resume: bool) -> None:
        """Write the resolved recipe. Raises SemibodyError if a training is here, unless ``resume``."""
        if self.accelerator.is_main_process:
            if (self.out / "recipe.json").exists() and not resume:
                raise SemibodyError(
                    f"{self.out}: holds a training; add --resume to go on, or choose another --out"
                )
            with atomic_write(self.out / "recipe.json") as unfinished:
                unfinished.write_text(json.dumps(config.to_dict(self.recipe), indent=1), encoding="utf-8")
        self.accelerator.wait_for_everyone()

    def final(self, stage: StageName) -> checkpoint.Snapshot | None:
        """The finished weights of a stage, if it is done."""
        path = self.out / stage / checkpoint.FINAL
        return checkpoint.read(path) if (path / checkpoint.STATE).is_file() else None

    def exported(self) -> Path | None:
        folder = self.out / WEIGHTS
        return folder if (folder / "semibody.json").is_file() else None

    def pack(self, data: Path | None, packed: Path | None, progress: Progress) -> list[PackedClip]:
        """The clips in the form the trainer reads."""
        settings = self.recipe.data
        packing = Packing(size=settings.size, fps=settings.fps, head_height=settings.head_height)
        folder = packed or self.out / "packed"
        if data is None:
            clips = packed_clips(folder, packing)
            if not clips:
                raise SemibodyError(f"{folder}: holds no clips packed for this recipe; give --data MANIFEST")
            return clips
        with self.accelerator.main_process_first():
            return pack_manifest(
                read_manifest(data), folder, packing, workers=settings.workers, progress=progress
            )

    # -- stages -------------------------------------------------------------------------------

    def run_stage(
        self, name: StageName, clips: Sequence[PackedClip], deadline: float, progress: Progress
    ) -> bool:
        """Run one stage to its end or to ``deadline``; True when it is finished."""
        task = self.task(name, clips, progress)
        stage = StageRun(task, self.recipe, self.out / name, self.accelerator, self.log)
        stage.resume()
        done = stage.run(deadline=deadline, progress=progress)
        if self.accelerator.is_main_process:
            with stage.averaged(), lora.merged(task.module):
                if done:
                    self._write_final(name, task, stage.step)
                if isinstance(task, DenoisingTask | RestoringTask):
                    self.export(task.model, name, stage.step)
        self.accelerator.wait_for_everyone()
        self.accelerator.free_memory()
        return done

    def task(self, name: StageName, clips: Sequence[PackedClip], progress: Progress) -> Task:
        """Build a stage: networks with the weights of the stages before, and its samples."""
        chosen, held_out = split(clips)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.recipe.seed)
            if name == "vae":
                return VAETask(self.recipe, self._new_vae(), chosen, held_out)
            if name == "keypoints":
                network = KeypointNetwork(self.recipe.keypoints.width)
                return KeypointTask(self.recipe, network, chosen, held_out)
            if name == "audio":
                return ListeningTask(self.recipe, LogMelEncoder(self.recipe.model.audio), chosen, held_out)
            # From here on stages are shown portraits.
            if self.recipe.data.found_portraits:
                self._find_poses(clips, progress)
            if name == "plate":
                return PlateTask(self.recipe, self._new_plate(), chosen, held_out)
            model = self.model(name)
        model.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        store = self.encode(model, [*chosen, *held_out], progress)
        samples = DenoisingSamples(
            self.recipe, name, chosen, store, model.audio_encoder, motion=model.config.unet.motion
        )
        if name == "restore":
            return self._restoring(model, samples, chosen, held_out, progress)
        needs_pose = self.recipe.loss.pose > 0 and self.recipe.loss.pose_from < 1000
        return DenoisingTask(
            self.recipe,
            name,
            model,
            samples,
            held_out,
            heat_maps=self.heat_maps() if needs_pose else None,
            perceptual=_to(load_perceptual(self.recipe), self.device),
            autocast=self.accelerator.autocast,
        )

    def _restoring(
        self,
        model: Model,
        samples: DenoisingSamples,
        chosen: Sequence[PackedClip],
        held_out: Sequence[PackedClip],
        progress: Progress,
    ) -> RestoringTask:
        """The restorer's stage, with the pictures it learns from generated."""
        recipe, data = self.recipe, self.recipe.data
        drawn = [
            recipe.seed,
            recipe.restore.frames,
            data.size,
            data.fps,
            data.gap,
            data.calm,
            data.other_clip,
            data.found_portraits,
        ]
        told = [recipe.schedule, recipe.noise, recipe.defaults]
        names = sorted(clip.id for clip in chosen)
        painters = [] if model.plate is None else [model.plate]
        shown = painters if model.config.hints.base == "plate" else []
        generating = dataclasses.replace(
            model.config, restorer=None, plate=model.config.plate if shown else None
        )
        key = _digest([*drawn, *told, generating, *names], Denoiser(model), model.vae, *shown)
        plates = _digest([*drawn, model.config.plate, *names], *painters)
        task = RestoringTask(
            recipe,
            model,
            samples,
            held_out,
            pool=self.out / f"generated-{key}",
            plates=self.out / f"plates-{plates}",
            autocast=self.accelerator.autocast,
        )
        self._shared(range(recipe.restore.pool), lambda numbers: task.prepare(numbers, progress))
        return task

    def model(self, stage: StageName) -> Model:
        """The networks at the start of a stage, without those that only later ones need."""
        vae, painted, given = self.final("vae"), self.final("plate"), self._given()
        if vae is None and given is None:
            raise SemibodyError(
                "there is no autoencoder: add the stage vae, or set start.weights to a weights folder"
            )
        moves = stage == "motion"
        if stage == "restore":
            moves = self.final("motion") is not None or (given is not None and given.config.unet.motion)
        shows_plate = self.recipe.model.hints.base == "plate"
        sizes = dataclasses.replace(
            self.recipe.model,
            unet=dataclasses.replace(self.recipe.model.unet, motion=moves),
            restorer=self.recipe.model.restorer if stage == "restore" else None,
            plate=self.recipe.model.plate if stage == "restore" or shows_plate else None,
        )
        scale = sizes.vae.scale
        if vae is not None:
            scale = float(vae.facts["scale"])
        elif given is not None:
            scale = given.vae.config.scale
        model = Model(dataclasses.replace(sizes, vae=dataclasses.replace(sizes.vae, scale=scale)))
        if model.plate is not None and painted is None and (given is None or given.plate is None):
            raise SemibodyError(
                "nobody paints the clean plate: add the stage plate, or set start.weights to weights with one"
            )
        silence_motion(model)
        self._start(model, given)
        if vae is not None:
            _fill(model.vae, below(vae.weights, "vae."), str(self.out / "vae"))
        if model.plate is not None and painted is not None:
            _fill(model.plate, below(painted.weights, "plate."), str(self.out / "plate"))
        heard = self.final("audio")
        if heard is not None:
            _fill(model.audio_encoder, below(heard.weights, "audio_encoder."), str(self.out / "audio"))
        if heard is not None or (given is not None and sizes.audio.mouth_token):
            # Its lessons are short, a picture's are long and blunt: they would wear off.
            model.audio_encoder.requires_grad_(False)
        if stage != "still":
            before: list[StageName] = ["still", "motion"] if stage == "restore" else ["still"]
            done = [(name, final) for name in before if (final := self.final(name)) is not None]
            for name, final in done:
                _fill(Denoiser(model), final.weights, str(self.out / name))
            if not done and not self.recipe.start.weights:
                raise SemibodyError(f"the stage {stage} needs the stage still first, or start.weights")
        return model

    def _new_vae(self) -> VAE:
        given = self._given()
        return VAE(self.recipe.model.vae) if given is None else given.vae.requires_grad_(True)

    def _new_plate(self) -> CleanPlate:
        assert self.recipe.model.plate is not None
        given = self._given()
        if given is None or given.plate is None:
            return CleanPlate(self.recipe.model.plate)
        return given.plate.requires_grad_(True)

    def _given(self) -> Model | None:
        """The weights to begin from, where the recipe names some."""
        if not self.recipe.start.weights:
            return None
        folder, preset = find_weights(self.recipe.start.weights)
        return load_model(folder, variant="accelerated" if preset == "accelerated" else "official")[0]

    def _start(self, model: Model, given: Model | None) -> None:
        """Begin from given weights, and a Stable Diffusion U-Net, where the recipe names them."""
        start = self.recipe.start
        if given is not None:
            for part in model.config.networks:
                if part not in given.config.networks or (part == "vae" and "vae" in self.recipe.stages):
                    continue
                theirs, ours = getattr(given, part).state_dict(), getattr(model, part)
                # A stage without motion modules takes a model that has them, and the other way round.
                known = {
                    k: v for k, v in theirs.items() if "motion_modules" not in k or k in ours.state_dict()
                }
                _fill(ours, known, f"{start.weights} ({part})")
        if start.unet:
            path = Path(start.unet)
            state = read_state(path)
            taken = [
                take_fitting(getattr(model, part), state) for part in ("denoising_unet", "reference_unet")
            ]
            if min(taken) == 0:
                raise SemibodyError(f"{path}: nothing in it fits this recipe's U-Nets; check start.unet")

    def heat_maps(self) -> Any:
        """The frozen keypoint network's heat maps, for L_pose."""
        final = self.final("keypoints")
        if final is None:
            raise SemibodyError("L_pose needs the stage keypoints; add it to stages, or set loss.pose = 0")
        network = KeypointNetwork(self.recipe.keypoints.width)
        _fill(network, final.weights, str(self.out / "keypoints"))
        return network.eval().requires_grad_(False).to(self.device).heat_maps

    def encode(self, model: Model, clips: Sequence[PackedClip], progress: Progress) -> LatentStore:
        """Latents and audio rows of all clips, made once for an autoencoder."""
        # Clips of another frame rate may have the same names.
        key = _digest([model.config.vae, model.config.audio], model.vae)
        store = LatentStore(self.out / f"latents-{key}-{self.recipe.data.fps:g}fps")

        def encode(pictures: NDArray[np.uint8]) -> NDArray[np.float16]:
            pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2)
            made = []
            with torch.inference_mode(), self.accelerator.autocast():
                for part in pixels.split(_ENCODED_AT_ONCE):
                    shaped = to_pixels(part.to(self.device)).contiguous(memory_format=torch.channels_last)
                    made.append(model.encode(shaped).float().cpu())
            return torch.cat(made).numpy().astype(np.float16)

        def hear(speech: Speech) -> NDArray[np.float16]:
            with torch.inference_mode():
                rows = model.audio_encoder.rows(torch.from_numpy(speech.waveform).to(self.device))
            return rows.float().cpu().numpy().astype(np.float16)

        model.eval()
        self._shared(clips, lambda part: store.fill(part, encode, hear, progress=progress))
        return store

    def _find_poses(self, clips: Sequence[PackedClip], progress: Progress) -> None:
        workers = self.recipe.data.workers
        self._shared(clips, lambda part: find_poses(part, workers=workers, progress=progress))

    def _shared(self, everything: Sequence[Any], make: Callable[[Sequence[Any]], None]) -> None:
        """Each process makes its share; then whatever is missing here, if a folder is not the others' too."""
        rank, ranks = self.accelerator.process_index, self.accelerator.num_processes
        make(everything[rank::ranks])
        self.accelerator.wait_for_everyone()
        make(everything)

    def _write_final(self, name: StageName, task: Task, step: int) -> None:
        """Keep the averaged weights of a finished stage, whole (also what did not train)."""
        facts: dict[str, Any] = {"stage": name}
        weights = {k: v.detach().cpu().clone() for k, v in task.module.state_dict().items()}
        if isinstance(task, VAETask):
            facts["scale"] = latent_scale(task)
        snapshot = checkpoint.Snapshot(step=step, weights=weights, average={}, moments={}, facts=facts)
        checkpoint.write(self.out / name / checkpoint.FINAL, snapshot)

    def export(self, model: Model, stage: StageName, step: int) -> Path:
        """Write the model as a weights folder; the average weights stand in it when called."""
        folder, recipe = self.out / WEIGHTS, self.recipe
        defaults = {"width": recipe.data.size, "height": recipe.data.size, "fps": recipe.data.fps}
        if model.config.unet.motion:
            window = recipe.motion.frames
            defaults |= {"window": window, "overlap": window // 4, "shift": max(1, window // 4)}
        else:
            # Frames know nothing of each other yet: windows need not overlap.
            defaults |= {"overlap": 0, "shift": 0}
        info = {
            "schedule": dataclasses.asdict(recipe.schedule),
            "defaults": {**defaults, **recipe.defaults},
            "origin": f"recipe {recipe.name}, stage {stage}, step {step}",
        }
        save_model(folder, model, info)
        return folder

    def report(self) -> None:
        """Write the report page from the log so far."""
        from semibody.training.report import write_report

        self.log.close()
        if self.accelerator.is_main_process:
            write_report(self.out, self.recipe)


def split(clips: Sequence[PackedClip]) -> tuple[list[PackedClip], list[PackedClip]]:
    """(training, held-out) clips. Without a held-out split the training clips are shown instead."""
    chosen = [clip for clip in clips if clip.split == "train"]
    held_out = [clip for clip in clips if clip.split == "val" and clip.kind == "full"]
    held_out = held_out or [clip for clip in clips if clip.split == "test" and clip.kind == "full"]
    if not chosen:
        raise SemibodyError("the data has no clips of the split train; make more people")
    return chosen, held_out or [clip for clip in chosen if clip.kind == "full"]


def silence_motion(model: Model) -> None:
    """Let motion modules begin as the identity: their last projection is zero."""
    with torch.no_grad():
        for name, parameter in model.denoising_unet.named_parameters():
            if "motion_modules" in name and ".proj_out." in name:
                parameter.zero_()


def latent_scale(task: VAETask) -> float:
    """The factor that brings the latents of the training pictures to unit variance; of an encoder that
    rested, its own, which networks that read its latents are used to."""
    if not any(p.requires_grad for p in task.vae.encoder.parameters()):
        return task.vae.config.scale
    device = next(task.vae.parameters()).device
    means = []
    with torch.inference_mode():
        for clip in task.samples.clips[:: max(1, len(task.samples.clips) // 64)]:
            pixels = torch.from_numpy(clip.pictures([len(clip) // 2])).permute(0, 3, 1, 2)
            means.append(task.vae.distribution(to_pixels(pixels.to(device)))[0].float().cpu())
    return 1.0 / max(1e-3, float(torch.cat(means).std()))


def take_fitting(module: nn.Module, state: dict[str, Tensor]) -> int:
    """Copy the tensors that fit by name and shape; returns how many."""
    own = module.state_dict()
    fitting = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    module.load_state_dict(fitting, strict=False)
    return len(fitting)


def _fill(module: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Load ``state``; what it lacks may only be motion modules. Raises SemibodyError on misfits."""
    own = module.state_dict()
    wrong = [f"{k} has shape {tuple(v.shape)}, not {tuple(own[k].shape)}" for k, v in state.items()
             if k in own and own[k].shape != v.shape]  # fmt: skip
    wrong += [f"extra {k}" for k in state if k not in own]
    wrong += [f"missing {k}" for k in own if k not in state and "motion_modules" not in k]
    if wrong:
        raise SemibodyError(f"{source}: does not fit this recipe's model: {', '.join(wrong[:3])}")
    module.load_state_dict(state, strict=False)


def below(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with ``prefix``, without it."""
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def _digest(settings: Sequence[Any], *networks: nn.Module) -> str:
    """Names what is made with these settings and weights."""
    plain = [config.to_dict(one) if dataclasses.is_dataclass(one) else one for one in settings]
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    for network in networks:
        for _, value in sorted(network.state_dict().items()):
            digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def _to(network: nn.Module | None, device: torch.device) -> nn.Module | None:
    return None if network is None else network.to(device)


def _accelerator(recipe: Recipe, target: torch.device) -> Any:
    try:
        from accelerate import Accelerator, DistributedDataParallelKwargs
    except ImportError:
        raise MissingPartError("training needs accelerate; pip install 'semibody[train]'") from None
    from accelerate.state import AcceleratorState, PartialState

    dtype = runtime.choose_dtype(recipe.run.precision, target)
    precision = {torch.bfloat16: "bf16", torch.float16: "fp16"}.get(dtype, "no")
    if PartialState._shared_state and PartialState().num_processes == 1:
        AcceleratorState._reset_state(reset_partial_state=True)  # another training in this process
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    return Accelerator(mixed_precision=precision, cpu=target.type == "cpu", kwargs_handlers=[unused])
