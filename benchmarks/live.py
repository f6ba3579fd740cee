"""How long after it was heard a voice is seen; prints JSON.

    python benchmarks/live.py PORTRAIT SPEECH [--size 256] [--fps 24] [--chunk 0.1] [--seconds 30]

A recording is fed in chunks at the pace of a microphone, again from its beginning if it is shorter than
``--seconds``. A frame's latency is the time from the arrival of the chunk that holds its own second to the
moment it is ready; a player that begins ``max`` late never waits. ``load`` is the share of the time
in which something was made: above 1 the machine does not keep up, and a lower --fps or --size is needed. The
first second, in which memory is taken, is told apart. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semibody.animator import Animator
from semibody.live import Live
from semibody.media import read_speech
from semibody.types import RATE


def chunks(speech: NDArray[np.float32], chunk: float, seconds: float) -> Iterator[NDArray[np.float32]]:
    """``seconds`` of a recording that is repeated, in pieces of ``chunk`` seconds."""
    size = round(chunk * RATE)
    for number in range(round(seconds / chunk)):
        yield np.take(speech, range(number * size, (number + 1) * size), mode="wrap")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("portrait", type=Path)
    parser.add_argument("speech", type=Path)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--fps", type=float, default=24.0)
    parser.add_argument("--chunk", type=float, default=0.1)
    parser.add_argument("--seconds", type=float, default=30.0)
    given = parser.parse_args()

    live = Live(Animator.load("starter"), given.portrait, width=given.size, height=given.size, fps=given.fps)
    speech = read_speech(given.speech).waveform
    latencies: list[float] = []
    busy, begun = 0.0, time.perf_counter()
    for number, chunk in enumerate(chunks(speech, given.chunk, given.seconds)):
        # A microphone gives a chunk when its last sample was spoken.
        time.sleep(max(0.0, begun + (number + 1) * given.chunk - time.perf_counter()))
        started = time.perf_counter()
        for frames in live.hear(chunk):
            ready = time.perf_counter() - begun
            for frame in range(len(latencies), len(latencies) + len(frames)):
                arrived = (int(frame / given.fps / given.chunk + 1e-9) + 1) * given.chunk
                latencies.append(ready - arrived)
        busy += time.perf_counter() - started
    first = round(given.fps)
    steady = np.array(latencies[first:])
    report = {
        "size": given.size,
        "fps": given.fps,
        "frames": len(latencies),
        "latency_seconds": {
            "median": round(float(np.median(steady)), 3),
            "95 %": round(float(np.quantile(steady, 0.95)), 3),
            "max": round(float(steady.max()), 3),
            "max of the first second": round(max(latencies[:first]), 3),
        },
        "load": round(busy / given.seconds, 3),
        "keeps_up": bool(busy < given.seconds and steady[-first:].max() < 2 * np.median(steady)),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
