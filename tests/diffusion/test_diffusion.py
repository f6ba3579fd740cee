from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from semibody.diffusion.guidance import guide
from semibody.diffusion.sample import COPIES, sample
from semibody.diffusion.schedule import ScheduleConfig, build_scheduler, initial_noise
from semibody.diffusion.state import SamplingState
from semibody.diffusion.windows import ring_windows
from semibody.types import Solver


@given(st.integers(1, 200), st.integers(2, 24), st.integers(0, 10), st.integers(0, 50))
def test_windows_cover_every_frame(frames: int, length: int, overlap: int, shift: int) -> None:
    overlap = min(overlap, length - 1)
    windows = ring_windows(frames, length, overlap, shift=shift)
    assert {i for window in windows for i in window} == set(range(frames))
    for window in windows:
        assert len(window) == len(set(window)) == min(length, frames)


@pytest.mark.parametrize("bad", [(0, 12, 3), (5, 4, 4), (5, 4, -1)])
def test_impossible_windows(bad: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"frame|overlap"):
        ring_windows(*bad)


def test_guidance_of_one_skips_the_unconditional_half() -> None:
    def never(latents: Tensor, t: Tensor, window: list[int]) -> Tensor:
        raise AssertionError

    def conditional(latents: Tensor, t: Tensor, window: list[int]) -> Tensor:
        return latents + 1

    x = torch.zeros(2, 1, 1, 1)
    assert guide(conditional, never, 1.0)(x, torch.zeros(1), [0, 1]).mean() == 1


def test_guidance_is_linear() -> None:
    both = guide(lambda x, t, w: x + 3, lambda x, t, w: x + 1, 2.5)
    assert both(torch.zeros(1, 1, 1, 1), torch.zeros(1), [0]).item() == pytest.approx(1 + 2.5 * 2)


@pytest.mark.parametrize("solver", ["ddim", "dpm++", "unipc"])
@pytest.mark.parametrize("frames", [1, 7, 30])
def test_a_perfect_denoiser_finds_the_picture(solver: str, frames: int) -> None:
    """v is known exactly when the clean latents are: every solver must land on them."""
    schedule = build_scheduler(ScheduleConfig(), solver, 12)  # type: ignore[arg-type]
    clean = torch.linspace(-1, 1, frames * 4).reshape(frames, 1, 2, 2)
    alphas = build_scheduler(ScheduleConfig(), "ddim", 12).alphas_cumprod

    def denoise(latents: Tensor, t: Tensor, window: list[int]) -> Tensor:
        a = alphas[int(t)]
        return (a.sqrt() * latents - clean[window]) / (1 - a).sqrt().clamp(min=1e-6)

    noise = initial_noise(frames, 1, 2, 2, seed=1)
    found = sample(denoise, noise, schedule, lambda step: ring_windows(frames, shift=3 * step))
    assert (found - clean).abs().max() < 0.08


def test_unknown_solver() -> None:
    with pytest.raises(ValueError, match="solver"):
        build_scheduler(ScheduleConfig(), "euler", 3)  # type: ignore[arg-type]


def test_noise_is_clamped_and_seeded() -> None:
    a, b = (initial_noise(3, 4, 8, 8, seed=5) for _ in range(2))
    assert torch.equal(a, b)
    assert a.abs().max() <= 1.5
    assert not torch.equal(a, initial_noise(3, 4, 8, 8, seed=6))


def test_noise_that_frames_share() -> None:
    own, half, all_of_it = (initial_noise(6, 4, 32, 32, seed=5, shared=s) for s in (0.0, 0.5, 1.0))
    torch.testing.assert_close(own, initial_noise(6, 4, 32, 32, seed=5), atol=0, rtol=0)
    assert (all_of_it == all_of_it[:1]).all()
    assert 0.4 < float(torch.corrcoef(half.flatten(1))[0, 1]) < 0.6
    for noise in (half, all_of_it):
        assert abs(float(noise.var()) - float(own.var())) < 0.08


@pytest.mark.parametrize("solver", ["ddim", "dpm++", "unipc"])
def test_a_clip_is_solved_in_parts_as_in_one(solver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(frames_at_once: int) -> Tensor:
        monkeypatch.setattr("semibody.diffusion.state.STEP_FRAMES", frames_at_once)
        return sample(
            lambda x, t, window: torch.sin(x * t / 100),
            initial_noise(30, 4, 5, 7, seed=1),
            build_scheduler(ScheduleConfig(), solver, 6),  # type: ignore[arg-type]
            lambda step: ring_windows(30, shift=3 * step),
        )

    assert torch.equal(made(7), made(1000))


@pytest.mark.parametrize("solver", ["ddim", "dpm++", "unipc"])
def test_denoising_holds_few_copies_of_the_latents(solver: Solver) -> None:
    """The resident size of a process that denoises 47 MiB of latents; it was twelve copies once."""
    program = """
import sys
import torch
from semibody import runtime
from semibody.diffusion.sample import sample
from semibody.diffusion.schedule import ScheduleConfig, build_scheduler, initial_noise
from semibody.diffusion.windows import ring_windows

runtime.prepare_cpu()
def made(frames):
    with torch.inference_mode():
        noise = initial_noise(frames, 4, 32, 32, seed=1, shared=0.5)
        return sample(lambda x, t, window: x, noise, build_scheduler(ScheduleConfig(), sys.argv[1], 4),
                      lambda step: ring_windows(frames))
made(192)
before = runtime.peak_memory()
size = made(3000).nbytes
print((runtime.peak_memory() - before) / size)
"""
    command = [sys.executable, "-c", program, solver]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < COPIES[solver] + 0.2


def test_a_prediction_that_is_not_finite_stops_at_its_step() -> None:
    def denoise(latents: Tensor, t: Tensor, window: list[int]) -> Tensor:
        return latents / (0.0 if int(t) < 700 else 1.0)

    with pytest.raises(FloatingPointError, match="step 2 of 3"):
        sample(
            denoise,
            initial_noise(4, 1, 2, 2, seed=1),
            build_scheduler(ScheduleConfig(), "ddim", 3),
            lambda step: ring_windows(4, shift=step),
        )


def test_a_part_that_has_moved_on_holds_nothing() -> None:
    """However little it kept would lie where a sum was, and the sum of the next part would not fit there."""
    scheduler = build_scheduler(ScheduleConfig(), "ddim", 1)
    state = SamplingState(torch.zeros(144, 1, 2, 2), scheduler)
    windows = ring_windows(144, 12, 0)
    state.begin_step(windows)
    for window in windows[:5]:
        state.add(window, torch.ones(12, 1, 2, 2), scheduler.timesteps[0])
    held = [
        [value.numel() for value in vars(part).values() if isinstance(value, Tensor)] for part in state._parts
    ]
    assert [sum(sizes) for sizes in held] == [0, 48 * 4 + 48, 0]
