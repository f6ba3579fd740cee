"""The critic: who learns what from a duel, and how steep it may be."""

from __future__ import annotations

import math

import pytest
import torch

from semibody.training.critic import Critic, _levelled, duel


def pictures(n: int = 2, size: int = 32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    made, true = (torch.rand(n, 3, size, size, generator=rng) * 2 - 1 for _ in range(2))
    return (
        made.requires_grad_(),
        true,
        torch.rand(n, 6, size, size, generator=rng),
        torch.ones(n, 1, size, size),
    )


@pytest.fixture
def critic() -> Critic:
    torch.manual_seed(0)
    return Critic(known=6)


def test_it_says_a_number_for_every_block_of_8_pixels_and_sees_40(critic: Critic) -> None:
    pixels = torch.zeros(1, 3, 96, 64, requires_grad=True)
    said = critic(pixels, torch.zeros(1, 6, 96, 64))
    assert said.shape == (1, 1, 12, 8)
    said[0, 0, 6, 4].backward()
    assert pixels.grad is not None
    rows = pixels.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    assert int(rows.max() - rows.min()) + 1 == 40


@pytest.mark.parametrize("shape", [(32, 36, 3, 3), (1, 96, 3, 3)])
def test_no_layer_is_steeper_than_one(shape: tuple[int, ...]) -> None:
    weight = 7 * torch.randn(shape, generator=torch.Generator().manual_seed(1))
    assert torch.linalg.svdvals(_levelled(weight).flatten(1))[0].item() == pytest.approx(1, abs=1e-5)


def test_critic_and_maker_each_learn_from_their_own_term(critic: Critic) -> None:
    made, true, known, weight = pictures()
    duel(critic, made, true, known, weight)["critic"].backward()
    assert made.grad is None
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in critic.parameters())
    critic.zero_grad(set_to_none=True)
    duel(critic, made, true, known, weight)["rival"].backward()
    assert made.grad is not None
    assert made.grad.abs().max() > 0
    assert all(p.grad is None for p in critic.parameters())


def test_true_pictures_leave_full_doubt(critic: Critic) -> None:
    _, true, known, weight = pictures()
    terms = duel(critic, true, true, known, weight)
    assert terms["critic"].item() == pytest.approx(math.log(2), abs=1e-6)
    assert terms["rival"].item() == pytest.approx(math.log(2), abs=1e-6)


def test_places_without_weight_do_not_count(critic: Critic) -> None:
    made, true, known, weight = pictures(size=64)
    weight[..., 32:] = 0
    duel(critic, made, true, known, weight)["rival"].backward()
    assert made.grad is not None
    seen = made.grad.abs().sum(dim=(0, 1, 2))
    assert seen[:32].min() > 0
    assert seen[32 + 20 :].max() == 0


def test_it_learns_to_tell_blur_from_detail(critic: Critic) -> None:
    _, true, known, weight = pictures(n=4)
    blurred = torch.nn.functional.avg_pool2d(true, 3, stride=1, padding=1)
    optimiser = torch.optim.AdamW(critic.parameters(), lr=1e-2)
    for _ in range(20):
        optimiser.zero_grad()
        terms = duel(critic, blurred, true, known, weight)
        terms["critic"].backward()
        optimiser.step()
    assert terms["critic"] < 0.2 < math.log(2) < terms["rival"]
