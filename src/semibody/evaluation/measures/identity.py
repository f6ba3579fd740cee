"""Identity: the faces of a clip compared with its portrait, with REAL's, and with each other."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semibody.evaluation import faces
from semibody.evaluation.gather import Gathered, Side
from semibody.evaluation.measures import Measure, Measured, OneClip, over_clips
from semibody.evaluation.protocol import Item
from semibody.types import Floats


def _reference(gathered: Gathered, item: Item, kind: str) -> tuple[NDArray[Any] | None, str]:
    """The embedding that a clip's faces are compared with, and its source."""
    sides: tuple[tuple[Side, str], ...] = (
        ("portrait", "portrait"), ("real", "REAL's first face"), ("generated", "its own first face"),
    )  # fmt: skip
    for side, origin in sides:
        arrays = gathered.arrays(item.name, side, kind)
        if arrays is None:
            continue
        known = arrays["embedding"][np.isfinite(arrays["embedding"]).all(axis=1)]
        if len(known):
            return known[0], origin
    return None, ""


def to_reference(kind: str, compare: Callable[[NDArray[Any], NDArray[Any]], Floats]) -> Measure:
    """``compare`` every face of a clip with that of the portrait, else with the first face of REAL's or its
    own."""

    def measure(gathered: Gathered) -> Measured:
        origins: dict[str, int] = {}

        def one(gathered: Gathered, item: Item, side: Side) -> OneClip | None:
            arrays = gathered.arrays(item.name, side, kind)
            reference, origin = _reference(gathered, item, kind)
            if arrays is None or reference is None:
                return None
            if side == "generated":
                origins[origin] = origins.get(origin, 0) + 1
            return _mean_of_faces(arrays, lambda known: compare(known, reference))

        measured = over_clips(gathered, one, real=True)
        against = "; ".join(f"{count} clips against {origin}" for origin, count in origins.items())
        return replace(measured, notes=(*measured.notes, *filter(None, [against])))

    return measure


def _mean_of_faces(arrays: dict[str, NDArray[Any]], value: Callable[[NDArray[Any]], Floats]) -> OneClip:
    known = np.isfinite(arrays["embedding"]).all(axis=1)
    counts = {"frames without a face": int((~known).sum())}
    if not known.any():
        return OneClip(math.nan, None, counts)
    values = value(arrays["embedding"][known])
    return OneClip(float(values.mean()), (arrays["frame"][known], values), counts)


def of_pairs(kind: str) -> Measure:
    """Cosine between the faces in the generated and the real frame of the same time."""

    def one(gathered: Gathered, item: Item, side: Side) -> OneClip | None:
        ours, real = (gathered.arrays(item.name, which, kind) for which in (side, "real"))
        if ours is None or real is None:
            return None
        frames = min(len(ours["embedding"]), len(real["embedding"]))
        pairs = ours["embedding"][:frames].astype(np.float64), real["embedding"][:frames].astype(np.float64)
        known = np.isfinite(pairs[0]).all(axis=1) & np.isfinite(pairs[1]).all(axis=1)
        counts = {"pairs of frames without two faces": int((~known).sum())}
        if not known.any():
            return OneClip(math.nan, None, counts)
        centre = faces.dlib_centre() if kind == "dlib" else 0.0
        values = np.array(
            [faces.cosine(a, b, centre).item() for a, b in zip(*(rows[known] for rows in pairs), strict=True)]
        )
        return OneClip(float(values.mean()), (ours["frame"][:frames][known], values), counts)

    return lambda gathered: over_clips(gathered, one)


def dlib_cosine(vectors: NDArray[Any], reference: NDArray[Any]) -> Floats:
    """Cosine of embeddings (n, 128) with ``reference`` (128,), taken from the centre of dlib's faces."""
    return faces.cosine(vectors, reference, faces.dlib_centre())


def distance(vectors: NDArray[Any], reference: NDArray[Any]) -> Floats:
    """L2 distance of embeddings (n, d) from ``reference`` (d,)."""
    return np.linalg.norm(vectors.astype(np.float64) - reference, axis=1)


def steadiness(gathered: Gathered) -> Measured:
    """Mean distance of a clip's dlib embeddings from their mean."""

    def one(gathered: Gathered, item: Item, side: Side) -> OneClip | None:
        arrays = gathered.arrays(item.name, side, "dlib")
        if arrays is None:
            return None
        return _mean_of_faces(arrays, lambda known: distance(known, known.astype(np.float64).mean(axis=0)))

    return over_clips(gathered, one, real=True)


def nearest_person(kind: str) -> Measure:
    """Share of clips whose face is nearer to its own person's portraits than to any other person's."""

    def measure(gathered: Gathered) -> Measured:
        portraits: dict[str, list[NDArray[Any]]] = {}
        for item in gathered.items:
            arrays = gathered.arrays(item.name, "portrait", kind)
            if arrays is not None and np.isfinite(arrays["embedding"][0]).all():
                portraits.setdefault(item.person or item.name, []).append(arrays["embedding"][0])
        people = {name: np.mean(rows, axis=0) for name, rows in portraits.items()}

        def one(gathered: Gathered, item: Item, side: Side) -> OneClip | None:
            arrays, own = gathered.arrays(item.name, side, kind), item.person or item.name
            if arrays is None or own not in people:
                return None
            known = arrays["embedding"][np.isfinite(arrays["embedding"]).all(axis=1)]
            if not len(known):
                return OneClip(0.0, None, {"clips without a face": 1})
            face = known.mean(axis=0)
            nearest = min(people, key=lambda name: float(np.linalg.norm(people[name] - face)))
            return OneClip(float(nearest == own))

        if len(people) < 2:
            return Measured(math.nan, notes=("needs the portraits of at least two people",))
        measured = over_clips(gathered, one, real=True)
        return replace(measured, notes=(*measured.notes, f"among {len(people)} people"))

    return measure
