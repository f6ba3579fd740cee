"""A step's windows on several devices, here processes on the CPU: the same bits; devices that are lost."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import made
from semibody import runtime
from semibody.animator import Animator
from semibody.diffusion.guidance import Denoise
from semibody.diffusion.sample import sample
from semibody.diffusion.schedule import ScheduleConfig, build_scheduler, initial_noise
from semibody.diffusion.spread import Spread
from semibody.diffusion.windows import Window, ring_windows
from semibody.types import SemibodyError

FRAMES = 40


def own_number(device: str) -> Denoise:
    """A denoiser that says in which process it was made."""
    where = float(os.getpid())

    def denoise(latents: Tensor, t: Tensor, window: Window) -> Tensor:
        return torch.full_like(latents, where)

    return denoise


def fails(how: str, device: str) -> Denoise:
    if how == "cannot load":
        raise SemibodyError("these weights are not here")

    def denoise(latents: Tensor, t: Tensor, window: Window) -> Tensor:
        if how == "dies":
            os._exit(1)
        raise RuntimeError("CUDA out of memory: tried")

    return denoise


def calls(count: int) -> list[tuple[Tensor, Tensor, Window]]:
    return [(torch.zeros(2, 1, 1, 1), torch.ones(1), [number, number + 1]) for number in range(count)]


def test_calls_are_dealt_out_in_turn() -> None:
    with Spread(own_number, ["cpu", "cpu"]) as spread:
        made_in = [int(out[0, 0, 0, 0]) for out in spread(own_number("cpu"), calls(7))]
    own, second, third = made_in[:3]
    assert own == int(np.float32(os.getpid()))
    assert len({own, second, third}) == 3
    assert made_in == [own, second, third, own, second, third, own]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("dies", "--devices cpu: its process has ended"),
        ("cannot load", "--devices cpu: these weights are not here"),
        ("is full", f"--devices cpu: {runtime.OUT_OF_MEMORY}"),
    ],
)
def test_a_device_that_is_lost_is_one_line(how: str, said: str) -> None:
    noise = initial_noise(FRAMES, 1, 2, 2, seed=0)
    scheduler = build_scheduler(ScheduleConfig(), "ddim", 2)
    with (
        pytest.raises(SemibodyError) as caught,
        Spread(partial(fails, how), ["cpu"]) as spread,
    ):
        sample(own_number("cpu"), noise, scheduler, lambda step: ring_windows(FRAMES, 12, 3), each=spread)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("cache", [1, 2])
def test_a_clip_on_two_devices_has_the_bits_of_one(tmp_path: Path, cache: int) -> None:
    made.weights_folder(tmp_path / "weights")
    settings: dict[str, Any] = {
        "seed": 3,
        "steps": 3,
        "window": 8,
        "overlap": 2,
        "guidance": 2.0,
        "solver": "unipc",
        "cache": cache,
    }
    inputs = made.picture(), made.tone(2.0), made.gesture(48)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        one = Animator.load(tmp_path / "weights", precision="fp32", device="cpu")
        two = Animator.load(tmp_path / "weights", precision="fp32", devices="cpu,cpu")
        frames = two.animate(*inputs, **settings).frames
        np.testing.assert_array_equal(frames, one.animate(*inputs, **settings).frames)
        assert len(frames) > 16, "more than one window"
    finally:
        torch.set_num_threads(threads)


def test_a_device_that_is_not_there_is_named(tmp_path: Path) -> None:
    made.weights_folder(tmp_path / "weights")
    with pytest.raises(SemibodyError, match="cuda:7 cannot be used here"):
        Animator.load(tmp_path / "weights", devices="cpu,cuda:7")
    with pytest.raises(SemibodyError, match="name the devices"):
        Animator.load(tmp_path / "weights", devices=" , ")
