"""Wav2Vec2 as published with transformers (``wav2vec2-base-960h``): the encoder, without the heads on it."""

from __future__ import annotations

from pathlib import Path

from semibody.types import SemibodyError
from semibody.weights.state import Published, State, read_state

_PREFIX = "wav2vec2."
_NORMED = {
    "pos_conv_embed.conv.weight_g": "pos_conv_embed.conv.parametrizations.weight.original0",
    "pos_conv_embed.conv.weight_v": "pos_conv_embed.conv.parametrizations.weight.original1",
}
"""Names of weight normalisation before torch 2.0 -> today's."""
_PARTS = ("feature_extractor.", "feature_projection.", "encoder.", "masked_spec_embed")


def read_wav2vec2(path: Path) -> Published:
    """The encoder in a file, under our names. Raises SemibodyError for what holds none."""
    state, taken, skipped = read_state(path), State(), []
    whole = any(key.startswith(_PREFIX) for key in state)
    for key, value in state.items():
        bare = key.removeprefix(_PREFIX)
        if key.startswith(_PREFIX) == whole and bare.startswith(_PARTS):
            taken["encoder." + _renamed(bare)] = value
        else:
            skipped.append(key)
    if not any(key.startswith("encoder.feature_extractor.") for key in taken):
        raise SemibodyError(f"{path}: holds no Wav2Vec2; run: semibody weights fetch wav2vec2-base-960h")
    return Published(path, taken, tuple(skipped))


def _renamed(key: str) -> str:
    for theirs, ours in _NORMED.items():
        if key.endswith(theirs):
            return key.removesuffix(theirs) + ours
    return key
