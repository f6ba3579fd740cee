"""How long `semibody evaluate` takes over pairs of clips, the first time and again; one JSON line.

    semibody data synthesise SET --people 25 --clips 1 --seconds 5 --size 512 --heads 0 --assets PACK
    python benchmarks/evaluation_time.py SET --clips 100

A rendered clip serves for several pairs: mirrored and darkened, so that no two files are alike and nothing is
taken from the cache in the first run. The generated side of a pair is its real side with noise and blur.
Measure on a quiet machine.
"""

import argparse
import json
import time
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from semibody.cli.progress import progress_bar
from semibody.clips.manifest import read_manifest
from semibody.evaluation.run import evaluate
from semibody.media import read_clip, write_clip
from semibody.types import Clip

Frames = NDArray[np.uint8]


def variant(frames: Frames, turn: int) -> Frames:
    """The ``turn``-th picture of a clip: every second one mirrored, each pair darker than the last."""
    shown = frames[:, :, ::-1] if turn % 2 else frames
    return np.ascontiguousarray((shown * (1 - 0.08 * (turn // 2))).astype(np.uint8))


def worsen(frames: Frames, seed: int) -> Frames:
    rng = np.random.default_rng(seed)
    blurred = np.stack([cv2.GaussianBlur(frame, (0, 0), 1.0) for frame in frames])
    noise = rng.integers(-6, 7, frames.shape[1:3])[None, ..., None]
    return np.clip(blurred + noise, 0, 255).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder made by `semibody data synthesise`")
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--work", type=Path, default=Path("out/evaluation-time"), help="videos and cache")
    parser.add_argument("--workers", type=int, default=0)
    asked = parser.parse_args()
    real, generated = asked.work / "real", asked.work / "generated"
    entries = read_manifest(asked.data)
    frames = 0
    with progress_bar() as progress:
        for number in range(asked.clips):
            progress("make pairs", number, asked.clips)
            clip = read_clip(entries[number % len(entries)].video)
            shown = variant(clip.frames, number // len(entries))
            frames += len(shown)
            for folder, pictures in ((real, shown), (generated, worsen(shown, number))):
                path = folder / f"{number:03d}.mp4"
                if not path.exists():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    write_clip(Clip(pictures, clip.fps, clip.speech), path)
        seconds = []
        for _ in range(2):
            started = time.monotonic()
            found = evaluate(
                generated,
                real,
                cache=asked.work / "cache",
                workers=asked.workers,
                progress=progress,
            )
            seconds.append(round(time.monotonic() - started, 1))
    print(
        json.dumps(
            {
                "pairs": asked.clips, "frames": frames, "size": shown.shape[1], "metrics": len(found.results),
                "first_seconds": seconds[0], "again_seconds": seconds[1],
            }
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
