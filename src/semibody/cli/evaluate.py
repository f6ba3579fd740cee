"""``semibody evaluate``: measure clips of any method, alone or against the real ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from semibody.cli.app import app
from semibody.cli.options import Built, with_options
from semibody.cli.progress import progress_bar
from semibody.evaluation.machine import Machine
from semibody.types import SemibodyError

if TYPE_CHECKING:
    from semibody.evaluation.run import Evaluation


@app.command()
@with_options
def evaluate(
    generated: Annotated[
        Path | None, typer.Argument(help="Folder of videos, manifest, or one video.", show_default=False)
    ] = None,
    real: Annotated[Path | None, typer.Argument(help="The real clips of the same names.")] = None,
    portraits: Annotated[Path | None, typer.Option(help="Folder of pictures of the same names.")] = None,
    metrics: Annotated[
        str, typer.Option(help="Names or families, by commas; default: all that can be computed.")
    ] = "",
    report: Annotated[
        list[Path] | None,
        typer.Option(
            help="Also write a page (.html) or a table (.md, .tex, .json); may be given several times."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of the protocol, e.g. features_every=1.")
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder of results of earlier runs.")] = None,
    list_metrics: Annotated[
        bool,
        typer.Option("--list", help="List every metric and what it needs that is missing here, and stop."),
    ] = False,
    *,
    machine: Annotated[Machine, Built(Machine)],
) -> None:
    """Measure generated clips: FID, FVD, PSNR, SSIM, E-FID, CSIM, Sync, HKC, HKV and more."""
    from semibody import config
    from semibody.evaluation import run, tables
    from semibody.evaluation.protocol import Protocol

    if list_metrics:
        _print_metrics()
        return
    if generated is None:
        raise SemibodyError("GENERATED is missing; give a folder of videos, a manifest or one video")
    reports = report or []
    for path in reports:
        tables.require_format(path)
    rules = config.load(Protocol, overrides=settings or [])
    if machine.device != "auto":
        rules = replace(rules, device=machine.device)
    names = [name.strip() for name in metrics.split(",") if name.strip()]
    with progress_bar() as progress:
        found = run.evaluate(
            generated,
            real,
            portraits,
            metrics=names,
            protocol=rules,
            cache=cache,
            workers=machine,
            progress=progress,
        )
    for path in reports:
        tables.write_table(found, path)
    if as_json:
        typer.echo(tables.as_json(found).rstrip())
    else:
        print_table(found)
        for path in reports:
            typer.echo(f"{path}: written")


@app.command("bench-quality")
@with_options
def bench_quality(
    recipe: Annotated[
        str,
        typer.Argument(
            help="starter, emtd, photographs, or a TOML file: cases, videos or portraits, weights, out, "
            "[settings]."
        ),
    ],
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A value of the recipe, key=value.")
    ] = None,
    *,
    machine: Annotated[Machine, Built(Machine)],
) -> None:
    """Animate every case of a test set, or a folder of photographs, and evaluate the clips. Run it again to
    continue."""
    from semibody import quality
    from semibody.quality.goals import as_lines

    if quality.is_of_photographs(recipe):
        with progress_bar() as progress:
            album = quality.bench_photographs(recipe, overrides=settings or [], progress=progress)
        for line in album.lines():
            typer.echo(line)
        return
    with progress_bar() as progress:
        made = quality.bench_quality(
            recipe,
            overrides=settings or [],
            workers=machine,
            device=machine.device,
            progress=progress,
        )
    print_table(made.found)
    for name, why in made.left_out.items():
        typer.echo(f"left out: {name}: {why}", err=True)
    for line in as_lines(made.rows) if made.rows else []:
        typer.echo(line)


@app.command("build-emtd")
def build_emtd(
    videos: Annotated[Path, typer.Argument(help="Folder of the clips of EMTD (or of any half-body videos).")],
    out: Annotated[Path, typer.Argument(help="Folder of the test set; run it again to continue.")],
    listing: Annotated[
        Path | None,
        typer.Option("--list", help="EMTD's table of addresses and times, where VIDEOS are whole ones."),
    ] = None,
    detector: Annotated[str, typer.Option(help="auto, mediapipe or dwpose.")] = "auto",
) -> None:
    """Crop videos as the official test set does: 768 x 768, 24 fps, with sound, poses and portrait."""
    from semibody.evaluation import emtd

    with progress_bar() as progress:
        problems = emtd.build(videos, out, listing=listing, detector=detector, progress=progress)
    for problem in problems:
        typer.echo(f"left out: {problem.name}: {problem.what}", err=True)
    typer.echo(f"{out}: written")


def print_table(found: Evaluation) -> None:
    """The numbers, what could not be computed, and notes, on the terminal."""
    from semibody.evaluation.metrics import METRICS
    from semibody.evaluation.report import ARROWS, show

    typer.echo(f"{len(found.items)} clips, {found.seconds:.0f} s")
    typer.echo(f"{'metric':<22} {'value':>9}  {'95 % interval':<19} {'of REAL':>9}  unit")
    for name, measured in found.results.items():
        metric = METRICS[name]
        interval = measured.interval
        between = f"{show(interval.low)} … {show(interval.high)}" if interval else ""
        theirs = show(measured.real) if measured.real is not None else ""
        title = f"{name} {ARROWS[metric.better]}"
        typer.echo(
            f"{title:<22} {show(measured.value):>9}  {between:<19} {theirs:>9}  {metric.unit}".rstrip()
        )
    for name, why in found.not_computed.items():
        typer.echo(f"{name}: not computed: {why}")
    for name, measured in found.results.items():
        for note in measured.notes:
            typer.echo(f"note: {name}: {note}")
    for problem in found.problems:
        typer.echo(f"{'left out' if problem.fatal else 'note'}: {problem.name}: {problem.what}", err=True)


def _print_metrics() -> None:
    from semibody.evaluation.metrics import METRICS

    for metric in METRICS.values():
        missing = metric.missing()
        state = f"not here: {missing}" if missing else "ready"
        kind = "standard" if metric.standard else "stand-in" if metric.stand_in else "ours"
        typer.echo(f"{metric.name:<20} {kind:<9} {metric.about}. {state}")
