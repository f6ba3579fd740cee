"""What is compared with what, and how: settings, pairing by name, and checks before work is spent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from semibody.clips.manifest import NAME, Line, find_manifest, read_lines
from semibody.files import exists, is_folder
from semibody.media import VideoReader
from semibody.types import SemibodyError

VIDEOS = frozenset({".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v"})
PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
_FPS_TOLERANCE, _ASPECT_TOLERANCE = 0.001, 0.02


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Everything that changes a number and is not a weights file. Stored in every report."""

    features_every: int = 4
    """image features (FID) are taken of every n-th frame"""
    identity_every: int = 6
    """face embeddings (CSIM) are taken of every n-th frame"""
    hands_every: int = 3
    """hands (HKC, HKV, PCK) are found in every n-th frame"""
    pixels_every: int = 1
    """PSNR, SSIM and flicker compare every n-th pair of frames; flicker needs 1"""
    pixels_from: int = 0
    """first frame they compare: where the portrait is a clip's first frame, the next ones hardly
    differ from it"""
    window: int = 16
    """frames of a window of FVD"""
    window_step: int = 8
    """frames from one window of FVD to the next"""
    styleganv_frames: int = 16
    """frames of the one window a clip that FVD-StyleGAN-V takes; its protocols: 16, or 128"""
    styleganv_every: int = 1
    """every n-th frame is in that window; with 16 frames of every 8th it is fvd2048_128f_subsample8f"""
    crop: int = 768
    """side of the picture, in pixels, whose units HKV and hand errors are given in"""
    hand_threshold: float = 0.3
    """a hand keypoint below this confidence counts as not found"""
    pck: float = 0.2
    """a keypoint is correct within this share of its hand's size"""
    max_lag: int = 10
    """frames that the jaw may lead or trail the sound in the search for its lag"""
    device: str = "auto"
    """device of the networks, which rounds in its own way: auto, cpu, cuda, cuda:1; auto is CUDA where there
    is one, else the CPU"""
    sync_shift: int = 15
    """frames (at 25 fps) that SyncNet shifts the sound either way"""

    def __post_init__(self) -> None:
        for name in (
            "features_every",
            "identity_every",
            "hands_every",
            "pixels_every",
            "window",
            "window_step",
            "styleganv_frames",
            "styleganv_every",
        ):
            if getattr(self, name) < 1:
                raise SemibodyError(f"{name} = {getattr(self, name)}: must be 1 or more")


@dataclass(frozen=True)
class Item:
    """One generated clip and what it is compared with; None where there is nothing."""

    name: str
    generated: Path
    real: Path | None = None
    portrait: Path | None = None
    speech: Path | None = None
    gesture: Path | None = None
    truth: Path | None = None
    person: str = ""


@dataclass(frozen=True)
class Problem:
    """Something about one file that affects the numbers. ``fatal``: the clip is left out."""

    name: str
    what: str
    fatal: bool = False


@dataclass(frozen=True)
class Probe:
    """The contents of a video's header."""

    frames: int
    fps: float
    width: int
    height: int
    sound: bool


def pair_clips(
    generated: Path | str, real: Path | str | None = None, portraits: Path | str | None = None
) -> tuple[list[Item], list[Problem]]:
    """List the clips of a folder, manifest or single file, paired by name with the real ones and portraits.

    The name of a clip is its file's stem, or its ``id`` in a manifest (``clips.manifest``), whose lines must
    name the ``video`` and may name everything else. Two single files are paired whatever their names. Clips
    that have no partner become Problems.
    Raises SemibodyError when nothing is left, or two files share a name.
    """
    generated, real = Path(generated), Path(real) if real is not None else None
    items = _clips(generated)
    problems: list[Problem] = []
    if real is not None:
        items, alone = _with_real(items, generated, real)
        problems += alone
    if portraits is not None:
        pictures = {p.stem: p for p in list_files(Path(portraits), PICTURES, "portraits")}
        for name in sorted(items.keys() - pictures.keys()):
            problems.append(Problem(name, f"has no portrait of that name in {portraits}"))
        items = {
            name: replace(item, portrait=pictures.get(name, item.portrait)) for name, item in items.items()
        }
    return [items[name] for name in sorted(items)], problems


