"""The processes of a training: their shares of the work, and how they wait for each other.

    ranks.share(clips, pack)        # each process packs its share of the clips
    ranks.gather(figures)           # what every process has, in every process
    with ranks.ending_together(): …

Steps exchange gradients in the process group of the launcher, which gives up after minutes: a step that takes
longer hangs. Preparing clips, validating and writing checkpoints take hours or longer in one process than in
another; they wait in a group of their own, on the CPU (gloo), for up to a day.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self, TypeVar

from semibody.types import SemibodyError

T = TypeVar("T")

_LONGEST_WAIT = timedelta(hours=24)
_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "gloo/transport", "NCCL")
"""What PyTorch's messages say where another process is gone; gloo has no class of errors."""


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """One process's view of all of them; by default it is alone."""

    number: int = 0
    count: int = 1
    local_number: int = 0
    """among those of its machine"""
    local_count: int = 1
    group: Any = None
    """the process group in which they wait for long work; None: it is alone"""

    @classmethod
    def of(cls, accelerator: Any) -> Self:
        """Of an ``accelerate.Accelerator``; every process must call it."""
        if accelerator.num_processes == 1:
            return cls()
        from torch import distributed

        return cls(
            number=accelerator.process_index,
            count=accelerator.num_processes,
            local_number=accelerator.local_process_index,
            local_count=int(os.environ.get("LOCAL_WORLD_SIZE", accelerator.num_processes)),
            group=distributed.new_group(backend="gloo", timeout=_LONGEST_WAIT),
        )

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.number == 0

    def mine(self, everything: Sequence[T]) -> Sequence[T]:
        """This process's share."""
        return everything[self.number :: self.count]

    def share(self, everything: Sequence[T], make: Callable[[Sequence[T]], None]) -> None:
        """Have each process make its share of things kept as files, then wait, then open all of them.

        ``make`` makes what is missing of the things it is given. Machines that share no folder lack what the
        others made, so each machine's processes then share what is still missing there.
        """
        if self.count > 1:
            make(self.mine(everything))
            self.wait()
            make(everything[self.local_number :: self.local_count])
            self.wait()
        make(everything)

    def wait(self) -> None:
        """Wait until all processes are here. Raises SemibodyError when one of them has ended."""
        if self.count > 1:
            from torch import distributed

            with self.ending_together():
                distributed.barrier(group=self.group)

    def gather(self, value: T) -> list[T]:
        """The values of all processes, by their number; waits as ``wait``."""
        if self.count == 1:
            return [value]
        from torch import distributed

        values: list[Any] = [None] * self.count
        with self.ending_together():
            distributed.all_gather_object(values, value, group=self.group)
        return values

    def any(self, flag: bool) -> bool:
        """Whether any process says so; waits as ``wait``."""
        if self.count == 1:
            return flag
        import torch
        from torch import distributed

        said = torch.tensor(int(flag))
        with self.ending_together():
            distributed.all_reduce(said, distributed.ReduceOp.MAX, group=self.group)
        return bool(said)

    @contextlib.contextmanager
    def ending_together(self) -> Iterator[None]:
        """Within it, the loss of another process is a SemibodyError: its partners end in one line as well."""
        try:
            yield
        except RuntimeError as error:
            if self.count == 1 or not _is_loss(error):
                raise
            raise SemibodyError(
                "another process of this training has ended: see its message and the launcher's; then run "
                "the same command with --resume, nothing that was finished is lost"
            ) from None


ALONE = Ranks()
"""The only process."""


def _is_loss(error: RuntimeError) -> bool:
    from torch import distributed

    if distributed.is_available() and isinstance(error, distributed.DistError):
        return True
    return any(words in str(error) for words in _LOST)
