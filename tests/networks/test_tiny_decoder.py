from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import made
from loopback import StandIn
from semibody import plan
from semibody.animator import Animator, to_uint8
from semibody.conditioning.flops import count_work
from semibody.inputs import prepare
from semibody.networks.tiny_decoder import TinyDecoder
from semibody.networks.vae import VAE, VAEConfig
from semibody.settings import Settings, resolve
from semibody.settings import Source as WeightsSource
from semibody.types import SemibodyError
from semibody.weights import public

FILES = public.PUBLIC["taesd"].files


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A narrow seeded AutoencoderTiny, as its authors would publish it."""
    from diffusers import AutoencoderTiny

    narrow = (8, 8, 8, 8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = AutoencoderTiny(encoder_block_out_channels=narrow, decoder_block_out_channels=narrow)
    folder = tmp_path_factory.mktemp("published")
    network.save_pretrained(folder)
    return folder


@pytest.fixture
def fetched(stand_in: type[StandIn], published: Path) -> Path:
    repository = public.PUBLIC["taesd"].repository
    stand_in.files |= {(repository, name): published / name for name in FILES}
    folder = public.fetch("taesd")
    assert all((folder / name).read_bytes() == (published / name).read_bytes() for name in FILES)
    return folder


def test_a_clip_is_decoded_by_what_was_fetched(fetched: Path) -> None:
    """Against diffusers itself: scaled latents in, pixels in −1..1 out."""
    from diffusers import AutoencoderTiny

    animator = made.animator(decoder="tiny", steps=1)
    settings = animator.settings(length=6)
    inputs = prepare(made.picture(), made.tone(), made.gesture(), settings)
    frames = np.concatenate(list(animator.frames(inputs, settings)))
    with torch.inference_mode():
        latents = animator.denoise(animator.conditions(inputs, settings), settings)
        network = AutoencoderTiny.from_pretrained(fetched)
        expected = to_uint8((network.decode(latents).sample / 2 + 0.5).clamp(0, 1))
    assert frames.shape == (6, 64, 64, 3)
    assert np.abs(frames.astype(int) - expected).max() <= 1
    own = np.concatenate(list(animator.frames(inputs, animator.settings(length=6, decoder="own"))))
    assert not np.array_equal(frames, own)


@pytest.mark.usefixtures("stand_in")
def test_what_was_not_fetched_is_named(fetched: Path) -> None:
    def load() -> None:
        TinyDecoder.load(torch.float32, torch.device("cpu"))

    load()
    weights = fetched / FILES[-1]
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(SemibodyError, match=r"taesd: cannot be read .* run: semibody weights fetch taesd"):
        load()
    weights.unlink()
    with pytest.raises(SemibodyError, match="taesd: is not on this machine; run: semibody weights fetch"):
        load()


def test_other_latents_are_refused() -> None:
    starter = resolve(WeightsSource(weights="starter"))
    with pytest.raises(SemibodyError, match=r"--decoder tiny is for latents of Stable Diffusion"):
        starter.settings({"decoder": "tiny"})
    assert Animator.random(made.small_config()).settings(decoder="tiny").decoder == "tiny"


def test_the_plan_knows_the_tiny_decoders_work() -> None:
    from diffusers import AutoencoderTiny

    counted = []
    with torch.device("meta"), torch.inference_mode():
        for network in (AutoencoderTiny(), VAE(VAEConfig())):
            with FlopCounterMode(display=False) as counter:
                network.decode(torch.empty(1, 4, 32, 32))
            counted.append(counter.get_total_flops())
    assert pytest.approx(counted[0] / counted[1], rel=0.03) == plan.TINY_DECODER
    model, exact = made.small_config(), Settings(width=64, height=64)
    work = count_work(model, 64, 64)
    own, tiny = (
        plan.work_of_stages(work, settings, 24)["decode"]
        for settings in (exact, Settings(width=64, height=64, decoder="tiny"))
    )
    assert tiny == pytest.approx(own * plan.TINY_DECODER)
