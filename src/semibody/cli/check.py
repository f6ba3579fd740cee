"""``semibody check``: what may go wrong with the inputs, before minutes are spent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from semibody.cli.animate import parse_size
from semibody.cli.app import app
from semibody.types import SemibodyError

_MARKS = {"good": "ok", "note": "note", "warning": "WARNING", "error": "ERROR"}


@app.command()
def check(
    portrait: Annotated[Path, typer.Argument(help="Picture of a half body.")],
    gesture: Annotated[
        str | None, typer.Argument(help="Name, file or folder of a gesture; auto plans it from SPEECH.")
    ] = None,
    speech: Annotated[Path | None, typer.Argument(help="Recording.")] = None,
    size: Annotated[str, typer.Option(help="Side, or width x height, of the video to be made.")] = "768",
    frame: Annotated[str, typer.Option(help="auto or keep, as for animate.")] = "auto",
    align: Annotated[str, typer.Option(help="auto or none, as for animate.")] = "auto",
    overlay: Annotated[
        Path | None, typer.Option("--overlay", "-o", help="Write a picture of portrait, pose and gesture.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 2 at a warning too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Say what may go wrong with PORTRAIT, and with a GESTURE and SPEECH on it; computes no video."""
    from semibody import config, media
    from semibody.check import check_inputs
    from semibody.files import refuse_input
    from semibody.inputs import Settings

    if overlay is not None:
        refuse_input(overlay, portrait, gesture, speech)
    width, height = parse_size(size)
    settings = config.build(Settings, {"width": width, "height": height, "frame": frame, "align": align})
    report = check_inputs(portrait, gesture, speech, settings)
    if overlay is not None:
        media.write_image(overlay, report.overlay)
    if as_json:
        typer.echo(json.dumps(report.as_dict(), indent=2))
    else:
        for finding in report.findings:
            typer.echo(f"{_MARKS[finding.level]:<8} {finding.topic:<11} {finding.line()}")
    if report.worst == "error" or (strict and report.worst == "warning"):
        raise SemibodyError(f"{portrait}: {report.findings[0].line()}")