def _with_real(items: dict[str, Item], generated: Path, real: Path) -> tuple[dict[str, Item], list[Problem]]:
    """Those with a partner, completed from its line where their own names nothing; and those without."""
    partners = _clips(real)
    if len(items) == len(partners) == 1 and generated.is_file() and real.is_file():
        partners = {next(iter(items)): next(iter(partners.values()))}
    problems = []
    for name in sorted(items.keys() ^ partners.keys()):
        side, other = (generated, real) if name in items else (real, generated)
        problems.append(Problem(name, f"is in {side} but not in {other}; left out", fatal=True))
    completed = ("portrait", "speech", "gesture", "truth")
    paired = {
        name: replace(
            items[name],
            real=partner.generated,
            **{kind: getattr(items[name], kind) or getattr(partner, kind) for kind in completed},
        )
        for name, partner in partners.items()
        if name in items
    }
    if not paired:
        raise SemibodyError(f"{generated} and {real}: no clip has the same name in both; rename the files")
    return paired, problems


def _clips(source: Path) -> dict[str, Item]:
    if source.suffix == ".jsonl" or exists(source / NAME):
        return _from_manifest(find_manifest(source))
    if exists(source) and source.is_file():
        return {source.stem: Item(source.stem, source)}
    items: dict[str, Item] = {}
    for path in list_files(source, VIDEOS, "videos"):
        if path.stem in items:
            raise SemibodyError(f"{path}: {items[path.stem].generated.name} has the same name; remove one")
        items[path.stem] = Item(path.stem, path)
    return items


def list_files(folder: Path, endings: Iterable[str], what: str) -> list[Path]:
    """Files of a folder with one of these endings, by name; raises SemibodyError where there are none."""
    if not is_folder(folder):
        raise SemibodyError(f"{folder}: no such file or folder; give a folder of {what}")
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in endings and not p.name.startswith("."))
    if not found:
        raise SemibodyError(f"{folder}: holds no {what} ({', '.join(sorted(endings))})")
    return found


def _from_manifest(path: Path) -> dict[str, Item]:
    lines = read_lines(path, "give a folder of videos instead")
    if not lines:
        raise SemibodyError(f"{path}: lists no clip")
    return {line.id: _item(line) for line in lines}


def _item(line: Line) -> Item:
    return Item(
        line.id, line.require("video"), None, line.file("portrait"), line.file("audio"),
        line.file("gesture"), line.file("truth"), line.person,
    )  # fmt: skip


def probe(path: Path) -> Probe:
    """Read a video's header. Raises SemibodyError naming the file."""
    with VideoReader(path) as video:
        return Probe(video.frame_count, video.fps, *video.size, video.has_sound)


def check(items: list[Item]) -> tuple[list[Item], list[Problem]]:
    """Read every header before any work: damaged files are left out, differences within a pair reported.

    Policy for pairs: REAL is sampled at GENERATED's frame rate (at each time the frame on screen), the
    comparison ends with the shorter one, and REAL is scaled to GENERATED's size; a pair whose shapes differ
    by more than 2 % is left out, because scaling would distort the person.
    """
    kept, problems = [], []
    for item in items:
        found = list(_compare(item))
        problems += found
        if not any(problem.fatal for problem in found):
            kept.append(item)
    return kept, problems


def _compare(item: Item) -> Iterable[Problem]:
    probes = {}
    for side, path in (("generated", item.generated), ("real", item.real)):
        if path is None:
            continue
        try:
            probes[side] = probe(path)
        except SemibodyError as error:
            yield Problem(item.name, str(error), fatal=True)
            return
    if "real" not in probes:
        return
    ours, real = probes["generated"], probes["real"]
    if abs(ours.fps - real.fps) > _FPS_TOLERANCE * ours.fps:
        yield Problem(
            item.name, f"real has {real.fps:g} fps; it is sampled at the generated {ours.fps:g} fps"
        )
    seconds = ours.frames / ours.fps, real.frames / real.fps
    if min(seconds) and abs(seconds[0] - seconds[1]) > 1 / ours.fps + 1e-6:  # some headers lack it
        yield Problem(
            item.name,
            f"lasts {seconds[0]:.2f} s, real {seconds[1]:.2f} s; compared over {min(seconds):.2f} s",
        )
    if (ours.width, ours.height) != (real.width, real.height):
        shapes = ours.width / ours.height, real.width / real.height
        sizes = f"{ours.width}×{ours.height}, real {real.width}×{real.height}"
        if abs(shapes[0] / shapes[1] - 1) > _ASPECT_TOLERANCE:
            yield Problem(item.name, f"is {sizes}: different shapes; crop them alike; left out", fatal=True)
        else:
            yield Problem(item.name, f"is {sizes}; real is scaled to the generated size")
