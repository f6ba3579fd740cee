"""``semibody web``."""

from __future__ import annotations

from typing import Annotated

import typer

from semibody.cli.app import app
from semibody.cli.progress import progress_bar

Option = typer.Option


@app.command()
def web(
    weights: Annotated[
        str | None,
        Option("--weights", "-w", help="starter, official, accelerated or a weights folder."),
    ] = None,
    preset: Annotated[str | None, Option(help="official or accelerated, for a published folder.")] = None,
    host: Annotated[
        str, Option(help="0.0.0.0 shows the page to the whole network: it asks for no password.")
    ] = "127.0.0.1",
    port: Annotated[int, Option(help="Port of the page.", min=1, max=65535)] = 7860,
    browser: Annotated[bool, Option("--browser", help="Open the page.")] = False,
    precision: Annotated[str, Option(help="auto, fp32, bf16 or fp16.")] = "auto",
    device: Annotated[str, Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
) -> None:
    """Show a page in the browser that checks and animates. Ctrl-C ends it."""
    from semibody.animator import Animator
    from semibody.web import Studio, serve

    with progress_bar() as progress:
        animator = Animator.load(
            weights, preset=preset, precision=precision, device=device, progress=progress
        )
    with Studio(animator) as studio:
        page = serve(studio, host=host, port=port, browser=browser)
        typer.echo(f"http://{host}:{port} (Ctrl-C ends it)", err=True)
        page.block_thread()
