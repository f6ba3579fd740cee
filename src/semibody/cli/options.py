"""Options of a command made from a settings class: names, defaults and help are its fields' own.

    @app.command()
    @with_options
    def animate(portrait: Path, *, changes: Annotated[dict[str, Any], Changes(Settings)]) -> None: ...

    @app.command()
    @with_options
    def people(out: Path, *, order: Annotated[Order, Built(Order, people=1000)]) -> None: ...

A parameter marked ``Built`` becomes an option for each field, and receives the class made of them. One marked
``Changes`` receives a dictionary of what the user set, for settings whose defaults are known only later.
``config.option`` gives a field what its name and type do not: another name, a letter, limits.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable, Collection, Iterator
from typing import Annotated, Any, Literal

import typer

from semibody import config
from semibody.types import SemibodyError


class Group:
    """Marks a parameter that stands for the options of a settings class."""

    def __init__(self, of: type, *, skip: Collection[str] = (), **defaults: Any) -> None:
        """``skip`` names fields that are no options here; ``defaults`` are this command's own."""
        self.of, self.skip, self.defaults = of, frozenset(skip), defaults

    def parameters(self) -> Iterator[inspect.Parameter]:
        """A keyword parameter, as typer reads it, for each field."""
        hints, docs = typing.get_type_hints(self.of), config.field_docs(self.of)
        for item in dataclasses.fields(self.of):
            if item.name in self.skip:
                continue
            given_option = config.option_of(item)
            kind, metavar = _kind(hints[item.name])
            option = typer.Option(
                self.default(item),
                given_option.name,
                *([given_option.short] if given_option.short else []),
                help=docs.get(item.name),
                metavar=given_option.metavar or metavar,
                min=given_option.at_least,
                max=given_option.at_most,
            )
            yield inspect.Parameter(
                item.name, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=kind
            )

    def default(self, item: dataclasses.Field[Any]) -> Any:
        """The option's value before the user sets it."""
        raise NotImplementedError

    def make(self, values: dict[str, Any]) -> Any:
        """What the command receives."""
        raise NotImplementedError


class Built(Group):
    """The parameter receives the settings class, built and validated."""

    def default(self, item: dataclasses.Field[Any]) -> Any:
        """The command's own or the field's; an empty text is shown as nothing."""
        value = self.defaults.get(item.name, item.default)
        return None if value == "" else value

    def make(self, values: dict[str, Any]) -> Any:
        given = {key: value for key, value in values.items() if value is not None}
        return config.build(self.of, {**self.defaults, **given}, "settings")


class Changes(Group):
    """The parameter receives a dictionary of those fields that the user set."""

    def default(self, item: dataclasses.Field[Any]) -> Any:
        return False if item.default is False else None

    def make(self, values: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in values.items() if value is not None and value is not False}


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with every parameter that is marked by a ``Group`` replaced by the group's options."""
    parameters: list[inspect.Parameter] = []
    groups: dict[str, tuple[Group, tuple[str, ...]]] = {}
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        group = _group_of(parameter.annotation)
        if group is None:
            parameters.append(parameter)
            continue
        made = list(group.parameters())
        groups[parameter.name] = group, tuple(one.name for one in made)
        parameters += made

    @functools.wraps(command)
    def generated(**values: Any) -> None:
        for name, (group, fields) in groups.items():
            values[name] = group.make({field: values.pop(field) for field in fields})
        command(**values)

    # typer reads both; functools.wraps sets them to those of the undecorated command.
    generated.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    generated.__annotations__ = {one.name: one.annotation for one in parameters} | {"return": None}
    return generated


def _group_of(annotation: Any) -> Group | None:
    marks = typing.get_args(annotation)[1:] if typing.get_origin(annotation) is Annotated else ()
    return next((mark for mark in marks if isinstance(mark, Group)), None)


def _kind(hint: Any) -> tuple[Any, str | None]:
    """The type that typer parses, and what stands for its value in the help if typer would not show it.

    Choices stay text: ``config.build`` refuses a wrong one in a line like every other mistake.
    """
    if typing.get_origin(hint) is types.UnionType:
        (hint,) = (one for one in typing.get_args(hint) if one is not type(None))
    if typing.get_origin(hint) is Literal:
        return str | None, "|".join(map(str, typing.get_args(hint)))
    return (bool if hint is bool else hint | None), None


def parse_size(size: str) -> tuple[int, int]:
    """``768`` or ``512x768`` (width x height)."""
    parts = size.lower().replace("×", "x").split("x")
    if len(parts) not in (1, 2) or not all(_is_number(part) for part in parts):
        raise SemibodyError(f"--size {size}: write it as 768 or as width x height, for example 512x768")
    width = int(parts[0])
    return width, int(parts[-1])


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10  # "²".isdigit() is True, int("²") fails
