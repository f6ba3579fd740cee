"""The official test set from local videos: EMTD's crop, 768 × 768 at 24 fps, with sound, poses and a
portrait.

EMTD is a list of videos that users must download themselves (110 clips of 40 videos, 1327 s). This crops a
folder of such clips as the published script does, and writes a manifest for `semibody bench-quality`.
Two of its faults are corrected; ``pose.frame.emtd_crop`` names them.
"""

from __future__ import annotations

from pathlib import Path

from semibody.clips.manifest import NAME, write_lines
from semibody.evaluation.protocol import VIDEOS, Problem
from semibody.media import (
    VideoReader,
    VideoWriter,
    read_speech,
    resize_image,
    write_image,
    write_speech,
)
from semibody.pose.files import save_gesture
from semibody.pose.frame import Crop, emtd_crop
from semibody.types import Gesture, Picture, Progress, SemibodyError, silent

SIDE, FPS = 768, 24.0


def build(videos: Path, out: Path, *, detector: str = "auto", progress: Progress = silent) -> list[Problem]:
    """Make a test set of every video of a folder; run it again to continue. Returns what was left out.

    ``out`` gets ``<name>.mp4 .wav .gesture.npz .png`` (the first frame is the portrait) and a manifest.
    Raises SemibodyError when no video could be used.
    """
    from semibody.pose.detectors import open_detector
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
    write_lines(out / NAME, lines)
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
                crop = _crop_of(gesture, *picture.shape[:2])
                save_gesture(crop.gesture(gesture), out / f"{path.stem}.gesture.npz")
                write_image(out / f"{path.stem}.png", _square_of(picture, crop))
            writer.write(_square_of(picture, crop))


def _crop_of(gesture: Gesture, height: int, width: int) -> Crop:
    crop = emtd_crop(gesture.joints, gesture.confidence, width, height)
    if crop is None:
        raise SemibodyError(f"{gesture.name or 'the clip'}: shows no half body with a face; leave it out")
    return crop


def _square_of(picture: Picture, crop: Crop) -> Picture:
    return resize_image(crop.apply(picture, "black"), SIDE, SIDE)
