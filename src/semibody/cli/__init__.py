"""The ``semibody`` command. A subcommand parses, calls one function and prints.

Each group of subcommands has a module of its own here; ``main`` turns a user's mistake into one line
and exit code 2. Heavy libraries are imported inside the subcommands, so ``--help`` stays instant.
"""

from __future__ import annotations

import sys

from semibody.cli import (  # noqa: F401 - each registers its subcommands
    animate,
    batch,
    check,
    data,
    doctor,
    evaluate,
    gesture,
    provenance,
    say,
    train,
    web,
    weights,
)
from semibody.cli.app import app
from semibody.types import SemibodyError, one_line

EXIT_MISTAKE, EXIT_INTERRUPTED = 2, 130


def main() -> None:
    """Run the command line; exits with 0, 2 (the user's mistake) or 130 (Ctrl-C)."""
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    try:
        app()
    except SystemExit as exited:
        # typer turns Ctrl-C into this code without a message.
        if exited.code == EXIT_INTERRUPTED:
            print("semibody: stopped; nothing half-written was kept", file=sys.stderr)
        raise
    except SemibodyError as error:
        _exit(str(error), EXIT_MISTAKE, debug)
    except OSError as error:
        from semibody.files import DISK_ERRORS

        if error.errno not in DISK_ERRORS:
            raise
        where = f"{error.filename}: " if error.filename else ""
        remedy = "free some space or choose another place with -o"
        _exit(f"{where}cannot be written ({error.strerror}); {remedy}", EXIT_MISTAKE, debug)
    except (MemoryError, RuntimeError) as error:
        from semibody.runtime import is_out_of_memory, out_of_memory

        if not is_out_of_memory(error):
            raise
        _exit(out_of_memory(), EXIT_MISTAKE, debug)


def _exit(message: str, code: int, debug: bool) -> None:
    if debug:
        raise  # noqa: PLE0704 - called from an except block only
    print(f"semibody: {one_line(message)}", file=sys.stderr)
    sys.exit(code)
