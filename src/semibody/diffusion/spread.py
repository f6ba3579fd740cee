"""A step's windows on several devices: a process for each further one, with a denoiser of its own.

    with Spread(make, ["cuda:1"]) as spread:            # make("cuda:1") gives the denoiser, in that process
        sample(denoise, noise, scheduler, windows, each=spread)

The windows of a step do not depend on each other, so they are dealt out in turn. Their predictions come back
in order and are summed in order: the clip is the same, bit for bit, where the devices compute the same bits.
"""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from semibody import runtime
from semibody.diffusion.guidance import Denoise
from semibody.diffusion.windows import Window
from semibody.files import first_line
from semibody.types import SemibodyError

Call = tuple[Tensor, Tensor, Window]
"""What a ``Denoise`` is called with."""
Each = Callable[[Denoise, Iterable[Call]], Iterator[Tensor]]
"""Makes all calls of a step and gives their predictions in order, as ``itertools.starmap`` does."""
Make = Callable[[str], Denoise]
_Answer = NDArray[np.float32] | str
"""A prediction, or why there is none."""
PATIENCE = 10.0
"""Seconds that a process may take to end by itself."""


class Spread:
    """An ``Each`` that shares the calls with processes on further devices. A context manager: they start at
    its begin, and load while this process goes on. ``make`` is pickled."""

    def __init__(self, make: Make, devices: Sequence[str]) -> None:
        self._make, self._devices = make, devices

    def __enter__(self) -> Self:
        context = torch.multiprocessing.get_context("spawn")
        self._lines: list[Connection] = []
        self._processes = []
        for device in self._devices:
            line, theirs = context.Pipe()
            # Threads are part of the arithmetic.
            given = (self._make, device, theirs, torch.get_num_threads())
            process = context.Process(target=_serve, args=given, daemon=True)
            process.start()
            theirs.close()  # so that its end shows here
            self._lines.append(line)
            self._processes.append(process)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for line in self._lines:
            line.close()
        for process in self._processes:
            if error is None:
                process.join(PATIENCE)
            process.kill()
            process.join()

    def __call__(self, denoise: Denoise, calls: Iterable[Call]) -> Iterator[Tensor]:
        """The predictions of all calls, float32. Raises SemibodyError for a device that is lost."""
        remaining = iter(calls)
        while dealt := list(itertools.islice(remaining, 1 + len(self._lines))):
            own, *others = dealt
            for number, (latents, t, window) in enumerate(others):
                self._ask(number, (latents.cpu().numpy(), t.cpu().numpy(), window))
            yield denoise(*own).float()
            for number in range(len(others)):
                yield torch.from_numpy(self._answer(number)).to(own[0].device)

    def _ask(self, number: int, call: tuple[NDArray[np.float32], NDArray[np.float32], Window]) -> None:
        try:
            self._lines[number].send(call)
        except OSError:
            raise self._lost(number) from None

    def _answer(self, number: int) -> NDArray[np.float32]:
        try:
            answer: _Answer = self._lines[number].recv()
        except (EOFError, OSError):
            raise self._lost(number) from None
        if isinstance(answer, str):
            raise SemibodyError(f"--devices {self._devices[number]}: {answer}")
        return answer

    def _lost(self, number: int) -> SemibodyError:
        return SemibodyError(
            f"--devices {self._devices[number]}: its process has ended, perhaps for lack of memory; "
            "leave this device out"
        )


@torch.inference_mode()
def _serve(make: Make, device: str, line: Connection, threads: int) -> None:
    """Answer calls until the other end is closed, by its work's end or its death."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent to handle
    torch.set_num_threads(threads)
    denoise: Denoise | None = None
    while True:
        answer: _Answer
        try:
            denoise = denoise or make(device)
            latents, t, window = line.recv()
            where = torch.device(device)
            given = torch.from_numpy(latents).to(where), torch.from_numpy(t).to(where), window
            answer = denoise(*given).float().cpu().numpy()
        except EOFError:
            return
        except Exception as error:
            answer = _why(error)
        try:
            line.send(answer)
        except OSError:
            return
        if isinstance(answer, str):
            return


def _why(error: Exception) -> str:
    if isinstance(error, SemibodyError):
        return str(error)
    return runtime.out_of_memory(lower="lowest") if runtime.is_out_of_memory(error) else first_line(error)
