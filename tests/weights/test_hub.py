"""Fetching, against a loopback stand-in of the Hub that can break off in the middle."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from loopback import COMMIT, StandIn
from semibody.types import MissingPartError, SemibodyError
from semibody.weights import hub, public


@pytest.mark.parametrize("name", ["official", "accelerated"])
def test_fetch_places_every_file(stand_in: type[StandIn], name: str) -> None:
    folder = hub.fetch(name)
    for file in hub.SETS[name]:
        assert file.name.split("/")[-1] in (folder / file.place).read_text()
    assert json.loads((folder / hub.LOCK).read_text())[hub.ECHOMIMIC] == COMMIT
    assert hub.find_weights(name) == (folder, name)


def test_fetch_continues_where_it_stopped(stand_in: type[StandIn]) -> None:
    stand_in.broken.add("motion_module.pth")
    with pytest.raises(SemibodyError, match="run the same command again"):
        hub.fetch("official")
    before = len(stand_in.requests)
    stand_in.broken.clear()
    folder = hub.fetch("official")
    again = [path for _, path in stand_in.requests[before:]]
    assert [p.rsplit("/", 1)[-1] for p in again] == ["motion_module.pth"], (
        "complete files are not fetched twice"
    )
    assert (folder / "motion_module.pth").exists()


def test_public_weights_are_fetched_at_their_pinned_commit(stand_in: type[StandIn], tmp_path: Path) -> None:
    for name in ("sd15", "animatediff"):
        one = public.PUBLIC[name]
        folder = public.fetch(name)
        assert folder == tmp_path / "home" / "weights" / name
        assert public.find(one.kind, name) == folder / one.files[-1]
        asked = {path for _, path in stand_in.requests if one.repository in path}
        assert asked == {f"/{one.repository}/resolve/{one.commit}/{file}" for file in one.files}
        assert json.loads((folder / hub.LOCK).read_text()) == {one.repository: one.commit}


def test_another_revision_is_kept_until_another_is_named(stand_in: type[StandIn]) -> None:
    one = public.PUBLIC["sd15"]
    folder = public.fetch("sd15", revision="main")
    assert json.loads((folder / hub.LOCK).read_text()) == {one.repository: COMMIT}
    stand_in.requests.clear()
    public.fetch("sd15")
    assert json.loads((folder / hub.LOCK).read_text()) == {one.repository: COMMIT}
    assert not stand_in.requests, "complete files are not fetched twice"
    public.fetch("sd15", revision=one.commit)
    assert json.loads((folder / hub.LOCK).read_text()) == {one.repository: one.commit}


def test_a_half_fetched_source_names_the_command_that_continues(stand_in: type[StandIn]) -> None:
    stand_in.broken.add("diffusion_pytorch_model.safetensors")
    with pytest.raises(SemibodyError, match=r"fetching the sd15 weights stopped.*run the same command again"):
        public.fetch("sd15")
    with pytest.raises(SemibodyError, match="sd15: is not on this machine; run: semibody weights fetch sd15"):
        public.find("unet", "sd15")
    stand_in.broken.clear()
    public.fetch("sd15")
    assert public.find("unet", "sd15").is_file()


def test_dwpose_is_fetched_and_checked(
    stand_in: type[StandIn], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(MissingPartError, match="run: semibody weights fetch dwpose"):
        hub.find_dwpose()
    with pytest.raises(SemibodyError, match=r"yolox_l\.onnx: what yzd-v/DWPose sent is not the expected"):
        hub.fetch("dwpose")
    made = []
    for file in hub.DWPOSE_FILES:
        content = StandIn.content(f"/{file.repository}/resolve/{COMMIT}/{file.name}")
        made.append(replace(file, sha256=hashlib.sha256(content).hexdigest()))
    monkeypatch.setattr(hub, "DWPOSE_FILES", tuple(made))
    folder = hub.fetch("dwpose")
    assert hub.find_dwpose() == folder == tmp_path / "home" / "weights" / "dwpose"
    assert (folder / "yolox_l.onnx").stat().st_size > 0
    (folder / "yolox_l.onnx").unlink()
    with pytest.raises(MissingPartError):
        hub.find_dwpose()


def test_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(SemibodyError, match="unknown weights"):
        hub.fetch("other")
    with pytest.raises(SemibodyError, match="no such weights folder"):
        hub.find_weights(str(tmp_path / "none"))
