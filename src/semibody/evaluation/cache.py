"""What was found in a file, kept between runs: one npz per file's content and kind of measurement.

The key holds the bytes of the file, the version of the measuring code and every setting that changes its
result, so a hit can be trusted and nothing ever needs to be cleared by hand.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semibody.files import atomic_write, is_npz, read_npz, remove
from semibody.types import SemibodyError
from semibody.weights.hub import home

Arrays = dict[str, NDArray[Any]]


def default_folder() -> Path:
    return home() / "evaluation"


class Cache:
    """Named arrays by key. A damaged entry is a miss; writing is all or nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "errors.log"

    def load(self, key: str) -> Arrays | None:
        """The arrays of an entry. A damaged one is removed, so that the next run makes it again."""
        path = self._path(key)
        try:
            return read_npz(path, "it is made again")
        except SemibodyError:
            remove(path)
            return None

    def has(self, key: str) -> bool:
        """Whether the entry is there, as far as its headers tell: before the work all are asked for."""
        return is_npz(self._path(key))

    def save(self, key: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        with atomic_write(self._path(key)) as unfinished:
            np.savez(unfinished, **arrays)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.npz"


def key_of(*parts: Any) -> str:
    """A key from anything JSON can hold: content hashes, names, versions, settings."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
