"""The interface of diffusers, tried by diffusers' own loading code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import made
from semibody import (
    cli,  # noqa: F401 - registers the commands
)
from semibody import pipeline as room
from semibody.animator import Animator
from semibody.cli.app import app
from semibody.pipeline import SemibodyPipeline
from semibody.types import SemibodyError

INPUTS = (made.picture(), made.tone(0.3), made.gesture())


@pytest.fixture(scope="module")
def animator() -> Animator:
    return made.animator()


@pytest.fixture(scope="module")
def pipeline(animator: Animator) -> SemibodyPipeline:
    made_pipeline = SemibodyPipeline.from_animator(animator)
    made_pipeline.set_progress_bar_config(disable=True)
    return made_pipeline


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    made.weights_folder(folder / "weights")
    command = ["weights", "export", str(folder / "weights"), str(folder / "out")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    return folder / "out"


def frames(result: Any) -> np.ndarray[Any, Any]:
    return np.stack([np.asarray(picture) for picture in result.frames[0]]).astype(int)


def test_the_layout_is_that_of_diffusers(exported: Path) -> None:
    index = json.loads((exported / "model_index.json").read_text())
    assert index["_class_name"] == "SemibodyPipeline"
    assert index["vae"] == ["semibody.pipeline", "Network"]
    assert index["scheduler"] == ["diffusers", "DDIMScheduler"]
    assert index["restorer"] == [None, None]
    for part in ("reference_unet", "denoising_unet", "pose_encoder", "vae", "audio_encoder"):
        assert (exported / part / "config.json").is_file()
        assert (exported / part / "diffusion_pytorch_model.safetensors").is_file()


def test_diffusers_loads_what_was_exported(exported: Path, animator: Animator) -> None:
    loaded = SemibodyPipeline.from_pretrained(exported, dtype=torch.float32)
    assert isinstance(loaded, diffusers.DiffusionPipeline)
    loaded.set_progress_bar_config(disable=True)
    assert loaded.animator.info() == animator.info()
    expected = animator.animate(*INPUTS).frames.astype(int)
    assert np.abs(frames(loaded(*INPUTS)) - expected).max() <= 1
    generic = diffusers.DiffusionPipeline.from_pretrained(
        str(exported), custom_pipeline=str(exported), trust_remote_code=True, dtype=torch.bfloat16
    )
    assert (type(generic).__name__, generic.dtype) == ("SemibodyPipeline", torch.bfloat16)


def test_generator_and_kinds_of_output(pipeline: SemibodyPipeline) -> None:
    def made_with(seed: int, **more: Any) -> Any:
        return pipeline(*INPUTS, generator=torch.Generator().manual_seed(seed), num_frames=2, **more)

    first = frames(made_with(1))
    assert first.shape == (2, 64, 64, 3)
    np.testing.assert_array_equal(frames(made_with(1)), first)
    assert np.abs(frames(made_with(2)) - first).max() > 0
    array, tensor = made_with(1, output_type="np").frames, made_with(1, output_type="pt").frames
    assert (array.shape, tuple(tensor.shape)) == ((1, 2, 64, 64, 3), (1, 2, 3, 64, 64))
    np.testing.assert_allclose(array[0] * 255, first, atol=1e-3)
    np.testing.assert_allclose(tensor.numpy().transpose(0, 1, 3, 4, 2), array, atol=1e-6)
    latent = made_with(1, output_type="latent")
    assert latent.frames.shape[:2] == (1, 2)
    assert latent.clip is None
    with pytest.raises(SemibodyError, match="output_type gif is unknown"):
        made_with(1, output_type="gif")


def test_a_callback_sees_every_step_and_may_change_it(pipeline: SemibodyPipeline) -> None:
    seen: list[tuple[int, int]] = []

    def look(_: Any, step: int, t: torch.Tensor, given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        seen.append((step, int(t)))
        return {"latents": torch.zeros_like(given["latents"])} if step == 2 else {}

    result = pipeline(*INPUTS, num_inference_steps=3, callback_on_step_end=look, output_type="latent")
    assert [step for step, _ in seen] == [0, 1, 2]
    assert [t for _, t in seen] == sorted((t for _, t in seen), reverse=True)
    assert float(result.frames.abs().max()) == 0
    with pytest.raises(SemibodyError, match=r'only \["latents"\]'):
        pipeline(*INPUTS, callback_on_step_end_tensor_inputs=["prompt_embeds"])


def test_a_callback_may_end_it(pipeline: SemibodyPipeline) -> None:
    steps: list[int] = []

    def stop(pipe: Any, step: int, *_: Any) -> dict[str, Any]:
        steps.append(step)
        pipe._interrupt = step == 1
        return {}

    result = pipeline(*INPUTS, num_inference_steps=5, callback_on_step_end=stop, num_frames=2)
    assert steps == [0, 1]
    assert len(result.frames[0]) == 2


def test_its_scheduler_is_the_one_that_is_used(pipeline: SemibodyPipeline) -> None:
    kept = pipeline.scheduler
    own = pipeline(*INPUTS, output_type="latent", num_inference_steps=3, solver="dpm++").frames
    try:
        pipeline.scheduler = diffusers.DPMSolverMultistepScheduler.from_config(kept.config)
        swapped = pipeline(*INPUTS, output_type="latent", num_inference_steps=3).frames
    finally:
        pipeline.scheduler = kept
    usual = pipeline(*INPUTS, output_type="latent", num_inference_steps=3).frames
    torch.testing.assert_close(swapped, own)
    assert float((usual - own).abs().max()) > 1e-3


def test_mistakes(pipeline: SemibodyPipeline, exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SemibodyError, match="unknown setting stepz"):
        pipeline(*INPUTS, stepz=3)
    with pytest.raises(SemibodyError, match="is there already; name a new folder"):
        room.export("starter", exported)
    with pytest.raises(SemibodyError, match="enable_model_cpu_offload does not work here"):
        pipeline.enable_model_cpu_offload()
    monkeypatch.setattr(diffusers, "__version__", "0.39.1")
    with pytest.raises(SemibodyError, match=r"diffusers 0\.39\.1 is too old"):
        SemibodyPipeline.from_pretrained(exported)
