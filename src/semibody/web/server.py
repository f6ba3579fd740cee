"""The page as a process: its port, its folder, its threads, and how it ends.

    code = serve(Source(), Options(port=7860))      # returns after Ctrl-C (130) or SIGTERM (143)

The order is the user's: what is wrong with the options or the port is said at once, then comes the page, and
the weights are loaded behind it. At the end clips that are being made are stopped, and the folder is removed.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

from semibody.types import SemibodyError
from semibody.web import words
from semibody.web.guard import Guard, require_access
from semibody.web.jobs import Jobs
from semibody.web.quick import import_gradio
from semibody.web.settings import Options
from semibody.web.studio import Made, Order, Studio
from semibody.web.uploads import LARGEST_UPLOAD, Store

if TYPE_CHECKING:
    from semibody.settings import Source

PASSWORD_VARIABLE = "SEMIBODY_AUTH"  # noqa: S105 - its name
"""Where the password may stand instead of ``--auth``, which every user of the machine can read."""
PAGE_FIRST = 1.0
"""Seconds between the page and the loading of the weights."""
STOP_SECONDS = 4.0
"""How long the end waits for a clip's next report."""
_ENVIRONMENT = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",
    "GRADIO_ALLOWED_PATHS": "",
    "GRADIO_SHARE": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
"""What Gradio reads from the environment when it is imported; nothing of it asks another host."""


def serve(source: Source, options: Options, *, say: Callable[[str], None] = print) -> int:
    """Serve the page until a signal ends it; returns the exit code. ``say`` is told the address.

    Raises SemibodyError for options that do not go together, a taken port, and weights that cannot be loaded.
    """
    options = dataclasses.replace(options, auth=options.auth or os.environ.get(PASSWORD_VARIABLE))
    require_access(options.host, options.auth, open_to_all=options.without_password)
    with (
        listen(options.host, options.port) as listener,
        Store(longest_speech=options.longest) as store,
        _Ending() as ending,
    ):
        # Gradio takes its folder for files from the environment, once, when it is imported.
        os.environ |= {**_ENVIRONMENT, "GRADIO_TEMP_DIR": str(store.uploads)}
        studio = Studio(source, store)
        jobs: Jobs[Order, Made] = Jobs(
            studio.make, prepare=studio.load, discard=studio.discard, explain=words.reason_of
        )
        try:
            server = _server(studio, jobs, options)
            ending.server = server

            def started() -> None:
                # The page's first answers come before the import of torch, which slows them.
                threading.Timer(PAGE_FIRST, jobs.start).start()
                address = f"http://{options.host}:{options.port}"
                say(f"{address} (Ctrl-C ends it)")
                if options.browser:
                    import webbrowser

                    webbrowser.open(address)

            server.started_call = started
            threading.Thread(target=_watch_weights, args=(jobs, server), daemon=True).start()
            server.run(sockets=[listener])
        finally:
            jobs.close(STOP_SECONDS)
        if jobs.broken is not None and ending.received is None:
            raise jobs.broken
        return 0 if ending.received is None else 128 + ending.received


def _watch_weights(jobs: Jobs[Order, Made], server: Any) -> None:
    """End the page if its weights cannot be loaded: nothing could be made with it."""
    import time

    while not jobs.ready and not server.should_exit:
        if jobs.broken is not None:
            time.sleep(1.5)  # those who already look at the page are told
            server.should_exit = True
        time.sleep(0.1)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises SemibodyError for a taken port and a foreign address."""
    bare = host.strip("[]")
    family = socket.AF_INET6 if ":" in bare else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((bare, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        if isinstance(error, socket.gaierror) or error.errno == 99:
            raise SemibodyError(
                f"--host {host}: is no address of this machine; use 127.0.0.1 or 0.0.0.0"
            ) from None
        if isinstance(error, PermissionError):
            raise SemibodyError(f"port {port} needs more rights; choose one from 1024 with --port") from None
        raise SemibodyError(f"port {port} is taken; choose another with --port") from None
    return listener


def application(studio: Studio, jobs: Jobs[Order, Made], options: Options) -> Any:
    """The page as an ASGI application behind its guard. Raises MissingPartError without Gradio."""
    gr = import_gradio()
    from fastapi import FastAPI

    from semibody.web.files import add_files
    from semibody.web.page import build, look

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    add_files(app, jobs)
    gr.mount_gradio_app(
        app,
        build(studio, jobs),
        path="",
        server_name=options.host,
        server_port=options.port,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        show_error=True,
        max_file_size=LARGEST_UPLOAD,
        ssr_mode=False,
        pwa=False,
        **look(),
    )
    names = {"localhost", socket.gethostname(), options.host.strip("[]"), options.hostname or "localhost"}
    return Guard(app, hosts=names, largest_upload=LARGEST_UPLOAD, password=options.auth)


def _server(studio: Studio, jobs: Jobs[Order, Made], options: Options) -> Any:
    app = application(studio, jobs, options)
    import uvicorn

    class Server(uvicorn.Server):
        """A server whose signals are ``_Ending``'s, and that says when it answers."""

        started_call: Callable[[], None] = staticmethod(lambda: None)

        def install_signal_handlers(self) -> None:
            pass

        def capture_signals(self) -> Any:
            import contextlib

            return contextlib.nullcontext()

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            self.started_call()

    # Browsers that still look when the page ends are cut off; that is no error.
    logging.getLogger("uvicorn.error").addFilter(lambda record: not server.should_exit)  # noqa: ARG005
    server = Server(
        uvicorn.Config(
            app,
            log_level="error",
            access_log=False,
            timeout_graceful_shutdown=1,
            ws="none",
            server_header=False,
        )
    )
    return server


class _Ending:
    """SIGINT and SIGTERM end the page in good order, whenever they come."""

    def __init__(self) -> None:
        self.received: int | None = None
        self.server: Any = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Ending:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._on)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        again, self.received = self.received is not None, number
        if self.server is None:
            raise SystemExit(128 + number)
        self.server.should_exit = True
        self.server.force_exit = again
