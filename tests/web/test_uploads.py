"""The folder of what users send, and its limits."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import pytest

from semibody.types import SemibodyError
from semibody.web.uploads import LARGEST_POSES, Store, require_small
from web.served import write_long_speech


def test_the_folder_is_private_and_gone_at_the_end() -> None:
    with Store() as store:
        for folder in (store.path, store.uploads):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (store.uploads / "face.png").write_bytes(b"x")
    assert not store.path.exists()


def test_a_job_keeps_its_inputs_when_uploads_are_swept() -> None:
    with Store() as store:
        for number, name in enumerate(("old", "new")):
            path = store.uploads / name
            path.write_bytes(bytes(100))
            os.utime(path, (number, number))
        folder, kept = store.keep({"portrait": store.uploads / "old"})
        store.sweep(largest=150)
        assert [path.name for path in store.uploads.iterdir()] == ["new"]
        assert kept["portrait"].read_bytes() == bytes(100)
        store.discard(folder)
        assert not folder.exists()
        store.discard(store.path.parent)  # what is no job's folder is left alone
        assert store.uploads.exists()


def test_speech_has_a_limit(tmp_path: Path) -> None:
    speech = write_long_speech(tmp_path / "talk.wav", 3.0)
    with Store(longest_speech=4.0) as store:
        store.admit(speech=speech)
    with Store(longest_speech=2.0) as store, pytest.raises(SemibodyError, match=r"talk\.wav: is longer than"):
        store.admit(speech=speech)


def test_poses_have_a_limit_when_unpacked(tmp_path: Path) -> None:
    small, bomb = tmp_path / "small.npz", tmp_path / "bomb.npz"
    np.savez_compressed(small, joints=np.zeros(1000))
    require_small(small)
    np.savez_compressed(bomb, joints=np.zeros(LARGEST_POSES + 1, np.uint8))
    assert bomb.stat().st_size < 2**20
    with pytest.raises(SemibodyError, match="holds more than 64 MB of poses"):
        require_small(bomb)
