"""A stand-in of the Hugging Face Hub on this machine, which can break off in the middle."""

from __future__ import annotations

import hashlib
import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

COMMIT = "a" * 40


class StandIn(BaseHTTPRequestHandler):
    """Serves every file of every repository, like the Hub does: those of ``files``, and of all others bytes
    made from their names."""

    requests: list[tuple[str, str]] = []  # noqa: RUF012 - shared on purpose
    broken: set[str] = set()  # noqa: RUF012
    files: dict[tuple[str, str], Path] = {}  # noqa: RUF012

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
        content = self.content(path)
        if path.rsplit("/", 1)[-1] in self.broken:
            return self.send_error(404)
        headers = {
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
        }
        return self.send(content, headers, body=body)

    @classmethod
    def content(cls, path: str) -> bytes:
        """What is served under a path: a file of ``files`` by its repository and name, else made-up bytes."""
        repository, _, rest = path.lstrip("/").partition("/resolve/")
        file = cls.files.get((repository, rest.partition("/")[2]))
        return (path * 50).encode() if file is None else file.read_bytes()

    def send(self, content: bytes, headers: dict[str, str], *, body: bool) -> None:
        self.send_response(200)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass
