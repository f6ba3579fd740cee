"""``python -m semibody`` and ``semibody``: the command line, stoppable from its first moment."""

from __future__ import annotations

import sys


def main() -> None:
    """Load the command line and run it. Ctrl-C while it loads ends with 130, as later."""
    try:
        from semibody.cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("semibody: stopped\n")
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
