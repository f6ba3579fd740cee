"""A page for the browser: portrait, speech and gesture in, a clip out.

    serve(Studio(Animator.load("starter"))).block_thread()       # http://127.0.0.1:7860

``Studio`` is what the buttons do, with the functions of the command line and nothing beside them; ``page``
lays it out. One clip is made at a time, others wait in a queue. No other host is contacted.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import tempfile
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

from semibody import config
from semibody.animator import Animator
from semibody.check import check_inputs
from semibody.inputs import AUTO, STILL
from semibody.pose import library
from semibody.pose.check import Finding
from semibody.settings import Settings
from semibody.types import MissingPartError, Picture, Progress, SemibodyError, silent
from semibody.weights import hub

T = TypeVar("T")
_MARKS = {"good": "✓", "note": "•", "warning": "**Warning:**", "error": "**Error:**"}
_FIRST = ("frame", "seed", "steps", "guidance")
"""Settings with controls written here; the other controls are made from ``Settings``."""
_KEPT = 20
"""Clips that stay on disk while the page is open; older ones are deleted."""


class Studio:
    """What the page does, for one set of weights. Its clips are deleted when it is closed."""

    def __init__(self, animator: Animator) -> None:
        self.animator = animator
        self._folder = tempfile.TemporaryDirectory(prefix="semibody-web-")
        self._numbers = itertools.count(1)

    def __enter__(self) -> Studio:
        return self

    def __exit__(self, *exception: object) -> None:
        self._folder.cleanup()

    def check(
        self, portrait: str | None, speech: str | None, gesture: str = AUTO, **settings: Any
    ) -> tuple[Picture, str]:
        """The overlay of portrait and gesture, and what may go wrong, as Markdown. Raises SemibodyError."""
        chosen = self.animator.settings(**settings)
        planned = gesture if speech or gesture != AUTO else None
        report = check_inputs(_given(portrait, "a picture"), planned, speech, chosen)
        return report.overlay, as_markdown(report.findings)

    def animate(
        self,
        portrait: str | None,
        speech: str | None,
        gesture: str = AUTO,
        *,
        progress: Progress = silent,
        **settings: Any,
    ) -> tuple[Path, str]:
        """A new video file, and the findings, as Markdown. Raises SemibodyError."""
        ending = ".webm" if self.animator.settings(**settings).alpha else ".mp4"
        path = Path(self._folder.name) / f"semibody-{next(self._numbers):04d}{ending}"
        picture, sound = _given(portrait, "a picture"), _given(speech, "a recording")
        inputs = self.animator.animate_to(path, picture, sound, gesture, progress=progress, **settings)
        for old in sorted(path.parent.glob("semibody-*"))[:-_KEPT]:
            old.unlink()
        seconds = len(inputs) / self.animator.settings(**settings).fps
        made = Finding("good", "clip", f"{len(inputs)} frames, {seconds:.1f} s")
        return path, as_markdown((*(f for f in inputs.findings if f.level != "good"), made))


def _given(path: str | None, what: str) -> str:
    if path is None:
        raise SemibodyError(f"add {what} first")
    return path


def as_markdown(findings: tuple[Finding, ...]) -> str:
    """A line for each finding."""
    lines = [f"- {_MARKS[finding.level]} {finding.line()}" for finding in findings]
    return "\n".join(lines or [f"- {_MARKS['good']} no problems found"])


def page(studio: Studio) -> Any:
    """The ``gradio.Blocks`` of a studio. Raises MissingPartError without Gradio."""
    try:
        import gradio as gr
    except ModuleNotFoundError:
        raise MissingPartError("the page needs gradio; run: pip install 'semibody[web]'") from None

    def with_messages(call: Callable[[], T]) -> T:
        """A user's mistake becomes a message on the page, everything else the server's own error."""
        try:
            return call()
        except SemibodyError as error:
            raise gr.Error(str(error), print_exception=False) from None

    usual = studio.animator.defaults
    others = [item.name for item in dataclasses.fields(Settings) if item.name not in (*_FIRST, "length")]

    # Gradio passes the values of the controls in this order.
    def settings_of(*values: Any) -> dict[str, Any]:
        names = [*_FIRST, "seconds", *others]
        # A text that is not filled in is "".
        chosen = {name: None if value == "" else value for name, value in zip(names, values, strict=True)}
        if seconds := chosen.pop("seconds"):
            chosen["length"] = max(1, round(seconds * (chosen["fps"] or usual.fps)))
        return chosen

    def check(portrait: str | None, speech: str | None, named: str, file: str | None, *rest: Any) -> Any:
        return with_messages(lambda: studio.check(portrait, speech, file or named, **settings_of(*rest)))

    def animate(
        portrait: str | None,
        speech: str | None,
        named: str,
        file: str | None,
        bar: Any = gr.Progress(),  # noqa: B008 - by this default Gradio shows progress
        *rest: Any,
    ) -> Any:
        def progress(stage: str, done: int, total: int) -> None:
            bar((done, total), desc=stage)

        chosen = settings_of(*rest)
        video, notices = with_messages(
            lambda: studio.animate(portrait, speech, file or named, progress=progress, **chosen)
        )
        return str(video), notices

    with gr.Blocks(title="Semibody", analytics_enabled=False, delete_cache=(600, 3600)) as blocks:
        gr.Markdown(
            f"# Semibody\nOne picture of a half body and a recording: the person speaks and gestures. "
            f"Weights: {studio.animator.origin}. Portraits and voices belong to people: ask them first."
        )
        with gr.Row():
            with gr.Column():
                portrait = gr.Image(
                    label="Portrait", type="filepath", format="png", image_mode=None,
                    value=_example("portrait.png"), height=320,
                )  # fmt: skip
                speech = gr.Audio(
                    label="Speech", type="filepath", sources=["upload", "microphone"], buttons=[],
                    value=_example("speech.wav"),
                )  # fmt: skip
                named = gr.Dropdown(
                    [AUTO, STILL, *library.names()], value=AUTO, label="Gesture",
                    info="auto: planned from the speech",
                )  # fmt: skip
                with gr.Accordion("More", open=False):
                    file = gr.File(label="A gesture of your own (.npz, OpenPose .json)", type="filepath")
                    frame = gr.Radio(
                        ["auto", "keep"], value=usual.frame, label="Framing",
                        info="auto: as the training pictures are; keep: all of the picture",
                    )  # fmt: skip
                    seed = gr.Number(usual.seed, label="Seed (-1: random)", precision=0, minimum=-1)
                    steps = gr.Slider(1, 60, usual.steps, step=1, label="Steps")
                    guidance = gr.Slider(1.0, 6.0, usual.guidance, step=0.1, label="Guidance")
                    seconds = gr.Number(0, label="At most so many seconds (0: all of the speech)", minimum=0)
                    with gr.Accordion("All settings", open=False):
                        further = [_control(gr, name, getattr(usual, name)) for name in others]
                with gr.Row():
                    check_button = gr.Button("Check")
                    animate_button = gr.Button("Animate", variant="primary")
            with gr.Column():
                video = gr.Video(label="Clip", interactive=False, height=420)
                notices = gr.Markdown()
                overlay = gr.Image(label="Pose and gesture", interactive=False, format="png")
        inputs = [portrait, speech, named, file, frame, seed, steps, guidance, seconds, *further]
        check_button.click(check, inputs, [overlay, notices], api_name="check", concurrency_id="cpu")
        animate_button.click(animate, inputs, [video, notices], api_name="animate", concurrency_id="cpu")
    return blocks.queue(default_concurrency_limit=1)


def _control(gr: Any, name: str, value: Any) -> Any:
    """The control of a setting, with the setting's docstring beside it."""
    kind, doc = typing.get_type_hints(Settings)[name], config.field_docs(Settings).get(name)
    label = name.replace("_", " ").capitalize()
    if typing.get_origin(kind) is Literal:
        return gr.Dropdown(list(typing.get_args(kind)), value=value, label=label, info=doc)
    if kind is bool:
        return gr.Checkbox(value, label=label, info=doc)
    if kind in (str, str | None):
        return gr.Textbox(value, label=label, info=doc)
    return gr.Number(value, label=label, info=doc, precision=0 if kind in (int, int | None) else None)


def _example(name: str) -> str | None:
    path = hub.STARTER / name
    return str(path) if path.is_file() else None


def serve(studio: Studio, *, host: str = "127.0.0.1", port: int = 7860, browser: bool = False) -> Any:
    """Serve the page; ``block_thread()`` of the returned Blocks waits for Ctrl-C.

    Raises SemibodyError if the port is taken.
    """
    blocks = page(studio)
    # Gradio asks its own page whether it is there, and must not ask a proxy for it.
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "localhost", "127.0.0.1", host]))
    try:
        blocks.launch(
            server_name=host,
            server_port=port,
            inbrowser=browser,
            prevent_thread_lock=True,
            share=False,
            ssr_mode=False,
            quiet=True,
            allowed_paths=[str(hub.STARTER)],
        )
    except OSError as error:
        if "port" not in str(error):
            raise
        raise SemibodyError(f"port {port} is taken; choose another with --port") from None
    return blocks
