"""Gesture files: the published folder of pickled ``.npy`` frames, our own ``.npz``, OpenPose JSON.

``load_gesture`` reads any of them and ``save_gesture`` writes any: a name that ends in ``.npz`` is ours,
in ``.json`` OpenPose's, and a folder the published set.

A ``.npz`` of ours holds ``joints`` (f, 128, 2), ``confidence`` (f, 128), ``fps``, ``aspect`` and
``version``; it is read without pickle. A published ``.npy`` is a pickle, and a pickle can run code:
it is read by an unpickler that knows arrays, numbers, strings and containers, and refuses the rest.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import secrets
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format

from semibody.media import atomic_write
from semibody.types import (
    BODY,
    FACE,
    HANDS,
    LEFT_HAND,
    N_BODY,
    N_FACE,
    N_JOINTS,
    RIGHT_HAND,
    Floats,
    Gesture,
    Pose,
    SemibodyError,
)

VERSION = 1
OFFICIAL_FPS = 24.0
_IN_SUBSET = 0.3
"""Score from which the published code lists a body joint in ``subset``."""

_HARMLESS = {
    (module, name)
    for module in ("numpy.core.multiarray", "numpy._core.multiarray")
    for name in ("_reconstruct", "scalar")
} | {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}
"""Everything numpy needs to rebuild arrays and numbers; nothing here can run code."""


def load_gesture(path: Path | str) -> Gesture:
    """Read a published folder of ``.npy`` frames, an ``.npz`` of ours, or OpenPose JSON (file or folder).

    The gesture's ``notices`` tell of files that were left out and of people who were not taken. Raises
    SemibodyError, naming the file, for anything missing, damaged, of wrong shape or not finite.
    """
    path = Path(path)
    if path.is_dir():
        numbered = {int(file.stem): file for file in path.glob("*.npy") if re.fullmatch(r"\d+", file.stem)}
        if numbered or not any(path.glob("*.json")):
            return _load_folder(path, numbered)
        return _load_json_folder(path)
    if not path.exists():
        raise SemibodyError(f"{path}: no such gesture; give a folder of .npy poses, an .npz file or a name")
    if path.suffix == ".npz":
        return _load_npz(path)
    if path.suffix == ".npy":
        return Gesture.from_poses([load_official_pose(path)], OFFICIAL_FPS, name=path.stem)
    if path.suffix == ".json":
        return _load_json(path)
    raise SemibodyError(f"{path}: not a gesture; give a folder of .npy poses, an .npz file or a name")


def save_gesture(gesture: Gesture, path: Path | str) -> None:
    """Write a gesture, all or nothing: ``.npz``, ``.json`` (OpenPose), or a new folder of ``.npy`` poses.

    Only ``.npz`` and ``.json`` hold frame rate and aspect; the published format is at 24 frames per
    second and square. Raises SemibodyError where a folder already exists.
    """
    path = Path(path)
    if path.suffix == ".npz":
        _save_npz(gesture, path)
    elif path.suffix == ".json":
        _save_json(gesture, path)
    elif path.suffix == "":
        _save_folder(gesture, path)
    else:
        raise SemibodyError(f"{path}: a gesture is written as .npz, .json or a folder of .npy poses")


def _save_npz(gesture: Gesture, path: Path) -> None:
    with atomic_write(path) as unfinished, unfinished.open("wb") as file:
        np.savez_compressed(
            file,
            joints=gesture.joints,
            confidence=gesture.confidence,
            fps=np.float64(gesture.fps),
            aspect=np.float64(gesture.aspect),
            version=np.int64(VERSION),
        )


def _load_npz(path: Path) -> Gesture:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: np.asarray(file[key]) for key in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise SemibodyError(f"{path}: not a gesture file that can be read ({_first_line(error)})") from None
    for key in ("joints", "confidence", "fps"):
        if key not in arrays:
            raise SemibodyError(f"{path}: is an .npz without '{key}'; not a gesture written by Semibody")
    if int(arrays.get("version", np.array(VERSION))) > VERSION:
        raise SemibodyError(f"{path}: written by a newer Semibody; update this one")
    try:
        gesture = Gesture(
            arrays["joints"].astype(np.float64),
            arrays["confidence"].astype(np.float64),
            float(arrays["fps"]),
            float(arrays.get("aspect", np.array(1.0))),
            path.stem,
        )
    except (ValueError, TypeError) as error:
        raise SemibodyError(f"{path}: {_first_line(error)}") from None
    _require_finite(path, gesture.joints, gesture.confidence)
    return gesture


def _load_folder(folder: Path, files: Mapping[int, Path]) -> Gesture:
    if not files:
        raise SemibodyError(f"{folder}: holds no poses named 0.npy, 1.npy, …; choose another folder")
    missing = sorted(set(range(min(files), max(files) + 1)) - files.keys())
    if missing:
        raise SemibodyError(
            f"{folder}: pose {missing[0]}.npy is missing ({len(missing)} in all); copy it again"
        )
    poses, people = [], []
    for number in sorted(files):
        value = read_official(files[number])
        poses.append(pose_from_official(value, str(files[number])))
        people.append(len(value["hands"]) // 2)
    notices = (*_left_out(folder, files.values(), "poses named 0.npy, 1.npy, …"), *_crowded(people))
    return Gesture.from_poses(poses, OFFICIAL_FPS, name=folder.name, notices=notices)


def _left_out(folder: Path, read: Iterable[Path], what: str) -> Iterator[str]:
    """A notice of the files of a folder that are not ``read``; hidden ones are nobody's concern."""
    known = set(read)
    others = sorted(p.name for p in folder.iterdir() if p not in known and not p.name.startswith("."))
    if others:
        files = f"{others[0]} is" if len(others) == 1 else f"{others[0]} and {len(others) - 1} more are"
        yield f"{folder}: {files} left out, not {what}"


