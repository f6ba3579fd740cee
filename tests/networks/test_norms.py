"""A part of a picture, computed with the whole picture's statistics, is what the whole picture has there."""

from __future__ import annotations

import torch
from torch import nn

from semibody.networks.norms import with_statistics


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(4, 8), nn.SiLU(), nn.Conv2d(8, 8, 3, padding=1),
        nn.Sequential(nn.GroupNorm(2, 8, eps=1e-3), nn.Conv2d(8, 3, 1)),
    )  # fmt: skip
    norms = [module for module in layers.modules() if isinstance(module, nn.GroupNorm)]
    for norm in norms:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return layers.requires_grad_(False)


def test_the_whole_picture_is_as_before() -> None:
    layers, picture = network(), torch.randn(1, 3, 20, 24)
    fixed, _ = with_statistics(layers, lambda copy: copy(picture))
    torch.testing.assert_close(fixed(picture), layers(picture))


def test_a_part_is_as_in_the_whole_but_for_its_rim() -> None:
    layers, picture = network(), torch.randn(1, 3, 20, 24)
    picture[..., :12] += 3  # so that the part's own statistics are others
    fixed, _ = with_statistics(layers, lambda copy: copy(picture))
    whole, part = layers(picture), picture[:, :, 4:16, 8:20]
    inner = (..., slice(2, -2), slice(2, -2))
    torch.testing.assert_close(fixed(part)[inner], whole[:, :, 4:16, 8:20][inner])
    assert (layers(part)[inner] - whole[:, :, 4:16, 8:20][inner]).abs().max() > 0.1


def test_the_network_itself_stays_and_its_hooks_are_gone() -> None:
    layers, picture = network(), torch.randn(1, 3, 8, 8)
    before = layers(picture)
    fixed, _ = with_statistics(layers, lambda copy: copy(picture))
    assert torch.equal(layers(picture), before)
    assert not any(isinstance(module, nn.GroupNorm) for module in fixed.modules())
    assert sum(isinstance(module, nn.GroupNorm) for module in layers.modules()) == 2
    assert not any(module._forward_pre_hooks for module in (*layers.modules(), *fixed.modules()))


def test_norms_that_are_not_reached_stay() -> None:
    layers, picture = network(), torch.randn(1, 3, 8, 8)
    fixed, _ = with_statistics(layers, lambda copy: copy[:4](picture))
    assert isinstance(fixed[4][0], nn.GroupNorm)  # type: ignore[index]
