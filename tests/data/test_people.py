"""The same person in several videos."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from semibody.data.people import SAME, same_people


def faces(people: int, videos: int, spread: float) -> dict[str, NDArray[np.float32]]:
    """Faces of people about 1 apart, each with videos that differ by ``spread``."""
    rng = np.random.default_rng(0)
    of = rng.standard_normal((people, 128)) / np.sqrt(2 * 128)
    noise = rng.standard_normal((people, videos, 128)) * spread / np.sqrt(2 * 128)
    return {
        f"v{video}-of-{person:03d}": (of[person] + noise[person, video]).astype(np.float32)
        for person, video in itertools.product(range(people), range(videos))
    }


def test_videos_of_one_person_are_found_together_and_no_others() -> None:
    found = same_people(faces(60, 4, 0.35))
    for name, person in found.items():
        assert person == "v0-of-" + name.rpartition("-")[2]


def test_strangers_are_not_chained_together() -> None:
    """A row of faces, each within reach of the next: who is far from the first is another person."""
    row = {f"{n:02d}": np.array([0.9 * SAME * n, 0.0], np.float32) for n in range(10)}
    found = same_people(row)
    for name, person in found.items():
        assert np.linalg.norm(row[name] - row[person]) <= 2 * SAME
    assert len(set(found.values())) >= 5


def test_nobody_is_no_mistake() -> None:
    assert same_people({}) == {}
