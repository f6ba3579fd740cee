"""Measure the shape of Python code: files, lines, how long functions are and how much they branch.

    python tools/measure_house.py                        # src/semibody
    python tools/measure_house.py other/src --most 20    # any folder, with its 20 branchiest functions

Only the standard library is used, so that it runs on any old checkout.

A function's *lines* go from its ``def`` to its last line, docstring and comments included. Its *branches* are
the places where control may go two ways: each ``if``, ``elif``, conditional expression, ``for``, ``while``,
``except`` and ``case``, each ``if`` of a comprehension, and each chain of ``and`` or of ``or``. Functions
inside a function count as part of it, and again on their own. Its *parameters* are all that it names but
``self`` and ``cls``, starred ones too.
"""

from __future__ import annotations

import argparse
import ast
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

LONG = 60
"""A function with more lines than this is counted as long."""

Function = ast.FunctionDef | ast.AsyncFunctionDef

_TWO_WAYS = (
    ast.If,
    ast.IfExp,
    ast.BoolOp,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.ExceptHandler,
    ast.match_case,
)


@dataclass(frozen=True)
class Measured:
    """One function: ``name`` with the classes and functions around it, and its size."""

    file: str
    name: str
    lines: int
    branches: int
    parameters: int

    @property
    def place(self) -> str:
        """File and name, as lists of exceptions write it."""
        return f"{self.file}:{self.name}"


def count_branches(node: ast.AST) -> int:
    """Number of branches of a piece of code; the module lists what counts."""
    branches = 0
    for part in ast.walk(node):
        if isinstance(part, _TWO_WAYS):
            branches += 1
        elif isinstance(part, ast.comprehension):
            branches += len(part.ifs)
    return branches


def count_parameters(function: Function) -> int:
    """Parameters that a caller may give."""
    given = function.args
    names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    starred = [one for one in (given.vararg, given.kwarg) if one is not None]
    return len([name for name in names if name not in ("self", "cls")]) + len(starred)


def functions_of(path: Path, root: Path) -> list[Measured]:
    """Every function of a file, also those inside classes and functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return list(_functions(tree, path.relative_to(root).as_posix(), ()))


def _functions(node: ast.AST, file: str, around: tuple[str, ...]) -> Iterator[Measured]:
    for child in ast.iter_child_nodes(node):
        inner = around
        if isinstance(child, Function | ast.ClassDef):
            inner = (*around, child.name)
        if isinstance(child, Function):
            lines = (child.end_lineno or child.lineno) - child.lineno + 1
            yield Measured(file, ".".join(inner), lines, count_branches(child), count_parameters(child))
        yield from _functions(child, file, inner)


def measure(folder: Path) -> list[Measured]:
    """Every function of every Python file below ``folder``."""
    return [one for path in sorted(folder.rglob("*.py")) for one in functions_of(path, folder)]


def report(folder: Path, most: int = 10) -> str:
    """The folder's figures as text, with its ``most`` branchiest and longest functions."""
    files = sorted(folder.rglob("*.py"))
    functions = measure(folder)
    if not functions:
        return f"{folder}: holds no Python functions"
    lines = [one.lines for one in functions]
    branches = [one.branches for one in functions]
    long = sum(n > LONG for n in lines)
    total = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files)
    rows = [
        f"files                     {len(files)}",
        f"lines                     {total}",
        f"functions                 {len(functions)}",
        f"lines of a function       median {statistics.median(lines):g}, largest {max(lines)}",
        f"functions above {LONG} lines  {long} ({long / len(functions):.1%})",
        f"branches of a function    median {statistics.median(branches):g}, largest {max(branches)}",
        f"functions above 15        {sum(n > 15 for n in branches)}",
        f"functions above 8 parameters  {sum(one.parameters > 8 for one in functions)}",
    ]
    for title, key in (("branches", "branches"), ("lines", "lines"), ("parameters", "parameters")):
        rows += ["", f"most {title}"]
        ordered = sorted(functions, key=lambda one: -int(getattr(one, key)))[:most]
        rows += [f"{getattr(one, key):5}  {one.place}" for one in ordered]
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Measure files, functions and branches of Python code.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("src/semibody"))
    parser.add_argument("--most", type=int, default=10, help="how many of the largest functions to name")
    given = parser.parse_args(arguments)
    print(report(given.folder, given.most))


if __name__ == "__main__":
    main()
