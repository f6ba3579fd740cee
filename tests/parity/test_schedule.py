"""Noise schedule, DDIM steps, windows and initial noise against the published code's."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from parity.golden import Case, cases, folder
from semibody.diffusion.schedule import ScheduleConfig, build_scheduler
from semibody.diffusion.windows import ring_windows


@pytest.mark.parametrize("case", cases("scheduler*.npz", "alphas_cumprod", "betas"))
def test_schedule(case: Case, compare: Any) -> None:
    scheduler = build_scheduler(ScheduleConfig(), "ddim", 30)
    # The last betas divide numbers near zero: how a processor rounds them shows in the sixth digit.
    compare(scheduler.betas, case["betas"], 1e-5, "betas")
    compare(scheduler.alphas_cumprod, case["alphas_cumprod"], 1e-6, "alphas")
    compare(scheduler.final_alpha_cumprod, case["final_alpha_cumprod"], 1e-7, "final alpha")
    for key in case.names("timesteps/"):
        steps = int(key.removeprefix("timesteps/"))
        compare(build_scheduler(ScheduleConfig(), "ddim", steps).timesteps, case[key], 0, key)


@pytest.mark.parametrize("case", cases("scheduler*.npz", "model_output0", "latents0"))
def test_steps(case: Case, compare: Any) -> None:
    scheduler = build_scheduler(ScheduleConfig(), "ddim", case.meta["steps"])
    assert scheduler.timesteps.tolist() == case.meta["timesteps"]
    latents = case.tensor("latents0")
    for i, t in enumerate(scheduler.timesteps):
        latents = scheduler.step(case.tensor(f"model_output{i}"), t, latents, return_dict=False)[0]
        compare(latents, case[f"latents{i + 1}"], 1e-6, f"step {i}")


@pytest.mark.parametrize("case", cases("seed_latents*.npz"))
def test_initial_noise(case: Case, compare: Any) -> None:
    for key in case.names():
        kind, seed = key.split("/")
        dtype = {"fp32": torch.float32, "fp16": torch.float16}[kind]
        generator = torch.Generator().manual_seed(int(seed))
        noise = torch.randn((1, 4, 12, 96, 96), generator=generator, dtype=dtype)
        compare(noise.flatten()[::97][: len(case[key])].float(), case[key], 0, key)


WINDOWS = sorted(folder().rglob("context_windows*.json")) if folder().is_dir() else []


@pytest.mark.skipif(not WINDOWS, reason="no recorded windows here")
@pytest.mark.parametrize("path", WINDOWS, ids=lambda p: p.stem)
def test_windows(path: Any, compare: Any) -> None:
    for case in json.loads(path.read_text())["cases"]:
        ours = ring_windows(
            case["num_frames"],
            case["context_frames"],
            case["context_overlap"],
            strides=case["context_stride"],
        )
        assert ours == case["windows"], case
        compare(ours, case["windows"], 0, f"{case['num_frames']} frames")
