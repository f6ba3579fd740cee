"""Packed clips: what a trainer reads, one file a clip with random access to frames.

Video files must be decoded from their start; a trainer wants single frames of many people. So clips are
*packed* once: pictures as high-quality JPEGs one after another, joints, boxes and jaw of each frame, the
waveform; all in one safetensors file, of which a sample reads only the rows it needs.

    clips = pack_manifest(read_manifest("data"), Path("packed"), Packing(size=256, fps=24.0))
    gather(Path("packed") / key, CLIP)     # many files to few shards; they are read alike (``data.shards``)
    clip = clips[0]
    clip.pictures([3, 4])        # uint8 (f, h, w, 3)
    clip.labels([3, 4])          # pose and boxes of each
    clip.speech(), clip.jaw()

Talking-head clips are padded into the half-body frame here (Head Partial Attention): the head gets the
size and place it has in half-body pictures, everything around the clip is black and outside ``valid``.

Latents and audio rows depend on networks, so they are kept beside the clips, in a folder of their own for
each autoencoder (``LatentStore``).
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict, Unpack

import cv2
import numpy as np
from numpy.typing import NDArray

from semibody.clips.manifest import ClipEntry, Split
from semibody.clips.mouth import mouth_opening
from semibody.clips.truth import BOXES, Truth, box_around
from semibody.data.shards import Member, read_shards
from semibody.files import first_line, parse_json, path_of
from semibody.media import VideoReader, atomic_write, read_speech
from semibody.pose.files import load_gesture
from semibody.pose.skeleton import GROUPS
from semibody.pose.timing import resample
from semibody.types import N_JOINTS, RATE, Gesture, Pose, Progress, SemibodyError, Speech, silent

Pictures = NDArray[np.uint8]
Box = tuple[float, float, float, float]
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)

CLIP, LATENTS = ".clip.safetensors", ".latents.safetensors"
"""Endings of the files of clips and of their latents."""
_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Packing:
    """How clips are packed."""

    size: int = 256
    """side of the pictures in pixels"""
    fps: float = 24.0
    head_height: float = 0.3
    """height of the head in a padded head clip, as a share of the frame"""
    head_top: float = 0.1
    """distance of a padded head from the upper edge"""
    shortest: int = 2
    """clips of fewer frames are refused"""
    enlarge: bool = False
    """enlarge pictures that are smaller than ``size``"""
    quality: int = 97
    """of the JPEGs, 1 to 100"""
    chroma: Literal["444", "420"] = "444"
    """their colour at full size, or at half of it in both directions: a third of the bytes less"""

    @property
    def key(self) -> str:
        """Names the folder of clips packed this way."""
        chosen: list[Any] = [_VERSION, self.size, self.fps, self.head_height, self.head_top]
        # What was packed before there were these settings keeps its folder.
        chosen += ["enlarge"] if self.enlarge else []
        chosen += [self.quality, self.chroma] if (self.quality, self.chroma) != (97, "444") else []
        text = json.dumps(chosen)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


class Labels(NamedTuple):
    """What is known of a frame beside its picture."""

    pose: Pose
    boxes: dict[str, NDArray[np.float32]]
    """part -> (4,) x0, y0, x1, y1 as fractions; parts out of view are left out"""


class PackedClip:
    """One packed clip: a file, or a member of a shard. Opening a file reads its header, a member's is in the
    index; everything else is read on request."""

    def __init__(self, path: Path | Member) -> None:
        self._place = path
        self.path = path.shard if isinstance(path, Member) else path
        """the file, or the shard"""
        if isinstance(path, Member) and path.facts:
            with _damage_named(self.path):
                self._take(path.facts)
            return
        with _damage_named(self.path), _open(path) as file:
            self._take(file.metadata() or {})
            self._require_whole(file)

    def _take(self, facts: Mapping[str, str]) -> None:
        """Raises KeyError, ValueError or SemibodyError for facts that are none of a clip."""
        self.id: str = facts["id"]
        self.person: str = facts["person"]
        self.kind: str = facts["kind"]
        self.split: str = facts["split"]
        self.frames = int(facts["frames"])
        self.fps = float(facts["fps"])
        self.size = int(facts["size"])
        self.source: str = facts.get("source", "")
        """the collection it comes from; empty in clips that were packed before there was this"""
        self.silent = facts.get("silent") == "true"
        """it has no sound, and trains poses only"""
        x0, y0, x1, y1 = map(float, parse_json(facts["valid"], str(self.path), _REMEDY))
        self.valid: Box = (x0, y0, x1, y1)
        self.found: Path | None = None
        """file of the poses that a detector finds in the pictures (``data.found``); None: not detected"""

    def _require_whole(self, file: Any) -> None:
        """Raise ValueError unless facts and tensors are those of a clip."""
        if not (0 < self.frames < 2**31 and 0 < self.size < 2**15 and 0 < self.fps <= 1000):
            raise ValueError("its frames, size or fps are not possible")
        if not all(0 <= side <= 1 for side in self.valid):
            raise ValueError("its valid box is none")
        shapes = {
            "offsets": ((self.frames + 1,), "I64"),
            "joints": ((self.frames, N_JOINTS, 2), "F32"),
            "confidence": ((self.frames, N_JOINTS), "F32"),
            "boxes": ((self.frames, len(BOXES), 4), "F32"),
            "jaw": ((self.frames,), "F32"),
        }
        for name, wanted in shapes.items():
            part = file.get_slice(name)
            if (tuple(part.get_shape()), part.get_dtype()) != wanted:
                raise ValueError(f"'{name}' is {part.get_dtype()} {part.get_shape()}, not {wanted}")
        for name, dtype in (("jpeg", "U8"), ("sound", "I16")):
            part = file.get_slice(name)
            if len(part.get_shape()) != 1 or part.get_dtype() != dtype:
                raise ValueError(f"'{name}' is not a row of {dtype}")

    def __len__(self) -> int:
        return self.frames

    def pictures(self, frames: Sequence[int]) -> Pictures:
        """(f, h, w, 3) uint8 RGB."""
        made = []
        with _damage_named(self.path), _open(self._place) as file:
            offsets, data = file.get_tensor("offsets"), file.get_slice("jpeg")
            for frame in frames:
                start, stop = int(offsets[frame]), int(offsets[frame + 1])
                whole = 0 <= start < stop <= data.get_shape()[0]
                picture = cv2.imdecode(data[start:stop], cv2.IMREAD_COLOR) if whole else None
                if picture is None or picture.shape[:2] != (self.size, self.size):
                    raise SemibodyError(f"{self.path}: damaged picture {frame}; delete it to pack it again")
                made.append(picture[..., ::-1])
        return np.stack(made)

    def labels(self, frames: Sequence[int]) -> list[Labels]:
        """Pose and boxes of frames; the file is opened once for all of them."""
        with _damage_named(self.path), _open(self._place) as file:
            boxes = file.get_slice("boxes")
            return [Labels(_pose(file, frame), _seen(boxes[frame])) for frame in frames]

    def pose(self, frame: int) -> Pose:
        return self.labels([frame])[0].pose

    def boxes(self, frame: int) -> dict[str, NDArray[np.float32]]:
        """As in ``Labels``."""
        return self.labels([frame])[0].boxes

    def portrait_pose(self, frame: int) -> Pose:
        """The pose of this frame as a portrait: the ``found`` one, else the exact one."""
        path = self.found or self._place
        with _damage_named(self.found or self.path), _open(path) as file:
            return _pose(file, frame)

    def gesture(self) -> Gesture:
        with _damage_named(self.path), _open(self._place) as file:
            joints, confidence = (_finite(file.get_tensor(name)) for name in ("joints", "confidence"))
        return Gesture(joints.astype(np.float64), confidence.astype(np.float64), self.fps, name=self.id)

    def jaw(self) -> NDArray[np.float32]:
        """(f,) opening of the mouth: as recorded in the truth, else from the lips' joints."""
        with _damage_named(self.path), _open(self._place) as file:
            return _finite(file.get_tensor("jaw"))

    def speech(self) -> Speech:
        with _damage_named(self.path), _open(self._place) as file:
            sound: NDArray[np.int16] = file.get_tensor("sound")
        return Speech(sound.astype(np.float32) / np.float32(32767))


