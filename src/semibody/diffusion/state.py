"""Where sampling stands: latents, the mean that is being taken, what solvers remember; saved and loaded."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from semibody.resume import Saved, Unfinished

STEP_FRAMES = 48
"""Frames that a solver moves on at once: it makes about ten copies of what it is given."""
NAME = "latents"
_SUMS = ("latents", "prediction", "counts")


class SamplingState:
    """The state of ``sample`` between two windows; its tensors are changed in place."""

    def __init__(self, latents: Float[Tensor, "f c h w"], scheduler: Any) -> None:
        self.latents = latents
        self.prediction = torch.zeros_like(latents)
        """sum of the predictions of this step's windows so far"""
        self.counts = torch.zeros(len(latents), 1, 1, 1, device=latents.device)
        """how many windows each frame was in"""
        self.step, self.windows = 0, 0
        """steps finished, and windows of the next one"""
        # Solvers remember earlier predictions, so each part of the clip has one of its own.
        self._parts = [slice(start, start + STEP_FRAMES) for start in range(0, len(latents), STEP_FRAMES)]
        self._fresh = scheduler
        self._solvers = [copy.deepcopy(scheduler) for _ in self._parts]

    def move_on(self, t: Tensor) -> None:
        """Take the step at timestep ``t`` with the mean prediction of every frame."""
        for part, solver in zip(self._parts, self._solvers, strict=True):
            mean = self.prediction[part] / self.counts[part]
            # A copy, because unipc looks back at what it was given.
            self.latents[part] = solver.step(mean, t, self.latents[part].clone(), return_dict=False)[0]
        self.prediction.zero_()
        self.counts.zero_()
        self.step, self.windows = self.step + 1, 0

    def save(self, unfinished: Unfinished) -> None:
        """Save it. Between two steps there is no sum to be saved."""
        tensors = {"latents": self.latents}
        if self.windows:
            tensors |= {"prediction": self.prediction, "counts": self.counts}
        remembered = [
            _taken_out(vars(solver), vars(self._fresh), f"{number}/", tensors)
            for number, solver in enumerate(self._solvers)
        ]
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
        unfinished.save(NAME, arrays, {"step": self.step, "windows": self.windows, "solvers": remembered})

    def load(self, unfinished: Unfinished) -> None:
        """Become what was saved, if something was."""
        saved = unfinished.load(NAME)
        if saved is None:
            return
        try:
            step, windows, remembered = (saved.facts[name] for name in ("step", "windows", "solvers"))
            solvers = [
                {key: _put_back(value, saved, self.latents.device) for key, value in values.items()}
                for values in remembered
            ]
        except (KeyError, TypeError, AttributeError):
            return
        if not self._fits(saved, step, windows, solvers):
            return
        for name in _SUMS:
            if name in saved.arrays:
                getattr(self, name).copy_(torch.from_numpy(saved.arrays[name]))
        self.step, self.windows = step, windows
        for solver, values in zip(self._solvers, solvers, strict=True):
            vars(solver).update(values)

    def _fits(self, saved: Saved, step: Any, windows: Any, solvers: list[dict[str, Any]]) -> bool:
        """Whether all that was saved is of this clip and these solvers; another version may have saved it."""
        given = {name: saved.arrays[name].shape for name in _SUMS if name in saved.arrays}
        needed = _SUMS if windows else _SUMS[:1]
        return (
            all(type(count) is int and count >= 0 for count in (step, windows))
            and set(needed) <= set(given)
            and all(shape == tuple(getattr(self, name).shape) for name, shape in given.items())
            and len(solvers) == len(self._solvers)
            and not any(hasattr(type(self._fresh), key) for values in solvers for key in values)
        )


def _taken_out(
    values: dict[str, Any], fresh: dict[str, Any], prefix: str, tensors: dict[str, Tensor]
) -> dict[str, Any]:
    """What a solver holds that a fresh one does not, as plain values; its tensors go into ``tensors``."""
    return {
        key: _as_plain(value, f"{prefix}{key}", tensors)
        for key, value in values.items()
        if not _is_same(value, fresh.get(key))
    }


def _is_same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return isinstance(a, Tensor) and isinstance(b, Tensor) and torch.equal(a, b)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_is_same, a, b))
    return bool(np.array_equal(a, b)) if isinstance(a, np.ndarray) else bool(a == b)


def _as_plain(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        tensors[name] = value
        return {"tensor": name, "on": "cpu" if value.device.type == "cpu" else "device"}
    if isinstance(value, list):
        return [_as_plain(item, f"{name}/{number}", tensors) for number, item in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a solver remembers a {type(value).__name__} ({name}), which cannot be saved")


def _put_back(value: Any, saved: Saved, device: torch.device) -> Any:
    if isinstance(value, dict):
        tensor = torch.from_numpy(saved.arrays[value["tensor"]])
        return tensor.to(device) if value["on"] == "device" else tensor
    if isinstance(value, list):
        return [_put_back(item, saved, device) for item in value]
    return value
