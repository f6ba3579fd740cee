"""Memory and quality of long clips, as JSON lines: ``python benchmarks/endurance.py --minutes 1 60``.

Each length is animated by a process of its own: the starter's portrait, and speech repeated to that length.

    peak       bytes of memory that the process held at most
    latents    bytes of the clip's latents, which alone may grow with the length
    identity   mean cosine of face embeddings with the portrait's (dlib), in its first and last seconds
    sharpness  mean gradient energy over that of the video's first frame, there

The last line compares the longest clip with the shortest: ``allowed`` is the shortest one's peak, 5 % more,
and the longest one's latents. Ends with 1 if the longest takes more.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from semibody.media import VideoReader, read_image, read_speech, write_speech
from semibody.types import MissingPartError, Picture, Speech
from semibody.weights.hub import STARTER

SHARE = 0.05
"""How much more than the shortest clip and its own latents the longest may take."""


def repeated(speech: Speech, seconds: float) -> Speech:
    """The speech over and over, ``seconds`` long."""
    count = round(seconds * speech.rate)
    return Speech(np.resize(speech.waveform, count), speech.rate)


def animate(portrait: Path, speech: Path, out: Path, asked: dict[str, Any]) -> None:
    """Animate in this process and write what it took beside the video."""
    from semibody.animator import Animator

    animator = Animator.load(asked["weights"], device="cpu", precision=asked["precision"])
    started = time.monotonic()
    inputs = animator.animate_to(
        out, portrait, speech, asked["gesture"], fps=asked["fps"], width=asked["size"], height=asked["size"],
        steps=asked["steps"],
    )  # fmt: skip
    vae = animator.model.config.vae
    height, width = animator.model.config.working_size(asked["size"], asked["size"])
    latents = 4 * len(inputs) * vae.latent_channels * (height // vae.factor) * (width // vae.factor)
    measured = {
        "frames": len(inputs),
        "seconds": round(time.monotonic() - started, 1),
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "latents": latents,
    }
    out.with_suffix(".json").write_text(json.dumps(measured), encoding="utf-8")


def judge(video: Path, portrait: Picture, asked: float) -> dict[str, dict[str, float]]:
    """Sharpness and identity of the first and the last ``asked`` seconds, of two frames a second."""
    kept: list[Picture] = []
    most = max(1, round(2 * asked))
    with VideoReader(video) as reader:
        first: list[Picture] = []
        for frame in reader.frames(2.0):
            if len(first) < most:
                first.append(frame)
            kept = [*kept[-most + 1 :], frame] if most > 1 else [frame]
    return {name: _qualities(shown, first[0], portrait) for name, shown in (("first", first), ("last", kept))}


def _qualities(frames: list[Picture], start: Picture, portrait: Picture) -> dict[str, float]:
    from semibody.quality.likeness import gradient_energy

    energy = [float(gradient_energy(frame).mean()) for frame in frames]
    found = {"sharpness": round(float(np.mean(energy)) / float(gradient_energy(start).mean()), 4)}
    try:
        return found | {"identity": round(_identity(frames, portrait), 4)}
    except MissingPartError:
        return found


def _identity(frames: list[Picture], portrait: Picture) -> float:
    """Mean cosine with the portrait; NaN if no face is found."""
    from semibody.evaluation.faces import DlibEmbedder, open_face_finder
    from semibody.evaluation.measures.identity import dlib_cosine

    finder, embedder = open_face_finder(), DlibEmbedder()
    own, *others = (
        embedder.embed(picture, face)
        for picture in [portrait, *frames]
        if (face := finder.find(picture)) is not None
    )
    finder.close()
    return float(dlib_cosine(np.stack(others), own).mean()) if others else float("nan")


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--minutes", type=float, nargs="+", default=[1.0, 60.0])
    options.add_argument("--size", type=int, default=128)
    options.add_argument("--fps", type=float, default=4.0)
    options.add_argument("--steps", type=int, default=1)
    options.add_argument("--precision", default="fp32")
    options.add_argument("--weights", default="starter")
    options.add_argument("--gesture", default="auto")
    options.add_argument("--portrait", type=Path, default=STARTER / "portrait.png")
    options.add_argument("--speech", type=Path, default=STARTER / "speech.wav")
    options.add_argument("--judged", type=float, default=60.0, help="seconds at the beginning and the end")
    options.add_argument("--out", type=Path, default=Path("out/endurance"))
    asked = options.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    spoken, rows = read_speech(asked.speech), []
    for minutes in sorted(asked.minutes):
        seconds, video = 60 * minutes, asked.out / f"{minutes:g}-minutes.mp4"
        write_speech(video.with_suffix(".wav"), repeated(spoken, seconds))
        words = (asked.portrait, video.with_suffix(".wav"), video, vars(asked))
        process = multiprocessing.get_context("spawn").Process(target=animate, args=words)
        process.start()
        process.join()
        if process.exitcode:
            sys.exit(f"the clip of {minutes:g} minutes ended with {process.exitcode}")
        row = {"minutes": minutes, **json.loads(video.with_suffix(".json").read_text(encoding="utf-8"))}
        row |= judge(video, read_image(asked.portrait), min(asked.judged, seconds))
        rows.append(row)
        print(json.dumps(row), flush=True)
    shortest, longest = rows[0], rows[-1]
    allowed = (1 + SHARE) * shortest["peak"] + longest["latents"]
    within = longest["peak"] <= allowed
    print(json.dumps({"peak": longest["peak"], "allowed": round(allowed), "within": within}))
    sys.exit(0 if within else 1)


if __name__ == "__main__":
    main()
