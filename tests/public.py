"""Stand-ins for public weights: the published formats at small sizes, seeded, made by the libraries that
define them (diffusers, transformers) and not by ours."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

WIDTHS = (32, 64, 64, 64)
VAE_WIDTHS = (32, 32, 32, 32)
TOY = (
    "model.unet.widths=[32,64,64,64]", "model.pose_encoder.out_channels=32",
    "model.pose_encoder.widths=[8,8,16,16]", "model.vae.widths=[32,32,32,32]", "model.vae.layers=1",
)  # fmt: skip
"""Sizes of a recipe that fit the stand-ins."""

State = dict[str, Tensor]


def unet(widths: tuple[int, ...] = WIDTHS, **changes: Any) -> torch.nn.Module:
    """Stable Diffusion 1.5's U-Net of diffusers; its configuration but for the widths."""
    from diffusers import UNet2DConditionModel

    torch.manual_seed(1)
    sizes = {"cross_attention_dim": 768, "attention_head_dim": 8, **changes}
    return UNet2DConditionModel(sample_size=64, block_out_channels=widths, **sizes)


def motion(widths: tuple[int, ...] = WIDTHS, *, version: int = 2) -> State:
    """AnimateDiff's motion modules under AnimateDiff's names, from diffusers' module of them."""
    from diffusers import MotionAdapter

    torch.manual_seed(2)
    frames = 24 if version == 1 else 32
    adapter = MotionAdapter(
        block_out_channels=widths, motion_num_attention_heads=8, motion_max_seq_length=frames,
        use_motion_mid_block=version == 2,
    )  # fmt: skip
    made: State = {}
    for key, value in adapter.state_dict().items():
        if key.endswith("pos_embed.pe"):
            for number in range(2):
                block = f"temporal_transformer.transformer_blocks.0.attention_blocks.{number}.pos_encoder.pe"
                made[key.replace("transformer_blocks.0.pos_embed.pe", block)] = value
            continue
        made[_animatediff_name(key)] = value
    return made


def _animatediff_name(key: str) -> str:
    key = re.sub(r"(motion_modules\.\d)\.", r"\1.temporal_transformer.", key)
    for theirs, ours in (
        ("attn1", "attention_blocks.0"), ("attn2", "attention_blocks.1"),
        ("norm1", "norms.0"), ("norm2", "norms.1"), ("norm3", "ff_norm"),
    ):  # fmt: skip
        key = key.replace(f".transformer_blocks.0.{theirs}.", f".transformer_blocks.0.{ours}.")
    return key


def single_file(state: State) -> State:
    """A U-Net of diffusers under the names of Stable Diffusion's single files, with what lies beside it."""
    made = {f"model.diffusion_model.{_single_file_name(key)}": value for key, value in state.items()}
    others = ("first_stage_model.encoder.conv_in.weight", "cond_stage_model.transformer.x", "betas",
              "model_ema.diffusion_modeltime_embed0weight")  # fmt: skip
    return {**made, **{name: torch.ones(2) for name in others}}


def _single_file_name(key: str) -> str:
    for ours, theirs in (
        ("time_embedding.linear_1", "time_embed.0"), ("time_embedding.linear_2", "time_embed.2"),
        ("conv_in", "input_blocks.0.0"), ("conv_norm_out", "out.0"), ("conv_out", "out.2"),
    ):  # fmt: skip
        if key.startswith(ours + "."):
            return key.replace(ours, theirs)
    side, *rest = key.split(".")
    if side == "mid_block":
        kind, number, *inner = rest
        block = {"resnets0": 0, "attentions0": 1, "resnets1": 2}[kind + number]
        return f"middle_block.{block}.{_inner(kind, inner)}"
    level, kind, number, *inner = rest
    if kind == "downsamplers":
        return ".".join([f"input_blocks.{3 * int(level) + 3}.0.op", *inner[1:]])
    if kind == "upsamplers":
        # After the attention, where the level has one: the coarsest on the way up has none.
        return ".".join([f"output_blocks.{3 * int(level) + 2}.{1 if level == '0' else 2}.conv", *inner[1:]])
    first = 1 if side == "down_blocks" else 0
    block = 3 * int(level) + int(number) + first
    name = "input_blocks" if side == "down_blocks" else "output_blocks"
    return f"{name}.{block}.{1 if kind == 'attentions' else 0}.{_inner(kind, inner)}"


