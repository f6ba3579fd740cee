"""What is not installed: an empty string, or a line that names it with the remedy."""

from __future__ import annotations

import importlib.util

from semibody.types import MissingPartError
from semibody.weights.parts import find_part


def part_missing(name: str) -> str:
    """Of a part of the weights folder, as ``weights.parts`` names it."""
    try:
        find_part(name)
    except MissingPartError as error:
        return str(error)
    return ""


def packages_missing(extra: str, *names: str) -> str:
    """Of the packages ``names`` that ``pip install 'semibody[extra]'`` brings."""
    absent = [name for name in names if importlib.util.find_spec(name) is None]
    return f"{', '.join(absent)} not installed; run: pip install 'semibody[{extra}]'" if absent else ""
