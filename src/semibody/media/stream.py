"""Video that can be played while it is written: H.264 and AAC in a fragmented mp4.

    with VideoStream("out.mp4", fps=24, width=512, height=512, speech=speech) as video:
        video.write(frames)                       # uint8 (f, h, w, 3), any number of times

A fragment holds about a second, begins with a key frame, and needs only the header and itself. So a file that
ends after any of them is a video, and a pipe will do; the name ``-`` is standard output.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import av
import numpy as np
from numpy.typing import NDArray

from semibody.files import is_folder
from semibody.media.audio import AAC_RATES, SoundTrack
from semibody.media.segments import Packets, Segments
from semibody.media.video import Tracks, coding_of
from semibody.types import SemibodyError, Speech

STANDARD_OUTPUT = "-"
ENDINGS = (".mp4", ".mov")
_MOVFLAGS = "frag_keyframe+empty_moov+default_base_moof"


def require_stream_name(path: Path | str, *, alpha: bool = False) -> None:
    """Raise SemibodyError unless ``VideoStream`` can write to this name."""
    if alpha:
        raise SemibodyError(f"{path}: a stream cannot be transparent; leave out --alpha or --stream")
    if str(path) != STANDARD_OUTPUT and Path(path).suffix.lower() not in ENDINGS:
        raise SemibodyError(f"{path}: a stream is written as .mp4 (or .mov), or to - (standard output)")
    if is_folder(Path(path)):
        raise SemibodyError(f"{path}: is a folder; name a video file in it")


class VideoStream:
    """Writes frames as they come, straight to where they are read.

    A file of this name is replaced at once. Stopped before the end, it keeps the fragments it has, and is
    removed if it has none. It carries ``metadata`` as ``VideoWriter``'s does, but no content credentials, for
    which all bytes are needed. Raises SemibodyError for a place that cannot be written, or is read no more.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        fps: float,
        width: int,
        height: int,
        speech: Speech | None = None,
        crf: int = 18,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        require_stream_name(path)
        self.path = Path(path)
        self._fps, self._shape = Fraction(fps).limit_denominator(1001), (height, width, 3)
        # Frames that are decoded before they are shown would begin late, as there is no time before 0.
        usual = coding_of(Path("out.mp4"), crf)
        coding = replace(usual, options={**usual.options, "bf": "0"})
        sound = SoundTrack(speech, AAC_RATES) if speech is not None else None
        self._fragments = 0
        self._file = _open(self.path)
        options = {"movflags": _MOVFLAGS, "flush_packets": "1"}
        self._container: Any = av.open(_Pipe(self._file), "w", format="mp4", options=options)
        self._tracks = Tracks(self._container, coding, self._fps, (height, width), sound, metadata or {})
        self._segments = Segments(coding, self._fps, (height, width), max(1, round(fps)))

    def write(self, frames: NDArray[np.uint8]) -> None:
        """Append uint8 frames (f, h, w, 3) RGB; each full second of them is encoded and sent."""
        if frames.shape[1:] != self._shape:
            raise ValueError(f"frames must be {self._shape}, got {frames.shape[1:]}")
        with self._reader_told():
            for packets in self._segments.add(frames):
                self._send(packets)

    def _send(self, packets: Packets) -> None:
        # Sound before its pictures, so that a fragment waits for neither.
        self._tracks.write_sound_until(packets.start + len(packets))
        for packet in packets.as_av(self._tracks.video, self._fps, delay=0):
            packet.duration = 1  # frame; a fragment does not know when the next one begins
            self._container.mux(packet)
        self._fragments += 1

    @contextlib.contextmanager
    def _reader_told(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise SemibodyError(f"{self.path}: nobody reads it any more, so the stream has ended") from None

    def __enter__(self) -> VideoStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                with self._reader_told():
                    self._finish()
        finally:
            self._segments.close()
            with contextlib.suppress(Exception):  # the first error is reported
                self._container.close()
            if self._file is not sys.stdout.buffer:
                with contextlib.suppress(OSError):
                    self._file.close()
                if not self._fragments and self.path.is_file():
                    self.path.unlink()

    def _finish(self) -> None:
        """Send what is left."""
        if not self._segments.frames:
            raise ValueError(f"{self.path}: no frame was written")
        for packets in self._segments.last():
            self._send(packets)
        self._tracks.end_sound()
        self._container.close()
        self._file.flush()


def _open(path: Path) -> IO[bytes]:
    if str(path) == STANDARD_OUTPUT:
        if sys.stdout.isatty():
            raise SemibodyError("-: standard output is a terminal; send it to a player: ... -o - | ffplay -")
        return sys.stdout.buffer
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("wb")
    except OSError as error:
        raise SemibodyError(f"{path}: cannot be written ({error.strerror}); choose another place") from None


class _Pipe:
    """A file that is only written, one byte after the other."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, content: bytes) -> int:
        self._file.write(content)
        self._file.flush()
        return len(content)
