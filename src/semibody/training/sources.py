"""What networks take from public weights when a training starts, and what of them is new.

    for one in take(model, recipe.start): print(one.line())

The paper's networks start from Stable Diffusion, AnimateDiff, an autoencoder and an audio encoder (method:
Sec. 3.1). Every tensor of a network is taken from its source or named here as new, and every tensor of the
source is taken or named here as skipped; whatever else is missing, left over or of another shape stops the
training. As in the published code, the keys and values of the audio attention are taken where they have the
shape of Stable Diffusion's for text, and new where they have not.
"""

from __future__ import annotations

import fnmatch
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from semibody.networks.model import Model, ModelConfig
from semibody.training.settings import StartSettings
from semibody.types import SemibodyError
from semibody.weights import public
from semibody.weights.state import Published, State

_GROUPS_SHOWN = 4


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What one network takes from one source, by name."""

    network: str
    setting: str
    """the field of ``StartSettings``"""
    source: str
    file: str
    taken: tuple[str, ...]
    new: tuple[str, ...]
    """tensors of the network that the source has not, or not in this shape"""
    skipped: tuple[str, ...]
    """tensors of the source that the network has not, or not in this shape"""

    def line(self) -> str:
        """In one line; names are counted by what they have in common."""
        new, skipped = (
            f"{len(names)} {what}" + (f" ({_groups(names)})" if names else "")
            for names, what in ((self.new, "new"), (self.skipped, "skipped"))
        )
        return f"{self.network} from {self.source}: {len(self.taken)} tensors taken, {new}, {skipped}"


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Tensors of a network that come from one source."""

    setting: str
    network: str
    motion: bool = False
    """the motion modules of a network, or all else of it"""
    may_be_new: tuple[str, ...] = ()
    """patterns of tensors that the source need not have"""
    may_be_skipped: tuple[str, ...] = ()
    """patterns of tensors that the source may have beside the network's, or in another shape"""


_KEYS_AND_VALUES = ("*.attn2.to_k.weight", "*.attn2.to_v.weight")
_PARTS = (
    _Part(setting="vae", network="vae"),
    _Part(
        setting="audio", network="audio_encoder", may_be_new=("mapper.*", "encoder.masked_spec_embed")
    ),
    _Part(
        setting="unet", network="denoising_unet", may_be_new=(*_KEYS_AND_VALUES, "audio_time.*"),
        may_be_skipped=_KEYS_AND_VALUES,
    ),
    _Part(
        setting="reference", network="reference_unet",
        # It only makes the portrait's tokens: no attention to text, no output.
        may_be_skipped=("*.attn2.*", "*.transformer_blocks.*.norm2.*", "conv_norm_out.*", "conv_out.*"),
    ),
    # Two of AnimateDiff's three versions have no module in the middle.
    _Part(setting="motion", network="denoising_unet", motion=True, may_be_new=("mid_block.*",)),
)  # fmt: skip


def take(model: Model, start: StartSettings) -> list[Taken]:
    """Copy into ``model`` what the recipe's sources have. Raises SemibodyError on misfits.

    The last convolution of the pose encoder is zeroed beside a U-Net from a source, so that poses change
    nothing of what it predicts at first; new motion modules are zero already (``start.initialise_motion``).
    """
    if start.unet:
        with torch.no_grad():
            for parameter in model.pose_encoder.conv_out.parameters():
                parameter.zero_()
    done = []
    for taken, state in _fitting(model, start):
        getattr(model, taken.network).load_state_dict(state, strict=False)
        done.append(taken)
    return done


def check(config: ModelConfig, start: StartSettings) -> list[Taken]:
    """What ``take`` will do to networks of these sizes, without memory for them. Raises SemibodyError as it
    does."""
    if not start.public:
        return []
    with torch.device("meta"):
        model = Model(config)
    return [taken for taken, _ in _fitting(model, start)]


def _fitting(model: Model, start: StartSettings) -> Iterator[tuple[Taken, State]]:
    """For each source what is taken of it, and the tensors."""
    for part in _PARTS:
        source = getattr(start, part.setting) or (start.unet if part.setting == "reference" else "")
        if source and (model.config.unet.motion or not part.motion):
            kind = _kind(part, model.config)
            yield _match(part, model, source, public.read(kind, source))


def _kind(part: _Part, config: ModelConfig) -> public.Kind:
    if part.setting == "audio":
        if config.audio.kind == "logmel":
            raise SemibodyError("start.audio needs model.audio.kind = whisper or wav2vec2; leave it out")
        return config.audio.kind
    kinds: dict[str, public.Kind] = {"vae": "vae", "unet": "unet", "reference": "unet", "motion": "motion"}
    return kinds[part.setting]


def _match(part: _Part, model: Model, source: str, published: Published) -> tuple[Taken, State]:
    """Raises SemibodyError naming tensors that are missing, left over or of another shape."""
    own: dict[str, Tensor] = {
        name: value
        for name, value in getattr(model, part.network).state_dict().items()
        if ("motion_modules" in name) == part.motion and not name.endswith(".pos_encoder.pe")
    }
    state = published.state
    fitting = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    new, left = [k for k in own if k not in fitting], [k for k in state if k not in fitting]
    wrong = [_misfit(k, own, state) for k in new if not _any(k, part.may_be_new)]
    wrong += [f"extra {k}" for k in left if k not in own and not _any(k, part.may_be_skipped)]
    wrong += [f"{k} is not of floating numbers" for k, v in fitting.items() if not v.is_floating_point()]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise SemibodyError(
            f"{published.path}: does not fit this recipe's {part.network}: {', '.join(wrong[:3])}{more}; "
            f"correct start.{part.setting} or the sizes in model"
        )
    taken = Taken(
        network=part.network, setting=part.setting, source=source, file=str(published.path),
        taken=tuple(fitting), new=tuple(new), skipped=(*left, *published.skipped),
    )  # fmt: skip
    return taken, fitting


def _misfit(key: str, own: State, state: State) -> str:
    if key not in state:
        return f"missing {key}"
    return f"{key} has shape {tuple(state[key].shape)}, not {tuple(own[key].shape)}"


def _any(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def _groups(names: tuple[str, ...]) -> str:
    """``mid_block.….weight 12``: how many names are the same but for their numbers, the most common first."""
    counted = Counter(re.sub(r"\.\d+(?=\.|$)", ".*", name) for name in names)
    shown = [f"{name} {count}" for name, count in counted.most_common(_GROUPS_SHOWN)]
    return ", ".join([*shown, "…"] if len(counted) > _GROUPS_SHOWN else shown)