_REMEDY = "delete it, it is made again"


@contextlib.contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except SemibodyError:
        raise
    except Exception as error:  # safetensors raises a class of its own
        raise SemibodyError(f"{path}: damaged clip ({first_line(error)}); {_REMEDY}") from None


def _open(path: Path | Member) -> Any:
    if isinstance(path, Member):
        return path.open()
    from safetensors import safe_open

    return safe_open(str(path), framework="np")


def _pose(file: Any, frame: int) -> Pose:
    joints, confidence = (_finite(file.get_slice(k)[frame]) for k in ("joints", "confidence"))
    return Pose(joints.astype(np.float64), confidence.astype(np.float64))


def _finite(values: Any) -> Any:
    """Raises ValueError for what is NaN or infinite."""
    if not np.isfinite(values).all():
        raise ValueError("it holds NaN or infinity")
    return values


def _seen(rows: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    return {part: row for part, row in zip(BOXES, rows, strict=True) if np.isfinite(row).all()}


# -- packing ----------------------------------------------------------------------------------


def pack_manifest(
    entries: Iterable[ClipEntry],
    folder: Path,
    packing: Packing,
    *,
    workers: int = 2,
    progress: Progress = silent,
) -> list[PackedClip]:
    """Pack the clips that are not packed yet; returns all of them, in the order of their ids.

    Raises SemibodyError naming clip and file: a missing or unreadable file, poses that are not numbers,
    a clip shorter than ``packing.shortest`` frames.
    """
    entries = sorted(entries, key=lambda entry: entry.id)
    if not entries:
        raise SemibodyError("the manifest has no clips; make data with `semibody data synthesise`")
    place = folder / packing.key
    there = read_shards(place, CLIP)
    missing = [
        entry for entry in entries if entry.id not in there and not packed_path(place, entry.id).exists()
    ]
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for done, _ in enumerate(pool.map(lambda e: _pack_entry(e, place, packing), missing), start=1):
            progress("pack clips", done, len(missing))
    return [PackedClip(there.get(entry.id) or packed_path(place, entry.id)) for entry in entries]


def packed_clips(folder: Path, packing: Packing) -> list[PackedClip]:
    """All clips packed in ``folder``, in the order of their ids."""
    return clips_in(folder / packing.key)


def clips_in(place: Path) -> list[PackedClip]:
    """All clips of one packing's folder, in shards or alone, in the order of their ids."""
    places: dict[str, Path | Member] = {path.name.removesuffix(CLIP): path for path in place.glob(f"*{CLIP}")}
    places |= read_shards(place, CLIP)
    return [PackedClip(places[name]) for name in sorted(places)]


def packed_path(place: Path, name: str) -> Path:
    return path_of(place, name, CLIP)


def _pack_entry(entry: ClipEntry, place: Path, packing: Packing) -> None:
    for path in filter(None, (entry.video, entry.audio, entry.gesture, entry.truth)):
        if not path.is_file():
            raise SemibodyError(f"{entry.id}: {path} is missing; correct the manifest or make the data again")
    gesture = resample(load_gesture(entry.gesture), packing.fps)
    with VideoReader(entry.video) as video:
        pictures = np.stack(list(video.frames(packing.fps)))
    truth = Truth.load(entry.truth) if entry.truth else None
    speech = read_speech(entry.audio) if entry.audio else None
    if truth is not None and abs(entry.fps - packing.fps) > 1e-3:
        truth = None  # boxes and jaw are made from the resampled joints instead
    pack_clip(
        place, entry.id, pictures, gesture, speech, truth,
        person=entry.person, kind=entry.kind, split=entry.split, packing=packing,
        source=str(entry.parameters.get("collection", entry.source)),
    )  # fmt: skip


class Whose(TypedDict):
    """Whom a clip shows, and where it belongs."""

    person: str
    kind: str
    split: Split
    source: NotRequired[str]
    """the collection it comes from"""


def pack_clip(
    place: Path,
    name: str,
    pictures: Pictures,
    gesture: Gesture,
    speech: Speech | None,
    truth: Truth | None,
    *,
    packing: Packing,
    **whose: Unpack[Whose],
) -> Path:
    """Write one packed clip and return its path; all or nothing. Raises SemibodyError.

    A clip without ``speech`` is silent. Pictures smaller than ``packing.size`` are refused, unless it lets
    them be enlarged.
    """
    from safetensors.numpy import save_file

    frames = min(len(pictures), len(gesture), *([len(truth.jaw)] if truth else []))
    if frames < packing.shortest:
        raise SemibodyError(f"{name}: has {frames} frames, needs {packing.shortest}; leave the clip out")
    pictures, gesture = pictures[:frames], _first(gesture, frames)
    if not (np.isfinite(gesture.joints).all() and np.isfinite(gesture.confidence).all()):
        raise SemibodyError(f"{name}: its poses hold NaN or infinity; make the gesture again")
    boxes = _boxes(gesture, truth, frames)
    jaw = truth.jaw[:frames] if truth is not None else mouth_opening(gesture)
    if not np.isfinite(jaw).all():
        raise SemibodyError(f"{name}: its truth holds NaN or infinity; make the clip again")
    valid = WHOLE
    if whose["kind"] == "head":
        pictures, gesture, boxes, valid = pad_head(pictures, gesture, boxes, packing)
    elif pictures.shape[1] < packing.size and not packing.enlarge:
        raise SemibodyError(
            f"{name}: its pictures have {pictures.shape[1]} pixels and the recipe wants {packing.size}; "
            f"ingest or render with --size {packing.size}, or take blurred ones with --set data.enlarge=true"
        )
    codes = [_jpeg(_resized(picture, packing.size), packing) for picture in pictures]
    silence = np.zeros(round(frames / packing.fps * RATE), np.float32)
    sound: NDArray[np.float32] = silence if speech is None else speech.waveform
    if not np.isfinite(sound).all():
        raise SemibodyError(f"{name}: its sound holds samples that are not numbers; export it again")
    arrays = {
        "jpeg": np.concatenate(codes),
        "offsets": np.cumsum([0, *(len(code) for code in codes)]).astype(np.int64),
        "joints": gesture.joints.astype(np.float32),
        "confidence": gesture.confidence.astype(np.float32),
        "boxes": boxes,
        "jaw": jaw.astype(np.float32),
        "sound": np.round(sound.clip(-1, 1) * np.float32(32767)).astype(np.int16),
    }
    facts = {
        "id": name, "person": whose["person"], "kind": whose["kind"], "split": whose["split"],
        "frames": str(frames), "fps": str(packing.fps), "size": str(packing.size),
        "valid": json.dumps(valid), "source": whose.get("source", ""),
        **({"silent": "true"} if speech is None else {}),
    }  # fmt: skip
    path = packed_path(place, name)
    with atomic_write(path) as unfinished:
        save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, unfinished, metadata=facts)
    return path


