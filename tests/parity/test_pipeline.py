"""The whole pipeline, from picture, tokens and pose maps to video, against the published code's."""

from __future__ import annotations

import gc
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import made
from parity.golden import WHISPER_NAMES, Case, cases, fill
from semibody import media
from semibody.animator import Animator
from semibody.conditioning.clip import ClipConditions, pixels_of
from semibody.diffusion.schedule import initial_noise
from semibody.networks.audio_encoders import frame_count
from semibody.networks.model import Model, ModelConfig, small_config
from semibody.networks.unet import UNetConfig
from semibody.networks.vae import VAEConfig
from semibody.settings import Settings
from semibody.types import N_JOINTS, Gesture

LATENTS, VIDEO = 5e-4, 3e-4

SALTS = {"reference_unet": "reference_unet/", "denoising_unet": "denoising_unet/",
         "pose_encoder": "pose_encoder/", "vae": "vae/"}  # fmt: skip


def animator_of(config: ModelConfig) -> Animator:
    model = Model(config)
    for part, salt in SALTS.items():
        fill(getattr(model, part), salt)
    fill(model.audio_encoder, "whisper/", WHISPER_NAMES)
    return Animator(model.requires_grad_(False))


class RecordedConditions(ClipConditions):
    """With recorded audio tokens (f, l, d) and pose maps (f, 3, H, W) in place of a speech and a gesture."""

    def __init__(
        self, animator: Animator, picture: NDArray[np.uint8], tokens: torch.Tensor, maps: torch.Tensor
    ) -> None:
        self._recorded_tokens, self._recorded_maps = tokens, maps
        frames = len(maps)
        gesture = Gesture(np.zeros((frames, N_JOINTS, 2)), np.zeros((frames, N_JOINTS)), 24.0)
        super().__init__(animator.model, picture, None, gesture, made.tone(0.1), 24.0)

    def tokens(self, frames: Sequence[int]) -> torch.Tensor:
        return self._recorded_tokens[list(frames)]

    def maps(self, frames: Sequence[int]) -> torch.Tensor:
        return self._recorded_maps[list(frames)].contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("case", cases("e2e_*.npz", "image_u8", "ref_latents", "latents1"))
def test_pipeline(case: Case, compare: Any) -> None:
    meta = case.meta
    unet = UNetConfig(widths=tuple(meta["block_out_channels"]))
    config = small_config(unet, vae=VAEConfig(widths=(32, 32, 64, 64), layers=1))
    animator = animator_of(config)
    frames, width, height = meta["video_length"], meta["width"], meta["height"]
    settings = Settings(
        width=width, height=height, fps=24, steps=meta["steps"], guidance=meta["cfg"], seed=meta["seed"],
        window=meta["context_frames"], overlap=meta["context_overlap"],
    )  # fmt: skip

    if "audio_chunks" in case:
        chunks = case.tensor("audio_chunks").float()
    else:
        waveform = torch.from_numpy(case["pcm16k"].astype(np.float32) / 32768)
        rows = animator.model.audio_encoder.rows(waveform)
        assert frame_count(len(waveform) / 16000, settings.fps) >= frames
        chunks = animator.model.audio_encoder.tokens(rows, torch.arange(frames), settings.fps)
    maps = case.tensor("pose_u8")[0].transpose(0, 1).float() / 255

    picture = media.resize_image(case["image_u8"], width, height)
    compare(pixels_of(picture), case["image_pm1"], 1e-6, "picture")
    noise = initial_noise(frames, 4, height // 8, width // 8, seed=meta["seed"])
    compare(noise.transpose(0, 1)[None], case["init_latents"], 0, "noise")

    conditions = RecordedConditions(animator, picture, chunks, maps[:frames])
    compare(conditions.portrait.latents, case["ref_latents"], 1e-5, "portrait latents")
    latents = animator.denoise(conditions, settings)
    steps = len(case.names("latents"))
    compare(latents.transpose(0, 1)[None], case[f"latents{steps}"], LATENTS, "latents")

    video = animator.decode_pixels(latents).transpose(0, 1)[None]
    compare(video[:, :, 0], case["video_frame0"], VIDEO, "first frame")
    compare(video[:, :, -1], case["video_last"], VIDEO, "last frame")
    compare(video[..., ::4, ::4], case["video_sub"], VIDEO, "video")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("case", cases("full_e2e_*.npz", "image_u8", "audio_chunks", "video"))
def test_full_size_pipeline(case: Case, compare: Any) -> None:
    note = case.meta["note"]
    height, width, frames = (int(n) for n in re.search(r"(\d+)x(\d+), (\d+) frames", note).groups())  # type: ignore[union-attr]
    steps = int(re.search(r"(\d+) steps", note).group(1))  # type: ignore[union-attr]
    guidance = float(re.search(r"cfg ([\d.]+)", note).group(1))  # type: ignore[union-attr]
    drawn = [int(n) for n in re.search(r"audio chunks \((\d+),(\d+),(\d+)\)", note).groups()]  # type: ignore[union-attr]
    seed = case.meta["seed"]

    generator = np.random.Generator(np.random.PCG64(seed))
    generator.standard_normal(drawn, dtype=np.float32)  # the audio, which is stored
    random = generator.random((1, 3, frames, height, width), dtype=np.float32)
    maps = np.clip(random * np.float32(1.6) - np.float32(0.6), 0, 1)
    compare(maps[0, :, 0, ::16, ::16], case["pose_check"], 1e-6, "pose maps")

    animator = animator_of(ModelConfig())
    picture = media.resize_image(case["image_u8"], width, height)
    pose = torch.from_numpy(maps[0]).transpose(0, 1)
    conditions = RecordedConditions(animator, picture, case.tensor("audio_chunks"), pose)
    settings = Settings(width=width, height=height, steps=steps, guidance=guidance, seed=seed)
    latents = animator.denoise(conditions, settings)
    video = torch.cat([animator.decode_pixels(part[None]) for part in latents]).transpose(0, 1)[None]
    compare(video[:, :, ::3, ::4, ::4], case["video"], VIDEO, "video")
    del animator
    gc.collect()
