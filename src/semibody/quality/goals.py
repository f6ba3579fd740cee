"""The table of goals: what was measured, what the portrait repeated has, what was to be reached."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from semibody.evaluation.measures import Measured
from semibody.evaluation.metrics import METRICS
from semibody.evaluation.report import show
from semibody.evaluation.run import Evaluation, plain
from semibody.types import SemibodyError

SUBJECTS = ("model", "ceiling", "swapped", "speed")
_NUMBER = r"-?\d+(?:\.\d+)?"
_FORMS = re.compile(rf"\s*(?:>=\s*({_NUMBER})|<=\s*({_NUMBER})|({_NUMBER})\s*\.\.\s*({_NUMBER}))\s*")


@dataclass(frozen=True)
class Goal:
    """A range of values; None is open."""

    low: float | None
    high: float | None

    def reached_by(self, value: float) -> bool:
        """Whether a value lies in the range; what could not be measured does not."""
        if math.isnan(value):
            return False
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def __str__(self) -> str:
        if self.low is None:
            return f"≤ {self.high:g}"
        return f"≥ {self.low:g}" if self.high is None else f"{self.low:g} … {self.high:g}"


@dataclass(frozen=True)
class Row:
    """One line of the table; None where there is no value."""

    measure: str
    unit: str
    repeat: float | None
    value: float
    interval: tuple[float, float] | None
    real: float | None
    goal: str
    reached: bool

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = asdict(self)
        values |= {k: plain(v) for k in ("repeat", "value", "real") if (v := values[k]) is not None}
        return values


Goals = dict[str, dict[str, Goal]]


def parse_goals(texts: Mapping[str, Mapping[str, str]]) -> Goals:
    """Goals by subject and measure. Raises SemibodyError for an unknown name or a goal that is no range."""
    goals: Goals = {}
    for subject, wanted in texts.items():
        if subject not in SUBJECTS:
            raise SemibodyError(f"goals.{subject}: unknown; choose from {', '.join(SUBJECTS)}")
        for name, text in wanted.items():
            if subject in ("model", "ceiling") and name not in METRICS:
                raise SemibodyError(f"goals.{subject}.{name}: no such metric; see semibody evaluate --list")
            goals.setdefault(subject, {})[name] = parse_goal(text, f"goals.{subject}.{name}")
    return goals


def parse_goal(text: str, where: str = "goal") -> Goal:
    """``>= 24``, ``<= 8`` or ``0.8 .. 1.2``. Raises SemibodyError naming ``where``."""
    found = _FORMS.fullmatch(text)
    if found is None:
        raise SemibodyError(f'{where}: "{text}" is no range; write ">= 24", "<= 8" or "0.8 .. 1.2"')
    least, most, low, high = (None if part is None else float(part) for part in found.groups())
    return Goal(least if least is not None else low, most if most is not None else high)


def make_rows(
    goals: Goals, found: Evaluation, baselines: Mapping[str, Evaluation], speed: Mapping[str, float]
) -> Iterator[Row]:
    """A row for every goal, in their order; what was not computed has the value NaN."""
    repeat = baselines["repeat"].results if "repeat" in baselines else {}
    subjects = {"model": found, "ceiling": baselines.get("ceiling"), "swapped": baselines.get("swapped")}
    for subject, wanted in goals.items():
        for name, goal in wanted.items():
            if subject == "speed":
                value = speed.get(name, math.nan)
                title = f"seconds of computing for a second of video, loading included, {name}"
                yield Row(title, "s", None, value, None, None, str(goal), goal.reached_by(value))
                continue
            measured = _measured(subjects[subject] if name != "own" else baselines.get("swapped, own"),
                                 "mouth-correlation" if subject == "swapped" else name)  # fmt: skip
            base = repeat.get(name) if subject == "model" else None
            yield Row(
                _title(subject, name),
                METRICS[name].unit if name in METRICS else "",
                base.value if base is not None else None,
                measured.value,
                (measured.interval.low, measured.interval.high) if measured.interval else None,
                measured.real if subject == "model" else None,
                str(goal),
                goal.reached_by(measured.value),
            )


def _measured(evaluation: Evaluation | None, name: str) -> Measured:
    nothing = Measured(math.nan)
    return evaluation.results.get(name, nothing) if evaluation is not None else nothing


def _title(subject: str, name: str) -> str:
    if subject == "swapped":
        whose = "its own" if name == "own" else "the other clip's"
        return f"another clip's speech: mouth-correlation with {whose} jaw"
    return f"autoencoder alone: {name}" if subject == "ceiling" else name


_OPTIONAL = ("repeat the portrait", "95 % interval", "real clips")
"""Columns that are left out where no row has anything in them."""


def as_lines(rows: Sequence[Row]) -> list[str]:
    """The table in Markdown."""
    shown = [_cells(row) for row in rows]
    names = [name for name in shown[0] if name not in _OPTIONAL or any(cells[name] for cells in shown)]
    lines = [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]
    return lines + [f"| {' | '.join(cells[name] for name in names)} |" for cells in shown]


def _cells(row: Row) -> dict[str, str]:
    """What stands in each column."""
    return {
        "measure": f"{row.measure} ({row.unit})" if row.unit else row.measure,
        "repeat the portrait": _shown(row.repeat),
        "value": "not measured" if math.isnan(row.value) else show(row.value),
        "95 % interval": f"{show(row.interval[0])} … {show(row.interval[1])}" if row.interval else "",
        "real clips": _shown(row.real),
        "goal": row.goal,
        "reached": "yes" if row.reached else "no",
    }


def _shown(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else show(value)
