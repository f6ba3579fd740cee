"""Training clips from real videos: cut at scenes, tested, cropped, written with the same manifest.

A video is read twice and never held in memory. First every frame's pose is found, piece by piece between
scene cuts; a piece that fails a test of ``Wanted`` is rejected with the reason. Then the others are cut to
the square of EMTD's rule and written. Finished pieces have a file ``clips/<id>.json``
or ``rejected/<id>.json``, poses of the current video are in ``poses/<id>.npz``: a killed run continues there.

What is stored as "truth" of a real clip (boxes, jaw) is what the detector found, and ``parameters.truth`` is
"detected".
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import math
import re
import shutil
import typing
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from semibody.clips.listing import read_listing
from semibody.clips.manifest import (
    ClipEntry,
    Kind,
    read_entry,
    split_of,
    write_entry,
    write_manifest,
)
from semibody.clips.mouth import correlation, jaw_opening
from semibody.clips.truth import Truth, box_around
from semibody.data import lips, people
from semibody.data.camera import read_rotations, turn
from semibody.data.folder import disk_errors_named, filling
from semibody.data.inspect import LOUDNESS_WINDOW
from semibody.data.wanted import Wanted
from semibody.files import (
    DISK_ERRORS,
    atomic_write,
    first_line,
    foreign_failure,
    path_of,
    read_json,
    read_npz,
)
from semibody.media import VideoReader, VideoWriter, loudness, read_speech, write_speech
from semibody.pose.body import SEEN, face_found, hands_found
from semibody.pose.detectors import Detector, open_detector
from semibody.pose.files import save_gesture
from semibody.pose.frame import Crop, box_crop, emtd_crop
from semibody.pose.skeleton import LIPS
from semibody.pose.timing import runs
from semibody.pose.track import clean
from semibody.processes import Workers, may_pass, run_jobs
from semibody.types import (
    FACE,
    LEFT_HAND,
    N_JOINTS,
    RIGHT_HAND,
    Floats,
    Gesture,
    MissingPartError,
    Picture,
    Pose,
    Progress,
    SemibodyError,
    Speech,
    silent,
)

VIDEOS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".flv")

OUT_OF_SYNC = "lips do not follow the sound"
FAILED = "failed"
"""Why a video was rejected at which its process died, or something went wrong that nobody expected."""
ONE = Workers(workers=1)
_FACE = 128
"""Numbers of a face's embedding."""
_SAMPLES = 6
_FADE = 0.1
"""Seconds left out at a scene cut, where pictures may be blended."""


@dataclass(frozen=True)
class Rejection:
    """A piece, or a whole video, that was not kept: ``why`` to count by, ``detail`` with values."""

    id: str
    video: str
    start: float
    stop: float
    why: str
    detail: str


@dataclass(frozen=True)
class Account:
    """What an ingest made: the clips, what was rejected, and how often for which reason."""

    clips: list[ClipEntry]
    rejected: list[Rejection]
    unfinished: dict[str, str] = field(default_factory=dict)
    """Name of a video -> the fault of the moment that stopped it: the next run tries it again."""

    def reasons(self) -> dict[str, int]:
        """Reason → number of pieces, the most frequent first."""
        return dict(Counter(r.why for r in self.rejected).most_common())

    def as_dict(self) -> dict[str, Any]:
        return {
            "clips": len(self.clips),
            "seconds": round(sum(c.seconds for c in self.clips), 3),
            "reasons": self.reasons(),
            "rejected": [dataclasses.asdict(r) for r in self.rejected],
            "unfinished": self.unfinished,
        }


class _UnwantedError(Exception):
    """A piece fails a test: (why, detail)."""


@dataclass(frozen=True)
class Piece:
    """Seconds ``start`` to ``stop`` of a video."""

    id: str
    start: float
    stop: float


