"""Gestures as pictures: contact sheets, previews, overlays on a portrait or on the video they came from."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np

from semibody.media import VideoReader, VideoWriter, read_speech, resize_image, write_image
from semibody.pose.align import align
from semibody.pose.detectors import detect_pose
from semibody.pose.frame import frame_portrait
from semibody.pose.library import find_gesture, names
from semibody.pose.overlay import contact_sheet, draw_skeleton, fit_into, write_text
from semibody.types import Gesture, Picture, Pose, Progress, SemibodyError, Speech, silent

_DARK = 28


def write_contact_sheet(path: Path, gesture: Gesture, background: Picture | None = None) -> None:
    """At most 24 poses of a gesture, evenly in time, with their seconds."""
    count = min(24, len(gesture))
    frames = np.linspace(0, len(gesture) - 1, count).astype(int).tolist()
    canvas = background if background is not None else _empty(gesture, 256)
    pictures = [draw_skeleton(canvas, gesture[i]) for i in frames]
    labels = [f"{i / gesture.fps:.2f} s" for i in frames]
    write_image(path, contact_sheet(pictures, labels, columns=6))


def write_preview(
    path: Path, gesture: Gesture, size: int, background: Picture | None = None, speech: Speech | None = None
) -> None:
    """The whole gesture as a video, ``size`` high."""
    canvas = background if background is not None else _empty(gesture, size)
    height, width = canvas.shape[:2]
    with VideoWriter(path, fps=gesture.fps, width=width, height=height, speech=speech) as video:
        for frame in range(len(gesture)):
            drawn = draw_skeleton(canvas, gesture[frame])
            write_text(drawn, f"{frame / gesture.fps:.2f} s", 8, height - 8)
            video.write(drawn)


def on_portrait(gesture: Gesture, portrait: Picture, size: int) -> tuple[Gesture, Picture, str]:
    """The gesture fitted to a portrait, the darkened portrait ``size`` high, and the alignment in words."""
    pose = detect_pose(portrait)
    height, width = portrait.shape[:2]
    framing = frame_portrait(pose, width, height, 1.0)
    framed = Pose(framing.crop.joints(pose.joints), pose.confidence)
    aligned, alignment = align(gesture, framed, 1.0)
    picture = resize_image(framing.crop.apply(portrait), size, size)
    return aligned, (picture * 0.6).astype(np.uint8), alignment.line()


def write_overlay_video(path: Path, gesture: Gesture, video: Path, progress: Progress = silent) -> None:
    """The video a gesture was taken from, its sound, and its poses drawn on it; at most 720 lines high."""
    speech = None
    with contextlib.suppress(SemibodyError):  # a video without sound, or whose sound is damaged
        speech = read_speech(video)
    with VideoReader(video) as reader:
        frames = reader.frames(gesture.fps)
        first = _at_most(next(frames))
        height, width = first.shape[:2]
        with VideoWriter(path, fps=gesture.fps, width=width, height=height, speech=speech) as writer:
            writer.write(draw_skeleton(first, gesture[0]))
            for number, frame in enumerate(frames, start=1):
                if number >= len(gesture):
                    break
                writer.write(draw_skeleton(_at_most(frame), gesture[number]))
                progress("draw poses", number + 1, len(gesture))


def write_library_sheet(path: Path) -> None:
    """A row of six poses for every gesture of the library."""
    pictures: list[Picture] = []
    labels: list[str] = []
    for name in names():
        gesture = find_gesture(name)
        for frame in np.linspace(0, len(gesture) - 1, 7)[:6].astype(int).tolist():
            pictures.append(draw_skeleton(_empty(gesture, 200), gesture[frame]))
            labels.append(name if len(labels) % 6 == 0 else f"{frame / gesture.fps:.1f} s")
    write_image(path, contact_sheet(pictures, labels, columns=6, side=200))


def _empty(gesture: Gesture, size: int) -> Picture:
    if not 0.05 < gesture.aspect < 20:
        raise SemibodyError(f"{gesture.name}: an aspect of {gesture.aspect:g} cannot be drawn")
    return np.full((size, max(2, round(size * gesture.aspect)), 3), _DARK, np.uint8)


def _at_most(frame: Picture, side: int = 1280) -> Picture:
    return frame if max(frame.shape[:2]) <= side else fit_into(frame, side)
