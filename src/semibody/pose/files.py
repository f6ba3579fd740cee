"""Gesture files of all formats: ``load_gesture`` reads, ``save_gesture`` writes.

``.npz`` is our own, ``.json`` OpenPose's, mmpose's or COCO-WholeBody's, a folder the published set of
``.npy`` files or a JSON file a frame. ``pose.formats`` has a module for each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from semibody.files import exists, printable, read_json
from semibody.pose.formats import openpose, own, published, wholebody
from semibody.pose.formats.published import pose_from_official, pose_to_official, read_official
from semibody.pose.formats.reading import (
    NOTHING,
    OFFICIAL_FPS,
    Found,
    Size,
    Stated,
    assemble,
    in_order,
    left_out,
    number_in,
    require_aspect,
    require_somebody,
)
from semibody.types import Gesture, Pose, SemibodyError

__all__ = [
    "OFFICIAL_FPS",
    "Stated",
    "load_gesture",
    "pose_from_official",
    "pose_to_official",
    "read_official",
    "save_gesture",
]

_VIDEOS = frozenset({".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v"})
_KINDS = "give a folder of .npy poses, an .npz file, OpenPose or COCO-WholeBody JSON, or a name"


def load_gesture(path: Path | str, stated: Stated = NOTHING) -> Gesture:
    """Read a gesture of any format, one person's, short gaps filled, in fractions of the picture.

    ``stated``: frame rate, picture size and person as the user states them; they replace the file's. The
    gesture's ``notices`` list what was left out, filled in or assumed. Raises SemibodyError, naming the
    file, for anything missing, damaged, of wrong shape or not finite.
    """
    found = _read(Path(path))
    # Gestures of our own may be hidden ones; from elsewhere that is a detection that failed.
    return assemble(found if Path(path).suffix == ".npz" else require_somebody(found), stated)


def _read(path: Path) -> Found:
    if not exists(path):
        raise SemibodyError(f"{printable(path)}: no such gesture; {_KINDS}")
    if path.is_dir():
        if published.has_poses(path) or not any(path.glob("*.json")):
            return published.read_folder(path)
        return _read_json_folder(path)
    if path.suffix.lower() in _VIDEOS:
        raise SemibodyError(f"{path}: is a video; take its poses with `semibody gesture extract {path.name}`")
    if path.suffix.lower() == ".zip":
        raise SemibodyError(f"{path}: is an archive; unpack it and give the folder of poses")
    readers = {".npz": own.read, ".npy": published.read_file, ".json": _read_json_file}
    if path.suffix not in readers:
        raise SemibodyError(f"{path}: not a gesture; {_KINDS}")
    return readers[path.suffix](path)


def save_gesture(gesture: Gesture, path: Path | str) -> None:
    """Write a gesture, all or nothing: ``.npz``, ``.json`` (OpenPose), or a new folder of ``.npy`` poses.

    Only ``.npz`` and ``.json`` hold frame rate and aspect; the published format is at 24 frames per
    second and square. Raises SemibodyError where a folder already exists.
    """
    path = Path(path)
    if path.suffix == ".npz":
        own.write(gesture, path)
    elif path.suffix == ".json":
        openpose.write(gesture, path)
    elif path.suffix == "":
        published.write(gesture, path)
    else:
        raise SemibodyError(f"{path}: a gesture is written as .npz, .json or a folder of .npy poses")


# -- JSON, whose formats differ in content only --------------------------------------------

_JSON = "give OpenPose or COCO-WholeBody JSON"


def _read_json_file(path: Path) -> Found:
    content = read_json(path, _JSON)
    frames, size = _frames_of(content, str(path))
    facts = content if isinstance(content, dict) else {}
    fps, aspect = facts.get("fps"), facts.get("aspect")
    return Found(
        source=str(path),
        frames=frames,
        unit="pixels",
        fps=None if fps is None else number_in(fps, "'fps'", str(path)),
        size=size,
        aspect=None
        if aspect is None
        else require_aspect(number_in(aspect, "'aspect'", str(path)), str(path)),
        name=path.stem,
    )


def _read_json_folder(folder: Path) -> Found:
    """A file a frame, in the order of the numbers in their names."""
    files = in_order(folder.glob("*.json"))
    frames: list[list[Pose]] = []
    size: Size | None = None
    for file in files:
        content = read_json(file, _JSON)
        # mmpose's file of a picture without people is an empty list.
        found, named = _frames_of(content, str(file)) if content != [] else ([[]], None)
        frames += found
        size = size or named
    notices = tuple(left_out(folder, files, "JSON poses"))
    return Found(
        source=str(folder), frames=frames, unit="pixels", size=size, name=folder.name, notices=notices
    )


def _frames_of(content: Any, source: str) -> tuple[list[list[Pose]], Size | None]:
    """All people of every frame, and the picture's size where the file gives it."""
    if wholebody.is_frames(content):
        return wholebody.frames_of(content, source), wholebody.size_of(content, source)
    # Some tools write a list of frames, others one frame.
    frames = content.get("frames", [content]) if isinstance(content, dict) else content
    if not isinstance(frames, list) or not frames:
        raise SemibodyError(f"{source}: holds no frames; {_JSON}")
    people = [openpose.people_of(frame, f"{source}, frame {i}") for i, frame in enumerate(frames)]
    size = openpose.canvas_of(content, source) or openpose.canvas_of(frames[0], source)
    return people, size