def ingest(
    videos: Path | str,
    out: Path | str,
    wanted: Wanted | None = None,
    listing: Path | str | None = None,
    cameras: Path | str | None = None,
    where: Workers = ONE,
    again: bool = False,
    progress: Progress = silent,
) -> Account:
    """Ingest a video, or every video of a folder, and write the manifest.

    ``listing`` is a published list: EMTD's table (URL, start_timecode, end_timecode) or HumanVid's addresses,
    a line each; only what it names and the folder holds is taken. ``cameras`` is a folder of the camera's
    paths, ``<video>.txt`` (HumanVid's): pieces in which it turns are rejected. ``again`` tries once more the
    videos that failed. A video that a fault of the moment stops (no memory, a network folder) is named in the
    account and tried again by the next run. Raises SemibodyError when there is nothing to ingest, ``out``
    holds a set of other settings, or the disk is full.
    """
    videos, out, wanted = Path(videos), Path(out), wanted or Wanted()
    _require_scene_detection()
    sources = find_videos(videos)
    times: dict[str, list[tuple[float, float]]] = {}
    absent: list[str] = []
    if listing is not None:
        times = read_listing(Path(listing))
        absent = sorted(times.keys() - {p.stem for p in sources.values()})
        sources = {name: p for name, p in sources.items() if p.stem in times}
        if not sources:
            raise SemibodyError(
                f"{listing}: none of its {len(times)} videos is in {videos}; download them first"
            )
    with filling(out, "ingest.json", dataclasses.asdict(wanted), added=dataclasses.asdict(Wanted())):
        if again:
            _forget_failures(out)
        jobs = [
            (str(path), name, times.get(path.stem) or None, str(out), wanted, _camera(cameras, path))
            for name, path in sources.items()
            if not (out / "videos" / f"{name}.json").exists()
        ]
        done = len(sources) - len(jobs)
        progress("videos", done, len(sources))
        unfinished: dict[str, str] = {}
        for name, fault in run_jobs(ingest_video, jobs, where, threads=2, gpu=True, given_up=_give_up):
            if fault:
                unfinished[name] = fault
            done += 1
            progress("videos", done, len(sources))
        account = _gather(out, unfinished)
        write_manifest(account.clips, out)
        with atomic_write(out / "rejected.json") as unfinished_file:
            unfinished_file.write_text(
                json.dumps(account.as_dict() | {"absent": absent}, indent=1), encoding="utf-8"
            )
    return account


def _camera(cameras: Path | str | None, video: Path) -> str | None:
    """The file of a video's camera, if there is one."""
    file = Path(cameras) / f"{video.stem}.txt" if cameras is not None else None
    return str(file) if file is not None and file.is_file() else None


def find_videos(where: Path) -> dict[str, Path]:
    """Name → file of a video or of all videos below a folder; names are made of the relative path.

    Raises SemibodyError when there is none, or two would get one name.
    """
    if where.is_file():
        return {_slug(where.stem): where}
    if not where.is_dir():
        raise SemibodyError(f"{where}: no such file or folder; give a video or a folder of videos")
    found: dict[str, Path] = {}
    for path in sorted(p for p in where.rglob("*") if p.suffix.lower() in VIDEOS and p.is_file()):
        name = _slug(path.relative_to(where).with_suffix("").as_posix())
        if name in found:
            raise SemibodyError(f"{path}: would get the same name as {found[name]}; rename one of them")
        found[name] = path
    if not found:
        raise SemibodyError(f"{where}: holds no video ({', '.join(VIDEOS)})")
    return found


def _slug(name: str) -> str:
    return re.sub(r"[^\w-]+", "_", name.replace("/", "__")).strip("_") or "video"


# --- one video ------------------------------------------------------------------------------------------


def ingest_video(
    path: str,
    name: str,
    times: Sequence[tuple[float, float]] | None,
    out: str,
    wanted: Wanted,
    camera: str | None = None,
) -> tuple[str, str]:
    """Cut, test and write one video; runs in a worker. Returns its name, and the fault of the moment that
    stopped it (empty: it is finished).

    A video that cannot be read, or at which anything else goes wrong that would go wrong again, is itself
    rejected. Only a missing detector or a full disk stop the run.
    """
    folder, source = Path(out), Path(path)
    kept, face = 0, None
    with disk_errors_named(folder):
        try:
            ids = _Video(source, name, folder, wanted).ingest(times, camera)
            kept, face = len(ids), _face_of(folder, ids)
        except MissingPartError:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in DISK_ERRORS:
                raise
            fault = first_line(error) if may_pass(error) else _unreadable_now(source)
            if fault:
                return name, fault
            if isinstance(error, SemibodyError):
                why, detail = "cannot be read", str(error)
            else:
                why, detail = FAILED, foreign_failure(error, folder / "errors.log")
            _store_rejection(folder, Rejection(name, source.name, 0, 0, why, detail))
        _record_done(folder, source, name, kept, face)
    return name, ""


