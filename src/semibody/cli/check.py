"""``semibody check``: what may go wrong with the inputs, before anything is computed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from semibody.cli.app import app
from semibody.cli.options import Changes, parse_size, with_options
from semibody.settings import DENOISING, Settings, Source, resolve
from semibody.types import SemibodyError

_MARKS = {"good": "ok", "note": "note", "warning": "WARNING", "error": "ERROR"}


@app.command()
@with_options
def check(
    portrait: Annotated[Path, typer.Argument(help="Picture of a half body.")],
    gesture: Annotated[
        str | None, typer.Argument(help="Name, file or folder of a gesture; auto plans it from SPEECH.")
    ] = None,
    speech: Annotated[Path | None, typer.Argument(help="Recording.")] = None,
    *,
    size: Annotated[
        str | None,
        typer.Option(
            help="Side, or width x height, of the video to be made.", show_default="that of the weights"
        ),
    ] = None,
    weights: Annotated[
        str | None, typer.Option("--weights", "-w", help="As for `animate`; their size is looked at.")
    ] = None,
    changes: Annotated[dict[str, Any], Changes(Settings, skip=DENOISING)],
    overlay: Annotated[
        Path | None, typer.Option("--overlay", "-o", help="Write a picture of portrait, pose and gesture.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List what may go wrong with PORTRAIT, and with a GESTURE and SPEECH on it; computes no video."""
    from semibody import media
    from semibody.check import check_inputs
    from semibody.files import refuse_input

    if overlay is not None:
        refuse_input(overlay, portrait, gesture, speech)
    if size is not None:
        width, height = parse_size(size)
        changes |= {"width": width, "height": height}
    settings = resolve(Source(weights=weights), need_files=False).settings(changes)
    report = check_inputs(portrait, gesture, speech, settings)
    if overlay is not None:
        media.write_image(overlay, report.overlay)
    if as_json:
        typer.echo(json.dumps(report.as_dict(), indent=2))
    else:
        for finding in report.findings:
            typer.echo(f"{_MARKS[finding.level]:<8} {finding.topic:<11} {finding.line()}")
    if report.worst == "error" or (settings.strict and report.worst == "warning"):
        raise SemibodyError(f"{portrait}: {report.findings[0].line()}")
