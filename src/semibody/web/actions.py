"""What the page's controls do.

Nothing is computed here: ``studio`` checks and makes, ``jobs`` waits and stops, ``panels`` turns what is
known into HTML. The name of the last job and of this session's earlier ones are kept in the browser, so that
a reload finds them, while a clip is being made and after.
"""

from __future__ import annotations

import contextlib
import math
import typing
from pathlib import Path
from typing import Any

from semibody.pose.check import Finding
from semibody.settings import AUTO, Settings, Words
from semibody.types import SemibodyError
from semibody.web import panels, words
from semibody.web.jobs import Jobs, UnknownJobError
from semibody.web.studio import Checked, Made, Order, Studio, require_known

OWN = "own"
"""The tile of a gesture from a file or a video."""
FAST, BEST = "fast", "best"
RECORDED, FROM_VIDEO, SPOKEN = "recorded", "video", "spoken"
"""Where speech comes from."""
NOTHING: dict[str, Any] = {"job": None, "history": []}
"""What the browser remembers before the first clip."""
CONTROLS = (
    "portrait", "sound", "kind", "video", "text", "voice", "gesture", "own", "quality", "seconds",
)  # fmt: skip
"""The controls in the order of their values; those of the settings come after them."""
MOST_HISTORY = 12
STOP_SECONDS = 0.8
"""How long a click on Stop waits for the clip's end; until then the page says "Stopping"."""

Remembered = dict[str, Any]


class Actions:
    """The functions behind the page's events. Values come in the order of ``page._inputs``."""

    def __init__(self, studio: Studio, jobs: Jobs[Order, Made], *, settings: tuple[str, ...]) -> None:
        """``settings``: the fields of Settings whose values come last, in their order."""
        self.studio, self.jobs, self._settings = studio, jobs, settings

    # -- the order -------------------------------------------------------------------------

    def order(self, *values: Any) -> Order:
        """The order that the controls describe. Raises SemibodyError."""
        portrait, sound, kind, video, text, voice, gesture, own, quality, seconds = values[: len(CONTROLS)]
        named = dict(zip(self._settings, values[len(CONTROLS) :], strict=True))
        given = {
            key: value for key, value in named.items() if not (value is None or value is False or value == "")
        }
        changes = {key: number_of(key, value) for key, value in given.items()}
        if quality == FAST:
            changes = {**self.studio.fast(), **changes}
        if seconds not in (None, ""):
            fps = changes.get("fps") or self.studio.defaults.fps
            changes["length"] = max(1, round(to_number(seconds, "Length in seconds") * fps))
        names: dict[str, str] = {}
        said = Words(say=text, voice=voice or None) if kind == SPOKEN and text and text.strip() else None
        if kind == SPOKEN:
            speech = None if said is None else self.studio.speak(said)
        else:
            speech = file_of(video if kind == FROM_VIDEO else sound, names)
        chosen: str | Path = gesture or AUTO
        if chosen == OWN:
            found = file_of(own, names)
            if found is None:
                raise SemibodyError("add the file of your own gesture, or choose another tile")
            chosen = found
        else:
            require_known(str(chosen))
        return Order(
            portrait=file_of(portrait, names),
            speech=speech,
            gesture=chosen,
            words=said,
            settings=changes,
            names=names,
            controls=values,
        )

    # -- events ----------------------------------------------------------------------------

    def check(self, *values: Any) -> tuple[Any, str, str]:
        """Something changed: what will be used, how long it will take, what was found."""
        names: dict[str, str] = {}
        try:
            order = self.order(*values)
            names = dict(order.names)
            checked = self.studio.check(order)
        except SemibodyError as error:
            # A control is empty or has a wrong value; what is seen of the portrait stays.
            import gradio as gr

            checked = Checked(findings=(Finding("error", "inputs", str(error)),))
            return gr.skip(), panels.forecast(checked, ready=True), panels.findings(checked, names)
        forecast = panels.forecast(checked, ready=self.jobs.ready)
        return panels.crop(checked), forecast, panels.findings(checked, names)

    def forecast_when_ready(self, *values: Any) -> list[Any]:
        """As ``check`` once the weights are loaded, and then not again."""
        import gradio as gr

        if not self.jobs.ready:
            return [gr.skip()] * 4
        return [*self.check(*values), gr.Timer(active=False)]

    def show_speech(self, kind: str) -> list[Any]:
        """Which of recording, video and text is asked for."""
        import gradio as gr

        shown = [gr.update(visible=kind == one) for one in (RECORDED, FROM_VIDEO, SPOKEN)]
        return [*shown, gr.update(choices=self._voices()) if kind == SPOKEN else gr.skip()]

    def _voices(self) -> list[tuple[str, str]]:
        from semibody.voices import speaking

        known = [(f"{voice.about} ({voice.name})", voice.name) for voice in speaking.installed()]
        return [("The usual one", ""), *known] if known else [("No voice is installed", "")]

    def show_own(self, gesture: str) -> Any:
        """Whether a file of an own gesture is asked for."""
        import gradio as gr

        return gr.update(visible=gesture == OWN)

    def submit(self, mine: Remembered | None, *values: Any) -> list[Any]:
        """A click on Generate."""
        names: dict[str, str] = {}
        try:
            order = self.order(*values)
            names = dict(order.names)
            name = self.enqueue(order)
        except (SemibodyError, OSError) as error:
            return self._refused(words.shown(error, names))
        history = [name, *(mine or NOTHING)["history"]][:MOST_HISTORY]
        return self.show({"job": name, "history": history}, "")

    def enqueue(self, order: Order) -> str:
        """Add an order to the queue; returns the job's name. Raises SemibodyError."""
        return enqueue(self.studio, self.jobs, order)

    def _refused(self, text: str) -> list[Any]:
        """The outputs when a click did nothing: only the sentence changes."""
        import gradio as gr

        outputs = [gr.skip()] * 10
        outputs[3] = panels.problem(text)
        return outputs

    def stop(self, mine: Remembered | None, shown: str) -> list[Any]:
        """A click on Stop; answered when the clip has stopped, which the next look would see later."""
        if mine and mine["job"]:
            with contextlib.suppress(UnknownJobError):
                self.jobs.stop(mine["job"])
                self.jobs.wait(mine["job"], timeout=STOP_SECONDS)
        return self.show(mine, shown)

    def choose(self, mine: Remembered | None, job: str) -> list[Any]:
        """A click on a clip of the history."""
        return self.show({**(mine or NOTHING), "job": job}, "")

    def attach(self, mine: Remembered | None) -> list[Any]:
        """The page was opened, or loaded again: everything as it is now, and the last clip's inputs."""
        import gradio as gr

        outputs = self.show(mine, "?/")
        job = self._find((mine or NOTHING)["job"])
        if job is None or not job.order.controls:
            return [*outputs, *[gr.skip()] * (len(CONTROLS) + len(self._settings))]
        return [*outputs, *self._restored(job.order)]

    def _restored(self, given: Order) -> list[Any]:
        """The values of the controls that an order was read from, with its own copies of the files."""
        import gradio as gr

        values = list(given.controls)
        kind, gesture = (values[CONTROLS.index(name)] for name in ("kind", "gesture"))
        files = {
            "portrait": given.portrait,
            "sound": given.speech if kind == RECORDED else None,
            "video": given.speech if kind == FROM_VIDEO else None,
            "own": given.gesture if gesture == OWN else None,
        }
        for name, path in files.items():
            values[CONTROLS.index(name)] = gr.skip() if path is None else str(path)
        if kind == SPOKEN:
            at = CONTROLS.index("voice")
            values[at] = gr.update(value=values[at], choices=self._voices())
        return values

    def show(self, mine: Remembered | None, shown: str) -> list[Any]:
        """The outputs as they are now. ``shown`` is what the browser has; what is the same is left alone."""
        import gradio as gr

        mine = {**NOTHING, **(mine or {})}
        job = self._find(mine["job"])
        state = "" if job is None else f"{job.name}/{job.state}"
        key = state if job is None else f"{state}/{job.pictures}"
        before = shown.rpartition("/")[0]
        outputs = [
            gr.skip(),
            key,
            gr.skip() if key == shown else panels.stage(job),
            panels.status(job, ready=self.jobs.ready, loading=self.studio.loading),
            panels.spoken(job, ready=self.jobs.ready),
        ]
        if state == before:
            return [*outputs, *[gr.skip()] * 5]
        past = [found for name in mine["history"] if (found := self._find(name)) is not None]
        working = job is not None and not job.ended
        outputs[0] = {"job": None if job is None else job.name, "history": [one.name for one in past]}
        made = None if job is None or job.result is None else job.result.settings
        return [
            *outputs,
            panels.repeat("" if job is None else self.studio.command(job.order, made)),
            panels.history(past, outputs[0]["job"]),
            gr.update(visible=not working),
            gr.update(visible=working),
            gr.Timer(active=working),
        ]

    def _find(self, name: str | None) -> panels.Job | None:
        try:
            return self.jobs.look(name) if name else None
        except UnknownJobError:
            return None


