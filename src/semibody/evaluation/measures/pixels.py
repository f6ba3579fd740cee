"""Pictures against pictures: means over frames, then clips, of the columns of ``frames.compare``."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from semibody.evaluation import frames
from semibody.evaluation.gather import Gathered, Side
from semibody.evaluation.measures import Measure, Measured, OneClip, over_clips
from semibody.evaluation.protocol import Item
from semibody.types import Floats


def column(name: str, *, mean: Callable[[Floats], float] | None = None) -> Measure:
    """The mean over frames, then clips, of one column."""
    average = mean or (lambda values: float(np.nanmean(values)) if np.isfinite(values).any() else math.nan)

    def one(gathered: Gathered, item: Item, side: Side) -> OneClip | None:
        arrays = gathered.arrays(item.name, side, "pixels")
        if arrays is None:
            return None
        return OneClip(average(arrays[name]), (arrays["frame"], arrays[name]))

    return lambda gathered: over_clips(gathered, one, mean=mean or (lambda values: float(values.mean())))


def psnr(gathered: Gathered) -> Measured:
    """Of the whole picture; identical frames are counted."""
    measured = column("psnr", mean=frames.mean_psnr)(gathered)
    same = sum(
        int(np.isinf(arrays["psnr"]).sum())
        for item in gathered.items
        if (arrays := gathered.arrays(item.name, "generated", "pixels")) is not None
    )
    return replace(measured, counts={"identical frames": same}) if same else measured


def psnr_of(part: str) -> Measure:
    """Of a part ("face", "hands"), over the frames in which it is visible."""
    return column(f"psnr/{part}", mean=lambda values: frames.mean_psnr(values[~np.isnan(values)]))


def energy(where: str) -> Measure:
    """Energy of the changes from frame to frame, generated over real; NaN where the real clip has none."""

    def one(gathered: Gathered, item: Item, side: Side) -> OneClip | None:
        arrays = gathered.arrays(item.name, side, "pixels")
        if arrays is None:
            return None
        ours, theirs = (float(np.nansum(arrays[f"{name}/{where}"])) for name in ("energy", "real-energy"))
        return OneClip(ours / theirs if theirs else math.nan, (arrays["frame"], arrays[f"energy/{where}"]))

    return lambda gathered: over_clips(gathered, one)
