"""Sound, pictures and videos that crash readers, fill the memory, name addresses or have odd names."""

from __future__ import annotations

import io
import os
import socket
import struct
import tracemalloc
import wave
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

import made
from semibody import media
from semibody.files import atomic_write, numbered_lines, refuse_input, unfinished_name
from semibody.media.opening import FORMATS
from semibody.types import Clip, SemibodyError

LONG_NAME = "语" * 83  # 249 bytes; with .mp4 253 of the 255 that a file system allows


def wav(path: Path, rate: int, content: bytes = bytes(14_000), *, kind: int = 1, bits: int = 8) -> Path:
    """A mono wav of any rate; ``kind`` 1 is whole numbers, 3 floating ones."""
    block = bits // 8
    head = struct.pack("<HHIIHH", kind, 1, rate, rate * block, block, bits)
    body = (
        b"WAVEfmt "
        + struct.pack("<I", len(head))
        + head
        + b"data"
        + struct.pack("<I", len(content))
        + content
    )
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path


# -- tags and names ------------------------------------------------------------------------


def test_old_tags_that_are_not_utf8_are_ignored(tmp_path: Path) -> None:
    """A Latin-1 title in mp3, wav and avi."""
    title = "Café".encode("latin-1").ljust(30, b"\0")
    source = made.write_video(tmp_path / "a.mp4")
    for name, codec in (("a.mp3", "libmp3lame"), ("b.wav", "pcm_s16le")):
        # Newer tags would go before the old one.
        with av.open(
            str(tmp_path / name), "w", options={"id3v2_version": "0"} if codec == "libmp3lame" else {}
        ) as container:
            stream: Any = container.add_stream(codec, rate=16000, layout="mono")
            frame = media.audio.audio_frame(made.tone().waveform, 16000)
            for packet in [*stream.encode(frame), *stream.encode(None)]:
                container.mux(packet)
    with (tmp_path / "a.mp3").open("ab") as file:
        file.write(b"TAG" + title + bytes(95))
    content = (tmp_path / "b.wav").read_bytes()
    tag = b"LIST" + struct.pack("<I", 4 + 8 + 30) + b"INFOINAM" + struct.pack("<I", 30) + title
    (tmp_path / "b.wav").write_bytes(content[:12] + tag + content[12:])
    with av.open(str(tmp_path / "c.avi"), "w") as container:
        container.metadata["title"] = "0123456789"
        video: Any = container.add_stream("mpeg4", rate=12)
        video.width = video.height = 96
        for frame in media.read_clip(source).frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(video.encode(None))
    content = (tmp_path / "c.avi").read_bytes()
    assert content.count(b"0123456789") == 1
    (tmp_path / "c.avi").write_bytes(content.replace(b"0123456789", b"Caf\xe9 Caf\xe9."))
    for name in ("a.mp3", "b.wav"):
        with pytest.raises(UnicodeDecodeError), av.open(str(tmp_path / name)):
            pass
        assert media.read_speech(tmp_path / name).seconds == pytest.approx(1.0, abs=0.1)
    assert len(media.read_clip(tmp_path / "c.avi").frames) == 12


@pytest.mark.parametrize(
    "name", ["10:30.{}", "http:.{}", "concat:a|b.{}", "-i.{}", "a%03d.{}", " .{}", "'\".{}"]
)
def test_names_are_never_read_as_addresses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)  # relative, as a user types them
    sound, video = Path(name.format("wav")), Path(name.format("mp4"))
    media.write_speech(sound, made.tone())
    assert media.read_speech(sound).seconds == 1.0
    made.write_video(video)
    assert media.read_clip(video).frames.shape == (12, 96, 96, 3)
    assert set(Path().iterdir()) == {sound, video}


