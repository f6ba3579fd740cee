"""Files that are written whole or not at all."""

from pathlib import Path

import pytest
import torch

from semibody.files import atomic_write


def test_an_existing_file_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "a.txt"
    with atomic_write(path) as unfinished:
        unfinished.write_text("first")
        assert not path.exists()
    with pytest.raises(RuntimeError), atomic_write(path) as unfinished:
        unfinished.write_text("half")
        raise RuntimeError
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]


def test_files_are_as_readable_as_any_other(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    usual = tmp_path / "usual"
    usual.touch()
    with atomic_write(tmp_path / "a.safetensors") as unfinished:
        save_file({"a": torch.zeros(1)}, unfinished)
    assert (tmp_path / "a.safetensors").stat().st_mode == usual.stat().st_mode