def _face_of(folder: Path, ids: Sequence[str]) -> list[float] | None:
    """The face of a video's clips, where a network can tell faces apart."""
    if not ids or people.network_missing():
        return None
    face = people.face_of([folder / "clips" / f"{one}.mp4" for one in ids])
    return None if face is None else [round(float(value), 5) for value in face]


def _unreadable_now(source: Path) -> str:
    """Why the system cannot read a file's bytes, whatever they are: a disk or network folder that does not
    answer. Empty: it can."""
    try:
        with source.open("rb") as file:
            file.read(1)
    except OSError as error:
        return f"{source}: {first_line(error)}"
    return ""


def _give_up(path: str, name: str, *job: Any) -> tuple[str, str]:
    """Record a video whose worker died each time that it was begun."""
    folder, source = Path(job[1]), Path(path)
    why = (
        "its process died twice, perhaps for lack of memory; convert it again, or cut it into shorter "
        "videos, and run the command with --again"
    )
    _store_rejection(folder, Rejection(name, source.name, 0, 0, FAILED, why))
    _record_done(folder, source, name, 0)
    return name, ""


def _forget_failures(out: Path) -> None:
    """Remove the records of videos that failed, so that they are tried again."""
    for path in (out / "rejected").glob("*.json"):
        if _read_rejection(path).why == FAILED:
            path_of(out / "videos", path.stem, ".json").unlink(missing_ok=True)
            path.unlink()


def _record_done(folder: Path, source: Path, name: str, kept: int, face: list[float] | None = None) -> None:
    record = {"video": source.name, "clips": kept, **({"face": face} if face else {})}
    with atomic_write(path_of(folder / "videos", name, ".json")) as unfinished:
        unfinished.write_text(json.dumps(record), encoding="utf-8")


def _read_face(path: Path) -> NDArray[np.float32] | None:
    """The face in a video's record. Raises SemibodyError for a record that is none."""
    remedy = "delete it and run the ingest again"
    record = read_json(path, remedy)
    face = record.get("face") if isinstance(record, dict) else None
    if face is None:
        return None
    if not isinstance(face, list) or len(face) != _FACE or not all(isinstance(v, float | int) for v in face):
        raise SemibodyError(f"{path}: holds no face; {remedy}")
    return np.array(face, np.float32)


