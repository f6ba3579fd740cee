"""The loop every stage runs in: prefetched batches, AdamW, EMA, logs, checkpoints, a deadline.

A stage (``stages.base.Stage``) makes batches, computes losses, validates. The loop does not depend on what is
trained.
"""

from __future__ import annotations

import contextlib
import json
import math
import signal
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from semibody import runtime
from semibody.training import checkpoint, sharded
from semibody.training.ranks import ALONE, Ranks
from semibody.training.settings import Optimiser, RecipeBase
from semibody.training.stages.base import Stage
from semibody.types import Progress, SemibodyError, silent


@dataclass(kw_only=True)
class Log:
    """Figures by step: a JSON line each in ``log.jsonl``, and TensorBoard."""

    folder: Path
    tensorboard: bool = True
    active: bool = True
    """False in all processes but the first"""
    _writer: Any = field(default=None, repr=False)

    def write(self, stage: str, step: int, figures: dict[str, float]) -> None:
        if not self.active:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        line = {"stage": stage, "step": step, **{k: _rounded(v) for k, v in figures.items()}}
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        for name, value in figures.items():
            if self.writer is not None:
                self.writer.add_scalar(f"{stage}/{name}", value, step)

    def picture(self, stage: str, step: int, picture: NDArray[np.uint8]) -> None:
        """Keep a picture (h, w, 3) of a step, and as the stage's latest."""
        from semibody.media import write_image

        if not self.active:
            return
        for name in (f"{stage}-{step:08d}.png", f"{stage}-latest.png"):
            write_image(self.folder / "pictures" / name, picture)
        if self.writer is not None:
            self.writer.add_image(f"{stage}/grid", picture, step, dataformats="HWC")

    @property
    def writer(self) -> Any:
        if self.tensorboard and self._writer is None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                self.tensorboard = False
                return None
            self._writer = SummaryWriter(str(self.folder / "tensorboard"))
        return self._writer

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")


def lr_at(optimiser: Optimiser, step: int) -> float:
    """Learning rate of ``step``: linear warm-up, constant, a cosine down to ``lr_end`` at the end."""
    rise = min(1.0, (step + 1) / max(1, optimiser.warmup))
    length = round(optimiser.cooldown * optimiser.steps)
    into = (step - (optimiser.steps - length)) / length if length else 0.0
    fall = 1.0
    if into > 0:
        fall = optimiser.lr_end + (1 - optimiser.lr_end) * (0.5 + 0.5 * math.cos(math.pi * min(1.0, into)))
    return optimiser.lr * rise * fall


def ema_decay(decay: float, step: int) -> float:
    """Decay of the EMA at ``step``: small at first, so that the initial weights soon have no influence."""
    return min(decay, (1 + step) / (10 + step))