def _crowded(people: Sequence[int]) -> Iterator[str]:
    """A notice of frames with several people, given their number in each frame."""
    crowds = sum(count > 1 for count in people)
    if crowds:
        yield (
            f"{crowds} of {len(people)} poses hold several people (up to {max(people)}): "
            "the first of each was taken"
        )


def load_official_pose(path: Path) -> Pose:
    """Read one published pose file. Of several people the first body, face and pair of hands is taken."""
    return pose_from_official(read_official(path), str(path))


def read_official(path: Path) -> dict[str, Any]:
    """The dict in a published pose file, read by the restricted unpickler."""
    try:
        with path.open("rb") as file:
            version = npy_format.read_magic(file)
            header = (
                npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
            )
            shape, _, dtype = header(file)
            if dtype != np.dtype(object) or shape != ():
                raise SemibodyError(f"{path}: holds a plain array, not the pose of a frame")
            content = _ArrayUnpickler(io.BytesIO(file.read()), path).load()
    except SemibodyError:
        raise
    except Exception as error:  # a damaged pickle may fail in any way
        raise SemibodyError(f"{path}: not a pose file that can be read ({_first_line(error)})") from None
    value = content.item() if isinstance(content, np.ndarray) and content.shape == () else content
    if not isinstance(value, dict):
        raise SemibodyError(f"{path}: holds a {type(value).__name__}, not the pose of a frame")
    return value


class _ArrayUnpickler(pickle.Unpickler):
    """Builds arrays, numbers, strings and containers; refuses everything else by name."""

    def __init__(self, file: io.BytesIO, path: Path) -> None:
        super().__init__(file)
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _HARMLESS:
            return super().find_class(module, name)
        raise SemibodyError(
            f"{self._path}: asks to load {module}.{name}, which a pose file must not; do not use this file"
        )

    def persistent_load(self, pid: Any) -> Any:  # noqa: ARG002 - pickle's signature
        raise SemibodyError(f"{self._path}: refers to outside objects, which a pose file must not")