class _Video:
    """One video being ingested."""

    def __init__(self, path: Path, name: str, out: Path, wanted: Wanted) -> None:
        self._path, self._name, self._out, self._wanted = path, name, out, wanted

    def ingest(self, times: Sequence[tuple[float, float]] | None, camera: str | None) -> list[str]:
        """Returns the ids of the clips that were kept."""
        with VideoReader(self._path) as video:
            fps, seconds = video.fps, video.frame_count / video.fps
        speech = None if self._wanted.pose_only else _speech_of(self._path)
        pieces = self._pieces(times, seconds)
        if not pieces:
            shortest = f"no scene of {self._wanted.shortest:g} s in {seconds:.1f} s"
            self._reject(Piece(self._name, 0, seconds), "too short", shortest)
        if camera is not None:
            self._reject_turning(pieces, read_rotations(Path(camera)), fps)
        measure = None if self._wanted.pose_only else lips.measure_here()
        with contextlib.ExitStack() as stack:
            detector: Detector | None = None
            for piece, frames in self._frames(pieces, missing=".npz"):
                detector = detector or stack.enter_context(open_detector(self._wanted.detector))
                _save_poses(self._poses(piece), _detect(frames, detector, self._wanted.fps))
        tested = [
            (piece, self._test(piece, speech, measure)) for piece in pieces if not self._finished(piece)
        ]
        good = {piece.id: verdict for piece, verdict in tested if verdict is not None}
        for piece, frames in self._frames([p for p, v in tested if v is not None], missing=""):
            self._write(piece, good[piece.id], frames, speech, measure)
        for piece in pieces:
            self._poses(piece).unlink(missing_ok=True)
        return [piece.id for piece in pieces if (self._out / "clips" / f"{piece.id}.json").exists()]

    def _pieces(self, times: Sequence[tuple[float, float]] | None, seconds: float) -> list[Piece]:
        scenes = list(times) if times else find_scenes(self._path, seconds)
        parts = []
        for start, stop in scenes:
            if stop - start < self._wanted.shortest:
                continue
            count = 1 if times else math.ceil((stop - start) / self._wanted.longest)
            edges = np.linspace(start, stop, count + 1)
            parts += [(float(a), float(b)) for a, b in itertools.pairwise(edges)]
        return [Piece(f"{self._name}-{n:04d}", a, b) for n, (a, b) in enumerate(parts)]

    def _reject_turning(self, pieces: list[Piece], rotations: Floats, fps: float) -> None:
        """Reject the pieces in which the camera turns; ``rotations`` (f, 4) of the video's own frames."""
        for piece in pieces:
            if not self._finished(piece):
                degrees = turn(rotations[round(piece.start * fps) : round(piece.stop * fps)])
                if degrees > self._wanted.turn:
                    self._reject(piece, "the camera turns", f"by {degrees:.1f} degrees")

    def _poses(self, piece: Piece) -> Path:
        return self._out / "poses" / f"{piece.id}.npz"

    def _has_poses(self, piece: Piece) -> bool:
        """Whether whole poses of an earlier run exist."""
        with contextlib.suppress(SemibodyError):
            _load_poses(self._poses(piece))
            return True
        return False

    def _finished(self, piece: Piece) -> bool:
        return any((self._out / room / f"{piece.id}.json").exists() for room in ("clips", "rejected"))

    def _frames(self, pieces: list[Piece], missing: str) -> Iterator[tuple[Piece, Iterator[Picture]]]:
        """Each unfinished piece with the stream of its frames, in one pass over the video."""
        due = [p for p in pieces if not self._finished(p) and not (missing and self._has_poses(p))]
        due.sort(key=lambda piece: piece.start)
        fps = self._wanted.fps
        with contextlib.ExitStack() as stack:
            frames: Iterator[Picture] = iter(())
            at: int | None = None
            for piece in due:
                first, last = round(piece.start * fps), round(piece.stop * fps)
                if at is None or first < at:  # one that overlaps the piece before reads from the start again
                    stack.close()
                    frames, at = stack.enter_context(VideoReader(self._path)).frames(fps), 0
                for _ in itertools.islice(frames, first - at):
                    pass
                yield piece, itertools.islice(frames, last - first)
                at = last

    def _reject(self, piece: Piece, why: str, detail: str) -> None:
        _store_rejection(
            self._out,
            Rejection(piece.id, self._path.name, round(piece.start, 3), round(piece.stop, 3), why, detail),
        )

    def _test(self, piece: Piece, speech: Speech | None, measure: lips.Measure | None) -> _Verdict | None:
        try:
            detected = _load_poses(self._poses(piece))
            sound = _part_of(speech, piece, len(detected.joints) / self._wanted.fps)
            verdict = assess(detected, sound, self._wanted)
            if measure == "predicted" and sound is not None:
                gesture = verdict.gesture
                points, confidence = gesture.joints[:, FACE], gesture.confidence[:, FACE]
                agreed = lips.of_points(points, confidence, sound, self._wanted.fps)
                self._require_agreement(verdict, agreed)
            elif measure is None:
                self._require_agreement(verdict, None)
            return verdict
        except _UnwantedError as error:
            why, detail = error.args
            self._reject(piece, why, detail)
            return None

    def _require_agreement(self, verdict: _Verdict, agreed: lips.Agreement | None) -> None:
        """Lips and sound must agree; where that could not be measured, lips must follow the loudness. Raises
        _UnwantedError."""
        if agreed is None:
            follows = verdict.numbers.get("lips", math.inf)
            _want(follows >= self._wanted.lips, OUT_OF_SYNC, f"correlation {follows:.2f}")
            return
        detail = f"{agreed.measure}: margin {agreed.margin:.2f}, lips {agreed.late:.2f} s late"
        _want(agreed.margin >= self._wanted.sync, OUT_OF_SYNC, detail)
        verdict.numbers.update(sync_measure=agreed.measure, sync=round(agreed.margin, 3))

    def _write(
        self,
        piece: Piece,
        verdict: _Verdict,
        frames: Iterator[Picture],
        speech: Speech | None,
        measure: lips.Measure | None,
    ) -> None:
        size, fps, room = self._wanted.size, self._wanted.fps, self._out / "clips"
        count, person, crop = len(verdict.gesture), f"real-{self._name}", verdict.crop
        entry = ClipEntry(
            id=piece.id, split=split_of(person), person=person, kind=verdict.kind, source="real",
            video=room / f"{piece.id}.mp4", audio=room / f"{piece.id}.wav" if speech else None,
            gesture=room / f"{piece.id}.gesture.npz", truth=room / f"{piece.id}.truth.npz", frames=count,
            fps=fps, width=size, height=size, seconds=count / fps,
            parameters={
                "video": self._path.name, "start": round(piece.start, 3), "stop": round(piece.stop, 3),
                "collection": self._wanted.source,
                "truth": "detected", "crop": [crop.x0, crop.y0, crop.x1, crop.y1], **verdict.numbers,
            },
        )  # fmt: skip
        sound = _part_of(speech, piece, count / fps)
        with VideoWriter(entry.video, fps=fps, width=size, height=size, speech=sound, crf=14) as video:
            for frame in frames:
                video.write(_scaled(crop.apply(frame, "plain"), size))
        if sound is not None and entry.audio is not None:
            write_speech(entry.audio, sound)
        if measure == "syncnet" and entry.audio is not None:
            try:
                self._require_agreement(verdict, lips.of_video(entry.video, entry.audio, fps))
            except _UnwantedError as error:
                entry.video.unlink()
                entry.audio.unlink()
                self._reject(piece, *error.args)
                return
            entry = dataclasses.replace(entry, parameters={**entry.parameters, **verdict.numbers})
        save_gesture(verdict.gesture, entry.gesture)
        verdict.truth.save(room / f"{piece.id}.truth.npz")
        write_entry(entry, room / f"{piece.id}.json", self._out)


