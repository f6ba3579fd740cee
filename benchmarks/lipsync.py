"""How well the lip-sync test of ``data ingest`` tells right sound from wrong or late sound.

    semibody data synthesise SET --people 24 --clips 1 --seconds 4 --size 320 --heads 0 --assets PACK
    python benchmarks/lipsync.py SET --videos CLIP.mp4 …

Each clip of SET (half bodies, sound known to be right) is tested with its own sound, with that of every other
clip, and with its own half a second and one second late. A video is cut into pieces of ``--seconds``, and
each piece is tested with its own sound, that of the video's other pieces, and late ones. ``kept``: share that
passes. ``old``: the same for the test of before, correlation of the lips' opening with loudness.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semibody.clips.manifest import read_manifest
from semibody.data import lips
from semibody.data.wanted import Wanted
from semibody.media import VideoReader, VideoWriter, read_speech, write_speech
from semibody.types import Speech

LATE = (0.5, 1.0)


@dataclass(frozen=True)
class Seen:
    """A clip: embeddings of its mouth and of its sound."""

    name: str
    video: NDArray[np.float32]
    audio: NDArray[np.float32]


def of_set(folder: Path, network: lips.Network) -> Iterator[Seen]:
    for entry in read_manifest(folder):
        if entry.audio is not None and entry.kind == "full":
            both = lips.embeddings(entry.video, entry.audio, entry.fps, network)
            if both is not None:
                yield Seen(entry.id, *both)


def of_video(path: Path, seconds: float, side: int, network: lips.Network) -> Iterator[Seen]:
    """Pieces of a real video, cut to a square about the face as an ingest cuts it."""
    from semibody.pose.detectors import open_detector
    from semibody.pose.frame import box_crop, emtd_crop

    fps = 25.0
    with VideoReader(path) as video:
        frames = list(video.frames(fps))
    speech = read_speech(path)
    height, width = frames[0].shape[:2]
    with open_detector("mediapipe") as detector:
        poses = [
            found[0] for frame in frames[:: max(1, len(frames) // 8)] if (found := detector.people(frame))
        ]
    rule = emtd_crop(
        np.stack([pose.joints for pose in poses]),
        np.stack([pose.confidence for pose in poses]),
        width,
        height,
    )
    assert rule is not None
    crop = box_crop(rule.x0, rule.y0, rule.x1, rule.y1, width, height)
    import cv2

    squares = [np.asarray(cv2.resize(crop.apply(frame, "plain"), (side, side)), np.uint8) for frame in frames]
    count, rate = round(seconds * fps), speech.rate
    with tempfile.TemporaryDirectory() as folder:
        for number, start in enumerate(range(0, len(squares) - count + 1, count // 2)):
            place = Path(folder) / f"{number}.mp4"
            with VideoWriter(place, fps=fps, width=side, height=side, crf=14) as writer:
                writer.write(np.stack(squares[start : start + count]))
            first, length = round(start / fps * rate), round(seconds * rate)
            sound = np.pad(speech.waveform[first : first + length], (0, length))[:length]
            write_speech(place.with_suffix(".wav"), Speech(sound, rate))
            both = lips.embeddings(place, place.with_suffix(".wav"), fps, network)
            if both is not None:
                yield Seen(f"{path.stem}:{start / fps:.1f}", *both)


def margins(clips: list[Seen]) -> dict[str, list[float]]:
    """Margins of every pairing, by what the sound is."""
    found: dict[str, list[float]] = {"right": [], "another": [], **{f"{late} s late": [] for late in LATE}}

    def add(kind: str, video: NDArray[Any], audio: NDArray[Any]) -> None:
        agreed = lips.compare(video, audio)
        if agreed is not None:
            found[kind].append(agreed.margin)

    for clip in clips:
        add("right", clip.video, clip.audio)
        for late in LATE:
            ticks = round(late * lips.TICKS)
            add(f"{late} s late", clip.video[ticks:], clip.audio)
            add(f"{late} s late", clip.video, clip.audio[ticks:])
        for other in clips:
            if other.name != clip.name:
                add("another", clip.video, other.audio)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--videos", nargs="*", type=Path, default=[])
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--save", type=Path, help="write the embeddings there (npz)")
    asked = parser.parse_args()
    network = lips.network_here()
    if network is None:
        raise SystemExit("no sync network here; run: semibody weights fetch face-landmarker")
    sets = {str(asked.folder): list(of_set(asked.folder, network))} if asked.folder else {}
    sets |= {path.name: list(of_video(path, asked.seconds, asked.side, network)) for path in asked.videos}
    if asked.save:
        flat = {
            f"{name}|{clip.name}|{part}": getattr(clip, part)
            for name, clips in sets.items()
            for clip in clips
            for part in ("video", "audio")
        }
        np.savez(asked.save, **flat)
    least = Wanted().sync
    for name, clips in sets.items():
        shown: dict[str, Any] = {"set": name, "network": network, "clips": len(clips), "least margin": least}
        for kind, values in margins(clips).items():
            if values:
                shown[kind] = {
                    "trials": len(values),
                    "kept": round(float(np.mean(np.array(values) >= least)), 3),
                    "5 %, median, 95 %": [round(float(v), 2) for v in np.quantile(values, (0.05, 0.5, 0.95))],
                }
        print(json.dumps(shown))


if __name__ == "__main__":
    main()
