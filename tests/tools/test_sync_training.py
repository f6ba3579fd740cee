"""The training of our own sync network learns to find shifts."""

from __future__ import annotations

import numpy as np
import sync_training
from sync_training import Example


def examples(count: int) -> list[Example]:
    """Mouths that open with the energy of a made-up sound: enough to learn from in seconds."""
    made_up = []
    for number in range(count):
        rng = np.random.default_rng(number)
        energy = np.convolve(rng.normal(size=4 * 75), np.hanning(9) / 4, "same")
        rows = np.repeat(energy[2::4][:, None], 109, axis=1) + rng.normal(0, 0.1, (75, 109))
        cepstra = np.repeat(energy[None], 13, axis=0) + rng.normal(0, 0.1, (13, 300))
        made_up.append(Example(f"p{number:05d}c00", rows.astype(np.float32), cepstra.astype(np.float32)))
    return made_up


def test_training_learns_to_find_shifts() -> None:
    learn, held = sync_training.split(examples(12), 1 / 4)
    assert not {e.name for e in learn} & {e.name for e in held}
    settings = sync_training.Settings(steps=40, batch=4, ticks=40, rate=5e-3)
    found = sync_training.shift_test(sync_training.train(learn, settings), held)
    assert found.trials == 3 * len(sync_training.SHIFTS)
    assert found.within_one > 0.9
