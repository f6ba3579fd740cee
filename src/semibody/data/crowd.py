"""Rendered people straight into packed clips: by several processes, in bounded time, resumable.

    order = Order(people=3000, clips=1, seconds=6.0, fps=4.0, sway=0.12, photographed=0.6)
    done = pack_crowd(Path("packed"), "makehuman", order, where=Workers(workers=2), minutes=60)

No video files are written on the way. Every clip depends on (seed, person, take) alone, so the files are the
same for any number of workers, and a stopped run continues.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

from semibody.clips.manifest import split_of
from semibody.data.dataset import CLIP, Packing, pack_clip, packed_path
from semibody.data.folder import disk_errors_named, filling
from semibody.data.shards import read_shards
from semibody.data.synthetic.order import MAY_GROW, Order
from semibody.data.synthetic.produce import ONE, give_up_person, prepare, render_takes
from semibody.files import foreign_failure
from semibody.processes import Workers, run_jobs
from semibody.types import MissingPartError, Progress, SemibodyError, silent

RECORD = "crowd.json"
"""Beside the packed clips: how they were made."""


def pack_crowd(
    folder: Path,
    assets: Path | str | None,
    order: Order,
    *,
    where: Workers = ONE,
    minutes: float | None = None,
    progress: Progress = silent,
) -> int:
    """Render the people that are missing in ``folder``; returns how many are there now.

    After ``minutes`` no further person is started. Raises SemibodyError when the folder holds a crowd of
    another kind or is being filled by another run, when EGL, the assets or room on the disk are missing,
    and, after all others are made, when some person could not be made.
    """
    until = math.inf if minutes is None else time.time() + 60 * minutes
    assets, record = prepare(order, assets)
    failures: list[str] = []
    with filling(folder / packing_of(order).key, RECORD, record, may_change=MAY_GROW):
        missing = _missing(folder, order)
        there = order.people - len(missing)
        progress("render people", there, order.people)
        jobs = [(str(folder), str(assets), order, number, takes, until) for number, takes in missing.items()]
        for made in run_jobs(_pack_person, jobs, where, given_up=give_up_person):
            if made is None:
                continue
            failures += [made] if made else []
            there += not made
            progress("render people", there, order.people)
    if failures:
        raise SemibodyError(
            f"{len(failures)} of {order.people} people could not be made; correct this and run the command "
            f"again, the others are kept: {failures[0]}"
        )
    return there


def packing_of(order: Order) -> Packing:
    """How the clips of an order are packed."""
    return Packing(size=order.size, fps=order.fps)


def _name(order: Order, number: int, take: int) -> str:
    return f"{order.seed}-{number:05d}-{take:02d}"


def _missing(folder: Path, order: Order) -> dict[int, list[int]]:
    """Person -> takes that are not packed yet, of those who lack any."""
    place = folder / packing_of(order).key
    there = read_shards(place, CLIP)
    takes = {
        number: [
            take
            for take in range(order.clips)
            if (name := _name(order, number, take)) not in there and not packed_path(place, name).exists()
        ]
        for number in range(order.people)
    }
    return {number: lacking for number, lacking in takes.items() if lacking}


def _pack_person(
    folder: str, assets: str, order: Order, number: int, takes: list[int], until: float
) -> str | None:
    """Runs in a worker: an empty string when done, None when the time is up, or what is wrong."""
    if time.time() > until:
        return None
    packing = packing_of(order)
    with disk_errors_named(Path(folder)):
        try:
            # One of them may be there: of a worker that died.
            place = Path(folder) / packing.key
            takes = [take for take in takes if not packed_path(place, _name(order, number, take)).exists()]
            for take, _, made, _ in render_takes(order, assets, number, takes):
                person = order.person(number)
                pack_clip(
                    place, _name(order, number, take), made.clip.frames, made.gesture,
                    made.clip.speech, made.truth, person=person, kind=made.kind, split=split_of(person),
                    packing=packing, source="synthetic",
                )  # fmt: skip
        except MissingPartError:
            raise
        except SemibodyError as error:
            return str(error)
        except Exception as error:
            return foreign_failure(error, Path(folder) / "errors.log")
    return ""
