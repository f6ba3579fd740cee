"""The official test set from local videos: EMTD's crop, 768 × 768 at 24 fps, with sound, poses and a
portrait.

EMTD is a list of videos that each must get for themselves (110 clips of 40 videos, 1327 s). This makes of a
folder of such clips what the published script makes of them, as a manifest for `semibody bench-quality`.
Two of its faults are mended: a person near the edge is padded instead of dropped, and joints that were not
found do not count.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semibody.evaluation.protocol import MANIFEST, VIDEOS, Problem
from semibody.media import (
    VideoReader,
    VideoWriter,
    atomic_write,
    read_speech,
    resize_image,
    write_image,
    write_speech,
)
from semibody.pose.files import save_gesture
from semibody.types import FACE, Gesture, Progress, SemibodyError, silent

SIDE, FPS = 768, 24.0
MARGIN, ABOVE, BELOW = 0.25, 0.65, 0.5
"""The margin in heights of the person, and the shares of it above and below."""
_TORSO = slice(0, 7)
_NECK = 1


@dataclass(frozen=True)
class Crop:
    """A square of a picture: pixel ``rows`` and ``columns`` (first, last + 1; may leave the picture), and the
    fractions ``x`` and ``y`` of the picture that become 0..1 (the rows unrounded, as published)."""

    rows: tuple[int, int]
    columns: tuple[int, int]
    x: tuple[float, float]
    y: tuple[float, float]


def crop_of(gesture: Gesture, height: int, width: int) -> Crop:
    """The published crop of a whole clip, from the poses of all its frames.

    Top is the smallest face y, bottom the largest y of body joints 0–6, over all frames; a quarter of that
    height is the margin, of which 0.65 goes above and 0.5 below; the square stands centred on the mean neck.
    Raises SemibodyError when no face or neck was found.
    """
    face, torso = gesture.joints[:, FACE, 1], gesture.joints[:, _TORSO, 1]
    seen_face, seen_torso = gesture.confidence[:, FACE] > 0, gesture.confidence[:, _TORSO] > 0
    seen_neck = gesture.confidence[:, _NECK] > 0
    if not seen_face.any() or not seen_neck.any():
        raise SemibodyError(f"{gesture.name or 'the clip'}: shows no half body with a face; leave it out")
    top, bottom = float(face[seen_face].min()), float(torso[seen_torso].max())
    margin = MARGIN * (bottom - top)
    low, high = max(top - ABOVE * margin, 0.0), min(bottom + BELOW * margin, 1.0)
    rows = int(low * height), int(high * height)
    side = rows[1] - rows[0] + 1
    left = int(gesture.joints[seen_neck, _NECK, 0].mean() * width) - side // 2
    columns = left, left + side
    return Crop(rows, columns, (left / width, (left + side) / width), (low, high))


def crop_gesture(gesture: Gesture, crop: Crop) -> Gesture:
    """The poses in fractions of the cropped square."""
    low = np.array([crop.x[0], crop.y[0]])
    size = np.array([crop.x[1] - crop.x[0], crop.y[1] - crop.y[0]])
    return Gesture((gesture.joints - low) / size, gesture.confidence, gesture.fps, 1.0, gesture.name)


def crop_picture(picture: NDArray[np.uint8], crop: Crop, side: int = SIDE) -> NDArray[np.uint8]:
    """The square, black where it leaves the picture, scaled to ``side``."""
    rows, columns = crop.rows[1] - crop.rows[0], crop.columns[1] - crop.columns[0]
    square = np.zeros((max(rows, columns), columns, 3), np.uint8)
    left, right = max(crop.columns[0], 0), min(crop.columns[1], picture.shape[1])
    cut = picture[crop.rows[0] : crop.rows[1], left:right]
    offset = left - crop.columns[0]
    square[: len(cut), offset : offset + cut.shape[1]] = cut
    return resize_image(square, side, side)


def build(videos: Path, out: Path, *, detector: str = "auto", progress: Progress = silent) -> list[Problem]:
    """Make a test set of every video of a folder; running again goes on. Returns what was left out.

    ``out`` gets ``<name>.mp4 .wav .gesture.npz .png`` (the first frame is the portrait) and a manifest.
    Raises SemibodyError when no video could be used.
    """
    from semibody.pose.detect import open_detector
    from semibody.pose.track import detect_gesture

    paths = sorted(p for p in videos.iterdir() if p.suffix.lower() in VIDEOS) if videos.is_dir() else []
    if not paths:
        raise SemibodyError(f"{videos}: holds no videos; put the clips of EMTD there")
    problems, lines = [], []
    with open_detector(detector) as opened:
        for number, path in enumerate(paths):
            progress("prepare", number, len(paths))
            try:
                if not (out / f"{path.stem}.mp4").exists():
                    _one(path, out, detect_gesture(path, FPS, detector=opened))
            except SemibodyError as error:
                problems.append(Problem(path.stem, str(error), fatal=True))
                continue
            files = {"video": ".mp4", "audio": ".wav", "gesture": ".gesture.npz", "portrait": ".png"}
            lines.append({"id": path.stem, **{kind: path.stem + ending for kind, ending in files.items()}})
    progress("prepare", len(paths), len(paths))
    if not lines:
        raise SemibodyError(f"{videos}: no video could be used ({problems[0].what})")
    with atomic_write(out / MANIFEST) as unfinished:
        unfinished.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return problems


def _one(path: Path, out: Path, gesture: Gesture) -> None:
    speech = read_speech(path)
    crop: Crop | None = None
    out.mkdir(parents=True, exist_ok=True)
    write_speech(out / f"{path.stem}.wav", speech)
    with (
        VideoReader(path) as video,
        VideoWriter(
            out / f"{path.stem}.mp4", fps=FPS, width=SIDE, height=SIDE, speech=speech, crf=12
        ) as writer,
    ):
        for picture in video.frames(FPS):
            if crop is None:
                crop = crop_of(gesture, *picture.shape[:2])
                save_gesture(crop_gesture(gesture, crop), out / f"{path.stem}.gesture.npz")
                write_image(out / f"{path.stem}.png", crop_picture(picture, crop))
            writer.write(crop_picture(picture, crop))
