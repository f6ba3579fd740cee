"""The door of the page: who is let in, and how much they may bring."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import MutableMapping
from typing import Any

import pytest

from semibody.types import SemibodyError
from semibody.web.guard import LARGEST_REQUEST, UPLOAD, Guard, is_private, require_access

OWN = "localhost:7860"


async def _reader(scope: Any, receive: Any, send: Any) -> None:
    """An application that reads a whole body and answers 200."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def ask(
    path: str = "/", *, body: list[bytes] | None = None, password: str | None = None, **headers: str
) -> tuple[int, str]:
    """Status and text that a request is answered with."""
    sent: list[MutableMapping[str, Any]] = []
    chunks = list(body or [b""])

    async def receive() -> dict[str, Any]:
        chunk = chunks.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    given = {"host": OWN, **headers}
    scope = {
        "type": "http",
        "path": path,
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in given.items()],
    }
    guard = Guard(_reader, hosts={"localhost", "page.example"}, largest_upload=10 * 2**20, password=password)
    asyncio.run(guard(scope, receive, send))
    text = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], text.decode()


@pytest.mark.parametrize(
    "host", ["localhost:7860", "LOCALHOST", "127.0.0.1:7860", "192.168.1.7", "[::1]:7860", "page.example"]
)
def test_own_names_and_addresses_are_let_in(host: str) -> None:
    assert ask(host=host)[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "", "[", "127.0.0.1.evil.example"]
)
def test_other_names_are_refused(host: str) -> None:
    status, text = ask(host=host)
    assert status == 421
    assert "--hostname" in text


def test_pages_of_other_sites_are_refused() -> None:
    assert ask(origin="http://evil.example")[0] == 403
    assert ask(origin="http://localhost:9999")[0] == 403
    assert ask(origin=f"http://{OWN}")[0] == 200


def test_the_password() -> None:
    def basic(text: str) -> str:
        return "Basic " + base64.b64encode(text.encode()).decode()

    assert ask(password="ada:love")[0] == 401
    assert ask(password="ada:love", authorization=basic("ada:hate"))[0] == 401
    assert ask(password="ada:love", authorization="Bearer x")[0] == 401
    assert ask(password="ada:love", authorization=basic("ada:love"))[0] == 200


def test_bodies_have_a_limit_stated_or_not() -> None:
    assert ask("/x", content_length=str(LARGEST_REQUEST + 1))[0] == 413
    assert ask("/x", content_length="-1")[0] == 413
    assert ask(UPLOAD, content_length=str(LARGEST_REQUEST + 1))[0] == 200
    megabyte = bytes(2**20)
    assert ask("/x", body=[megabyte] * 5)[0] == 413, "it had not said how long it is"
    assert ask(UPLOAD, body=[megabyte] * 5)[0] == 200
    assert ask(UPLOAD, body=[megabyte] * 11)[0] == 413


def test_a_page_for_the_network_needs_a_password_or_a_flag() -> None:
    require_access("127.0.0.1", None, open_to_all=False)
    require_access("localhost", None, open_to_all=False)
    require_access("0.0.0.0", "ada:love", open_to_all=False)
    require_access("::", None, open_to_all=True)
    for host in ("0.0.0.0", "::", "192.168.1.7", "myhost"):
        assert not is_private(host)
        with pytest.raises(SemibodyError, match="add --auth name:password, or --without-password"):
            require_access(host, None, open_to_all=False)
    for wrong in ("secret", ":secret", "ada:"):
        with pytest.raises(SemibodyError, match="write it as name:password"):
            require_access("127.0.0.1", wrong, open_to_all=False)
