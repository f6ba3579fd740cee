"""Several processes: shares of preparing and validating, shards of weights, and the loss of one of them."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from semibody.clips.manifest import write_manifest
from semibody.networks.loading import load_model
from semibody.training import checkpoint
from semibody.training.denoiser import Denoiser
from semibody.training.recipe import Recipe
from semibody.training.report import read_log
from semibody.training.trainer import Training, train
from training.nano import NANO, nano
from training.test_samples import entry
from training.two import STILL_ONLY

PEOPLE = 5
HELD_OUT = 3

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]


def launch(processes: int, *words: str) -> subprocess.Popen[str]:
    """Python with these words in several processes, as torchrun starts them."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *launcher, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def stills(*changes: str) -> Recipe:
    return nano('stages=["vae","plate","still"]', *STILL_ONLY, "still.optimiser.accumulate=2", *changes)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data of a few people, prepared and trained on by one process of one thread."""
    out = tmp_path_factory.mktemp("one")
    people = [
        dataclasses.replace(
            entry(out / "data" / str(number), frames=8, number=number), id=f"clip-{number}",
            person=f"person-{number}", split="val" if number >= PEOPLE - HELD_OUT else "train",
        )
        for number in range(PEOPLE)
    ]  # fmt: skip
    write_manifest(people, out / "data")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    train(stills("run.validate_every=3"), out / "run", data=out / "data")
    training = Training(nano(*STILL_ONLY), out / "run")
    training.build("restore", training.packed(None))
    torch.set_num_threads(threads)
    return out


@pytest.fixture(scope="module")
def two(one: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two processes did what ``two.py`` says."""
    out = tmp_path_factory.mktemp("two")
    (out / "data").symlink_to(one / "data")
    for run, stages in {
        "shared": ("vae", "plate", "still"),
        "stopped": ("vae",),
        "sharded": ("vae",),
    }.items():
        (out / run).mkdir()
        for stage in stages:
            (out / run / stage).symlink_to(one / "run" / stage)
    process = launch(2, str(Path(__file__).with_name("two.py")), str(out))
    _, errors = process.communicate(timeout=1200)
    assert process.returncode == 0, errors[-4000:]
    return out


@pytest.fixture(scope="module")
def said(two: Path) -> list[dict[str, Any]]:
    """What each of them found."""
    return [json.loads((two / f"{rank}.json").read_text()) for rank in range(2)]


def test_preparing_is_shared_and_makes_what_one_process_makes(
    one: Path, two: Path, said: list[dict[str, Any]]
) -> None:
    first, second = (set(found["packed"]) for found in said)
    assert first | second == {f"clip-{number}" for number in range(PEOPLE)}
    assert not first & second
    assert {len(first), len(second)} == {2, 3}
    assert sorted(found["encoded"] for found in said) == [2 * 8, 3 * 8], "frames, each encoded once"
    assert [found["generated"] for found in said] == [3, 3], "half of the pool each"
    made = {
        path.relative_to(one / "run"): content(path)
        for pattern in ("packed/*/*", "latents-*/*", "generated-*/*")
        for path in (one / "run").glob(pattern)
    }
    assert len(made) == PEOPLE + PEOPLE + 6
    for path, wanted in made.items():
        assert content(two / "shared" / path) == wanted, path


def content(path: Path) -> tuple[dict[str, bytes], dict[str, str] | None]:
    """Tensors and facts of a file; safetensors writes facts in any order."""
    with safe_open(str(path), framework="np") as file:
        return {name: file.get_tensor(name).tobytes() for name in file.keys()}, file.metadata()  # noqa: SIM118


@pytest.mark.parametrize("stage", ["vae", "still", "restore"])
def test_validating_is_shared_and_finds_what_one_process_finds(
    said: list[dict[str, Any]], stage: str
) -> None:
    first, second = (found["validation"][stage] for found in said)
    # The recipe validates two of the three held-out clips.
    assert len(first["mine"]) == len(second["mine"]) == 1
    assert first["mine"] != second["mine"]
    assert first["all"] == second["all"] == first["alone"] == second["alone"]
    assert first["all"]["psnr"] > 0
    assert first["same"] and second["same"], "and the same picture"


def weights(run: Path) -> dict[str, torch.Tensor]:
    return checkpoint.read(run / "still" / checkpoint.FINAL).weights


def test_everything_is_in_shards(said: list[dict[str, Any]]) -> None:
    shards = [found["sharded"] for found in said]
    assert all(one["kinds"] == ["DTensor"] and one["stopped"] for one in shards)
    assert sum(one["held"] for one in shards) == shards[0]["whole"]
    assert all(0.3 < one["held"] / one["whole"] < 0.7 for one in shards)


def test_shards_learn_what_one_process_learns(one: Path, two: Path) -> None:
    alone, shards = (read_log(run)["still"] for run in (one / "run", two / "sharded"))
    for name in ("loss", "gradient"):
        assert np.allclose(alone[name][1], shards[name][1], rtol=2e-3), name
    assert alone["val/psnr"][0] == shards["val/psnr"][0] == [3, 6]
    assert np.allclose(alone["val/psnr"][1], shards["val/psnr"][1], atol=0.02)
    ours, theirs = weights(one / "run"), weights(two / "sharded")
    assert ours.keys() == theirs.keys()
    # Adam turns the rounding of gradients near zero into steps of full length, so only the bulk agrees.
    off = np.concatenate([(ours[name] - theirs[name]).abs().flatten().numpy() for name in ours])
    assert np.quantile(off, 0.99) < 2e-4


