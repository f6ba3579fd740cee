"""The page in the browser: what its buttons do, and that it is served whole from this machine."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import made
from semibody import media
from semibody.animator import Animator
from semibody.settings import Settings
from semibody.types import SemibodyError
from semibody.web import Studio

pytest.importorskip("gradio", reason="the extra web is not installed")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    media.write_image(folder / "portrait.png", made.picture())
    media.write_speech(folder / "speech.wav", made.tone(0.5))
    return folder


@pytest.fixture(scope="module")
def studio() -> Iterator[Studio]:
    animator = Animator.random(
        made.small_config(), width=64, height=64, steps=2, guidance=1.0, fps=8.0, align="none"
    )
    with Studio(animator) as studio:
        yield studio


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_what_the_buttons_do(studio: Studio, files: Path) -> None:
    portrait, speech = str(files / "portrait.png"), str(files / "speech.wav")
    overlay, notices = studio.check(portrait, None, frame="keep")
    assert overlay.ndim == 3
    assert notices.startswith("- ")
    path, notices = studio.animate(portrait, speech, "wave", frame="keep", length=3)
    assert len(media.read_clip(path).frames) == 3
    assert "3 frames" in notices
    assert path.exists()


def test_mistakes_are_one_line(studio: Studio, files: Path) -> None:
    with pytest.raises(SemibodyError, match="add a picture first"):
        studio.check(None, None)
    with pytest.raises(SemibodyError, match="add a recording first"):
        studio.animate(str(files / "portrait.png"), None)
    with pytest.raises(SemibodyError, match="neither a file nor"):
        studio.animate(str(files / "portrait.png"), str(files / "speech.wav"), "no such gesture")


def test_the_page_is_served_and_animates(files: Path, tmp_path: Path) -> None:
    """``semibody web`` as it is called, asked over HTTP as a browser asks it."""
    import httpx

    made.weights_folder(tmp_path / "weights")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "semibody", "web", "--weights", str(tmp_path / "weights"), "--port"]
    # A proxy, as companies and tunnels set it, is not asked for this machine's own page.
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), f"http://127.0.0.1:{free_port()}")
    environment = {**os.environ, **proxies}
    with subprocess.Popen(
        [*command, str(port)], stderr=subprocess.PIPE, text=True, env=environment
    ) as server:
        try:
            wait_for(url, server)
            text = httpx.get(url).text
            assert "Semibody" in text
            fetched = re.findall(r"""<(?:script|link)[^>]+(?:src|href)=["'](https?://[^"']+)""", text)
            assert [f for f in fetched if "127.0.0.1" not in f] == []

            portrait, speech = upload(url, files / "portrait.png"), upload(url, files / "speech.wav")
            # Every setting without a part of its own follows; None is what the weights have.
            others = [f.name for f in dataclasses.fields(Settings)]
            for own in ("frame", "seed", "steps", "guidance", "length"):
                others.remove(own)
            rest = [5.0 if name == "fps" else None for name in others]
            inputs: list[object] = [portrait, speech, "wave", None, "keep", 7, 2, 1.0, 0.6, *rest]
            kind, answer = ask(url, "animate", inputs)
            assert kind == "complete", answer
            video, notices = answer
            (tmp_path / "clip.mp4").write_bytes(httpx.get(video["url"]).content)
            frames = len(media.read_clip(tmp_path / "clip.mp4").frames)
            assert frames == 2  # of the 0.5 s of speech at 5 frames a second
            assert f"{frames} frames" in notices
            kind, answer = ask(url, "animate", [None, *inputs[1:]])
            assert (kind, answer["error"]) == ("error", "add a picture first")

            second = subprocess.run([*command, str(port)], capture_output=True, text=True, check=False)
            assert second.returncode == 2
            assert f"port {port} is taken" in second.stderr
        finally:
            server.send_signal(signal.SIGINT)
            server.communicate(timeout=30)


def wait_for(url: str, server: subprocess.Popen[str]) -> None:
    import httpx

    until = time.monotonic() + 60
    while time.monotonic() < until and server.poll() is None:
        try:
            httpx.get(url)
        except httpx.TransportError:
            time.sleep(0.2)
        else:
            return
    pytest.fail(f"no page: {server.poll()}")


def upload(url: str, path: Path) -> dict[str, object]:
    import httpx

    (stored,) = httpx.post(f"{url}/gradio_api/upload", files={"files": (path.name, path.read_bytes())}).json()
    return {"path": stored, "meta": {"_type": "gradio.FileData"}}


def ask(url: str, verb: str, inputs: list[object]) -> tuple[str, Any]:
    """What a button answers: ``complete`` and its outputs, or ``error``."""
    import httpx

    event = httpx.post(f"{url}/gradio_api/call/{verb}", json={"data": inputs}).json()["event_id"]
    kind = ""
    with httpx.stream("GET", f"{url}/gradio_api/call/{verb}/{event}", timeout=60) as stream:
        for line in stream.iter_lines():
            name, _, value = line.partition(": ")
            kind = value if name == "event" else kind
            if name == "data" and kind in ("complete", "error"):
                return kind, json.loads(value)
    raise AssertionError("the server ended without an answer")
