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
from av.container import OutputContainer
from numpy.typing import NDArray

from semibody.resume import Saved, Unfinished

SEGMENT = 120
"""Frames encoded together."""
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

    def as_av(self, stream: Any, fps: Fraction) -> Iterator[av.Packet]:
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
class Encoding:
    """How frames are encoded: the same for every segment, so that one header fits all."""

    fps: Fraction
    width: int
    height: int
    crf: int

    def add_stream(self, container: OutputContainer) -> Any:
        """A stream whose header is that of the segments."""
        stream: Any = container.add_stream("libx264", rate=self.fps)
        self._set(stream)
        return stream

    def _set(self, encoder: Any) -> None:
        encoder.width, encoder.height = self.width + self.width % 2, self.height + self.height % 2
        encoder.pix_fmt = "yuv420p"
        # x264's macroblock tree reads memory it never wrote: with it, the same frames gave one of
        # several files, depending on what the process had held there before.
        encoder.options = {"crf": str(self.crf), "preset": "medium", "x264-params": "mbtree=0"}

    def encode(self, frames: list[NDArray[np.uint8]], start: int) -> Packets:
        """Encode a segment of (h, w, 3) frames that begins at frame ``start`` of the video."""
        encoder: Any = av.CodecContext.create("libx264", "w")
        self._set(encoder)
        encoder.framerate, encoder.time_base = self.fps, 1 / self.fps
        encoder.flags |= av.codec.context.Flags.global_header
        made: list[av.Packet] = []
        for number, picture in enumerate(frames):
            padding = ((0, self.height % 2), (0, self.width % 2), (0, 0))
            padded = np.ascontiguousarray(np.pad(picture, padding, mode="edge"))
            frame = av.VideoFrame.from_ndarray(padded, format="rgb24")
            frame.pts, frame.time_base = number, 1 / self.fps
            made += encoder.encode(frame)
        made += encoder.encode(None)
        rows = [[packet.pts or 0, packet.size, int(packet.is_keyframe)] for packet in made]
        assert all(number - DELAY <= row[0] for number, row in enumerate(rows)), "decoded after it is shown"
        content = np.frombuffer(b"".join(map(bytes, made)), np.uint8)
        return Packets(start, content, np.array(rows, np.int64).reshape(-1, 3))


class Segments:
    """Takes frames, gives encoded segments, and keeps both in ``unfinished`` if there is one."""

    def __init__(self, encoding: Encoding, unfinished: Unfinished | None) -> None:
        self._encoding, self._unfinished = encoding, unfinished
        self._start, self._waiting = 0, list[NDArray[np.uint8]]()
        self._slices = 0

    @property
    def frames(self) -> int:
        """How many frames were taken."""
        return self._start + len(self._waiting)

    def restored(self) -> Iterator[Packets]:
        """The segments of a killed run; its frames after them are taken again."""
        if self._unfinished is None:
            return
        while saved := self._load(f"segment-{self._start:07d}", "table"):
            packets = Packets(self._start, saved.arrays["content"], saved.arrays["table"])
            self._start += len(packets)
            yield packets
        while saved := self._load(self._slice_name(self._slices), "frames"):
            self._waiting += list(saved.arrays["frames"])
            self._slices += 1

    def add(self, frames: NDArray[np.uint8]) -> Iterator[Packets]:
        """Take frames (f, h, w, 3); give each segment that is full."""
        size = (self._encoding.height, self._encoding.width)
        if frames.shape[1:3] != size:
            raise ValueError(f"frames must be {size}, got {frames.shape[1:3]}")
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
        packets = self._encoding.encode(self._waiting, self._start)
        if self._unfinished is not None:
            arrays = {"content": packets.content, "table": packets.table}
            self._unfinished.save(f"segment-{self._start:07d}", arrays, {})
            for number in range(self._slices):
                self._unfinished.drop(self._slice_name(number))
        self._start, self._slices, self._waiting = self._start + len(packets), 0, []
        return packets

    def _load(self, name: str, needed: str) -> Saved | None:
        assert self._unfinished is not None
        saved = self._unfinished.load(name)
        return saved if saved is not None and needed in saved.arrays else None

    def _slice_name(self, number: int) -> str:
        """Slices are named by their segment: one left behind by a kill belongs to no other."""
        return f"frames-{self._start:07d}-{number:03d}"