class StageRun:
    """A stage with its optimiser and EMA; ``run`` trains until the last step or the deadline."""

    def __init__(
        self,
        stage: Stage[Any],
        recipe: RecipeBase,
        folder: Path,
        accelerator: Any,
        log: Log,
        ranks: Ranks = ALONE,
    ) -> None:
        self.stage, self.recipe, self.folder, self.log = stage, recipe, folder, log
        self.accelerator, self.ranks = accelerator, ranks
        self.settings = stage.settings.optimiser
        world = ranks.count
        if self.settings.batch % (world * self.settings.accumulate):
            raise SemibodyError(
                f"{stage.name}.optimiser.batch = {self.settings.batch} does not divide into {world} "
                f"processes x {self.settings.accumulate} micro-batches; choose a multiple"
            )
        if not checkpoint.trained(stage.module):
            raise SemibodyError(f"the stage {stage.name} has nothing to train; correct start.train")
        self.sharded = recipe.run.shard and world > 1
        self.module = self._prepared()
        self.parameters = checkpoint.trained(accelerator.unwrap_model(self.module))
        self.optimiser = accelerator.prepare(
            torch.optim.AdamW(
                self.parameters.values(),
                lr=self.settings.lr,
                betas=(self.settings.beta1, self.settings.beta2),
                weight_decay=self.settings.weight_decay,
                fused=accelerator.device.type in ("cpu", "cuda"),
            )
        )
        self.ema = (
            {name: p.detach().clone() for name, p in self.parameters.items()} if self.settings.ema > 0 else {}
        )
        self.step = 0
        self.seconds = 0.0
        self._flops = 0.0

    def _prepared(self) -> nn.Module:
        """The stage's module on the device, wrapped for its precision and for several processes."""
        module: nn.Module = self.stage.module.to(device=self.accelerator.device)
        if self.sharded:
            if self.accelerator.scaler is not None:
                raise SemibodyError("run.shard=true needs run.precision=bf16 or fp32; this device has fp16")
            trained = sharded.sharded_copy(module, self.accelerator.device)
            # Of each only the precision is prepared: FSDP has distributed it, or it is not trained.
            self.accelerator.prepare_model(module, evaluation_mode=True)
            return self.accelerator.prepare_model(trained, evaluation_mode=True)
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self.accelerator.prepare(module)

    # -- checkpoints --------------------------------------------------------------------------

    def resume(self) -> bool:
        """Continue from the newest checkpoint; False if there is none."""
        found = checkpoint.checkpoints(self.folder)
        if not found:
            return False
        snapshot = checkpoint.read(found[-1])
        module = self.accelerator.unwrap_model(self.module)
        checkpoint.put(snapshot, module, self._adam, self.ema, str(found[-1]))
        self.step, self.seconds = snapshot.step, float(snapshot.facts.get("seconds", 0.0))
        scaler = snapshot.facts.get("scaler")
        if scaler and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(scaler)
        return True

    def save(self) -> Path:
        path = self.folder / f"step-{self.step:08d}"
        # Only the first process needs host memory for all of it; of shards, the others hand over theirs.
        if self.ranks.first or self.sharded:
            module = self.accelerator.unwrap_model(self.module)
            snapshot = checkpoint.take(
                self.step, module, self._adam, self.ema, self._facts(), keep=self.ranks.first
            )
            if snapshot is not None:
                path = checkpoint.save(self.folder, snapshot, self.recipe.run.keep)
        self.ranks.wait()
        return path

    def _facts(self) -> dict[str, Any]:
        from semibody import config

        scaler = self.accelerator.scaler
        return {
            "seconds": round(self.seconds, 1),
            "recipe": config.to_dict(self.recipe),
            "scaler": scaler.state_dict() if scaler is not None else None,
        }

    @property
    def _adam(self) -> torch.optim.Optimizer:
        return getattr(self.optimiser, "optimizer", self.optimiser)

    # -- work ---------------------------------------------------------------------------------

    def run(self, *, deadline: float = math.inf, progress: Progress = silent) -> bool:
        """Train; True when all steps are done, False at the deadline or when the process got a stop signal.

        Either way a checkpoint is written last. Raises SemibodyError on a loss that is not a
        number (the last good checkpoint stays) and when memory does not suffice.
        """
        saved, run = time.monotonic(), self.recipe.run
        before: _Measured | None = None
        with _stop_signal() as signals, self._prefetched() as batches:
            interval = _LogInterval()
            while self.step < self.settings.steps:
                wait = time.perf_counter()
                micro_batches = next(batches)
                started = time.perf_counter()
                interval.waited += started - wait
                measured = self._one_step(micro_batches)
                # A step's figures are read when the device is at work on the next one.
                self._note(before, interval)
                self.step += 1
                now = time.monotonic()
                last = self.step == self.settings.steps
                stop = self.ranks.any(now >= deadline or bool(signals))
                logs, validates = last or self._every(run.log_every), last or self._every(run.validate_every)
                saves = last or stop or self._saves(now - saved)
                before = measured
                if logs or validates or saves:
                    self._note(before, interval)
                    before = None
                self.seconds += time.perf_counter() - started
                progress(self.stage.name, self.step, self.settings.steps)
                if logs:
                    self._log(interval)
                # Before the checkpoint: a run that is continued from it does not validate that step again.
                if validates:
                    self.validate()
                    interval.reset()
                if saves:
                    self.save()
                    saved = time.monotonic()
                if stop and not last:
                    return False
        return True

    def validate(self) -> dict[str, float]:
        """Figures and picture of the EMA weights, logged; each process validates its share of the clips."""
        self.stage.module.eval()
        with self.ema_weights():
            figures, picture = self.stage.validate(self.ranks)
        self.stage.module.train()
        self.log.write(self.stage.name, self.step, {f"val/{k}": v for k, v in figures.items()})
        if picture is not None:
            self.log.picture(self.stage.name, self.step, picture)
        return figures

    @contextlib.contextmanager
    def ema_weights(self) -> Iterator[None]:
        """Within it, the stage's module has the EMA weights. Of shards every process must call it."""
        if self.sharded:
            state = dict(self.accelerator.unwrap_model(self.module).named_parameters()) | self.ema
            sharded.fill(self.stage.module, state)
            yield
            sharded.release(self.stage.module)
            return
        kept = {name: self.parameters[name].detach().clone() for name in self.ema}
        with torch.no_grad():
            for name, value in self.ema.items():
                self.parameters[name].copy_(value)
            yield
            for name, value in kept.items():
                self.parameters[name].copy_(value)

    def _every(self, steps: int) -> bool:
        """Whether the step is one of every so many; never, for 0."""
        return bool(steps) and self.step % steps == 0

    def _saves(self, seconds: float) -> bool:
        """Whether so long after the last checkpoint it is time for one, by the first process's clock."""
        due = seconds >= 60 * self.recipe.run.checkpoint_minutes
        return self.ranks.any(self.ranks.first and due)

    def _one_step(self, micro_batches: list[Any]) -> _Measured:
        """Have the device do a step, and do not wait for it."""
        self.module.train()
        for group in self._adam.param_groups:
            group["lr"] = lr_at(self.settings, self.step)
        try:
            measured = self._gradients(micro_batches)
        except (RuntimeError, MemoryError) as error:
            if "out of memory" in str(error).lower() or isinstance(error, MemoryError):
                name = self.stage.name
                raise SemibodyError(
                    f"not enough memory for stage {name}; lower {name}.optimiser.batch or data.size, raise "
                    f"{name}.optimiser.accumulate, or set run.recompute=true"
                ) from None
            raise
        for name in self.stage.frozen(self.step):
            if name in self.parameters:
                self.parameters[name].grad = None
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self._update_ema()
        return measured

    def _gradients(self, micro_batches: list[Any]) -> _Measured:
        """Gradients of a batch over its micro-batches; their losses, and the gradient's norm."""
        if not self._flops:
            self._count(micro_batches[0])
        every = []
        for number, micro_batch in enumerate(micro_batches):
            last = number == len(micro_batches) - 1
            sync = contextlib.nullcontext() if last else self.accelerator.no_sync(self.module)
            with sync:
                losses = self.stage.losses(self.module, micro_batch.to(self.accelerator.device))
                self.accelerator.backward(losses["loss"] / len(micro_batches))
            every.append({name: value.detach() for name, value in losses.items()})
        return _Measured(self.step, [one.names for one in micro_batches], every, self._clip())

    def _note(self, measured: _Measured | None, interval: _LogInterval) -> None:
        """Wait for the figures of a step. Raises SemibodyError when one of them is not a number."""
        if measured is None:
            return
        losses, norm = measured.read()
        totals: dict[str, float] = {}
        for names, figures in zip(measured.samples, losses, strict=True):
            for name, value in figures.items():
                totals[name] = totals.get(name, 0.0) + value / len(losses)
            if not math.isfinite(totals["loss"]):
                self._stop_for_nan("loss", measured.step, names)
        # With a scaler (fp16) an infinite gradient is no error: the step is skipped and the scale lowered.
        if not math.isfinite(norm) and self.accelerator.scaler is None:
            self._stop_for_nan("gradient", measured.step, measured.samples[-1])
        interval.add({**totals, "gradient": norm}, self.settings.batch * self.stage.frames)

    def _clip(self) -> Tensor:
        limit = self.settings.clip or math.inf
        return checkpoint.whole(self.accelerator.clip_grad_norm_(list(self.parameters.values()), limit))

    def _update_ema(self) -> None:
        if self.ema:
            weight = 1 - ema_decay(self.settings.ema, self.step)
            with torch.no_grad():
                now: list[Tensor] = [self.parameters[name] for name in self.ema]
                torch._foreach_lerp_(list(self.ema.values()), now, weight)

    def _stop_for_nan(self, what: str, step: int, samples: Sequence[str]) -> None:
        found = checkpoint.checkpoints(self.folder)
        kept = found[-1].name if found else "none yet"
        names, stage = ", ".join(samples[:4]), self.stage.name
        raise SemibodyError(
            f"{stage}: the {what} of step {step} is not a number (samples {names} …); the last good "
            f"checkpoint is {kept}; lower {stage}.optimiser.lr and continue with --resume"
        )

    def _count(self, micro_batch: Any) -> None:
        """Count the floating point operations of a step, once in a process; its gradients are discarded.

        Counting decomposes some operations, which changes last bits, so no training step is counted.
        """
        from torch.utils.flop_counter import FlopCounterMode

        with self.accelerator.no_sync(self.module), FlopCounterMode(display=False) as counter:
            losses = self.stage.losses(self.module, micro_batch.to(self.accelerator.device))
            self.accelerator.backward(losses["loss"])
        self.optimiser.zero_grad(set_to_none=True)
        self._flops = float(counter.get_total_flops()) * self.settings.accumulate

    def _log(self, interval: _LogInterval) -> None:
        figures = self._over_processes(interval.figures())
        figures["lr"] = lr_at(self.settings, self.step - 1)
        rate = figures.pop("steps_per_second")
        peak = _peak_flops(self.accelerator.device, self.accelerator.mixed_precision)
        # Forward and backward passes are counted. Time in optimiser and data loading lowers the share.
        figures["peak_share"] = self._flops * rate / peak
        figures["minutes"] = self.seconds / 60
        self.log.write(self.stage.name, self.step, figures)
        interval.reset()

    def _over_processes(self, figures: dict[str, float]) -> dict[str, float]:
        """Means over all processes (each has its share of the batch; a missing term counts as 0)."""
        shares = self.ranks.gather(figures)
        names = sorted({name for share in shares for name in share})
        return {name: sum(share.get(name, 0.0) for share in shares) / len(shares) for name in names}

    def _batch(self, step: int, samples: Sequence[int]) -> Any:
        """A micro-batch; for a GPU in memory from which it is copied while the host goes on."""
        made = self.stage.batch(step, samples)
        return made.pinned() if self.accelerator.device.type == "cuda" else made

    @contextlib.contextmanager
    def _prefetched(self) -> Iterator[Iterator[list[Any]]]:
        """Batches in order, each a list of micro-batches; threads make them during earlier steps."""
        mine = self.ranks.mine(range(self.settings.batch))
        size = len(mine) // self.settings.accumulate
        pieces = [mine[i : i + size] for i in range(0, len(mine), size)]
        data = self.recipe.data
        pool = ThreadPoolExecutor(max(1, data.workers), thread_name_prefix="samples")

        def batches() -> Iterator[list[Any]]:
            waiting: deque[list[Future[Any]]] = deque()
            step = self.step
            while True:
                while len(waiting) < max(1, data.prefetch):
                    waiting.append([pool.submit(self._batch, step, piece) for piece in pieces])
                    step += 1
                yield [future.result() for future in waiting.popleft()]

        try:
            yield batches()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class _Measured:
    """Losses and gradient of a step, on their way from the device.

    They are copied when the step is done; reading them waits for that, and for no later step.
    """

    def __init__(
        self, step: int, samples: list[list[str]], losses: Sequence[Mapping[str, Tensor]], norm: Tensor
    ) -> None:
        """``samples``: their names, for each micro-batch, as ``losses``."""
        self.step, self.samples = step, samples
        self._names = [list(one) for one in losses]
        values = torch.stack([*(v.float() for one in losses for v in one.values()), norm.float()])
        self._arrived: Any = None
        if values.is_cuda:
            self._values = torch.empty(values.shape, pin_memory=True).copy_(values, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record()
        else:
            self._values = values

    def read(self) -> tuple[list[dict[str, float]], float]:
        """The losses of each micro-batch, and the gradient's norm."""
        if self._arrived is not None:
            self._arrived.synchronize()
        *values, norm = self._values.tolist()
        rest = iter(values)
        return [{name: next(rest) for name in names} for names in self._names], norm


class _LogInterval:
    """Means of the figures since the last log line."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.sums: dict[str, float] = {}
        self.steps, self.frames, self.waited = 0, 0, 0.0
        self.since = time.perf_counter()

    def add(self, figures: dict[str, float], frames: int) -> None:
        for name, value in figures.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.steps += 1
        self.frames += frames

    def figures(self) -> dict[str, float]:
        seconds = max(1e-9, time.perf_counter() - self.since)
        return {
            **{name: value / self.steps for name, value in self.sums.items()},
            "frames_per_second": self.frames / seconds,
            "waited": self.waited / seconds,
            "steps_per_second": self.steps / seconds,
        }


@contextlib.contextmanager
def _stop_signal() -> Iterator[list[int]]:
    """A list that gets the signals sent to stop the process (SIGTERM, Ctrl-C); the step is finished first."""
    signals: list[int] = []

    def note(number: int, _frame: object) -> None:
        if signals:
            raise KeyboardInterrupt
        signals.append(number)

    try:
        before = {s: signal.signal(s, note) for s in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not the main thread: the caller handles signals
        yield signals
        return
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_peaks: dict[tuple[str, str], float] = {}


def _peak_flops(device: torch.device, precision: str) -> float:
    """This machine's best matrix product, in FLOP/s, measured once."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    key = (str(device), str(dtype))
    if key not in _peaks:
        _peaks[key] = 1e12 * runtime.matmul_tflops(dtype, device, 0.2, largest=1024)
    return _peaks[key]