def _first(gesture: Gesture, frames: int) -> Gesture:
    return Gesture(
        gesture.joints[:frames], gesture.confidence[:frames], gesture.fps, gesture.aspect, gesture.name
    )


def _jpeg(picture: Pictures, packing: Packing) -> NDArray[np.uint8]:
    sampling = {
        "444": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444, "420": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    }[packing.chroma]  # fmt: skip
    how = (cv2.IMWRITE_JPEG_QUALITY, packing.quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling)
    done, code = cv2.imencode(".jpg", picture[..., ::-1], how)
    assert done
    return code.ravel()


def _resized(picture: Pictures, size: int) -> Pictures:
    """A square picture, scaled. Raises SemibodyError for one that is not square."""
    height, width = picture.shape[:2]
    if height != width:
        raise SemibodyError(f"pictures are {width} x {height}; crop the clips to squares first")
    if height == size:
        return picture
    how = cv2.INTER_AREA if height > size else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, (size, size), interpolation=how), np.uint8)


def _boxes(gesture: Gesture, truth: Truth | None, frames: int) -> NDArray[np.float32]:
    """(f, part, 4) in the order of ``clips.truth.BOXES``; NaN where a part is not in view."""
    boxes = np.full((frames, len(BOXES), 4), np.nan, np.float32)
    for number, part in enumerate(BOXES):
        if truth is not None and part in truth.boxes:
            boxes[:, number] = truth.boxes[part][:frames]
        else:
            boxes[:, number] = _joints_boxes(gesture, part)
    return boxes


