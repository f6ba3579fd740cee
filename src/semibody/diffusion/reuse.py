"""What a denoiser keeps of a window from one step for the next ones.

    reuse = Reuse(DeepFeatures, every=3)        # computed in every third step, reused in the two after it
    kept = reuse.of(window, t, "conditional")   # the same object in these three steps, then a fresh one

Windows are the same in these steps (``first_step``), so that what is kept of one fits all of its frames.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from torch import Tensor

from semibody.diffusion.windows import Window
from semibody.resume import Arrays, Unfinished

T = TypeVar("T")


def first_step(step: int, every: int) -> int:
    """The step in which what ``step`` uses is computed: every ``every``-th one."""
    return step - step % every


class Reuse(Generic[T]):
    """Something of each window and half of guidance, made anew in every ``every``-th step."""

    def __init__(self, make: Callable[[], T], every: int) -> None:
        self._make, self._every = make, every
        self._step, self._t = -1, float("nan")
        self._kept: dict[tuple[str, tuple[int, ...]], T] = {}

    def of(self, window: Window, t: Tensor, half: str) -> T | None:
        """What is kept of a window at timestep ``t`` (1,); None where nothing outlives its step."""
        if self._every == 1:
            return None
        if float(t) != self._t:
            self._step, self._t = self._step + 1, float(t)
            if self._step % self._every == 0:
                self._kept.clear()
        return self._kept.setdefault((half, tuple(window)), self._make())


class SavedBetween(Unfinished):
    """Saves the state of ``sample`` only where the next step reuses nothing: what is reused is not saved."""

    def __init__(self, work: Unfinished, every: int) -> None:
        super().__init__(work.folder)
        self._every = every

    def save(self, name: str, arrays: Arrays, facts: Mapping[str, Any]) -> None:
        """As ``Unfinished``, for a state after all windows of a step; others are left out."""
        if facts["windows"] == 0 and first_step(facts["step"], self._every) == facts["step"]:
            super().save(name, arrays, facts)

    def due(self) -> bool:
        """Never: in the middle of a step something is reused."""
        return self._every == 1 and super().due()