def enqueue(studio: Studio, jobs: Jobs[Order, Made], order: Order) -> str:
    """Add an order with files of its own to the queue; returns the job's name. Raises SemibodyError."""
    accepted = studio.accept(order)
    try:
        name = jobs.submit(accepted)
    except SemibodyError:
        studio.discard(accepted)
        raise
    studio.store.sweep()
    return name


def number_of(field: str, value: Any) -> Any:
    """The value of a setting's control, whose numbers are written. Raises SemibodyError."""
    kind = str(typing.get_type_hints(Settings)[field])
    if not isinstance(value, str) or "str" in kind or not ("int" in kind or "float" in kind):
        return value
    number = to_number(value, words.label(field))
    if "int" in kind and number != int(number):
        raise SemibodyError(f"“{words.label(field)}”: {value[:20]} is no whole number")
    return int(number) if "int" in kind else number


def to_number(value: str | float, label: str) -> float:
    """A number as people write it. Raises SemibodyError."""
    try:
        number = float(value.replace(",", ".") if isinstance(value, str) else value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise SemibodyError(f"“{label}”: {str(value)[:20]} is no number")
    return number


def file_of(value: Any, names: dict[str, str]) -> Path | None:
    """The file that a control holds, as the browser sent it; ``names`` learns what the user calls it."""
    if not value:
        return None
    given = value[0] if isinstance(value, list) else value
    path, called = (given, None) if isinstance(given, str) else (given["path"], given.get("orig_name"))
    names[str(path)] = Path(called or path).name
    return Path(path)
