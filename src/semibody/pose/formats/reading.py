"""Common to all formats of poses: which person to take, units of the numbers, limits of plausible ones.

found = Found(source="clip.json", frames=people_of_every_frame, fps=None, size=(1280, 720))
gesture = assemble(found, Stated(fps=25.0))
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from semibody.pose.body import anchor
from semibody.pose.timing import fill_short_gaps
from semibody.types import N_JOINTS, Floats, Gesture, Pose, SemibodyError

OFFICIAL_FPS = 24.0
"""Poses a second of the published sets, and of files that do not give them."""
FPS_RANGE = (0.1, 1000.0)
ASPECT_RANGE = (0.05, 20.0)
"""Width / height of the picture poses refer to."""
LONGEST_SECONDS = 4 * 3600
"""A gesture longer than this is refused as a mistake, before it fills the memory."""
MOST_PEOPLE = 200
"""People in one frame."""
_FARTHEST_JOINT = 1e4
"""Pictures from the picture's corner; beyond it a joint is damaged."""
_HIGHEST_CONFIDENCE = 1e4
_PIXELS = 4.0
"""Half of a person's joints lie this many pictures from the corner only if they are in pixels."""
_SAME_PERSON = 0.3
"""Share of the picture that a person may move between two frames."""
_LONGEST_ABSENCE = 48
"""Frames after which a person who comes back counts as another."""
_USUAL_SIZES = (
    (640, 360), (640, 480), (512, 512), (480, 640), (768, 432), (432, 768), (768, 768), (854, 480),
    (1024, 1024), (1280, 720), (720, 1280), (1080, 1080), (1920, 1080), (1080, 1920), (2560, 1440),
    (1440, 2560), (3840, 2160), (2160, 3840),
)  # fmt: skip
"""Sizes of pictures that are common, for pixels of a picture of unknown size."""

Size = tuple[float, float]
"""Width and height in pixels."""


@dataclass(frozen=True, kw_only=True)
class Stated:
    """What the user states about poses; it replaces what their file gives."""

    fps: float | None = None
    """poses a second"""
    canvas: Size | None = None
    """width and height in pixels of the picture the poses were found in"""
    person: int | None = None
    """which of several people to take, in the file's order; None: the one with the highest confidence"""

    def __post_init__(self) -> None:
        if self.fps is not None:
            require_fps(self.fps, "the gesture")
        if self.canvas is not None:
            require_size(self.canvas, "the gesture")
        if self.person is not None and self.person < 0:
            raise SemibodyError(f"person {self.person} of the gesture must be 0 or more; count from 0")


NOTHING = Stated()


@dataclass(frozen=True, kw_only=True)
class Found:
    """Poses as a file holds them."""

    source: str
    """for messages"""
    frames: Sequence[Sequence[Pose]]
    """every person of every frame, in the file's own order"""
    unit: Literal["pictures", "pixels"] = "pictures"
    """unit of the format's coordinates; files may differ from it"""
    fps: float | None = None
    size: Size | None = None
    """of the picture in pixels"""
    aspect: float | None = None
    name: str = ""
    notices: tuple[str, ...] = ()


def require_somebody(found: Found) -> Found:
    """What was found, unless it is nobody in any frame: raises SemibodyError, naming the file."""
    if found.frames and not any(pose.confidence.any() for people in found.frames for pose in people):
        raise SemibodyError(f"{found.source}: shows nobody in any frame; detect the poses again")
    return found


def assemble(found: Found, stated: Stated = NOTHING) -> Gesture:
    """One person's gesture, in fractions of the picture, short gaps filled.

    Raises SemibodyError, naming the file, for numbers that cannot be poses, for pixels of a
    picture of unknown size, and for a person who is not in the file.
    """
    fps = require_fps(stated.fps or found.fps or OFFICIAL_FPS, found.source)
    if not found.frames:
        raise SemibodyError(f"{found.source}: holds no frames; give a file with poses")
    if len(found.frames) / fps > LONGEST_SECONDS:
        raise SemibodyError(
            f"{found.source}: {len(found.frames)} poses at {fps:g} a second are longer than "
            f"{LONGEST_SECONDS // 3600} hours; state the true rate with --gesture-fps, or cut it"
        )
    notices = [*found.notices]
    frames, aspect = _to_fractions(found, stated, notices)
    poses = _one_person(frames, stated.person, found.source, notices)
    joints, confidence = (
        np.stack([getattr(pose, key) for pose in poses]) for key in ("joints", "confidence")
    )
    _require_measured(found.source, joints, confidence)
    filled = fill_short_gaps(joints, confidence, fps)
    if filled:
        notices.append(f"{filled} hand poses were missing and are filled in from those around them")
    return Gesture(joints, confidence, fps, aspect, found.name, tuple(notices))


