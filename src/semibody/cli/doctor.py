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

    facts = room.examine()
    if as_json:
        typer.echo(json.dumps(room.as_dict(facts), indent=1))
        return
    for fact in facts:
        typer.echo(f"{'  ' if fact.ok else '! '}{fact.name:<32} {fact.value}")
