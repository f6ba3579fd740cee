r"""How well the lip-sync test of ``data ingest`` tells right sound from wrong or late sound.

    semibody data synthesise SET --people 44 --clips 1 --seconds 4 --size 320 --heads 0 --seed 2611 \
        --assets PACK
    python benchmarks/lipsync.py SET --videos CLIP.mp4 …

Pieces of ``--seconds`` of every clip of SET (half bodies, sound known to be right) are tested with their own
sound, with that of every other clip, and with their own half a second and one second late or early; so are
pieces of videos, whose other speech is that of SET. Prints a JSON line for each: ``kept`` is the share that
passes ``data ingest --sync``. With SyncNet's weights (``--measure syncnet``) only SET is tested.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semibody.clips.manifest import read_manifest
from semibody.data import lips
from semibody.data.wanted import Wanted
from semibody.media import VideoReader, read_speech
from semibody.pose.detectors import Detector, open_detector
from semibody.types import FACE, N_JOINTS, Pose

LATE = (0.5, 1.0)


@dataclass(frozen=True)
class Seen:
    """A clip or a piece of one: what was seen of its mouth and heard in its sound (n, d), 25 a second."""

    name: str
    mouth: NDArray[Any]
    sound: NDArray[Any]

    def pieces(self, ticks: int, late: int = 0) -> Iterator["Seen"]:
        """Pieces of so many ticks, half a piece apart, whose lips trail their sound by ``late`` ticks."""
        mouth, sound = (self.mouth[late:], self.sound) if late >= 0 else (self.mouth, self.sound[-late:])
        for start in range(0, min(len(mouth), len(sound)) - ticks + 1, max(1, ticks // 2)):
            yield Seen(self.name, mouth[start : start + ticks], sound[start : start + ticks])


def look(name: str, video: Path, audio: Path, fps: float, detector: Detector) -> Seen | None:
    """Lips as an ingest finds them, frame by frame, and as they are predicted from the sound."""
    poses: list[Pose] = []
    nobody = Pose(np.zeros((N_JOINTS, 2)), np.zeros(N_JOINTS))
    with VideoReader(video) as frames:
        for frame in frames.frames(fps):
            last = poses[-1] if poses and poses[-1].confidence.any() else None
            pose = detector.follow(frame, last) if last is not None else None
            pose = pose or next(iter(detector.people(frame)), nobody)
            poses.append(pose)
        shape = frame.shape
    face = np.stack([pose.joints[FACE] for pose in poses]) * (shape[1], shape[0])
    mouth = lips.seen_lips(face, np.stack([pose.confidence[FACE] for pose in poses]), fps)
    if mouth is None:
        return None
    sound = lips.heard_lips(read_speech(audio))
    count = min(len(mouth), len(sound))
    return Seen(name, mouth[:count], sound[:count])


def margins(
    clips: list[Seen], others: list[Seen], ticks: int, measure: lips.Measure
) -> dict[str, list[float]]:
    """Margins of every pairing of pieces of so many ticks, by what the sound is."""
    compare = lips.compare_lips if measure == "predicted" else lips.compare_embeddings
    trials: dict[str, list[tuple[NDArray[Any], NDArray[Any]]]] = {}
    for clip in clips:
        trials.setdefault("right", []).extend((p.mouth, p.sound) for p in clip.pieces(ticks))
        for late in LATE:
            shifted = [p for sign in (1, -1) for p in clip.pieces(ticks, sign * round(late * lips.TICKS))]
            trials.setdefault(f"{late} s late or early", []).extend((p.mouth, p.sound) for p in shifted)
        wrong = [p for other in (others or clips) if other.name != clip.name for p in other.pieces(ticks)]
        pairs = [(piece.mouth, sound.sound) for piece in clip.pieces(ticks) for sound in wrong]
        trials.setdefault("another speech", []).extend(pairs)
    agreed = {kind: [compare(*pair) for pair in pairs] for kind, pairs in trials.items()}
    return {kind: [one.margin for one in found if one is not None] for kind, found in agreed.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--videos", nargs="*", type=Path, default=[])
    parser.add_argument("--seconds", type=float, nargs="+", default=[2.0, 3.0, 3.5], help="of pieces")
    parser.add_argument("--measure", choices=["predicted", "syncnet"], default="predicted")
    parser.add_argument("--keep", type=Path, help="keep what was seen and heard in this folder")
    asked = parser.parse_args()
    own = str(asked.folder)
    sets: dict[str, list[Seen]] = {own: []}
    files = [
        (own, entry.id, entry.video, entry.audio, entry.fps)
        for entry in read_manifest(asked.folder)
        if entry.audio is not None and entry.kind == "full"
    ]
    if asked.measure == "syncnet":
        sets[own] = [Seen(name, *lips.embeddings(video, audio, fps)) for _, name, video, audio, fps in files]
    else:
        files += [(video.stem, video.stem, video, video, Wanted().fps) for video in asked.videos]
        with open_detector("mediapipe") as detector:
            for group, name, video, audio, fps in files:
                seen = kept(asked.keep, name, video, audio, fps, detector)
                sets.setdefault(group, []).extend([seen] if seen is not None else [])
    for seconds in asked.seconds:
        for name, clips in sets.items():
            others = [] if name == own else sets[own]
            trials = margins(clips, others, round(seconds * lips.TICKS), asked.measure)
            print(json.dumps({"set": name, "measure": asked.measure, "seconds": seconds, **shown(trials)}))


def kept(
    folder: Path | None, name: str, video: Path, audio: Path, fps: float, detector: Detector
) -> Seen | None:
    """``look``, or what it found before."""
    place = folder / f"{name}.npz" if folder else None
    if place is not None and place.exists():
        with np.load(place) as arrays:
            return Seen(name, arrays["mouth"], arrays["sound"])
    seen = look(name, video, audio, fps, detector)
    if place is not None and seen is not None:
        place.parent.mkdir(parents=True, exist_ok=True)
        np.savez(place, mouth=seen.mouth, sound=seen.sound)
    return seen


def shown(found: dict[str, list[float]]) -> dict[str, Any]:
    line: dict[str, Any] = {"least margin": Wanted().sync}
    for kind, values in found.items():
        if values:
            line[kind] = {
                "trials": len(values),
                "kept": round(float(np.mean(np.array(values) >= Wanted().sync)), 3),
                "5 %, median, 95 %": [round(float(v), 2) for v in np.quantile(values, (0.05, 0.5, 0.95))],
            }
    return line


if __name__ == "__main__":
    main()
