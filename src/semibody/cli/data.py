"""``semibody data``: make, take in and look at training data."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from semibody.cli.app import app
from semibody.cli.progress import progress_bar

data = typer.Typer(help="Make, take in and look at training data.", no_args_is_help=True)
app.add_typer(data, name="data")

Assets = Annotated[
    Path | None,
    typer.Option(
        "--assets",
        envvar="SEMIBODY_ASSETS",
        help="MakeHuman data folder (base mesh hm08, CC0); without it people are plain.",
    ),
]
Clips = Annotated[int, typer.Option(min=1, help="Clips of each person.")]
People = Annotated[int, typer.Option(min=1, help="Number of people.")]
Size = Annotated[int, typer.Option(min=64, max=2048, help="Width and height in pixels.")]
Seed = Annotated[int, typer.Option(min=0, help="Another seed, other people.")]
Heads = Annotated[float, typer.Option(min=0, max=1, help="Share of clips that show the head only.")]
Sway = Annotated[float, typer.Option(min=0, max=2, help="How far head and torso wander; 1 is lively.")]
Photographed = Annotated[
    float, typer.Option(min=0, max=1, help="Share of clips with grain, blur, compression, colour casts.")
]
Articulation = Annotated[
    float, typer.Option(min=0, max=3, help="How far mouths open in speech; 1 is a calm speaker.")
]
Planned = Annotated[
    float,
    typer.Option(min=0, max=1, help="Share of clips whose arms follow a gesture planned from the speech."),
]
Gestures = Annotated[
    Path | None,
    typer.Option(help="Folder of gestures (.npz, .json, folders of poses) for the arms to follow."),
]
Lifted = Annotated[
    float, typer.Option(min=0, max=1, help="Share of clips that follow --gestures, when given.")
]
Workers = Annotated[int, typer.Option(min=0, help="Processes; 0 = one a core.")]


@data.command()
def synthesise(
    out: Annotated[Path, typer.Argument(help="Folder of the data set; running again resumes.")],
    assets: Assets = None,
    people: People = 20,
    clips: Clips = 2,
    seconds: Annotated[float, typer.Option(min=0.04, help="Length of a clip.")] = 3.0,
    size: Size = 256,
    fps: Annotated[float, typer.Option(min=1, max=120, help="Frames per second.")] = 24.0,
    seed: Seed = 0,
    heads: Heads = 0.15,
    workers: Workers = 0,
    backgrounds: Annotated[
        Path | None, typer.Option(help="Folder of pictures to use as backgrounds too.")
    ] = None,
    speech: Annotated[Path | None, typer.Option(help="Folder of recordings to speak.")] = None,
    sway: Sway = 1.0,
    photographed: Photographed = 0.0,
    articulation: Articulation = 1.0,
    planned: Planned = 0.5,
    gestures: Gestures = None,
    lifted: Lifted = 1.0,
) -> None:
    """Render people who speak and gesture: video, sound, pose and truth of every frame."""
    from semibody.data.synthetic.produce import Order, synthesise
    from semibody.types import SemibodyError

    for folder in (backgrounds, speech):
        if folder is not None and not folder.is_dir():
            raise SemibodyError(f"{folder}: not a folder")
    if assets is None:
        typer.echo(
            "no --assets: plain people of the anny package, with painted skin and simple hair and clothes; "
            "a MakeHuman data folder gives them textures, hair and garments",
            err=True,
        )
    order = Order(
        people, clips, seconds, size, fps, seed, heads, str(backgrounds or ""), str(speech or ""), sway,
        photographed, planned, str(gestures or ""), lifted, articulation,
    )  # fmt: skip
    with progress_bar() as progress:
        entries = synthesise(out, assets, order, workers or os.cpu_count() or 1, progress)
    shown = sum(entry.frames for entry in entries)
    typer.echo(f"{out}: {people} people, {len(entries)} clips, {shown} frames")


@data.command("people")
def people_(
    out: Annotated[Path, typer.Argument(help="Folder of packed clips; running again resumes.")],
    assets: Assets = None,
    people: People = 1000,
    clips: Clips = 1,
    seconds: Annotated[float, typer.Option(min=0.1, help="Length of a clip.")] = 2.0,
    size: Size = 256,
    fps: Annotated[float, typer.Option(min=1, max=120, help="Frames per second, as data.fps.")] = 24.0,
    seed: Seed = 0,
    heads: Heads = 0.15,
    sway: Sway = 1.0,
    photographed: Photographed = 0.0,
    articulation: Articulation = 1.0,
    planned: Planned = 0.5,
    gestures: Gestures = None,
    lifted: Lifted = 1.0,
    workers: Workers = 0,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Begin no further person after so many minutes.")
    ] = None,
) -> None:
    """Render people straight into the packed clips that `train --packed` reads."""
    from semibody.data.crowd import pack_crowd
    from semibody.data.synthetic.produce import Order

    order = Order(
        people=people, clips=clips, seconds=seconds, size=size, fps=fps, seed=seed, head_share=heads,
        sway=sway, photographed=photographed, articulation=articulation, planned=planned,
        gestures=str(gestures or ""), lifted=lifted,
    )  # fmt: skip
    with progress_bar() as progress:
        there = pack_crowd(
            out, assets, order, workers=workers or os.cpu_count() or 1, minutes=minutes, progress=progress
        )
    frames = there * clips * round(seconds * fps)
    typer.echo(f"{out}: {there} of {people} people, {frames} frames at {fps:g} a second")
    if there < people:
        typer.echo("the time was up; the same command goes on")


@data.command()
def inspect(
    folder: Annotated[Path, typer.Argument(help="Data set: the folder of a manifest.jsonl.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="The page to write; default FOLDER/report.html.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the numbers as JSON, write no page.")
    ] = False,
) -> None:
    """Show what is in a data set: numbers, and a page of contact sheets with the truth drawn in."""
    from semibody.data.inspect import summary, survey, write_report
    from semibody.types import SemibodyError

    page = out or (folder if folder.is_dir() else folder.parent) / "report.html"
    if page.suffix.lower() != ".html":
        raise SemibodyError(f"{page}: the page is written as .html")
    with progress_bar() as progress:
        found = survey(folder, progress)
        if not as_json:
            write_report(folder, page, found, progress)
    if as_json:
        typer.echo(json.dumps(found.as_dict(), indent=1))
        return
    for line in summary(found):
        typer.echo(line)
    typer.echo(f"{page}: the report")


@data.command()
def ingest(
    videos: Annotated[Path, typer.Argument(help="A video or a folder of videos.")],
    out: Annotated[Path, typer.Argument(help="Folder of the data set; running again resumes.")],
    listing: Annotated[
        Path | None,
        typer.Option("--list", help="Take only what EMTD's or HumanVid's published list names."),
    ] = None,
    size: Annotated[int, typer.Option(min=64, max=2048, help="Width and height of the clips.")] = 512,
    fps: Annotated[float, typer.Option(min=1, max=120, help="Frames per second of the clips.")] = 24.0,
    shortest: Annotated[float, typer.Option(min=0.1, help="Leave out shorter scenes (seconds).")] = 2.0,
    longest: Annotated[float, typer.Option(min=0.1, help="Cut longer scenes (seconds).")] = 10.0,
    heads: Annotated[
        bool, typer.Option("--heads", help="Keep clips without hands, cropped to the head.")
    ] = False,
    detector: Annotated[str, typer.Option(help="auto, mediapipe or dwpose.")] = "auto",
    workers: Annotated[int, typer.Option(min=1, help="Videos at a time.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the account as JSON.")] = False,
) -> None:
    """Cut real videos into training clips with poses and sound; rejections are counted and explained."""
    from semibody.data.ingest import Wanted
    from semibody.data.ingest import ingest as take_in

    wanted = Wanted(size=size, fps=fps, shortest=shortest, longest=longest, heads=heads, detector=detector)
    with progress_bar() as progress:
        account = take_in(videos, out, wanted, listing, workers, progress)
    if as_json:
        typer.echo(json.dumps(account.as_dict(), indent=1))
        return
    seconds = sum(clip.seconds for clip in account.clips)
    typer.echo(f"{out}: {len(account.clips)} clips, {seconds:.1f} s; rejected {len(account.rejected)} pieces")
    for why, count in account.reasons().items():
        typer.echo(f"  {count:5d}  {why}")
    if account.rejected:
        typer.echo(f"{out / 'rejected.json'}: each rejection with its reason")