# -- units ---------------------------------------------------------------------------------


def _to_fractions(found: Found, stated: Stated, notices: list[str]) -> tuple[list[list[Pose]], float]:
    """All people in fractions of the picture, and the picture's aspect."""
    size = stated.canvas or found.size
    if _in_pixels(found):
        size = require_size(size or _guessed_size(found, notices), found.source)
        frames = [[_scaled(pose, size) for pose in people] for people in found.frames]
    else:
        frames = [list(people) for people in found.frames]
    aspect = None if stated.canvas else found.aspect
    if aspect is None:
        aspect = size[0] / size[1] if size else 1.0
    return frames, require_aspect(aspect, found.source)


def _seen_joints(found: Found) -> Floats:
    """(n, 2), of all people."""
    seen = [pose.joints[pose.confidence > 0] for people in found.frames for pose in people]
    return np.concatenate([*seen, np.zeros((0, 2))])


def _in_pixels(found: Found) -> bool:
    farthest = np.abs(_seen_joints(found)).max(axis=1)
    if not len(farthest):
        return found.unit == "pixels"
    # Some tools write fractions in formats whose unit is pixels, and the other way round.
    return bool((farthest.max() if found.unit == "pixels" else np.median(farthest)) > _PIXELS)


def _scaled(pose: Pose, size: Size) -> Pose:
    return Pose(pose.joints / size, pose.confidence)


def _guessed_size(found: Found, notices: list[str]) -> Size:
    """The smallest common picture that holds nearly all joints.

    Raises SemibodyError where the format counts in fractions, and where no picture is large enough.
    """
    example = "--gesture-canvas 1280x720"
    if found.unit != "pixels":
        raise SemibodyError(
            f"{found.source}: is in pixels where fractions of the picture are expected; "
            f"state the picture's size, for example {example}"
        )
    seen = _seen_joints(found)
    reach = np.percentile(seen, 98, axis=0) if len(seen) else np.ones(2)
    fitting = [size for size in _USUAL_SIZES if (reach <= size).all()]
    if not fitting:
        raise SemibodyError(
            f"{found.source}: does not give the size of its picture; state it, for example {example}"
        )
    width, height = min(fitting, key=lambda size: size[0] * size[1])
    notices.append(
        f"{found.source}: does not give the size of its picture; {width} x {height} is assumed, "
        f"state another as in {example}"
    )
    return float(width), float(height)


# -- people --------------------------------------------------------------------------------


@dataclass
class _Track:
    """One person over time."""

    poses: dict[int, Pose]
    last: Floats

    @property
    def seen(self) -> float:
        return sum(float(pose.confidence.clip(0, 1).mean()) for pose in self.poses.values())


def _one_person(
    frames: Sequence[Sequence[Pose]], person: int | None, source: str, notices: list[str]
) -> list[Pose]:
    most = max(len(people) for people in frames)
    if most > MOST_PEOPLE:
        raise SemibodyError(f"{source}: holds {most} people in one frame; give poses of one person")
    if most <= 1:
        if person:
            raise SemibodyError(f"{source}: holds one person, number 0, and no number {person}")
        return [people[0] if people else Pose.empty() for people in frames]
    tracks = _follow(frames)
    if person is None:
        crowds = sum(len(people) > 1 for people in frames)
        notices.append(
            f"{crowds} of {len(frames)} poses hold several people (up to {most}): the one with the highest "
            "confidence was taken; choose with --person"
        )
        chosen = max(tracks, key=lambda track: track.seen)
    elif person < len(tracks):
        chosen = tracks[person]
    else:
        raise SemibodyError(f"{source}: holds {len(tracks)} people and no number {person}; count from 0")
    return [chosen.poses.get(frame, Pose.empty()) for frame in range(len(frames))]


