"""Video: frames in and out one at a time, so memory does not grow with length.

Written files are H.264 in yuv420p with AAC sound and the index in front (faststart), .webm VP9 with Opus:
encoded once, and the same input gives the same bytes. H.264 is encoded in segments (``segments``).
Transparent videos are VP9 or ProRes 4444.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
from av.container import InputContainer, OutputContainer
from numpy.typing import NDArray

from semibody.files import atomic_write, parse_json, require_file
from semibody.media import provenance
from semibody.media.audio import AAC_RATES, OPUS_RATES, SoundTrack, read_speech
from semibody.media.opening import LARGEST_FRAME, codec_of, local, open_media
from semibody.media.segments import Coding, Packets, Segments
from semibody.resume import Unfinished
from semibody.types import Clip, SemibodyError, Speech

Frame = NDArray[np.uint8]
"""(h, w, 3) RGB, or (h, w, 4) with opacity where a video is written transparent."""
ENDINGS = (".mp4", ".mov", ".mkv", ".webm")
TRANSPARENT_ENDINGS = (".mov", ".webm")
LONGEST_STILL = 600.0
"""Seconds for which one picture may stand; screens and slides do so for minutes."""
LONGEST_VIDEO = 24 * 3600.0
"""Seconds."""
_LOWEST_FPS, _HIGHEST_FPS = 0.01, 1000.0
_SOUND_BLOCKS = 0.3
"""Seconds by which sound may differ from what was given: two blocks of 1024 samples at 8 kHz."""
_LEAST_BITS = 0.02
"""Bits of a pixel at crf 18."""
_FOREIGN = (av.FFmpegError, ValueError, MemoryError)
"""What PyAV raises for damaged files."""


class VideoReader:
    """Iterates the frames of a video, upright.

        with VideoReader(path) as video:
            for frame in video.frames(fps=24): ...

    Raises SemibodyError when opened on something that is not a video.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        require_file(self.path, "a video file")
        self._container: InputContainer = open_media(self.path, "a video")
        try:
            self._stream = _picture_stream(self._container, self.path)
        except BaseException:
            self._container.close()
            raise

    @property
    def fps(self) -> float:
        """Average frames per second (nominal, for a variable rate); 25 where the file's is implausible."""
        rates = (self._stream.average_rate, self._stream.guessed_rate, 25)
        return next(float(rate) for rate in rates if rate and _LOWEST_FPS <= rate <= _HIGHEST_FPS)

    @functools.cached_property
    def size(self) -> tuple[int, int]:
        """Width and height of the upright frames."""
        # The rotation is stored with frames, and a frame read from self would be missing later.
        with open_media(self.path, "a video") as container, contextlib.suppress(*_FOREIGN):
            for frame in container.decode(_picture_stream(container, self.path)):
                height, width = _upright(frame).shape[:2]
                return width, height
        return self._stream.width, self._stream.height

    @property
    def has_sound(self) -> bool:
        return bool(self._container.streams.audio)

    @property
    def frame_count(self) -> int:
        """How many frames there are, as the file states; 0 when it does not."""
        if self._stream.frames:
            return self._stream.frames
        duration = self._container.duration
        return int(duration / av.time_base * self.fps) if duration else 0

    def __iter__(self) -> Iterator[Frame]:
        for _, frame in self._timed():
            yield frame

    def frames(self, fps: float | None = None) -> Iterator[Frame]:
        """Frames at ``fps``: for each output time the frame then on screen, whatever the file's own rate.

        Raises SemibodyError where a picture stands for longer than LONGEST_STILL: such times are damaged,
        and the gap would be filled with endless copies.
        """
        if fps is None:
            yield from self
            return
        number, shown, time, before = 0, None, 0.0, 0.0
        for time, frame in self._timed():
            if time - before > LONGEST_STILL or time > LONGEST_VIDEO:
                raise SemibodyError(
                    f"{self.path}: one picture stands from second {before:.0f} to {time:.0f}; "
                    "cut the video there, or convert it again"
                )
            before = time
            while shown is not None and number / fps < time - 1e-6:
                yield shown
                number += 1
            shown = frame
        while shown is not None and number / fps < time + min(1 / self.fps, LONGEST_STILL) - 1e-6:
            yield shown
            number += 1

    def _timed(self) -> Iterator[tuple[float, Frame]]:
        first: float | None = None
        decoded = self._container.decode(self._stream)
        while True:
            try:
                frame = next(decoded, None)
                if frame is None:
                    return
                picture = _upright(frame)
            except _FOREIGN as error:
                if first is not None and type(error) is MemoryError:
                    raise  # the machine's lack, no end of the video
                if first is not None:
                    return  # a file cut off in the middle still has the pictures before the cut
                reason = getattr(error, "strerror", None) or error
                raise SemibodyError(
                    f"{self.path}: the video is damaged ({reason}); export it again"
                ) from None
            time = frame.time if frame.time is not None else 0.0
            first = time if first is None else first
            yield time - first, picture

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()


