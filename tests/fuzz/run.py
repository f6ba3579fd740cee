"""Fuzz every reader: ``python tests/fuzz/run.py --executions 1000000`` (``make fuzz``) or ``--seconds 600``.

The oracle: a value or a SemibodyError of one line, within the limits of time and memory, and nothing written
outside the file's own folder. Whatever breaks it is kept in ``out/fuzz`` and ends the run with 1; so are the
numbers of executions, in ``counts.json``.
``--coverage NAME`` has atheris guide one reader by its coverage (``pip install atheris``).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent)]

from fuzz.mutate import mutate  # noqa: E402 - the folder of the tests comes first
from fuzz.readers import READERS, Reader  # noqa: E402
from semibody.types import SemibodyError  # noqa: E402

SECONDS, MEMORY = 10, 2 * 2**30
"""Limits of one execution: processor seconds, and bytes beyond what the process had before."""
TALKATIVE = 3000
"""Letters of the longest message."""
ROUND, ROUND_SECONDS = 5000, 4.0
"""Most executions of a reader in one process, and most time: slow readers have fewer executions."""


def fault_of(reader: Reader, content: bytes, folder: Path) -> str:
    """Read ``content``; what is wrong with how that went, or nothing."""
    path = folder / reader.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    started = time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            reader.read(path)
    except SemibodyError as error:
        text = str(error)
        if "\n" in text or not text or len(text) > TALKATIVE:
            return f"not one line: {text[:500]!r}"
    except Exception:
        return traceback.format_exc()
    if time.process_time() - started > SECONDS:
        return "takes too long"
    return ""


def batch(reader: Reader, seed: int, seconds: float, most: int, kept: Path) -> tuple[int, int]:
    """Read mutations with ``seed`` in a child process for so long; how many there were, how many faults."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        code = 1
        try:
            _child(reader, seed, seconds, most, kept, writing)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = pipe.read().split()
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    done = len(told) and int(told[-1].split("/")[0])
    faults = len(told) and int(told[-1].split("/")[1])
    if ended:
        faults += 1
        print(f"{reader.title}: the process died ({ended}) with seed {seed} after {done}; see {kept}")
    return done, faults


def _child(reader: Reader, seed: int, seconds: float, most: int, kept: Path, writing: int) -> None:
    import torch

    torch.set_num_threads(1)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    draw, seeds, faults, done = random.Random(f"{reader.title} {seed}"), reader.seeds(), 0, 0
    with tempfile.TemporaryDirectory() as place:
        around = Path(place) / "around"
        folder = around / "in"
        until = time.monotonic() + seconds
        while time.monotonic() < until and done < most:
            shutil.rmtree(around, ignore_errors=True)
            folder.mkdir(parents=True)
            content = mutate(seeds, draw)
            signal.alarm(60)
            kept_last = kept / f"{reader.title.replace(' ', '-')}-last"
            kept_last.write_bytes(content)  # what was being read if the process dies
            wrong = fault_of(reader, content, folder)
            signal.alarm(0)
            if [*around.iterdir()] != [folder]:
                wrong = wrong or f"wrote outside: {[*around.iterdir()]}"
            done += 1
            if wrong:
                faults += 1
                name = f"{reader.title.replace(' ', '-')}-{seed}-{done}"
                (kept / name).write_bytes(content)
                (kept / f"{name}.txt").write_text(wrong, encoding="utf-8", errors="backslashreplace")
            os.write(writing, f"{done}/{faults} ".encode())
        kept_last.unlink()


def guided(title: str, kept: Path, seconds: float) -> None:
    """One reader, guided by the coverage of our modules. Ends the process."""
    import atheris

    reader = next(one for one in READERS if one.title == title)
    corpus = kept / "corpus" / title.replace(" ", "-")
    corpus.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(reader.seeds()):
        (corpus / f"seed-{number}").write_bytes(content)
    place = Path(tempfile.mkdtemp())

    def once(content: bytes) -> None:
        wrong = fault_of(reader, content, place)
        if wrong:
            raise RuntimeError(wrong)

    atheris.instrument_all()
    words = [sys.argv[0], str(corpus), f"-max_total_time={int(seconds)}", "-max_len=65536", "-timeout=60"]
    atheris.Setup([*words, "-rss_limit_mb=6000", f"-artifact_prefix={kept}/"], once)
    atheris.Fuzz()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=0.0, help="at most so long")
    options.add_argument(
        "--executions", type=int, default=0, help="at least so many, of all readers together"
    )
    options.add_argument("--reader", default="", help="only those with this in their name")
    options.add_argument("--coverage", default="", metavar="NAME", help="guide one reader with atheris")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--out", type=Path, default=Path("out/fuzz"))
    chosen = options.parse_args()
    kept = chosen.out
    kept.mkdir(parents=True, exist_ok=True)
    if not chosen.seconds and not chosen.executions:
        options.error("say how long (--seconds) or how often (--executions)")
    if chosen.coverage:
        guided(chosen.coverage, kept, chosen.seconds or 600)
    readers = [one for one in READERS if chosen.reader in one.title]
    done, faults = dict.fromkeys((one.title for one in readers), 0), 0
    until = time.monotonic() + chosen.seconds if chosen.seconds else math.inf
    seed = chosen.seed
    while sum(done.values()) < (chosen.executions or math.inf) and time.monotonic() < until:
        for reader in readers:
            left = min(until - time.monotonic(), ROUND_SECONDS)
            made, wrong = batch(reader, seed, left, ROUND, kept)
            done[reader.title] += made
            faults += wrong
            (kept / "counts.json").write_text(
                json.dumps({**done, "faults": faults}, indent=1), encoding="utf-8"
            )
        seed += 1
        print(f"{sum(done.values())} executions, {faults} faults", flush=True)
    print("\n".join(f"{title:<20} {count:>9}" for title, count in done.items()))
    print(f"{sum(done.values())} executions, {faults} faults{f'; see {kept}' if faults else ''}")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
