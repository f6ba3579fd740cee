"""Compiled blocks: the same numbers, and no clip that fails because a compiler does."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch

import made
from semibody import animator as animators
from semibody.animator import Animator
from semibody.networks.compiling import compile_blocks, restore
from semibody.networks.model import Conditions
from semibody.types import SemibodyError

INPUTS = made.picture(), made.tone(1.0), made.gesture(12)


def broken(graph: Any, given: Any) -> NoReturn:
    raise RuntimeError("no C++ compiler was found")


@torch.inference_mode()
def test_compiled_blocks_are_called_and_give_the_same_until_they_are_restored() -> None:
    model, graphs = made.animator().model, 0
    latents, t = torch.randn(1, 4, 4, 8, 8), torch.tensor([500.0])
    expected = model.denoise(latents, t, Conditions())

    def traced(graph: Any, given: Any) -> Any:
        nonlocal graphs
        graphs += 1
        return graph.forward

    compile_blocks(model.denoising_unet, backend=traced)
    torch.testing.assert_close(model.denoise(latents, t, Conditions()), expected)
    assert graphs > 0
    seen = graphs
    model.denoise(latents, t, Conditions())
    assert graphs == seen, "once for every shape"
    restore(model.denoising_unet)
    assert torch.equal(model.denoise(latents, t, Conditions()), expected)


def test_a_compiler_that_fails_is_one_line_and_the_clip_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, compiling = made.animator(), made.animator()
    monkeypatch.setattr(animators, "compile_blocks", functools.partial(compile_blocks, backend=broken))
    said: list[str] = []
    compiling._compiles, compiling.say = True, said.append
    frames = compiling.animate(*INPUTS).frames
    np.testing.assert_array_equal(frames, plain.animate(*INPUTS).frames)
    assert len(said) == 1
    assert said[0].startswith("--compile: compiling failed")
    assert said[0].endswith("goes on without")


@pytest.mark.parametrize(
    ("asked", "remedy"),
    [
        ({"memory": "lowest"}, "--compile needs whole networks; use --memory low"),
        ({"devices": "cpu,cpu"}, "--compile works on one device"),
    ],
)
def test_what_cannot_be_compiled_is_refused(tmp_path: Path, asked: dict[str, str], remedy: str) -> None:
    with pytest.raises(SemibodyError, match=remedy):
        Animator.load(made.weights_folder(tmp_path), compile=True, **asked)  # type: ignore[arg-type]
