"""How much arithmetic the networks need, counted on the meta device (no memory, no time)."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from semibody.conditioning.clip import encode_portrait
from semibody.networks.audio_encoders import AudioConfig
from semibody.networks.model import Conditions, Model, ModelConfig
from semibody.networks.unet import DeepFeatures


@dataclasses.dataclass(frozen=True)
class Work:
    """Operations (a multiply-add counts as two) of an animation."""

    conditional: float
    """one call of the denoiser with all conditions, for one window"""
    unconditional: float
    """the other half of guidance"""
    outer: tuple[float, float]
    """these two where deep features are reused"""
    reference: float
    """the portrait, once per clip, and its clean plate if there is one"""
    frames: float
    """the pose features and the audio's keys and values of one window"""
    decode_frame: float
    """the VAE's decoder, and the restorer if there is one, for one frame"""
    kept_frame: int
    """numbers of one frame's pose features and of its audio's keys and values, kept between steps"""
    deep_frame: int
    """numbers of one frame's deep features, of one half"""

    def step(self, guidance: float) -> float:
        """One step of a window that computes all layers."""
        return self.conditional + (self.unconditional if guidance > 1.0 else 0.0)

    def steps(self, steps: int, *, cache: int, guided: Callable[[float], bool]) -> float:
        """All steps of a window. Deep layers are computed in every ``cache``-th; ``guided`` is asked of each,
        with the share of steps before it."""
        total, kept = 0.0, False
        for step in range(steps):
            first = step % cache == 0
            total += self.conditional if first else self.outer[0]
            kept = kept and not first
            if guided(step / steps):
                total += self.outer[1] if kept else self.unconditional
                kept = True
        return total


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
        height, width = config.working_size(height, width)
        h, w = height // model.vae.factor, width // model.vae.factor
        latents = torch.empty(1, frames, config.vae.latent_channels, h, w)
        maps = torch.empty(frames, 3, height, width)
        pixels, hidden = maps[:1], torch.empty(1, 1, height, width)
        own_map = pixels if config.hints.own_pose else None
        audio = torch.empty(frames, tokens, config.audio.width)
        portrait = latents[:, 0]
        base_work, base = _count(lambda: model.base(portrait, model.predict_plate(pixels, hidden)))
        reference_work, encoded = _count(
            lambda: encode_portrait(model, portrait, base, own_map, compare=False)
        )
        frames_work, (pose, projected) = _count(
            lambda: (model.pose_encoder(maps)[None], model.project_audio(audio))
        )
        conditions = encoded.conditions(model, pose=pose, audio=projected)
        halves = [
            _count_denoiser(model, latents, given) for given in (conditions, conditions.unconditional())
        ]
        decode, _ = _count(lambda: model.decode(portrait))
        restorer = model.restorer
        if restorer is not None:
            picture = restorer.encode(pixels, pixels, pixels, torch.empty(1, 1, h, w), pixels)
            mouth, limbs = torch.empty(1, 2), torch.empty(1, 4, height, width, dtype=torch.uint8)
            decode += _count(lambda: restorer(pixels, pixels, picture, mouth, limbs))[0]
    kept = pose.nbytes + projected.nbytes
    (conditional, outer, deep), (unconditional, outer_unconditional, _) = halves
    return Work(
        conditional, unconditional, (outer, outer_unconditional), base_work + reference_work, frames_work,
        decode, kept_frame=kept // (frames * pose.itemsize), deep_frame=deep // frames,
    )  # fmt: skip


def _count_denoiser(model: Model, latents: Tensor, conditions: Conditions) -> tuple[float, float, int]:
    """Work of all layers, and of those that are left where deep features are reused; numbers of these."""
    deep = DeepFeatures()
    whole, outer = (
        _count(lambda: model.denoise(latents, torch.zeros(1), conditions, deep))[0] for _ in range(2)
    )
    assert deep.kept is not None, "the first call keeps them"
    return whole, outer, deep.kept.numel()


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
