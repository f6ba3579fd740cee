"""``semibody provenance``."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from semibody.cli.app import app
from semibody.types import MissingPartError, SemibodyError


@app.command()
def provenance(
    video: Annotated[Path, typer.Argument(help="A video.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a video says of its making: content credentials (C2PA) and Semibody's own metadata."""
    from semibody import media
    from semibody.files import require_file
    from semibody.media.provenance import read

    require_file(video, "a video file")
    metadata, missing = media.read_metadata(video), ""
    try:
        credentials = read(video)
    except MissingPartError as error:
        credentials, missing = None, str(error)
    if as_json:
        found = dataclasses.asdict(credentials) if credentials else None
        typer.echo(json.dumps({"credentials": found, "metadata": metadata}, indent=1, sort_keys=True))
    else:
        for name, value in [*_credentials(credentials, missing), *_metadata(metadata)]:
            typer.echo(f"{name:<18} {value}")
    if credentials is not None and not credentials.intact:
        why = ", ".join(credentials.failures)
        raise SemibodyError(f"{video}: was changed after it was signed ({why}); do not rely on what it says")


def _credentials(found: Any, missing: str) -> list[tuple[str, str]]:
    if found is None:
        return [("credentials", f"not read: {missing}" if missing else "none")]
    signer = "" if found.known else " (a key on no list of trusted signers: it shows no identity)"
    return [
        ("credentials", "as signed" if found.intact else "NOT as signed"),
        ("made by", f"{found.maker}, {'a trained model' if found.made_by_model else 'no model is named'}"),
        ("signed by", f"{found.signer}{signer}"),
        *((f"{what} SHA-256", hashed) for what, hashed in found.sources.items()),
    ]


def _metadata(metadata: dict[str, Any]) -> list[tuple[str, str]]:
    if not metadata:
        return [("metadata", "none of Semibody")]
    settings = metadata.get("settings")
    chosen = settings if isinstance(settings, dict) else {}
    plain = [(key, str(value)) for key, value in metadata.items() if key != "settings"]
    return [*plain, *((key, str(value)) for key, value in chosen.items() if value is not None)]