def _picture_stream(container: InputContainer, path: Path) -> Any:
    """The first stream of pictures, ready to be decoded within limits. Raises SemibodyError."""
    if not container.streams.video:
        raise SemibodyError(f"{path}: has no pictures; give a video file")
    stream: Any = container.streams.video[0]
    codec = codec_of(stream, path)
    if codec.width * codec.height > LARGEST_FRAME:
        raise SemibodyError(
            f"{path}: has frames of {codec.width} x {codec.height} pixels; scale it to 8K or less"
        )
    codec.options = {"max_pixels": str(LARGEST_FRAME)}  # the size may change on the way
    stream.thread_type = "AUTO"
    return stream


def _upright(frame: av.VideoFrame) -> Frame:
    """A frame upright: phones store it rotated or mirrored, with a matrix that describes this."""
    picture = frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is not None:
        # Displayed x = a·x + c·y and y = b·x + d·y, y downwards.
        a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5]
        if abs(b) > abs(a):
            picture, a, d = picture.swapaxes(0, 1), c, b
        picture = picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    return np.ascontiguousarray(picture)


def read_clip(path: Path | str, fps: float | None = None, *, with_speech: bool = True) -> Clip:
    """Read a whole (short) video into memory, with its sound if it has any."""
    with VideoReader(path) as video:
        rate = fps or video.fps
        frames = list(video.frames(fps))
        has_sound = video.has_sound
    if not frames:
        raise SemibodyError(f"{path}: holds no frame that can be read; export it again")
    speech = read_speech(path) if with_speech and has_sound else None
    return Clip(np.stack(frames), rate, speech, read_metadata(path))


def read_metadata(path: Path | str) -> dict[str, Any]:
    """The seed, settings and weights that ``VideoWriter`` stored in a file; empty for other files."""
    path = Path(path)
    require_file(path, "a video file")
    try:
        with open_media(path, "a video") as container:
            # Matroska and WebM write names in capitals.
            tags = {name.lower(): text for name, text in container.metadata.items()}
        comment = tags.get("comment", "{}")
        values = parse_json(comment, str(path), "it is not ours")
    except SemibodyError:
        return {}
    return values if isinstance(values, dict) else {}


def require_video_name(path: Path, where: str = "", *, alpha: bool = False) -> None:
    """Raise SemibodyError unless ``VideoWriter`` can write a file of this name; ``where`` goes before it.

    ``alpha``: a transparent one.
    """
    if path.suffix.lower() not in ENDINGS:
        raise SemibodyError(f"{where}{path}: video is written as .mp4 (or .mov, .mkv, .webm)")
    if alpha and path.suffix.lower() not in TRANSPARENT_ENDINGS:
        raise SemibodyError(
            f"{where}{path}: {path.suffix} cannot be transparent; name it .mov (for editing) or .webm (for "
            "browsers), or leave out --alpha"
        )


def coding_of(path: Path, crf: int, *, alpha: bool = False) -> Coding:
    """How a file of this name is coded."""
    if path.suffix.lower() == ".webm":
        # VP9's quality goes to 63. Every frame has the same number of threads, or bytes would differ.
        options = {"crf": str(round(crf * 63 / 51)), "b": "0", "cpu-used": "4", "threads": "1"}
        if alpha:
            options["auto-alt-ref"] = "0"  # libvpx refuses these frames beside transparency
        return Coding("libvpx-vp9", "yuva420p" if alpha else "yuv420p", options, "libopus")
    if alpha:
        return Coding("prores_ks", "yuva444p10le", {"profile": "4444", "alpha_bits": "8", "threads": "1"})
    # x264's macroblock tree reads memory it never wrote: with it, the same frames gave one of
    # several files, depending on what the process had held there before.
    options = {"crf": str(crf), "preset": "medium", "x264-params": "mbtree=0"}
    return Coding("libx264", "yuv420p", options)


