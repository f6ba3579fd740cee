"""What `animate --dry-run` announces and what a run takes: memory and time by length, and the start.

    python benchmarks/estimates.py --seconds 10 60 240 --size 256      # each length in a process of its own
    python benchmarks/estimates.py --start                             # where the first seconds go

Memory is the peak of the whole process as the system counts it. Beside the seconds on the clock stand those
of the CPU, which other programs disturb less; on a quiet machine with one thread both are about the same.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from semibody import media
from semibody.types import Clip, Speech
from semibody.weights.hub import STARTER


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, nargs="*", default=[10.0])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--start", action="store_true", help="measure the first seconds instead")
    chosen = parser.parse_args()
    if chosen.start:
        measure_start()
        return
    print("| speech | frames | memory announced | measured | time announced | clock | CPU |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for seconds in chosen.seconds:
            print(row(Path(folder), seconds, chosen.size, chosen.steps), flush=True)


def row(folder: Path, seconds: float, size: int, steps: int) -> str:
    """One length: the bundled speech repeated, through the command line as a user calls it."""
    from semibody.plan import make_plan
    from semibody.settings import Source

    spoken = media.read_speech(STARTER / "speech.wav")
    count = round(seconds * spoken.rate)
    waveform = np.tile(spoken.waveform, -(-count // len(spoken.waveform)))[:count]
    media.write_speech(folder / "speech.wav", Speech(waveform, spoken.rate))
    inputs = [str(STARTER / "portrait.png"), str(folder / "speech.wav")]
    plan = make_plan(
        Source(weights="starter"), {"width": size, "height": size, "steps": steps},
        portrait=inputs[0], speech=inputs[1], gesture="auto",
    )  # fmt: skip
    command = [sys.executable, "-m", "semibody", "animate", *inputs, "-o", str(folder / "out.mp4"), "-q"]
    started = time.perf_counter()
    process = os.spawnv(
        os.P_NOWAIT,
        sys.executable,
        [*command, "--weights", "starter", "--size", str(size), "--steps", str(steps)],
    )
    _, status, used = os.wait4(process, 0)
    if status:
        raise SystemExit(f"the run of {seconds:g} s ended with {status}")
    clock = time.perf_counter() - started
    peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 2**30
    return (
        f"| {seconds:g} s | {plan.frames} | {plan.memory_gib:.2f} GiB | {peak:.2f} GiB "
        f"| {plan.seconds:.0f} s | {clock:.0f} s | {used.ru_utime + used.ru_stime:.0f} s |"
    )


def measure_start() -> None:
    """The parts of ``plan.START_SECONDS``, ``plan.DETECT_SECONDS`` and ``plan.LOAD_SECONDS``, in order."""
    from semibody.plan import DETECT_SECONDS, LOAD_RATE, LOAD_SECONDS, START_SECONDS

    print("| part | clock | CPU |")
    print("|---|---|---|")
    code = f"import runpy; runpy.run_path({__file__!r}, run_name='stages')"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
    print(
        f"announced: {START_SECONDS:g} s for imports, reading and writing, {DETECT_SECONDS:g} s for the "
        f"person, {LOAD_SECONDS:g} s for the networks, and {1 / LOAD_RATE * 1e9:g} s a GB of weights"
    )


def run_stages() -> None:
    """What `animate` does before and after its networks, a line a stage. To be called in a new process."""
    from semibody.animator import Animator
    from semibody.inputs import prepare
    from semibody.settings import Settings

    mark("imports")
    plain = Settings(width=256, height=256, frame="keep", align="none")
    files = STARTER / "portrait.png", STARTER / "speech.wav", "auto"
    inputs = prepare(*files, plain)
    mark("reading portrait and speech, planning the gesture")
    prepare(*files, Settings(width=256, height=256))
    mark("again, with the search for the person")
    animator = Animator.load("starter")
    mark("loading the starter's networks")
    settings = animator.settings(width=256, height=256, frame="keep", align="none")
    pixels = next(animator.frames(inputs, settings))
    mark("the portrait, all windows' steps and the first frames")
    with tempfile.TemporaryDirectory() as folder:
        frames = np.repeat(pixels, 12, axis=0)
        media.write_clip(Clip(frames, 24.0, inputs.speech), Path(folder) / "out.mp4")
        mark("writing 48 frames")
        measure_filling(Path(folder) / "weights.pth")


def measure_filling(path: Path) -> None:
    """Weights of float32 that become bfloat16, from a file that the system still holds in memory."""
    import torch

    from semibody.weights.state import fill, read_state

    side = 8192
    torch.save({"weight": torch.zeros(side, side)}, path)
    with torch.device("meta"):
        network = torch.nn.Linear(side, side, bias=False)
    mark("(making weights)")
    fill(network, read_state(path), dtype=torch.bfloat16, device=torch.device("cpu"), source=str(path))
    mark(f"filling a network with {path.stat().st_size / 1e9:.2f} GB")


_marked = (0.0, 0.0)


def mark(name: str) -> None:
    """Print the seconds since the last mark, on the clock and of the CPU."""
    global _marked  # noqa: PLW0603
    import psutil

    now = time.time() - psutil.Process().create_time(), time.process_time()
    print(f"| {name} | {now[0] - _marked[0]:.1f} s | {now[1] - _marked[1]:.1f} s |", flush=True)
    _marked = now


if __name__ == "stages":
    run_stages()
if __name__ == "__main__":
    main()
