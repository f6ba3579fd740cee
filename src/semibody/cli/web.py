"""``semibody web``."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from semibody.cli.app import app
from semibody.cli.options import Built, with_options
from semibody.settings import Source
from semibody.web.settings import Options


@app.command()
@with_options
def web(*, source: Annotated[Source, Built(Source)], options: Annotated[Options, Built(Options)]) -> None:
    """Show a page in the browser that checks and animates. Ctrl-C ends it."""
    from semibody.web.server import serve

    code = serve(source, options, say=lambda text: typer.echo(text, err=True))
    if code:
        typer.echo("semibody: stopped; the page's files were removed", err=True)
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads may still be inside a network's layer; Python's orderly end would abort the process.
    os._exit(code)