def _follow(frames: Sequence[Sequence[Pose]]) -> list[_Track]:
    """All people over time, in the order of appearance: the nearest in the next frame is the same person."""
    tracks: list[_Track] = []
    for frame, people in enumerate(frames):
        places = [anchor(pose) for pose in people]
        present = [track for track in tracks if frame - max(track.poses) <= _LONGEST_ABSENCE]
        pairs = sorted(
            (float(np.hypot(*(place - track.last))), order, number)
            for order, track in enumerate(present)
            for number, place in enumerate(places)
        )
        matched: dict[int, _Track] = {}
        for distance, order, number in pairs:
            track = present[order]
            if distance <= _SAME_PERSON and number not in matched and frame not in track.poses:
                matched[number] = track
                track.poses[frame], track.last = people[number], places[number]
        for number, pose in enumerate(people):
            if number not in matched:
                tracks.append(_Track({frame: pose}, places[number]))
    return tracks


# -- implausible numbers ------------------------------------------------------------------------


def number_in(value: Any, what: str, source: str) -> float:
    """A finite number of a file. Raises SemibodyError."""
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300:
        return float(value)
    raise SemibodyError(f"{source}: {what} is not a number")


def require_fps(fps: float, source: str) -> float:
    low, high = FPS_RANGE
    if not low <= fps <= high:
        raise SemibodyError(
            f"{source}: {fps:g} poses a second are not from {low:g} to {high:g}; "
            "state the true rate with --gesture-fps"
        )
    return float(fps)


def require_aspect(aspect: float, source: str) -> float:
    low, high = ASPECT_RANGE
    if not low <= aspect <= high:
        raise SemibodyError(
            f"{source}: a picture {aspect:g} times as wide as high is not from {low:g} to {high:g}; "
            "state its size with --gesture-canvas"
        )
    return float(aspect)


def require_size(size: Size, source: str) -> Size:
    width, height = size
    if not (1 <= width <= 1e5 and 1 <= height <= 1e5):
        raise SemibodyError(
            f"{source}: a picture of {width:g} x {height:g} pixels is impossible; state its size"
        )
    require_aspect(width / height, source)
    return width, height


def _require_measured(source: str, joints: Floats, confidence: Floats) -> None:
    require_finite(source, joints, confidence)
    far = np.argwhere(np.abs(joints) > _FARTHEST_JOINT)
    if len(far):
        raise SemibodyError(
            f"{source}: joint {far[0][1]} of pose {far[0][0]} lies far outside any picture; "
            "detect this pose again"
        )
    if np.abs(confidence).max() > _HIGHEST_CONFIDENCE:
        raise SemibodyError(f"{source}: holds confidences up to {confidence.max():g}; they go from 0 to 1")


def require_finite(source: Path | str, *arrays: Floats) -> None:
    """Raise SemibodyError if a joint is not a number."""
    for array in arrays:
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            joint = int(bad[0][-2] if array.ndim > 1 and array.shape[-1] == 2 else bad[0][-1])
            raise SemibodyError(
                f"{source}: joint {joint % N_JOINTS} is not a number (NaN); detect this pose again"
            )


def shaped(array: Floats, shape: tuple[int, ...], key: str, source: str) -> Floats:
    if array.shape != shape:
        raise SemibodyError(f"{source}: '{key}' has shape {array.shape}, not {shape}")
    return array


def left_out(folder: Path, read: Iterable[Path], what: str) -> Iterator[str]:
    """A notice of the files of a folder that are not ``read``; hidden ones are ignored."""
    known = set(read)
    others = sorted(p.name for p in folder.iterdir() if p not in known and not p.name.startswith("."))
    if others:
        files = f"{others[0]} is" if len(others) == 1 else f"{others[0]} and {len(others) - 1} more are"
        yield f"{folder}: {files} left out, not {what}"


def in_order(files: Iterable[Path]) -> list[Path]:
    """Files in the order of the numbers in their names. Raises SemibodyError for the same number twice."""

    def key(file: Path) -> tuple[str | int, ...]:
        parts = re.split(r"([0-9]{1,18})", file.stem)
        return tuple(int(part) if number % 2 else part for number, part in enumerate(parts))

    ordered = sorted(((key(file), file) for file in files), key=lambda pair: pair[0])
    for (one, first), (other, second) in itertools.pairwise(ordered):
        if one == other:
            raise SemibodyError(f"{second}: has the same number as {first.name}; remove one of them")
    return [file for _, file in ordered]


def mapping(value: Any) -> Mapping[str, Any]:
    """``value`` if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}
