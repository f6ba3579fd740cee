"""Fetching, against a loopback stand-in of the Hub that can break off in the middle."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from semibody.types import SemibodyError
from semibody.weights import hub

COMMIT = "a" * 40


class StandIn(BaseHTTPRequestHandler):
    """Serves every file of every repository as bytes made from its name, like the Hub does."""

    requests: list[tuple[str, str]] = []  # noqa: RUF012 - shared on purpose
    broken: set[str] = set()  # noqa: RUF012

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        path = self.path.split("?")[0]
        if path.startswith("/api/models/"):
            name = path.removeprefix("/api/models/").split("/revision/")[0]
            return self.send(json.dumps({"id": name, "sha": COMMIT, "siblings": []}).encode(), {}, body=body)
        if "/resolve/" not in path:
            return self.send_error(404)
        if body:
            self.requests.append((self.command, path))
        content = (path * 50).encode()
        if path.rsplit("/", 1)[-1] in self.broken:
            return self.send_error(404)
        headers = {
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
        }
        return self.send(content, headers, body=body)

    def send(self, content: bytes, headers: dict[str, str], *, body: bool) -> None:
        self.send_response(200)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[StandIn]]:
    import huggingface_hub.constants as constants

    server = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("SEMIBODY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_ENDPOINT", address)
    StandIn.requests.clear()
    StandIn.broken.clear()
    yield StandIn
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("name", ["official", "accelerated"])
def test_fetch_places_every_file(stand_in: type[StandIn], name: str) -> None:
    folder = hub.fetch(name)
    for file in hub.SETS[name]:
        assert file.name.split("/")[-1] in (folder / file.place).read_text()
    assert json.loads((folder / hub.LOCK).read_text())[hub.ECHOMIMIC] == COMMIT
    assert hub.find_weights(name) == (folder, name)


def test_fetch_continues_where_it_stopped(stand_in: type[StandIn]) -> None:
    stand_in.broken.add("motion_module.pth")
    with pytest.raises(SemibodyError, match="run the same command again"):
        hub.fetch("official")
    before = len(stand_in.requests)
    stand_in.broken.clear()
    folder = hub.fetch("official")
    again = [path for _, path in stand_in.requests[before:]]
    assert [p.rsplit("/", 1)[-1] for p in again] == ["motion_module.pth"], (
        "complete files are not fetched twice"
    )
    assert (folder / "motion_module.pth").exists()


def test_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(SemibodyError, match="unknown weights"):
        hub.fetch("other")
    with pytest.raises(SemibodyError, match="no such weights folder"):
        hub.find_weights(str(tmp_path / "none"))