_BOX_JOINTS = {"lips": ("lips", 0.15), "face": ("face", 0.05), "head": ("face", 0.35),
               "left_hand": ("left_hand", 0.12), "right_hand": ("right_hand", 0.12)}  # fmt: skip


def _joints_boxes(gesture: Gesture, part: str) -> NDArray[np.float32]:
    """(f, 4) around the joints of a part that were seen; NaN in frames with fewer than 3 of them."""
    group, margin = _BOX_JOINTS[part]
    joints = GROUPS[group]
    return box_around(gesture.joints[:, joints], margin, gesture.confidence[:, joints] > 0.05, least=3)


def pad_head(
    pictures: Pictures, gesture: Gesture, boxes: NDArray[np.float32], packing: Packing
) -> tuple[Pictures, Gesture, NDArray[np.float32], Box]:
    """Put a head clip into the half-body frame: the head as large and as high as in half-body clips.

    Returns pictures (f, size, size, 3), joints and boxes in the new frame, and the box of what is picture.
    """
    head = boxes[:, BOXES.index("head")]
    seen = head[np.isfinite(head).all(axis=1)]
    x0, y0, x1, y1 = seen.mean(axis=0) if len(seen) else (0.2, 0.1, 0.8, 0.9)
    side = packing.size
    small = max(8, round(side * min(1.0, packing.head_height / max(0.05, float(y1 - y0)))))
    scale = small / side
    left = round(side * (0.5 - scale * float(x0 + x1) / 2))
    top = round(side * (packing.head_top - scale * float(y0)))
    padded = np.zeros((len(pictures), side, side, 3), np.uint8)
    rows, columns = slice(max(0, top), min(side, top + small)), slice(max(0, left), min(side, left + small))
    for canvas, picture in zip(padded, pictures, strict=True):
        shrunk = _resized(picture, small)
        canvas[rows, columns] = shrunk[
            rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
        ]
    shift = np.array([left / side, top / side])
    moved = dataclasses.replace(gesture, joints=gesture.joints * scale + shift)
    grown = np.multiply(boxes, scale) + np.tile(shift, 2)
    new_boxes = grown.clip(0, 1).astype(np.float32)
    valid = (columns.start / side, rows.start / side, columns.stop / side, rows.stop / side)
    return padded, moved, new_boxes, valid


