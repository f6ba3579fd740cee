"""The official test set from local videos: EMTD's crop, 768 × 768 at 24 fps, with sound, poses and a
portrait.

EMTD is a list of videos that users must download themselves (110 clips of 40 videos, 1327 s). This crops a
folder of such clips, or the pieces of whole videos that the list names, as the published script does, and
writes a manifest for `semibody bench-quality`.
Two of its faults are corrected; ``pose.frame.emtd_crop`` names them.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from semibody.clips.listing import read_listing
from semibody.clips.manifest import NAME, write_lines
from semibody.evaluation.protocol import VIDEOS, Problem
from semibody.files import foreign_failure
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
from semibody.types import Gesture, MissingPartError, Picture, Progress, SemibodyError, Speech, silent

if TYPE_CHECKING:
    from semibody.pose.detectors import Detector

SIDE, FPS = 768, 24.0


@dataclass(frozen=True)
class _Source:
    """A clip to be: a video, or its seconds ``start`` to ``stop``."""

    name: str
    path: Path
    start: float = 0.0
    stop: float = math.inf


def build(
    videos: Path,
    out: Path,
    *,
    listing: Path | None = None,
    detector: str = "auto",
    progress: Progress = silent,
) -> list[Problem]:
    """Make a test set of every video of a folder; run it again to continue. Returns what was left out.

    ``listing`` is EMTD's table (URL, start_timecode, end_timecode): of the videos, named by their YouTube id,
    only the seconds that it names are taken, the second piece of a video as ``<name>-2``. ``out`` gets
    ``<name>.mp4 .wav .gesture.npz .png`` (the first frame is the portrait) and a manifest.
    Raises SemibodyError when no video could be used.
    """
    from semibody.pose.detectors import open_detector

    paths = sorted(p for p in videos.iterdir() if p.suffix.lower() in VIDEOS) if videos.is_dir() else []
    if not paths:
        raise SemibodyError(f"{videos}: holds no videos; put the clips of EMTD there")
    sources, problems = _listed(paths, videos, listing)
    lines = []
    with open_detector(detector) as opened:
        for number, source in enumerate(sources):
            progress("prepare", number, len(sources))
            try:
                if not (out / f"{source.name}.mp4").exists():
                    _make(source, out, opened)
            except MissingPartError:
                raise
            except SemibodyError as error:
                problems.append(Problem(source.name, str(error), fatal=True))
                continue
            except Exception as error:
                why = foreign_failure(error, out / "errors.log")
                problems.append(Problem(source.name, why, fatal=True))
                continue
            files = {"video": ".mp4", "audio": ".wav", "gesture": ".gesture.npz", "portrait": ".png"}
            made = {kind: source.name + ending for kind, ending in files.items()}
            lines.append({"id": source.name, **made})
    progress("prepare", len(sources), len(sources))
    if not lines:
        raise SemibodyError(f"{videos}: no video could be used ({problems[0].what})")
    write_lines(out / NAME, lines)
    return problems


def _listed(paths: list[Path], videos: Path, listing: Path | None) -> tuple[list[_Source], list[Problem]]:
    """What to make, and what a list names that is not here."""
    if listing is None:
        return [_Source(path.stem, path) for path in paths], []
    here = {path.stem: path for path in paths}
    sources, problems = [], []
    for stem, pieces in read_listing(listing).items():
        if stem not in here:
            why = f"{listing} names it, but it is not in {videos}; download it"
            problems.append(Problem(stem, why, fatal=True))
            continue
        for number, (start, stop) in enumerate(pieces or [(0.0, math.inf)], 1):
            name = stem if number == 1 else f"{stem}-{number}"
            sources.append(_Source(name, here[stem], start, stop))
    return sources, problems


def _make(source: _Source, out: Path, detector: Detector) -> None:
    from semibody.pose.track import detect_gesture

    out.mkdir(parents=True, exist_ok=True)
    if source.stop == math.inf and not source.start:
        _one(source.path, source.name, out, detect_gesture(source.path, FPS, detector=detector))
        return
    with tempfile.TemporaryDirectory(dir=out) as folder:
        piece = Path(folder) / f"{source.name}.mp4"
        _cut(source, piece)
        _one(piece, source.name, out, detect_gesture(piece, FPS, detector=detector))


def _cut(source: _Source, piece: Path) -> None:
    """The seconds of a video, all but lossless, as a video of their own."""
    whole = read_speech(source.path)
    first, last = round(source.start * FPS), source.stop * FPS
    ends = slice(round(first / FPS * whole.rate), round(source.stop * whole.rate))
    writer: VideoWriter | None = None
    with contextlib.ExitStack() as opened:
        video = opened.enter_context(VideoReader(source.path))
        for number, picture in enumerate(video.frames(FPS)):
            if number >= last:
                break
            if number < first:
                continue
            if writer is None:
                height, width = (side // 2 * 2 for side in picture.shape[:2])
                speech = Speech(whole.waveform[ends], whole.rate)
                writer = opened.enter_context(
                    VideoWriter(piece, fps=FPS, width=width, height=height, speech=speech, crf=1)
                )
            writer.write(picture[:height, :width])
    if writer is None:
        raise SemibodyError(
            f"{source.path}: ends before second {source.start:g}; correct the list, or download it again"
        )


def _one(path: Path, name: str, out: Path, gesture: Gesture) -> None:
    speech = read_speech(path)
    crop: Crop | None = None
    write_speech(out / f"{name}.wav", speech)
    with (
        VideoReader(path) as video,
        VideoWriter(out / f"{name}.mp4", fps=FPS, width=SIDE, height=SIDE, speech=speech, crf=12) as writer,
    ):
        for picture in video.frames(FPS):
            if crop is None:
                crop = _crop_of(gesture, *picture.shape[:2])
                save_gesture(crop.gesture(gesture), out / f"{name}.gesture.npz")
                write_image(out / f"{name}.png", _square_of(picture, crop))
            writer.write(_square_of(picture, crop))


def _crop_of(gesture: Gesture, height: int, width: int) -> Crop:
    crop = emtd_crop(gesture.joints, gesture.confidence, width, height)
    if crop is None:
        raise SemibodyError(f"{gesture.name or 'the clip'}: shows no half body with a face; leave it out")
    return crop


def _square_of(picture: Picture, crop: Crop) -> Picture:
    return resize_image(crop.apply(picture, "black"), SIDE, SIDE)
