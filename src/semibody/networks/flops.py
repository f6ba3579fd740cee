"""How much arithmetic the networks need, counted on the meta device (no memory, no time)."""

from __future__ import annotations

import dataclasses
import functools

import torch
from torch.utils.flop_counter import FlopCounterMode

from semibody.networks.audio_encoders import AudioConfig
from semibody.networks.model import Conditions, Model, ModelConfig


@dataclasses.dataclass(frozen=True)
class Work:
    """Operations (a multiply-add counts as two) of the parts of an animation."""

    conditional: float
    """one call of the denoiser with all conditions, for one window"""
    unconditional: float
    """the other half of guidance"""
    reference: float
    """the portrait, once per clip, and its clean plate if one is painted"""
    pose: float
    """the pose features of one window"""
    decode_frame: float
    """the VAE's decoder, and the restorer if there is one, for one frame"""

    def step(self, guidance: float) -> float:
        return self.conditional + (self.unconditional if guidance > 1.0 else 0.0)


@functools.lru_cache(maxsize=16)
def count_work(config: ModelConfig, height: int, width: int, frames: int = 12) -> Work:
    """Count the work of a ``height`` x ``width`` picture and a window of ``frames`` frames."""
    tokens = _tokens_per_frame(config.audio)
    counted = config
    if config.audio.kind != "logmel":
        # Audio encoders are not counted, and large ones are slow to build.
        counted = dataclasses.replace(config, audio=AudioConfig(kind="logmel", width=config.audio.width))
    with torch.device("meta"), torch.inference_mode():
        model = Model(counted)
        h, w = height // model.vae.factor, width // model.vae.factor
        portrait = torch.empty(1, config.vae.latent_channels, h, w)
        latents = torch.empty(1, frames, config.vae.latent_channels, h, w)
        maps = torch.empty(1, frames, 3, height, width)
        audio = torch.empty(1, frames, tokens, config.audio.width)
        t = torch.zeros(1)
        reference_work, reference = _count(lambda: model.remember(portrait, maps[:, 0]))
        pose_work, pose = _count(lambda: model.pose_features(maps))
        conditions = Conditions(portrait=portrait, reference=reference, audio=audio, pose=pose)
        conditional, _ = _count(lambda: model.denoise(latents, t, conditions))
        unconditional, _ = _count(lambda: model.denoise(latents, t, conditions.unconditional()))
        decode, pixels = _count(lambda: model.decode(portrait))
        plate = model.plate
        if plate is not None:
            hidden = torch.empty(1, 1, height, width)
            reference_work += _count(lambda: plate(pixels, hidden))[0]
            if config.plate_latents:
                reference_work += _count(lambda: model.encode(pixels))[0]
        restorer = model.restorer
        if restorer is not None:
            view = restorer.look(pixels, pixels, maps[:, 0], torch.empty(1, 1, h, w), pixels)
            mouth, limbs = torch.empty(1, 2), torch.empty(1, 4, height, width, dtype=torch.uint8)
            decode += _count(lambda: restorer(pixels, maps[:, 0], view, mouth, limbs))[0]
    return Work(conditional, unconditional, reference_work, pose_work, decode)


def _count(call):  # type: ignore[no-untyped-def]
    with FlopCounterMode(display=False) as counter:
        result = call()
    return float(counter.get_total_flops()), result


def _tokens_per_frame(audio: AudioConfig) -> int:
    if audio.kind == "whisper":
        return audio.rows_per_frame * 5
    if audio.kind == "wav2vec2":
        return audio.mapped_tokens
    return -(-audio.rows_per_frame // 4) + audio.mouth_token
