"""Published lists of videos: which files, and which seconds of them.

Nobody may pass the videos themselves on, so EMTD and HumanVid are lists of addresses; the files must be here.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator
from pathlib import Path

from semibody.files import numbered_lines
from semibody.types import SemibodyError


def read_listing(path: Path) -> dict[str, list[tuple[float, float]]]:
    """A published list: stem of the file → pieces in seconds (empty: the whole video).

    A YouTube address stands for ``<its id>.*``, another address for its last part.
    """
    pieces: dict[str, list[tuple[float, float]]] = {}
    for number, row in _rows(path):
        url, *when = (cell.strip() for cell in row)
        if url.lower() == "url":
            continue
        stem = _stem_of(url)
        times = pieces.setdefault(stem, [])
        if len(when) >= 2:
            try:
                start, stop = (_seconds(cell) for cell in when[:2])
            except ValueError:
                raise SemibodyError(
                    f"{path}:{number}: {when[0]}, {when[1]} are not two times; correct the line"
                ) from None
            if not 0 <= start < stop < math.inf:
                raise SemibodyError(f"{path}:{number}: ends before it starts; correct or remove the line")
            times.append((start, stop))
    if not pieces:
        raise SemibodyError(f"{path}: lists no video")
    return pieces


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows of a list with their line numbers. Raises SemibodyError."""
    remedy = "give EMTD's or HumanVid's text file"
    for number, line in numbered_lines(path, remedy):
        try:
            yield from ((number, row) for row in csv.reader([line]) if row)
        except csv.Error as error:
            raise SemibodyError(f"{path}:{number}: is no row of a list ({error}); {remedy}") from None


def _stem_of(url: str) -> str:
    match = re.search(r"(?:[?&]v=|youtu\.be/)([\w-]+)", url)
    return match.group(1) if match else Path(url.partition("?")[0]).stem


def _seconds(text: str) -> float:
    """``90``, ``1:30`` or ``0:01:30.0``; frames after a semicolon or fourth colon are not expected."""
    total = 0.0
    for part in text.split(":"):
        total = total * 60 + float(part)
    return total