# -- latents and audio rows of the clips --------------------------------------------------------


class LatentStore:
    """Latents and audio rows of packed clips, in a folder for each autoencoder and audio encoder.

    ``latents`` (f, c, h, w) float16; ``rows`` (r, …) float16, the audio encoder's rows.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._shards = read_shards(folder, LATENTS)

    def path(self, clip: PackedClip) -> Path:
        """The file of a clip that is in no shard."""
        return path_of(self.folder, clip.id, LATENTS)

    def has(self, clip: PackedClip) -> bool:
        return clip.id in self._shards or self.path(clip).exists()

    @contextlib.contextmanager
    def _opened(self, clip: PackedClip) -> Iterator[Any]:
        member = self._shards.get(clip.id)
        path = member.shard if member else self.path(clip)
        with _damage_named(path), _open(member or path) as file:
            yield file

    def fill(
        self,
        clips: Sequence[PackedClip],
        encode: Callable[[Pictures], NDArray[np.float16]],
        hear: Callable[[Speech], NDArray[np.float16]],
        *,
        progress: Progress = silent,
    ) -> None:
        """Make what is missing. Raises SemibodyError when a network gives something that is not finite."""
        from safetensors.numpy import save_file

        missing = [clip for clip in clips if not self.has(clip)]
        for done, clip in enumerate(missing, start=1):
            latents = encode(clip.pictures(range(len(clip))))
            rows = hear(clip.speech())
            if not (np.isfinite(latents).all() and np.isfinite(rows).all()):
                raise SemibodyError(f"{clip.id}: its latents are not finite; check clip and autoencoder")
            with atomic_write(self.path(clip)) as unfinished:
                # safetensors writes memory as it lies: a transposed array would come back scrambled.
                arrays = {"latents": latents, "rows": rows}
                save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, unfinished)
            progress("encode clips", done, len(missing))

    def latents(self, clip: PackedClip, frames: Sequence[int]) -> NDArray[np.float32]:
        """(f, c, h, w)."""
        with self._opened(clip) as file:
            part = file.get_slice("latents")
            if len(frames) > 1 and list(frames) == list(range(frames[0], frames[0] + len(frames))):
                return part[frames[0] : frames[0] + len(frames)].astype(np.float32)
            return np.stack([part[frame] for frame in frames]).astype(np.float32)

    def rows(self, clip: PackedClip) -> NDArray[np.float32]:
        """All audio rows of the clip."""
        with self._opened(clip) as file:
            rows: NDArray[np.float32] = file.get_tensor("rows").astype(np.float32)
            return rows