class Tracks:
    """The streams of pictures and of sound in a container that is being written."""

    def __init__(
        self,
        container: Any,
        coding: Coding,
        fps: Fraction,
        size: tuple[int, int],
        sound: SoundTrack | None,
        metadata: dict[str, Any],
    ) -> None:
        """``size``: (height, width). ``metadata`` become the container's comment."""
        self._container, self._fps, self._sound, self._samples = container, fps, sound, 0
        container.metadata["comment"] = json.dumps(metadata, sort_keys=True)
        self.video: Any = container.add_stream(coding.codec, rate=fps)
        coding.configure(self.video, *size)
        self._audio: Any = None
        if sound is not None:
            self._audio = container.add_stream(coding.sound, rate=sound.rate, layout=sound.layout)
            self._audio.bit_rate = sound.bit_rate

    @property
    def seconds_of_sound(self) -> float:
        """How much of it is written."""
        return self._samples / self._sound.rate if self._sound is not None else 0.0

    def mux(self, packets: Iterable[Any]) -> None:
        for packet in packets:
            self._container.mux(packet)

    def write_sound_until(self, frames: int) -> None:
        """The sound of the first ``frames`` frames, as far as it is not written yet."""
        if self._sound is None:
            return
        until = int(frames / self._fps * self._sound.rate)
        frame = self._sound.frame(until - self._samples, self._samples)
        if frame is not None:
            self.mux(self._audio.encode(frame))
            self._samples += frame.samples

    def end_sound(self) -> None:
        """Write what the sound's encoder holds back."""
        if self._audio is not None:
            self.mux(self._audio.encode(None))