def pose_from_official(value: Mapping[str, Any], source: str, person: int = 0) -> Pose:
    """The Pose of one person in a published dict.

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
        pose.joints[BODY] = _shaped(candidate, (18, 2), "candidate", source)
        pose.confidence[BODY] = _shaped(_row(body, "score", person, source), (18,), "score", source)
    if "faces" in value and "faces_score" in value:
        pose.joints[FACE] = _shaped(_row(value, "faces", person, source), (68, 2), "faces", source)
        score = _row(value, "faces_score", person, source)
        pose.confidence[FACE] = _shaped(score, (68,), "faces_score", source)
    _require_finite(source, pose.joints, pose.confidence)
    return pose


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
        "draw_pose_params": [768, 768, 0, 768, 0, 768],
    }


def _save_folder(gesture: Gesture, folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SemibodyError(f"{folder}: already exists; choose another folder or remove it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.unfinished")
    unfinished.mkdir()
    try:
        for number in range(len(gesture)):
            content = np.empty((), dtype=object)
            content[()] = pose_to_official(gesture[number], number)
            # The format is pickle by definition; writing one runs nothing.
            np.save(unfinished / f"{number}.npy", content, allow_pickle=True)
        if folder.exists():
            folder.rmdir()
        unfinished.replace(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


# -- OpenPose JSON -------------------------------------------------------------------------

_OPENPOSE_FACE = 70
"""OpenPose's face has two points more, the pupils: they are left empty."""
_BODY_25 = (*range(8), 9, 10, 11, 12, 13, 14, 15, 16, 17, 18)
"""Where the 18 body joints stand among OpenPose's 25 (number 8 there is the middle of the hips)."""


def _save_json(gesture: Gesture, path: Path) -> None:
    """One file: ``canvas_width``, ``canvas_height`` and for each frame OpenPose's ``people`` in pixels."""
    height = 1024
    width = max(1, round(height * gesture.aspect))
    frames = [_openpose_frame(gesture[i], width, height) for i in range(len(gesture))]
    content = {
        "version": 1.3, "fps": gesture.fps, "aspect": gesture.aspect,
        "canvas_width": width, "canvas_height": height, "frames": frames,
    }  # fmt: skip
    with atomic_write(path) as unfinished:
        unfinished.write_text(json.dumps(content), encoding="utf-8")


def _openpose_frame(pose: Pose, width: int, height: int) -> dict[str, Any]:
    def flat(part: slice, padding: int = 0) -> list[float]:
        points = np.column_stack([pose.joints[part] * (width, height), pose.confidence[part]])
        return [*points.ravel().tolist(), *([0.0] * (3 * padding))]

    person = {
        "pose_keypoints_2d": flat(BODY),
        "face_keypoints_2d": flat(FACE, _OPENPOSE_FACE - N_FACE),
        "hand_left_keypoints_2d": flat(LEFT_HAND),
        "hand_right_keypoints_2d": flat(RIGHT_HAND),
    }
    return {"people": [person]}


def _load_json(path: Path) -> Gesture:
    content = _read_json(path)
    frames = content.get("frames", [content])
    if not isinstance(frames, list) or not frames:
        raise SemibodyError(f"{path}: holds no frames; give OpenPose JSON")
    size = _canvas(content, frames[0])
    poses = [_pose_from_openpose(frame, size, f"{path}, frame {i}") for i, frame in enumerate(frames)]
    notices = tuple(_crowded([len(frame["people"]) for frame in frames]))
    try:
        fps = float(content.get("fps", OFFICIAL_FPS))
        aspect = float(content.get("aspect", size[0] / size[1]))
        return Gesture.from_poses(poses, fps, aspect, path.stem, notices)
    except (TypeError, ValueError) as error:
        raise SemibodyError(f"{path}: {_first_line(error)}") from None


