"""Files <-> arrays: video, audio, image. The only importer of PyAV and Pillow (floor 1)."""

from semibody.files import atomic_write
from semibody.media.audio import Sound, count_tracks, loudness, read_speech, write_speech
from semibody.media.image import (
    WHITE,
    Colour,
    Opacity,
    read_cutout,
    read_image,
    resize_image,
    write_gif,
    write_image,
)
from semibody.media.matte import Matte, key_colour, put_behind
from semibody.media.stream import STANDARD_OUTPUT, VideoStream, require_stream_name
from semibody.media.video import (
    VideoReader,
    VideoWriter,
    least_bytes,
    read_clip,
    read_metadata,
    require_video_name,
    write_clip,
)

__all__ = [
    "STANDARD_OUTPUT",
    "WHITE",
    "Colour",
    "Matte",
    "Opacity",
    "Sound",
    "VideoReader",
    "VideoStream",
    "VideoWriter",
    "atomic_write",
    "count_tracks",
    "key_colour",
    "least_bytes",
    "loudness",
    "put_behind",
    "read_clip",
    "read_cutout",
    "read_image",
    "read_metadata",
    "read_speech",
    "require_stream_name",
    "require_video_name",
    "resize_image",
    "write_clip",
    "write_gif",
    "write_image",
    "write_speech",
]
