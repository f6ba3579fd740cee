from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import made
from semibody.animator import Animator
from semibody.diffusion.guidance import Interval, guide
from semibody.diffusion.reuse import Reuse, SavedBetween, first_step
from semibody.inputs import prepare
from semibody.networks.unet import UNet
from semibody.resume import unfinished_work


def test_what_is_kept_lasts_a_group_of_steps() -> None:
    reuse = Reuse(object, 3)
    steps = [torch.tensor([float(t)]) for t in (9, 8, 7, 6)]
    first, second, third, fourth = ([reuse.of([0, 1], t, "a"), reuse.of([1, 2], t, "a")] for t in steps)
    assert first == second == third
    assert first[0] is not first[1], "each window has its own"
    assert {id(one) for one in fourth}.isdisjoint(id(one) for one in first)
    assert reuse.of([0, 1], steps[-1], "b") is not fourth[0], "and each half"
    assert reuse.of([0, 1], steps[-1], "a") is fourth[0]
    assert Reuse(object, 1).of([0], steps[0], "a") is None
    assert [first_step(step, 3) for step in range(7)] == [0, 0, 0, 3, 3, 3, 6]


def test_state_is_saved_only_between_groups(tmp_path: Path) -> None:
    numbers = {"x": np.zeros(1, np.float32)}
    with unfinished_work(tmp_path / "o.mp4", "key") as work:
        saved = SavedBetween(work, 2)
        for step, windows, expected in ((1, 0, None), (2, 1, None), (2, 0, 2), (3, 0, 2), (4, 0, 4)):
            saved.save("latents", numbers, {"step": step, "windows": windows})
            found = saved.load("latents")
            assert (None if found is None else found.facts["step"]) == expected
        assert not saved.due()


@pytest.mark.parametrize(
    ("steps", "start", "stop", "guided"),
    [(5, 0.2, 0.8, [1, 2, 3]), (3, 1 / 3, 0.667, [1]), (30, 0.0, 1.0, list(range(30))), (4, 0.3, 0.4, [])],
)
def test_the_steps_of_an_interval(steps: int, start: float, stop: float, guided: list[int]) -> None:
    """Both from shares of the steps and from rounded timesteps, as trailing spacing has them."""
    interval = Interval(start, stop)
    shares = [step / steps for step in range(steps)]
    timesteps = [round(1000 - step * 1000 / steps) - 1 for step in range(steps)]
    for asked in (shares, [1 - (t + 1) / 1000 for t in timesteps]):
        assert [step for step, done in enumerate(asked) if interval.holds(done)] == guided


def test_outside_the_interval_only_one_half_runs() -> None:
    ran: list[float] = []

    def unconditional(latents: torch.Tensor, t: torch.Tensor, window: list[int]) -> torch.Tensor:
        ran.append(float(t))
        return latents

    both = guide(lambda x, t, w: x + 1, unconditional, 3.0, lambda t: float(t) < 500)
    x = torch.zeros(1, 1, 1, 1)
    assert [both(x, torch.tensor([t]), [0]).item() for t in (900.0, 400.0)] == [1.0, 3.0]
    assert ran == [400.0]


SETTINGS: dict[str, Any] = {"steps": 5, "window": 8, "overlap": 2, "shift": 3, "guidance": 2.0, "seed": 3}


@pytest.fixture(scope="module")
def animator() -> Animator:
    return made.animator()


def latents_of(animator: Animator, **changes: Any) -> torch.Tensor:
    settings = animator.settings(**{**SETTINGS, **changes})
    inputs = prepare(made.picture(), made.tone(1.0), made.gesture(), settings)
    with torch.inference_mode():
        return animator.denoise(animator.conditions(inputs, settings), settings)


def test_a_clip_with_reused_deep_features_is_close_and_is_less_work(
    animator: Animator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """12 frames in 2 windows, 5 steps, both halves. ``cache=2``: deep layers run in steps 0, 2 and 4."""
    whole, outer = [], []
    forward, only_outer = UNet.forward, UNet._through_outer

    def counted(self: UNet, *given: Any, **more: Any) -> torch.Tensor:
        whole.append(1)
        return forward(self, *given, **more)

    def counted_outer(self: UNet, *given: Any) -> torch.Tensor:
        outer.append(1)
        return only_outer(self, *given)

    monkeypatch.setattr(UNet, "forward", counted)
    monkeypatch.setattr(UNet, "_through_outer", counted_outer)
    exact = latents_of(animator)
    assert (len(whole), len(outer)) == (2 * 5 * 2, 0)
    near = latents_of(animator, cache=2)
    assert (len(whole), len(outer)) == (2 * 2 * 5 * 2, 2 * 2 * 2)
    assert 0 < (near - exact).norm() < 0.3 * exact.norm()
    assert torch.equal(latents_of(animator, cache=2), near), "nothing is left over from another clip"


def test_a_clip_guided_in_the_middle_runs_the_other_half_there_only(
    animator: Animator, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, halves = UNet.forward, []

    def counted(self: UNet, *given: Any, **more: Any) -> torch.Tensor:
        halves.append(more["reference"] is not None)
        return forward(self, *given, **more)

    monkeypatch.setattr(UNet, "forward", counted)
    changes = {"guidance_start": 0.2, "guidance_stop": 0.6}
    middle = latents_of(animator, **changes)
    assert (sum(halves), len(halves)) == (2 * 5, 2 * 5 + 2 * 2)
    whole, none = latents_of(animator), latents_of(animator, guidance=1.0)
    assert (middle - whole).norm() < (none - whole).norm()


def test_a_half_that_begins_in_the_middle_of_a_group_is_computed_there(
    animator: Animator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other half runs in steps 1 and 2, of the groups 0, 1 and 2, 3: nothing of it can be reused."""
    only_outer, outer = UNet._through_outer, []

    def counted(self: UNet, *given: Any) -> torch.Tensor:
        outer.append(1)
        return only_outer(self, *given)

    monkeypatch.setattr(UNet, "_through_outer", counted)
    latents_of(animator, guidance_start=0.2, guidance_stop=0.6, cache=2)
    assert len(outer) == 2 * 2, "the conditional half's, in steps 1 and 3"
