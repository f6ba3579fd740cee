"""How far nearly exact modes are from the exact video, and what they save: a table, and JSON lines.

    python benchmarks/nearly.py                 # the starter's two portraits, 20 steps, guidance 2
    python benchmarks/nearly.py --weights FOLDER --portrait p.png --speech s.wav --size 512

The networks draw everything (``arms = networks``), and frames are compared before any video codec.

    psnr       dB of all frames to the exact ones; ``mouth``: of the mouth's surroundings
    hands      shift of hand joints that are found in both, percent of the shoulders' width
    lips       Pearson's r of the opening of the lips, as found, with the exact clip's
    identity   change of the mean centred cosine of faces with the portrait's (dlib)
    step       TFLOP, and CPU seconds of one thread, of a denoising step of the whole clip

A mode passes if lips, identity and hands do (``GATES``). ``bf16`` is no mode of this table: it shows how far
rounding alone goes, where the exact clip is float32.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import math
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from machine import commit
from numpy.typing import NDArray

from semibody.animator import Animator
from semibody.clips.mouth import correlation, opening
from semibody.conditioning.flops import count_work
from semibody.evaluation.faces import LIPS, DlibEmbedder, Face, open_face_finder
from semibody.evaluation.frames import psnr
from semibody.evaluation.measures.identity import dlib_cosine
from semibody.inputs import Inputs, prepare
from semibody.media import read_speech
from semibody.plan import work_of_stages
from semibody.pose.body import SEEN, shoulder_distance
from semibody.pose.detectors import open_detector
from semibody.settings import Settings
from semibody.types import HANDS, MissingPartError, Picture, Pose
from semibody.weights.hub import STARTER

GATES = {"lips": 0.95, "identity": 0.02, "hands": 2.0}
"""Least correlation of the lips; most loss of identity; most shift of hand joints, percent of shoulders."""
INNER_LIPS, CORNERS = (35, 25), (0, 10)
"""Places in ``LIPS``: the middles of the inner lips, the corners of the mouth."""
BUNDLED = (("portrait.png", "speech.wav"), ("portrait-shirt.png", "speech-shirt.flac"))


@dataclasses.dataclass(frozen=True)
class Mode:
    """A name, and what differs from the exact clip."""

    name: str
    changes: Mapping[str, Any]
    precision: str | None = None

    def applies(self, settings: Settings) -> bool:
        """Whether it changes anything: intervals need guidance."""
        return settings.guidance > 1 or not any(key.startswith("guidance") for key in self.changes)


MODES = (
    Mode("bf16", {}, "bf16"),
    *(Mode(f"cache {n}", {"cache": n}) for n in (2, 3, 5)),
    Mode("guided 0.2-0.8", {"guidance_start": 0.2, "guidance_stop": 0.8}),
    Mode("guided 0-0.6", {"guidance_stop": 0.6}),
    Mode("cache 3, guided 0-0.6", {"cache": 3, "guidance_stop": 0.6}),
)


@dataclasses.dataclass(frozen=True)
class Seen:
    """What is found in the frames of a clip."""

    hands: list[Pose]
    faces: list[Face | None]
    identity: list[float]
    """centred cosines of the faces with the portrait's; empty without dlib"""

    @property
    def lips(self) -> NDArray[np.float64]:
        """(f,) opening over width, NaN where no face is found."""
        found = [np.full((len(LIPS), 2), math.nan) if f is None else f.points[list(LIPS)] for f in self.faces]
        return opening(np.stack(found), INNER_LIPS, CORNERS)


class Looker:
    """The detectors, opened once."""

    def __init__(self) -> None:
        self._detector, self._finder = open_detector("mediapipe"), open_face_finder()
        self._embedder = None
        with contextlib.suppress(MissingPartError):
            self._embedder = DlibEmbedder()

    def see(self, frames: NDArray[np.uint8], portrait: Picture) -> Seen:
        """Look at every frame."""
        people = [self._detector.people(frame) for frame in frames]
        faces = [self._finder.find(frame) for frame in frames]
        reference, cosines = self._finder.find(portrait), []
        if self._embedder is not None and reference is not None:
            own = self._embedder.embed(portrait, reference)
            cosines = [
                float(dlib_cosine(self._embedder.embed(frame, face)[None], own)[0]) if face else 0.0
                for frame, face in zip(frames, faces, strict=True)
            ]
        return Seen([found[0] if found else Pose.empty() for found in people], faces, cosines)


def compare(ours: Seen, exact: Seen, size: tuple[int, int]) -> dict[str, float]:
    """hands, lips and identity of a clip of ``size`` (width, height) against the exact one."""
    shifts = []
    for a, b in zip(ours.hands, exact.hands, strict=True):
        both = (a.confidence[HANDS] >= SEEN) & (b.confidence[HANDS] >= SEEN)
        if both.any():
            apart = np.linalg.norm((a.joints - b.joints)[HANDS][both] * size, axis=1)
            shifts.append(100 * apart.mean() / shoulder_distance(b.joints * np.array(size, float)))
    mouths = np.isfinite(ours.lips) & np.isfinite(exact.lips)
    lost = statistics.fmean(exact.identity) - statistics.fmean(ours.identity) if exact.identity else math.nan
    return {
        "hands": float(np.mean(shifts)) if shifts else math.nan,
        "lips": correlation(ours.lips[mouths], exact.lips[mouths]),
        "identity": lost,
    }


def passes(row: Mapping[str, float]) -> bool:
    """Whether lips, identity and hands are near enough; what could not be measured does not decide."""
    return not (
        row["lips"] < GATES["lips"] or row["identity"] > GATES["identity"] or row["hands"] > GATES["hands"]
    )


