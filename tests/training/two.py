"""What ``test_ranks.py`` has several processes do; each writes what it did and found to ``<rank>.json``.

torchrun --nproc_per_node=2 tests/training/two.py OUT
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.distributed.tensor import DTensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from semibody.clips.manifest import read_manifest
from semibody.data import dataset
from semibody.networks.model import Model
from semibody.training import loop
from semibody.training.stages.denoise import StillStage
from semibody.training.stages.restore import RestoreStage
from semibody.training.trainer import Training, train
from training.nano import nano

STILL_ONLY = ("loss.pose=0", "loss.low=0", "model.plate_latents=false")


def main(out: Path) -> None:
    found: dict[str, Any] = {}
    recipe = nano('stages=["vae","plate","still","restore"]', *STILL_ONLY)
    training = Training(recipe, out / "shared")
    clips = prepare(training, out, found)
    found["validation"] = {name: validate(training, name, clips) for name in ("vae", "still", "restore")}
    found["sharded"] = shard(out)
    (out / f"{training.ranks.number}.json").write_text(json.dumps(found))


def prepare(training: Training, out: Path, found: dict[str, Any]) -> Sequence[dataset.PackedClip]:
    """Pack, encode, generate; ``found`` gets what this process made itself."""
    packed: list[str] = []
    encoded: list[int] = []
    generated: list[int] = []
    note(dataset, "_pack_entry", lambda entry, *_: packed.append(entry.id))
    note(Model, "encode", lambda _, pixels: encoded.append(len(pixels)))
    note(RestoreStage, "_generated", lambda _, batch: generated.append(len(batch.names)))
    clips = training.pack(read_manifest(out / "data"), None, lambda *_: None)
    training.build("restore", clips)
    found.update(packed=sorted(packed), encoded=sum(encoded), generated=sum(generated))
    return clips


def note(place: Any, name: str, write: Any) -> None:
    """Call ``write`` with the arguments of every call of a function."""
    whole = getattr(place, name)

    def noted(*words: Any, **named: Any) -> Any:
        write(*words, **named)
        return whole(*words, **named)

    setattr(place, name, noted)


def validate(training: Training, name: str, clips: Sequence[dataset.PackedClip]) -> dict[str, Any]:
    """Figures and picture of a stage's validation over all processes, and by this one alone."""
    stage = training.build(name, clips)
    stage.module.eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in stage.module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    seen: list[str] = []
    kind = type(stage)
    note(kind, "validate_clip", lambda _, clip, *__: seen.append(clip.id))
    over_all, picture = stage.validate(training.ranks)
    mine = list(seen)
    alone, own_picture = stage.validate()
    assert picture is not None
    assert own_picture is not None
    return {
        "mine": mine, "all": over_all, "alone": alone, "same": bool(np.array_equal(picture, own_picture)),
    }  # fmt: skip


def shard(out: Path) -> dict[str, Any]:
    """Train a few stills with everything sharded, with a stop after the first; what the parameters were."""
    kinds: set[str] = set()
    held: list[int] = []
    whole: list[int] = []
    tracked = loop.StageRun.save

    def save(self: loop.StageRun) -> Path:
        for parameter in self.parameters.values():
            kinds.add(type(parameter.data).__name__)
            assert isinstance(parameter, DTensor)
            held.append(parameter.to_local().numel())
            whole.append(parameter.numel())
        moments = [v for state in self._adam.state.values() for k, v in state.items() if k != "step"]
        kinds.update(type(value).__name__ for value in (*self.ema.values(), *moments))
        return tracked(self)

    loop.StageRun.save = save  # type: ignore[method-assign]
    recipe = nano(
        'stages=["vae","still"]', *STILL_ONLY, "run.shard=true", "still.optimiser.accumulate=2",
        "run.validate_every=3",
    )  # fmt: skip
    packed = out / "shared" / "packed"
    stopped = train(recipe, out / "stopped", packed=packed, resume=True, max_minutes=0, device="cpu")
    for run in ("stopped", "sharded"):
        train(recipe, out / run, packed=packed, resume=True, device="cpu")
    return {
        "stopped": not stopped.finished, "stage": StillStage.name, "kinds": sorted(kinds),
        "held": sum(held), "whole": sum(whole),
    }  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]))
