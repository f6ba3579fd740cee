"""Print the sensitivity table of docs/evaluation.md: which damage changes which metric.

    semibody data synthesise people --assets MAKEHUMAN --people 8 --clips 2 --size 256
    python benchmarks/sensitivity.py people --work out/sensitivity

About ten minutes on two cores; the same command again is done in seconds.

Does each metric move when, and only when, what it measures gets worse? Rendered clips with known truth are
damaged in one way at a time, at five strengths, and evaluated against themselves undamaged. A metric that
should feel a damage must follow its strength (Spearman's ρ of ±1 over clean and five strengths, or near it).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semibody.cli.progress import progress_bar
from semibody.clips.manifest import NAME, write_lines
from semibody.clips.mouth import correlation
from semibody.clips.truth import Truth
from semibody.evaluation.faces import similarity
from semibody.evaluation.protocol import Item, Protocol, pair_clips
from semibody.evaluation.report import show
from semibody.evaluation.run import evaluate
from semibody.media import read_clip, write_clip
from semibody.pose.files import load_gesture, save_gesture
from semibody.types import FACE, HANDS, Clip, Floats, Gesture, Progress, SemibodyError, silent

Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class Subject:
    """A clip to be damaged: its frames (f, h, w, 3), the truth of every frame, and another person's
    frames."""

    clip: Clip
    truth: Truth
    gesture: Gesture
    other: Frames
    other_gesture: Gesture


@dataclass(frozen=True)
class Damage:
    """``strengths`` from slight to severe · ``should_move`` the metrics that should change."""

    name: str
    about: str
    strengths: tuple[float, ...]
    apply: Callable[[Subject, float], Frames]
    should_move: tuple[str, ...]


def add_noise(subject: Subject, deviation: float) -> Frames:
    """Gaussian noise of so many grey levels, new in every frame."""
    rng = np.random.default_rng(0)
    noisy = subject.clip.frames + rng.normal(0, deviation, subject.clip.frames.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def blur(subject: Subject, share: float) -> Frames:
    """A Gaussian blur whose σ is so many thousandths of the height."""
    import cv2

    sigma = share / 1000 * subject.clip.frames.shape[1]
    return np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in subject.clip.frames])


def delay(subject: Subject, frames: float) -> Frames:
    """The picture comes so many frames late; the sound stays."""
    late = np.maximum(np.arange(len(subject.clip)) - int(frames), 0)
    return subject.clip.frames[late]


def freeze_hands(subject: Subject, share: float) -> Frames:
    """Everything below the chin is frozen for this share of the clip, from its start."""
    frames = subject.clip.frames.copy()
    until = round(share * len(frames))
    height = frames.shape[1]
    hands = subject.gesture.joints[: len(frames), HANDS]
    usual = int(np.linalg.norm(hands - hands.mean(axis=0), axis=-1).mean(axis=1).argmin())
    for number in range(until):
        face = subject.truth.boxes["face"][number]
        chin = int(np.clip(np.nan_to_num(float(face[3]), nan=0.0), 0, 1) * height)
        frames[number, chin:] = subject.clip.frames[usual, chin:]
    return frames


def freeze_mouth(subject: Subject, share: float) -> Frames:
    """The lips of the first frame stay on the moving face for this share of the clip, from its beginning."""
    frames = subject.clip.frames.copy()
    points = subject.gesture.joints[:, FACE]
    for number in range(1, round(share * len(frames))):
        # Aligned by eyes and nose, which speech does not move.
        mouth = points[number][[*range(48, 68)]]
        frames[number] = _transplant(
            frames[number],
            subject.clip.frames[0],
            points[number][27:48],
            points[0][27:48],
            mouth,
            1.0,
            grow=0.8,
        )
    return frames


def swap_identity(subject: Subject, share: float) -> Frames:
    """Another person's face, laid over the person's own with this opacity."""
    frames = subject.clip.frames.copy()
    points, theirs = subject.gesture.joints[:, FACE], subject.other_gesture.joints[0, FACE]
    for number, frame in enumerate(frames):
        frames[number] = _transplant(
            frame, subject.other[0], points[number][27:], theirs[27:], points[number], share, grow=0.1
        )
    return frames


def _transplant(
    frame: Frames, donor: Frames, to: Floats, source: Floats, region: Floats, opacity: float, *, grow: float
) -> Frames:
    """``donor``, moved so that its points ``source`` lie on ``to``, shown in a soft ellipse around
    ``region``.

    Points (k, 2) are fractions of the picture.
    """
    import cv2

    height, width = frame.shape[:2]
    scale = np.array([width, height])
    donor_scale = np.array([donor.shape[1], donor.shape[0]])
    moved = cv2.warpAffine(donor, similarity(source * donor_scale, to * scale), (width, height))
    low, high = region.min(axis=0) * scale, region.max(axis=0) * scale
    centre, half = (low + high) / 2, np.maximum((high - low) / 2 * (1 + grow), 1)
    y, x = np.mgrid[0:height, 0:width]
    distance = np.hypot((x - centre[0]) / half[0], (y - centre[1]) / half[1])
    weight = (np.clip((1.15 - distance) / 0.3, 0, 1) * opacity)[..., None]
    return np.rint(frame * (1 - weight) + moved * weight).astype(np.uint8)


DAMAGES = (
    Damage(
        "noise", "Gaussian noise, σ in grey levels", (4, 8, 16, 24, 32), add_noise,
        ("PSNR", "SSIM", "FID-effnet", "flicker-rest"),
    ),
    Damage(
        "blur", "Gaussian blur, σ in ‰ of the height", (2, 4, 6, 9, 12), blur,
        ("PSNR", "SSIM", "FID-effnet", "FVD-effnet"),
    ),
    Damage(
        "late picture", "picture behind the sound, frames", (2, 4, 6, 8, 10), delay,
        ("jaw-lag", "Sync-offset-small", "PSNR", "PCK"),
    ),
    Damage(
        "hands frozen", "share of the clip", (0.2, 0.4, 0.6, 0.8, 1.0), freeze_hands,
        ("HKV-mediapipe", "PCK", "hand-error"),
    ),
    Damage(
        "mouth frozen", "share of the clip", (0.2, 0.4, 0.6, 0.8, 1.0), freeze_mouth,
        ("jaw-correlation", "E-FID-mediapipe", "Sync-C-small"),
    ),
    Damage(
        "face swapped", "opacity of another face", (0.2, 0.4, 0.6, 0.8, 1.0), swap_identity,
        ("CSIM-dlib", "ID-L2-dlib"),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Curve:
    """A metric's values at no damage and at every strength, and Spearman's ρ between value and strength."""

    values: tuple[float, ...]
    rho: float


def spearman(values: Sequence[float]) -> float:
    """Rank correlation of ``values`` with their order; NaN when they do not differ or one is missing."""
    if np.isnan(values).any():
        return float("nan")
    ranks = _ranks(np.asarray(values, np.float64))
    return correlation(np.arange(len(ranks)), ranks)


def _ranks(values: Floats) -> Floats:
    """Ranks, equal values sharing their mean rank."""
    order = np.sort(values)
    return (np.searchsorted(order, values, "left") + np.searchsorted(order, values, "right") - 1) / 2


def sensitivity(
    data: Path, work: Path, *, clips: int = 6, seconds: float = 2.0, metrics: Sequence[str] = (),
    workers: int = 0, progress: Progress = silent,
) -> dict[str, dict[str, Curve]]:  # fmt: skip
    """Damage the first ``clips`` rendered clips of ``data`` (with truth, showing hands); metrics per damage.

    ``work`` holds the damaged videos and the cache: the same call again goes on, and is fast when complete.
    Raises SemibodyError when ``data`` has no such clips.
    """
    items = [item for item in pair_clips(data)[0] if item.truth and item.gesture]
    subjects = _subjects(items, clips, seconds)
    _store(work / "clean", {name: (subject, subject.clip.frames) for name, subject in subjects.items()})
    curves: dict[str, dict[str, Curve]] = {}
    done = 0
    for damage in DAMAGES:
        table: dict[str, list[float]] = {}
        for strength in (0.0, *damage.strengths):
            folder = (
                work / "clean" if strength == 0 else work / f"{damage.name} {strength:g}".replace(" ", "-")
            )
            if strength and not (folder / NAME).exists():
                _store(folder, {n: (s, damage.apply(s, strength)) for n, s in subjects.items()})
            found = evaluate(
                folder,
                work / "clean",
                metrics=metrics,
                protocol=Protocol(),
                cache=work / "cache",
                workers=workers,
            )
            for name, measured in found.results.items():
                table.setdefault(name, []).append(measured.value)
            done += 1
            progress("damage", done, len(DAMAGES) * 6)
        curves[damage.name] = {
            name: Curve(tuple(values), spearman(np.minimum(values, 1e6).tolist()))
            for name, values in table.items()
        }
    return curves


def _subjects(items: Sequence[Item], count: int, seconds: float) -> dict[str, Subject]:
    chosen: dict[str, tuple[Clip, Truth, Gesture]] = {}
    people: set[str] = set()
    for item in items:
        person = item.name.split("c")[0]
        assert item.truth is not None and item.gesture is not None
        truth = Truth.load(item.truth)
        if person in people or not np.isfinite(truth.boxes["left_hand"]).all(axis=1).mean() > 0.5:
            continue
        clip = read_clip(item.generated)
        frames = min(len(clip), round(seconds * clip.fps))
        chosen[item.name] = (
            Clip(clip.frames[:frames], clip.fps, clip.speech),
            truth,
            load_gesture(item.gesture),
        )
        people.add(person)
        if len(chosen) == count:
            break
    if len(chosen) < 2:
        raise SemibodyError(
            "needs rendered clips of at least 2 people with hands; make them with data synthesise"
        )
    names = list(chosen)
    others = {name: chosen[names[(k + 1) % len(names)]] for k, name in enumerate(names)}
    return {
        name: Subject(clip, truth, gesture, others[name][0].frames, others[name][2])
        for name, (clip, truth, gesture) in chosen.items()
    }


def _store(folder: Path, clips: Mapping[str, tuple[Subject, Frames]]) -> None:
    """Videos, truth and a manifest that names them; the manifest last, as the sign of completeness."""
    lines = []
    for name, (subject, frames) in clips.items():
        write_clip(Clip(frames, subject.clip.fps, subject.clip.speech), folder / f"{name}.mp4", crf=10)
        save_gesture(subject.gesture, folder / f"{name}.gesture.npz")
        subject.truth.save(folder / f"{name}.truth.npz")
        names = {"video": ".mp4", "gesture": ".gesture.npz", "truth": ".truth.npz"}
        lines.append({"id": name, **{kind: name + ending for kind, ending in names.items()}})
    write_lines(folder / NAME, lines)


def as_markdown(curves: Mapping[str, Mapping[str, Curve]]) -> str:
    """Two tables: the metrics that should feel a damage with their values and ρ; and how far every metric
    moved, in percent of the farthest that any damage moved it."""
    damages = {damage.name: damage for damage in DAMAGES}
    lines = [
        "| damage | metric | clean | 1 | 2 | 3 | 4 | 5 | Spearman |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, metrics in curves.items():
        for metric in damages[name].should_move:
            if metric in metrics:
                values = " | ".join(show(value) for value in metrics[metric].values)
                lines.append(f"| {name} | {metric} | {values} | {metrics[metric].rho:+.2f} |")
    lines += ["", f"| moved (%) | {' | '.join(curves)} |", "|---|" + "---|" * len(curves)]
    for metric in next(iter(curves.values())):
        moves = {name: _move(metrics[metric]) for name, metrics in curves.items() if metric in metrics}
        largest = max(moves.values(), default=0.0)
        if not largest > 0:
            continue
        cells = [
            f"**{100 * move / largest:.0f}**"
            if metric in damages[name].should_move
            else f"{100 * move / largest:.0f}"
            for name, move in moves.items()
        ]
        lines.append(f"| {metric} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _move(curve: Curve) -> float:
    """How far the strongest damage moved it: from clean, or, where clean is infinite (PSNR), from the
    slightest."""
    finite = [value for value in curve.values if np.isfinite(value)]
    return abs(finite[-1] - finite[0]) if finite and np.isfinite(curve.values[-1]) else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder made by `semibody data synthesise`")
    parser.add_argument("--work", type=Path, default=Path("out/sensitivity"), help="damaged videos and cache")
    parser.add_argument("--clips", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--workers", type=int, default=0)
    given = parser.parse_args()
    with progress_bar() as progress:
        curves = sensitivity(
            given.data,
            given.work,
            clips=given.clips,
            seconds=given.seconds,
            workers=given.workers,
            progress=progress,
        )
    print(as_markdown(curves))


if __name__ == "__main__":
    main()
