"""Print the sensitivity table of docs/evaluation.md: which metric feels which damage.

    semibody data synthesise people --assets MAKEHUMAN --people 8 --clips 2 --size 256
    python benchmarks/sensitivity.py people --work out/sensitivity

About ten minutes on two cores; the same command again is done in seconds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from semibody.cli.progress import progress_bar
from semibody.evaluation.sensitivity import as_markdown, sensitivity


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder made by `semibody data synthesise`")
    parser.add_argument("--work", type=Path, default=Path("out/sensitivity"), help="damaged videos and cache")
    parser.add_argument("--clips", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--workers", type=int, default=0)
    given = parser.parse_args()
    with progress_bar() as progress:
        curves = sensitivity(
            given.data,
            given.work,
            clips=given.clips,
            seconds=given.seconds,
            workers=given.workers,
            progress=progress,
        )
    print(as_markdown(curves))


if __name__ == "__main__":
    main()
