"""One bar for all stages, and the time left."""

from __future__ import annotations

import pytest

from semibody.web.bar import Bar, remaining


def test_stages_count_by_their_seconds() -> None:
    told: list[tuple[float, str, float | None]] = []

    def report(
        share: float, stage: str, *, preview: bytes | None = None, expected: float | None = None
    ) -> None:
        told.append((round(share, 4), stage, expected))

    bar = Bar({"prepare": 1.0, "denoise": 6.0, "decode": 3.0}, report)
    bar("prepare", 1, 1)
    bar("denoise", 1, 2)
    bar("denoise", 2, 2)
    bar("decode", 10, 10)
    assert told == [(0.1, "prepare", 10), (0.4, "denoise", 10), (0.7, "denoise", 10), (1.0, "decode", 10)]


def test_stages_may_be_under_way_at_once() -> None:
    told: list[float] = []
    bar = Bar({"prepare": 1.0, "denoise": 6.0, "decode": 3.0}, lambda share, *_, **__: told.append(share))
    for stage, done in (("denoise", 1), ("decode", 1), ("denoise", 2), ("decode", 2)):
        bar(stage, done, 2)
    assert told == pytest.approx([0.4, 0.55, 0.85, 1.0]), "the bar goes forward only"


def test_a_preview_goes_with_the_next_report_only() -> None:
    shown: list[bytes | None] = []
    bar = Bar({"decode": 1.0}, lambda *a, preview=None, expected=None: shown.append(preview))
    bar.preview = b"frame"
    bar("decode", 1, 2)
    bar("decode", 2, 2)
    assert shown == [b"frame", None]


def test_time_left_follows_the_estimate_first_and_the_own_speed_later() -> None:
    assert remaining(0.0, 1.0, 20.0) == 20.0
    assert remaining(0.5, 30.0, 20.0) == 30.0, "half in 30 seconds: the rest takes 30 more"
    assert 8.0 < remaining(0.15, 3.0, 10.0) < 17.0, "between both"


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.99])
def test_time_left_is_never_negative(share: float) -> None:
    assert remaining(share, 100.0, 1.0) > 0
