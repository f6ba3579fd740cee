"""The parts of the page that change, as HTML: the stage, the bar, the findings, the history.

Each function turns what is known (``Look``, ``Checked``) into text; nothing here keeps anything.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping

from semibody.web import words
from semibody.web.bar import remaining
from semibody.web.files import clip_address
from semibody.web.jobs import Look
from semibody.web.studio import Checked, Made, Order

Job = Look[Order, Made]

EMPTY_STAGE = (
    "<div class='stage empty'><svg viewBox='0 0 64 64' aria-hidden='true'>"
    "<rect x='6' y='12' width='52' height='40' rx='7'/><path d='M27 24.5v15l13-7.5z'/></svg>"
    "<p>Your clip appears here</p></div>"
)
HEADING = (
    "<header><h1>Semibody</h1><p>A portrait and a recording become a video of that person speaking with "
    "their hands. Try it with what is here, or give your own. Portraits and voices belong to people: ask "
    "them first.</p></header>"
)
LOOKING = "<p class='forecast'>Looking at the inputs …</p>"


def inline(jpeg: bytes) -> str:
    """A small picture as an address that holds it."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def crop(checked: Checked | None) -> str:
    """What of the portrait will be used, and where the hands will go."""
    if checked is None or checked.portrait is None:
        return "<div class='crop empty'><p>What will be used shows here</p></div>"
    shown = f"<img src='{inline(checked.portrait)}' alt='The part of the portrait that will be used'>"
    if checked.hands is not None:
        shown += f"<img class='hands' src='{inline(checked.hands)}' alt='Where the hands will go'>"
    tip = "" if checked.hands is None else "<label><input type='checkbox'>Hand paths</label>"
    return (
        f"<figure class='crop'>{shown}<figcaption><span>What will be used</span>{tip}</figcaption></figure>"
    )


def findings(checked: Checked | None, names: Mapping[str, str]) -> str:
    """What was found in the inputs, the worst first."""
    if checked is None or not checked.findings:
        return ""
    worst = [one for one in checked.findings if one.level in ("warning", "error")]
    rest = [one for one in checked.findings if one.level not in ("warning", "error")]
    counted = f"{len(rest)} note{'s' if len(rest) != 1 else ''}"
    if not worst:
        title = f"<b>The inputs look good</b> · {counted}"
        return f"<section class='check good'>{_folded(title, words.as_list(rest, names))}</section>"
    many = f"{len(worst)} thing{'s' if len(worst) != 1 else ''} to look at"
    more = _folded(f"{counted} more", words.as_list(rest, names)) if rest else ""
    return f"<section class='check bad'><h2>{many}</h2>{words.as_list(worst, names)}{more}</section>"


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{title}</summary>{content}</details>"


def forecast(checked: Checked | None, *, ready: bool, fast: str = "") -> str:
    """What a click on Generate will bring, in a line."""
    if checked is None or not checked.ok:
        return "<p class='forecast'></p>"
    if not checked.frames:
        missing = "a portrait" if checked.portrait is None else "the speech"
        return f"<p class='forecast'>Add {missing} to see how long it will take</p>"
    clip = f"{checked.clip_seconds:.1f} s of video"
    if checked.seconds is None:
        after = "the model is still being loaded" if not ready else ""
        return f"<p class='forecast'>{clip}{'; ' if after else ''}{after}</p>"
    return f"<p class='forecast'>{clip}, ready in about <b>{words.duration(checked.seconds)}</b>{fast}</p>"


def stage(job: Job | None) -> str:
    """The video, or the picture that becomes it."""
    if job is None:
        return EMPTY_STAGE
    if job.state == "done":
        address = clip_address(job.name)
        assert job.result is not None
        return (
            f"<div class='stage'><video controls playsinline preload='metadata' src='{address}' "
            f"aria-label='The clip'></video></div>"
        )
    if job.ended:
        return EMPTY_STAGE
    if job.preview is None:
        return "<div class='stage empty busy'><p>…</p></div>"
    early = " early" if job.pictures == 1 else ""
    what = "The portrait, before the first frames" if early else "The newest frame of the clip"
    return f"<div class='stage{early}'><img src='{inline(job.preview)}' alt='{what}'></div>"


