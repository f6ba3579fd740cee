"""Which ``--memory`` is chosen, and what a clip does that finds none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import made
from semibody import memory as memories
from semibody import resume, runtime
from semibody.animator import Animator
from semibody.networks.model import ModelConfig
from semibody.settings import Settings
from semibody.types import Memory, SemibodyError

CPU = torch.device("cpu")
GIB = 2**30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.weights_folder(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Says how many GiB are free."""

    def say(gib: float) -> None:
        monkeypatch.setattr(runtime, "free_memory", lambda device: int(gib * GIB))

    return say


def kept(animator: Animator) -> str:
    return animator.memory


def chosen(asked: str, size: int = 768) -> memories.Choice:
    settings = Settings(width=size, height=size)
    return memories.choose(asked, memories.sizes(ModelConfig()), settings, 24, torch.bfloat16, CPU)


def test_published_weights_at_768_keep_the_announced_limits() -> None:
    """8, 6 and 4 GiB beside the runtime, and less; and each takes less than the one before."""
    need = chosen("auto").needed
    assert need["full"] < 6.5 * GIB
    assert need["low"] < 4.5 * GIB
    assert need["lowest"] < 3.5 * GIB
    assert need["lowest"] < need["low"] < need["full"]


@pytest.mark.parametrize(("gib", "memory"), [(24, "full"), (5, "low"), (4, "lowest"), (1, "lowest")])
def test_auto_is_the_first_that_fits(free: Callable[[float], None], gib: float, memory: Memory) -> None:
    free(gib)
    assert chosen("auto").memory == memory
    assert chosen("full").memory == "full", "who asks for one gets it"


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(SemibodyError, match="--memory little is unknown; choose auto, full, low, lowest"):
        chosen("little")


def test_the_line_says_what_is_chosen_and_why(free: Callable[[float], None]) -> None:
    free(5)
    assert chosen("auto").line().startswith("--memory low: takes about")
    assert "5.0 GiB that are free, full would take" in chosen("auto").line()
    assert "full 5.8 GiB" in chosen("auto").table()
    assert chosen("auto").table().count("(does not fit)") == 1


@pytest.mark.parametrize("version", [1, 2])
def test_a_containers_limit_counts(tmp_path: Path, version: int) -> None:
    root, own = tmp_path / "cgroup", tmp_path / "own"
    names = (
        ("memory.max", "memory.current")
        if version == 2
        else (
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
        )
    )
    top = root if version == 2 else root / "memory"
    (top / "outer" / "inner").mkdir(parents=True)
    own.write_text("0::/outer/inner\n" if version == 2 else "3:cpu:/x\n4:memory:/outer/inner\n")
    stat = ("total_" if version == 1 else "") + "inactive_file 200\nanon 7\n"
    for folder, limit in ((top / "outer", "1000"), (top / "outer" / "inner", "max")):
        (folder / names[0]).write_text(limit)
        (folder / names[1]).write_text("500")
        (folder / "memory.stat").write_text(stat)
    assert runtime._free_in_groups(root, own) == [700]
    assert runtime._free_in_groups(root, tmp_path / "none") == []


# -- out of memory -----------------------------------------------------------------------------

STAGES = {
    "encoding": ("encode", 1),
    "reference": ("appearance", 1),
    "denoising": ("denoise", 2),
    "decoding": ("decode", 2),
}
"""The method of the model that finds no memory, and at which of its calls."""
INPUTS = made.picture(), made.tone(1.0), made.gesture(12)


def fail_once(animator: Animator, monkeypatch: pytest.MonkeyPatch, stage: str, times: int = 1) -> None:
    name, at = STAGES[stage]
    whole, calls = getattr(animator.model, name), iter(range(1, 1000))

    def method(*args: Any, **named: Any) -> Any:
        if at <= next(calls) < at + times:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return whole(*args, **named)

    monkeypatch.setattr(animator.model, name, method)


@pytest.mark.parametrize("stage", STAGES)
def test_a_clip_that_finds_no_memory_is_made_with_less(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    animator = Animator.load(folder, precision="fp32", device="cpu")
    assert kept(animator) == "full"
    expected = animator.animate(*INPUTS).frames
    fail_once(animator, monkeypatch, stage)
    stages: list[str] = []
    frames = animator.animate(*INPUTS, progress=lambda name, done, total: stages.append(name)).frames
    assert kept(animator) == "low"
    assert "less memory" in stages
    np.testing.assert_array_equal(frames, expected)
    animator.animate_to(tmp_path / "o.mp4", *INPUTS)
    assert [path.name for path in tmp_path.iterdir()] == ["o.mp4"]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(
    ("asked", "said"), [("full", "use --memory low, lower --size"), ("auto", "lower --size")]
)
def test_a_clip_for_which_nothing_is_enough_is_one_line_and_no_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, asked: str, said: str
) -> None:
    animator = Animator.load(folder, precision="fp32", device="cpu", memory=asked)
    fail_once(animator, monkeypatch, stage, times=100)
    with pytest.raises(SemibodyError, match=f"^not enough memory; {said}"):
        animator.animate_to(tmp_path / "o.mp4", *INPUTS)
    assert list(tmp_path.iterdir()) == []
    assert kept(animator) == ("full" if asked == "full" else "lowest")


def test_weights_that_fill_the_device_are_loaded_with_less(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from semibody.weights import state

    whole = state.fill

    def fill(module: torch.nn.Module, *args: Any, **named: Any) -> None:
        if named["source"].endswith("(denoising_unet)"):
            raise torch.OutOfMemoryError("CUDA out of memory")
        whole(module, *args, **named)

    monkeypatch.setattr(state, "fill", fill)
    assert Animator.load(folder, precision="fp32", device="cpu").memory == "low"
    with pytest.raises(SemibodyError, match="not enough memory; use --memory low"):
        Animator.load(folder, precision="fp32", device="cpu", memory="full")


def test_a_clip_that_will_not_fit_is_begun_with_less(folder: Path, free: Callable[[float], None]) -> None:
    free(64)
    animator = Animator.load(folder, precision="fp32", device="cpu")
    assert kept(animator) == "full"
    free(0.0)
    animator.animate(*INPUTS, length=1)
    assert kept(animator) != "full", "what it holds itself is all that is free"


def test_a_stopped_run_goes_on_with_less_memory(folder: Path) -> None:
    """Its state is known by the weights, however many of them are in memory."""
    full, low = (
        Animator.load(folder, precision="fp32", device="cpu", memory=memory) for memory in ("full", "low")
    )
    assert resume.digest(full._identity()) == resume.digest(low._identity())
