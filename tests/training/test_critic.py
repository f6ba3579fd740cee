"""The critic: which network each loss trains, and the spectral norm of the layers."""

from __future__ import annotations

import math

import pytest
import torch

from semibody.training.critic import Critic, _normalised, adversarial_losses


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
    return Critic(condition=6)


def test_a_logit_for_every_block_of_8_pixels_with_a_receptive_field_of_40(critic: Critic) -> None:
    pixels = torch.zeros(1, 3, 96, 64, requires_grad=True)
    logits = critic(pixels, torch.zeros(1, 6, 96, 64))
    assert logits.shape == (1, 1, 12, 8)
    logits[0, 0, 6, 4].backward()
    assert pixels.grad is not None
    rows = pixels.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    assert int(rows.max() - rows.min()) + 1 == 40


@pytest.mark.parametrize("shape", [(32, 36, 3, 3), (1, 96, 3, 3)])
def test_layers_have_spectral_norm_one(shape: tuple[int, ...]) -> None:
    weight = 7 * torch.randn(shape, generator=torch.Generator().manual_seed(1))
    assert torch.linalg.svdvals(_normalised(weight).flatten(1))[0].item() == pytest.approx(1, abs=1e-5)


def test_each_loss_trains_its_own_network(critic: Critic) -> None:
    predicted, true, condition, weight = pictures()
    adversarial_losses(critic, predicted, true, condition, weight)["critic"].backward()
    assert predicted.grad is None
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in critic.parameters())
    critic.zero_grad(set_to_none=True)
    adversarial_losses(critic, predicted, true, condition, weight)["adversarial"].backward()
    assert predicted.grad is not None
    assert predicted.grad.abs().max() > 0
    assert all(p.grad is None for p in critic.parameters())


def test_equal_pictures_cannot_be_distinguished(critic: Critic) -> None:
    _, true, condition, weight = pictures()
    terms = adversarial_losses(critic, true, true, condition, weight)
    assert terms["critic"].item() == pytest.approx(math.log(2), abs=1e-6)
    assert terms["adversarial"].item() == pytest.approx(math.log(2), abs=1e-6)


def test_pixels_without_weight_get_no_gradient(critic: Critic) -> None:
    predicted, true, condition, weight = pictures(size=64)
    weight[..., 32:] = 0
    adversarial_losses(critic, predicted, true, condition, weight)["adversarial"].backward()
    assert predicted.grad is not None
    seen = predicted.grad.abs().sum(dim=(0, 1, 2))
    assert seen[:32].min() > 0
    assert seen[32 + 20 :].max() == 0


def test_it_learns_to_distinguish_blur_from_detail(critic: Critic) -> None:
    _, true, condition, weight = pictures(n=4)
    blurred = torch.nn.functional.avg_pool2d(true, 3, stride=1, padding=1)
    optimiser = torch.optim.AdamW(critic.parameters(), lr=1e-2)
    for _ in range(20):
        optimiser.zero_grad()
        terms = adversarial_losses(critic, blurred, true, condition, weight)
        terms["critic"].backward()
        optimiser.step()
    assert terms["critic"] < 0.2 < math.log(2) < terms["adversarial"]
