"""What a measurement belongs to: the commit."""

import subprocess
from pathlib import Path


def commit() -> str:
    """The commit that is measured; empty outside a repository."""
    asked = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
