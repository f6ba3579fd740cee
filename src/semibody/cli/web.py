"""``semibody web``."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from semibody.cli.app import app
from semibody.cli.options import Built, with_options
from semibody.cli.progress import progress_bar
from semibody.settings import Source

Option = typer.Option


@app.command()
@with_options
def web(
    *,
    source: Annotated[Source, Built(Source)],
    host: Annotated[
        str, Option(help="0.0.0.0 serves the page to the whole network, without a password.")
    ] = "127.0.0.1",
    port: Annotated[int, Option(help="Port of the page.", min=1, max=65535)] = 7860,
    browser: Annotated[bool, Option("--browser", help="Open the page.")] = False,
) -> None:
    """Show a page in the browser that checks and animates. Ctrl-C ends it."""
    from semibody.animator import Animator
    from semibody.web import Studio, serve

    with progress_bar() as progress:
        animator = Animator.load(**dataclasses.asdict(source), progress=progress)
    with Studio(animator) as studio:
        page = serve(studio, host=host, port=port, browser=browser)
        typer.echo(f"http://{host}:{port} (Ctrl-C ends it)", err=True)
        page.block_thread()