def status(job: Job | None, *, ready: bool, loading: float = 0.0) -> str:
    """One bar and one sentence: where the clip is."""
    if job is None:
        return ""
    if job.state == "done":
        assert job.result is not None
        made = f"Made in {words.duration(job.seconds)}"
        address = f"{clip_address(job.name)}?download=true"
        save = f"<a class='save' href='{address}' download>Save the video</a>"
        return f"<div class='status done'><p>{made}</p>{save}</div>"
    if job.state == "failed":
        text = words.plain(job.reason, job.order.names)
        return problem(f"this clip could not be made: {text}")
    if job.state == "stopped":
        text = "Stopped." if job.reason == "stopped" else f"Stopped: {html.escape(job.reason)}."
        return f"<div class='status stopped'><p>{text} Nothing was kept; Generate begins anew.</p></div>"
    return _bar(job.share, *_now(job, ready=ready, loading=loading))


def _now(job: Job, *, ready: bool, loading: float) -> tuple[str, str]:
    """What a job that has not ended is at, and how long it will take."""
    if job.state == "waiting":
        return _waiting(job.ahead, ready=ready, loading=loading), ""
    if job.stopping:
        return "Stopping …", ""
    text = words.STAGES.get(job.stage, "Working")
    if not job.expected:
        return text, ""
    return text, f"about {words.duration(remaining(job.share, job.seconds, job.expected))} left"


def _waiting(ahead: int, *, ready: bool, loading: float) -> str:
    if ahead:
        return f"Waiting: {ahead} clip{'s' if ahead != 1 else ''} ahead"
    if not ready:
        return "Waiting: the model is being loaded" + (f", {loading:.0%}" if 0 < loading < 1 else "")
    return "Waiting: it begins at once"


def _bar(share: float, text: str, left: str) -> str:
    percent = round(100 * share)
    return (
        f"<div class='status working'><div class='bar' role='progressbar' aria-label='Progress of the clip' "
        f"aria-valuemin='0' aria-valuemax='100' aria-valuenow='{percent}'>"
        f"<span style='width:{percent}%'></span></div>"
        f"<p>{html.escape(text)}<span>{left}</span></p></div>"
    )


def spoken(job: Job | None, *, ready: bool) -> str:
    """What a screen reader is told: only when the stage changes, not every second."""
    if job is None:
        return ""
    if job.state == "waiting":
        return _waiting(job.ahead, ready=ready, loading=0.0)
    if job.state == "running":
        return words.STAGES.get(job.stage, "Working")
    return {"done": "The clip is ready", "stopped": "Stopped", "failed": "The clip could not be made"}[
        job.state
    ]


def problem(text: str) -> str:
    """Why a click did nothing."""
    return f"<div class='status failed' role='alert'><p>{html.escape(words.sentence(text))}</p></div>"


def repeat(line: str) -> str:
    """The command line that makes the clip again."""
    if not line:
        return ""
    return (
        "<details class='repeat'><summary>Make it again on the command line</summary>"
        f"<pre tabindex='0' aria-label='Command line'><code>{html.escape(line)}</code></pre></details>"
    )


def history(jobs: Iterable[Job], current: str | None) -> str:
    """The clips of this session, the newest first; a click shows one again."""
    items = []
    for job in jobs:
        if job.result is None:
            continue
        name = html.escape(job.order.called(job.order.gesture))
        called = {"auto": "hands from the speech", "still": "still hands"}.get(name, name)
        pressed = "true" if job.name == current else "false"
        items.append(
            f"<li><button type='button' data-job='{job.name}' aria-pressed='{pressed}'>"
            f"<img src='{inline(job.result.thumbnail)}' alt=''>"
            f"<span>{job.result.clip_seconds:.1f} s, {called.replace('_', ' ')}</span></button></li>"
        )
    if not items:
        return ""
    return f"<section class='history'><h2>This session</h2><ul>{''.join(items)}</ul></section>"
