"""The evaluation as one self-contained HTML page: tables, curves, extreme clips, protocol, versions."""

from __future__ import annotations

import base64
import dataclasses
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semibody import config
from semibody.evaluation.measures import Measured, Series
from semibody.evaluation.metrics import METRICS
from semibody.evaluation.protocol import Item, Protocol
from semibody.evaluation.run import Evaluation
from semibody.media import VideoReader, atomic_write
from semibody.types import MissingPartError

ARROWS = {"higher": "↑", "lower": "↓", "zero": "→0", "": ""}
_DRAWN_CLIPS = 40
"""Thin lines in a plot; more would only be grey."""
_POINTS = 300
_SIDE = 240
_WIDTH, _HEIGHT, _EDGE = 900, 200, 20


def show(value: float) -> str:
    """A number with four significant digits; – for none."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞"
    return f"{value:.4g}" if value == 0 or 0.001 <= abs(value) < 10000 else f"{value:.2e}"


def write_report(found: Evaluation, path: Path) -> None:
    """Write the page, all or nothing. Raises MissingPartError without jinja2."""
    try:
        import jinja2
    except ImportError:
        raise MissingPartError("the report needs jinja2; run: pip install 'semibody[eval]'") from None
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = (Path(__file__).parent / "report.html.j2").read_text(encoding="utf-8")
    page = environment.from_string(template).render(_content(found))
    with atomic_write(path) as unfinished:
        unfinished.write_text(page, encoding="utf-8")


def _content(found: Evaluation) -> dict[str, Any]:
    first = found.items[0]
    return {
        "title": str(first.generated.parent),
        "against": str(first.real.parent) if first.real else "",
        "clips": found.items,
        "seconds": round(found.seconds),
        "rows": [_row(name, measured) for name, measured in found.results.items()],
        "not_computed": found.not_computed,
        "problems": found.problems,
        "extremes": list(_extremes(found)),
        "plots": [_plot(name, measured) for name, measured in found.results.items() if measured.series],
        "table": _table(found),
        "protocol": _protocol(found.protocol),
        "counts": [
            (name, ", ".join(f"{count} {what}" for what, count in measured.counts.items()))
            for name, measured in found.results.items()
            if measured.counts
        ],
        "versions": found.versions,
        "models": found.models,
    }


def _row(name: str, measured: Measured) -> dict[str, Any]:
    metric, interval = METRICS[name], measured.interval
    method = (interval.method,) if interval else ()
    return {
        "name": name,
        "standard": metric.standard,
        "style": "stand-in" if metric.stand_in else "",
        "arrow": ARROWS[metric.better],
        "value": show(measured.value),
        "interval": f"{show(interval.low)} … {show(interval.high)}" if interval else "",
        "real": show(measured.real) if measured.real is not None else "",
        "about": metric.about,
        "unit": metric.unit,
        "notes": (*measured.notes, *method),
    }


def _protocol(rules: Protocol) -> list[tuple[str, str, str]]:
    values = dataclasses.asdict(rules)
    return [(name, str(values[name]), about) for name, _, about in config.describe(Protocol)]


def _table(found: Evaluation) -> dict[str, Any]:
    columns = {name: measured.clips for name, measured in found.results.items() if measured.clips}
    rows = [
        {"clip": item.name, "values_": [show(clips.get(item.name, math.nan)) for clips in columns.values()]}
        for item in found.items
    ]
    return {"names": list(columns), "rows": rows}


# -- curves --------------------------------------------------------------------------------------------


def _plot(name: str, measured: Measured) -> dict[str, Any]:
    curves = {clip: _thinned(series) for clip, series in list(measured.series.items())[:_DRAWN_CLIPS]}
    finite = np.concatenate([values[np.isfinite(values)] for _, values in curves.values()])
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    high = high if high > low else low + 1
    last = max(int(frames[-1]) for frames, _ in curves.values())
    return {
        "metric": name,
        "unit": METRICS[name].unit,
        "low": show(low),
        "high": show(high),
        "last": last,
        "faint": 0.35 if len(curves) < 12 else 0.18,
        "lines": [_points(frames, values, low, high, last) for frames, values in curves.values()],
        "mean": _points(*_mean_curve(list(curves.values()), last), low, high, last),
    }


def _thinned(series: Series) -> Series:
    step = -(-len(series[0]) // _POINTS)
    return series[0][::step], series[1][::step]


def _mean_curve(curves: Sequence[Series], last: int) -> Series:
    frames = np.linspace(0, last, min(last + 1, _POINTS))
    rows = np.full((len(curves), len(frames)), np.nan)
    for row, (at, values) in zip(rows, curves, strict=True):
        known = np.isfinite(values)
        if known.any():
            inside = frames <= at[-1]
            row[inside] = np.interp(frames[inside], at[known], values[known])
    some = np.isfinite(rows).any(axis=0)
    return frames[some], np.nanmean(rows[:, some], axis=0)


def _points(frames: NDArray[Any], values: NDArray[Any], low: float, high: float, last: int) -> str:
    x = frames / max(last, 1) * _WIDTH
    y = _HEIGHT - _EDGE - (values - low) / (high - low) * (_HEIGHT - 2 * _EDGE)
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True) if math.isfinite(b))


# -- thumbnails ----------------------------------------------------------------------------------------


def _extremes(found: Evaluation) -> Iterable[dict[str, Any]]:
    """The best and the worst clip of a few telling metrics, as pictures."""
    items = {item.name: item for item in found.items}
    for name in ("SSIM", "CSIM", "CSIM-dlib", "Sync-C", "Sync-C-small", "HKC", "HKC-mediapipe"):
        measured = found.results.get(name)
        if measured is None or len(measured.clips) < 2:
            continue
        ranked = sorted(measured.clips.items(), key=lambda pair: pair[1], reverse=True)
        yield {
            "metric": name,
            "pictures": [
                {"rank": rank, "clip": clip, "value": show(value), "data": _thumbnail(items[clip])}
                for rank, (clip, value) in (("best", ranked[0]), ("worst", ranked[-1]))
            ],
        }


def _thumbnail(item: Item) -> str:
    """Middle frames side by side as base64 JPEG."""
    import cv2

    pictures = [_middle(path) for path in (item.generated, item.real) if path is not None]
    _, encoded = cv2.imencode(".jpg", np.hstack(pictures)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
    return base64.b64encode(encoded.tobytes()).decode()


def _middle(path: Path) -> NDArray[np.uint8]:
    import cv2

    with VideoReader(path) as video:
        wanted = video.frame_count // 2
        picture = None
        for number, picture in enumerate(video):  # noqa: B007 - the last one seen is used
            if number == wanted:
                break
    assert picture is not None
    height, width = picture.shape[:2]
    return np.asarray(
        cv2.resize(picture, (round(width * _SIDE / height), _SIDE), interpolation=cv2.INTER_AREA)
    )
