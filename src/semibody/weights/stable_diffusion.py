"""The U-Net of Stable Diffusion 1.5 and of its kin of the same shape (image variations).

Published in two forms, told apart by what they hold:

=====================  ======================================================================
diffusers              a folder: ``unet/diffusion_pytorch_model.safetensors`` or ``.bin``; its
                       names are ours
a single file          ``.ckpt`` or ``.safetensors``: ``model.diffusion_model.input_blocks.1.0…``
                       beside autoencoder and text encoder
=====================  ======================================================================

A single file counts the layers of all levels in one row; ``_place`` turns a number into level and layer.
"""

from __future__ import annotations

import re
from pathlib import Path

from semibody.types import SemibodyError
from semibody.weights.state import Published, State, read_state

UNET_FILES = tuple(
    f"{folder}diffusion_pytorch_model{ending}"
    for folder in ("unet/", "")
    for ending in (".safetensors", ".bin", ".fp16.safetensors", ".fp16.bin")
)

_PREFIX = "model.diffusion_model."
_LAYERS = 2
"""Residual blocks of a level on the way down; on the way up there is one more."""
_OF_OTHERS = {
    "add_embedding.": "Stable Diffusion XL",
    "label_emb.": "Stable Diffusion XL",
    "class_embedding.": "another Stable Diffusion",
}
"""Names that only other U-Nets have."""

_ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_MIDDLE = ("resnets.0", "attentions.0", "resnets.1")


def read_unet(path: Path) -> Published:
    """The U-Net in a file, under our names. Raises SemibodyError for what is none, or of another version."""
    state = read_state(path)
    skipped: tuple[str, ...] = ()
    if any(key.startswith(_PREFIX) for key in state):
        skipped = tuple(key for key in state if not key.startswith(_PREFIX))
        state = from_single_file({k.removeprefix(_PREFIX): v for k, v in state.items() if k not in skipped})
    if "conv_in.weight" not in state:
        raise SemibodyError(f"{path}: holds no U-Net of Stable Diffusion; {_REMEDY}")
    other = next((what for start, what in _OF_OTHERS.items() if any(k.startswith(start) for k in state)), "")
    projections = [value for key, value in state.items() if key.endswith("attentions.0.proj_in.weight")]
    if not other and projections and projections[0].ndim == 2:
        other = "Stable Diffusion 2"
    if other:
        raise SemibodyError(f"{path}: is the U-Net of {other}, not of 1.5; {_REMEDY}")
    return Published(path, state, skipped)


_REMEDY = "run: semibody weights fetch sd15"


def from_single_file(state: State) -> State:
    """A single file's U-Net, its names without their prefix, under our names; others stay as they are."""
    return {_renamed(key): value for key, value in state.items()}


def _renamed(key: str) -> str:
    for theirs, ours in _ENDS.items():
        if key.startswith(f"{theirs}."):
            return ours + key.removeprefix(theirs)
    match = re.fullmatch(r"(input_blocks|output_blocks)\.(\d+)\.(\d)\.(.*)|(middle_block)\.(\d)\.(.*)", key)
    if match is None:
        return key
    side, number, part, rest, middle, place, inner = match.groups()
    if middle:
        if int(place) >= len(_MIDDLE):
            return key
        return f"mid_block.{_MIDDLE[int(place)]}.{_inside(inner)}"
    return f"{_place(side, int(number), int(part), rest)}.{_inside(rest)}"


def _place(side: str, number: int, part: int, rest: str) -> str:
    """The module of ours that the ``part`` of a numbered block is; ``rest`` tells what it is."""
    if side == "input_blocks":
        level, layer = divmod(number - 1, _LAYERS + 1)
        if rest.startswith("op."):
            return f"down_blocks.{level}.downsamplers.0"
        return f"down_blocks.{level}.{'attentions' if part else 'resnets'}.{layer}"
    level, layer = divmod(number, _LAYERS + 1)
    if rest.startswith("conv."):
        return f"up_blocks.{level}.upsamplers.0"
    return f"up_blocks.{level}.{'attentions' if part else 'resnets'}.{layer}"


def _inside(rest: str) -> str:
    """A name within a module; those of attention are the same."""
    for theirs, ours in _RESNET.items():
        if rest.startswith(f"{theirs}."):
            return ours + rest.removeprefix(theirs)
    return f"conv.{rest.removeprefix('op.')}" if rest.startswith("op.") else rest
