"""What ``semibody animate`` imports before the first window is denoised: imports were most of its start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from semibody.weights import hub, store

NOT_NEEDED = ("diffusers", "transformers", "torch._dynamo", "sympy", "scipy", "peft")
"""matplotlib is not among them: mediapipe, which finds the portrait's joints, imports it."""
PROGRAM = """
import sys
import semibody
from semibody.animator import Animator

class FirstWindow(BaseException):
    pass

def stop(stage, done, total):
    if stage == "denoise":
        raise FirstWindow

try:
    animator = Animator.load("starter", device="cpu")
    animator.animate_to(sys.argv[1], *sys.argv[2:4], frame="keep", steps=1, length=12, progress=stop)
except FirstWindow:
    print(*sys.modules)
"""


@pytest.mark.skipif(not store.is_store(hub.STARTER), reason="the starter's weights are not here")
def test_the_starter_begins_without_heavy_libraries(tmp_path: Path) -> None:
    inputs = [str(hub.STARTER / name) for name in ("portrait.png", "speech.wav")]
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "out.mp4"), *inputs]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    assert {"semibody.diffusion.sample", "torch"} <= imported
    assert not imported & set(NOT_NEEDED)
