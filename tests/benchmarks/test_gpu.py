"""The prepared GPU run, at toy size on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import gpu
import pytest
import torch

ROOT = Path(__file__).parent.parent.parent


def made_run(folder: Path, seconds: float) -> gpu.Run:
    import time

    return gpu.Run(folder, True, torch.device("cpu"), time.monotonic() + seconds)


def test_a_row_that_fails_or_hangs_does_not_end_the_run(tmp_path: Path) -> None:
    import time

    def fails() -> gpu.Row:
        raise RuntimeError("no kernel\nand more")

    def hangs() -> gpu.Row:
        time.sleep(60)
        return {}

    run = made_run(tmp_path, 100)
    for name, make in (("fails", fails), ("hangs", hangs), ("works", lambda: {"seconds": 2})):
        run.row("step", name, make, 0.1)
    run.until = 0.0
    run.row("step", "late", fails, 9)
    rows = {row["name"]: row for row in json.loads((tmp_path / "gpu.json").read_text())["rows"]}
    assert rows["fails"]["failed"] == "RuntimeError: no kernel"
    assert "0 s" in rows["hangs"]["failed"]
    assert rows["works"]["seconds"] == 2
    assert rows["late"]["skipped"]
    assert "| step |" not in (tmp_path / "gpu.md").read_text()
    assert "| works | " in (tmp_path / "gpu.md").read_text()


@pytest.mark.slow
def test_the_toy_run(tmp_path: Path) -> None:
    """All kinds of rows; on a CPU eight bits are refused, and nothing else fails."""
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--toy", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=290, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert {row["kind"] for row in rows} == {"parity", "step", "starter", "decode", "train"}
    failed = {row["name"]: row["failed"] for row in rows if "failed" in row}
    assert failed.keys() == {"64 int8", "64 fp8"}, failed
    assert all("needs an NVIDIA GPU" in why for why in failed.values())
    errors = {row["precision"]: row["error"] for row in rows if row["kind"] == "parity"}
    assert errors["fp32"] < 1e-3 < errors["bf16"] < 0.5
    steps = {row["mode"]: row for row in rows if row["kind"] == "step" and "seconds" in row}
    assert steps["cache 3"]["tflop"] < steps["exact"]["tflop"]
