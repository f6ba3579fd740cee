"""Rendered people straight into packed clips: by several processes, in bounded time, resumable.

    crowd = Crowd(people=3000, seconds=5.0, fps=8.0, sway=0.35, photographed=0.6)
    done = pack_crowd(Path("packed"), "makehuman", crowd, workers=2, minutes=60)

No video files are written on the way. Every clip depends on (seed, person, take) alone, so the files are the
same for any number of workers, and a run that was stopped goes on where it was.
"""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass
from pathlib import Path

from semibody.data.dataset import Packing, clip_names, pack_people, packed_path
from semibody.data.folder import disk_errors_named, filling
from semibody.data.synthetic.produce import GENERATOR
from semibody.processes import in_processes
from semibody.types import MissingPartError, Progress, SemibodyError, silent


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """Who is rendered, and how."""

    people: int = 1000
    clips: int = 1
    """clips of each person"""
    seconds: float = 2.0
    size: int = 256
    fps: float = 24.0
    seed: int = 0
    """another seed, other people"""
    head_share: float = 0.15
    """share of clips that show the head only"""
    sway: float = 1.0
    """how far head and torso wander about their place"""
    photographed: float = 0.0
    """share of clips taken with a camera's faults"""

    def __post_init__(self) -> None:
        for name in ("people", "clips", "seconds", "size", "fps"):
            if not getattr(self, name) > 0:
                raise SemibodyError(f"{name} = {getattr(self, name)}: must be positive")

    @property
    def packing(self) -> Packing:
        return Packing(size=self.size, fps=self.fps)

    def finished(self, folder: Path, number: int) -> bool:
        """Whether all clips of person ``number`` stand."""
        place = folder / self.packing.key
        return all(packed_path(place, n).exists() for n in clip_names(self.seed, number, self.clips))


def pack_crowd(
    folder: Path,
    assets: Path | str | None,
    crowd: Crowd,
    *,
    workers: int = 1,
    minutes: float | None = None,
    progress: Progress = silent,
) -> int:
    """Render the people that are missing in ``folder``; returns how many are there now.

    After ``minutes`` no further person is begun. Raises SemibodyError when the folder holds a crowd of
    another kind or is being filled by another run, when EGL, the assets or room on the disk are missing,
    and, after all others are made, when some person could not be made.
    """
    from semibody.data.synthetic.assets import find_assets, load_assets
    from semibody.data.synthetic.render import require_renderer

    until = math.inf if minutes is None else time.time() + 60 * minutes
    assets = find_assets(assets)
    loaded = load_assets(str(assets))  # mistakes are told before processes start
    require_renderer()
    settings = dataclasses.asdict(crowd) | {"assets": loaded.fingerprint(), "generator": GENERATOR}
    failures: list[str] = []
    with filling(folder / crowd.packing.key, RECORD, settings, may_change=("people", "clips")):
        missing = [n for n in range(crowd.people) if not crowd.finished(folder, n)]
        there = crowd.people - len(missing)
        progress("render people", there, crowd.people)
        jobs = [(str(folder), str(assets), crowd, number, until) for number in missing]
        for made in in_processes(_pack_person, jobs, workers):
            if made is None:
                continue
            failures += [made] if made else []
            there += not made
            progress("render people", there, crowd.people)
    if failures:
        raise SemibodyError(
            f"{len(failures)} of {crowd.people} people could not be made; mend this and run the command "
            f"again, the others are kept: {failures[0]}"
        )
    return there


RECORD = "crowd.json"
"""Beside the packed clips: how they were made."""


def _pack_person(folder: str, assets: str, crowd: Crowd, number: int, until: float) -> str | None:
    """Runs in a worker: an empty string when done, None when it is too late, or what is wrong."""
    if time.time() > until:
        return None
    with disk_errors_named(Path(folder)):
        try:
            for _ in pack_people(
                Path(folder), assets, crowd.packing, seed=crowd.seed, people=range(number, number + 1),
                clips=crowd.clips, seconds=crowd.seconds, head_share=crowd.head_share, sway=crowd.sway,
                photographed=crowd.photographed,
            ):  # fmt: skip
                pass
        except MissingPartError:
            raise
        except SemibodyError as error:
            return str(error)
    return ""
