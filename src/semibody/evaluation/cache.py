"""What was found in a file, kept between runs: one npz per file's content and kind of measurement.

The key holds the bytes of the file, the version of the measuring code and every setting that changes its
result, so a hit can be trusted and nothing ever needs to be cleared by hand.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semibody.media import atomic_write
from semibody.weights.hub import home

Arrays = dict[str, NDArray[Any]]


def default_folder() -> Path:
    return home() / "evaluation"


class Cache:
    """Named arrays by key. A damaged entry is a miss; writing is all or nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, key: str) -> Arrays | None:
        path = self._path(key)
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def has(self, key: str) -> bool:
        """Whether the entry exists and is complete (a zip's directory is at its end)."""
        return zipfile.is_zipfile(self._path(key))

    def save(self, key: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        with atomic_write(self._path(key)) as unfinished:
            np.savez(unfinished, **arrays)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.npz"


def key_of(*parts: Any) -> str:
    """A key from anything JSON can hold: content hashes, names, versions, settings."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
