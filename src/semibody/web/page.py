"""The layout of the page: its controls, in the order of work, and which event calls which of the ``Actions``.

The events are private and take what the browser sends as it is: files are opened by Semibody alone, which
says what is wrong with them, and never fetched from an address.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import typing
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any, Literal

from semibody import config
from semibody.pose import library
from semibody.settings import AUTO, STILL, Settings
from semibody.web import panels, words
from semibody.web.actions import (
    BEST,
    FAST,
    FROM_VIDEO,
    NOTHING,
    OWN,
    RECORDED,
    SPOKEN,
    Actions,
)
from semibody.web.api import add_api
from semibody.web.files import tile_address
from semibody.web.jobs import Jobs
from semibody.web.studio import Made, Order, Studio
from semibody.web.uploads import VIDEOS

SOON = ("frame", "seed", "liveliness")
"""Settings whose controls come first under ``More settings``."""
LATER = tuple(
    item.name
    for item in dataclasses.fields(Settings)
    if item.name not in (*SOON, "length", "gesture_canvas", "gesture_fps", "person", "find_person")
)
EVERY_SECONDS = 0.7
"""Between two looks at a clip that is being made."""
LOADING_SECONDS = 2.0
"""Between two looks whether the weights are loaded, which the forecast needs."""
_LOOKING = (
    "() => { document.querySelector('#status .status')?.classList.add('past'); "
    f"return {json.dumps(panels.LOOKING)}; }}"
)
_TO_THE_CLIP = (
    "() => { if (innerWidth < 900) document.getElementById('outputs').scrollIntoView({behavior: 'smooth'}); }"
)
_CHOOSE_CLIP = """
element.addEventListener('click', event => {
  const button = event.target.closest('[data-job]');
  if (button) trigger('click', {job: button.dataset.job});
});
"""
_LIVE = "element.setAttribute('role', 'status'); element.setAttribute('aria-live', 'polite');"


def tiles() -> list[tuple[str, str]]:
    """Names and values of the gestures' tiles."""
    named = [(name.replace("_", " ").capitalize(), name) for name in library.names()]
    return [("From the speech", AUTO), ("Still", STILL), ("Your own", OWN), *named]


def build(studio: Studio, jobs: Jobs[Order, Made]) -> Any:
    """The ``gradio.Blocks`` of the page."""
    import gradio as gr

    actions = Actions(studio, jobs, settings=(*SOON, *LATER))
    with gr.Blocks(title="Semibody", analytics_enabled=False, fill_width=True) as blocks:
        mine = gr.BrowserState(NOTHING, storage_key="semibody")
        shown, timer = gr.State(""), gr.Timer(EVERY_SECONDS, active=False)
        loading = gr.Timer(LOADING_SECONDS)
        gr.HTML(panels.HEADING)
        with gr.Row(elem_id="columns"):
            with gr.Column(scale=6, min_width=320, elem_id="inputs"):
                controls, left = _inputs(gr)
            with gr.Column(scale=5, min_width=320, elem_id="outputs"):
                stage = gr.HTML(panels.EMPTY_STAGE)
                with gr.Row(elem_id="go"):
                    status = gr.HTML(elem_id="status")
                    forecast = gr.HTML(panels.LOOKING, elem_id="forecast")
                    generate = gr.Button("Generate", variant="primary", elem_id="generate")
                    stop = gr.Button("Stop", variant="stop", visible=False, elem_id="stop")
                live = gr.HTML(elem_id="live", js_on_load=_LIVE)
                findings = gr.HTML(elem_id="findings")
                repeat = gr.HTML(elem_id="repeat")
                history = gr.HTML(js_on_load=_CHOOSE_CLIP, elem_id="history")
        outputs = [mine, shown, stage, status, live, repeat, history, generate, stop, timer]
        quiet: dict[str, Any] = {
            "show_progress": "hidden", "api_visibility": "private", "preprocess": False, "queue": False,
        }  # fmt: skip
        seen = [left.crop, forecast, findings]
        checked: dict[str, Any] = {
            **quiet, "queue": True, "concurrency_id": "check", "concurrency_limit": 1,
            "trigger_mode": "always_last",
        }  # fmt: skip
        for control in controls:
            # The forecast changes at once, the check takes a second; of several changes the last is checked.
            control.change(
                None, None, forecast, js=_LOOKING, show_progress="hidden", api_visibility="private"
            )
            control.change(actions.check, controls, seen, **checked)
        left.kind.change(actions.show_speech, left.kind, left.speeches, **quiet)
        left.gesture.change(actions.show_own, left.gesture, left.own, **quiet)
        generate.click(actions.submit, [mine, *controls], outputs, **quiet)
        generate.click(None, None, None, js=_TO_THE_CLIP, api_visibility="private")
        stop.click(actions.stop, [mine, shown], outputs, **quiet)
        history.click(_choose(gr, actions), mine, outputs, **quiet)
        timer.tick(actions.show, [mine, shown], outputs, **quiet)
        loading.tick(actions.forecast_when_ready, controls, [*seen, loading], **checked)
        blocks.load(actions.attach, mine, [*outputs, *controls], **quiet).then(
            actions.check, controls, seen, **checked
        )
        add_api(gr, studio, jobs)
    _refuse_addresses(gr, blocks)
    return blocks.queue(default_concurrency_limit=1, max_size=64)


