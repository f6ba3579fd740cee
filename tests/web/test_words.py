"""Messages as the page shows them."""

from __future__ import annotations

import errno

import pytest

from semibody import inputs
from semibody.pose.check import Finding
from semibody.settings import Settings
from semibody.types import SemibodyError
from semibody.web import studio, words


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/tmp/x/uploads/ab12/talk.wav: has no sound track", "talk.wav: has no sound track"),
        ("use --frame keep to leave it as it is", "use the setting “Frame: keep” to leave it as it is"),
        (
            "animate it with --frame keep --align none",
            "animate it with the setting “Frame: keep” “Align: none”",
        ),
        ("--fps 900 must be from 1 to 120", "“Fps: 900” must be from 1 to 120"),
        ("change it with --on-short-gesture, or", "change it with the setting “On short gesture”, or"),
    ],
)
def test_options_become_controls_and_paths_become_names(text: str, shown: str) -> None:
    assert words.plain(text) == shown


def test_a_file_has_the_name_that_its_user_gave_it() -> None:
    assert words.plain("/tmp/job/speech.wav: is silent", {"/tmp/job/speech.wav": "Ada's talk.wav"}) == (
        "Ada's talk.wav: is silent"
    )


def test_no_finding_can_bring_markup() -> None:
    shown = words.as_list([Finding("warning", "x", "<script>alert(1)</script>", "a & b")])
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown and "A &amp; b." in shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.3, "1 second"), (8.2, "8 seconds"), (43, "45 seconds"), (58, "1 minute"), (150, "2½ minutes"),
     (600, "10 minutes"), (7200, "2.0 hours")],
)  # fmt: skip
def test_durations_are_round(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


def test_errors_of_the_machine_are_sentences() -> None:
    assert "disk is full" in words.shown(OSError(errno.ENOSPC, "No space left on device"))
    assert "too little memory" in words.shown(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    assert "something went wrong" in words.shown(ValueError("inner detail"))
    assert words.shown(SemibodyError("x: cut it")) == "x: cut it"


def test_the_command_line_repeats_the_clip() -> None:
    line = words.command(
        ["my portrait.png", "a.wav"],
        "wave",
        {"width": 256, "height": 384, "overlap": 2, "seed": 7, "strict": True},
    )
    assert (
        line
        == "semibody animate 'my portrait.png' a.wav -g wave --size 256x384 --overlap 2 --seed 7 --strict"
    )
    assert words.option_name("window") == "--context"


def test_every_setting_has_a_control_with_a_name() -> None:
    import dataclasses

    for item in dataclasses.fields(Settings):
        assert words.label(item.name)[0].isupper()


def test_the_page_and_the_command_line_mean_the_same_gestures() -> None:
    page, line = ((vars(room)["AUTO"], vars(room)["STILL"]) for room in (studio, inputs))
    assert page == line == ("auto", "still")
