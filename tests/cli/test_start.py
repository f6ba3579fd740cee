"""What ``semibody animate`` imports before the first window is denoised: imports were most of its start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from semibody.weights import hub, store

NOT_NEEDED = ("diffusers", "transformers", "torch._dynamo", "sympy", "scipy", "peft", "matplotlib.figure")
"""matplotlib itself is imported by mediapipe, which finds the portrait's joints; what draws is not."""
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


def test_a_module_that_is_loaded_when_used_is_all_there() -> None:
    program = """
import sys
from semibody.pose.detectors.mediapipe import loaded_when_used
with loaded_when_used("wave"):
    import wave
found = type(wave).__name__
wave.open
print(found, type(wave).__name__, any(type(finder).__name__ == "_Lazy" for finder in sys.meta_path))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["_LazyModule", "module", "False"]
