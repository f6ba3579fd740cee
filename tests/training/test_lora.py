"""Adapters: only they train, and the exported weights compute the same without them."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from semibody.networks.loading import load_model, save_model
from semibody.networks.model import Model
from semibody.training import checkpoint, lora
from semibody.training.denoiser import Denoiser
from semibody.training.loop import StageRun
from semibody.training.recipe import Recipe
from semibody.training.trainer import Training, train
from semibody.types import SemibodyError
from training.nano import nano, packed


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights to start from: seeded random networks."""
    folder = tmp_path_factory.mktemp("start")
    save_model(folder, random_model())
    return folder


def random_model() -> Model:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return Model(nano().model).eval()


def recipe(start: Path, *changes: str) -> Recipe:
    return nano(
        'stages=["still"]', "loss.pose=0", "loss.low=0", "still.optimiser.steps=2", f"start.weights={start}",
        "start.lora_rank=2", *changes,
    )  # fmt: skip


def predict(model: Model) -> Tensor:
    """An output that every projection of attention of both U-Nets has a part in, in the model's precision."""
    dtype = model.denoising_unet.conv_in.weight.dtype
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    with torch.inference_mode():
        look = noise(1, model.reference_unet.conv_in.in_channels, 8, 8)
        memory = model.denoising_unet.project_reference(model.reference_unet.appearance(look))
        tokens = noise(2, model.audio_encoder.tokens_per_frame, model.config.unet.audio_width or 0)
        audio = model.denoising_unet.project_audio(tokens)
        noisy = noise(2, model.denoising_unet.conv_in.in_channels, 8, 8)
        out: Tensor = model.denoising_unet(
            noisy, torch.tensor([500.0]), frames=2, reference=memory, audio=audio
        )
        return out


def test_merged_networks_predict_the_same_without_names_of_adapters() -> None:
    model = random_model()
    denoiser, names = Denoiser(model), list(model.state_dict())
    before = predict(model)
    lora.inject(denoiser, 2, lambda name: "motion_modules" not in name)
    assert torch.equal(predict(model), before), "adapters are initialised to 0"
    added = {n: p for n, p in model.named_parameters() if lora.is_adapter(n)}
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        for parameter in added.values():
            parameter.add_(0.1 * torch.randn_like(parameter))
    adapted = predict(model)
    assert (adapted - before).abs().max() > 1e-3
    with lora.merged(denoiser):
        assert list(model.state_dict()) == names
        assert (predict(model) - adapted).abs().max() < 1e-6 * max(1.0, float(adapted.abs().max()))
    assert torch.equal(predict(model), adapted)


def test_only_adapters_train_and_the_export_is_their_sum(
    start: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    clips = packed(tmp_path_factory.mktemp("drawn"))
    settings, out = recipe(start, 'start.train=["*attn*"]'), tmp_path / "run"
    train(settings, out, packed=clips)
    newest = checkpoint.read(checkpoint.checkpoints(out / "still")[-1])
    assert newest.weights and all(lora.is_adapter(name) for name in newest.weights)
    exported, _ = load_model(out / "weights")
    before, after = random_model().state_dict(), exported.state_dict()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved and all(".attn" in name and ".to_" in name for name in moved)
    assert all(name.endswith("weight") for name in moved)
    # The same networks with their adapters, as a resumed training has them.
    training = Training(settings, out)
    task = training.build("still", training.packed(clips))
    stage = StageRun(task, settings, out / "still", training.accelerator, training.log)
    assert stage.resume()
    assert all(lora.is_adapter(name) for name in stage.parameters)
    module = task.module
    assert isinstance(module, Denoiser)
    module.eval()
    with stage.ema_weights():
        # In float64, so that only the rounding of the exported weights is left.
        adapted = predict(copy.deepcopy(module.model).double())
    difference = (adapted - predict(exported.double())).abs().max()
    learned = (adapted - predict(random_model().double())).abs().max()
    assert difference < 1e-6 * max(1.0, float(adapted.abs().max()))
    assert difference < 0.01 * learned


def test_contradictory_settings_are_named(start: Path, tmp_path: Path) -> None:
    with pytest.raises(SemibodyError, match=r"set start\.weights too"):
        nano("start.lora_rank=2")
    with pytest.raises(SemibodyError, match="no projection of attention"):
        lora.inject(Denoiser(random_model()), 2, lambda _: False)
