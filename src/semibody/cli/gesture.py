"""``semibody gesture``: make, draw and convert gestures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from semibody.cli.app import app
from semibody.cli.progress import progress_bar
from semibody.types import SemibodyError

gesture = typer.Typer(help="Make, draw and convert gestures.", no_args_is_help=True)
app.add_typer(gesture, name="gesture")

Out = Annotated[Path | None, typer.Option("--out", "-o", help="File or folder to write.", show_default=False)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
GestureArgument = Annotated[
    str, typer.Argument(help="Name of a gesture of the library, or a file or folder.")
]


def _target(out: Path | None, otherwise: Path, *inputs: Path | str | None) -> Path:
    """Where to write: never over an input, and unasked never over anything."""
    from semibody.files import exists, refuse_input

    target = out or otherwise
    refuse_input(target, *inputs)
    if out is None and exists(target):
        raise SemibodyError(f"{target}: is there already; name the file to write with -o")
    return target


def _print_notices(notices: Iterable[str]) -> None:
    for notice in notices:
        typer.echo(f"note: {notice}", err=True)


@gesture.command()
def extract(
    video: Annotated[Path, typer.Argument(help="Video of a person whose hands show.")],
    out: Out = None,
    fps: Annotated[float, typer.Option(min=1, max=120, help="Poses a second.")] = 24.0,
    person: Annotated[int, typer.Option(min=0, help="Which person, from the largest: 0, 1, …")] = 0,
    crop: Annotated[
        str, typer.Option(help="auto: the square around the person as in training; none: the whole picture.")
    ] = "auto",
    smooth: Annotated[float, typer.Option(min=0, max=10, help="0 leaves jitter; higher is smoother.")] = 1.0,
    detector: Annotated[str, typer.Option(help="auto, mediapipe or dwpose.")] = "auto",
    preview: Annotated[
        Path | None, typer.Option(help="Also write the video with the poses drawn on it (.mp4).")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Take the poses of a person from a video. Run it again to continue after a stop."""
    from semibody.files import refuse_input, require_file
    from semibody.pose.detectors import open_detector
    from semibody.pose.files import save_gesture
    from semibody.pose.frame import crop_gesture
    from semibody.pose.show import write_overlay_video
    from semibody.pose.track import extract as take
    from semibody.resume import folder_of

    if crop not in ("auto", "none"):
        raise SemibodyError(f"--crop {crop} is unknown; choose auto or none")
    require_file(video, "a video file")
    target = _target(out, video.with_suffix(".npz"), video)
    if preview is not None:
        refuse_input(preview, video, target)
    unfinished = folder_of(target)
    with progress_bar(quiet=quiet) as progress, open_detector(detector) as opened:
        found = take(
            video, fps, detector=opened, person=person, smooth=smooth, keep=unfinished, progress=progress
        )
        made = crop_gesture(found.gesture) if crop == "auto" else found.gesture
        save_gesture(made, target)
        if preview is not None:
            write_overlay_video(preview, found.gesture, video, progress=progress)
    _print_notices(found.notices())
    share = f"left hand in {found.with_left}, right in {found.with_right}, face in {found.with_face}"
    typer.echo(f"{target}: {found.frames} poses at {fps:g} fps; {share}; {found.filled} hand poses filled in")


@gesture.command()
def convert(
    source: GestureArgument,
    target: Annotated[Path, typer.Argument(help=".npz, .json (OpenPose), or a new folder of .npy poses.")],
    fps: Annotated[float | None, typer.Option(min=1, max=120, help="Poses a second.")] = None,
) -> None:
    """Convert between our .npz, the published folders of .npy and OpenPose JSON."""
    from semibody.pose.files import OFFICIAL_FPS, save_gesture
    from semibody.pose.library import find_gesture
    from semibody.pose.timing import resample

    _target(target, target, source)
    poses = find_gesture(source)
    official = target.suffix == ""
    wanted = fps or (OFFICIAL_FPS if official else poses.fps)
    _print_notices(poses.notices)
    poses = resample(poses, wanted)
    save_gesture(poses, target)
    if official and poses.aspect != 1.0:
        typer.echo(f"note: the poses refer to pictures {poses.aspect:.2f} times as wide as high; "
                   "the published code takes them for square", err=True)  # fmt: skip
    typer.echo(f"{target}: {len(poses)} poses at {wanted:g} fps")


