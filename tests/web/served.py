"""``semibody web`` as a process, for the tests that ask it over HTTP or with a browser."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import made
from semibody import media
from semibody.types import Speech

PATIENCE = 300.0
"""Seconds that a busy machine may take to answer."""


@dataclass(frozen=True)
class Served:
    """A page that answers."""

    url: str
    process: subprocess.Popen[str]
    temporary: Path
    """where its folders for temporary files are"""

    def folders(self) -> list[Path]:
        return sorted(self.temporary.glob("semibody-web-*"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serve(weights: Path, temporary: Path, *options: str, proxy: bool = False) -> Iterator[Served]:
    """Start the page with weights and a folder for temporary files of its own; killed at the end.

    ``proxy``: as where a company or a tunnel sets one, which must not be asked for this machine's own page.
    """
    temporary.mkdir(exist_ok=True)
    port = free_port()
    command = [sys.executable, "-m", "semibody", "web", "--weights", str(weights), "--port", str(port)]
    command += options
    environment = {**os.environ, "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    if proxy:
        nowhere = f"http://127.0.0.1:{free_port()}"
        environment |= dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), nowhere)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            served = Served(f"http://127.0.0.1:{port}", process, temporary)
            wait_for(served)
            yield served
        finally:
            process.kill()
            process.communicate()


def wait_for(served: Served) -> None:
    import httpx

    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and served.process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            httpx.get(f"{served.url}/config", timeout=PATIENCE)
            return
        time.sleep(0.1)
    pytest.fail(f"no page: {served.process.poll()}")


def write_inputs(folder: Path, seconds: float = 1.0) -> tuple[Path, Path]:
    """A portrait without a person, whom the small model does not need, and a voice."""
    portrait, speech = folder / "me.png", folder / "hello.wav"
    media.write_image(portrait, made.picture(128, 128))
    media.write_speech(speech, made.spoken([0.4], seconds))
    return portrait, speech


def write_long_speech(path: Path, seconds: float) -> Path:
    rate = 16000
    waveform = 0.1 * np.sin(np.arange(int(seconds * rate), dtype=np.float32) / 20)
    media.write_speech(path, Speech(waveform.astype(np.float32), rate))
    return path
