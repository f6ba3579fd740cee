"""Parts of a clip, one after the other."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from semibody.diffusion.schedule import ScheduleConfig, build_scheduler, initial_noise
from semibody.diffusion.stream import FrameNoise, Part, ahead, parts, row_windows, stream


@pytest.mark.parametrize(("frames", "window"), [(1, 12), (12, 12), (30, 12), (500, 12), (47, 5)])
@pytest.mark.parametrize("alone", [True, False])
def test_every_frame_is_given_once_and_in_order(frames: int, window: int, alone: bool) -> None:
    given: list[int] = []
    before: Part | None = None
    for part in parts(frames, window, alone=alone):
        given += part.frames[part.old : part.old + part.new]
        if before is not None:
            assert part.old == before.kept
            stop = before.old + before.new
            assert part.frames[: part.old] == before.frames[max(0, stop - before.kept) : stop]
        before = part
    assert given == list(range(frames))


@pytest.mark.parametrize(("frames", "length", "overlap"), [(60, 12, 3), (12, 12, 3), (7, 12, 3), (25, 12, 0)])
@pytest.mark.parametrize("shift", [0, 3, 100])
def test_windows_of_a_part_cover_it_and_join_no_strangers(
    frames: int, length: int, overlap: int, shift: int
) -> None:
    windows = row_windows(frames, length, overlap, shift)
    assert {frame for window in windows for frame in window} == set(range(frames))
    for window in windows:
        assert len(window) == min(length, frames)
        assert all(b == a + 1 for a, b in itertools.pairwise(window))
    assert len({window[0] for window in windows}) == len(windows)


@pytest.mark.parametrize("frames", [1, 16, 31, 33, 100])
@pytest.mark.parametrize("shape", [(16, 8, 8), (4, 3, 5)])
def test_noise_that_all_frames_share_is_that_of_the_whole_clip(
    frames: int, shape: tuple[int, int, int]
) -> None:
    whole = initial_noise(frames, *shape, seed=7, shared=1.0)
    assert torch.equal(FrameNoise(shape, seed=7, shared=1.0, frames=frames)([0, 0, frames - 1]),
                       whole[[0, 0, frames - 1]])  # fmt: skip


def test_a_frame_s_noise_is_its_own_and_always_the_same() -> None:
    noise = FrameNoise((4, 16, 16), seed=7, shared=0.25, frames=5)
    four, again = noise([3, 4, 5, 6]), noise([4])
    assert torch.equal(four[1:2], again)
    assert not torch.equal(four, FrameNoise((4, 16, 16), seed=8, shared=0.25, frames=5)([3, 4, 5, 6]))
    among = torch.corrcoef(noise(range(64)).flatten(1))
    away = among[~torch.eye(64, dtype=torch.bool)]
    assert float(away.mean()) == pytest.approx(0.25, abs=0.03)


def blur_in_time(latents: Tensor, t: Tensor, window: list[int]) -> Tensor:
    """A prediction of clean latents that depends on neighbours and on where in the clip a frame is."""
    padded = torch.cat([latents[:1], latents, latents[-1:]])
    there = torch.sin(torch.tensor(window, dtype=torch.float32) / 9)[:, None, None, None]
    return 0.3 * (padded[:-2] + padded[1:-1] + padded[2:]) / 3 + there


@pytest.mark.parametrize("solver", ["ddim", "dpm++"])
def test_no_seam_is_seen_between_parts(solver: str) -> None:
    """Frames on both sides of a seam differ as neighbours elsewhere do."""
    config = ScheduleConfig(prediction="sample")
    noise = FrameNoise((4, 8, 8), seed=3, shared=0.5, frames=300)
    made = stream(
        lambda: blur_in_time, noise, lambda: build_scheduler(config, solver, 4),  # type: ignore[arg-type]
        parts(300, 12, alone=False), lambda frames, step: row_windows(frames, 12, 3, 3 * step),
    )  # fmt: skip
    ranges, latents = zip(*((frames, given.clone()) for frames, given in made), strict=True)
    change = torch.cat(latents).diff(dim=0).square().mean(dim=(1, 2, 3)).sqrt()
    seams = torch.tensor([frames.start - 1 for frames in ranges[1:]])
    elsewhere = torch.ones(len(change), dtype=torch.bool)
    elsewhere[seams] = False
    assert len(seams) >= 5
    assert float(change[seams].max()) <= float(change[elsewhere].max())
    low, high = change[elsewhere].quantile(torch.tensor([0.1, 0.9]))
    assert low <= change[seams].mean() <= high


def test_the_next_is_made_while_one_is_used() -> None:
    making, used = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        yield 0
        making.set()
        assert used.wait(10), "the item before was not given out meanwhile"
        yield 1

    given = []
    for item in ahead(items()):
        if item == 0:
            assert making.wait(10), "the next is not begun"
            used.set()
        given.append(item)
    assert given == [0, 1]


def test_an_error_comes_at_its_place_and_a_closed_one_makes_no_more() -> None:
    threads = torch.get_num_threads()
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(4):
            if number == 3:
                raise FloatingPointError("step 1")
            made.append(number)
            yield number

    given = []
    with pytest.raises(FloatingPointError, match="step 1"):
        for item in ahead(items()):
            given.append(item)
    assert given == [0, 1, 2]
    made.clear()
    begun = ahead(items())
    assert next(begun) == 0
    begun.close()
    assert made in ([0], [0, 1]), "one ahead, and no more"
    assert torch.get_num_threads() == threads