def _scaled(square: Picture, size: int) -> Picture:
    how = cv2.INTER_AREA if len(square) > size else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(square, (size, size), interpolation=how), np.uint8)


def find_scenes(path: Path, seconds: float) -> list[tuple[float, float]]:
    """Seconds between cuts; the whole video when there is none (or its frames cannot be compared)."""
    from scenedetect import ContentDetector, detect

    try:
        scenes = [(a.seconds, b.seconds) for a, b in detect(str(path), ContentDetector())]
    except Exception:  # OpenCV cannot open it, but PyAV may: then cuts are not known
        scenes = []
    last = len(scenes) - 1
    return [
        (start + _FADE * (i > 0), stop - _FADE * (i < last)) for i, (start, stop) in enumerate(scenes)
    ] or [(0.0, seconds)]


def _require_scene_detection() -> None:
    try:
        import scenedetect  # noqa: F401
    except ImportError:
        raise MissingPartError("cutting videos needs scenedetect: pip install 'semibody[synth]'") from None


def _speech_of(path: Path) -> Speech | None:
    try:
        return read_speech(path)
    except SemibodyError:
        return None  # no sound track: each piece is rejected for that


def _part_of(speech: Speech | None, piece: Piece, seconds: float) -> Speech | None:
    if speech is None:
        return None
    start, count = round(piece.start * speech.rate), round(seconds * speech.rate)
    wave = speech.waveform[start : start + count]
    return Speech(np.pad(wave, (0, count - len(wave))), speech.rate)


# --- detection --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Detected:
    """What was detected in a piece: ``joints`` (f, 128, 2), ``confidence`` (f, 128), ``people`` in each
    searched frame, ``samples`` (k, h, w) grey pictures, ``width`` and ``height`` of the video in pixels."""

    joints: Floats
    confidence: Floats
    people: NDArray[np.int64]
    samples: Picture
    width: int
    height: int


def _detect(frames: Iterator[Picture], detector: Detector, fps: float) -> Detected:
    """Find the largest person in every frame; everyone is counted once a second."""
    joints, confidence, people, samples = [], [], [], []
    last: Pose | None = None
    size = (1, 1)
    for number, frame in enumerate(frames):
        size = (frame.shape[1], frame.shape[0])
        every_second = number % max(1, round(fps)) == 0
        found = detector.people(frame) if every_second or last is None else []
        people += [len(found)] if every_second else []
        samples += [_grey(frame)] if every_second else []
        pose = detector.follow(frame, last) if last is not None else None
        pose = pose or (found[0] if found else None)
        last = pose
        tracked = pose or Pose(np.zeros((N_JOINTS, 2)), np.zeros(N_JOINTS))
        joints.append(tracked.joints)
        confidence.append(tracked.confidence)
    if not joints:
        return Detected(np.zeros((0, N_JOINTS, 2)), np.zeros((0, N_JOINTS)), np.zeros(0, np.int64),
                      np.zeros((0, 1, 1), np.uint8), *size)  # fmt: skip
    chosen = np.linspace(0, len(samples) - 1, min(_SAMPLES, len(samples))).round().astype(int)
    greys = np.stack([samples[int(i)] for i in chosen])
    return Detected(np.stack(joints), np.stack(confidence), np.array(people), greys, *size)