@dataclasses.dataclass(kw_only=True)
class _Left:
    """The controls of the left side that events speak of by name."""

    kind: Any
    speeches: list[Any]
    gesture: Any
    own: Any
    crop: Any


def _inputs(gr: Any) -> tuple[list[Any], _Left]:
    """The left side. The controls are in the order that ``Actions.order`` reads."""
    with gr.Column(elem_classes="card"):
        gr.HTML("<h2>Portrait <small>head to waist, hands in view</small></h2>")
        with gr.Row(elem_id="portrait-row"):
            portrait = gr.Image(
                label="Portrait", type="filepath", image_mode=None, format="png",
                sources=["upload", "webcam", "clipboard"], value=_example("portrait.png"), height=300,
                buttons=[], elem_id="portrait",
            )  # fmt: skip
            crop = gr.HTML(panels.crop(None), elem_id="crop")
    with gr.Column(elem_classes="card"):
        gr.HTML("<h2>Speech <small>it moves the mouth and the hands</small></h2>")
        kinds = [("Recording", RECORDED), ("From a video", FROM_VIDEO), ("Text", SPOKEN)]
        kind = gr.Radio(
            kinds, value=RECORDED, label="Where the speech comes from", elem_classes=["segments", "titled"]
        )
        with gr.Column() as recorded:
            sound = gr.Audio(
                label="Recording", type="filepath", sources=["upload", "microphone"], buttons=[],
                editable=False, value=_example("speech.wav"), elem_id="speech",
            )  # fmt: skip
        with gr.Column(visible=False) as from_video:
            video = gr.File(label="A video with sound", file_types=["video"], height=120, elem_id="video")
        with gr.Column(visible=False) as spoken:
            text = gr.Textbox(label="What is to be said", lines=3, max_length=2000)
            voice = gr.Dropdown([("The usual one", "")], value="", label="Voice")
    with gr.Column(elem_classes="card"):
        gr.HTML("<h2>Gesture <small>what the hands do</small></h2>")
        gesture = gr.Radio(
            tiles(), value=AUTO, label="What the hands do", elem_id="tiles", elem_classes="titled"
        )
        with gr.Column(visible=False) as own:
            file = gr.File(
                label="Your own gesture: a video of a person, .npz, or OpenPose .json",
                file_types=[*VIDEOS, ".npz", ".json"], height=120, elem_id="own",
            )  # fmt: skip
    with gr.Column(elem_classes="card"):
        gr.HTML("<h2>Quality <small>fast is ready sooner, best is sharper</small></h2>")
        quality = gr.Radio(
            [("Fast", FAST), ("Best", BEST)], value=BEST, label="Quality", elem_classes=["segments", "titled"]
        )
        with gr.Accordion("More settings", open=False):
            seconds = gr.Textbox("", label="Length in seconds", placeholder="all of the speech")
            soon = [_control(gr, name) for name in SOON]
            with gr.Accordion("All settings", open=False):
                later = [_control(gr, name) for name in LATER]
    left = _Left(
        kind=kind, speeches=[recorded, from_video, spoken, voice], gesture=gesture, own=own, crop=crop
    )
    return [portrait, sound, kind, video, text, voice, gesture, file, quality, seconds, *soon, *later], left