def test_what_shards_export_is_whole(two: Path) -> None:
    exported, final = (
        Denoiser(load_model(two / "sharded" / "weights")[0]).state_dict(),
        weights(two / "sharded"),
    )
    assert exported.keys() == final.keys()
    assert all(torch.equal(exported[name], final[name]) for name in final)


def test_shards_continue_with_the_same_bits(two: Path) -> None:
    stopped, unbroken = weights(two / "stopped"), weights(two / "sharded")
    assert all(torch.equal(stopped[name], unbroken[name]) for name in unbroken)


def test_a_checkpoint_of_shards_continues_in_one_process(one: Path, two: Path, tmp_path: Path) -> None:
    (tmp_path / "run" / "still").mkdir(parents=True)
    (tmp_path / "run" / "vae").symlink_to(one / "run" / "vae")
    (first, *_) = checkpoint.checkpoints(two / "stopped" / "still")
    assert first.name == "step-00000001"
    shutil.copytree(first, tmp_path / "run" / "still" / first.name)
    train(stills("run.validate_every=3"), tmp_path / "run", packed=one / "run" / "packed", resume=True)
    alone, continued = (read_log(run)["still"]["loss"] for run in (one / "run", tmp_path / "run"))
    assert continued[0][-1] == 6
    assert np.allclose(alone[1][-2:], continued[1][-2:], rtol=2e-3)


# -- as a user starts them ------------------------------------------------------------------------------


def words(one: Path, out: Path, *changes: str) -> list[str]:
    """``semibody train`` of stills, with the autoencoder there."""
    out.mkdir()
    (out / "vae").symlink_to(one / "run" / "vae")
    changes = (*NANO, *STILL_ONLY, 'stages=["vae","still"]', *changes)
    given = ["--packed", str(one / "run" / "packed"), "--out", str(out), "--device", "cpu", "--resume"]
    return ["semibody", "train", "tiny", *given, *(w for change in changes for w in ("--set", change))]


def test_eight_processes_learn_in_twenty_steps_what_one_does(one: Path, tmp_path: Path) -> None:
    changes = ("still.optimiser.steps=20", "still.optimiser.batch=8", "run.log_every=1")
    command = [sys.executable, "-m", *words(one, tmp_path / "alone", *changes)]
    subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, capture_output=True)
    process = launch(8, "-m", *words(one, tmp_path / "eight", *changes))
    _, errors = process.communicate(timeout=1800)
    assert process.returncode == 0, errors[-4000:]
    alone, eight = (read_log(tmp_path / run)["still"] for run in ("alone", "eight"))
    assert len(eight["loss"][1]) == 20
    for name in ("loss", "gradient"):
        assert np.allclose(alone[name][1], eight[name][1], rtol=1e-2), name
    assert np.allclose(alone["val/psnr"][1], eight["val/psnr"][1], atol=0.05)
    ours, theirs = weights(tmp_path / "alone"), weights(tmp_path / "eight")
    moved = np.concatenate([ours[name].flatten().numpy() for name in ours])
    off = np.abs(moved - np.concatenate([theirs[name].flatten().numpy() for name in ours]))
    assert np.quantile(off, 0.99) < 1e-3


@pytest.mark.parametrize("sharded", [False, True])
def test_when_a_process_dies_the_other_ends_soon_and_the_training_continues(
    one: Path, tmp_path: Path, sharded: bool
) -> None:
    """Started without a launcher, which would end the other itself."""
    out = tmp_path / "run"
    long = ("still.optimiser.steps=5000", "run.checkpoint_minutes=0", f"run.shard={str(sharded).lower()}")
    command = [sys.executable, "-m", *words(one, out, *long)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    both = [
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, **place, "RANK": rank, "LOCAL_RANK": rank, "OMP_NUM_THREADS": "1"},
        )
        for rank in ("0", "1")
    ]  # fmt: skip
    limit = time.monotonic() + 300
    while len(checkpoint.checkpoints(out / "still")) < 2 and time.monotonic() < limit:
        assert both[1].poll() is None, both[1].communicate()
        time.sleep(0.1)
    both[1].kill()
    killed = time.monotonic()
    _, errors = both[0].communicate(timeout=60)
    took = time.monotonic() - killed
    assert both[0].returncode == 2, errors
    (line,) = [line for line in errors.splitlines() if line.startswith("semibody:")]
    assert "another process of this training has ended" in line
    assert "--resume" in line
    assert took < 30
    both[1].communicate()
    step = int(checkpoint.checkpoints(out / "still")[-1].name.removeprefix("step-"))
    assert step >= 2
    # One process alone continues from there.
    train(stills(f"still.optimiser.steps={step + 1}"), out, packed=one / "run" / "packed", resume=True)
    assert checkpoint.read(out / "still" / checkpoint.FINAL).step == step + 1
