"""Poses of a whole video: one person tracked, left and right hands kept apart, gaps filled, jitter smoothed.

``extract`` reads a video and keeps its detections in small files beside the result, so that a stopped run
continues where it was. ``clean`` is pure: it turns raw detections into a Gesture.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from semibody.files import read_json, read_npz
from semibody.media import VideoReader
from semibody.pose.body import SEEN, USUAL_SHOULDERS, anchor, face_seen, shoulder_width
from semibody.pose.detectors import Detector, open_detector
from semibody.pose.timing import fill_short_gaps
from semibody.types import (
    LEFT_HAND,
    N_JOINTS,
    RIGHT_HAND,
    Floats,
    Gesture,
    Picture,
    Pose,
    Progress,
    SemibodyError,
    silent,
)

CHUNK = 240
"""Frames in each file of a run that may be resumed."""
_LARGEST_CHUNK = 8 * CHUNK * (3 * N_JOINTS + 1) + 4096
"""Bytes of such a file, unpacked."""
_LOST_SECONDS = 0.5
"""After this long without the person, detection searches the whole picture again."""
_SWAP_COST = 0.15
"""Cost of exchanging two found hands, in shoulder widths of movement."""


@dataclass(frozen=True)
class Extraction:
    """A gesture with counts of what was detected."""

    gesture: Gesture
    frames: int
    with_person: int
    with_face: int
    with_left: int
    with_right: int
    filled: int
    """hand poses that were filled in over short gaps"""
    swapped: int
    """frames in which left and right were exchanged"""
    most_people: int
    """largest number of people in one searched frame"""

    def notices(self) -> list[str]:
        """What the user should know, a line each."""
        notices = []
        gone = self.frames - self.with_person
        if self.most_people > 1:
            notices.append(
                f"{self.most_people} people in view: the largest was followed; choose with --person"
            )
        if gone:
            notices.append(
                f"the person was not in view in {gone} of {self.frames} frames; hands are empty there"
            )
        for side, count in (("left", self.with_left), ("right", self.with_right)):
            if count < 0.5 * self.with_person:
                notices.append(f"the {side} hand was found in {count} of {self.with_person} frames only")
        return notices


def detect_gesture(
    path: Path | str,
    fps: float = 24.0,
    *,
    detector: Detector | None = None,
    person: int = 0,
    smooth: float = 1.0,
    progress: Progress = silent,
) -> Gesture:
    """The gesture in a video; see ``extract``."""
    return extract(path, fps, detector=detector, person=person, smooth=smooth, progress=progress).gesture


def extract(
    path: Path | str,
    fps: float = 24.0,
    *,
    detector: Detector | None = None,
    person: int = 0,
    smooth: float = 1.0,
    keep: Path | None = None,
    progress: Progress = silent,
) -> Extraction:
    """Detect one person in every frame of a video at ``fps``, in fractions of the video's picture.

    ``person`` counts from the largest in the first frame with people. ``smooth`` 0 leaves jitter, 1 is
    the default, more is smoother. ``keep`` names a folder for unfinished work: the same call continues
    from there, and removes it at the end. Of the video only the joints (2 KB a frame) are kept in memory.
    Raises SemibodyError if the video cannot be read or no person is found.
    """
    path = Path(path)
    with contextlib.ExitStack() as stack:
        video = stack.enter_context(VideoReader(path))
        store = _Unfinished(keep, _signature(path, fps, person, detector)) if keep else None
        if store:
            stack.push(store.drop_after_mistake)
        raw: list[_Detection] = store.load() if store else []
        source = video.fps
        total = max(1, round(video.frame_count * fps / source)) if video.frame_count else 0
        opened = detector or stack.enter_context(open_detector())
        follower = _Follower(opened, person, fps)
        follower.resume(raw)
        aspect, size = 1.0, (0, 0)
        for number, frame in enumerate(video.frames(fps)):
            size = (frame.shape[1], frame.shape[0])
            aspect = size[0] / size[1]
            if number < len(raw):
                continue
            raw.append(follower.find(frame))
            progress("detect poses", number + 1, max(total, number + 1))
            if store and len(raw) % CHUNK == 0:
                store.save(raw)
            if number == 0 and not raw[0].people:
                _refuse_upside_down(path, opened, frame)
        if not raw:
            raise SemibodyError(f"{path}: holds no frame that can be read; export it again")
        if not any(found.confidence.any() for found in raw):
            raise SemibodyError(
                f"{path}: no person was found in {len(raw)} frames; "
                "the face must be visible and the person upright"
            )
    extraction = _account(raw, fps, aspect, smooth, path.stem)
    if store:
        store.remove()
    return extraction


@dataclass(frozen=True)
class _Detection:
    """A frame's raw detection: zeros where the person was not found."""

    joints: Floats
    confidence: Floats
    people: int