@gesture.command()
def show(
    source: GestureArgument,
    out: Out = None,
    portrait: Annotated[
        Path | None, typer.Option(help="Draw the gesture, aligned, over this picture.")
    ] = None,
    sound: Annotated[Path | None, typer.Option(help="Recording to put under an .mp4 preview.")] = None,
    size: Annotated[int, typer.Option(min=64, max=2048, help="Side of the preview.")] = 384,
) -> None:
    """Draw a gesture: a contact sheet (.png) or a preview (.mp4)."""
    from semibody import media
    from semibody.pose.library import find_gesture
    from semibody.pose.show import on_portrait, write_contact_sheet, write_preview

    poses = find_gesture(source)
    _print_notices(poses.notices)
    target = _target(out, Path(f"{Path(source).stem or 'gesture'}.png"), source, portrait, sound)
    background = None
    if portrait is not None:
        poses, background, line = on_portrait(poses, media.read_image(portrait), size)
        typer.echo(line, err=True)
    if target.suffix.lower() == ".mp4":
        speech = media.read_speech(sound) if sound else None
        write_preview(target, poses, size, background, speech)
    else:
        write_contact_sheet(target, poses, background)
    typer.echo(f"{target}: {len(poses)} poses, {poses.seconds:.1f} s at {poses.fps:g} fps")


@gesture.command("list")
def list_all(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Also write a sheet with a picture of each (.png).")
    ] = None,
) -> None:
    """List the gestures that come with Semibody."""
    from semibody.pose.library import GESTURES, find_gesture
    from semibody.pose.show import write_library_sheet

    for name, script in GESTURES.items():
        poses = find_gesture(name)
        typer.echo(f"{name:<18} {poses.seconds:4.1f} s  {script.about}")
    if out is not None:
        write_library_sheet(out)
        typer.echo(f"{out}: a row of pictures of each")


@gesture.command()
def plan(
    speech: Annotated[Path, typer.Argument(help="Recording to make gestures for.")],
    out: Out = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other gestures.")] = 0,
    fps: Annotated[float, typer.Option(min=1, max=120, help="Poses a second.")] = 24.0,
    liveliness: Annotated[float, typer.Option(min=0.1, max=3, help="How often hands move.")] = 1.0,
    source: Annotated[
        list[str] | None, typer.Option("--from", help="Take strokes from this gesture instead (repeatable).")
    ] = None,
) -> None:
    """Plan gestures from speech alone: strokes on stressed syllables, rest in pauses."""
    from semibody import media
    from semibody.pose.files import save_gesture
    from semibody.pose.library import find_gesture
    from semibody.pose.plan import plan_gesture

    target = _target(out, speech.with_suffix(".npz"), speech, *(source or []))
    sound = media.read_speech(speech)
    sources = [find_gesture(name) for name in source or []]
    _print_notices(notice for poses in sources for notice in poses.notices)
    planned = plan_gesture(sound, seed=seed, fps=fps, sources=sources, liveliness=liveliness)
    save_gesture(planned.gesture, target)
    phrases, strokes = len(planned.prosody.phrases), len(planned.strokes)
    typer.echo(f"{target}: {len(planned.gesture)} poses, {strokes} strokes in {phrases} phrases")


@gesture.command()
def align(
    source: GestureArgument,
    portrait: Annotated[Path, typer.Argument(help="Picture of the person who is to make the gesture.")],
    out: Out = None,
) -> None:
    """Fit a gesture to the person in a portrait, and print what was changed."""
    from semibody import media
    from semibody.pose.align import align as fit
    from semibody.pose.align import portrait_notices
    from semibody.pose.detectors import detect_pose
    from semibody.pose.files import save_gesture
    from semibody.pose.library import find_gesture

    target = _target(out, Path(f"{Path(source).stem}-aligned.npz"), source, portrait)
    poses = find_gesture(source)
    picture = media.read_image(portrait)
    pose = detect_pose(picture)
    aligned, alignment = fit(poses, pose, picture.shape[1] / picture.shape[0])
    save_gesture(aligned, target)
    _print_notices([*poses.notices, *portrait_notices(pose)])
    typer.echo(f"{target}: {alignment.line()}; {alignment.outside:.0%} of hand joints outside the picture")
