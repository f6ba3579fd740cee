"""Figures by which stages are compared on held-out clips; `semibody.evaluation` holds the field's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self

import numpy as np

from semibody.data.dataset import PackedClip
from semibody.training.parts import HANDS, coverage
from semibody.types import Picture


def psnr(a: Picture, b: Picture) -> float:
    """Peak signal-to-noise ratio of 8-bit pictures in dB; 99 when they are equal."""
    error = np.square(a.astype(np.float64) - b.astype(np.float64)).mean()
    return 99.0 if error == 0 else float(10 * np.log10(255**2 / error))


class Scores:
    """Figures collected over clips, among them the PSNR of whole picture, face and hands."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}

    def add(self, name: str, made: Picture, truth: Picture, clip: PackedClip, frame: int) -> None:
        """PSNR of one frame: ``name``, and ``name_face`` and ``name_hands`` where these are visible."""
        regions = {"": (0.0, 0.0, 1.0, 1.0)}
        boxes = clip.boxes(frame)
        if "face" in boxes:
            regions["_face"] = tuple(boxes["face"])
        for hand in HANDS:
            if hand in boxes:
                regions[f"_{hand}"] = tuple(boxes[hand])
        size = truth.shape[0]
        for region, (x0, y0, x1, y1) in regions.items():
            cut = (
                slice(int(y0 * size), max(int(y0 * size) + 4, int(np.ceil(y1 * size)))),
                slice(int(x0 * size), max(int(x0 * size) + 4, int(np.ceil(x1 * size)))),
            )
            label = "_hands" if region.endswith("hand") else region
            self.values.setdefault(f"{name}{label}", []).append(psnr(made[cut], truth[cut]))

    def update(self, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            self.values.setdefault(name, []).append(value)

    @classmethod
    def merged(cls, every: Sequence[Self]) -> Self:
        """The values of several, in their order."""
        made = cls()
        for scores in every:
            for name, values in scores.values.items():
                made.values.setdefault(name, []).extend(values)
        return made

    def means(self) -> dict[str, float]:
        return {name: float(np.mean(values)) for name, values in self.values.items()}


def mouth_figures(clip: PackedClip, frame: int, generate: Callable[[int], Picture]) -> dict[str, float]:
    """How much a sample changes when it is conditioned on the audio of the most open or most closed mouth.

    ``generate(i)`` generates ``frame`` conditioned on the audio of frame i. ``mouth_change`` is the mean
    difference of pixels (0..255) in the box of the lips, ``mouth_ratio`` that over the mean difference in
    the rest of the picture. Empty for a clip without lips in ``frame`` or whose mouth hardly moves.
    """
    jaw, boxes = clip.jaw(), clip.boxes(frame)
    if "lips" not in boxes or float(np.ptp(jaw)) < 0.1:
        return {}
    opened, closed = (generate(int(i)).astype(np.float64) for i in (jaw.argmax(), jaw.argmin()))
    change = np.abs(opened - closed).mean(axis=2)
    inside = coverage(boxes["lips"], *change.shape) > 0.5
    lips, rest = float(change[inside].mean()), float(change[~inside].mean())
    return {"mouth_change": lips, "mouth_ratio": lips / max(rest, 1e-3)}


def flicker(made: Picture, truth: Picture) -> float:
    """Energy of differences between frames, generated over true."""
    a, b = (np.square(np.diff(x.astype(np.float64), axis=0)).mean() for x in (made, truth))
    return float(a / max(b, 1e-9))
