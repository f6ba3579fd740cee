"""The person's matte and what is painted behind her."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from semibody.pose import library, matte
from semibody.types import LEFT_HAND, MissingPartError, Pose


@pytest.fixture(autouse=True)
def fresh_network() -> Iterator[None]:
    matte._network.cache_clear()
    yield
    matte._network.cache_clear()


def test_the_person_is_painted_over_from_around_her() -> None:
    picture = np.full((128, 128, 3), 0, np.uint8)
    picture[:] = np.linspace(60, 200, 128).astype(np.uint8)[None, :, None]
    share = np.zeros((128, 128), np.float32)
    share[40:, 50:80] = 1
    with_person = picture.copy()
    with_person[share > 0] = (255, 0, 0)
    behind = matte.fill_behind(with_person, share)
    away = share == 0
    away[36:, 46:84] = False
    assert (behind[away] == picture[away]).all()
    assert np.abs(behind.astype(int) - picture).max() < 40  # the ramp goes on behind her; she was 200 off


def test_hands_belong_to_the_person_where_the_network_missed_them() -> None:
    pose: Pose = library.render(np.zeros((1, 57)), 24.0)[0]
    found = matte.with_hands(np.zeros((256, 256), np.float32), pose)
    x, y = np.round(pose.joints[LEFT_HAND] * 256).astype(int).clip(0, 255).T
    assert (found[y, x] > 0.5).mean() > 0.9
    assert found[:60].max() == 0


def test_without_the_network_there_is_no_matte(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise MissingPartError("not installed")

    monkeypatch.setattr(matte, "import_solutions", missing)
    assert matte.find_matte(np.zeros((64, 64, 3), np.uint8)) is None


def test_an_empty_room_has_nobody() -> None:
    pytest.importorskip("mediapipe")
    found = matte.find_matte(np.full((128, 128, 3), 127, np.uint8))
    assert found is not None
    assert found.mean() < 0.2
