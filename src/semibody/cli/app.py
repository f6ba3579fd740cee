"""The typer application and the options shared by many subcommands."""

from __future__ import annotations

import typer

import semibody

app = typer.Typer(
    name="semibody",
    help="One picture of a half body, speech and hand poses in; a talking, gesturing person out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(requested: bool) -> None:
    if requested:
        typer.echo(f"semibody {semibody.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    pass
