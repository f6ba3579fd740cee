"""Holds the house in shape: imports only go down and never in circles, and functions stay small.

Imports are those of a module's whole text: also those inside functions and under TYPE_CHECKING.
"""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import measure_house as house
import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "semibody"
FLOORS: dict[str, int] = {
    "types": 0,
    "config": 0,
    "files": 0,
    "resume": 0,
    "scratch": 0,
    "media": 1,
    "weights": 1,
    "runtime": 1,
    "processes": 1,
    "networks": 2,
    "diffusion": 2,
    "pose": 2,
    "clips": 2,
    "voices": 2,
    "conditioning": 3,
    "settings": 3,
    "inputs": 4,
    "data": 4,
    "evaluation": 3,
    "memory": 4,
    "animator": 5,
    "training": 6,
    "pipeline": 6,
    "live": 6,
    "plan": 6,
    "quality": 6,
    "check": 6,
    "demo": 6,
    "batch": 7,
    "doctor": 7,
    "web": 7,
    "cli": 8,
}
"""A module may import from rooms on lower floors, and rooms of floor 0 from each other. CONTRIBUTING says
what each room is for."""

ONLY_IN_MEDIA = {"av", "PIL"}

ON_THE_WAY = {
    "inputs", "settings", "conditioning", "animator", "networks", "diffusion", "pose", "media", "training",
}  # fmt: skip
"""The rooms between portrait and video, and training: here functions stay small."""

MOST_BRANCHES, MOST_LINES, MOST_PARAMETERS = 15, 60, 8

# What is above a limit today, and its size. These lists may only shrink: a function that is not named, that
# has grown, or that is named but within the limit, fails.
BRANCHY: dict[str, int] = {}
LONG: dict[str, int] = {}
WIDE = {
    "cli/animate.py:animate": 10,
    "cli/evaluate.py:evaluate": 10,
    "cli/gesture.py:extract": 9,
    "data/synthetic/clip.py:people": 9,
    "data/synthetic/clip.py:render_clip": 9,
}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@functools.cache
def modules() -> dict[str, Path]:
    """Path by dotted name; a package's own file has the package's name."""
    paths = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    del paths["semibody"]  # the public face loads everything by name
    return paths


@functools.cache
def imports(path: Path) -> frozenset[str]:
    """What a module imports anywhere: modules of the house by their own name, others as they are written."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module, f"{path}: imports by absolute names"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            taken = inner & modules().keys()
            names |= taken
            if inner - taken:
                names.add(node.module)
    return frozenset(names)


def circle(graph: Mapping[str, Iterable[str]]) -> list[str] | None:
    """A way through the graph that comes back to where it began; None when there is none."""
    done: set[str] = set()

    def visit(name: str, trail: list[str]) -> list[str] | None:
        if name in trail:
            return [*trail[trail.index(name) :], name]
        if name in done:
            return None
        for other in sorted(graph.get(name, ())):
            if found := visit(other, [*trail, name]):
                return found
        done.add(name)
        return None

    return next((found for name in sorted(graph) if (found := visit(name, []))), None)


def test_every_room_has_a_floor_and_every_floor_its_rooms() -> None:
    rooms = {room_of(path) for path in modules().values()} - {"__main__"}
    assert rooms == FLOORS.keys(), f"give these a floor, or take it away: {rooms ^ FLOORS.keys()}"


def test_contributing_shows_these_floors() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    shown = {
        room: int(row.group(1))
        for row in re.finditer(r"^\| (\d) \| (.*?) \|", text, re.MULTILINE)
        for room in re.findall(r"`(\w+)`", row.group(2))
    }
    assert shown == FLOORS


def test_imports_only_go_down() -> None:
    wrong = []
    for path in modules().values():
        room = room_of(path)
        if room == "__main__":
            continue
        for name in imports(path):
            if not name.startswith("semibody."):
                continue
            other = name.split(".")[1]
            if other == room or other not in FLOORS or FLOORS[other] == FLOORS[room] == 0:
                continue
            if FLOORS[other] >= FLOORS[room]:
                wrong.append(f"{path.relative_to(PACKAGE)} (floor {FLOORS[room]}) imports {name}")
    assert not wrong, "\n".join(wrong)


def test_only_media_touches_media_libraries() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in modules().values()
        if room_of(path) != "media"
        for name in imports(path)
        if name.split(".")[0] in ONLY_IN_MEDIA
    ]
    assert not wrong, "\n".join(wrong)


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {name: imports(path) & modules().keys() for name, path in modules().items()}
    found = circle(graph)
    assert found is None, f"import circle: {' -> '.join(found)}"


def test_no_room_imports_itself_by_way_of_others() -> None:
    graph: dict[str, set[str]] = {}
    for name, path in modules().items():
        others = {other.split(".")[1] for other in imports(path) & modules().keys()}
        graph.setdefault(name.split(".")[1], set()).update(others - {name.split(".")[1]})
    found = circle(graph)
    assert found is None, f"circle of rooms: {' -> '.join(found)}"


def test_circles_are_found() -> None:
    assert circle({"a": ["b", "c"], "b": ["c"], "c": []}) is None
    assert circle({"a": ["b"], "b": ["c"], "c": ["b"]}) == ["b", "c", "b"]
    assert circle({"a": ["a"]}) == ["a", "a"]


@functools.cache
def functions() -> tuple[house.Measured, ...]:
    return tuple(house.measure(PACKAGE))


def on_the_way() -> list[house.Measured]:
    return [one for one in functions() if room_of(PACKAGE / one.file) in ON_THE_WAY]


def hold(sizes: Mapping[str, int], limit: int, exceptions: Mapping[str, int]) -> None:
    """Every size is within its limit, or within what its exception says, which is above the limit."""
    wrong = [
        f"{place} has {size}, the limit is {exceptions.get(place, limit)}: divide it"
        for place, size in sizes.items()
        if size > exceptions.get(place, limit)
    ]
    wrong += [
        f"{place} has {sizes.get(place, 0)} now: take it off the list, or write the smaller number"
        for place, size in exceptions.items()
        if sizes.get(place, 0) <= limit or sizes.get(place, 0) < size
    ]
    assert not wrong, "\n".join(wrong)


def test_functions_on_the_way_from_portrait_to_video_branch_little() -> None:
    hold({one.place: one.branches for one in on_the_way()}, MOST_BRANCHES, BRANCHY)


def test_functions_on_the_way_from_portrait_to_video_are_short() -> None:
    hold({one.place: one.lines for one in on_the_way()}, MOST_LINES, LONG)


def test_functions_have_few_parameters() -> None:
    """But a network's forward, which takes what the network takes."""
    sizes = {
        one.place: one.parameters
        for one in functions()
        if not (one.file.startswith("networks/") and one.name.endswith(".forward"))
    }
    hold(sizes, MOST_PARAMETERS, WIDE)


def test_exceptions_may_only_shrink() -> None:
    hold({"a": 15, "b": 20}, 15, {"b": 20})
    for sizes, exceptions in (
        ({"a": 16}, {}),  # not named
        ({"b": 21}, {"b": 20}),  # grown
        ({"b": 15}, {"b": 20}),  # within the limit
        ({"b": 19}, {"b": 20}),  # smaller than written
        ({}, {"b": 20}),  # gone
    ):
        with pytest.raises(AssertionError):
            hold(sizes, 15, exceptions)


def test_importing_semibody_is_light() -> None:
    heavy = ("torch", "av", "PIL", "cv2")
    code = f"import sys, semibody, semibody.types; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