def _grey(frame: Picture) -> Picture:
    """Grey, 720 lines high or less: enough to see captions."""
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    scale = min(1.0, 720 / grey.shape[0])
    return np.asarray(cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)


def _save_poses(path: Path, detected: Detected) -> None:
    with atomic_write(path) as unfinished:
        np.savez_compressed(unfinished, **dataclasses.asdict(detected))


def _load_poses(path: Path) -> Detected:
    """Raises SemibodyError for a file that a killed run, or another program, has left there."""
    values: dict[str, Any] = dict(read_npz(path, _AGAIN))
    try:
        values |= {side: int(values[side].item()) for side in ("width", "height")}
        detected = Detected(**values)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise SemibodyError(f"{path}: holds other arrays than poses; {_AGAIN}") from None
    frames = len(detected.joints) if detected.joints.ndim else 0
    good = (
        detected.joints.shape == (frames, N_JOINTS, 2)
        and detected.confidence.shape == (frames, N_JOINTS)
        and (detected.people.ndim, detected.samples.ndim) == (1, 3)
        and detected.samples.dtype == np.uint8
        and detected.joints.dtype.kind == detected.confidence.dtype.kind == "f"
        and detected.people.dtype.kind in "iu"
        and min(detected.width, detected.height) > 0
        and bool(np.isfinite(detected.joints).all() and np.isfinite(detected.confidence).all())
    )
    if not good:
        raise SemibodyError(f"{path}: its poses do not fit together; {_AGAIN}")
    return detected


_AGAIN = "it is made again"


# --- tests --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Verdict:
    kind: Kind
    crop: Crop
    gesture: Gesture
    truth: Truth
    numbers: dict[str, Any]


def assess(detected: Detected, speech: Speech | None, wanted: Wanted) -> _Verdict:
    """Decide on a piece. Raises _UnwantedError (why, detail) at the first test it fails."""
    frames = len(detected.joints)
    _want(frames >= wanted.shortest * wanted.fps * 0.9, "too short", f"{frames} frames could be read")
    seen = detected.confidence.any(axis=1)
    _want(seen.mean() > 0.5, "nobody", f"a person in {seen.mean():.0%} of frames")
    crowd = float((detected.people > 1).mean())
    _want(crowd <= 0.2, "several people", f"in {crowd:.0%} of frames")
    joints, confidence, _, _ = clean(
        detected.joints, detected.confidence, wanted.fps, 0.5, detected.width / detected.height
    )
    poses = [Pose(j, c) for j, c in zip(joints, confidence, strict=True)]
    face = float(np.mean([face_found(p) for p in poses]))
    _want(face >= wanted.face, "face not seen", f"in {face:.0%} of frames")
    hands, sure, kind = _hands(poses, wanted)
    crop = emtd_square(joints, confidence, detected.width, detected.height)
    if kind == "head":
        crop = head_square(joints, confidence, detected.width, detected.height)
    side, outside = crop.size[0], crop.outside(detected.width, detected.height)
    small = f"{side} pixels for a clip of {wanted.size}"
    _want(side / wanted.size >= wanted.sharpness, "person too small", small)
    beyond = f"{outside:.0%} of the square lies outside"
    _want(outside <= wanted.outside, "at the picture's edge", beyond)
    gesture = Gesture(crop.joints(joints), confidence, wanted.fps, 1.0)
    tall = float(np.median(np.ptp(gesture.joints[:, FACE, 1], axis=1)))
    _want(tall >= wanted.face_size, "face too small", f"{tall:.1%} of the height")
    captioned = caption_share(detected.samples, crop, detected.height)
    _want(captioned < 0.5, "captions", f"in {captioned:.0%} of the sampled frames")
    jaw = jaw_opening(gesture.joints[:, FACE])
    numbers: dict[str, Any] = {"face": face, "hands": hands, "hand_confidence": sure, "pixels": side}
    if not wanted.pose_only:
        numbers |= dict(zip(("voice", "lips"), _voice(speech, jaw, wanted), strict=True))
    numbers = {name: round(value, 4) for name, value in numbers.items() if math.isfinite(value)}
    return _Verdict(kind, crop, gesture, Truth(jaw, _boxes(gesture)), numbers)


