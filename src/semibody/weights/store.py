"""Our own weights folder: ``semibody.json`` and one safetensors file per network.

``semibody.json`` holds the sizes of the networks, the schedule, the settings the weights were made
for and where they came from, so a folder needs no flags to be used.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from semibody.files import atomic_write, read_json, temporary_folder
from semibody.types import SemibodyError
from semibody.weights.state import State, read_state

INDEX = "semibody.json"
VERSION = 1


def is_store(folder: Path) -> bool:
    return (folder / INDEX).is_file()


def read_index(folder: Path) -> dict[str, Any]:
    """The content of ``semibody.json``. Raises SemibodyError if it is missing or damaged."""
    path = folder / INDEX
    if not path.exists():
        raise SemibodyError(f"{folder}: is not a weights folder ({INDEX} is missing)")
    index = read_json(path, "convert or fetch the weights again")
    if not isinstance(index, dict) or type(version := index.get("version", VERSION)) is not int:
        raise SemibodyError(f"{path}: is not the index of weights; convert or fetch the weights again")
    if version > VERSION:
        raise SemibodyError(f"{path}: written by a newer Semibody; update this one")
    return index


def read_network(folder: Path, network: str) -> State:
    """The tensors of one network, memory-mapped."""
    return read_state(folder / f"{network}.safetensors")


def write_network(folder: Path, network: str, state: Mapping[str, Tensor], dtype: torch.dtype | None) -> None:
    """Write one network in ``dtype`` (None: as it is), all or nothing."""
    from safetensors.torch import save_file

    with atomic_write(folder / f"{network}.safetensors") as unfinished:
        save_file({key: _plain(value, dtype) for key, value in state.items()}, unfinished)


def write_index(folder: Path, index: Mapping[str, Any]) -> None:
    """Write ``semibody.json``; write it last, so that an unfinished folder has none."""
    text = json.dumps({"version": VERSION, **index}, indent=1, sort_keys=True) + "\n"
    with atomic_write(folder / INDEX) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def new_networks(folder: Path) -> Iterator[Path]:
    """Yield a folder to write networks and index into; at the end they replace those in ``folder``.

    The index goes first and comes last: whenever the process is killed, ``folder`` holds the old weights, the
    new ones, or no index, which nothing takes for weights.
    """
    there = folder.exists()
    try:
        yield from _replaced(folder)
    finally:
        if not there:
            with contextlib.suppress(OSError):
                folder.rmdir()  # where nothing came into it


def _replaced(folder: Path) -> Iterator[Path]:
    with temporary_folder(folder / "weights") as unfinished:
        yield unfinished
        new = sorted(unfinished.iterdir(), key=lambda path: path.name == INDEX)
        (folder / INDEX).unlink(missing_ok=True)
        for path in new:
            path.replace(folder / path.name)


def _plain(value: Tensor, dtype: torch.dtype | None) -> Tensor:
    wanted = dtype if dtype is not None and value.is_floating_point() else value.dtype
    return value.detach().to("cpu", wanted).contiguous()
