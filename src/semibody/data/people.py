"""Who is the same person in several videos, by a face network, so that no person is in two splits.

    same_people({"a": face_a, "b": face_b, "c": face_c})     # {"a": "a", "b": "a", "c": "c"}

A video's face is the mean embedding (dlib's network, 128 numbers) of a few frames of its clips. Each video,
in the order of names, joins the nearest person known so far whose mean face is within ``SAME``, or is a new
one.
Links from video to video alone would chain: among tens of thousands some two strangers are always near.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semibody.evaluation import extract
from semibody.evaluation.faces import DlibEmbedder
from semibody.media import VideoReader
from semibody.types import Floats

SAME = 0.5
"""L2 distance within which two faces are one person's; the network was trained to 0.6 for single pairs, and
of many videos each has many chances to be near a stranger."""
_FRAMES = 3
"""Frames of a clip that are looked at."""
_CLIPS = 3


def network_missing() -> str:
    """Why faces cannot be compared here; empty: they can."""
    return extract.KINDS["dlib"].missing()


@functools.cache
def _network() -> DlibEmbedder:
    return DlibEmbedder()  # one for each worker


def face_of(clips: Sequence[Path]) -> NDArray[np.float32] | None:
    """(128,) mean embedding of the face in the first clips of a video; None where none is found.

    Raises SemibodyError for a clip that cannot be read.
    """
    found = []
    for clip in clips[:_CLIPS]:
        with VideoReader(clip) as video:
            every = max(1, video.frame_count // _FRAMES)
            for number, picture in enumerate(video):
                if number % every == every // 2:
                    frame = extract.Frame(number, picture)
                    if frame.face is not None:
                        found.append(_network().embed(picture, frame.face))
    return np.mean(found, axis=0).astype(np.float32) if found else None


def same_people(faces: Mapping[str, NDArray[np.float32]], same: float = SAME) -> dict[str, str]:
    """Video -> the name of its person, which is that of the person's first video."""
    people: list[str] = []
    count = np.zeros(len(faces))
    means: Floats = np.zeros((len(faces), len(next(iter(faces.values()), ()))))
    found = {}
    for name in sorted(faces):
        face = faces[name].astype(np.float64)
        apart = np.linalg.norm(means[: len(people)] - face, axis=1)
        nearest = int(apart.argmin()) if len(apart) else -1
        if nearest < 0 or apart[nearest] > same:
            nearest = len(people)
            people.append(name)
        means[nearest] = (means[nearest] * count[nearest] + face) / (count[nearest] + 1)
        count[nearest] += 1
        found[name] = people[nearest]
    return found
