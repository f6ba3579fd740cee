"""Whether the lips of a clip move with its sound: a sync network, and the same sound shifted as control.

A sync network (SyncNet where its weights are, else our small one) places a moving mouth near its sound. Lips
that follow the sound are nearer to it at its own place than to the same sound at any place a quarter of a
second or more away. Another speech, or the right one half a second late, is not. How clearly is the *margin*:
the nearest control's distance less the distance in place, in deviations of the controls' distances.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from semibody.evaluation import extract
from semibody.evaluation.protocol import Protocol

Network = Literal["syncnet", "sync-small"]

TICKS = 25
"""Embeddings a second."""
NEAR, AWAY, FARTHEST = 3, 6, 25
"""Ticks up to which a shift counts as none; from which it is a control; and the farthest control."""
_LEAST = 20
"""Ticks that must overlap at a shift."""


@dataclass(frozen=True)
class Agreement:
    """How lips and sound of a clip agree."""

    network: Network
    margin: float
    """deviations of the controls by which the sound in place is nearer than the nearest control"""
    late: float
    """seconds by which the lips trail the sound where both agree best"""


def network_here() -> Network | None:
    """The sync network that this machine has all parts of; None: it has none."""
    if not extract.KINDS["syncnet"].missing():
        return "syncnet"
    from semibody.evaluation.faces import expressions_missing

    return None if expressions_missing() else "sync-small"


def agreement(video: Path, audio: Path, fps: float, network: Network) -> Agreement | None:
    """Lips and sound of a clip's files; None where too little of the face is seen to tell. Raises
    SemibodyError for a damaged file."""
    both = embeddings(video, audio, fps, network)
    return compare(*both, network) if both is not None else None


def embeddings(
    video: Path, audio: Path, fps: float, network: Network
) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """(n, d) of the moving mouth and of the sound, 25 a second; None with too few faces."""
    source = extract.SampledVideo(video, fps, audio)
    kinds = ["syncnet"] if network == "syncnet" else ["faces", "sound"]
    found = extract.measure(source, [extract.KINDS[kind] for kind in kinds], Protocol())
    if network == "syncnet":
        return found["syncnet"]["video"], found["syncnet"]["audio"]
    from semibody.evaluation import sync_small

    return sync_small.embed(found["faces"], found["sound"]["mfcc"], fps)


def compare(video: NDArray[Any], audio: NDArray[Any], network: Network = "sync-small") -> Agreement | None:
    """The agreement of embeddings (n, d) of the mouth and of the sound; None for fewer than two seconds."""
    count = min(len(video), len(audio))
    reach = min(FARTHEST, count - _LEAST)
    if reach < 2 * AWAY:
        return None
    shifts = np.arange(-reach, reach + 1)
    distances = np.array([_distance(video[:count], audio[:count], int(shift)) for shift in shifts])
    near, away = distances[abs(shifts) <= NEAR], distances[abs(shifts) >= AWAY]
    margin = float((away.min() - near.min()) / max(float(away.std()), 1e-6))
    return Agreement(network, margin, float(shifts[distances.argmin()]) / TICKS)


def _distance(video: NDArray[Any], audio: NDArray[Any], late: int) -> float:
    """Mean distance where the mouth is held against the sound of ``late`` ticks before."""
    count = len(video) - abs(late)
    seen, heard = video[max(0, late) :][:count], audio[max(0, -late) :][:count]
    return float(np.linalg.norm(seen.astype(np.float64) - heard, axis=1).mean())