class _Follower:
    """Chooses a person once and tracks that person."""

    def __init__(self, detector: Detector, person: int, fps: float) -> None:
        self._detector, self._person, self._fps = detector, person, fps
        self._last: Pose | None = None
        self._lost = 0

    def resume(self, found: list[_Detection]) -> None:
        for one in found:
            if one.confidence.any():
                self._last, self._lost = Pose(one.joints, one.confidence), 0
            else:
                self._lost += 1

    def find(self, frame: Picture) -> _Detection:
        pose, people = None, 0
        if self._last is not None:
            pose = self._detector.follow(frame, self._last)
            people = 1 if pose is not None else 0
        if pose is None and (self._last is None or self._lost > _LOST_SECONDS * self._fps):
            found = self._detector.people(frame)
            people = len(found)
            pose = self._choose(found)
        if pose is None:
            self._lost += 1
            return _Detection(np.zeros((N_JOINTS, 2)), np.zeros(N_JOINTS), people)
        self._last, self._lost = pose, 0
        return _Detection(pose.joints, pose.confidence, people)

    def _choose(self, found: list[Pose]) -> Pose | None:
        if not found:
            return None
        if self._last is not None:  # after a gap: the person nearest to the last position
            was = anchor(self._last)
            return min(found, key=lambda pose: float(np.hypot(*(anchor(pose) - was))))
        if self._person < len(found):
            return found[self._person]
        raise SemibodyError(f"--person {self._person}: only {len(found)} people were found; count from 0")


def _refuse_upside_down(path: Path, detector: Detector, frame: Picture) -> None:
    if detector.people(np.ascontiguousarray(frame[::-1, ::-1])):
        raise SemibodyError(f"{path}: the person is upside down; rotate the video by 180 degrees first")


# -- from raw detections to a gesture ------------------------------------------------------


def clean(
    joints: Floats, confidence: Floats, fps: float, smooth: float, aspect: float
) -> tuple[Floats, Floats, int, int]:
    """Raw detections (f, 128, 2), (f, 128) corrected: joints, confidence, hands filled, frames swapped."""
    joints, confidence = joints.copy(), confidence.copy()
    swapped = untangle_hands(joints, confidence, aspect)
    filled = fill_short_gaps(joints, confidence, fps)
    if smooth > 0:
        points, seen = joints * (aspect, 1.0), confidence > 0
        scale = shoulder_width(points, seen) or USUAL_SHOULDERS
        joints = one_euro(points, seen, fps, smooth, scale) / (aspect, 1.0)
    return joints, confidence, filled, swapped


def untangle_hands(joints: Floats, confidence: Floats, aspect: float = 1.0) -> int:
    """Exchange left and right in place where that makes the hands move less; gives the frames changed.

    A Viterbi search over {as found, exchanged}: an exchange must save more movement than it costs.
    """
    scale = shoulder_width(joints * (aspect, 1.0), confidence > 0) or USUAL_SHOULDERS
    hands = joints[:, LEFT_HAND.start : RIGHT_HAND.stop].reshape(len(joints), 2, 21, 2)
    seen = confidence[:, [LEFT_HAND.start, RIGHT_HAND.start]] > 0
    at = hands.mean(axis=2) * (aspect, 1.0) / scale
    start = (0.0, np.full((2, 2), np.nan), np.zeros(0, bool))
    paths: list[tuple[float, Floats, Any]] = [start, start]
    for frame in range(len(joints)):
        made = []
        for exchanged in (False, True):
            order = [1, 0] if exchanged else [0, 1]
            options = []
            for cost, last, path in paths:
                move = np.hypot(*(at[frame][order] - last).T)
                step = np.nansum(np.where(seen[frame][order], np.minimum(move, 1.0), 0.0))
                now = np.where(seen[frame][order][:, None], at[frame][order], last)
                options.append((cost + step + _SWAP_COST * exchanged, now, (path, exchanged)))
            made.append(min(options, key=lambda option: option[0]))
        paths = made
    path = min(paths, key=lambda one: one[0])[2]
    exchanged_frames = []
    for frame in range(len(joints) - 1, -1, -1):
        path, exchanged = path
        if exchanged and seen[frame].any():
            exchanged_frames.append(frame)
    for array in (joints, confidence):
        left = array[exchanged_frames, LEFT_HAND].copy()
        array[exchanged_frames, LEFT_HAND] = array[exchanged_frames, RIGHT_HAND]
        array[exchanged_frames, RIGHT_HAND] = left
    return len(exchanged_frames)


