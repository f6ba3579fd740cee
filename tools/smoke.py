"""A clip by the starter in the environment at hand, read back: ``python tools/smoke.py``.

What it imports and calls is what ``semibody animate`` needs, so that a dependency too old for it is seen.
"""

from __future__ import annotations

import importlib.metadata
import re
import tempfile
from pathlib import Path

from semibody.animator import Animator
from semibody.media import read_clip
from semibody.weights.hub import STARTER


def main() -> None:
    for line in importlib.metadata.requires("semibody") or ():
        if "extra ==" not in line and (name := re.match(r"[\w.-]+", line)):
            print(f"{name[0]} {importlib.metadata.version(name[0])} ({line[len(name[0]) :].strip()})")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "o.mp4"
        animator = Animator.load("starter", device="cpu", precision="fp32")
        for solver in ("ddim", "dpm++", "unipc"):
            animator.animate_to(
                out, STARTER / "portrait.png", STARTER / "speech.wav", length=6, fps=6.0, steps=2,
                solver=solver, frame="keep", align="none", width=128, height=128,
            )  # fmt: skip
            clip = read_clip(out)
            assert clip.frames.shape == (6, 128, 128, 3), clip.frames.shape
            assert clip.frames.std() > 10, "a picture of nothing"
            print(f"{solver}: {len(clip.frames)} frames")


if __name__ == "__main__":
    main()
