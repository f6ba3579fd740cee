"""Messages in the page's words: file names as the user knows them, controls instead of options.

The rest of the house writes for the command line: ``/tmp/x/speech.wav: ...; use --frame keep``. On the page
the same is ``speech.wav: ...; use the setting “Frame: keep”``.
"""

from __future__ import annotations

import dataclasses
import errno
import html
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from semibody.config import option_of
from semibody.pose.check import Finding
from semibody.settings import Settings
from semibody.types import SemibodyError

STAGES = {
    "": "Starting",
    "check": "Looking at the inputs",
    "video": "Taking the gesture from the video",
    "prepare": "Preparing the portrait",
    "denoise": "Making the movement",
    "decode": "Drawing the frames",
    "compile": "Compiling the networks",
    "less memory": "Beginning again with less memory",
}
"""What a stage of the work is called on the page."""
CONTROLS = {"context": "Window", "size": "Width and Height"}
"""Options whose control has another name than they."""
_OPTION = re.compile(r"--([a-z][a-z-]*)(?: ([a-z0-9][a-z0-9.+x]*)\b)?")
_PATH = re.compile(r"(?:/[^/\s:;,]+)+/([^/\s:;,]+)")
_AFTER = ("and", "or", "is", "must", "takes", "at", "to", "for", "where", "in", "with")
"""Words that follow an option's name without being its value."""


def label(name: str) -> str:
    """The name of a setting's control."""
    return CONTROLS.get(name, name.replace("-", " ").replace("_", " ").capitalize())


def plain(text: str, names: Mapping[str, str] | None = None) -> str:
    """A message without paths and options. ``names``: what the user calls a file, by its path here."""
    for path, name in (names or {}).items():
        text = text.replace(path, name)
    text = _PATH.sub(r"\1", text)

    def control(found: re.Match[str]) -> str:
        name, value = found[1], found[2]
        if value is None or value in _AFTER:
            return f"“{label(name)}”" + (f" {value}" if value else "")
        return f"“{label(name)}: {value}”"

    text = _OPTION.sub(control, text)
    text = re.sub(r" ?\(\d+ more: run `semibody check`\)", "", text)
    return re.sub(r"\b(with|use) “", r"\1 the setting “", text)


def reason_of(error: BaseException) -> str:
    """A sentence about an error that is nobody's mistake."""
    from semibody.runtime import is_out_of_memory

    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the server's disk is full; tell whoever runs it"
    if is_out_of_memory(error):  # its remedies are whose server it is
        return "the server has too little memory for this; choose a smaller picture or shorter speech"
    return "something went wrong on the server; try again, and tell whoever runs it to look at its terminal"


def duration(seconds: float) -> str:
    """8 → ``8 seconds``, 150 → ``2½ minutes``."""
    if seconds < 55:
        whole = max(1, round(seconds) if seconds < 10 else 5 * round(seconds / 5))
        return f"{whole} second{'s' if whole != 1 else ''}"
    halves = max(2, round(seconds / 30))
    if halves < 10:
        number = f"{halves // 2}{'½' if halves % 2 else ''}"
        return f"{number} minute{'s' if halves != 2 else ''}"
    minutes = round(seconds / 60)
    return f"{minutes} minutes" if minutes < 90 else f"{minutes / 60:.1f} hours"


_SIGNS = {
    "good": ("✓", "Fine"),
    "note": ("i", "Note"),
    "warning": ("!", "Look at this"),
    "error": ("×", "Problem"),
}


def as_list(findings: Iterable[Finding], names: Mapping[str, str] | None = None) -> str:
    """Findings as HTML, an item each."""
    items = []
    for finding in findings:
        sign, word = _SIGNS[finding.level]
        text, remedy = html.escape(plain(finding.text, names)), html.escape(plain(finding.remedy, names))
        after = f"<span class='remedy'>{sentence(remedy)}</span>" if remedy else ""
        items.append(
            f"<li class='{finding.level}'><span class='sign' aria-hidden='true'>{sign}</span>"
            f"<span><span class='unseen'>{word}: </span>{sentence(text)}{after}</span></li>"
        )
    return f"<ul class='findings'>{''.join(items)}</ul>" if items else ""


def sentence(text: str) -> str:
    """A message with its capital and its full stop."""
    if not re.match(r"\S+\.\w+:", text):  # a file is called as its user called it
        text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def command(
    inputs: Sequence[str], gesture: str, settings: Mapping[str, Any], weights: str | None = None
) -> str:
    """The command line that makes the same clip from the user's own files: portrait and speech, or a text."""
    words = ["semibody", "animate", *inputs]
    if gesture != "auto":
        words += ["-g", gesture]
    if weights is not None:
        words += ["--weights", weights]
    given = {key: value for key, value in settings.items() if value is not None}
    if "width" in given and "height" in given:
        words += ["--size", f"{given.pop('width')}x{given.pop('height')}"]
    for name, value in given.items():
        option = option_name(name)
        if value is True:
            words.append(option)
        elif value is not False:
            words += [option, f"{value:g}" if isinstance(value, float) else str(value)]
    return shlex.join(words)


def option_name(field: str) -> str:
    """The option of a field of Settings."""
    (item,) = (one for one in dataclasses.fields(Settings) if one.name == field)
    return option_of(item).name


def shown(error: Exception, names: Mapping[str, str] | None = None) -> str:
    """What the page says of an error."""
    from semibody.runtime import OUT_OF_MEMORY

    if isinstance(error, SemibodyError) and not str(error).startswith(OUT_OF_MEMORY):
        return plain(str(error), names)
    return reason_of(error)
