"""Train the small sync network on rendered people, and test it by shifting the sound.

    semibody data synthesise heads --assets makehuman --people 70 --clips 2 --heads 1 --size 224 --seed 77
    python tools/sync_training.py heads

Looking at 140 clips of 3 s takes about three minutes on two cores, the training one. People of the last
seventh of the set are held out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from semibody.evaluation.cache import Cache, default_folder
from semibody.evaluation.gather import gather
from semibody.evaluation.measures.mouth import sync
from semibody.evaluation.protocol import Protocol, check, pair_clips
from semibody.evaluation.sync_small import STEPS, WEIGHTS, SyncSmall, cepstra, embed_rows, movement
from semibody.types import Progress, SemibodyError, silent

Rows = NDArray[np.float32]
SHIFTS = (-10, -7, -4, -2, -1, 0, 1, 2, 4, 7, 10)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the network is trained."""

    steps: int = 1200
    """optimiser steps"""
    batch: int = 16
    """clips of a step"""
    ticks: int = 60
    """length of a cut, in 25ths of a second; the other ticks of the cut are the negatives"""
    rate: float = 2e-3
    """highest learning rate"""
    noise: float = 0.3
    """noise on the movement, in its own deviation"""
    held_out: float = 1 / 7
    """share of the people kept for the test"""
    seed: int = 0
    """draws cuts and initial weights"""


@dataclass(frozen=True)
class Example:
    """``rows`` movement (n, 109) and ``cepstra`` (13, 4n) of one clip."""

    name: str
    rows: Rows
    cepstra: Rows


@dataclass(frozen=True)
class ShiftTest:
    """Of all clips × shifts, the share whose shift was found ``exactly`` and ``within_one`` tick; mean
    ``confidence``."""

    exactly: float
    within_one: float
    confidence: float
    trials: int


def load_examples(folder: Path, *, cache: Path | None = None, progress: Progress = silent) -> list[Example]:
    """Measure every clip of a data folder. Raises SemibodyError when none shows a face and has sound."""
    items, _ = check(pair_clips(folder)[0])
    kept = Cache(cache or default_folder())
    gathered, _ = gather(
        items, Protocol(), ["faces", "sound"], cache=kept, pairs=False, workers=2, progress=progress
    )
    examples = []
    for item in gathered.items:
        found, sound = (gathered.arrays(item.name, "generated", kind) for kind in ("faces", "sound"))
        rows = movement(found, gathered.fps[item.name]) if found is not None else None
        if rows is not None and sound is not None and sound["mfcc"].shape[1]:
            examples.append(Example(item.name, rows, cepstra(sound["mfcc"], len(rows))))
    if not examples:
        raise SemibodyError(f"{folder}: no clip shows a speaking face; get the part face-landmarker")
    return examples


def split(examples: Sequence[Example], share: float) -> tuple[list[Example], list[Example]]:
    """Training and held-out clips; a person (the name before ``c``) is never in both."""
    people = sorted({example.name.split("c")[0] for example in examples})
    last = set(people[len(people) - max(round(len(people) * share), 1) :])
    held = [example for example in examples if example.name.split("c")[0] in last]
    return [example for example in examples if example not in held], held


def train(examples: Sequence[Example], settings: Settings, *, progress: Progress = silent) -> SyncSmall:
    """Contrast every tick's movement with the sound of all ticks of its cut, both ways (InfoNCE)."""
    rng = np.random.default_rng(settings.seed)
    torch.manual_seed(settings.seed)
    network = SyncSmall()
    sharpness = torch.nn.Parameter(torch.tensor(2.0))
    optimiser = torch.optim.AdamW([*network.parameters(), sharpness], settings.rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.rate, settings.steps)
    long_enough = [example for example in examples if len(example.rows) >= settings.ticks]
    wanted = torch.arange(settings.ticks).expand(settings.batch, -1)
    for step in range(settings.steps):
        cuts = [
            _cut(long_enough[k], settings, rng) for k in rng.integers(0, len(long_enough), settings.batch)
        ]
        rows, cepstra = (torch.from_numpy(np.stack(column)) for column in zip(*cuts, strict=True))
        video, audio = network(rows, cepstra)
        likeness = torch.einsum("bdt,bds->bts", video, audio) * sharpness.exp()
        loss = F.cross_entropy(likeness, wanted) + F.cross_entropy(likeness.transpose(1, 2), wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        progress("train", step + 1, settings.steps)
    return network.eval()


def _cut(example: Example, settings: Settings, rng: np.random.Generator) -> tuple[Rows, Rows]:
    start = int(rng.integers(0, len(example.rows) - settings.ticks + 1))
    rows = example.rows[start : start + settings.ticks].T * rng.uniform(0.6, 1.5)
    rows = rows + rng.normal(0, settings.noise * rows.std(), rows.shape)
    cepstra = example.cepstra[:, STEPS * start : STEPS * (start + settings.ticks)] * rng.uniform(0.8, 1.2)
    cepstra = cepstra + rng.normal(0, 0.2, cepstra.shape)
    return rows.astype(np.float32), cepstra.astype(np.float32)


def shift_test(network: SyncSmall, examples: Sequence[Example], reach: int = 15) -> ShiftTest:
    """Delay the sound of every clip by each of SHIFTS and find it again; both ends are cut by the
    largest shift."""
    exactly, near, confidences = [], [], []
    margin = max(SHIFTS)
    for example in examples:
        ticks = len(example.rows) - 2 * margin
        if ticks < 2 * reach:
            continue
        for shift in SHIFTS:
            rows = example.rows[margin : margin + ticks]
            start = STEPS * (margin - shift)
            cepstra = example.cepstra[:, start : start + STEPS * ticks]
            found = sync(*embed_rows(rows, cepstra, network), reach, inside=True)
            assert found is not None
            exactly.append(found.offset == -shift)
            near.append(abs(found.offset + shift) <= 1)
            confidences.append(found.confidence)
    if not exactly:
        raise SemibodyError("the shift test needs clips of at least 2 s")
    return ShiftTest(float(np.mean(exactly)), float(np.mean(near)), float(np.mean(confidences)), len(exactly))


def main(folder: str, target: str = str(WEIGHTS)) -> None:
    """Train, test on the held-out people, write the weights in half precision and print the test as JSON."""
    from safetensors.torch import save_file

    settings = Settings()
    learn, held = split(load_examples(Path(folder)), settings.held_out)
    network = train(learn, settings)
    found = shift_test(network, held)
    save_file({key: value.half().contiguous() for key, value in network.state_dict().items()}, target)
    facts = {"clips": len(learn), "held out": len(held), **found.__dict__}
    sys.stdout.write(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
