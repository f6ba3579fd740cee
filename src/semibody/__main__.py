"""``python -m semibody`` is the ``semibody`` command."""

from semibody.cli import main

main()
