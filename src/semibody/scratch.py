"""Large arrays of a recording in a file without a name instead of in memory (floor 0).

    joints = scratch.empty((frames, 128, 2), np.float64)     # an array as any other
    scratch.let_go()                                         # what was touched of them leaves memory

What is known of every frame of a clip (sound, spectrum, poses, small movements) takes 0.17 MB a second of
speech, and a frame asks for its own part of it only. The files are in the folder for temporary files
(TMPDIR), and vanish with the array or the process.
"""

from __future__ import annotations

import math
import mmap
import tempfile
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGE = 2**20
"""Bytes from which an array is in a file."""
_BLOCK = bytes(2**20)
_mapped: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()


def empty(shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
    """An array to be filled; in memory if it is small or no file can be made."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < LARGE:
        return np.empty(shape, dtype)
    try:
        with tempfile.TemporaryFile() as file:
            # Written, because a file with holes that finds the disk full later ends the process.
            for start in range(0, size, len(_BLOCK)):
                file.write(_BLOCK[: size - start])
            file.flush()
            pages = mmap.mmap(file.fileno(), size)
    except OSError:
        return np.empty(shape, dtype)
    _mapped.add(pages)
    return np.frombuffer(pages, dtype).reshape(shape)


def let_go() -> None:
    """Take from memory what of these arrays is there; it comes back from its file when it is used."""
    if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows, which does so by itself
        for pages in list(_mapped):
            pages.madvise(mmap.MADV_DONTNEED)
