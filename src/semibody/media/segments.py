"""Frames to H.264 in segments, each encoded by itself: what is encoded can be saved, and a run continued.

An encoder's state cannot be saved. So every SEGMENT frames a new encoder begins, with a key frame as any
encoder would put there every ten seconds. The packets of finished segments and the frames of the one at hand
are all that a later run needs to write the same file: the video's own size, and at most SEGMENT pictures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from semibody.resume import Unfinished

SEGMENT = 120
"""Frames encoded together."""
_BT709, _BT601, _STUDIO = 1, 6, 1
"""Numbers of H.273: primaries and transfer; the matrix of the conversion from RGB; levels of 16 to 235."""
DELAY = 2
"""Frames by which decoding is ahead of showing, with the B-frames of x264's preset medium."""


@dataclass(frozen=True)
class Packets:
    """The encoded frames of a segment: ``content`` of all, and a row of ``table`` for each."""

    start: int
    """the segment's first frame in the video"""
    content: NDArray[np.uint8]
    table: NDArray[np.int64]
    """(n, 3) in the order of decoding: which frame of the segment, bytes, whether it is a key frame"""

    def __len__(self) -> int:
        return len(self.table)

    def as_av(self, stream: Any, fps: Fraction) -> Iterator[av.Packet[Any]]:
        """The packets, placed in the video."""
        at = 0
        for number, (shown, size, key) in enumerate(self.table.tolist(), start=self.start):
            packet = av.Packet(self.content[at : at + size].tobytes())
            packet.stream, packet.time_base, packet.is_keyframe = stream, 1 / fps, bool(key)
            # A short segment would need less delay, but a varying one is a varying frame rate to players.
            packet.pts, packet.dts = self.start + shown, number - DELAY
            at += size
            yield packet


@dataclass(frozen=True)
class Coding:
    """How a file is coded."""

    codec: str
    pixels: str
    """FFmpeg's name of the pixel format"""
    options: dict[str, str]
    sound: str = "aac"

    @property
    def in_segments(self) -> bool:
        """Whether frames are encoded in segments: VP9 keeps opacity beside its packets, where it is lost."""
        return self.codec == "libx264"

    def configure(self, encoder: Any, height: int, width: int) -> None:
        """Set up a stream or an encoder; every segment's is the same, so that one header fits all."""
        encoder.width, encoder.height = width + width % 2, height + height % 2
        encoder.pix_fmt, encoder.options = self.pixels, dict(self.options)
        # Without these tags players take a large video for BT.709, and its colours are off.
        context = getattr(encoder, "codec_context", encoder)
        context.color_primaries = context.color_trc = _BT709
        context.colorspace, context.color_range = _BT601, _STUDIO

    @staticmethod
    def frame(picture: NDArray[np.uint8], number: int, fps: Fraction) -> av.VideoFrame:
        """A picture (h, w, 3 or 4) of even sides, as frame ``number``."""
        height, width, channels = picture.shape
        padded = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        layout = "rgb24" if channels == 3 else "rgba"
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(padded), format=layout)
        frame.pts, frame.time_base = number, 1 / fps
        return frame

    def encode(self, frames: list[NDArray[np.uint8]], start: int, fps: Fraction) -> Packets:
        """Encode a segment of (h, w, 3) frames that begins at frame ``start`` of the video."""
        encoder: Any = av.CodecContext.create(self.codec, "w")
        self.configure(encoder, *frames[0].shape[:2])
        encoder.framerate, encoder.time_base = fps, 1 / fps
        encoder.flags |= av.codec.context.Flags.global_header
        made: list[av.Packet[Any]] = []
        for number, picture in enumerate(frames):
            made += encoder.encode(self.frame(picture, number, fps))
        made += encoder.encode(None)
        rows = [[packet.pts or 0, packet.size, int(packet.is_keyframe)] for packet in made]
        assert all(number - DELAY <= row[0] for number, row in enumerate(rows)), "decoded after it is shown"
        content = np.frombuffer(b"".join(map(bytes, made)), np.uint8)
        return Packets(start, content, np.array(rows, np.int64).reshape(-1, 3))


class Segments:
    """Takes frames, gives encoded segments, and saves both if asked to (``go_on``)."""

    def __init__(self, coding: Coding, fps: Fraction, size: tuple[int, int]) -> None:
        """``size``: height and width of the frames."""
        self._coding, self._fps, self._size = coding, fps, size
        self._unfinished: Unfinished | None = None
        self._start, self._waiting = 0, list[NDArray[np.uint8]]()
        self._slices = 0

    @property
    def frames(self) -> int:
        """How many frames were taken."""
        return self._start + len(self._waiting)

    def go_on(self, unfinished: Unfinished) -> Iterator[Packets]:
        """The segments of a killed run; its frames after them are taken again, and what follows is saved."""
        self._unfinished = unfinished
        while (packets := self._load_segment()) is not None:
            self._start += len(packets)
            yield packets
        while (frames := self._load_slice()) is not None:
            self._waiting += list(frames)
            self._slices += 1

    def add(self, frames: NDArray[np.uint8]) -> Iterator[Packets]:
        """Take frames (f, h, w, 3); give each segment that is full."""
        while len(frames):
            taken, frames = frames[: (room := SEGMENT - len(self._waiting))], frames[room:]
            self._waiting += list(taken)
            if len(self._waiting) == SEGMENT:
                yield self._finish()
            elif self._unfinished is not None:
                self._unfinished.save(self._slice_name(self._slices), {"frames": taken}, {})
                self._slices += 1

    def last(self) -> Iterator[Packets]:
        """The segment that is not full, if there is one."""
        if self._waiting:
            yield self._finish()

    def _finish(self) -> Packets:
        packets = self._coding.encode(self._waiting, self._start, self._fps)
        if self._unfinished is not None:
            arrays: dict[str, NDArray[Any]] = {"content": packets.content, "table": packets.table}
            self._unfinished.save(f"segment-{self._start:07d}", arrays, {})
            for number in range(self._slices):
                self._unfinished.drop(self._slice_name(number))
        self._start, self._slices, self._waiting = self._start + len(packets), 0, []
        return packets

    def _load_segment(self) -> Packets | None:
        """The saved segment that begins where the frames taken so far end."""
        content, table = self._load(f"segment-{self._start:07d}", "content", "table")
        if content is None or content.dtype != np.uint8 or table is None or table.dtype != np.int64:
            return None
        if table.ndim != 2 or table.shape[1] != 3 or not 0 < len(table) <= SEGMENT:
            return None
        return Packets(self._start, content, table) if table[:, 1].sum() == content.size else None

    def _load_slice(self) -> NDArray[np.uint8] | None:
        """The next saved slice of the segment at hand."""
        (frames,) = self._load(self._slice_name(self._slices), "frames")
        if frames is None or frames.dtype != np.uint8 or frames.shape[1:] != (*self._size, 3):
            return None
        return frames if 0 < len(frames) < SEGMENT - len(self._waiting) else None

    def _load(self, name: str, *arrays: str) -> Iterator[NDArray[Any] | None]:
        assert self._unfinished is not None
        saved = self._unfinished.load(name)
        return (None if saved is None else saved.arrays.get(array) for array in arrays)

    def _slice_name(self, number: int) -> str:
        """Slices are named by their segment: one left behind by a kill belongs to no other."""
        return f"frames-{self._start:07d}-{number:03d}"
