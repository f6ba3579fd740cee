"""Options made from settings classes: names, defaults and help are the fields', and nothing is restated."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from typer.testing import CliRunner

import made
from semibody import (
    cli,  # noqa: F401 - registers the commands
    config,
    media,
)
from semibody.batch.jobs import read_jobs
from semibody.cli.app import app
from semibody.cli.options import Built, Changes, parse_size, with_options
from semibody.data.synthetic.order import Order
from semibody.settings import DENOISING, Settings, Source
from semibody.types import SemibodyError


@dataclass(frozen=True, kw_only=True)
class Kettle:
    litres: float = config.option(1.5, short="-l", at_least=0.1, at_most=3)
    """How much water."""
    whistle: bool = False
    """Make a sound when it boils."""
    heat: Literal["low", "high"] = "high"
    """Of the flame."""
    minutes: int | None = config.option(None, name="--for")
    """Longest time."""
    tea_kind: str = ""
    """Name of a leaf."""


def kettle(mark: Any) -> tuple[typer.Typer, list[Any]]:
    """A command with a kettle's options, and what it was called with."""
    made: list[Any] = []
    one = typer.Typer()

    def boil(cup: str, *, given: Any, hurry: bool = False) -> None:
        made.extend([cup, given, hurry])

    boil.__annotations__["given"] = Annotated[Any, mark]
    one.command()(with_options(boil))
    return one, made


def options(application: typer.Typer, command: str | None = None) -> dict[str, Any]:
    """The options of a command by their names: what click knows of each."""
    found: Any = typer.main.get_command(application)
    found = found.commands[command] if command else found
    return {name: one for one in found.params for name in one.opts if one.param_type_name == "option"}


def test_a_settings_class_becomes_options() -> None:
    one, _ = kettle(Built(Kettle, heat="low"))
    made = options(one)
    assert made.keys() >= {"--litres", "-l", "--whistle", "--heat", "--for", "--tea-kind", "--hurry"}
    assert made["--litres"] is made["-l"]
    assert (made["--litres"].default, made["--heat"].default, made["--for"].default) == (1.5, "low", None)
    assert (made["--litres"].help, made["--heat"].metavar) == ("How much water.", "low|high")
    assert made["--whistle"].is_flag


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], Kettle(heat="low")),
        (["-l", "2", "--whistle", "--for", "4"], Kettle(litres=2.0, whistle=True, heat="low", minutes=4)),
        (["--heat", "high", "--tea-kind", "green"], Kettle(tea_kind="green")),
    ],
)
def test_a_command_receives_the_settings_built(words: list[str], expected: Kettle) -> None:
    one, received = kettle(Built(Kettle, heat="low"))
    done = CliRunner().invoke(one, ["blue", *words, "--hurry"])
    assert done.exit_code == 0, done.output
    assert received == ["blue", expected, True]


def test_a_command_receives_only_what_was_set() -> None:
    one, received = kettle(Changes(Kettle))
    assert CliRunner().invoke(one, ["blue"]).exit_code == 0
    assert CliRunner().invoke(one, ["red", "--litres", "1.5", "--whistle"]).exit_code == 0
    assert received == ["blue", {}, False, "red", {"litres": 1.5, "whistle": True}, False]


def test_mistakes_are_refused() -> None:
    one, received = kettle(Built(Kettle, skip=["minutes"]))
    wrong = CliRunner().invoke(one, ["blue", "--heat", "middling"])
    assert isinstance(wrong.exception, SemibodyError)
    assert "heat" in str(wrong.exception)
    assert CliRunner().invoke(one, ["blue", "--litres", "9"]).exit_code == 2
    assert CliRunner().invoke(one, ["blue", "--for", "9"]).exit_code == 2
    assert received == []


def test_every_setting_has_an_option_with_its_docstring() -> None:
    docs = config.field_docs(Settings)
    for command, fields in (
        ("animate", {item.name for item in dataclasses.fields(Settings)}),
        ("check", {item.name for item in dataclasses.fields(Settings)} - set(DENOISING)),
    ):
        help_of = {one.name: one.help for one in options(app, command).values()}
        assert {name: help_of.get(name) for name in fields} == {name: docs[name] for name in fields}
    sources = {item.name for item in dataclasses.fields(Source)}
    for command in ("animate", "batch", "web"):
        assert sources <= {one.name for one in options(app, command).values()}


def test_options_keep_their_names() -> None:
    assert options(app, "animate").keys() >= {
        "--gesture", "-g", "--out", "-o", "--weights", "-w", "--preset", "--size", "--width", "--height",
        "--fps", "--length", "-L", "--steps", "--guidance", "--solver", "--seed", "--context", "--overlap",
        "--shared-noise", "--on-short-gesture", "--frame", "--align", "--strict",
        "--background", "--allow-silence", "--precision", "--device", "--crf", "--dry-run", "--quiet", "-q",
    }  # fmt: skip
    assert options(app, "check").keys() >= {
        "--size", "--frame", "--align", "--overlay", "-o", "--strict", "--json",
    }  # fmt: skip


def test_orders_of_people_are_generated() -> None:
    command: Any = typer.main.get_command(app)
    of = {
        name: {one.name: one for one in command.commands["data"].commands[name].params}
        for name in ("synthesise", "people")
    }
    for item in dataclasses.fields(Order):
        default = of["synthesise"][item.name].default
        assert ("" if default is None else default) == item.default
    assert set(of["synthesise"]) - set(of["people"]) == {"backgrounds", "speech"}
    assert [of["people"][name].default for name in ("people", "clips", "seconds", "size")] == [
        1000,
        1,
        2.0,
        256,
    ]
    assert of["people"]["head_share"].opts == ["--heads"]


def test_every_setting_is_a_key_of_a_job(tmp_path: Path) -> None:
    media.write_image(tmp_path / "a.png", made.picture())
    media.write_speech(tmp_path / "a.wav", made.tone(0.3))
    values = dataclasses.asdict(Settings(length=3))
    job = {"portrait": "a.png", "speech": "a.wav", "out": "a.mp4", **values}
    (tmp_path / "jobs.jsonl").write_text(json.dumps(job))
    (read,) = read_jobs(tmp_path / "jobs.jsonl")
    assert read.settings == values


def test_sizes() -> None:
    assert parse_size("768") == (768, 768)
    assert parse_size("512x640") == parse_size("512×640") == (512, 640)
    for wrong in ("", "big", "1x2x3", "-5", "5x"):
        with pytest.raises(SemibodyError, match="--size"):
            parse_size(wrong)
