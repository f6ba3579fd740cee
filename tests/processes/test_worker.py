"""Which errors may pass, so that a job is tried again and not recorded as failed."""

from __future__ import annotations

import errno

import av
import cv2
import numpy as np
import pytest

from semibody.processes import may_pass
from semibody.types import SemibodyError


def raised_from(cause: BaseException, *, hidden: bool) -> Exception:
    """A message for the user, raised while ``cause`` was handled, as the house's gates do."""
    try:
        try:
            raise cause
        except BaseException:
            if hidden:
                raise SemibodyError("clip.mp4: cannot be read; export it again") from None
            raise SemibodyError("clip.mp4: cannot be read; export it again")  # noqa: B904
    except SemibodyError as error:
        return error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.ESTALE, "Stale file handle"),
        OSError(errno.EMFILE, "Too many open files"),
        TimeoutError(errno.ETIMEDOUT, "timed out"),
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
    ],
)
def test_faults_of_the_moment_may_pass_also_behind_a_message(error: BaseException) -> None:
    assert may_pass(error)
    assert may_pass(raised_from(error, hidden=True))
    assert may_pass(raised_from(error, hidden=False))


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "no such file"),
        ValueError("shapes do not fit"),
        SemibodyError("clip.mp4: the video is damaged; export it again"),
        KeyError("x"),
    ],
)
def test_others_stay(error: Exception) -> None:
    assert not may_pass(error)
    assert not may_pass(raised_from(error, hidden=True))


def test_numbers_of_a_damaged_file_are_no_fault_of_the_machine() -> None:
    # FFmpeg has EIO and ENOMEM for files that end too soon or state impossible sizes.
    error = av.error.OSError(errno.EIO, "Input/output error", "clip.mp4")
    assert isinstance(error, OSError) and error.errno == errno.EIO
    assert not may_pass(raised_from(error, hidden=True))


def test_memory_that_opencv_lacks_may_pass() -> None:
    with pytest.raises(cv2.error) as raised:
        cv2.resize(np.zeros((1, 1, 3), np.uint8), (2**20, 2**20))
    assert may_pass(raised.value) == ("insufficient memory" in str(raised.value).lower())
