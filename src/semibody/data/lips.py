"""Whether the lips of a clip move with its sound, measured against the same sound shifted.

Two measures, ``syncnet`` where SyncNet's weights are, else ``predicted``:

``syncnet``    a network places a moving mouth near its sound. *Agreement* is the negative mean distance.
``predicted``  the starter's network predicts from the sound how far lips are open and spread; the detector's
               points show how far they are. *Agreement* is the correlation of the two. Nothing is trained
               for it, and it needs no pictures, only the points that an ingest has found anyway.

Lips that follow the sound agree with it more in place than where it is shifted by a quarter of a second or
more. Another speech, or the right one half a second late, does not. How clearly is the *margin*: the best
agreement in place less the best of the shifted ones, in standard deviations of the shifted ones.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from semibody.types import Floats, MissingPartError, Speech

Measure = Literal["syncnet", "predicted"]

TICKS = 25
"""Places a second at which lips and sound are compared."""
NEAR, AWAY, FARTHEST = 3, 6, 37
"""Ticks up to which a shift counts as none; from which it is a control; and the farthest control."""
_LEAST = 25
"""Ticks that must overlap at a shift."""
_SHORTEST = 45
"""Ticks of the shortest clip that tells anything."""
_DRIFT = 0.6
"""Seconds whose mean is subtracted from lips and prediction: a smile, or a head that turns, lasts longer."""
_SEEN_SHARE = 0.8
"""Least share of frames in which the mouth must be seen."""


@dataclass(frozen=True)
class Agreement:
    """How lips and sound of a clip agree."""

    measure: Measure
    margin: float
    """standard deviations of the controls by which the sound in place agrees more than the best control"""
    late: float
    """seconds by which the lips trail the sound where both agree best"""


def measure_here() -> Measure | None:
    """What this machine can measure with; None: with nothing."""
    from semibody.evaluation import extract
    from semibody.weights.hub import find_weights

    if not extract.KINDS["syncnet"].missing():
        return "syncnet"
    try:
        find_weights("starter")
    except MissingPartError:
        return None
    return "predicted"


# --- SyncNet --------------------------------------------------------------------------------------------


def of_video(video: Path, audio: Path, fps: float) -> Agreement | None:
    """By SyncNet, of a clip's files; None where too little of the face is seen to tell. Raises SemibodyError
    for a damaged file."""
    return compare_embeddings(*embeddings(video, audio, fps))


def embeddings(video: Path, audio: Path, fps: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """SyncNet's (n, 1024) of the moving mouth and of the sound, 25 a second. Raises SemibodyError."""
    from semibody.evaluation import extract
    from semibody.evaluation.protocol import Protocol

    source = extract.SampledVideo(video, fps, audio)
    found = extract.measure(source, [extract.KINDS["syncnet"]], Protocol())["syncnet"]
    return found["video"], found["audio"]


def compare_embeddings(seen: NDArray[Any], heard: NDArray[Any]) -> Agreement | None:
    """The agreement of embeddings (n, d) of the mouth and of the sound; None for too short a clip."""
    return _agreement("syncnet", seen, heard, _nearness)


def _nearness(seen: NDArray[Any], heard: NDArray[Any]) -> float:
    return -float(np.linalg.norm(seen.astype(np.float64) - heard, axis=1).mean())


# --- predicted lips -------------------------------------------------------------------------------------


def of_points(face: Floats, confidence: Floats, speech: Speech, fps: float) -> Agreement | None:
    """By the starter's network, of the points of a face (f, 68, 2) with their confidence (f, 68), in units in
    which x and y are equally long; None where too little of the mouth is seen, or for too short a clip."""
    seen = seen_lips(face, confidence, fps)
    return None if seen is None else compare_lips(seen, heard_lips(speech))


def compare_lips(seen: NDArray[Any], heard: NDArray[Any]) -> Agreement | None:
    """The agreement of opening and width (n, 2) of lips, seen and predicted; None for too short a clip."""
    return _agreement("predicted", _levelled(seen), _levelled(heard), _correlation)


def seen_lips(face: Floats, confidence: Floats, fps: float) -> Floats | None:
    """Opening and width (n, 2) of the lips at 25 a second, in heights of the face."""
    from semibody.pose.body import SEEN
    from semibody.pose.skeleton import LIPS

    good = confidence[:, LIPS].min(axis=1) >= SEEN
    if good.mean() < _SEEN_SHARE:
        return None
    face = face[good]
    tall = np.median(np.linalg.norm(face[:, _CHIN] - face[:, _BROWS].mean(axis=1), axis=1))
    gaps = [np.linalg.norm(face[:, below] - face[:, above], axis=1) for above, below in _OUTER_LIPS]
    wide = np.linalg.norm(face[:, _CORNERS[1]] - face[:, _CORNERS[0]], axis=1)
    frames, ticks = np.flatnonzero(good), _ticks(len(good), fps)
    return np.stack(
        [np.interp(ticks, frames, curve) / max(tall, 1e-6) for curve in (np.mean(gaps, axis=0), wide)], axis=1
    )


