"""Clips to compare a model's with: the portrait repeated, and the real clip through the autoencoder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from semibody.animator import Animator, to_uint8
from semibody.inputs import fit_portrait
from semibody.media import VideoReader, VideoWriter, read_image, resize_image
from semibody.settings import Settings

Baseline = Literal["repeat", "ceiling", "swapped"]
_AT_ONCE = 8


def write_repeat(path: Path, portrait: Path, clip: Path, settings: Settings, crf: int) -> None:
    """A video as long as ``clip`` that repeats the framed portrait."""
    picture = fit_portrait(read_image(portrait), settings).picture
    with VideoReader(clip) as video:
        frames = sum(1 for _ in video)
    with _writer(path, settings, crf) as writer:
        for _ in range(frames):
            writer.write(picture)


def write_ceiling(path: Path, animator: Animator, real: Path, settings: Settings, crf: int) -> None:
    """The real clip, encoded and decoded by the autoencoder: no denoiser can be nearer to the truth."""
    with _writer(path, settings, crf) as writer, VideoReader(real) as video:
        for pictures in _slices(video.frames(settings.fps), settings):
            writer.write(through_autoencoder(animator, pictures))


@torch.inference_mode()
def through_autoencoder(animator: Animator, pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pictures (f, h, w, 3), encoded and decoded."""
    pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).to(animator.device, animator.dtype) / 127.5 - 1
    return to_uint8(animator.decode_pixels(animator.model.encode(pixels)))


def _writer(path: Path, settings: Settings, crf: int) -> VideoWriter:
    return VideoWriter(path, fps=settings.fps, width=settings.width, height=settings.height, crf=crf)


def _slices(frames: Iterator[NDArray[np.uint8]], settings: Settings) -> Iterator[NDArray[np.uint8]]:
    waiting = []
    for frame in frames:
        waiting.append(resize_image(frame, settings.width, settings.height))
        if len(waiting) == _AT_ONCE:
            yield np.stack(waiting)
            waiting = []
    if waiting:
        yield np.stack(waiting)
