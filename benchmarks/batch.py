"""Measure ``semibody batch``: many tiny jobs, some of them bad, and a kill in the middle.

    python benchmarks/batch.py out --jobs 200 --workers 2          # killed once and run again
    python benchmarks/batch.py out --jobs 200 --workers 1 --whole  # not killed: the seconds count
    python benchmarks/batch.py out --jobs 200 --ray local          # needs the extra cluster

Every 40th job is bad, in turn: a picture that is text, silence, an unknown gesture, a setting that is none,
and a recording at which the process that reads it dies. Prints one line of JSON; ``twice`` counts videos
that were made again after the kill.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from semibody import media
from semibody.types import Speech

EVERY = 40
"""One job of so many is bad."""
POISONS: tuple[dict[str, Any], ...] = (
    {"portrait": "text.png"}, {"speech": "silent.wav"}, {"gesture": "nobody_has_this"}, {"steps": 0},
    {"speech": "deadly.wav"},
)  # fmt: skip
DEADLY = """
import multiprocessing, os, sys

def end(event, values):
    worker = multiprocessing.current_process().name != "MainProcess" or "default_worker" in sys.argv[0]
    if event == "open" and worker and "deadly" in str(values[0]):
        os._exit(1)

sys.addaudithook(end)
"""
"""The ``sitecustomize`` of worker processes, which ends them at a certain file."""


def write_jobs(folder: Path, count: int, out: str = "videos", every: int = EVERY) -> tuple[Path, list[str]]:
    """Make inputs and a jobs file; return it and the names of the bad jobs."""
    folder.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[0:96, 0:96]
    media.write_image(folder / "ann.png", np.stack([2 * x, 2 * y, x + y], axis=2).astype(np.uint8))
    (folder / "text.png").write_text("not a picture " * 20)
    hum = 0.3 * np.sin(2 * np.pi * 220 * np.arange(4800) / 16000)
    for name, wave in (("hello", hum), ("deadly", hum), ("silent", 0 * hum)):
        media.write_speech(folder / f"{name}.wav", Speech(wave.astype(np.float32), 16000))
    (folder / "hooks").mkdir(exist_ok=True)
    (folder / "hooks" / "sitecustomize.py").write_text(DEADLY, encoding="utf-8")
    lines, bad = [], []
    for number in range(count):
        name = f"{number:03d}.mp4"
        job: dict[str, Any] = {"portrait": "ann.png", "speech": "hello.wav", "gesture": "wave", "steps": 1}
        job |= {"frame": "keep", "align": "none", "length": 2, "seed": number, "out": f"{out}/{name}"}
        if number % every == every // 2:
            job |= POISONS[number // every % len(POISONS)]
            bad.append(name)
        lines.append(json.dumps(job))
    path = folder / f"{out}.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path, bad


def start(jobs: Path, *options: str) -> subprocess.Popen[str]:
    """``semibody batch`` as a process of its own, with the hook in all processes it starts."""
    paths = [str(jobs.parent / "hooks"), os.environ.get("PYTHONPATH", "")]
    # Content credentials are different every time.
    environment = {
        **os.environ,
        "SEMIBODY_PROVENANCE": "off",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
    command = [sys.executable, "-m", "semibody", "batch", str(jobs), "--quiet", *options]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)


def states(printed: str) -> dict[str, list[str]]:
    """Names of videos by what is said of them: made, kept, failed."""
    found: dict[str, list[str]] = {"made": [], "kept": [], "failed": []}
    for line in printed.split("\n\n", maxsplit=1)[0].splitlines():
        state, _, rest = line.partition(" ")
        if state in found:
            found[state].append(Path(rest.strip().split(";")[0].split(" in ")[0]).name)
    return found


def run(jobs: Path, kill_after: int | None, *options: str) -> dict[str, Any]:
    """Run the batch, kill it once when ``kill_after`` videos are there, run it again; what came of it."""
    folder = jobs.parent / jobs.stem
    before: dict[str, int] = {}
    if kill_after is not None:
        first = start(jobs, *options)
        while first.poll() is None and len(list(folder.glob("[!.]*.mp4"))) < kill_after:
            time.sleep(0.05)
        with contextlib.suppress(ProcessLookupError):
            first.send_signal(signal.SIGKILL)
        first.communicate()
        time.sleep(1.0)  # workers end with the process that started them
        before = {path.name: path.stat().st_mtime_ns for path in folder.glob("[!.]*.mp4")}
    started = time.monotonic()
    second = start(jobs, *options)
    printed, told = second.communicate()
    seconds = time.monotonic() - started
    after = {path.name: path for path in folder.glob("[!.]*.mp4")}
    said = states(printed)
    return {
        "jobs": len(jobs.read_text(encoding="utf-8").splitlines()),
        "videos": len(after),
        "there at the kill": len(before),
        **{state: len(names) for state, names in said.items()},
        "failed names": sorted(said["failed"]),
        "twice": sum(after[name].stat().st_mtime_ns != when for name, when in before.items()),
        "left over": len([path for path in folder.iterdir() if path.name.startswith(".")]),
        "seconds": round(seconds, 1),
        "exit code": second.returncode,
        "last line": told.strip().splitlines()[-1] if told.strip() else "",
        "bytes": hashlib.sha256(b"".join(path.read_bytes() for _, path in sorted(after.items()))).hexdigest(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--ray")
    parser.add_argument("--weights", default="starter")
    parser.add_argument("--whole", action="store_true", help="do not kill it")
    given = parser.parse_args()
    name = f"{'ray' if given.ray else 'local'}{given.workers}{'whole' if given.whole else ''}"
    jobs, _ = write_jobs(given.folder, given.jobs, name)
    options = ["--workers", str(given.workers), "--weights", given.weights]
    options += ["--ray", given.ray] if given.ray else []
    print(json.dumps(run(jobs, None if given.whole else given.jobs // 2, *options)))


if __name__ == "__main__":
    main()
