"""The moving drawings of the gestures."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from semibody.pose.library import find_gesture, names
from semibody.web.tiles import SIDE, draw_tile

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("name", names())
def test_a_tile_is_svg_that_stays_in_its_frame(name: str) -> None:
    drawing = draw_tile(find_gesture(name))
    root = ET.fromstring(drawing)
    points = [
        float(number)
        for line in root.iter(f"{SVG}polyline")
        for animate in line
        for pair in re.split("[ ;]", animate.get("values") or "")
        for number in pair.split(",")
    ]
    assert points, "it moves"
    assert min(points) >= 0 and max(points) <= SIDE
    assert len(drawing) < 60_000


def test_a_waving_hand_moves_more_than_a_resting_one() -> None:
    def motion(name: str) -> float:
        last = list(ET.fromstring(draw_tile(find_gesture(name))).iter(f"{SVG}polyline"))[-1]
        ys = [float(pose.split(" ")[-1].split(",")[1]) for pose in (last[0].get("values") or "").split(";")]
        return max(ys) - min(ys)

    assert motion("wave") > 5 * motion("rest")


def test_a_still_tile_does_not_move() -> None:
    assert "<animate" not in draw_tile(find_gesture("wave"), still=True)
