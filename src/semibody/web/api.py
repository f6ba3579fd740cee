"""``/animate`` for programs: one call that returns when the clip is made, or why it cannot be.

    from gradio_client import Client, handle_file

    client = Client("http://127.0.0.1:7860")
    clip = client.predict(
        portrait=handle_file("me.png"), speech=handle_file("hello.wav"), gesture="wave", api_name="/animate"
    )

Its parameters after the files are the fields of ``Settings`` by their names; what is left out is as the
weights have it. It waits in the same queue as the page's clips.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from semibody.settings import AUTO, Settings, Words
from semibody.types import SemibodyError
from semibody.web import words
from semibody.web.actions import BEST, FAST, enqueue, file_of
from semibody.web.jobs import Jobs
from semibody.web.studio import Made, Order, Studio, require_known

ABOUT = (
    "Make a clip: the person in the portrait speaks the speech and moves the hands of the gesture (a name, "
    "auto or still; or gesture_file). Instead of the speech a text to say. Waits until it is made."
)


def add_api(gr: Any, studio: Studio, jobs: Jobs[Order, Made]) -> None:
    """Add ``/animate`` to the Blocks that are being built."""
    signature = parameters(gr.FileData)

    def animate(*values: Any) -> Any:
        given = dict(zip(signature.parameters, values, strict=False))
        names: dict[str, str] = {}
        try:
            order = order_of(studio, given, names)
            seen = jobs.wait(enqueue(studio, jobs, order))
        except (SemibodyError, OSError) as error:
            raise gr.Error(words.shown(error, names), print_exception=False) from None
        if seen.result is None:
            reason = words.plain(seen.reason, seen.order.names)
            raise gr.Error(reason, print_exception=False)
        video = studio.store.publish(seen.result.video)
        return gr.FileData(path=str(video), orig_name=video.name)

    described: Callable[..., Any] = animate
    described.__signature__ = signature  # type: ignore[attr-defined]
    described.__annotations__ = {
        **{one.name: one.annotation for one in signature.parameters.values()}, "return": gr.FileData,
    }  # fmt: skip
    gr.api(animate, api_name="animate", api_description=ABOUT, concurrency_limit=None)


def parameters(file: Any) -> inspect.Signature:
    """The parameters of ``/animate``; ``file`` is the type of a file."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    made = [
        inspect.Parameter("portrait", kind, annotation=file),
        inspect.Parameter("speech", kind, annotation=file | None, default=None),
        inspect.Parameter("say", kind, annotation=str | None, default=None),
        inspect.Parameter("voice", kind, annotation=str | None, default=None),
        inspect.Parameter("gesture", kind, annotation=str, default=AUTO),
        inspect.Parameter("gesture_file", kind, annotation=file | None, default=None),
        inspect.Parameter("quality", kind, annotation=str, default=BEST),
    ]
    hints = typing.get_type_hints(Settings)
    for item in dataclasses.fields(Settings):
        hint = str if typing.get_origin(hints[item.name]) is Literal else hints[item.name]
        made.append(inspect.Parameter(item.name, kind, annotation=hint | None, default=None))
    return inspect.Signature(made, return_annotation=file)


def order_of(studio: Studio, given: Mapping[str, Any], names: dict[str, str]) -> Order:
    """The order of a call; ``names`` learns what its files are called. Raises SemibodyError."""
    fields = {item.name for item in dataclasses.fields(Settings)}
    changes = {key: value for key, value in given.items() if key in fields and value is not None}
    quality = given.get("quality") or BEST
    if quality not in (FAST, BEST):
        raise SemibodyError(f"quality {quality} is unknown; choose {FAST} or {BEST}")
    if quality == FAST:
        changes = {**studio.fast(), **changes}
    gesture: str | Path = file_of(given.get("gesture_file"), names) or given.get("gesture") or AUTO
    if isinstance(gesture, str):
        require_known(gesture)
    portrait, speech = (file_of(given.get(name), names) for name in ("portrait", "speech"))
    said = None
    if given.get("say") and speech is None:
        said = Words(say=given["say"], voice=given.get("voice"))
        speech = studio.speak(said)
    return Order(portrait=portrait, speech=speech, gesture=gesture, words=said, settings=changes, names=names)
