"""The autoencoder against diffusers' AutoencoderKL: names, first values, results and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from semibody.networks.layers import Downsample
from semibody.networks.vae import VAE, VAEConfig

PUBLISHED = VAEConfig()
SIZES = {
    "published": PUBLISHED,
    "published without attention": VAEConfig(middle_attention=False),
    "small": VAEConfig(widths=(16, 24, 40), layers=1, groups=8, latent_channels=3),
    "small without attention": VAEConfig(widths=(8, 16, 16), layers=3, groups=4, middle_attention=False),
    "folded": VAEConfig(widths=(16, 32), layers=2, groups=8, latent_channels=8, patch=4),
    "one level": VAEConfig(widths=(32,), layers=1),
}


def both(config: VAEConfig, dtype: torch.dtype = torch.float32) -> tuple[VAE, Any]:
    """Ours and theirs, each initialised from the same seed.

    Theirs is not in training mode: there it changes the layout of tensors, and with it the last bits.
    """
    from diffusers import AutoencoderKL

    torch.manual_seed(2)
    ours = VAE(config)
    torch.manual_seed(2)
    levels = len(config.widths)
    theirs = AutoencoderKL(
        in_channels=3 * config.patch**2,
        out_channels=3 * config.patch**2,
        latent_channels=config.latent_channels,
        block_out_channels=config.widths,
        layers_per_block=config.layers,
        norm_num_groups=config.groups,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        mid_block_add_attention=config.middle_attention,
    )
    return ours.to(dtype), theirs.to(dtype).eval()


def pixels_and_latents(config: VAEConfig, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Two oblong pictures, and latents."""
    torch.manual_seed(3)
    height, width = 2 * config.factor, 3 * config.factor
    pixels = torch.rand(2, 3, height, width) * 2 - 1
    return pixels.to(dtype), torch.randn(2, config.latent_channels, 2, 3).to(dtype)


@pytest.mark.parametrize("config", SIZES.values(), ids=SIZES)
def test_names_shapes_and_first_values_are_theirs(config: VAEConfig) -> None:
    """In the same order, too: a stored training numbers the parameters that an optimiser moves."""
    ours, theirs = (model.state_dict() for model in both(config))
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("config", SIZES.values(), ids=SIZES)
@torch.no_grad()
def test_results_are_theirs_to_the_bit(config: VAEConfig, dtype: torch.dtype) -> None:
    ours, theirs = both(config, dtype)
    pixels, latents = pixels_and_latents(config, dtype)
    folded = F.pixel_unshuffle(pixels, config.patch)
    wanted = theirs.encode(folded).latent_dist
    mean, log_variance = ours.distribution(pixels)
    assert torch.equal(mean, wanted.mean) and torch.equal(log_variance, wanted.logvar)
    assert torch.equal(ours.encode(pixels), wanted.mode() * config.scale)
    decoded = theirs.decode(latents / config.scale).sample
    assert torch.equal(ours.decode(latents), F.pixel_shuffle(decoded, config.patch))
    assert decoded.float().std() > 0.01


@torch.no_grad()
def test_sizes_that_do_not_halve_evenly_are_theirs_to_the_bit() -> None:
    config = SIZES["small"]
    ours, theirs = both(config)
    pixels = torch.rand(1, 3, 23, 30)
    assert torch.equal(ours.distribution(pixels)[0], theirs.encode(pixels).latent_dist.mean)


@pytest.mark.parametrize("name", ["published", "small", "folded"])
def test_gradients_are_theirs_to_the_bit(name: str) -> None:
    config = SIZES[name]
    ours, theirs = both(config)
    pixels, _ = pixels_and_latents(config, torch.float32)
    pixels, theirs_in = (pixels.clone().requires_grad_() for _ in range(2))
    ours.decode(ours.encode(pixels)).square().mean().backward()
    mean = theirs.encode(F.pixel_unshuffle(theirs_in, config.patch)).latent_dist.mean
    theirs.decode(mean * config.scale / config.scale).sample.square().mean().backward()
    gradients = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        wanted = gradients[name].grad
        assert torch.equal(parameter.grad, wanted), name  # type: ignore[arg-type]
    assert torch.equal(pixels.grad, theirs_in.grad)  # type: ignore[arg-type]


def test_halving_pads_below_and_on_the_right_only() -> None:
    """By hand: a kernel of one 1 in its first corner picks every second pixel, beginning with the first."""
    halve = Downsample(1, symmetric=False)
    torch.nn.init.zeros_(halve.conv.weight)
    torch.nn.init.zeros_(halve.conv.bias)  # type: ignore[arg-type]
    halve.conv.weight.data[0, 0, 0, 0] = 1
    picture = torch.arange(24.0).reshape(1, 1, 4, 6)
    assert torch.equal(halve(picture), picture[:, :, ::2, ::2])


def test_attention_keeps_no_weights_of_all_pairs_of_pixels() -> None:
    """Training decodes large pictures: what is kept for the backward pass grows with their pixels only."""

    def kept(side: int) -> int:
        sizes: list[int] = []
        vae = VAE(VAEConfig(widths=(8,), layers=1, groups=4))
        latents = torch.randn(1, 4, side, side)

        def keep(x: Tensor) -> Tensor:
            sizes.append(x.numel())
            return x

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            vae.decode(latents)
        return max(sizes)

    assert kept(48) == 4 * kept(24)
