"""Holds the house in shape: a module imports only from lower floors, never sideways between rooms."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "src" / "semibody"

FLOORS: dict[str, int] = {
    "types": 0,
    "config": 0,
    "files": 0,
    "media": 1,
    "weights": 1,
    "runtime": 1,
    "processes": 1,
    "networks": 2,
    "diffusion": 2,
    "pose": 2,
    "settings": 3,
    "inputs": 4,
    "data": 3,
    "evaluation": 3,
    "animator": 5,
    "training": 6,
    "pipeline": 6,
    "plan": 6,
    "quality": 6,
    "check": 6,
    "demo": 6,
    "batch": 7,
    "doctor": 7,
    "web": 7,
    "cli": 8,
}
ONLY_IN_MEDIA = {"av", "PIL"}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
            if node.module == "semibody":
                names += [f"semibody.{alias.name}" for alias in node.names]
    return names


def modules() -> list[Path]:
    return [p for p in sorted(PACKAGE.rglob("*.py")) if p != PACKAGE / "__init__.py"]


def test_every_room_has_a_floor() -> None:
    unknown = {room_of(p) for p in modules()} - FLOORS.keys() - {"__main__"}
    assert not unknown, f"say on which floor these live: {unknown}"


def test_imports_only_go_down() -> None:
    wrong = []
    for path in modules():
        room = room_of(path)
        if room == "__main__":
            continue
        for name in imports(path):
            if not name.startswith("semibody."):
                continue
            other = name.split(".")[1]
            if other == room or other not in FLOORS:
                continue
            if FLOORS[other] == FLOORS[room] == 0:
                continue
            if FLOORS[other] >= FLOORS[room]:
                wrong.append(f"{path.relative_to(PACKAGE)} (floor {FLOORS[room]}) imports {name}")
    assert not wrong, "\n".join(wrong)


def test_only_media_touches_media_libraries() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in modules()
        if room_of(path) != "media"
        for name in imports(path)
        if name.split(".")[0] in ONLY_IN_MEDIA
    ]
    assert not wrong, "\n".join(wrong)


def test_no_import_circles_inside_a_room() -> None:
    graph: dict[str, set[str]] = {}
    for path in modules():
        parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
        if parts[-1] == "__init__":
            continue  # a room's front door may name everything inside
        me = ".".join(["semibody", *parts])
        tree = ast.parse(path.read_text(encoding="utf-8"))
        top = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
        graph[me] = set()
        for node in top:
            if isinstance(node, ast.ImportFrom) and node.module:
                graph[me].add(node.module)
                graph[me] |= {f"{node.module}.{a.name}" for a in node.names}

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"import circle: {' -> '.join([*trail, name])}"
        for other in graph.get(name, ()):
            if other in graph:
                visit(other, (*trail, name))

    for name in graph:
        visit(name, ())


def test_importing_semibody_is_light() -> None:
    heavy = ("torch", "av", "PIL", "cv2")
    code = f"import sys, semibody, semibody.types; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
