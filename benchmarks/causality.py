"""Swap gesture, speech or portrait and measure what follows, on held-out people; one JSON line.

    python benchmarks/causality.py RUN --clips 8

RUN is a training folder (``semibody train``) with weights, packed clips and a keypoint network. Quick figures
for ablations: whether hands, mouth and identity follow their inputs; ``semibody.evaluation`` has the field's
metrics.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from semibody import config
from semibody.animator import Animator
from semibody.clips.mouth import correlation, opening
from semibody.data.dataset import PackedClip
from semibody.training import checkpoint
from semibody.training.keypoints import CHIN, HAND_ROWS, JOINTS, LOWER_LIP, UPPER_LIP, KeypointNetwork, find
from semibody.training.losses import edge_map
from semibody.training.pictures import to_pixels
from semibody.training.recipe import Recipe
from semibody.training.trainer import Training, split
from semibody.training.validation import psnr
from semibody.types import Clip, Gesture

Frames = NDArray[np.uint8]
Numbers = NDArray[np.float64]

REACH = 0.05
"""A joint counts as found within this share of the picture."""
_AT_ONCE = 16


@dataclass(frozen=True)
class KeypointMeter:
    """Measures hands and mouth with a keypoint network."""

    network: KeypointNetwork

    @torch.inference_mode()
    def joints(self, frames: Frames) -> tuple[Numbers, Numbers]:
        """(f, k, 2) places as fractions of the picture and (f, k) peak heights, of ``keypoints.JOINTS``."""
        places, peaks = [], []
        for start in range(0, len(frames), _AT_ONCE):
            heat = self.network.heat_maps(_pixels(frames[start : start + _AT_ONCE]))
            where, peak = find(heat)
            places.append(where.double().numpy())
            peaks.append(peak.double().numpy())
        return np.concatenate(places), np.concatenate(peaks)

    def hands_at(self, frames: Frames, gesture: Gesture) -> float:
        """Share of the gesture's visible hand joints that are at the gesture's place (PCK)."""
        return hands_at(self.joints(frames)[0], gesture)

    def mouth(self, frames: Frames) -> Numbers:
        """(f,) distance of the inner lips over the distance from lip to chin."""
        places, _ = self.joints(frames)
        return opening(places, (UPPER_LIP, LOWER_LIP), (UPPER_LIP, CHIN), least=1e-3)


def hands_at(places: Numbers, gesture: Gesture) -> float:
    """PCK of hand joints: ``places`` (f, k, 2) of ``keypoints.JOINTS`` against a gesture."""
    frames = min(len(places), len(gesture))
    rows = list(JOINTS[HAND_ROWS])
    off = np.linalg.norm(places[:frames, HAND_ROWS] - gesture.joints[:frames, rows], axis=2)
    seen = gesture.confidence[:frames, rows] >= 0.5
    return float((off[seen] < REACH).mean()) if seen.any() else float("nan")


def follows(a: Numbers, b: Numbers) -> float:
    """Pearson's r of two curves; 0 where one of them does not move."""
    n = min(len(a), len(b))
    found = correlation(a[:n], b[:n])
    return 0.0 if math.isnan(found) else found


def sharpness(frames: Frames) -> float:
    """Mean of the soft edge map."""
    with torch.inference_mode():
        return float(edge_map(_pixels(frames), 0.25, 0.08).mean())


def difference(a: Frames, b: Frames) -> float:
    """Mean absolute difference of pixels, 0..1."""
    n = min(len(a), len(b))
    return float(np.abs(a[:n].astype(np.float64) - b[:n]).mean() / 255)


def causality(
    animator: Animator,
    meter: KeypointMeter,
    clips: Sequence[PackedClip],
    *,
    length: int = 12,
    **settings: Any,
) -> dict[str, float]:
    """Swap one input at a time between neighbouring clips and measure what follows; means over the clips.

    ``psnr``: nothing swapped, against the true pictures, in dB.
    ``hands_own`` / ``hands_new`` / ``hands_old``: PCK with the own gesture; with another's gesture, at the
    new and at the old place. ``mouth_own`` / ``mouth_new`` / ``mouth_old``: correlation of the mouth with
    the own jaw; with another's speech, with that jaw and with the former. ``person_new``: share of swapped
    portraits whose result is nearer to the new portrait than to the old. ``hands_kept``: PCK when only
    the portrait was swapped. ``sharpness``: edges, generated over true.
    """
    # Frame by frame against the truth, so at the clips' own rate.
    settings = {"fps": clips[0].fps, **settings}
    found: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        if np.isfinite(value):
            found.setdefault(name, []).append(value)

    def make(portrait: PackedClip, speech: PackedClip, gesture: PackedClip) -> Clip:
        picture = portrait.pictures([0])[0]
        return animator.animate(
            picture, speech.speech(), gesture.gesture(), length=length, allow_silence=True, **settings
        )

    for a, b in zip(clips, [*clips[1:], clips[0]], strict=True):
        truth = a.pictures(range(min(length, len(a))))
        own, hands, voice, person = make(a, a, a), make(a, a, b), make(a, b, a), make(b, a, a)
        note("psnr", psnr(own.frames[: len(truth)], truth))
        note("hands_own", meter.hands_at(own.frames, a.gesture()))
        note("hands_new", meter.hands_at(hands.frames, b.gesture()))
        note("hands_old", meter.hands_at(hands.frames, a.gesture()))
        note("hands_kept", meter.hands_at(person.frames, a.gesture()))
        note("hands_true", meter.hands_at(truth, a.gesture()))
        note("mouth_own", follows(meter.mouth(own.frames), a.jaw().astype(np.float64)))
        note("mouth_new", follows(meter.mouth(voice.frames), b.jaw().astype(np.float64)))
        note("mouth_old", follows(meter.mouth(voice.frames), a.jaw().astype(np.float64)))
        note("mouth_true", follows(meter.mouth(truth), a.jaw().astype(np.float64)))
        first, second = a.pictures([0]), b.pictures([0])
        still = person.frames[:1]
        note("person_new", float(difference(still, second) < difference(still, first)))
        note("sharpness", sharpness(own.frames) / max(1e-9, sharpness(truth)))
    return {name: float(np.mean(values)) for name, values in found.items()}


def _pixels(frames: Frames) -> Tensor:
    return to_pixels(torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2))


# -- the command --------------------------------------------------------------------------------------


def load_keypoint_meter(run: Path, recipe: Recipe) -> KeypointMeter:
    """The keypoint network of a training."""
    network = KeypointNetwork(recipe.keypoints.width)
    network.load_state_dict(checkpoint.read(run / "keypoints" / checkpoint.FINAL).weights)
    return KeypointMeter(network.eval())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--packed", type=Path)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--length", type=int, default=12)
    parser.add_argument("--precision", default="auto")
    asked = parser.parse_args()
    recipe = resolved(asked.run)
    clips = Training(recipe, asked.run).packed(asked.packed)
    _, held_out = split(clips)
    animator = Animator.load(asked.run / "weights", precision=asked.precision)
    figures = causality(
        animator, load_keypoint_meter(asked.run, recipe), held_out[: asked.clips], length=asked.length
    )
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


def resolved(run: Path) -> Recipe:
    """The recipe a training folder was made with."""
    return config.build(Recipe, json.loads((run / "recipe.json").read_text()), str(run))


if __name__ == "__main__":
    main()
