"""``semibody doctor``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from semibody.cli.app import app


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show versions, devices, memory, disk and weights, and estimate the speed of this machine."""
    from semibody import doctor as room

    findings = room.examine()
    if as_json:
        typer.echo(json.dumps(room.as_dict(findings), indent=1))
        return
    for finding in findings:
        typer.echo(f"{'  ' if finding.ok else '! '}{finding.name:<32} {finding.value}")