def test_a_name_that_is_no_utf8(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.wav")
    media.write_speech(path, made.tone())
    assert media.read_speech(path).seconds == 1.0


def test_no_connection_is_opened_to_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither as a name nor from inside a playlist."""
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.3)
        address = f"http:/127.0.0.1:{server.getsockname()[1]}/a.ts"
        url = address.replace(":/", "://", 1)
        playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{url}\n#EXT-X-ENDLIST\n"
        (tmp_path / "list.m3u8").write_text(playlist)
        (tmp_path / "list.mp4").write_text(playlist)
        (tmp_path / "list.ffconcat").write_text(f"ffconcat version 1.0\nfile '{url}'\n")
        names = (address, url, "list.m3u8", "list.mp4", "list.ffconcat")
        for name in names:
            for read in (media.read_speech, media.VideoReader, media.read_clip):
                with pytest.raises(SemibodyError):
                    read(name)
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_playlist_of_local_files_is_refused(tmp_path: Path) -> None:
    media.write_speech(tmp_path / "secret.wav", made.tone())
    (tmp_path / "list.wav").write_text("ffconcat version 1.0\nfile secret.wav\n")
    with pytest.raises(SemibodyError, match=r"list\.wav: is not a sound or video file that can be read"):
        media.read_speech(tmp_path / "list.wav")


def test_every_format_of_the_list_is_supported_by_ffmpeg() -> None:
    known = {name for names in av.formats_available for name in names.split(",")}
    assert set(FORMATS) <= known
    assert not {"hls", "concat", "dash", "lavfi", "image2", "rtsp", "sdp", "tee"} & set(FORMATS)


# -- the temporary name --------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [LONG_NAME + ".mp4", "语" * 77 + ".mp4", "a" * 255, "a." + "b" * 250, "a", ".mp4"]
)
def test_a_temporary_name_is_never_too_long(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    hidden = unfinished_name(path).name
    assert len(os.fsencode(hidden)) <= max(70, len(os.fsencode(name)))
    assert hidden.startswith(".")
    assert hidden.endswith(path.suffix) or len(path.suffix) > 20
    with atomic_write(path) as unfinished:
        unfinished.write_text("whole")
    assert path.read_text() == "whole"
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_video_with_a_long_name(tmp_path: Path) -> None:
    path = made.write_video(tmp_path / f"{LONG_NAME}.mp4")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["语" * 90 + ".mp4", "a\0b.mp4", "a\ud800.mp4", "file/inside.mp4"])
def test_an_impossible_name_is_reported_before_the_work(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("a file, no folder")
    with pytest.raises(SemibodyError, match="cannot be written") as error:
        media.VideoWriter(tmp_path / name, fps=12, width=64, height=64)
    str(error.value).encode()
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_writer_that_cannot_start_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(Exception):  # noqa: B017 - any error of the encoder
        media.VideoWriter(tmp_path / "a.mp4", fps=12, width=64, height=64, metadata={"a": object()})
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    target, link = tmp_path / "disk" / "real.mp4", tmp_path / "link.mp4"
    target.write_bytes(b"before")
    link.symlink_to(target)
    made.write_video(link)
    assert link.is_symlink()
    assert len(media.read_clip(target).frames) == 12
    (tmp_path / "new.txt").symlink_to(tmp_path / "disk" / "not yet")
    with atomic_write(tmp_path / "new.txt") as unfinished:
        unfinished.write_text("made")
    assert (tmp_path / "disk" / "not yet").read_text() == "made"
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(SemibodyError, match="loop"), atomic_write(tmp_path / "loop"):
        pass


# -- inputs stay ---------------------------------------------------------------------------


def test_an_input_is_never_an_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("talk.mp4").write_text("an input")
    Path("sub").mkdir()
    Path("symbolic.mp4").symlink_to("talk.mp4")
    os.link("talk.mp4", "hard.mp4")
    for output in ("talk.mp4", "sub/../talk.mp4", tmp_path / "talk.mp4", "symbolic.mp4", "hard.mp4"):
        with pytest.raises(SemibodyError, match=r"would overwrite the input talk\.mp4"):
            refuse_input(output, "portrait.png", None, "talk.mp4")
    with pytest.raises(SemibodyError):
        refuse_input("talk.mp4", "symbolic.mp4")
    for output in ("out.mp4", "wave", "sub"):
        refuse_input(output, "talk.mp4", "wave", "a\0b", None)


def test_a_line_ends_at_a_line_feed_only(tmp_path: Path) -> None:
    """U+2028 and its like may stand in a name, and str.splitlines cuts at them."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"name": "one\u2028two\x85three\x0c"}\r\n\n{"name": 2}\n', encoding="utf-8")
    lines = numbered_lines(path, "give JSON lines")
    assert [number for number, _ in lines] == [1, 3]


# -- pictures ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["EPS", "PDF", "DDS", "ICNS", "JPEG2000", "SGI", "PCX", "TGA"])
def test_formats_not_on_the_list_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(made.picture()).save(path, format=kind)
    with pytest.raises(SemibodyError, match=r"a\.png: is not a picture that is read here"):
        media.read_image(path)


def test_no_program_is_started_for_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostScript goes through Ghostscript where Pillow may."""
    gs = tmp_path / "gs"
    gs.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    gs.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "a.png").write_text(
        "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n"
    )
    with pytest.raises(SemibodyError):
        media.read_image(tmp_path / "a.png")
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "PPM"])
def test_mutated_pictures_are_read_or_refused(tmp_path: Path, kind: str) -> None:
    good = io.BytesIO()
    try:
        Image.fromarray(made.picture(32, 32)).save(good, format=kind)
    except (KeyError, OSError):
        pytest.skip(f"this Pillow writes no {kind}")
    rng = np.random.default_rng(0)
    path = tmp_path / "a.png"
    read = 0
    for number in range(60):
        content = bytearray(good.getvalue())
        for _ in range(number and int(rng.integers(1, 5))):
            content[int(rng.integers(0, min(len(content), 400)))] = int(rng.integers(0, 256))
        path.write_bytes(bytes(content))
        try:
            media.read_image(path)
            read += 1
        except SemibodyError as error:
            assert "a.png" in str(error)
    assert read


# -- sound and video -----------------------------------------------------------------------


@pytest.mark.parametrize("rate", [1, 50, 1999, 2_000_000])
def test_absurd_rates_take_no_memory(tmp_path: Path, rate: int) -> None:
    """14 kB at one sample a second are four hours, which took 5 GB."""
    path = wav(tmp_path / "a.wav", rate)
    tracemalloc.start()
    with pytest.raises(SemibodyError, match=r"a\.wav: has \d+ samples a second"):
        media.read_speech(path)
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_samples_that_are_no_numbers(tmp_path: Path, value: float) -> None:
    path = wav(tmp_path / "a.wav", 16000, np.full(16000, value, "<f4").tobytes(), kind=3, bits=32)
    with pytest.raises(SemibodyError, match="not numbers"):
        media.read_speech(path)


def test_long_sound_takes_no_more_memory_than_its_samples(tmp_path: Path) -> None:
    """Twenty minutes at 8 kHz, in memory no more than the result and the 16-bit samples."""
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(8000)
        for _ in range(20):
            file.writeframes(b"\x80" * 8000 * 60)
    tracemalloc.start()
    speech = media.read_speech(tmp_path / "a.wav")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert speech.seconds == pytest.approx(1200, abs=0.1)
    assert peak < 1.7 * speech.waveform.nbytes


def gap(path: Path, seconds: float) -> Path:
    """Three frames with a pause after the second."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for time in (0.0, 1 / 24, 1 / 24 + seconds):
            frame = av.VideoFrame.from_ndarray(made.picture(64, 64), format="rgb24")
            frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_pictures_days_apart_are_refused(tmp_path: Path) -> None:
    path = gap(tmp_path / "a.mkv", 11 * 86400.0)
    with (
        media.VideoReader(path) as video,
        pytest.raises(SemibodyError, match="one picture stands from second 0"),
    ):
        list(video.frames(24))
    with media.VideoReader(path) as video:
        assert len(list(video)) == 3


def test_a_pause_of_minutes_is_filled(tmp_path: Path) -> None:
    with media.VideoReader(gap(tmp_path / "a.mkv", 120.0)) as video:
        assert sum(1 for _ in video.frames(24)) == pytest.approx(120 * 24, abs=5)


def test_an_unknown_codec_is_refused(tmp_path: Path) -> None:
    content = made.write_video(tmp_path / "a.mkv").read_bytes()
    for known, unknown in ((b"V_MPEG4/ISO/AVC", b"V_MPEG4/ISO/ZZZ"), (b"A_AAC", b"A_ZZZ")):
        assert content.count(known) == 1
        content = content.replace(known, unknown)
    (tmp_path / "a.mkv").write_bytes(content)
    for read in (media.VideoReader, media.read_speech):
        with pytest.raises(SemibodyError, match=r"a\.mkv: .* convert it to mp4 with H\.264"):
            read(tmp_path / "a.mkv")


def test_frames_too_large_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    header = b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\x80\x00\x00" + bytes(6)
    picture = b"," + struct.pack("<HHHH", 0, 0, 65535, 65535) + b"\x00\x02\x02L\x01\x00;"
    (tmp_path / "a.gif").write_bytes(header + picture)
    with pytest.raises(SemibodyError, match=r"a\.gif"):
        media.read_clip(tmp_path / "a.gif")


def test_mutated_media_are_read_or_refused(tmp_path: Path) -> None:
    media.write_clip(Clip(np.stack([made.picture(64, 64)] * 4), 12.0, made.tone(0.3)), tmp_path / "good.mp4")
    good = (tmp_path / "good.mp4").read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "a.mp4"
    for _ in range(60):
        content = bytearray(good)
        for _ in range(int(rng.integers(1, 8))):
            at = int(rng.integers(0, 2000)) if rng.random() < 0.7 else int(rng.integers(0, len(content)))
            content[at] = int(rng.integers(0, 256))
        path.write_bytes(bytes(content))
        for read in (
            media.read_speech,
            media.read_metadata,
            lambda p: media.read_clip(p, 12.0, with_speech=False),
        ):
            try:
                read(path)
            except SemibodyError as error:
                assert "a.mp4" in str(error)


@pytest.mark.parametrize("name", ["id3v1_latin1.mp3", "latin1_title.avi"])
def test_the_given_samples_with_old_tags(shared_inputs: Path, name: str) -> None:
    path = shared_inputs / "hostile" / name
    if path.suffix == ".mp3":
        assert media.read_speech(path).seconds > 0.1
    else:
        assert len(media.read_clip(path, with_speech=False)) > 1


@pytest.mark.parametrize("ending", ["dds", "avif", "webp"])
def test_the_given_pictures(shared_inputs: Path, ending: str) -> None:
    for path in (shared_inputs / "hostile").glob(f"fuzz-image-*.{ending}"):
        with pytest.raises(SemibodyError):
            media.read_image(path)
