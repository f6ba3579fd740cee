"""Layers in slices: what they compute stays the same, and what they hold in between is small."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from semibody.networks import slices
from semibody.networks.attention import FeedForward, KeyValue, SpatialTransformer
from semibody.networks.layers import ResnetBlock, Upsample
from semibody.networks.motion import MotionModule
from semibody.networks.slices import in_slices


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices of a few numbers."""
    monkeypatch.setattr(slices, "SLICE", 4096)


def picture(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator).contiguous(memory_format=torch.channels_last)


def count_calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with every result that is put together from slices."""
    calls: list[int] = []
    whole = slices._empty

    def counted(x: Tensor, dim: int, places: int) -> Tensor:
        calls.append(places)
        return whole(x, dim, places)

    monkeypatch.setattr(slices, "_empty", counted)
    return calls


def transformer(x: Tensor) -> Tensor:
    torch.manual_seed(0)
    layer = SpatialTransformer(32, 2, 8, 24, 3.0)
    reference, audio = (KeyValue(*torch.randn(2, n, length, 32)) for n, length in ((1, 64), (6, 5)))
    return layer(x, layer.tokens(x), reference, audio, torch.rand(6, 64))


def seeded(build: Callable[[], nn.Module], *inputs: object) -> Callable[[Tensor], Tensor]:
    def compute(x: Tensor) -> Tensor:
        torch.manual_seed(0)
        return build()(x, *inputs)

    return compute


LAYERS: dict[str, Callable[[Tensor], Tensor]] = {
    "residual": seeded(lambda: ResnetBlock(32, 64, 16, 8), torch.ones(1, 16)),
    "residual, an embedding for two frames each, another in places": seeded(
        lambda: ResnetBlock(32, 32, 16, 8),
        torch.arange(48.0).view(3, 16),
        (torch.arange(96.0).view(6, 16) / 96, torch.linspace(0, 1, 6).view(6, 1, 1, 1).expand(6, 1, 8, 8)),
    ),
    "transformer": transformer,
    "motion": seeded(lambda: MotionModule(32, 2, 8, 16), 3),
    "upsampling": seeded(lambda: Upsample(32), (15, 16)),
}


@pytest.mark.parametrize("name", LAYERS)
@torch.no_grad()
def test_a_layer_in_slices_gives_what_it_gives_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = picture(6, 32, 8, 8)
    whole = LAYERS[name](x)
    monkeypatch.setattr(slices, "SLICE", 4096)
    with monkeypatch.context() as counted:
        calls = count_calls(counted)
        made = LAYERS[name](x)
    assert calls, "nothing was sliced"
    torch.testing.assert_close(made, whole, rtol=1e-5, atol=1e-5)
    assert made.stride() == whole.stride()


@pytest.mark.usefixtures("small")
def test_slices_are_as_large_as_they_may_be_and_see_their_rows() -> None:
    seen: list[tuple[int, list[float], int]] = []

    def compute(x: Tensor, each: Tensor, two: Tensor, one: Tensor, none: None) -> Tensor:
        assert none is None
        seen.append((len(x), two.flatten().tolist(), len(one)))
        return x + each

    x, rows = torch.zeros(6, 256), torch.arange(6.0)[:, None]
    with torch.no_grad():
        made = in_slices(compute, x, rows, rows[:3], rows[:1], None, growth=2)
    assert seen == [(2, [0, 0], 1), (2, [1, 1], 1), (2, [2, 2], 1)]
    assert torch.equal(made, x + rows)


@pytest.mark.usefixtures("small")
def test_gradients_are_those_of_the_whole() -> None:
    """Nothing is sliced, because all is kept for them."""
    calls: list[int] = []
    x = torch.zeros(6, 1024, requires_grad=True)

    def compute(part: Tensor) -> Tensor:
        calls.append(len(part))
        return part * 2

    in_slices(compute, x).sum().backward()
    assert calls == [6]
    assert x.grad is not None
    assert bool((x.grad == 2).all())


@torch.no_grad()
def test_a_feed_forward_holds_one_slice_of_its_wide_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = FeedForward(32), torch.randn(4, 1024, 32)
    widest: list[int] = []
    layer.net["0"].register_forward_hook(lambda module, inputs, made: widest.append(made.nbytes))
    monkeypatch.setattr(slices, "SLICE", 2**18)
    layer(x)
    assert sum(widest) == 4 * x.nbytes
    assert max(widest) <= 2**18
