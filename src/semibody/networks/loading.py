"""From a weights folder to a Model, and back."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from semibody import config as settings
from semibody.files import first_line
from semibody.networks.model import Model, ModelConfig
from semibody.networks.turns import LARGE, Turns
from semibody.types import Memory, Progress, SemibodyError, silent
from semibody.weights import official, state, store
from semibody.weights.official import Variant

_SAMPLE = 2**20


@dataclass(frozen=True, kw_only=True)
class WeightsInfo:
    """The description in a weights folder."""

    model: ModelConfig = field(default_factory=ModelConfig)
    schedule: dict[str, Any] = field(default_factory=dict)
    """settings of the noise schedule that differ from the published one"""
    defaults: dict[str, Any] = field(default_factory=dict)
    """settings these weights are meant to be used with: size, steps, guidance, …"""
    origin: str = ""
    """where the weights come from, for metadata"""


def describe(folder: Path, variant: Variant = "official") -> WeightsInfo:
    """Read what a folder holds, without its tensors. Raises SemibodyError if it is no weights folder."""
    if store.is_store(folder):
        index = store.read_index(folder)
        known: dict[str, Any] = {
            key: index[key] for key in ("model", "schedule", "defaults", "origin") if key in index
        }
        return settings.build(WeightsInfo, known, str(folder / store.INDEX))
    official.refuse_others(folder)
    if official.is_official(folder):
        return WeightsInfo(origin=f"EchoMimicV2 {variant}")
    raise SemibodyError(
        f"{folder}: holds no weights (neither {store.INDEX} nor the published .pth files); "
        "run: semibody weights fetch official"
    )


def fingerprint(folder: Path, variant: Variant = "official") -> str:
    """A hash that other weights do not have, without reading all of them.

    Of every file the size, the first and the last mebibyte go into it: training changes every tensor, and
    the first holds their names and shapes. Raises SemibodyError as ``describe``, or naming a missing file.
    """
    networks = describe(folder, variant).model.networks
    if store.is_store(folder):
        paths = [folder / store.INDEX, *(folder / f"{network}.safetensors" for network in networks)]
    else:
        paths = [path for network in networks for path in official.files_of(folder, network, variant)]
    hashed = hashlib.sha256()
    for path in paths:
        if not path.is_file():
            raise SemibodyError(f"{path}: is missing; fetch or convert the weights again")
        size = path.stat().st_size
        hashed.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            hashed.update(file.read(_SAMPLE))
            file.seek(max(0, size - _SAMPLE))
            hashed.update(file.read(_SAMPLE))
    return hashed.hexdigest()[:32]


def load_model(
    folder: Path,
    *,
    variant: Variant = "official",
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    memory: Memory = "full",
    progress: Progress = silent,
) -> tuple[Model, WeightsInfo]:
    """Build the networks a folder describes and fill them, network by network, strictly.

    With less ``memory`` than full, large networks take turns and are filled when they are asked for. Raises
    SemibodyError naming each missing, extra or misshaped tensor.
    """
    model, info = build_model(folder, variant)
    fill_model(
        model, folder, variant, dtype=dtype, device=torch.device(device), memory=memory, progress=progress
    )
    return model, info


def build_model(folder: Path, variant: Variant = "official") -> tuple[Model, WeightsInfo]:
    """The networks a folder describes, without memory for their weights. Raises SemibodyError."""
    info = describe(folder, variant)
    return _empty_model(info.model, folder).eval().requires_grad_(False), info


def fill_model(
    model: Model,
    folder: Path,
    variant: Variant = "official",
    *,
    dtype: torch.dtype,
    device: torch.device,
    memory: Memory = "full",
    progress: Progress = silent,
) -> None:
    """Fill a model that ``build_model`` has made of this folder. Raises SemibodyError as ``load_model``."""
    networks = [name for name in model.config.networks if memory == "full" or name not in LARGE]
    for number, network in enumerate(networks):
        progress("load weights", number, len(networks))
        tensors = read_network(folder, network, variant)
        source = f"{folder} ({network})"
        module = getattr(model, network)
        state.fill(module, tensors, dtype=dtype, device=device, source=source)
    if memory != "full":
        take_turns(model, folder, variant, dtype=dtype, device=device, memory=memory)
    progress("load weights", len(networks), len(networks))
    model.requires_grad_(False)


def take_turns(
    model: Model,
    folder: Path,
    variant: Variant = "official",
    *,
    dtype: torch.dtype,
    device: torch.device,
    memory: Memory,
) -> None:
    """Have a model's large networks take turns: what they hold is dropped, and read again from ``folder``.

    Raises SemibodyError as ``load_model``, and for a device that cannot do it.
    """
    model.turns = None
    large = {name: getattr(model, name) for name in LARGE}
    read = functools.partial(read_network, folder, variant=variant)
    model.turns = Turns(large, read, dtype=dtype, device=device, memory=memory)


def _empty_model(config: ModelConfig, folder: Path) -> Model:
    """The networks with names and shapes but no memory. Raises SemibodyError for sizes that do not fit."""
    try:
        with torch.device("meta"):
            return Model(config)
    except Exception as error:  # each layer's library has its own way to refuse
        raise SemibodyError(
            f"{folder / store.INDEX}: describes networks that cannot be built ({first_line(error)}); "
            "fetch or make the weights again"
        ) from None


def read_network(folder: Path, network: str, variant: Variant = "official") -> state.State:
    if store.is_store(folder):
        return store.read_network(folder, network)
    return official.read_network(folder, network, variant)


def save_model(
    folder: Path, model: Model, info: Mapping[str, Any] | None = None, dtype: torch.dtype | None = None
) -> None:
    """Write ``model`` as a weights folder; ``info`` may hold schedule, defaults and origin."""
    with store.new_networks(folder) as unfinished:
        for network in model.config.networks:
            store.write_network(unfinished, network, getattr(model, network).state_dict(), dtype)
        store.write_index(unfinished, {**(info or {}), "model": settings.to_dict(model.config)})


def convert(
    source: Path,
    target: Path,
    *,
    variant: Variant = "official",
    dtype: torch.dtype | None = None,
    defaults: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> None:
    """Copy a folder into our format, network by network, checked against the networks it describes.

    ``defaults`` are settings for which the folder itself names no value. What ``target`` held stays in use
    until all is written.
    """
    info = describe(source, variant)
    model = _empty_model(info.model, source)
    networks = info.model.networks
    index = settings.to_dict(info)
    index["defaults"] = {**(defaults or {}), **index["defaults"]}
    with store.new_networks(target) as unfinished:
        for number, network in enumerate(networks):
            progress("convert", number, len(networks))
            tensors = read_network(source, network, variant)
            module = getattr(model, network)
            state.check(tensors, state.shapes_of(module), f"{source} ({network})")
            store.write_network(unfinished, network, tensors, dtype)
        progress("convert", len(networks), len(networks))
        store.write_index(unfinished, index)


def verify(folder: Path, variant: Variant = "official") -> dict[str, list[str]]:
    """For each network the phrases of what does not fit (empty lists: everything does)."""
    info = describe(folder, variant)
    model = _empty_model(info.model, folder)
    report: dict[str, list[str]] = {}
    for network in info.model.networks:
        module = getattr(model, network)
        try:
            tensors = read_network(folder, network, variant)
        except SemibodyError as error:
            report[network] = [str(error)]
            continue
        report[network] = state.mismatches(tensors, state.shapes_of(module)) or _not_finite(tensors)
    return report


def _not_finite(tensors: state.State) -> list[str]:
    return [
        f"{key} holds NaN or infinity"
        for key, value in tensors.items()
        if value.is_floating_point() and not bool(torch.isfinite(value).all())
    ]
