"""Collects (case, largest error, limit) and prints them as one table at the end."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

ROWS: list[tuple[str, float, float]] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "parity" in item.path.parts:
            item.add_marker(pytest.mark.parity)


@pytest.fixture
def compare(request: pytest.FixtureRequest) -> Callable[..., None]:
    """compare(ours, theirs, limit, what): note the largest absolute error and hold it to the limit."""

    def check(ours: object, theirs: object, limit: float, what: str = "") -> None:
        a, b = (
            np.asarray(x.detach() if isinstance(x, torch.Tensor) else x, np.float64) for x in (ours, theirs)
        )
        assert a.shape == b.shape, f"{what}: shape {a.shape}, recorded {b.shape}"
        error = float(np.abs(a - b).max()) if a.size else 0.0
        ROWS.append((f"{request.node.name} {what}".strip(), error, limit))
        assert error <= limit, f"{what}: largest error {error:.3g} is over the limit {limit:.3g}"

    return check


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not ROWS or "parity" not in (terminalreporter.config.option.markexpr or ""):
        return
    width = max(len(name) for name, _, _ in ROWS)
    terminalreporter.section("parity with the published code")
    terminalreporter.write_line(f"{'case':<{width}}  largest error     limit")
    for name, error, limit in ROWS:
        verdict = "" if error <= limit else "  FAILED"
        terminalreporter.write_line(f"{name:<{width}}  {error:13.3g}  {limit:8.1g}{verdict}")
