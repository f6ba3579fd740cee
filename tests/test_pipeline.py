"""The interface of diffusers, tried by diffusers' own loading code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
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
    with pytest.raises(SemibodyError, match="enable_sequential_cpu_offload does not work here"):
        pipeline.enable_sequential_cpu_offload()
    with pytest.raises(SemibodyError, match="--device cuda:9 cannot be used here"):
        pipeline.enable_model_cpu_offload(gpu_id=9)
    monkeypatch.setattr(diffusers, "__version__", "0.39.1")
    with pytest.raises(SemibodyError, match=r"diffusers 0\.39\.1 is too old"):
        SemibodyPipeline.from_pretrained(exported)


# -- LoRA, offloading, attention, quantisation ---------------------------------------------


def latents(pipeline: SemibodyPipeline) -> torch.Tensor:
    return pipeline(*INPUTS, output_type="latent", num_frames=2, num_inference_steps=2, seed=3).frames


ADAPTED = ("to_q", "to_out.0", "net.0.proj")


def lora(pipeline: SemibodyPipeline, rank: int = 2) -> dict[str, torch.Tensor]:
    """A LoRA of projections of the denoiser, as peft names it."""
    made_lora = {}
    generator = torch.Generator().manual_seed(0)
    for name, layer in pipeline.denoising_unet.wrapped.named_modules():
        if name.endswith(ADAPTED):
            outputs, inputs = layer.weight.shape
            for part, shape in (("A", (rank, inputs)), ("B", (outputs, rank))):
                key = f"denoising_unet.{name}.lora_{part}.weight"
                made_lora[key] = 0.2 * torch.randn(shape, generator=generator)
    return made_lora


def test_a_lora_is_what_its_product_adds_to_the_weights(exported: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    pipeline = SemibodyPipeline.from_pretrained(exported, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    plain, given = latents(pipeline), lora(pipeline)
    save_file(given, tmp_path / "pytorch_lora_weights.safetensors")
    pipeline.load_lora_weights(tmp_path, adapter_name="style")
    adapted = latents(pipeline)
    pipeline.set_adapters("style", 0.5)
    half = latents(pipeline)
    pipeline.unload_lora_weights()
    torch.testing.assert_close(latents(pipeline), plain)

    for share, made_with in ((1.0, adapted), (0.5, half)):
        summed = SemibodyPipeline.from_pretrained(exported, dtype=torch.float32)
        summed.set_progress_bar_config(disable=True)
        for name, layer in summed.denoising_unet.wrapped.named_modules():
            if name.endswith(ADAPTED):
                down, up = (given[f"denoising_unet.{name}.lora_{one}.weight"] for one in "AB")
                layer.weight.data += share * up @ down
        torch.testing.assert_close(latents(summed), made_with, atol=1e-3, rtol=1e-3)
        assert float((made_with - plain).abs().max()) > 0.01


def test_files_that_are_no_lora(pipeline: SemibodyPipeline, tmp_path: Path) -> None:
    with pytest.raises(SemibodyError, match=r"transformer\.x\.lora_A\.weight fits no layer"):
        pipeline.load_lora_weights({"transformer.x.lora_A.weight": torch.zeros(1, 1)})
    with pytest.raises(SemibodyError, match="the LoRA: holds no LoRA"):
        pipeline.load_lora_weights({})
    with pytest.raises(SemibodyError, match="no such LoRA"):
        pipeline.load_lora_weights(tmp_path)


def test_offloading_moves_what_a_stage_needs(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = SemibodyPipeline.from_pretrained(exported, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    usual = frames(pipeline(*INPUTS, num_frames=2))
    names = {id(part): name for name, part in pipeline.components.items() if isinstance(part, room.Network)}
    there: set[str] = set()
    stages: list[set[str]] = []

    def move(self: Any, device: Any) -> Any:
        (there.discard if device == "cpu" else there.add)(names[id(self)])
        return self

    monkeypatch.setattr(room.Network, "to", move)
    for stage in ("conditions", "denoise", "decode"):
        real = getattr(Animator, stage)

        def noted(*given: Any, real: Any = real, **more: Any) -> Any:
            stages.append(set(there))
            return real(*given, **more)

        monkeypatch.setattr(Animator, stage, noted)
    pipeline.enable_model_cpu_offload(device="cpu:0")
    np.testing.assert_array_equal(frames(pipeline(*INPUTS, num_frames=2)), usual)
    assert stages[0] == set(names.values())
    assert stages[1] == {"denoising_unet", "pose_encoder", "audio_encoder"}
    assert stages[2] == {"vae", "pose_encoder", "audio_encoder"}
    assert not there, "between calls all are on the CPU"


def test_attention_goes_through_diffusers_dispatcher(
    pipeline: SemibodyPipeline, animator: Animator, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = latents(pipeline)
    asked: list[Any] = []
    from diffusers.models.attention_dispatch import dispatch_attention_fn as real

    def noted(*given: torch.Tensor, backend: Any = None) -> torch.Tensor:
        asked.append((backend, tuple(given[0].shape)))
        return real(*given, backend=backend)

    monkeypatch.setattr("semibody.pipeline.dispatch_attention_fn", noted)
    pipeline.denoising_unet.set_attention_backend("_native_math")
    try:
        torch.testing.assert_close(latents(pipeline), plain, atol=1e-4, rtol=1e-4)
        assert {backend for backend, _ in asked} == {"_native_math"}
    finally:
        pipeline.denoising_unet.reset_attention_backend()
    asked.clear()
    animator.animate(*INPUTS, length=2, steps=1)
    assert not asked, "outside the pipeline it is torch's own"
    with pytest.raises(SemibodyError, match="attention backend fast is unknown"):
        pipeline.denoising_unet.set_attention_backend("fast")


def test_weights_are_quantised_by_diffusers(exported: Path) -> None:
    """Diffusers does it with a library that no extra of ours brings."""
    torchao = pytest.importorskip("torchao.quantization")
    wanted = diffusers.TorchAoConfig(torchao.Int8WeightOnlyConfig())
    config = diffusers.PipelineQuantizationConfig(quant_mapping={"denoising_unet": wanted})

    def load(**how: Any) -> SemibodyPipeline:
        loaded = SemibodyPipeline.from_pretrained(exported, dtype=torch.bfloat16, **how)
        loaded.set_progress_bar_config(disable=True)
        return loaded

    quantised, usual = load(quantization_config=config), load()
    kinds = {type(layer.weight).__name__ for layer in _linears(quantised)}
    assert kinds != {"Parameter"}
    exact = latents(usual)
    assert 0 < float((latents(quantised) - exact).pow(2).mean()) < 0.01 * float(exact.pow(2).mean())


def _linears(pipeline: SemibodyPipeline) -> list[torch.nn.Linear]:
    modules = pipeline.denoising_unet.modules()
    return [layer for layer in modules if isinstance(layer, torch.nn.Linear)]