def _load_json_folder(folder: Path) -> Gesture:
    """OpenPose's own output: a file a frame, in the order of the names."""
    files = sorted(folder.glob("*.json"), key=lambda file: (len(file.stem), file.stem))
    frames = [_read_json(file) for file in files]
    size = _canvas(frames[0], frames[0])
    poses = [_pose_from_openpose(frame, size, str(file)) for frame, file in zip(frames, files, strict=True)]
    crowded = _crowded([len(frame["people"]) for frame in frames])
    notices = (*_left_out(folder, files, "OpenPose JSON"), *crowded)
    return Gesture.from_poses(poses, OFFICIAL_FPS, size[0] / size[1], folder.name, notices)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise SemibodyError(f"{path}: not JSON that can be read ({_first_line(error)})") from None
    # Some tools write a list of frames, others one frame.
    content = {"frames": content} if isinstance(content, list) else content
    if not isinstance(content, dict):
        raise SemibodyError(f"{path}: holds no OpenPose poses")
    return content


def _canvas(*contents: Any) -> tuple[float, float]:
    """Width and height that pixels refer to; 1 x 1 where a file says nothing: fractions already."""
    for content in contents:
        if isinstance(content, dict) and content.get("canvas_width") and content.get("canvas_height"):
            return float(content["canvas_width"]), float(content["canvas_height"])
    return 1.0, 1.0


def _pose_from_openpose(frame: Any, size: tuple[float, float], source: str) -> Pose:
    people = frame.get("people") if isinstance(frame, dict) else None
    if not isinstance(people, list):
        raise SemibodyError(f"{source}: has no 'people'; not OpenPose JSON")
    pose = Pose.empty()
    if not people:
        return pose
    person = people[0]
    for key, part in (
        ("pose_keypoints_2d", BODY),
        ("face_keypoints_2d", FACE),
        ("hand_left_keypoints_2d", LEFT_HAND),
        ("hand_right_keypoints_2d", RIGHT_HAND),
    ):
        points = _triples(person.get(key) if isinstance(person, dict) else None, key, source)
        if len(points) == 25 and part is BODY:
            points = points[list(_BODY_25)]
        count = part.stop - part.start
        if len(points) == 0:
            continue
        if len(points) < count:
            raise SemibodyError(f"{source}: '{key}' holds {len(points)} points, not {count}")
        pose.joints[part] = points[:count, :2] / size
        pose.confidence[part] = points[:count, 2]
    _require_finite(source, pose.joints, pose.confidence)
    if size == (1.0, 1.0) and pose.joints.max() > 4:
        raise SemibodyError(f"{source}: is in pixels but says no canvas_width and canvas_height; add them")
    return pose


def _triples(values: Any, key: str, source: str) -> Floats:
    try:
        return np.asarray(values or [], dtype=np.float64).reshape(-1, 3)
    except (TypeError, ValueError):
        raise SemibodyError(f"{source}: '{key}' is not a list of x, y, confidence") from None


def _array(value: Mapping[str, Any], key: str, source: str) -> Floats:
    if not isinstance(value, Mapping) or key not in value:
        raise SemibodyError(f"{source}: has no '{key}'; not a pose file of the published format")
    try:
        return np.asarray(value[key], dtype=np.float64)
    except (TypeError, ValueError):
        raise SemibodyError(f"{source}: '{key}' holds no numbers") from None


def _row(value: Mapping[str, Any], key: str, person: int, source: str) -> Floats:
    array = _array(value, key, source)
    if array.ndim == 0 or len(array) <= person:
        raise SemibodyError(f"{source}: '{key}' has shape {array.shape}: nothing of person {person}")
    return np.asarray(array[person])


def _shaped(array: Floats, shape: tuple[int, ...], key: str, source: str) -> Floats:
    if array.shape != shape:
        raise SemibodyError(f"{source}: '{key}' has shape {array.shape}, not {shape}")
    return array


def _require_finite(source: Path | str, *arrays: Floats) -> None:
    for array in arrays:
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            joint = int(bad[0][-2] if array.ndim > 1 and array.shape[-1] == 2 else bad[0][-1])
            raise SemibodyError(
                f"{source}: joint {joint % N_JOINTS} is not a number (NaN); detect this pose again"
            )


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