def mouth_box(seen: Seen, height: int, width: int) -> tuple[slice, slice] | None:
    """Rows and columns about the lips of all frames, with a margin of half their size."""
    found = [face.points[list(LIPS)] for face in seen.faces if face is not None]
    if not found:
        return None
    points = np.concatenate(found)
    low, high = points.min(axis=0), points.max(axis=0)
    low, high = low - (high - low) / 2, high + (high - low) / 2
    x0, y0 = np.maximum(low, 0).astype(int)
    x1, y1 = np.minimum(high, [width, height]).astype(int)
    return slice(y0, y1), slice(x0, x1)


def make(animator: Animator, inputs: Inputs, settings: Settings) -> tuple[NDArray[np.uint8], float]:
    """The frames, and CPU seconds of a denoising step of the whole clip."""
    conditions = animator.conditions(inputs, settings)
    started = time.process_time()
    latents = animator.denoise(conditions, settings)
    seconds = (time.process_time() - started) / settings.steps
    return np.concatenate(list(animator.decode(latents, conditions))), seconds


def measure(
    animators: Mapping[str | None, Animator], clips: Iterable[tuple[Path, Path]], changes: Mapping[str, Any],
    modes: Iterable[Mode], seconds: float,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """A row for each clip and mode, the exact one first."""
    looker, exact_animator = Looker(), animators[None]
    for portrait, speech in clips:
        exact = exact_animator.settings(**changes)
        inputs = prepare(portrait, shortened(speech, seconds), "auto", exact)
        frames, cpu = make(exact_animator, inputs, exact)
        seen = looker.see(frames, inputs.portrait)
        box = mouth_box(seen, *frames.shape[1:3])
        yield row_of("exact", portrait, exact_animator, exact, len(frames), cpu)
        for mode in modes:
            animator = animators[mode.precision]
            settings = animator.settings(**{**changes, **mode.changes})
            if not mode.applies(settings):
                continue
            ours, cpu = make(animator, inputs, settings)
            row = row_of(mode.name, portrait, animator, settings, len(frames), cpu)
            row["psnr"] = psnr(ours, frames)
            row["mouth"] = math.nan if box is None else psnr(ours[:, *box], frames[:, *box])
            near = compare(looker.see(ours, inputs.portrait), seen, (settings.width, settings.height))
            yield {**row, **near}


def row_of(
    name: str, portrait: Path, animator: Animator, settings: Settings, frames: int, cpu: float
) -> dict[str, Any]:
    config = animator.model.config
    work = count_work(config, settings.height, settings.width, min(settings.window, frames))
    tflop = work_of_stages(work, settings, frames)["denoise"] / settings.steps / 1e12
    return {"mode": name, "clip": portrait.stem, "tflop_step": tflop, "cpu_step": cpu}


def shortened(path: Path, seconds: float) -> Any:
    speech = read_speech(path)
    return dataclasses.replace(speech, waveform=speech.waveform[: int(seconds * speech.rate)])


def means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each mode's mean over clips, of what was measured; with its verdict."""
    found = []
    for name in dict.fromkeys(row["mode"] for row in rows):
        own = [row for row in rows if row["mode"] == name]
        keys = [key for key in own[0] if key not in ("mode", "clip")]
        values = {key: float(np.nanmean([row[key] for row in own])) for key in keys}
        found.append({"mode": name, **values, **({"passes": passes(values)} if "lips" in values else {})})
    return found


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table of the means."""
    lines = [
        "| mode | TFLOP a step | CPU s a step | PSNR (dB) | mouth (dB) | hands (%) | lips (r) "
        "| identity lost | passes |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        shown = [f"{row[key]:.3g}" if key in row else "" for key in ("tflop_step", "cpu_step")]
        shown += [f"{row[key]:.1f}" if key in row else "" for key in ("psnr", "mouth", "hands")]
        shown += [f"{row[key]:.3f}" if key in row else "" for key in ("lips", "identity")]
        shown += ["" if "passes" not in row else "yes" if row["passes"] else "no"]
        lines.append(f"| {row['mode']} | {' | '.join(shown)} |")
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", default="starter")
    parser.add_argument("--portrait", type=Path, help="default: the two that come with the starter")
    parser.add_argument("--speech", type=Path)
    parser.add_argument("--precision", default="fp32", help="of the exact clip and the modes")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--fps", type=float, default=12.0)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each speech")
    parser.add_argument("--modes", nargs="*", default=[mode.name for mode in MODES], metavar="MODE")
    return parser.parse_args()


def main() -> None:
    asked = parse()
    if (asked.portrait is None) != (asked.speech is None):
        raise SystemExit("name both --portrait and --speech")
    modes = [mode for mode in MODES if mode.name in asked.modes]
    animators: dict[str | None, Animator] = {}
    for precision in {None, *(mode.precision for mode in modes)}:
        animators[precision] = Animator.load(
            asked.weights, precision=precision or asked.precision, device=asked.device
        )
    bundled = [(STARTER / portrait, STARTER / speech) for portrait, speech in BUNDLED]
    clips = [(asked.portrait, asked.speech)] if asked.portrait else bundled
    changes = {
        "steps": asked.steps, "guidance": asked.guidance, "width": asked.size, "height": asked.size,
        "fps": asked.fps, "arms": "networks",
    }  # fmt: skip
    rows, measured = [], commit()
    for row in measure(animators, clips, changes, modes, asked.seconds):
        print(json.dumps({**row, "commit": measured}), flush=True)
        rows.append(row)
    print(markdown(means(rows)))


if __name__ == "__main__":
    main()