def _want(good: bool | np.bool_, why: str, detail: str) -> None:
    if not good:
        raise _UnwantedError(why, detail)


def _hands(poses: list[Pose], wanted: Wanted) -> tuple[float, float, Kind]:
    """Share of frames with a hand, mean confidence of the hands seen, and what kind of clip that makes."""
    found = np.array([hands_found(pose) for pose in poses])
    share = float(found.any(axis=1).mean())
    each = [np.array([pose.confidence[part] for pose in poses]) for part in (LEFT_HAND, RIGHT_HAND)]
    surest = np.concatenate([each[k][found[:, k]].ravel() for k in (0, 1)])
    sure = float(np.minimum(surest, 1).mean()) if len(surest) else 0.0
    if share >= wanted.hands and sure >= wanted.hand_confidence:
        return share, sure, "full"
    if not wanted.heads:
        _want(share >= wanted.hands, "hands not seen", f"a hand in {share:.0%} of frames")
        raise _UnwantedError("hands unsure", f"mean confidence {sure:.2f}")
    return share, sure, "head"


def _voice(speech: Speech | None, jaw: NDArray[np.float32], wanted: Wanted) -> tuple[float, float]:
    """Share of time with a voice, and how well the lips follow it."""
    if speech is None:
        raise _UnwantedError("no sound", "the video has no sound track that can be read")
    loud = loudness(speech, len(jaw), wanted.fps, LOUDNESS_WINDOW)
    threshold = max(0.003, 0.12 * float(np.percentile(loud, 95)))
    voice = float((loud > threshold).mean())
    _want(voice >= wanted.voice, "no speech", f"sound in {voice:.0%} of the time")
    # A smiling mouth is open in silence too, so lips that move with the sound count like lips that open.
    moving = _smooth(np.abs(np.gradient(jaw)), wanted.fps)
    follows = max(_shifted(jaw, loud, wanted.fps), _shifted(moving, _smooth(loud, wanted.fps), wanted.fps))
    return voice, follows


def _smooth(values: NDArray[Any], fps: float, seconds: float = 0.3) -> Floats:
    reach = max(1, round(seconds * fps / 2))
    window = np.ones(2 * reach + 1) / (2 * reach + 1)
    return np.asarray(np.convolve(np.pad(values, reach, "edge"), window, "valid"))


def _shifted(a: NDArray[Any], b: NDArray[Any], fps: float) -> float:
    """The largest correlation of two tracks within 80 ms of each other; -1 when one does not change."""
    reach, count = max(1, round(0.08 * fps)), len(a)
    found = [
        correlation(a[max(0, s) : count + min(0, s)], b[max(0, -s) : count + min(0, -s)])
        for s in range(-reach, reach + 1)
    ]
    return max((r for r in found if not math.isnan(r)), default=-1.0)


def emtd_square(joints: Floats, confidence: Floats, width: int, height: int) -> Crop:
    """One square for a piece by the rule of EMTD (``pose.frame.emtd_crop``); poses follow its pixels."""
    crop = emtd_crop(joints, confidence, width, height)
    if crop is None:
        raise _UnwantedError("shoulders not seen", "in any frame")
    return box_crop(crop.x0, crop.y0, crop.x1, crop.y1, width, height)


def head_square(joints: Floats, confidence: Floats, width: int, height: int) -> Crop:
    """One square for a head-only piece: the face, brows to chin, takes two fifths of its height."""
    pixels = joints[:, FACE] * (width, height)
    pixels = pixels[(confidence[:, FACE] >= SEEN).all(axis=1)]
    if not len(pixels):
        raise _UnwantedError("face not seen", "whole in any frame")
    low, high = pixels.min(axis=(0, 1)), pixels.max(axis=(0, 1))
    side = int(max(high[1] - low[1], high[0] - low[0]) / 0.4)
    x0 = int((low[0] + high[0]) / 2) - side // 2
    y0 = int((low[1] + high[1]) / 2 - 0.55 * side)
    return box_crop(x0, y0, x0 + side, y0 + side, width, height)


