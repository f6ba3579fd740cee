"""Turn the demo's video into the GIF of the README, at the highest rate and size that fit.

    make demo && python tools/demo_gif.py out/demo.mp4 docs/demo.gif --megabytes 3

The whole video, nothing picked: if it is too large at 12 frames a second, fewer frames, colours and pixels.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from semibody.media import VideoReader, resize_image, write_gif

TRIES = ((12.5, 256, 256), (12.5, 128, 256), (10, 128, 256), (10, 128, 224), (8.33, 96, 192), (5, 64, 160))
"""(frames a second, colours, side in pixels), best first."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", type=Path)
    parser.add_argument("gif", type=Path)
    parser.add_argument("--megabytes", type=float, default=3.0)
    arguments = parser.parse_args()
    print(make_gif(arguments.video, arguments.gif, arguments.megabytes))


def make_gif(video: Path, gif: Path, megabytes: float) -> str:
    """Write the first of TRIES that is small enough; returns what was done."""
    with tempfile.TemporaryDirectory() as folder:
        for fps, colours, side in TRIES:
            with VideoReader(video) as reader:
                width, height = reader.size
                scale = min(1.0, side / max(width, height))
                size = (round(width * scale), round(height * scale))
                frames = np.stack([resize_image(frame, *size) for frame in reader.frames(fps)])
            attempt = Path(folder) / "attempt.gif"
            write_gif(attempt, frames, fps, colours=colours)
            if attempt.stat().st_size <= megabytes * 1e6:
                break
        size_made = attempt.stat().st_size / 1e6
        write_gif(gif, frames, fps, colours=colours)
    return f"{gif}: {len(frames)} frames, {fps:g} a second, {size[0]} x {size[1]}, {size_made:.2f} MB"


if __name__ == "__main__":
    main()
