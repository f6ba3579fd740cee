"""Opening sound and video files: local files of known formats, and nothing they point to.

FFmpeg reads ``10:30.wav`` or ``http:/x`` as an address, and some formats (playlists, scripts, devices)
name other files to read. So names are always passed as files, files are the only protocol, and only listed
formats are opened.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer

from semibody.types import SemibodyError

FORMATS = (
    # sound and pictures
    "mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "avi", "flv", "mpeg", "mpegts", "mpegvideo",
    "asf", "ogg", "mxf", "nut", "dv", "ivf", "h264", "hevc", "m4v", "mjpeg", "gif", "rm",
    # sound
    "wav", "w64", "mp3", "aac", "ac3", "eac3", "flac", "aiff", "caf", "au", "amr", "amrnb", "amrwb", "ape",
    "wv", "tta", "dts", "voc", "mpc", "mpc8", "dsf", "qoa",
)  # fmt: skip
"""FFmpeg's names of the containers that are read. None of them makes it open a second file."""
LARGEST_FRAME = 40_000_000
"""Pixels of a video's frame; 8K has 33 million."""
_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": ",".join(FORMATS)}


def local(path: Path) -> str:
    """A path in FFmpeg's syntax for files, so that a colon in it does not make it an address."""
    return f"file:{os.path.abspath(path)}"  # noqa: PTH100 - links stay as they are


def open_media(path: Path, what: str) -> InputContainer:
    """Open a file for reading. ``what`` it should be, with an article, for the SemibodyError it may raise.

    Text in the file that is not UTF-8 (old tags) is replaced, because it is not used.
    """
    try:
        return av.open(local(path), metadata_errors="replace", options=_OPTIONS)
    except av.ArgumentError:
        reason = "its format is not one of those that are"
    except (av.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if _is_picture(path):
        raise SemibodyError(f"{path}: is a picture, not {what}; the portrait comes first, then the recording")
    raise SemibodyError(f"{path}: is not {what} that can be read ({reason}); convert it to mp4 or wav")


def _is_picture(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(12)
    return start.startswith((b"\x89PNG", b"\xff\xd8\xff")) or start[8:] == b"WEBP"


def codec_of(stream: Any, path: Path) -> Any:
    """A stream's decoder. Raises SemibodyError where FFmpeg knows none."""
    if stream.codec_context is None:
        raise SemibodyError(
            f"{path}: its {stream.type} is coded in a way that is not known here; "
            "convert it to mp4 with H.264 and AAC"
        )
    return stream.codec_context