def _boxes(gesture: Gesture) -> dict[str, NDArray[np.float32]]:
    face = gesture.joints[:, FACE]
    low, high = face.min(axis=1), face.max(axis=1)
    crown = np.stack([(low[:, 0] + high[:, 0]) / 2, low[:, 1] - 0.7 * (high[:, 1] - low[:, 1])], axis=1)
    head = np.concatenate([face, crown[:, None]], axis=1)
    boxes = {
        "lips": box_around(face[:, LIPS], 0.15),
        "face": box_around(face, 0.05),
        "head": box_around(head, 0.1),
    }
    for name, part in (("left_hand", LEFT_HAND), ("right_hand", RIGHT_HAND)):
        box = box_around(gesture.joints[:, part], 0.12)
        box[np.median(gesture.confidence[:, part], axis=1) < SEEN] = np.nan
        boxes[name] = box
    return boxes


def caption_share(samples: Picture, crop: Crop, video_height: int) -> float:
    """Share of grey samples (k, h, w) in which lines of captions lie in a square of the video.

    A caption is a low, wide band whose rows jump between bright glyphs and a dark rim many times; stripes of
    a shirt do the same over more rows, a window's frame in fewer places.
    """
    if not len(samples):
        return 0.0
    height = samples.shape[1]
    scale = height / video_height
    x0, y0, x1, y1 = (max(0, round(v * scale)) for v in (crop.x0, crop.y0, crop.x1, crop.y1))
    return float(np.mean([_has_caption(sample[y0:y1, x0:x1], height) for sample in samples]))


def _has_caption(grey: Picture, picture_height: int) -> bool:
    reach = max(1, picture_height // 240)
    levels = grey.astype(np.int16)
    if min(levels.shape) <= 4 * reach:
        return False
    bright, dark = levels >= 200, levels <= 80
    jumps = (bright[:, reach:] & dark[:, :-reach]) | (dark[:, reach:] & bright[:, :-reach])
    starts = jumps[:, 1:] & ~jumps[:, :-1]
    wide = grey.shape[1]
    # A row of text: many jumps, spread over at least a fifth of the width.
    where = np.arange(starts.shape[1])
    count = starts.sum(axis=1)
    first = np.where(starts, where, wide).min(axis=1)
    last = np.where(starts, where, -1).max(axis=1)
    rows = (count >= 10) & (last - first >= 0.2 * wide)
    low, high = 0.012 * picture_height, 0.09 * picture_height
    return any(low <= below - above <= high for above, below in runs(rows))


# --- the account ----------------------------------------------------------------------------------------


def _store_rejection(out: Path, rejection: Rejection) -> None:
    with atomic_write(path_of(out / "rejected", rejection.id, ".json")) as unfinished:
        unfinished.write_text(json.dumps(dataclasses.asdict(rejection)), encoding="utf-8")


def _read_rejection(path: Path) -> Rejection:
    remedy = "delete it and run the ingest again"
    values = read_json(path, remedy)
    kinds = typing.get_type_hints(Rejection)
    good = isinstance(values, dict) and values.keys() == kinds.keys()
    if not good or not all(
        isinstance(values[n], (kind, int) if kind is float else kind) for n, kind in kinds.items()
    ):
        raise SemibodyError(f"{path}: is no record of a rejected piece; {remedy}")
    return Rejection(**values)


def _of_same_people(clips: list[ClipEntry], out: Path) -> list[ClipEntry]:
    """The clips with one name and one split for a person who is in several videos."""
    faces = {
        f"real-{path.stem}": face
        for path in (out / "videos").glob("*.json")
        if (face := _read_face(path)) is not None
    }
    names = people.same_people(faces)
    named = []
    for clip in clips:
        person = names.get(clip.person, clip.person)
        named.append(dataclasses.replace(clip, person=person, split=split_of(person)))
    return named


def _gather(out: Path, unfinished: dict[str, str]) -> Account:
    clips = _of_same_people([read_entry(path, out) for path in sorted((out / "clips").glob("*.json"))], out)
    rejected = [_read_rejection(p) for p in sorted((out / "rejected").glob("*.json"))]
    if not unfinished:
        shutil.rmtree(out / "poses", ignore_errors=True)
    return Account(clips, rejected, unfinished)
