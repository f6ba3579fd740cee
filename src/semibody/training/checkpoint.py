"""Checkpoints of one stage: weights, their EMA, the optimiser's moments and the step.

``DIR/<stage>/step-0001200/`` appears under its name only when complete; older ones are then removed.
All random choices are functions of the step (``samples``), so this is all a bit-exact resume needs.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from semibody.files import printable, read_json, remove, remove_leftovers, unfinished_name
from semibody.types import SemibodyError
from semibody.weights.state import check, read_state

STATE = "state.json"
FINAL = "final"
_FILES = {"weights": "weights", "ema": "average", "moments": "moments"}
"""Tensors of a snapshot -> name of their file; the second name is older than the field's."""
_FACTS: dict[str, tuple[type, ...]] = {
    "seconds": (int, float),
    "scaler": (dict, type(None)),
    "recipe": (dict,),
    "stage": (str,),
    "scale": (int, float),
}
"""Kinds of what stages and the loop read back."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A stage at one step; tensors by parameter name."""

    step: int
    weights: dict[str, Tensor]
    ema: dict[str, Tensor]
    moments: dict[str, Tensor]
    """``exp_avg/<name>``, ``exp_avg_sq/<name>``, ``step/<name>``"""
    facts: dict[str, Any] = field(default_factory=dict)
    """recipe, seconds of work so far, …"""


def save(folder: Path, snapshot: Snapshot, keep: int) -> Path:
    """Write a checkpoint, then remove all but the newest ``keep``. Raises SemibodyError on a full disk."""
    path = folder / f"step-{snapshot.step:08d}"
    write(path, snapshot)
    for old in checkpoints(folder)[: -max(1, keep)]:
        shutil.rmtree(old)
    return path


def write(path: Path, snapshot: Snapshot) -> None:
    """Write one checkpoint folder, all or nothing."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent.absolute())
    unfinished, replaced = unfinished_name(path), unfinished_name(path)
    try:
        unfinished.mkdir()
        for name, file in _FILES.items():
            tensors: Mapping[str, Tensor] = getattr(snapshot, name)
            if tensors:
                save_file({k: v.contiguous() for k, v in tensors.items()}, unfinished / f"{file}.safetensors")
        state = {"step": snapshot.step, **snapshot.facts}
        (unfinished / STATE).write_text(json.dumps(state, indent=1), encoding="utf-8")
        if path.exists():
            path.rename(replaced)
        unfinished.rename(path)
        remove(replaced)
    except (OSError, SafetensorError) as error:
        remove(unfinished)
        raise SemibodyError(
            f"{path}: cannot be written ({error}); free some space, then continue with --resume"
        ) from None


def checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints of a stage, oldest first."""
    return sorted(p for p in folder.glob("step-*") if (p / STATE).is_file())


def read(path: Path) -> Snapshot:
    """Read a checkpoint folder. Raises SemibodyError if it is damaged."""
    remedy = "delete this checkpoint to use the one before"
    facts = read_json(path / STATE, remedy)
    step = facts.pop("step", None) if isinstance(facts, dict) else None
    if type(step) is not int or not 0 <= step < 2**53:
        raise SemibodyError(f"{path / STATE}: names no step; {remedy}")
    for name, kinds in _FACTS.items():
        if name in facts and not isinstance(facts[name], kinds):
            raise SemibodyError(f"{path / STATE}: {name} is not of its kind; {remedy}")
    tensors = {
        name: read_state(path / f"{file}.safetensors") if (path / f"{file}.safetensors").exists() else {}
        for name, file in _FILES.items()
    }
    return Snapshot(step=step, facts=facts, **tensors)


def read_final(folder: Path) -> Snapshot | None:
    """The finished weights of a stage, if it is done."""
    path = folder / FINAL
    return read(path) if (path / STATE).is_file() else None


# -- a snapshot from a stage's objects, and into them -------------------------------------------


def trained(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters a stage trains, by name."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def take(
    step: int,
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    ema: Mapping[str, Tensor],
    facts: dict[str, Any],
    *,
    keep: bool = True,
) -> Snapshot | None:
    """Copy the state of a stage out of its objects: whole tensors, on the CPU.

    Of sharded objects (``training.sharded``) every process must call it; without ``keep`` it only hands over
    its shards, tensor by tensor, and returns None, so that one process alone needs the memory for all.
    """
    parameters = trained(module)
    moments = {
        f"{kind}/{name}": value
        for name, parameter in parameters.items()
        for kind, value in optimiser.state.get(parameter, {}).items()
    }
    parts = [
        {name: kept for name, value in part.items() if (kept := on_cpu(value, keep=keep)) is not None}
        for part in (parameters, ema, moments)
    ]
    if not keep:
        return None
    weights, average, moved = parts
    return Snapshot(step=step, weights=weights, ema=average, moments=moved, facts=facts)


def put(
    snapshot: Snapshot,
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    ema: dict[str, Tensor],
    source: str,
) -> None:
    """Copy a snapshot into a stage's objects. Raises SemibodyError when names or shapes do not fit."""
    parameters = trained(module)
    shapes = {name: tuple(p.shape) for name, p in parameters.items()}
    check(snapshot.weights, shapes, source)
    check(snapshot.ema, {name: shapes[name] for name in ema}, f"{source} (ema)")
    _require_moments(snapshot.moments, shapes, source)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(_like(snapshot.weights[name], parameter))
            if name in ema:
                ema[name].copy_(_like(snapshot.ema[name], ema[name]))
    for key, value in snapshot.moments.items():
        kind, name = key.split("/", maxsplit=1)
        parameter = parameters[name]
        # A step count is a number, which a fused kernel reads where the parameter is; the moments are shaped
        # (and sharded) like their parameter.
        fused = bool(optimiser.defaults.get("fused"))
        count = value.to(parameter.device if fused else "cpu", copy=True)
        optimiser.state[parameter][kind] = count if kind == "step" else _like(value, parameter).clone()


def _require_moments(
    moments: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], source: str
) -> None:
    for key, value in moments.items():
        kind, _, name = key.partition("/")
        known = kind in ("step", "exp_avg", "exp_avg_sq") and name in shapes
        if not known or tuple(value.shape) != (() if kind == "step" else shapes[name]):
            raise SemibodyError(
                f"{source}: its moments have no place for {printable(key)}; delete it to use the one before"
            )


def whole(value: Tensor) -> Tensor:
    """All of a tensor that may be sharded over processes; then every process must call it."""
    gathered: Tensor = value.full_tensor() if hasattr(value, "full_tensor") else value
    return gathered.detach()


def on_cpu(value: Tensor, *, keep: bool = True) -> Tensor | None:
    """A copy of the ``whole`` tensor on the CPU; None in processes that do not ``keep`` it."""
    gathered = whole(value)
    return gathered.to("cpu", copy=True) if keep else None


def _like(value: Tensor, model: Any) -> Tensor:
    """``value`` placed (and sharded) like ``model``."""
    value = value.to(model.device, model.dtype)
    if hasattr(model, "device_mesh"):
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(value, model.device_mesh, model.placements)
    return value.contiguous(memory_format=torch.channels_last) if _is_channels_last(model) else value


def _is_channels_last(tensor: Tensor) -> bool:
    return tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