class VideoWriter:
    """Writes frames as they come; the file appears under its name only when complete.

        with VideoWriter(path, fps=24, width=768, height=768, speech=speech) as video:
            video.write(frames)  # uint8 (f, h, w, 3), any number of times; with ``alpha`` (f, h, w, 4)

    The sound is the speech's recording with its own rate and channels, or where it was not read from a
    file the speech itself, cut to the video's length or ending before it. Odd sizes are padded by one line,
    because yuv420p halves the colour planes. ``crf`` 0..51: lower is better and larger. What the
    ``metadata`` call ours gets content credentials (``media.provenance``).

    A killed run of H.264 can be continued (``go_on``): the file has the same bytes.
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
        alpha: bool = False,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self.path = Path(path)
        if not 0 <= crf <= 51:
            raise SemibodyError(f"crf {crf} must be from 0 (lossless) to 51")
        require_video_name(self.path, alpha=alpha)
        self._credentials = provenance.wanted(self.path, metadata or {})
        self._fps = Fraction(fps).limit_denominator(1001)
        self._shape = (height, width, 4 if alpha else 3)
        self._coding = coding = coding_of(self.path, crf, alpha=alpha)
        rates = AAC_RATES if coding.sound == "aac" else OPUS_RATES
        self._sound = SoundTrack(speech, rates) if speech is not None else None
        self._frames_written = 0
        self._segments = Segments(coding, self._fps, (height, width))
        self._atomic = atomic_write(self.path)
        self._unfinished_path = self._atomic.__enter__()
        try:
            self._open(metadata or {})
        except BaseException as failure:
            self._atomic.__exit__(type(failure), failure, failure.__traceback__)
            raise

    def _open(self, metadata: dict[str, Any]) -> None:
        coding, ending = self._coding, self.path.suffix.lower()
        # Matroska's tracks have random numbers unless exact bytes are asked for.
        options = {"movflags": "+faststart"} if ending in (".mp4", ".mov") else {"fflags": "+bitexact"}
        self._container: OutputContainer = av.open(local(self._unfinished_path), "w", options=options)
        height, width = self._shape[:2]
        self._tracks = Tracks(self._container, coding, self._fps, (height, width), self._sound, metadata)

    def go_on(self, unfinished: Unfinished) -> None:
        """Continue what a killed run saved there, at ``frames_written``, and save there what is written.

        To be called before the first frame. Only H.264 is saved; other videos begin anew.
        """
        if self._coding.in_segments:
            for packets in self._segments.go_on(unfinished):
                self._mux_segment(packets)

    @property
    def frames_written(self) -> int:
        """How many frames there are so far, those of a killed run included."""
        return self._segments.frames if self._coding.in_segments else self._frames_written

    def write(self, frames: Frame) -> None:
        """Append uint8 frames (f, h, w, c) RGB, with opacity if the video has it, or one frame (h, w, c)."""
        frames = frames[None] if frames.ndim == 3 else frames
        if frames.shape[1:] != self._shape:
            raise ValueError(f"frames must be {self._shape}, got {frames.shape[1:]}")
        if self._coding.in_segments:
            for packets in self._segments.add(frames):
                self._mux_segment(packets)
            return
        for picture in frames:
            frame = self._coding.frame(picture, self._frames_written, self._fps)
            self._tracks.mux(self._tracks.video.encode(frame))
            self._frames_written += 1
            self._tracks.write_sound_until(self._frames_written)

    def _mux_segment(self, packets: Packets) -> None:
        self._tracks.mux(packets.as_av(self._tracks.video, self._fps))
        # Audio and video are interleaved, so that neither is buffered for the whole length.
        for frames in range(packets.start + 1, packets.start + len(packets) + 1):
            self._tracks.write_sound_until(frames)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._segments.close()
            with contextlib.suppress(Exception):  # the first error is reported
                self._container.close()
            self._atomic.__exit__(kind, error, trace)
            return
        try:
            if self.frames_written == 0:
                raise ValueError(f"{self.path}: no frame was written")
            if self._coding.in_segments:
                for packets in self._segments.last():
                    self._mux_segment(packets)
            else:
                self._tracks.mux(self._tracks.video.encode(None))
            self._tracks.end_sound()
            self._container.close()
            heard = self._tracks.seconds_of_sound
            require_whole(self._unfinished_path, self.path, self.frames_written, self._fps, heard)
            if self._credentials is not None:
                provenance.sign(self._unfinished_path, self._credentials)
        except BaseException as failure:
            self._atomic.__exit__(type(failure), failure, failure.__traceback__)
            raise
        finally:
            self._segments.close()
        self._atomic.__exit__(None, None, None)


def least_bytes(width: int, height: int, frames: int, crf: int) -> float:
    """Bytes of a video of a calm person before a plain wall; others are larger, by up to ten times."""
    return frames * width * height * _LEAST_BITS / 8 * 2 ** ((18 - crf) / 6)


def require_whole(path: Path, shown: Path, frames: int, fps: Fraction, sound: float) -> None:
    """Raise SemibodyError unless a written file has as many ``frames`` and as many seconds of ``sound``.

    Every packet is read, none decoded. ``shown`` is the name in the message. AAC comes in blocks of 1024
    samples, and files may not tell how long a block is, so sound may differ by two of them.
    """
    counted, last, heard = 0, 0.0, 0.0
    with open_media(path, "a video") as container:
        for packet in container.demux(*container.streams.video[:1], *container.streams.audio[:1]):
            if not packet.size:
                continue
            start = float((packet.pts or 0) * packet.time_base)
            if packet.stream.type == "video":
                counted, last = counted + 1, max(last, start)
            else:
                heard = max(heard, start + float((packet.duration or 0) * packet.time_base))
    lasts = abs(last - (frames - 1) / fps) < 0.5 / fps
    if counted != frames or not lasts or abs(heard - sound) > _SOUND_BLOCKS:
        raise SemibodyError(
            f"{shown}: was written with {counted} of {frames} frames, the last at second {last:.2f}, and "
            f"{heard:.2f} of {sound:.2f} s of sound, so it is not kept; check the disk and run it again"
        )


def write_clip(clip: Clip, path: Path | str, *, crf: int = 18) -> None:
    """Write a clip that is in memory; see VideoWriter."""
    height, width = clip.frames.shape[1:3]
    with VideoWriter(
        path, fps=clip.fps, width=width, height=height, speech=clip.speech, crf=crf, metadata=clip.metadata
    ) as video:
        video.write(clip.frames)