def heard_lips(speech: Speech) -> Floats:
    """Opening and width (n, 2) of the lips at 25 a second as predicted from speech, between -1 and 1."""
    import torch

    from semibody.networks.audio_encoders import audible

    ear, lips = _listener()
    with torch.inference_mode():
        rows = ear.rows(audible(torch.from_numpy(speech.waveform)))
        frames = torch.arange(round(len(speech.waveform) / speech.rate * TICKS))
        shapes = lips(lips.windows(rows, frames, TICKS)).double().numpy()
    jaw, rounded, spread, pressed = shapes[:, :4].T
    return np.stack([jaw * (1 - pressed), spread - rounded], axis=1)


_WEIGHTS = np.array([1.0, 0.3])
"""Of opening and width: a mouth's width depends on a smile too."""
_OUTER_LIPS = ((50, 58), (51, 57), (52, 56))
_CORNERS, _CHIN, _BROWS = (48, 54), 8, (19, 24)
"""Among the 68 points of a face. The outer lips: the inner ones of a small mouth are a pixel apart."""


def _ticks(frames: int, fps: float) -> Floats:
    """Frame numbers, with fractions, at the middle of each tick."""
    return (np.arange(int(frames / fps * TICKS + 1e-6)) + 0.5) / TICKS * fps - 0.5


@functools.lru_cache(maxsize=1)
def _listener() -> tuple[Any, Any]:
    """The starter's log-mel spectrogram and its network of lips."""
    import torch

    from semibody.networks.audio_encoders import build_audio_encoder
    from semibody.networks.loading import build_model, read_network
    from semibody.weights import state
    from semibody.weights.hub import find_weights

    folder, _ = find_weights("starter")
    model, info = build_model(folder)
    assert model.lips is not None, "the starter has it"
    tensors, source = read_network(folder, "lips"), f"{folder} (lips)"
    state.fill(model.lips, tensors, dtype=torch.float32, device=torch.device("cpu"), source=source)
    return build_audio_encoder(info.model.audio), model.lips


def _levelled(curves: Floats) -> Floats:
    """Curves (n, c) less their mean over ``_DRIFT`` seconds about each tick, fewer at the ends."""
    count, reach = len(curves), round(_DRIFT * TICKS) // 2
    total = np.concatenate([np.zeros((1, curves.shape[1])), np.cumsum(curves, axis=0)])
    low, high = (np.arange(count) - reach).clip(0), (np.arange(count) + reach + 1).clip(max=count)
    return np.asarray(curves - (total[high] - total[low]) / (high - low)[:, None])


def _correlation(seen: Floats, heard: Floats) -> float:
    """Weighted mean of the columns' correlations, in standard deviations of what chance gives for so many
    ticks (but for a factor that is the same at every shift)."""
    seen, heard = seen - seen.mean(axis=0), heard - heard.mean(axis=0)
    scale = np.sqrt((seen**2).sum(axis=0) * (heard**2).sum(axis=0))
    found = (seen * heard).sum(axis=0) / np.maximum(scale, 1e-12)
    return float(found @ _WEIGHTS) * len(seen) ** 0.5


# --- both -----------------------------------------------------------------------------------------------


def _agreement(
    measure: Measure,
    seen: NDArray[Any],
    heard: NDArray[Any],
    agree: Callable[[NDArray[Any], NDArray[Any]], float],
) -> Agreement | None:
    count = min(len(seen), len(heard))
    if count < _SHORTEST:
        return None
    reach = min(FARTHEST, count - _LEAST)
    shifts = np.arange(-reach, reach + 1)
    values = np.array([agree(*_shifted(seen[:count], heard[:count], int(shift))) for shift in shifts])
    near, away = values[abs(shifts) <= NEAR], values[abs(shifts) >= AWAY]
    margin = float((near.max() - away.max()) / max(float(away.std()), 1e-6))
    return Agreement(measure, margin, float(shifts[values.argmax()]) / TICKS)


def _shifted(seen: NDArray[Any], heard: NDArray[Any], late: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The mouth, and beside it the sound of ``late`` ticks before."""
    count = len(seen) - abs(late)
    return seen[max(0, late) :][:count], heard[max(0, -late) :][:count]
