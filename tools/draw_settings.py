"""Draw docs/settings.png: what settings do to the demo's rendered person, a row a setting, a column a moment.

python tools/draw_settings.py docs/settings.png
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from semibody import Animator, media
from semibody.weights.hub import STARTER

ROWS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("defaults", {}),
    ("--liveliness 0", {"liveliness": 0.0}),
    ("--liveliness 2", {"liveliness": 2.0}),
    ("--still-head", {"still_head": True}),
    ("--gesture wave", {"gesture": "wave"}),
)
SECONDS = (0.5, 1.1, 1.7, 2.1)
CELL, LABEL = 176, 24


def row(animator: Animator, label: str, changes: dict[str, Any]) -> np.ndarray[Any, Any]:
    """The frames of one clip side by side, the option above them."""
    changes = dict(changes)
    gesture = changes.pop("gesture", "auto")
    length = round(animator.defaults.fps * (SECONDS[-1] + 0.2))
    clip = animator.animate(
        STARTER / "portrait.png", STARTER / "speech.wav", gesture, length=length, **changes
    )
    chosen = [media.resize_image(clip.frames[round(at * clip.fps)], CELL, CELL) for at in SECONDS]
    strip = np.full((LABEL, CELL * len(SECONDS), 3), 255, np.uint8)
    cv2.putText(strip, label, (6, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (30, 30, 30), 1, cv2.LINE_AA)
    return np.concatenate([strip, np.concatenate(chosen, axis=1)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    animator = Animator.load("starter")
    media.write_image(given.out, np.concatenate([row(animator, *one) for one in ROWS]))


if __name__ == "__main__":
    main()
