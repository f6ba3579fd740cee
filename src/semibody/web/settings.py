"""How the page is served: the options of ``semibody web``."""

from __future__ import annotations

from dataclasses import dataclass

from semibody.config import option

LONGEST_SPEECH = 300.0
"""Seconds of speech that a page takes, unless it is told otherwise."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How the page is served."""

    host: str = "127.0.0.1"
    """Address to listen at. 0.0.0.0 is the whole network, and needs --auth or --without-password."""
    port: int = option(7860, at_least=1, at_most=65535)
    """Port of the page."""
    auth: str | None = None
    """name:password that the page asks for; better in the variable SEMIBODY_AUTH."""
    without_password: bool = False
    """Let everybody on the network use the page."""
    hostname: str | None = None
    """Name under which the page is reached where it is not this machine's own, as behind a proxy."""
    longest: float = option(LONGEST_SPEECH, at_least=1)
    """Most seconds of speech of a clip."""
    browser: bool = False
    """Open the page."""
