"""A whole training: data, stages one after the other, report. The file to read first here.

    train(load_recipe("starter"), data=Path("data"), out=Path("run"))

The folder ``run`` then holds

=====================  =========================================================================
``recipe.json``        the recipe as it was resolved
``start.json``         by stage, what networks took from public weights and what was new, by name
``packed/``            the clips in the form the trainer reads (a setting of the call)
``latents-…/``         the clips encoded by autoencoder and audio encoder, for each frame rate (in
                       ``data.latents`` where the recipe names a folder)
``vae/ still/ …``      checkpoints of each stage, and ``final/`` when it is done
``log.jsonl``          every figure; ``tensorboard/`` and ``pictures/`` beside it
``weights/``           the finished networks, for ``animate --weights`` and ``Animator.load``
``report.html``        curves, pictures and figures
=====================  =========================================================================
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from semibody import config, runtime
from semibody.clips.manifest import ClipEntry, read_manifest
from semibody.data.dataset import PackedClip, Packing, pack_manifest, packed_clips
from semibody.files import DISK_ERRORS, read_json
from semibody.media import atomic_write
from semibody.training import checkpoint, lora, sources
from semibody.training.loop import Log, StageRun
from semibody.training.ranks import Ranks
from semibody.training.recipe import Recipe
from semibody.training.stages import STAGES
from semibody.training.stages.base import Context, Stage
from semibody.types import MissingPartError, Progress, SemibodyError, silent

WEIGHTS = "weights"
START = "start.json"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a training ended."""

    finished: bool
    """False: stopped at the deadline; the same call with ``resume`` continues"""
    stage: str | None
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
    number, lack of memory or disk. The newest checkpoint of each stage is kept in every case.
    """
    deadline = math.inf if max_minutes is None else time.monotonic() + 60 * max_minutes
    # Before anything is spent: what cannot be used stops a training at once.
    sources.check(recipe.model, recipe.start)
    training = Training(recipe, out, device=device)
    # Read before anything is written: a wrong name leaves no folder.
    entries = None if data is None else read_manifest(data)
    clips = [] if entries is not None else training.packed(packed)
    training.claim(resume=resume)
    with training.ranks.ending_together(), _full_disk_named():
        if entries is not None:
            clips = training.pack(entries, packed, progress)
        for name in recipe.stages:
            if training.final(name) is None and not training.run_stage(name, clips, deadline, progress):
                training.report()
                return Outcome(finished=False, stage=name, weights=training.exported())
        training.report()
    return Outcome(finished=True, stage=None, weights=training.exported())


@contextlib.contextmanager
def _full_disk_named() -> Iterator[None]:
    """Within it, an error of the disk is a SemibodyError with a training's remedy."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        where = f"{error.filename}: " if error.filename else ""
        raise SemibodyError(
            f"{where}cannot be written ({error.strerror}); free some space, then continue with --resume"
        ) from None


