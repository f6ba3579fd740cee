"""The published files of EchoMimicV2, and of the networks it builds on.

A folder as published (or as its readme asks to arrange it)::

    reference_unet.pth  pose_encoder.pth
    denoising_unet.pth  motion_module.pth            variant "official"
    denoising_unet_acc.pth  motion_module_acc.pth    variant "accelerated"
    sd-vae-ft-mse/diffusion_pytorch_model.safetensors (or .bin)
    audio_processor/tiny.pt   (or whisper-tiny/model.safetensors)

A ``.pth`` file may have been made a ``.safetensors`` file of the same name.

Foreign key names are turned into ours here and nowhere else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from semibody.types import SemibodyError
from semibody.weights.state import Published, State, read_state, refuse_placeholder

Variant = Literal["official", "accelerated"]

DENOISER_FILES: dict[Variant, tuple[str, str]] = {
    "official": ("motion_module.pth", "denoising_unet.pth"),
    "accelerated": ("motion_module_acc.pth", "denoising_unet_acc.pth"),
}
"""In loading order: what the second file holds goes over the first."""

VAE_FILES = (
    "sd-vae-ft-mse/diffusion_pytorch_model.safetensors",
    "sd-vae-ft-mse/diffusion_pytorch_model.bin",
)
WHISPER_FILES = ("audio_processor/tiny.pt", "whisper-tiny/model.safetensors", "whisper_tiny/tiny.pt")

_VAE_NAMES = (
    (".query.", ".to_q."),
    (".key.", ".to_k."),
    (".value.", ".to_v."),
    (".proj_attn.", ".to_out.0."),
)
"""Attention names of older autoencoder files -> today's."""

_WHISPER_NAMES = (
    ("encoder.positional_embedding", "encoder.embed_positions.weight"),
    (".blocks.", ".layers."),
    (".attn.query.", ".self_attn.q_proj."),
    (".attn.key.", ".self_attn.k_proj."),
    (".attn.value.", ".self_attn.v_proj."),
    (".attn.out.", ".self_attn.out_proj."),
    (".attn_ln.", ".self_attn_layer_norm."),
    (".mlp.0.", ".fc1."),
    (".mlp.2.", ".fc2."),
    (".mlp_ln.", ".final_layer_norm."),
)
"""Names of OpenAI's Whisper -> those of transformers' encoder, which we use."""

_WHISPER_UNUSED = ("encoder.ln_post.", "encoder.layer_norm.")
"""The final norm, which EchoMimicV2 does not apply."""


def is_official(folder: Path) -> bool:
    names = [name for pair in DENOISER_FILES.values() for name in pair] + ["reference_unet.pth"]
    return any(_published(folder, name).is_file() for name in names)


def refuse_others(folder: Path) -> None:
    """Raise SemibodyError for the weights of another model, some of whose files have the same names."""
    for name, model in _OTHER_MODELS.items():
        if (folder / name).exists() and not _published(folder, "pose_encoder.pth").is_file():
            raise SemibodyError(
                f"{folder}: holds {name}, so it is {model}, another model; give weights of EchoMimicV2, "
                "or run: semibody weights fetch accelerated"
            )
    quantised = next(iter([*folder.glob("*.gguf"), *folder.glob("*fp8*.safetensors")]), None)
    if quantised is not None and not is_official(folder):
        raise SemibodyError(
            f"{quantised}: is quantised, which is not read; give the published files, "
            "or run: semibody weights fetch accelerated"
        )


_OTHER_MODELS = {
    "face_locator.pth": "EchoMimic V1",
    "transformer": "EchoMimic V3 or one of its kind",
    "musetalk.json": "MuseTalk",
    "latentsync_unet.pt": "LatentSync",
}
"""Files and folders of other models -> their names."""


def files_of(folder: Path, network: str, variant: Variant = "official") -> list[Path]:
    """The files that hold ``network``, in loading order. Raises SemibodyError naming one that is missing."""
    if network == "denoising_unet":
        names = DENOISER_FILES[variant]
        found = [_published(folder, name) for name in names]
    elif network == "vae":
        found = [_first_of(folder, VAE_FILES)]
    elif network == "audio_encoder":
        found = [_first_of(folder, WHISPER_FILES)]
    else:
        found = [_published(folder, f"{network}.pth")]
    for path in found:
        if not path.is_file():
            raise SemibodyError(
                f"{path}: missing from the {variant} weights; run: semibody weights fetch {variant}"
            )
    return found


def require_complete(folder: Path, variant: Variant = "official") -> None:
    """Raise SemibodyError naming a file that ``variant`` lacks, or that is no weights at all."""
    for network in ("reference_unet", "denoising_unet", "pose_encoder", "vae", "audio_encoder"):
        for path in files_of(folder, network, variant):
            refuse_placeholder(path)


def _published(folder: Path, name: str) -> Path:
    """A published file, or the safetensors that somebody made of it."""
    converted = (folder / name).with_suffix(".safetensors")
    return converted if converted.is_file() and not (folder / name).is_file() else folder / name


def find_lora(folder: Path) -> list[Path]:
    """LoRA files that lie in a folder; nothing applies them."""
    files = [p for kind in ("*.safetensors", "*.pth", "*.pt", "*.bin") for p in folder.glob(kind)]
    return sorted(path for path in files if "lora" in path.name.lower() or _names_lora(path))


def _names_lora(path: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    if path.suffix != ".safetensors":
        return False
    try:
        with safe_open(path, "pt") as opened:
            return any("lora" in key.lower() for key in opened.keys())  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError):
        return False


def _first_of(folder: Path, names: tuple[str, ...]) -> Path:
    return next((folder / name for name in names if (folder / name).is_file()), folder / names[0])


def read_network(folder: Path, network: str, variant: Variant = "official") -> State:
    """The tensors of ``network`` under our names, memory-mapped (overwritten ones are never read)."""
    state: State = {}
    for path in files_of(folder, network, variant):
        state |= read_state(path)
    if network == "vae":
        return _vae_state(state)
    return _whisper_state(state) if network == "audio_encoder" else state


def read_vae(path: Path) -> Published:
    """The autoencoder in a file of diffusers, under our names."""
    return Published(path, _vae_state(read_state(path)))


def read_whisper(path: Path) -> Published:
    """The encoder in a file of Whisper, OpenAI's or transformers', under our names."""
    state = read_state(path)
    encoder = _whisper_state(state)
    return Published(path, encoder, tuple(key for key in state if not _is_encoder(_bare(key))))


def _vae_state(state: State) -> State:
    return {_rename(key, _VAE_NAMES): _as_linear(key, value) for key, value in state.items()}


def _whisper_state(state: State) -> State:
    return {
        _rename(_bare(key), _WHISPER_NAMES): value for key, value in state.items() if _is_encoder(_bare(key))
    }


def _bare(key: str) -> str:
    """A name of Whisper's without the model's, which transformers' whole models have before it."""
    return key.removeprefix("model.")


def _is_encoder(key: str) -> bool:
    return key.startswith("encoder.") and not key.startswith(_WHISPER_UNUSED)


def _rename(key: str, names: tuple[tuple[str, str], ...]) -> str:
    for theirs, ours in names:
        key = key.replace(theirs, ours)
    return key


def _as_linear(key: str, value):  # type: ignore[no-untyped-def]
    """Some autoencoder files keep attention projections as 1x1 convolutions."""
    is_projection = ".attentions." in key and value.ndim == 4
    return value[:, :, 0, 0] if is_projection else value