def one_euro(joints: Floats, seen: Any, fps: float, strength: float, scale: float) -> Floats:
    """The One-Euro filter (Casiez et al. 2012), run forwards and backwards so that it has no lag.

    ``joints`` (f, j, 2) in one unit for both axes, ``scale`` the shoulder width in it, ``seen`` (f, j).
    Slow joints are smoothed at 2.5 Hz / ``strength``; faster ones less.
    """
    forwards = _one_euro(joints, seen, fps, strength, scale)
    backwards = _one_euro(joints[::-1], seen[::-1], fps, strength, scale)[::-1]
    return np.where(seen[..., None], (forwards + backwards) / 2, joints)


def _one_euro(joints: Floats, seen: Any, fps: float, strength: float, scale: float) -> Floats:
    slow, gain, speed_cutoff = 2.5 / strength, 3.0, 2.0

    def share(cutoff: Any) -> Any:
        return 1 / (1 + fps / (2 * math.pi * cutoff))

    out = joints.copy()
    value, speed = joints[0].copy(), np.zeros_like(joints[0])
    known = seen[0]
    for frame in range(1, len(joints)):
        raw = joints[frame]
        fresh = (seen[frame] & ~known)[:, None]
        value, speed = np.where(fresh, raw, value), np.where(fresh, 0.0, speed)
        speed += share(speed_cutoff) * ((raw - value) * fps - speed)
        pace = np.hypot(speed[:, 0], speed[:, 1])[:, None] / scale
        value += share(slow + gain * pace) * (raw - value)
        out[frame] = value
        known = seen[frame]
    return out


def _account(raw: list[_Detection], fps: float, aspect: float, smooth: float, name: str) -> Extraction:
    joints = np.stack([found.joints for found in raw])
    confidence = np.stack([found.confidence for found in raw])
    hands = confidence[:, [LEFT_HAND.start, RIGHT_HAND.start]] >= SEEN
    made, sure, filled, swapped = clean(joints, confidence, fps, smooth, aspect)
    return Extraction(
        gesture=Gesture(made, sure, fps, aspect, name),
        frames=len(raw),
        with_person=int(confidence.any(axis=1).sum()),
        with_face=int(face_seen(confidence).sum()),
        with_left=int(hands[:, 0].sum()),
        with_right=int(hands[:, 1].sum()),
        filled=filled,
        swapped=swapped,
        most_people=max(found.people for found in raw),
    )


# -- unfinished work -----------------------------------------------------------------------


def _signature(path: Path, fps: float, person: int, detector: Detector | None) -> dict[str, Any]:
    try:
        stat = path.stat()
    except OSError:
        return {}
    name = detector.name if detector else "auto"
    return {
        "video": str(path.absolute()), "bytes": stat.st_size, "changed": stat.st_mtime_ns,
        "fps": fps, "person": person, "detector": name,
    }  # fmt: skip


class _Unfinished:
    """Detections of a run that was stopped, in chunks; of another video or setting they are dropped."""

    def __init__(self, folder: Path, signature: dict[str, Any]) -> None:
        self._folder, self._signature = folder, signature

    def load(self) -> list[_Detection]:
        note = self._folder / "run.json"
        with contextlib.suppress(SemibodyError):  # nothing there, or damaged: start again
            if read_json(note, "it is made again") == self._signature:
                return list(self._chunks())
        self.remove()
        self._folder.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps(self._signature), encoding="utf-8")
        return []

    def _chunks(self) -> Iterator[_Detection]:
        for number in range(10**6):
            try:
                arrays = read_npz(self._chunk(number), "it is made again", largest=_LARGEST_CHUNK)
                joints, confidence, people = (arrays[key] for key in ("joints", "confidence", "people"))
            except (SemibodyError, KeyError):
                return
            shapes = (CHUNK, N_JOINTS, 2), (CHUNK, N_JOINTS), (CHUNK,)
            if (joints.shape, confidence.shape, people.shape) != shapes or people.dtype.kind != "i":
                return
            if joints.dtype.kind != "f" or not (np.isfinite(joints).all() and np.isfinite(confidence).all()):
                return
            yield from (_Detection(*one) for one in zip(joints, confidence, people.tolist(), strict=True))

    def save(self, found: list[_Detection]) -> None:
        """Write the newest full chunk, complete or not at all."""
        part = found[-CHUNK:]
        target = self._chunk(len(found) // CHUNK - 1)
        unfinished = target.with_suffix(".writing.npz")
        np.savez_compressed(
            unfinished,
            joints=np.stack([one.joints for one in part]),
            confidence=np.stack([one.confidence for one in part]),
            people=np.array([one.people for one in part]),
        )
        unfinished.replace(target)

    def _chunk(self, number: int) -> Path:
        return self._folder / f"{number:06d}.npz"

    def drop_after_mistake(self, kind: type[BaseException] | None, *_: object) -> None:
        """Remove the unfinished work if the video cannot be used; keep it if the run was stopped."""
        if kind is not None and issubclass(kind, SemibodyError):
            self.remove()

    def remove(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
