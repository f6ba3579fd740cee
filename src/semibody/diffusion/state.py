"""Where sampling stands: latents, the means that are being taken, what solvers remember; saved and loaded."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from semibody.diffusion.windows import Window
from semibody.resume import Saved, Unfinished

STEP_FRAMES = 48
"""Frames that a solver moves on at once: it makes about ten copies of what it is given."""
NAME = "latents"
_NONE = torch.zeros(0)


class SamplingState:
    """The state of ``sample`` between two windows; its tensors are changed in place.

    A frame's latents are needed until the last window with it is predicted. So the clip moves on in parts,
    each as soon as no window of the step is left in it, and only parts that wait hold a sum of predictions:
    those of the windows at hand, and the first, in which the ring of windows closes.
    """

    def __init__(self, latents: Float[Tensor, "f c h w"], scheduler: Any) -> None:
        self.latents = latents
        self.step, self.windows = 0, 0
        """steps finished, and windows of the next one"""
        self._fresh = scheduler
        # Solvers remember earlier predictions, so each part of the clip has one of its own.
        starts = range(0, len(latents), STEP_FRAMES)
        self._parts = [_Part(slice(start, start + STEP_FRAMES), copy.copy(scheduler)) for start in starts]

    def begin_step(self, windows: Sequence[Window]) -> Sequence[Window]:
        """Take the windows of a step, and give those that are not yet predicted."""
        left = windows[self.windows :]
        for part in self._parts:
            part.windows_left = sum(bool(part.places(window)[0]) for window in left)
        return left

    def add(self, window: Window, prediction: Float[Tensor, "w c h w"], t: Tensor) -> None:
        """Add a window's prediction, and move on at timestep ``t`` the parts that waited for it alone."""
        for part in self._parts:
            places, frames = part.places(window)
            if not places:
                continue
            part.add(prediction[places], frames, like=self.latents[part.frames])
            part.windows_left -= 1
            if part.windows_left == 0:
                # A copy, because unipc looks back at what it was given.
                now = self.latents[part.frames].clone(memory_format=torch.contiguous_format)
                self.latents[part.frames] = part.solver.step(part.mean(), t, now, return_dict=False)[0]
        self.windows += 1

    def end_step(self) -> None:
        """All windows of the step are predicted, so all parts have moved on."""
        self.step, self.windows = self.step + 1, 0

    def save(self, unfinished: Unfinished) -> None:
        """Save it. Only parts that wait have a sum to be saved."""
        tensors = {"latents": self.latents}
        for number, part in enumerate(self._parts):
            if part.sum is not None:
                tensors |= {f"{number}/sum": part.sum, f"{number}/counts": part.counts}
        remembered = [
            _taken_out(vars(part.solver), vars(self._fresh), f"{number}/", tensors)
            for number, part in enumerate(self._parts)
        ]
        arrays = {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in tensors.items()}
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
        self.latents.copy_(torch.from_numpy(saved.arrays["latents"]))
        self.step, self.windows = step, windows
        for number, (part, values) in enumerate(zip(self._parts, solvers, strict=True)):
            if f"{number}/sum" in saved.arrays:
                part.sum, part.counts = (
                    torch.from_numpy(saved.arrays[f"{number}/{name}"]).to(self.latents.device)
                    for name in ("sum", "counts")
                )
            vars(part.solver).update(values)

    def _fits(self, saved: Saved, step: Any, windows: Any, solvers: list[dict[str, Any]]) -> bool:
        """Whether all that was saved is of this clip and these solvers; another version may have saved it."""
        wanted = {"latents": tuple(self.latents.shape)}
        for number, part in enumerate(self._parts):
            if f"{number}/sum" in saved.arrays:
                shape = tuple(self.latents[part.frames].shape)
                wanted |= {f"{number}/sum": shape, f"{number}/counts": (shape[0], 1, 1, 1)}
        return (
            all(type(count) is int and count >= 0 for count in (step, windows))
            and all(name in saved.arrays and saved.arrays[name].shape == wanted[name] for name in wanted)
            and len(solvers) == len(self._parts)
            and not any(hasattr(type(self._fresh), key) for values in solvers for key in values)
        )


class _Part:
    """Neighbouring frames of the clip with a solver of their own."""

    def __init__(self, frames: slice, solver: Any) -> None:
        self.frames, self.solver = frames, solver
        self.windows_left = 0
        """of this step, with a frame of this part"""
        self.sum: Tensor | None = None
        """(f, c, h, w) of this step's predictions so far; None: none, or moved on"""
        self.counts = _NONE
        """(f, 1, 1, 1) how many predictions each frame has"""
        # Tables of the schedule are shared by all parts; lists are what solvers change in place.
        for name, value in vars(solver).items():
            if isinstance(value, list):
                setattr(solver, name, list(value))

    def places(self, window: Window) -> tuple[list[int], list[int]]:
        """Which places of a window are this part's, and which of its frames these are."""
        start, stop = self.frames.start, self.frames.stop
        places = [place for place, frame in enumerate(window) if start <= frame < stop]
        return places, [window[place] - start for place in places]

    def add(self, prediction: Tensor, frames: list[int], like: Tensor) -> None:
        """Add predictions of these frames; ``like`` has the shape of the part."""
        if self.sum is None:
            self.sum = torch.zeros_like(like, memory_format=torch.contiguous_format)
            self.counts = torch.zeros(len(like), 1, 1, 1, device=like.device)
        index = torch.tensor(frames, device=like.device)
        self.sum.index_add_(0, index, prediction.to(self.sum.dtype))
        self.counts.index_add_(0, index, torch.ones_like(self.counts[: len(frames)]))

    def mean(self) -> Tensor:
        """The mean prediction of every frame, which is then forgotten."""
        assert self.sum is not None, "a part moves on when its windows are predicted"
        mean = self.sum / self.counts
        # Were the counts kept, they would lie where a sum was, and the next sum would not fit there.
        self.sum, self.counts = None, _NONE
        return mean


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
