"""``semibody say``: a text as a recording, and which voices there are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from semibody.cli.app import app
from semibody.types import SemibodyError


@app.command()
def say(
    text: Annotated[str | None, typer.Argument(help="What is said.", show_default=False)] = None,
    *,
    voice: Annotated[str | None, typer.Option(help="Who says it: en-us, de, en-gb+f3 …")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Recording to write (wav, flac).")] = Path(
        "speech.wav"
    ),
    voices: Annotated[bool, typer.Option("--voices", help="List the voices instead.")] = False,
) -> None:
    """Speak TEXT into a recording, as `animate --say` does into a video."""
    from semibody import media
    from semibody.files import require_writable
    from semibody.voices import speaking

    if voices:
        for one in speaking.require_installed():
            typer.echo(f"{one.name:<18} {one.about}")
        typer.echo(f"variants, added with +: {' '.join(speaking.variants())}")
        return
    if text is None:
        raise SemibodyError("there is nothing to say; write the text, or --voices to list the voices")
    require_writable(out)
    spoken = speaking.say(text, voice)
    media.write_speech(out, spoken.speech)
    typer.echo(f"{out}: {spoken.speech.seconds:.1f} s, voice {spoken.voice}")
