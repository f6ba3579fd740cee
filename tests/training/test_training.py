"""Whole trainings of the smallest networks: resume, kill, freeze, stop, export, two processes."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from safetensors.torch import save_file

import public
from semibody import media
from semibody.animator import Animator
from semibody.cli import main
from semibody.clips.manifest import write_manifest
from semibody.networks.loading import describe, load_model
from semibody.networks.vae import VAEConfig
from semibody.training import checkpoint, trainer
from semibody.training.denoiser import Denoiser
from semibody.training.drawn import draw_clip
from semibody.training.loop import Log, StageRun
from semibody.training.ranks import Ranks
from semibody.training.recipe import Recipe
from semibody.training.report import read_log
from semibody.training.stages import STAGES
from semibody.training.stages.denoise import DenoisingStage
from semibody.training.trainer import Training, train
from semibody.types import SemibodyError
from training.nano import NANO, nano, packed
from training.test_samples import entry

STILL_ONLY = ("loss.pose=0", "loss.low=0", "model.plate_latents=false")
"""Leaves out what takes longest: the frozen networks of the loss."""


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(tmp_path_factory.mktemp("drawn"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, clips: Path) -> Path:
    """A whole training: autoencoder, keypoints, stills, motion, restorer."""
    out = tmp_path_factory.mktemp("whole") / "run"
    done = train(nano(), out, packed=clips)
    assert done.finished
    assert done.weights == out / "weights"
    return out


def weights(out: Path, stage: str = "still") -> dict[str, torch.Tensor]:
    return checkpoint.read(out / stage / checkpoint.FINAL).weights


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    different = [name for name in a if not torch.equal(a[name], b[name])]
    assert not different, different[:5]


def test_the_chain_ends_in_weights_that_animate(finished: Path) -> None:
    animator = Animator.load(finished / "weights", precision="fp32")
    assert animator.schedule.prediction == "sample"
    pictures, gesture, speech, _ = draw_clip(0, 0, 8, 64, 24.0)
    clip = animator.animate(pictures[0], speech, gesture)
    assert clip.frames.shape[1:] == (64, 64, 3)
    assert clip.metadata["weights"] == "recipe tiny, stage restore, step 4"


def test_the_second_stage_leaves_everything_but_motion_bit_identical(finished: Path) -> None:
    still, motion = weights(finished, "still"), weights(finished, "motion")
    assert_same(still, {k: v for k, v in motion.items() if "motion_modules" not in k})
    moved = [k for k, v in motion.items() if k.endswith("proj_out.weight") and "motion" in k and v.any()]
    assert moved, "motion modules are initialised with a zero projection, which training must change"


def test_only_the_restorer_is_trained_in_its_stage(finished: Path, clips: Path) -> None:
    model, info = load_model(finished / "weights")
    assert model.restorer is not None
    assert info.model.unet.motion
    assert_same(weights(finished, "motion"), Denoiser(model).state_dict())
    assert model.restorer.conv_out.weight.any(), "it is initialised with zeros, which training must change"


def test_the_restorer_is_trained_on_generated_frames(finished: Path, clips: Path, tmp_path: Path) -> None:
    recipe = nano(
        'stages=["restore"]', f"start.weights={finished / 'weights'}", "restore.optimiser.steps=60",
        "restore.optimiser.lr=5e-3", "restore.optimiser.warmup=5", "restore.crops=0", "run.log_every=10",
    )  # fmt: skip
    train(recipe, tmp_path / "run", packed=clips)
    found = {k: v[1][-1] for k, v in read_log(tmp_path / "run")["restore"].items()}
    assert found["val/psnr"] > found["val/plain"] + 1


def test_log_pictures_and_report_are_there(finished: Path) -> None:
    curves = read_log(finished)
    assert list(curves) == ["vae", "keypoints", "plate", "still", "motion", "restore"]
    for name in ("loss", "latent", "detail", "low", "pose", "frames_per_second", "peak_share", "val/psnr"):
        assert name in curves["still"], name
    assert "change" in curves["motion"]
    assert "change" not in curves["still"], "single frames do not follow each other"
    assert curves["still"]["loss"][0][-1] == 6
    assert "still-latest.png" in (finished / "report.html").read_text()
    assert media.read_image(finished / "pictures" / "still-latest.png").shape == (64, 4 * 64, 3)
    resolved = json.loads((finished / "recipe.json").read_text())
    assert resolved["still"]["optimiser"]["batch"] == 4


def test_a_finished_training_is_not_overwritten_and_not_repeated(finished: Path, clips: Path) -> None:
    with pytest.raises(SemibodyError, match="--resume"):
        train(nano(), finished, packed=clips)
    before = (finished / "log.jsonl").read_text()
    assert train(nano(), finished, packed=clips, resume=True).finished
    assert (finished / "log.jsonl").read_text() == before


def only_stills(finished: Path, out: Path) -> Path:
    """A training folder whose autoencoder is done already."""
    out.mkdir(parents=True)
    (out / "vae").symlink_to(finished / "vae")
    return out


def stills(*changes: str) -> Recipe:
    return nano('stages=["vae","still"]', *STILL_ONLY, *changes)


@pytest.fixture(scope="module")
def unbroken(finished: Path, clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = only_stills(finished, tmp_path_factory.mktemp("unbroken") / "run")
    train(stills(), out, packed=clips)
    return out


def test_stopping_and_resuming_changes_no_bit(
    finished: Path, unbroken: Path, clips: Path, tmp_path: Path
) -> None:
    out = only_stills(finished, tmp_path / "run")
    for step in range(1, 4):
        assert not train(stills(), out, packed=clips, resume=True, max_minutes=0).finished
        assert [p.name for p in checkpoint.checkpoints(out / "still")][-1] == f"step-{step:08d}"
    assert train(stills(), out, packed=clips, resume=True).finished
    assert_same(weights(unbroken), weights(out))


def test_micro_batches_add_up(finished: Path, unbroken: Path, clips: Path, tmp_path: Path) -> None:
    out = only_stills(finished, tmp_path / "run")
    train(stills("still.optimiser.accumulate=2"), out, packed=clips, resume=True)
    whole, accumulated = (read_log(p)["still"]["loss"][1] for p in (unbroken, out))
    assert np.allclose(whole, accumulated, rtol=1e-3)


def test_recomputing_activations_changes_nothing(
    finished: Path, unbroken: Path, clips: Path, tmp_path: Path
) -> None:
    out = only_stills(finished, tmp_path / "run")
    train(stills("run.recompute=true"), out, packed=clips, resume=True)
    kept, recomputed = (read_log(p)["still"]["loss"][1] for p in (unbroken, out))
    assert np.allclose(kept, recomputed, rtol=1e-4)


def start(out: Path, clips: Path, *words: str, launcher: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """``semibody train`` in a process of its own."""
    changes = [w for c in (*NANO, *STILL_ONLY, 'stages=["vae","still"]') for w in ("--set", c)]
    command = [sys.executable, *(launcher or ("-m",)), "semibody", "train", "tiny", "--resume"]
    command += ["--out", str(out), "--packed", str(clips), *changes, *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture(scope="module")
def alone(finished: Path, clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unbroken too, but in a process of its own: the number of threads decides how sums are rounded."""
    out = only_stills(finished, tmp_path_factory.mktemp("alone") / "run")
    process = start(out, clips)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return out


