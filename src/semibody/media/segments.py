"""Frames to H.264 in segments, each encoded by itself: what is encoded can be saved, and a run continued.

An encoder's state cannot be saved. So every SEGMENT frames a new encoder begins, with a key frame as any
encoder would put there every ten seconds. The packets of finished segments and the frames of the one at hand
are all that a later run needs to write the same file: the video's own size, and at most SEGMENT pictures.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
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
_BEHIND = 8
"""Frames by which encoding may be behind their making."""
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

    def as_av(self, stream: Any, fps: Fraction, delay: int = DELAY) -> Iterator[av.Packet[Any]]:
        """The packets, placed in the video; ``delay``: frames by which decoding is ahead of showing."""
        at = 0
        for number, (shown, size, key) in enumerate(self.table.tolist(), start=self.start):
            packet = av.Packet(self.content[at : at + size].tobytes())
            packet.stream, packet.time_base, packet.is_keyframe = stream, 1 / fps, bool(key)
            # A short segment would need less delay, but a varying one is a varying frame rate to players.
            packet.pts, packet.dts = self.start + shown, number - delay
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

    def encoder(self, height: int, width: int, fps: Fraction) -> Any:
        """A new encoder of frames of this size, for one segment."""
        encoder: Any = av.CodecContext.create(self.codec, "w")
        self.configure(encoder, height, width)
        encoder.framerate, encoder.time_base = fps, 1 / fps
        encoder.flags |= av.codec.context.Flags.global_header
        return encoder


class Segment:
    """Frames that are encoded together, in a thread of their own while others are made."""

    def __init__(self, coding: Coding, start: int, fps: Fraction, thread: Executor) -> None:
        """``start``: its first frame in the video; ``thread`` encodes one frame after the other."""
        self._coding, self._start, self._fps, self._thread = coding, start, fps, thread
        self._encoder: Any = None
        self._made: list[av.Packet[Any]] = []
        self._behind: deque[Future[None]] = deque()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, frames: NDArray[np.uint8]) -> None:
        """Take frames (f, h, w, 3). Raises what encoding the frames before them raised."""
        for picture in frames:
            self._behind.append(self._thread.submit(self._encode, picture, self._count))
            self._count += 1
            if len(self._behind) > _BEHIND:
                self._behind.popleft().result()

    def finish(self) -> Packets:
        """Wait for its end: all packets."""
        while self._behind:
            self._behind.popleft().result()
        made = self._made + self._encoder.encode(None)
        rows = [[packet.pts or 0, packet.size, int(packet.is_keyframe)] for packet in made]
        assert all(number - DELAY <= row[0] for number, row in enumerate(rows)), "decoded after it is shown"
        content = np.frombuffer(b"".join(map(bytes, made)), np.uint8)
        return Packets(self._start, content, np.array(rows, np.int64).reshape(-1, 3))

    def _encode(self, picture: NDArray[np.uint8], number: int) -> None:
        if self._encoder is None:
            self._encoder = self._coding.encoder(picture.shape[0], picture.shape[1], self._fps)
        self._made += self._encoder.encode(self._coding.frame(picture, number, self._fps))


class Segments:
    """Takes frames, gives encoded segments, and saves both if asked to (``go_on``). To be closed."""

    def __init__(self, coding: Coding, fps: Fraction, size: tuple[int, int], length: int = SEGMENT) -> None:
        """``size``: height and width of the frames; ``length``: how many of them are encoded together."""
        self._coding, self._fps, self._size, self._length = coding, fps, size, length
        self._unfinished: Unfinished | None = None
        self._thread = ThreadPoolExecutor(1, "encoding")
        self._start, self._slices = 0, 0
        self._segment = self._begin()

    def _begin(self) -> Segment:
        return Segment(self._coding, self._start, self._fps, self._thread)

    @property
    def frames(self) -> int:
        """How many frames were taken."""
        return self._start + len(self._segment)

    def close(self) -> None:
        """End the thread; what waits for it is not encoded."""
        self._thread.shutdown(cancel_futures=True)

    def go_on(self, unfinished: Unfinished) -> Iterator[Packets]:
        """The segments of a killed run; its frames after them are taken again, and what follows is saved."""
        self._unfinished = unfinished
        while (packets := self._load_segment()) is not None:
            self._start += len(packets)
            self._segment = self._begin()
            yield packets
        while (frames := self._load_slice()) is not None:
            self._segment.add(frames)
            self._slices += 1

    def add(self, frames: NDArray[np.uint8]) -> Iterator[Packets]:
        """Take frames (f, h, w, 3); give each segment that is full."""
        while len(frames):
            taken, frames = frames[: (room := self._length - len(self._segment))], frames[room:]
            self._segment.add(taken)
            if len(self._segment) == self._length:
                yield self._finish()
            elif self._unfinished is not None:
                self._unfinished.save(self._slice_name(self._slices), {"frames": taken}, {})
                self._slices += 1

    def last(self) -> Iterator[Packets]:
        """The segment that is not full, if there is one."""
        if len(self._segment):
            yield self._finish()

    def _finish(self) -> Packets:
        packets = self._segment.finish()
        if self._unfinished is not None:
            arrays: dict[str, NDArray[Any]] = {"content": packets.content, "table": packets.table}
            self._unfinished.save(f"segment-{self._start:07d}", arrays, {})
            for number in range(self._slices):
                self._unfinished.drop(self._slice_name(number))
        self._start, self._slices = self._start + len(packets), 0
        self._segment = self._begin()
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
        return frames if 0 < len(frames) < SEGMENT - len(self._segment) else None

    def _load(self, name: str, *arrays: str) -> Iterator[NDArray[Any] | None]:
        assert self._unfinished is not None
        saved = self._unfinished.load(name)
        return (None if saved is None else saved.arrays.get(array) for array in arrays)

    def _slice_name(self, number: int) -> str:
        """Slices are named by their segment: one left behind by a kill belongs to no other."""
        return f"frames-{self._start:07d}-{number:03d}"
