"""How alive a clip of a photograph is: blinks, the movement of the head, a mouth that shuts in silence.

    measure_life(faces, portrait_face, speech, fps)      # faces: of every frame, None where none was found

All of it is read off the face mesh of finished frames, not off what was asked for. What cannot be told is
NaN: blinks of eyes that the portrait has closed, the shutting of a mouth that was never open.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from semibody.evaluation.faces import Face
from semibody.types import Floats, Speech

_LIDS = ((159, 145, 33, 133), (386, 374, 362, 263))
"""Points of the face mesh: upper and lower lid, and the corners of the eye."""
_GAP, _TALL = ((13, 14), (82, 87), (312, 317)), (10, 152)
"""Inner lips, and the ends of the face."""
_STIFF = (1, 6, 33, 133, 168, 263, 362)
"""Nose, its bridge, and the corners of the eyes."""
_BLINK, _OPEN = 0.7, 0.12
"""Share of the usual opening below which an eye is shut, of which the mesh still reads 0.6; widths of an eye
from which it counts as open."""
_PARTED = 0.02
"""Gap of the inner lips, in heights of the face, from which a portrait's mouth counts as open."""
_SHUT, _LEAST = 0.4, 0.016
"""Share of that gap up to which it counts as shut again, and a gap that always does: of closed lips the mesh
reads 0.013."""
_SILENT, _AROUND = 0.03, 0.15
"""Level below which it is silent, of what is loud, in so many seconds before and after."""


def measure_life(
    faces: Sequence[Face | None], portrait: Face | None, speech: Speech, fps: float
) -> dict[str, float]:
    """``blinks`` a minute, ``head-motion`` in % of the face's height, ``mouth-shut`` as a share of the frames
    in which it is silent."""
    values = dict.fromkeys(("blinks", "head-motion", "mouth-shut"), math.nan)
    points = [face.points for face in faces if face is not None]
    if portrait is None or len(points) < 2 or not _height(portrait.points) > 0:
        return values
    made = np.stack(points)
    values["head-motion"] = 100 * _head_motion(made)
    if float(_opening(portrait.points[None])[0]) > _OPEN:
        values["blinks"] = 60 * fps * _blinks(_opening(made)) / len(faces)
    own = float(_gap(portrait.points[None])[0])
    silent = silent_frames(speech, len(faces), fps)
    at_rest = [face.points for face, quiet in zip(faces, silent, strict=True) if quiet and face is not None]
    if own > _PARTED and at_rest:
        values["mouth-shut"] = float((_gap(np.stack(at_rest)) < max(_SHUT * own, _LEAST)).mean())
    return values


def silent_frames(speech: Speech, frames: int, fps: float) -> NDArray[np.bool_]:
    """(f,) frames about which nothing is heard."""
    loud = np.abs(speech.waveform)
    limit = _SILENT * float(np.quantile(loud, 0.99)) if len(loud) else 0.0
    reach = round(_AROUND * speech.rate)
    centres = ((np.arange(frames) + 0.5) / fps * speech.rate).astype(int)
    heard = np.concatenate([[0], np.cumsum(loud > limit)])
    first, last = ((centres + by).clip(0, len(loud)) for by in (-reach, reach))
    return np.asarray(heard[last] == heard[first])


def _height(points: Floats) -> float:
    return float(np.hypot(*(points[_TALL[1]] - points[_TALL[0]])))


def _gap(points: Floats) -> Floats:
    """(f,) of the inner lips, in heights of the face."""
    gaps = [np.hypot(*(points[:, below] - points[:, above]).T) for above, below in _GAP]
    return np.asarray(np.mean(gaps, axis=0) / np.hypot(*(points[:, _TALL[1]] - points[:, _TALL[0]]).T))


def _opening(points: Floats) -> Floats:
    """(f,) of both eyes, in their widths."""
    openings = [
        np.hypot(*(points[:, below] - points[:, above]).T) / np.hypot(*(points[:, end] - points[:, start]).T)
        for above, below, start, end in _LIDS
    ]
    return np.asarray(np.mean(openings, axis=0))


def _blinks(opening: Floats) -> int:
    """How often eyes shut that are open else."""
    shut = opening < _BLINK * float(np.median(opening))
    return int(np.count_nonzero(shut[1:] & ~shut[:-1]))


def _head_motion(points: Floats) -> float:
    """Root mean square distance of the head from its mean place, in heights of the face."""
    centre = points[:, _STIFF].mean(axis=1)
    away = np.square(centre - centre.mean(axis=0)).sum(axis=1).mean()
    return math.sqrt(float(away)) / float(np.median([_height(one) for one in points]))
