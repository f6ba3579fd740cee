"""Single forwards of the U-Nets, the pose encoder and the VAE against the published code's."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
import torch

from parity.golden import Case, cases, fill
from semibody.networks.pose_encoder import PoseEncoder, PoseEncoderConfig
from semibody.networks.unet import UNet, UNetConfig
from semibody.networks.vae import VAE, VAEConfig

FORWARD, EXACT = 5e-5, 1e-5


def name_of(bank: str) -> str:
    return bank.removeprefix("bank/").removesuffix(".transformer_blocks.0")


class Forward:
    """The three networks of a case, filled, and its inputs in our layout."""

    def __init__(self, case: Case) -> None:
        config = UNetConfig(widths=tuple(case.meta["block_out_channels"]))
        self.case = case
        self.reference = fill(UNet(config.as_reference()), "reference_unet/")
        portrait = case.tensor("ref_latents")
        self.appearance = self.reference.appearance(portrait)
        self.reference_output = self.reference(portrait, torch.zeros(1))
        self.exact = self.reference.double().appearance(portrait.double())
        del self.reference
        gc.collect()
        encoder = fill(PoseEncoder(PoseEncoderConfig(out_channels=config.widths[0])), "pose_encoder/")
        maps = case.tensor("pose_u8").float()[0].transpose(0, 1) / 255
        self.pose = encoder(maps)
        self.denoiser = fill(UNet(config), "denoising_unet/")
        self.latents = case.tensor("latents")[0].transpose(0, 1)

    def bank(self, kind: str) -> dict[str, torch.Tensor]:
        stored = self.case.sibling("banks")
        whole = "bank_step" not in stored.meta or set(stored.meta["bank_step"].values()) == {1}
        seen = {name_of(k): stored.tensor(k) for k in stored.names("bank/")} if whole else self.appearance
        return {k: v.half().float() for k, v in seen.items()} if kind == "bank16" else seen

    def predict(self, t: float, mode: str, bank: str) -> torch.Tensor:
        """(b, c, f, h, w) as recorded: unconditional first where guided."""
        frames, step = len(self.latents), torch.tensor([t])
        audio = self.denoiser.project_audio(self.case.tensor("audio")[0])
        memory = self.denoiser.project_reference(self.bank(bank))
        found = [
            self.denoiser(self.latents, step, frames=frames, pose=self.pose, reference=memory, audio=audio)
        ]
        if mode == "cfg":
            found.insert(0, self.denoiser(self.latents, step, frames=frames))
        return torch.stack(found).transpose(1, 2)


@pytest.fixture(scope="module")
def forwards() -> Any:
    kept: dict[str, Forward] = {}

    def of(case: Case) -> Forward:
        if case.name not in kept:
            kept.clear()
            gc.collect()
            kept[case.name] = Forward(case)
        return kept[case.name]

    return of


ALL = cases("*_inputs.npz", "ref_latents", "latents", "audio", "pose_u8")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", ALL)
def test_forward(case: Case, forwards: Any, compare: Any) -> None:
    forward = forwards(case)
    recorded = case.sibling("outputs")
    for key in recorded.names():
        mode, bank, t = key.split("/")
        ours = forward.predict(float(t[1:]), mode, bank)
        compare(ours, recorded[key], FORWARD, key)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", ALL)
def test_appearance(case: Case, forwards: Any, compare: Any) -> None:
    """In float64 only the recording's own rounding is left, on every machine; float32 adds its kernels'.

    Without AVX-512 that sum is 1.3e-5 in the largest networks, with it 1.0e-5; float64 alone is 5.8e-6 off.
    """
    forward, stored = forwards(case), case.sibling("banks")
    assert len(stored.names("bank/")) == len(forward.appearance)
    steps = stored.meta.get("bank_step", {})
    for key in stored.names("bank/"):
        step = steps.get(key.removeprefix("bank/"), 1)
        exact, ours = (
            seen[name_of(key)].numpy().ravel()[::step] for seen in (forward.exact, forward.appearance)
        )
        compare(exact, stored[key].ravel(), EXACT, f"{name_of(key)} in float64")
        compare(ours, stored[key].ravel(), FORWARD, name_of(key))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", ALL)
def test_pose_features_and_reference_output(case: Case, forwards: Any, compare: Any) -> None:
    forward = forwards(case)
    step = case.meta.get("pose_features_step", 1)
    ours = forward.pose.transpose(0, 1).reshape(-1)[::step]
    compare(ours, case["pose_features"], EXACT, "pose features")
    ours = forward.reference_output.reshape(-1)[:: case.meta.get("ref_out_step", 1)]
    compare(ours, case["ref_out"], FORWARD, "reference output")


def module_named(unet: Any, name: str) -> Any:
    """The module whose output the published code's block of that name returns."""
    parts = name.split(".")
    if name == "mid_block":
        return unet.mid_block.resnets[1]
    if len(parts) == 2 and parts[0] in ("down_blocks", "up_blocks"):
        level = getattr(unet, parts[0])[int(parts[1])]
        for ending in ("downsamplers", "upsamplers"):
            if hasattr(level, ending):
                return getattr(level, ending)[0]
        return level.motion_modules[-1]
    return unet.get_submodule(name)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", ALL)
def test_activations_inside(case: Case, forwards: Any, compare: Any) -> None:
    """Where the recorded file has them, intermediate results of the conditional half, block by block."""
    recorded = case.sibling("activations")
    if not recorded.path.exists():
        pytest.skip(f"no activations recorded for {case.name}")
    forward, seen = forwards(case), {}
    hooks = []
    for key in recorded.names("act/"):
        name = key.removeprefix("act/")

        def keep(_module: Any, _inputs: Any, output: torch.Tensor, name: str = name) -> None:
            seen[name] = output

        hooks.append(module_named(forward.denoiser, name).register_forward_hook(keep))
    try:
        forward.predict(float(recorded.meta["timestep"]), "cond", "bank16")
    finally:
        for hook in hooks:
            hook.remove()
    for key in recorded.names("act/"):
        name = key.removeprefix("act/")
        shape, step = recorded.meta["shape"][name], recorded.meta["step"][name]
        ours = seen[name]
        if len(shape) == 5:
            ours = ours.transpose(0, 1)
        # The recorded batch has the unconditional half first: take what lies in the second half.
        half = int(np.prod(shape)) // 2
        picked = np.arange(0, 2 * half, step)
        picked = picked[picked >= half]
        ours = np.resize(ours.contiguous().numpy().ravel(), half)[picked - half]
        compare(ours, recorded[key][-len(picked) :], 5 * FORWARD, name)


@pytest.mark.parametrize("case", cases("vae*.npz", "z", "decoded", "img", "encoded"))
def test_vae(case: Case, compare: Any) -> None:
    vae = fill(VAE(VAEConfig()), "vae/")
    compare(vae.decode(case.tensor("z")), case["decoded"], FORWARD, "decode")
    mean, _ = vae.distribution(case.tensor("img"))
    compare(mean, case["encoded"], FORWARD, "encode")
