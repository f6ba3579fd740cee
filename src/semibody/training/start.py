"""Networks at the start of a stage: given weights, and their copies in the networks of a recipe."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from semibody.networks.loading import load_model
from semibody.networks.model import Model
from semibody.training.settings import StartSettings
from semibody.types import SemibodyError
from semibody.weights.hub import find_weights


def given_model(start: StartSettings) -> Model | None:
    """The weights to start from, where the recipe names some. Raises SemibodyError when they are missing."""
    if not start.weights:
        return None
    folder, preset = find_weights(start.weights)
    return load_model(folder, variant="accelerated" if preset == "accelerated" else "official")[0]


def copy_networks(model: Model, given: Model, source: str, *, but: Collection[str] = ()) -> None:
    """Copy the networks of ``given`` that ``model`` has, ``but`` some. Raises SemibodyError on misfits."""
    for name in model.config.networks:
        if name not in given.config.networks or name in but:
            continue
        theirs, ours = getattr(given, name).state_dict(), getattr(model, name)
        # One of the two models may have motion modules and the other not.
        known = {k: v for k, v in theirs.items() if "motion_modules" not in k or k in ours.state_dict()}
        fill(ours, known, f"{source} ({name})")


def initialise_motion(model: Model) -> None:
    """Initialise motion modules as the identity: their last projection is zero."""
    with torch.no_grad():
        for name, parameter in model.denoising_unet.named_parameters():
            if "motion_modules" in name and ".proj_out." in name:
                parameter.zero_()


def fill(module: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Load ``state``; what it lacks may only be motion modules. Raises SemibodyError on misfits."""
    own = module.state_dict()
    wrong = [f"{k} has shape {tuple(v.shape)}, not {tuple(own[k].shape)}" for k, v in state.items()
             if k in own and own[k].shape != v.shape]  # fmt: skip
    wrong += [f"extra {k}" for k in state if k not in own]
    wrong += [f"missing {k}" for k in own if k not in state and "motion_modules" not in k]
    if wrong:
        raise SemibodyError(f"{source}: does not fit this recipe's model: {', '.join(wrong[:3])}")
    module.load_state_dict(state, strict=False)


def below(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with ``prefix``, without it."""
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
