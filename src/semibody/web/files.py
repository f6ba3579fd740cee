"""What the page shows beside Gradio's own files: the clips, and the moving drawings of the gestures.

A clip's address holds its job's name, which cannot be guessed; it stays valid as long as the job is kept. The
browser reads it from where it was made, in parts, so that nothing is copied.
"""

from __future__ import annotations

import functools
from typing import Any

from semibody.pose import library
from semibody.settings import AUTO, STILL
from semibody.web.jobs import Jobs, UnknownJobError
from semibody.web.studio import Made, Order
from semibody.web.tiles import draw_tile

CLIP, TILE = "/clip", "/tile"
"""Where the addresses of clips and of drawings begin."""
_SHOWN = {AUTO: "explain", STILL: library.REST_NAME}
"""What is drawn for a gesture that is no file."""


def clip_address(name: str) -> str:
    return f"{CLIP}/{name}"


def tile_address(gesture: str, *, still: bool = False) -> str:
    return f"{TILE}/{gesture}{'-still' if still else ''}.svg"


@functools.lru_cache(maxsize=128)
def tile(gesture: str, *, still: bool) -> str:
    """The drawing of a gesture of the page's list."""
    return draw_tile(library.find_gesture(_SHOWN.get(gesture, gesture)), still=still or gesture == STILL)


def add_files(app: Any, jobs: Jobs[Order, Made]) -> None:
    """Let a FastAPI application answer for clips and drawings."""
    from fastapi import Response
    from fastapi.responses import FileResponse, PlainTextResponse

    def clip(name: str, download: bool = False) -> Response:
        try:
            seen = jobs.look(name)
        except UnknownJobError as error:
            return PlainTextResponse(f"{error}\n", 404)
        if seen.result is None:
            return PlainTextResponse("this clip is not finished\n", 404)
        video, kept = seen.result.video, {"cache-control": "private, max-age=3600"}
        kind = "attachment" if download else "inline"
        return FileResponse(
            video, media_type=f"video/{video.suffix[1:]}", headers=kept, filename=f"semibody{video.suffix}",
            content_disposition_type=kind,
        )  # fmt: skip

    def drawing(name: str) -> Response:
        gesture, still = name.removesuffix("-still"), name.endswith("-still")
        if gesture not in (AUTO, STILL, *library.names()):
            return PlainTextResponse("no such gesture\n", 404)
        kept = {"cache-control": "public, max-age=86400"}
        return Response(tile(gesture, still=still), media_type="image/svg+xml", headers=kept)

    app.get(CLIP + "/{name}")(clip)
    app.get(TILE + "/{name}.svg")(drawing)
