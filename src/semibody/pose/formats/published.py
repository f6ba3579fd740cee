"""The published format: a folder of pickled ``.npy`` files, one dict a frame.

``hands`` (2n, 21, 2) of n people, all left hands first, with ``hands_score``; ``bodies`` with ``candidate``
(18n, 2) and ``score`` (n, 18); ``faces`` (n, 68, 2) with ``faces_score``. Coordinates are fractions of a
picture of imh x imw pixels that ``draw_pose_params`` pastes into a square canvas; a Pose's are fractions
of the canvas.
"""

from __future__ import annotations

import io
import itertools
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from semibody.files import first_line, read_bytes, read_npy_header, unfinished_name
from semibody.pose.formats.pickled import LARGEST_PICKLE, read_pickle
from semibody.pose.formats.reading import (
    MOST_PEOPLE,
    OFFICIAL_FPS,
    Found,
    left_out,
    number_in,
    require_finite,
    shaped,
)
from semibody.types import BODY, FACE, HANDS, N_BODY, Floats, Gesture, Pose, SemibodyError

CANVAS = 768
"""Side in pixels of the square that the published code draws poses on."""
_IN_SUBSET = 0.3
"""Score from which the published code lists a body joint in ``subset``."""
_MOST_NUMBERS = 1_000_000
"""Numbers in an entry that is a list rather than an array."""


def read_folder(folder: Path) -> Found:
    """Frames 0.npy, 1.npy, … . Raises SemibodyError for missing or doubled numbers and damaged files."""
    files = _numbered(folder)
    if not files:
        raise SemibodyError(f"{folder}: holds no poses named 0.npy, 1.npy, …; {_instead_of(folder)}")
    numbers = sorted(files)
    missing = numbers[-1] - numbers[0] + 1 - len(numbers)
    if missing:
        gap = next(a + 1 for a, b in itertools.pairwise(numbers) if b != a + 1)
        raise SemibodyError(f"{folder}: pose {gap}.npy is missing ({missing} in all); copy it again")
    return Found(
        source=str(folder),
        frames=[read_people(files[number]) for number in numbers],
        fps=OFFICIAL_FPS,
        name=folder.name,
        notices=tuple(left_out(folder, files.values(), "poses named 0.npy, 1.npy, …")),
    )


def _instead_of(folder: Path) -> str:
    """What to give instead of a folder without poses."""
    below = [one for one in sorted(folder.glob("*/")) if has_poses(one)]
    if below:
        return f"give {' or '.join(str(one) for one in below[:3])}"
    if any(file.suffix.lower() in _PICTURES for file in folder.iterdir()):
        return "pictures are no poses: take those of the video with `semibody gesture extract`"
    return "choose another folder"


_PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp"})


def has_poses(folder: Path) -> bool:
    return any(_NUMBER.fullmatch(file.stem) for file in folder.glob("*.npy"))


_NUMBER = re.compile("[0-9]{1,12}")


def _numbered(folder: Path) -> dict[int, Path]:
    files: dict[int, Path] = {}
    for file in sorted(folder.glob("*.npy")):
        if not _NUMBER.fullmatch(file.stem):
            continue
        first = files.setdefault(int(file.stem), file)
        if first != file:
            raise SemibodyError(f"{file}: has the same number as {first.name}; remove one of them")
    return files


def read_file(path: Path) -> Found:
    """A single frame."""
    return Found(source=str(path), frames=[read_people(path)], fps=OFFICIAL_FPS, name=path.stem)


