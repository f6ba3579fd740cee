"""One job after another in one process: made, kept or failed, and begun again where that may help.

``make`` is what every worker calls, in whatever process or on whatever machine it is.
"""

from __future__ import annotations

import functools
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from semibody import media, runtime, settings
from semibody.batch.jobs import Job
from semibody.files import DISK_ERRORS, exists, foreign_failure, refuse_input
from semibody.inputs import choose_speech, prepare
from semibody.processes import own_number, own_threads
from semibody.settings import Source
from semibody.types import Progress, SemibodyError, silent

if TYPE_CHECKING:
    from semibody.animator import Animator

PAUSE = 1.0
"""Seconds before a job is begun a second time; twice as long before every further time."""
_MAY_PASS = (OSError, MemoryError, RuntimeError)
"""Errors that may not come again: of the network or a device, of memory (torch's are RuntimeError)."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A job on its way to a worker."""

    job: Job
    key: str
    """what decides the video, as a hash"""
    retries: int = 0
    again: bool = False
    """make it though it is there"""


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a job ended."""

    job: Job
    state: Literal["made", "kept", "failed"]
    """kept: it was there before"""
    seconds: float = 0.0
    """of computing"""
    notices: tuple[str, ...] = ()
    """what the user should know, or why it failed"""
    attempts: int = 1
    """how often it was begun"""


def identify(source: Source) -> dict[str, Any]:
    """What of ``source`` decides a video: the contents of the weights, their default settings, the precision.

    Raises SemibodyError for weights that cannot be found.
    """
    from semibody.networks.loading import fingerprint

    found = settings.resolve(source)
    return {
        "weights": fingerprint(found.folder, found.variant),
        "settings": asdict(found.defaults),
        "precision": source.precision,
    }


def is_made(task: Task) -> bool:
    """Whether the job's video is there already, made from the same things.

    Raises SemibodyError for a file of something else, which is not ours to replace.
    """
    out = task.job.out
    if not exists(out):
        return False
    stored = media.read_metadata(out)
    if "semibody" not in stored:
        raise SemibodyError(f"{out}: is no video of ours; choose another name, or --again replaces it")
    return stored.get("job") == task.key


def make(animator: Animator, task: Task, progress: Progress = silent) -> Result:
    """Make one clip. Raises only what would befall the next job too: a full or read-only disk."""
    job, started = task.job, time.monotonic()
    for attempt in range(1, task.retries + 2):
        try:
            if not task.again and is_made(task):
                return Result(job=job, state="kept", attempts=attempt)
            refuse_input(job.out, job.portrait, job.speech, job.gesture, job.settings.get("background"))
            sound = choose_speech(job.speech, job.words)
            if sound is None:
                raise SemibodyError(f"{job.portrait}: there is no speech; give a recording or words")
            chosen = animator.settings(**job.settings)
            inputs = prepare(job.portrait, sound, job.gesture, chosen)
            animator.write(job.out, inputs, chosen, notes={"job": task.key}, progress=progress)
        except Exception as error:
            if _may_pass(error) and attempt <= task.retries:
                time.sleep(PAUSE * 2 ** (attempt - 1))
                continue
            is_ours = isinstance(error, SemibodyError)
            why = str(error) if is_ours else foreign_failure(error, job.out.with_name("errors.log"))
            return Result(job=job, state="failed", notices=(why,), attempts=attempt)
        seconds = time.monotonic() - started
        return Result(job=job, state="made", seconds=seconds, notices=inputs.notices, attempts=attempt)
    raise AssertionError("a job is begun at least once")


def _may_pass(error: Exception) -> bool:
    if isinstance(error, SemibodyError):
        return str(error).startswith(runtime.OUT_OF_MEMORY)
    return isinstance(error, _MAY_PASS) and getattr(error, "errno", None) not in DISK_ERRORS


def make_in_process(task: Task, source: Source) -> Result:
    """``make`` with the weights of this process, which are loaded at its first job."""
    return make(load_once(source, own_threads()), task)


@functools.lru_cache(maxsize=1)
def load_once(source: Source, threads: int) -> Animator:
    """The Animator of this process, which computes with ``threads`` threads. Raises as Animator.load."""
    import torch

    from semibody.animator import Animator

    torch.set_num_threads(threads)
    return Animator.load(**asdict(replace(source, device=_own_device(source.device))))


def _own_device(device: str) -> str:
    """With several GPUs and no one named, processes take them in turn."""
    import torch

    count = torch.cuda.device_count()
    return f"cuda:{own_number() % count}" if device in ("auto", "cuda") and count > 1 else device


def given_up(task: Task, *_: Any) -> Result:
    """The result of a job whose process died each time that it was begun."""
    why = "its process died three times, perhaps for lack of memory; try a smaller size, or fewer --workers"
    return Result(job=task.job, state="failed", notices=(why,), attempts=3)
