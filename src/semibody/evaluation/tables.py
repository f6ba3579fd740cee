"""The evaluation's numbers as files: Markdown, LaTeX, JSON, or the page of ``report``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from semibody.evaluation.measures import Measured
from semibody.evaluation.metrics import METRICS
from semibody.evaluation.report import ARROWS, show, write_report
from semibody.evaluation.run import Evaluation
from semibody.files import atomic_write
from semibody.types import SemibodyError


def as_markdown(found: Evaluation) -> str:
    """The results as a table, with 95 % intervals over clips."""
    lines = ["| metric | value | 95 % interval | of the real clips |", "|---|---|---|---|"]
    for name, measured in found.results.items():
        between, real = _between(measured), show(measured.real) if measured.real is not None else ""
        lines.append(
            f"| {name} {ARROWS[METRICS[name].better]} | {show(measured.value)} | {between} | {real} |"
        )
    lines += [f"\n{name}: not computed: {why}" for name, why in found.not_computed.items()]
    return "\n".join(lines) + "\n"


def as_latex(found: Evaluation) -> str:
    """The same table for a paper (package ``booktabs``); what is not computed is named in comments."""
    lines = [
        r"\begin{tabular}{lrrr}", r"\toprule", r"metric & value & 95\,\% interval & of the real clips \\",
        r"\midrule",
    ]  # fmt: skip
    for name, measured in found.results.items():
        metric, interval = METRICS[name], measured.interval
        title = f"{_escaped(name)} {_LATEX_ARROWS[metric.better]}".rstrip()
        unit = f" ({_escaped(metric.unit)})" if metric.unit else ""
        between = f"{_number(interval.low)} \\ldots\\ {_number(interval.high)}" if interval else ""
        real = _number(measured.real) if measured.real is not None else ""
        lines.append(rf"{title}{unit} & {_number(measured.value)} & {between} & {real} \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    comments = [f"{name}: not computed: {why}" for name, why in found.not_computed.items()]
    lines += [f"% {' '.join(comment.split())}" for comment in comments]
    return "\n".join(lines) + "\n"


def as_json(found: Evaluation) -> str:
    """Everything that was found, as ``Evaluation.as_dict`` says."""
    return json.dumps(found.as_dict(), indent=1) + "\n"


_TEXTS: dict[str, Callable[[Evaluation], str]] = {".md": as_markdown, ".tex": as_latex, ".json": as_json}
_PAGES = (".html", ".htm")
FORMATS = (*_TEXTS, ".html")
"""Endings of the files that a report can be."""


def require_format(path: Path) -> None:
    """Raise SemibodyError for a file whose ending names no format: before the work, not after it."""
    if path.suffix.lower() not in (*_TEXTS, *_PAGES):
        raise SemibodyError(f"{path}: the report is written as {', '.join(FORMATS)}; name it so")


def write_table(found: Evaluation, path: Path) -> None:
    """Write a file in the format its ending names, all or nothing. Raises SemibodyError for another ending,
    MissingPartError without jinja2 for a page."""
    require_format(path)
    ending = path.suffix.lower()
    if ending in _PAGES:
        write_report(found, path)
        return
    with atomic_write(path) as unfinished:
        unfinished.write_text(_TEXTS[ending](found), encoding="utf-8")


def _between(measured: Measured) -> str:
    interval = measured.interval
    return f"{show(interval.low)} … {show(interval.high)}" if interval else ""


_LATEX_ARROWS = {"higher": r"$\uparrow$", "lower": r"$\downarrow$", "zero": r"$\to 0$", "": ""}
_LATEX_SIGNS = {sign: f"\\{sign}" for sign in "&%$#_{}"} | {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip


def _escaped(text: str) -> str:
    return "".join(_LATEX_SIGNS.get(sign, sign) for sign in text)


def _number(value: float) -> str:
    shown = show(value)
    if shown in ("∞", "–"):
        return {"∞": r"$\infty$", "–": "--"}[shown]
    digits, _, power = shown.partition("e")
    return rf"${digits} \cdot 10^{{{int(power)}}}$" if power else f"${digits}$"