def _control(gr: Any, name: str) -> Any:
    """The control of a setting, its docstring beside it. Empty: as the weights have it."""
    kind, doc = typing.get_type_hints(Settings)[name], config.field_docs(Settings).get(name)
    label, usual = words.label(name), "usual"
    if typing.get_origin(kind) is Literal:
        choices = [("Usual", ""), *((str(one), one) for one in typing.get_args(kind))]
        return gr.Dropdown(choices, value="", label=label, info=doc)
    if kind is bool:
        return gr.Checkbox(False, label=label, info=doc)
    # Numbers, too: Gradio's field for numbers shows and sends 0 where nothing was entered.
    return gr.Textbox("", label=label, info=doc, placeholder=usual)


def _choose(gr: Any, actions: Actions) -> Callable[..., Any]:
    def choose(mine: Any, event: gr.EventData) -> Any:
        return actions.choose(mine, str(event._data.get("job", "")))

    choose.__annotations__["event"] = gr.EventData
    return choose


def _example(name: str) -> str | None:
    path = resources.files("semibody") / "starter" / name
    return str(path) if path.is_file() else None


def _refuse_addresses(gr: Any, blocks: Any) -> None:
    """Files come by upload. Gradio would fetch an address given instead of one; here it refuses."""

    async def move(original: Callable[[Any], Awaitable[Any]], source: Any) -> Any:
        if source is not None and "://" in str(source):
            raise gr.Error("give a file, not an address", print_exception=False)
        return await original(source)

    for block in blocks.blocks.values():
        if hasattr(block, "async_move_resource_to_block_cache"):
            original = block.async_move_resource_to_block_cache
            block.async_move_resource_to_block_cache = functools.partial(move, original)


def look() -> dict[str, Any]:
    """Theme and style of the page, as ``mount_gradio_app`` takes them. No font comes from another host."""
    import gradio as gr

    sans, mono = ["system-ui", "-apple-system", "Segoe UI", "sans-serif"], ["ui-monospace", "monospace"]
    theme = gr.themes.Base(
        primary_hue="indigo",
        neutral_hue="slate",
        radius_size="lg",
        spacing_size="md",
        font=sans,
        font_mono=mono,
    )
    style, script = (
        (resources.files("semibody.web") / name).read_text(encoding="utf-8")
        for name in ("page.css", "page.js")
    )
    # Not Gradio's own ``css``, which puts a prefix before every selector and changes those of @media.
    head = (
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<style>{style}{_tile_style()}</style><script>{script}</script>"
    )
    return {"theme": theme, "head": head}


def _tile_style() -> str:
    """Each gesture's drawing in its tile: still, and moving while it is pointed at or chosen.

    All at once they would distract, and keep the browser's processor busy. Who wants less motion has none.
    """
    rules = []
    for value in (value for _, value in tiles() if value != OWN):
        tile, drawing = f"#tiles label:has(input[value='{value}'])", tile_address(value)
        still = tile_address(value, still=True)
        rules.append(f"{tile}::before{{background-image:url({still})}}")
        moving = ", ".join(f"{tile}{when}::before" for when in (":hover", ":focus-within", ":has(:checked)"))
        rules.append(
            f"@media (prefers-reduced-motion:no-preference){{{moving}{{background-image:url({drawing})}}}}"
        )
    return "\n".join(rules)
