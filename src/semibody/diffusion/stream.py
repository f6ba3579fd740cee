"""A clip's latents part by part: its first frames are there before its last are begun.

    for frames, latents in stream(denoiser, noise, build, parts(720, 12, 3), windows): ...

Where windows share no frame, each is a part, and a frame is what ``sample`` makes of it. Else a part begins
with the last frames that the one before gave: in every step they are set to what they were in that step
there, so windows that reach over the seam, and their temporal layers, see what has been shown. And it ends
with frames that are not given yet, because they have not seen what comes after them. Only the frames that are
carried over are kept, whatever the clip's length.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from semibody.diffusion.guidance import Denoise
from semibody.diffusion.process import clamp_noise, share_noise
from semibody.diffusion.sample import sample
from semibody.diffusion.windows import Window, ring_windows

T = TypeVar("T")

FIRST, NEXT, CARRIED, AHEAD = 1, 4, 1, 0.5
"""Frames that the first part gives and that others do, that a part takes over, and that it ends with without
giving them, in windows."""
_DRAWN = 16
"""Frames whose noise is drawn at a time, to get to what follows it."""
_APART = 1_000_003
"""Between the generators of two seeds' frames."""


@dataclass(frozen=True)
class Part:
    """Frames of a clip that are denoised together."""

    frames: tuple[int, ...]
    """their numbers, as windows hold them"""
    old: int
    """how many of the first were given before"""
    new: int
    """how many after these are given"""
    kept: int
    """how many of the last of these the next part begins with"""


def parts(frames: int, window: int, *, alone: bool) -> Iterator[Part]:
    """The parts of a clip. ``alone``: windows share no frame and do not move on, so each is a part; the last
    wraps to the clip's first frames as it does in ``ring_windows``."""
    if alone:
        for number, members in enumerate(ring_windows(frames, window, 0)):
            yield Part(tuple(members), 0, min(window, frames - number * window), 0)
        return
    start, kept = 0, CARRIED * window
    while start < frames:
        stop = min(frames, start + (NEXT if start else FIRST) * window)
        begin, end = max(0, start - kept), min(frames, stop + round(AHEAD * window))
        yield Part(tuple(range(begin, end)), start - begin, stop - start, kept)
        start = stop


def row_windows(frames: int, length: int, overlap: int, shift: int) -> list[Window]:
    """Windows as in ``ring_windows``, but not closed into a ring: the first and the last frames of a part are
    no neighbours. Each has ``length`` frames, fewer only if there are no more."""
    last = max(0, frames - length)
    stride = length - overlap
    begins = range(shift % stride - stride, frames - overlap, stride)
    starts = dict.fromkeys([0, *(min(max(begin, 0), last) for begin in begins), last])
    return [list(range(start, min(start + length, frames))) for start in starts]


def stream(
    denoiser: Callable[[], Denoise],
    noise: Callable[[Sequence[int]], Float[Tensor, "f c h w"]],
    build: Callable[[], Any],
    parts: Iterable[Part],
    windows: Callable[[int, int], list[Window]],
) -> Iterator[tuple[range, Float[Tensor, "f c h w"]]]:
    """Denoise part by part: numbers of frames, and their latents.

    ``denoiser`` gives a fresh one for each part, since they may keep something from step to step; ``noise``
    that of frames, each the same at every call; ``build`` a scheduler with its timesteps set; and ``windows``
    those of a part of so many frames in a step. Raises FloatingPointError as ``sample``.
    """
    before: list[Tensor] = []
    """of the frames that this part begins with, their latents after every step of the part before"""
    for part in parts:
        latents, before = _denoise_part(denoiser(), noise(part.frames), build(), part, windows, before)
        start = part.frames[part.old]
        yield range(start, start + part.new), latents[part.old : part.old + part.new]


def ahead(items: Iterable[T]) -> Generator[T]:
    """The items, each made by another thread while the one before it is used.

    That thread computes with half of this one's threads: those that use an item work at the same time.
    """
    taken, threads = iter(items), torch.get_num_threads()

    def following() -> list[T]:
        with torch.inference_mode():
            return list(itertools.islice(taken, 1))

    try:
        with ThreadPoolExecutor(1, "ahead", torch.set_num_threads, (max(1, threads // 2),)) as thread:
            made = thread.submit(following).result()
            while made:
                after = thread.submit(following)
                yield from made
                made = after.result()
    finally:
        torch.set_num_threads(threads)  # what the next threads begin with


def _denoise_part(
    denoise: Denoise,
    noise: Float[Tensor, "f c h w"],
    scheduler: Any,
    part: Part,
    windows: Callable[[int, int], list[Window]],
    before: Sequence[Tensor],
) -> tuple[Float[Tensor, "f c h w"], list[Tensor]]:
    """The latents of a part, and those of its last frames after every step."""
    after: list[Tensor] = []

    def carry(step: int, t: Tensor, latents: Float[Tensor, "f c h w"]) -> None:  # noqa: ARG001
        if part.old:
            latents[: part.old] = before[step]
        stop = part.old + part.new
        after.append(latents[max(0, stop - part.kept) : stop].clone())

    def of_frames(given: Tensor, t: Tensor, window: Window) -> Tensor:
        return denoise(given, t, [part.frames[place] for place in window])

    count = len(part.frames)
    made = sample(of_frames, noise, scheduler, lambda step: windows(count, step), after_step=carry)
    return made, after


class FrameNoise:
    """The noise of single frames, each the same whenever it is asked for.

    What frames have in common (``shared``) is what all of a clip of ``frames`` frames have in common in
    ``initial_noise``; with ``shared`` 1 it is the same bits. A frame's own comes from a generator of its own,
    so that it does not depend on the clip's length.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        *,
        seed: int,
        shared: float,
        frames: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """``shape``: (c, h, w) of a frame's latents; ``dtype`` as for ``initial_noise``."""
        self._shape, self._seed, self._shared, self._dtype = shape, seed, shared, dtype
        generator = torch.Generator().manual_seed(seed)
        # A draw of sixteen frames or more takes from the generator what a longer one takes for them.
        while frames > 0:
            drawn = frames if frames < 2 * _DRAWN else _DRAWN
            torch.randn((drawn, *shape), generator=generator, dtype=dtype)
            frames -= drawn
        self._common = torch.randn(shape, generator=generator, dtype=dtype)

    def __call__(self, frames: Sequence[int]) -> Float[Tensor, "f c h w"]:
        """Noise of the numbered frames, on the CPU in float32."""
        if self._shared == 1:
            return clamp_noise(self._common).float().repeat(len(frames), 1, 1, 1)
        own = torch.stack(
            [torch.randn(self._shape, generator=self._of(i), dtype=self._dtype) for i in frames]
        )
        return clamp_noise(share_noise(own, self._common, self._shared)).float()

    def _of(self, frame: int) -> torch.Generator:
        return torch.Generator().manual_seed((self._seed * _APART + frame + 1) % 2**63)
