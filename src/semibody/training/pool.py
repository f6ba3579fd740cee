"""Generated samples in a folder, one file each: made once, read in every step that draws them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semibody.files import atomic_write, first_line
from semibody.types import Progress, SemibodyError, silent


class Pool:
    """A folder of samples, each a few arrays by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.safetensors"

    def fill(
        self,
        numbers: Iterable[int],
        make: Callable[[int], Mapping[str, NDArray[Any]]],
        *,
        progress: Progress = silent,
    ) -> None:
        """Make the samples of ``numbers`` that are missing."""
        from safetensors.numpy import save_file

        missing = [number for number in numbers if not self.path(number).exists()]
        for done, number in enumerate(missing, start=1):
            arrays = make(number)
            with atomic_write(self.path(number)) as unfinished:
                # safetensors ignores strides: a transposed array would be read back permuted.
                save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, unfinished)
            progress("generate pictures", done, len(missing))

    def read(self, number: int) -> dict[str, NDArray[Any]]:
        """The arrays of a sample. Raises SemibodyError for a damaged file."""
        from safetensors.numpy import load_file

        try:
            return load_file(self.path(number))
        except Exception as error:  # safetensors raises a class of its own
            raise SemibodyError(
                f"{self.path(number)}: damaged sample ({first_line(error)}); delete it, it is made again"
            ) from None
