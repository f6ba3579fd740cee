"""How long a command takes to begin, in fresh processes; prints JSON.

    python benchmarks/start.py [repeats]

``help``          seconds of ``semibody --help``
``first_window``  seconds of ``semibody animate`` with the starter until the first window is denoised
Medians of the repeats, after one run that is not counted. Run it on a quiet machine.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from semibody.weights import hub

FIRST_WINDOW = """
import contextlib, os, sys
import semibody.cli

def stop_at_the_first_window(stage, done, total):
    if stage == "denoise":
        os._exit(3)

@contextlib.contextmanager
def progress_bar(*, quiet):
    yield stop_at_the_first_window

semibody.cli.animate.progress_bar = progress_bar
semibody.cli.main()
"""
"""A program that is ``semibody`` until the first window is denoised: then it ends with 3."""


def seconds_of(command: list[str], code: int) -> float:
    """Wall time of a command that must end with ``code``."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, *command], capture_output=True, check=False)
    if done.returncode != code:
        raise SystemExit(done.stderr.decode())
    return time.perf_counter() - started


def median(command: list[str], code: int, repeats: int) -> float:
    seconds_of(command, code)
    return round(statistics.median(seconds_of(command, code) for _ in range(repeats)), 2)


def main() -> None:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    with tempfile.TemporaryDirectory() as folder:
        inputs = [str(hub.STARTER / name) for name in ("portrait.png", "speech.wav")]
        out = ["--weights", "starter", "--frame", "keep", "-o", str(Path(folder) / "out.mp4")]
        report = {
            "help": median(["-m", "semibody", "--help"], 0, repeats),
            "first_window": median(["-c", FIRST_WINDOW, "animate", *inputs, *out], 3, repeats),
        }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
