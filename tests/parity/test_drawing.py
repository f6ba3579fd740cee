"""The drawing of hands, pixel for pixel."""

from __future__ import annotations

from typing import Any

import pytest

from parity.golden import Case, cases
from semibody.pose.draw import draw_hands

ALL = cases("pose_canvas*.npz")


@pytest.mark.parametrize("case", ALL)
def test_canvas(case: Case, compare: Any) -> None:
    drawn = 0
    for key in case.names():
        kind, *rest = key.split("/")
        if kind == "canvas":
            hands, (height, width) = "/".join(["hands", *rest]), case[key].shape[:2]
        elif kind == "raw":
            hands, (height, width) = "/".join(["hands", *rest[:2]]), case[key].shape[:2]
        elif kind.startswith("canvas"):  # canvas_768, canvas4_768: of hands, hands4
            hands = "hands" + kind.split("_")[0].removeprefix("canvas")
            height, width = case[key].shape[:2]
        else:
            continue
        scores = hands.replace("hands", "hands_score", 1) if "/" in hands else f"{hands}_score"
        compare(draw_hands(case[hands], case[scores], height, width), case[key], 0, key)
        drawn += 1
    assert drawn