def read_people(path: Path) -> list[Pose]:
    """All people of one published file. Raises SemibodyError, naming it."""
    value = read_official(path)
    hands = _array(value, "hands", str(path))
    people = max(1, len(hands) // 2 if hands.ndim else 0)
    if people > MOST_PEOPLE:
        raise SemibodyError(f"{path}: holds {people} people; give poses of one person")
    faces = value.get("faces")
    # The published preparation keeps the first face of several people only.
    only_first = isinstance(faces, np.ndarray) and faces.ndim == 3 and len(faces) == 1
    faceless = {key: part for key, part in value.items() if key != "faces"} if only_first else value
    return [pose_from_official(faceless if person else value, str(path), person) for person in range(people)]


def read_official(path: Path) -> dict[str, Any]:
    """The dict in a published pose file, read without unpickling (``formats.pickled``)."""
    content = read_bytes(path, "give a pose file of the published format", LARGEST_PICKLE)
    file = io.BytesIO(content)
    try:
        shape, _, dtype = read_npy_header(file)
    except Exception as error:  # numpy's header is a Python literal, and may be broken in any way
        raise SemibodyError(f"{path}: not a pose file that can be read ({first_line(error)})") from None
    if dtype != np.dtype(object) or shape != ():
        raise SemibodyError(f"{path}: holds a plain array, not the pose of a frame")
    value = read_pickle(content[file.tell() :], str(path))
    if not isinstance(value, dict):
        raise SemibodyError(f"{path}: holds a {type(value).__name__}, not the pose of a frame")
    return value


def pose_from_official(value: Mapping[str, Any], source: str, person: int = 0) -> Pose:
    """The Pose of one person in a published dict, in fractions of the canvas.

    With n people ``hands`` is (2n, 21, 2): all left hands, then all right hands.
    """
    hands, hands_score = _array(value, "hands", source), _array(value, "hands_score", source)
    people = len(hands) // 2 if hands.ndim else 0
    if hands.shape != (2 * people, 21, 2) or hands_score.shape != (2 * people, 21) or person >= people:
        raise SemibodyError(
            f"{source}: hands have shape {hands.shape} and {hands_score.shape}, not (2, 21, 2)"
        )
    pose = Pose.empty()
    pair = [person, people + person]
    pose.joints[HANDS] = hands[pair].reshape(-1, 2)
    pose.confidence[HANDS] = hands_score[pair].reshape(-1)
    if "bodies" in value:
        body = value["bodies"]
        candidate = _array(body, "candidate", source)[18 * person : 18 * (person + 1)]
        pose.joints[BODY] = shaped(candidate, (18, 2), "candidate", source)
        pose.confidence[BODY] = shaped(_row(body, "score", person, source), (18,), "score", source)
    if "faces" in value and "faces_score" in value:
        pose.joints[FACE] = shaped(_row(value, "faces", person, source), (68, 2), "faces", source)
        score = _row(value, "faces_score", person, source)
        pose.confidence[FACE] = shaped(score, (68,), "faces_score", source)
    require_finite(source, pose.joints, pose.confidence)
    return _on_canvas(pose, value.get("draw_pose_params"), source)


def _on_canvas(pose: Pose, parameters: Any, source: str) -> Pose:
    """From fractions of the pasted picture to fractions of the canvas it is pasted into.

    ``draw_pose_params`` is [imh, imw, rb, re, cb, ce]: a picture of imh x imw pixels at rows rb:re and
    columns cb:ce. The canvas' side is not in the file: it is the published one, or the picture's longer
    side where the picture fills the canvas along that side, as the published preparation makes it.
    """
    if parameters is None:
        return pose
    numbers = parameters.tolist() if isinstance(parameters, np.ndarray) else parameters
    if not isinstance(numbers, list | tuple) or len(numbers) != 6:
        raise SemibodyError(f"{source}: 'draw_pose_params' are not 6 numbers; make the pose again")
    height, width, top, bottom, left, right = (
        number_in(n.item() if isinstance(n, np.generic) else n, "'draw_pose_params'", source) for n in numbers
    )
    fits = 0 < height == bottom - top and 0 < width == right - left and top >= 0 and left >= 0
    if not fits or max(bottom, right) > 1e5:
        raise SemibodyError(f"{source}: 'draw_pose_params' paste no picture into the canvas; make it again")
    longer = max(height, width)
    side = longer if (top, left) == ((longer - height) // 2, (longer - width) // 2) else CANVAS
    side = max(side, bottom, right)
    if (height, width) == (side, side):
        return pose
    corner, size = np.array([left, top]), np.array([width, height])
    return Pose((corner + pose.joints * size) / side, pose.confidence)


def pose_to_official(pose: Pose, number: int = 0) -> dict[str, Any]:
    """The published dict of a pose: the same keys, types and shapes as in the published folders."""
    score = pose.confidence[BODY][None]
    return {
        "bodies": {
            "candidate": pose.joints[BODY].copy(),
            "subset": np.where(score > _IN_SUBSET, np.arange(float(N_BODY)), -1.0),
            "score": score.copy(),
        },
        "hands": pose.joints[HANDS].reshape(2, 21, 2).copy(),
        "hands_score": pose.confidence[HANDS].reshape(2, 21).copy(),
        "faces": pose.joints[FACE][None].copy(),
        "faces_score": pose.confidence[FACE][None].copy(),
        "num": number,
        "draw_pose_params": [CANVAS, CANVAS, 0, CANVAS, 0, CANVAS],
    }


def write(gesture: Gesture, folder: Path) -> None:
    """A new folder, all or nothing. Raises SemibodyError if there is one already."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SemibodyError(f"{folder}: already exists; choose another folder or remove it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = unfinished_name(folder)
    unfinished.mkdir()
    try:
        for number in range(len(gesture)):
            content = np.empty((), dtype=object)
            content[()] = pose_to_official(gesture[number], number)
            # The format is pickle by definition; writing one runs no code.
            np.save(unfinished / f"{number}.npy", content, allow_pickle=True)
        if folder.exists():
            folder.rmdir()
        unfinished.replace(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _array(value: Any, key: str, source: str) -> Floats:
    if not isinstance(value, Mapping) or key not in value:
        raise SemibodyError(f"{source}: has no '{key}'; not a pose file of the published format")
    entry = value[key]
    try:
        if isinstance(entry, list | tuple):
            _require_few(entry, [_MOST_NUMBERS])
        return np.asarray(entry, dtype=np.float64)
    except (TypeError, ValueError, OverflowError, RecursionError):
        raise SemibodyError(f"{source}: '{key}' holds no numbers") from None


def _require_few(entry: Sequence[Any], left: list[int]) -> None:
    """Raise ValueError for too many numbers: lists may share items, so 20 nested lists can hold a million."""
    for item in entry:
        left[0] -= 1
        if left[0] < 0:
            raise ValueError("too many numbers")
        if isinstance(item, list | tuple):
            _require_few(item, left)


def _row(value: Mapping[str, Any], key: str, person: int, source: str) -> Floats:
    array = _array(value, key, source)
    if array.ndim == 0 or len(array) <= person:
        raise SemibodyError(f"{source}: '{key}' has shape {array.shape}: nothing of person {person}")
    return np.asarray(array[person])