def kill_and_resume(finished: Path, unbroken: Path, clips: Path, out: Path, waits: list[float]) -> None:
    only_stills(finished, out)
    for wait in waits:
        process = start(out, clips, "--set", "run.checkpoint_minutes=0")
        seen = time.monotonic()
        while not (out / "recipe.json").exists() and process.poll() is None:
            time.sleep(0.05)
        while process.poll() is None and time.monotonic() - seen < wait:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    process = start(out, clips, "--set", "run.checkpoint_minutes=0")
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert_same(weights(unbroken), weights(out))


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_killed_twenty_times_it_ends_with_the_same_weights(
    finished: Path, alone: Path, clips: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    for number in range(20):
        kill_and_resume(finished, alone, clips, tmp_path / f"run{number}", [float(rng.uniform(1, 7))])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_equal_one_with_the_doubled_batch(
    finished: Path, unbroken: Path, clips: Path, tmp_path: Path
) -> None:
    """Two processes with two samples each against one with four: the same curve, the same weights."""
    out = only_stills(finished, tmp_path / "run")
    launcher = ("-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29511", "-m")
    process = start(out, clips, "--device", "cpu", launcher=launcher)
    _, errors = process.communicate()
    assert process.returncode == 0, errors[-3000:]
    one, two = (read_log(p)["still"]["loss"][1] for p in (unbroken, out))
    assert np.allclose(one, two, rtol=2e-3), (one, two)
    ours, theirs = weights(unbroken), weights(out)
    # Adam turns the rounding of gradients near zero into steps of full length, so only the bulk agrees.
    off = np.concatenate([(ours[name] - theirs[name]).abs().flatten().numpy() for name in ours])
    assert np.quantile(off, 0.99) < 2e-4


def test_a_stage_stops_at_a_signal_with_a_checkpoint(finished: Path, clips: Path, tmp_path: Path) -> None:
    out = only_stills(finished, tmp_path / "run")
    process = start(out, clips, "--set", "still.optimiser.steps=5000")
    limit = time.monotonic() + 60
    while not (out / "log.jsonl").exists() and time.monotonic() < limit:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "--resume to continue" in printed
    assert len(checkpoint.checkpoints(out / "still")) == 1


def test_a_loss_that_is_not_a_number_stops_with_the_last_good_checkpoint(
    finished: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = only_stills(finished, tmp_path / "run")
    train(stills(), out, packed=clips, resume=True, max_minutes=0)
    from semibody.training import losses
    from semibody.training.stages import denoise

    real = losses.latent_loss
    monkeypatch.setattr(denoise, "latent_loss", lambda *a: real(*a) * float("nan"))
    with pytest.raises(SemibodyError, match=r"not a number \(samples drawn-.*step-00000001.*lr"):
        train(stills(), out, packed=clips, resume=True)
    assert [p.name for p in checkpoint.checkpoints(out / "still")] == ["step-00000001"]


def test_a_full_disk_keeps_the_checkpoint_before(
    finished: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = only_stills(finished, tmp_path / "run")
    train(stills(), out, packed=clips, resume=True, max_minutes=0)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(SemibodyError, match=r"No space left .*--resume"):
        train(stills(), out, packed=clips, resume=True)
    assert [p.name for p in checkpoint.checkpoints(out / "still")] == ["step-00000001"]
    assert not list((out / "still").glob(".*unfinished"))


def test_a_full_disk_while_packing_is_one_line_and_a_later_run_packs_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    people = [
        dataclasses.replace(entry(tmp_path / str(number), number=number), id=str(number), person=str(number))
        for number in range(3)
    ]
    write_manifest(people, tmp_path)
    out, real = tmp_path / "run", safetensors.numpy.save_file

    def full(arrays: Any, path: Path, **named: Any) -> None:
        if list(out.glob("packed/*/*.clip.safetensors")):
            Path(path).write_bytes(b"half of")
            raise safetensors.SafetensorError("I/O error: No space left on device (os error 28)")
        real(arrays, path, **named)

    monkeypatch.setattr("safetensors.numpy.save_file", full)
    changes = [w for c in (*NANO, 'stages=["vae"]', "vae.optimiser.steps=1") for w in ("--set", c)]
    command = ["semibody", "train", "tiny", "--data", str(tmp_path), "--out", str(out), *changes]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("semibody:")]
    assert "cannot be written (No space left on device); free some space" in line
    assert "--resume" in line
    (packed_once,) = out.glob("packed/*/*")
    stamp = packed_once.stat().st_mtime_ns
    monkeypatch.setattr("safetensors.numpy.save_file", real)
    monkeypatch.setattr(sys, "argv", [*command, "--resume"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code in (0, None)
    assert len(list(out.glob("packed/*/*.clip.safetensors"))) == 3
    assert packed_once.stat().st_mtime_ns == stamp


def test_lack_of_memory_names_the_settings(
    finished: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from semibody.training.stages import denoise

    def full(*_: object) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 20 GiB")

    monkeypatch.setattr(denoise, "latent_loss", full)
    with pytest.raises(SemibodyError, match=r"still.optimiser.batch .*accumulate.*recompute"):
        train(stills(), only_stills(finished, tmp_path / "run"), packed=clips, resume=True)


def test_weights_of_another_shape_are_refused(finished: Path, clips: Path, tmp_path: Path) -> None:
    out = only_stills(finished, tmp_path / "run")
    with pytest.raises(SemibodyError, match="does not fit"):
        train(stills("model.vae.widths=[16,32]"), out, packed=clips, resume=True)


def test_muted_audio_changes_no_prediction_and_is_not_trained(finished: Path, clips: Path) -> None:
    """In the initial phase the prediction is the same for any sound, on every way audio enters."""
    recipe = nano("curriculum.initial=10", *STILL_ONLY)
    training = Training(recipe, finished)
    task = training.build("still", training.packed(clips))
    assert isinstance(task, DenoisingStage)
    batch = task.batch(0, [0, 1])
    other = dataclasses.replace(batch, rows=batch.rows + 3.0)
    assert batch.audio_mask.max() == 0
    with torch.no_grad():
        assert torch.equal(*(task.module(b.noise, b.t, b) for b in (batch, other)))
    resting = task.frozen(0)
    assert any("audio_encoder" in name for name in resting)
    assert any("attn2" in name for name in resting)
    assert not task.frozen(10)


@pytest.mark.parametrize("kind", ["logmel", "wav2vec2"])
def test_dropped_audio_is_denoised_as_guidances_unconditional_half(
    finished: Path, clips: Path, tmp_path: Path, kind: str
) -> None:
    """Only audio differs between the two; tokens of a mapper with biases are dropped too."""
    encoder: tuple[str, ...] = ()
    width = 16
    if kind == "wav2vec2":
        save_file(public.plain(public.wav2vec2().state_dict()), tmp_path / "model.safetensors")
        width, encoder = 64, (
            "model.audio.kind=wav2vec2", "model.audio.mapped_tokens=4", "model.audio.width=64",
            f"start.audio={tmp_path / 'model.safetensors'}",
        )  # fmt: skip
    recipe = nano("noise.drop_audio=1.0", *STILL_ONLY, *encoder, f"model.unet.audio_width={width}")
    training = Training(recipe, only_stills(finished, tmp_path / "run"))
    task = training.build("still", training.packed(clips))
    assert isinstance(task, DenoisingStage)
    batch = task.batch(0, [0, 1])
    assert not batch.has_audio.any()
    with torch.no_grad():
        for name, parameter in task.module.named_parameters():
            if name.endswith("bias"):
                parameter.add_(torch.randn_like(parameter) * 0.1)
        dropped = task.module(batch.noise, batch.t, batch)
        conditions = task.module.conditions(batch)
        silent = dataclasses.replace(conditions, audio=None, audio_mask=None)
        without = task.model.denoise(batch.noise, batch.t.float(), silent)
        heard = task.module(
            batch.noise, batch.t, dataclasses.replace(batch, has_audio=torch.ones_like(batch.has_audio))
        )
    torch.testing.assert_close(dropped, without, atol=1e-5, rtol=1e-4)
    assert (dropped - heard).abs().max() > 1e-3


@pytest.mark.parametrize(("term", "t"), [("pose", 950), ("detail", 600), ("low", 100), ("pixel", 500)])
def test_no_term_has_a_gradient_into_the_padding(
    finished: Path, clips: Path, tmp_path: Path, term: str, t: int
) -> None:
    """Neither its latents nor its pixels count; the decoder's middle alone would spread a gradient over
    all of them."""
    off = [f"loss.{name}=0" for name in ("pose", "detail", "low", "pixel") if name != term]
    recipe = nano(*off, f"loss.{term}=1", "loss.decode_every=1", "loss.decode_cells=0")
    training = Training(recipe, finished)
    task = training.build("still", training.packed(clips))
    assert isinstance(task, DenoisingStage)
    batch = task.batch(0, [0, 1])
    weight, inside = batch.weight.clone(), [one.clone() for one in batch.inside]
    weight[..., :4] = 0
    for one in inside:
        one[..., : one.shape[-1] // 2] = False
    batch = dataclasses.replace(batch, t=torch.tensor([t, t]), weight=weight, inside=inside)
    estimate = torch.randn_like(batch.latents).requires_grad_()
    found = task.extra_terms(estimate, batch)
    assert set(found) >= {term}
    found[term].backward()
    assert estimate.grad is not None
    assert float(estimate.grad[..., :4].abs().max()) == 0
    assert float(estimate.grad[..., 4:].abs().max()) > 0


@pytest.mark.parametrize(("term", "t"), [("pose", 950), ("detail", 600), ("low", 100)])
def test_each_term_reaches_the_denoiser_through_the_decoder(
    finished: Path, clips: Path, term: str, t: int
) -> None:
    """The trap: decoded without gradient, the terms of the phase-specific loss would train nothing."""
    others = [f"loss.{name}=0" for name in ("pose", "detail", "low") if name != term]
    training = Training(nano(*others, "loss.decode_every=1"), finished)
    task = training.build("still", training.packed(clips))
    assert isinstance(task, DenoisingStage)
    batch = dataclasses.replace(task.batch(0, [0, 1]), t=torch.tensor([t, t]))
    losses = task.losses(task.module, batch)
    (losses["loss"] - losses["latent"]).backward()
    for weight in (task.model.denoising_unet.conv_out.weight, task.model.reference_unet.conv_in.weight):
        assert weight.grad is not None
        assert torch.isfinite(weight.grad).all()
        assert weight.grad.abs().max() > 0
    assert all(p.grad is None for p in task.model.vae.parameters())


# The stage lips is left out: its sounds are synthesised for minutes.
@pytest.mark.parametrize("name", [name for name in STAGES if name != "lips"])
def test_a_step_waits_for_no_device(
    finished: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """On the meta device tensors have no values, so a step that reads one fails. So do here the functions
    that copy numbers to the device, which waits as well."""
    audio = ('stages=["audio"]', "model.audio.mouth_token=true") if name == "audio" else ()
    recipe = nano(*audio, "loss.decode_every=1", "plate.adversarial=0.1", "restore.adversarial=0.1")
    training = Training(recipe, finished)
    stage = training.build(name, training.packed(clips))
    batch = stage.batch(1, range(4))
    run = StageRun(stage, recipe, tmp_path, training.accelerator, Log(folder=tmp_path, active=False))
    run._flops = 1.0  # counting is not a part of the step
    for module in networks_of(stage):
        module.to("meta")
    run.parameters = checkpoint.trained(stage.module)
    run.ema = {name: p.detach().clone() for name, p in run.parameters.items()}
    run.optimiser = torch.optim.AdamW(run.parameters.values(), fused=False)
    with monkeypatch.context() as patched:
        patched.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # meta has none
        patched.setattr(training.accelerator.state, "device", torch.device("meta"))
        measured = run._one_step([batch])  # constants are copied once
        if isinstance(stage, DenoisingStage):
            return  # its ᾱ cannot be asked for again on the meta device
        for owner, function in ((torch, "tensor"), (torch.Tensor, "new_tensor"), (torch, "as_tensor")):
            patched.setattr(owner, function, forbidden)
        measured = run._one_step([batch])
    assert all(p.is_meta for p in run.parameters.values())
    with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
        measured.read()


def forbidden(*_: Any, **__: Any) -> Any:
    raise AssertionError("copies numbers to the device, and waits for it")


def networks_of(stage: Any) -> list[torch.nn.Module]:
    """All that a stage's step uses."""
    found = [getattr(stage, name, None) for name in ("module", "model", "heat_maps", "perceptual")]
    owners = [getattr(one, "__self__", one) for one in found]
    return [one for one in owners if isinstance(one, torch.nn.Module)]


def test_missing_stages_are_named(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(SemibodyError, match="no autoencoder"):
        train(nano('stages=["still"]'), tmp_path / "a", packed=clips)
    with pytest.raises(SemibodyError, match="holds no clips"):
        train(nano(), tmp_path / "b", packed=tmp_path)


def test_fine_tuning_starts_from_weights_and_trains_only_the_named_parameters(
    finished: Path, clips: Path, tmp_path: Path
) -> None:
    folder = finished / "weights"
    recipe = nano(
        'stages=["still"]', *STILL_ONLY, f"start.weights={folder}", "still.optimiser.steps=2",
        'start.train=["denoising_unet.*attn1*"]',
    )  # fmt: skip
    train(recipe, tmp_path / "run", packed=clips)
    # The scale of the latents is the autoencoder's, and comes with it.
    scales = {describe(run / "weights").model.vae.scale for run in (finished, tmp_path / "run")}
    assert len(scales) == 1 and scales != {VAEConfig().scale}
    before, after = weights(finished, "motion"), weights(tmp_path / "run")
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved
    assert all("denoising_unet" in name and "attn1" in name for name in moved)


def test_latents_have_about_unit_variance(finished: Path, clips: Path) -> None:
    training = Training(nano(), finished)
    found = training.packed(clips)
    stage = training.build("still", found)
    assert isinstance(stage, DenoisingStage)
    store = stage.samples.store
    assert np.std(store.latents(found[0], range(8))) == pytest.approx(1.0, abs=0.35)


def test_the_autoencoder_learns(clips: Path, tmp_path: Path) -> None:
    recipe = nano('stages=["vae"]', "vae.optimiser.steps=40", "vae.optimiser.batch=8")
    train(recipe, tmp_path / "run", packed=clips)
    losses = read_log(tmp_path / "run")["vae"]["loss"][1]
    assert losses[-1] < 0.6 * losses[0]


def test_the_command_explains_and_plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()
    monkeypatch.setattr(sys, "argv", ["semibody", "train", "starter", "--plan", "--out", str(tmp_path)])
    with contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as left:
        main()
    assert left.value.code in (0, None)
    assert "audio everywhere" in printed.getvalue()
    assert (tmp_path / "plan.png").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["starter"], "give --out"),
        (["starter", "--out", "x"], "give --data"),
        (["nonsense", "--out", "x"], "no such recipe"),
        (["tiny", "--out", "x", "--set", "still.lr=1"], "unknown setting still.lr"),
        (["tiny", "--out", "x", "--data", "nowhere"], "semibody data synthesise"),
    ],
)
def test_mistakes_are_one_line_and_code_2(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["semibody", "train", *words])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    assert message in capsys.readouterr().err


def test_each_process_packs_its_share_before_any_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What others have made by then is not made again; every process ends with all clips in their order.
    Of this machine's processes, two of four, each then packs its share of what the other machine made."""
    made: list[Any] = [SimpleNamespace(id=name) for name in ("c", "a", "b", "d", "e")]
    events: list[str] = []

    def pack(entries: Sequence[Any], *_: Any, **__: Any) -> list[str]:
        events.append("".join(entry.id for entry in entries))
        return [entry.id for entry in entries]

    monkeypatch.setattr(trainer, "pack_manifest", pack)
    training = Training(nano(), tmp_path / "run")
    assert list(map(str, training.pack(made, None, lambda *_: None))) == list("abcde")
    assert events == ["abcde"]
    events.clear()
    monkeypatch.setattr(Ranks, "wait", lambda _: events.append("wait"))
    training.ranks = Ranks(number=3, count=4, local_number=1, local_count=2)
    assert list(map(str, training.pack(made, None, lambda *_: None))) == list("abcde")
    assert events == ["d", "wait", "bd", "wait", "abcde"]