class Training:
    """One training folder: which stages are done, and how to build what the next one needs."""

    def __init__(self, recipe: Recipe, out: Path, *, device: str = "auto") -> None:
        self.recipe, self.out = recipe, out
        target = runtime.choose_device(device)
        runtime.prepare(target)
        self.accelerator = _accelerator(recipe, target)
        self.ranks = Ranks.of(self.accelerator)
        self.device: torch.device = self.accelerator.device
        self.log = Log(folder=out, tensorboard=recipe.run.tensorboard, active=self.ranks.first)

    # -- the folder ---------------------------------------------------------------------------

    def claim(self, *, resume: bool) -> None:
        """Write the resolved recipe. Raises SemibodyError if a training is here, unless ``resume``."""
        if self.ranks.first:
            if (self.out / "recipe.json").exists() and not resume:
                raise SemibodyError(
                    f"{self.out}: holds a training; add --resume to continue it, or choose another --out"
                )
            with atomic_write(self.out / "recipe.json") as unfinished:
                unfinished.write_text(json.dumps(config.to_dict(self.recipe), indent=1), encoding="utf-8")
        self.ranks.wait()

    def final(self, stage: str) -> checkpoint.Snapshot | None:
        """The finished weights of a stage, if it is done."""
        return checkpoint.read_final(self.out / stage)

    def exported(self) -> Path | None:
        folder = self.out / WEIGHTS
        return folder if (folder / "semibody.json").is_file() else None

    def packed(self, folder: Path | None) -> list[PackedClip]:
        """The clips that are there in the form the trainer reads. Raises SemibodyError if there are none."""
        folder = folder or self.out / "packed"
        clips = packed_clips(folder, self._packing)
        if not clips:
            raise SemibodyError(f"{folder}: holds no clips packed for this recipe; give --data MANIFEST")
        return clips

    def pack(self, entries: Sequence[ClipEntry], folder: Path | None, progress: Progress) -> list[PackedClip]:
        """Bring clips into the form the trainer reads."""
        folder, workers = folder or self.out / "packed", self.recipe.data.workers
        ordered = sorted(entries, key=lambda entry: entry.id)
        clips: list[PackedClip] = []

        def pack(some: Sequence[ClipEntry]) -> None:
            if some or not ordered:
                clips[:] = pack_manifest(some, folder, self._packing, workers=workers, progress=progress)

        self.ranks.share(ordered, pack)
        return clips

    @property
    def _packing(self) -> Packing:
        return self.recipe.data.packing

    # -- stages -------------------------------------------------------------------------------

    def run_stage(self, name: str, clips: Sequence[PackedClip], deadline: float, progress: Progress) -> bool:
        """Run one stage to its end or to ``deadline``; True when it is finished."""
        context = self.context(name, clips, progress)
        stage = STAGES[name].build(context)
        self._note_start(name, context.taken)
        self.ranks.wait()  # one process may have read or encoded for longer than a step may take
        run = StageRun(stage, self.recipe, self.out / name, self.accelerator, self.log, self.ranks)
        run.resume()
        done = run.run(deadline=deadline, progress=progress)
        with run.ema_weights():
            if self.ranks.first:
                with lora.merged(stage.module):
                    if done:
                        self._write_final(stage, run.step)
                    stage.export(self.out / WEIGHTS, run.step)
        self.ranks.wait()
        self.accelerator.free_memory()
        return done

    def _note_start(self, name: str, taken: Sequence[sources.Taken]) -> None:
        """Keep in ``start.json`` what a stage's networks took from public weights."""
        if not taken or not self.ranks.first:
            return
        path = self.out / START
        known = read_json(path, "delete it") if path.is_file() else {}
        if not isinstance(known, dict):
            raise SemibodyError(f"{path}: is no record of public weights; delete it")
        made = {**known, name: [dataclasses.asdict(one) for one in taken]}
        with atomic_write(path) as unfinished:
            unfinished.write_text(json.dumps(made, indent=1), encoding="utf-8")

    def build(self, name: str, clips: Sequence[PackedClip], progress: Progress = silent) -> Stage[Any]:
        """A stage with the networks that earlier stages trained. Raises SemibodyError if some are missing."""
        return STAGES[name].build(self.context(name, clips, progress))

    def context(self, name: str, clips: Sequence[PackedClip], progress: Progress = silent) -> Context:
        """What a stage is built from."""
        chosen, held_out = split(clips)
        order = list(STAGES.values())
        stage = STAGES[name]
        return Context(
            stage=stage,
            before=order[: order.index(stage)],
            recipe=self.recipe,
            out=self.out,
            clips=chosen,
            held_out=held_out,
            every_clip=clips,
            device=self.device,
            autocast=self.accelerator.autocast,
            ranks=self.ranks,
            progress=progress,
        )

    def _write_final(self, stage: Stage[Any], step: int) -> None:
        """Write the EMA weights of a finished stage, frozen parameters included."""
        facts = {"stage": stage.name, **stage.facts()}
        weights = {k: v.detach().cpu().clone() for k, v in stage.module.state_dict().items()}
        snapshot = checkpoint.Snapshot(step=step, weights=weights, ema={}, moments={}, facts=facts)
        checkpoint.write(self.out / stage.name / checkpoint.FINAL, snapshot)

    def report(self) -> None:
        """Write the report page from the log so far."""
        from semibody.training.report import write_report

        self.log.close()
        if self.ranks.first:
            write_report(self.out, self.recipe)


def split(clips: Sequence[PackedClip]) -> tuple[list[PackedClip], list[PackedClip]]:
    """(training, held-out) clips. Without a held-out split, validation uses the training clips."""
    chosen = [clip for clip in clips if clip.split == "train"]
    # What is generated of a clip is measured with its sound.
    heard = [clip for clip in clips if clip.kind == "full" and not clip.silent]
    held_out = [clip for clip in heard if clip.split == "val"]
    held_out = held_out or [clip for clip in heard if clip.split == "test"]
    if not chosen:
        raise SemibodyError("the data has no clips of the split train; make more people")
    return chosen, held_out or [clip for clip in chosen if clip.kind == "full" and not clip.silent]


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
    made = Accelerator(mixed_precision=precision, cpu=target.type == "cpu", kwargs_handlers=[unused])
    if str(made.distributed_type).rpartition(".")[2] not in ("NO", "MULTI_CPU", "MULTI_GPU"):
        raise SemibodyError(
            f"accelerate is set up for {made.distributed_type}; choose several GPUs or CPUs there without "
            "it, and add --set run.shard=true to shard weights and optimiser (FSDP2)"
        )
    return made
