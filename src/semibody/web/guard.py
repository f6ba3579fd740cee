"""Who may ask for what: the page's door, an ASGI middleware before everything else.

It refuses, with a sentence: names of this machine that a foreign site could have made up (DNS rebinding),
requests that another site's page sends (cross-site), callers without the password, and bodies that are too
large.
"""

from __future__ import annotations

import base64
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from semibody.types import SemibodyError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LARGEST_REQUEST = 4 * 2**20
"""Bytes of a request that is no upload."""
UPLOAD = "/gradio_api/upload"


class TooLargeError(Exception):
    """A body that was longer than it may be, without having said so."""


class Guard:
    """The application behind the checks. ``password`` is ``name:password``; without one nobody is asked."""

    def __init__(
        self, app: App, *, hosts: Collection[str], largest_upload: int, password: str | None = None
    ) -> None:
        self._app, self._largest_upload = app, largest_upload
        self._hosts = {host.lower() for host in hosts}
        self._password = None if password is None else base64.b64encode(password.encode()).decode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # the page uses no web sockets
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await _answer(send, *refusal)
            return
        limit = self._limit(scope)
        begun = False

        async def limited() -> MutableMapping[str, Any]:
            nonlocal limit
            message = await receive()
            limit -= len(message.get("body", b""))
            if limit < 0:
                raise TooLargeError
            return message

        async def noticed(message: MutableMapping[str, Any]) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, limited, noticed)
        except TooLargeError:
            if not begun:
                await _answer(send, 413, "too large")

    def _limit(self, scope: Scope) -> int:
        return self._largest_upload + 2**16 if scope["path"] == UPLOAD else LARGEST_REQUEST

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if not self._known(host):
            name = host_of(host) or "none"
            return 421, f"this page is not called {name[:80]}; start it with --hostname {name[:80]} if it is"
        origin = headers.get("origin")
        if origin not in (None, "null") and urlsplit(origin or "").netloc.lower() != host.lower():
            return 403, "another site's page may not use this one"
        if self._password is not None and not self._has_password(headers.get("authorization", "")):
            return 401, "this page asks for a name and a password"
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > self._limit(scope):
            megabytes = self._limit(scope) / 2**20
            return 413, f"this is too large; the page takes {megabytes:.0f} MB"
        return None

    def _known(self, host: str) -> bool:
        """Names that were given, and addresses: a foreign site cannot make up one of these."""
        name = host_of(host)
        if name in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _has_password(self, header: str) -> bool:
        kind, _, value = header.partition(" ")
        assert self._password is not None
        return kind.lower() == "basic" and hmac.compare_digest(
            value.strip().encode(), self._password.encode()
        )


def host_of(header: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return (urlsplit(f"//{header}").hostname or "").lower()
    except ValueError:
        return ""


async def _answer(send: Send, status: int, text: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    if status == 401:
        headers.append((b"www-authenticate", b'Basic realm="Semibody", charset="UTF-8"'))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": f"{text}\n".encode()})


def is_private(host: str) -> bool:
    """Whether only this machine can reach a page at ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def require_access(host: str, password: str | None, *, open_to_all: bool) -> None:
    """Raise SemibodyError for a page that the whole network could use without a password."""
    if password is not None and (":" not in password or password.startswith(":") or password.endswith(":")):
        raise SemibodyError("--auth: write it as name:password")
    if not is_private(host) and password is None and not open_to_all:
        raise SemibodyError(
            f"--host {host} shows the page to the whole network; add --auth name:password, "
            "or --without-password if everybody there may use it"
        )