def _inner(kind: str, inner: list[str]) -> str:
    name = ".".join(inner)
    if kind == "resnets":
        for ours, theirs in (
            ("norm1", "in_layers.0"), ("conv1", "in_layers.2"), ("time_emb_proj", "emb_layers.1"),
            ("norm2", "out_layers.0"), ("conv2", "out_layers.3"), ("conv_shortcut", "skip_connection"),
        ):  # fmt: skip
            name = name.replace(ours, theirs)
    return name


def vae(widths: tuple[int, ...] = VAE_WIDTHS, layers: int = 1) -> torch.nn.Module:
    from diffusers import AutoencoderKL

    torch.manual_seed(3)
    levels = len(widths)
    return AutoencoderKL(
        block_out_channels=widths, layers_per_block=layers, latent_channels=4, norm_num_groups=32,
        down_block_types=("DownEncoderBlock2D",) * levels, up_block_types=("UpDecoderBlock2D",) * levels,
    )  # fmt: skip


def whisper() -> torch.nn.Module:
    """Whisper tiny of transformers, of a few words only and with one layer to decode."""
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    torch.manual_seed(4)
    sizes = WhisperConfig(
        vocab_size=64, d_model=384, encoder_layers=4, encoder_attention_heads=6, encoder_ffn_dim=1536,
        decoder_layers=1, decoder_attention_heads=6, decoder_ffn_dim=8, num_mel_bins=80, pad_token_id=0,
        bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    return WhisperForConditionalGeneration(sizes)


def wav2vec2(width: int = 64, layers: int = 2) -> torch.nn.Module:
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    torch.manual_seed(5)
    sizes = Wav2Vec2Config(
        hidden_size=width, num_hidden_layers=layers, num_attention_heads=max(1, width // 64),
        intermediate_size=4 * width,
    )  # fmt: skip
    return Wav2Vec2ForCTC(sizes)


def tiny_autoencoder() -> torch.nn.Module:
    from diffusers import AutoencoderTiny

    torch.manual_seed(6)
    return AutoencoderTiny(encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4)


def older_wav2vec2(state: State) -> State:
    """As the file of wav2vec2-base-960h: older names of normalised weights, no vector for masks."""
    names = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    made: State = {}
    for key, value in state.items():
        if key.endswith("masked_spec_embed"):
            continue
        for today, before in names.items():
            key = key.replace(today, before)  # noqa: PLW2901
        made[key] = value
    return made


def plain(state: State) -> State:
    """Tensors that share no memory, as safetensors wants them."""
    return {key: value.detach().clone().contiguous() for key, value in state.items()}


def write_all(folder: Path) -> dict[str, Path]:
    """Every stand-in in its published form, in a folder named as ``weights fetch`` names it."""
    states: dict[str, tuple[str, State]] = {
        "sd-vae-ft-mse": ("diffusion_pytorch_model.safetensors", vae().state_dict()),
        "taesd": ("diffusion_pytorch_model.safetensors", tiny_autoencoder().state_dict()),
        "whisper-tiny": ("model.safetensors", whisper().state_dict()),
        "wav2vec2-base-960h": ("model.safetensors", older_wav2vec2(wav2vec2().state_dict())),
        "sd15": ("unet/diffusion_pytorch_model.safetensors", unet().state_dict()),
        "image-variations": ("unet/diffusion_pytorch_model.bin", unet().state_dict()),
        "animatediff": ("mm_sd_v15_v2.ckpt", motion()),
        "animatediff-v1": ("mm_sd_v15.ckpt", motion(version=1)),
        "animatediff-v3": ("v3_sd15_mm.ckpt", motion(version=3)),
    }
    written = {}
    for name, (place, state) in states.items():
        path = folder / name / place
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".safetensors":
            # Output and input words of Whisper are one tensor in its file too.
            save_file(plain({k: v for k, v in state.items() if k != "proj_out.weight"}), path)
        else:
            torch.save({"state_dict": state} if path.suffix == ".ckpt" else state, path)
        written[name] = path
    return written
