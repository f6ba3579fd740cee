"""``semibody check``: what may go wrong with the inputs, before anything is computed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from semibody.cli.app import app
from semibody.cli.options import Built, Changes, parse_size, with_options
from semibody.config import option
from semibody.settings import DENOISING, Settings, Source, Words, resolve
from semibody.types import SemibodyError

_MARKS = {"good": "ok", "note": "note", "warning": "WARNING", "error": "ERROR"}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """How the findings are given."""

    overlay: Path | None = option(None, short="-o")
    """Write a picture of portrait, pose and gesture."""
    as_json: bool = option(False, name="--json")
    """Print as JSON."""


@app.command()
@with_options
def check(
    portrait: Annotated[Path, typer.Argument(help="Picture of a half body.")],
    gesture: Annotated[
        str | None, typer.Argument(help="Name, file or folder of a gesture; auto plans it from SPEECH.")
    ] = None,
    speech: Annotated[Path | None, typer.Argument(help="Recording.")] = None,
    *,
    words: Annotated[Words, Built(Words)],
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
    answer: Annotated[Answer, Built(Answer)],
) -> None:
    """List what may go wrong with PORTRAIT, and with a GESTURE and SPEECH on it; computes no video."""
    from semibody import media
    from semibody.check import check_inputs
    from semibody.files import refuse_input
    from semibody.inputs import choose_speech

    if answer.overlay is not None:
        refuse_input(answer.overlay, portrait, gesture, speech)
    if size is not None:
        width, height = parse_size(size)
        changes |= {"width": width, "height": height}
    settings = resolve(Source(weights=weights), need_files=False).settings(changes)
    report = check_inputs(portrait, gesture, choose_speech(speech, words), settings)
    if answer.overlay is not None:
        media.write_image(answer.overlay, report.overlay)
    if answer.as_json:
        typer.echo(json.dumps(report.as_dict(), indent=2))
    else:
        for finding in report.findings:
            typer.echo(f"{_MARKS[finding.level]:<8} {finding.topic:<11} {finding.line()}")
    if report.worst == "error" or (settings.strict and report.worst == "warning"):
        raise SemibodyError(f"{portrait}: {report.findings[0].line()}")
