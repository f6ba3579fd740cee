"""Settings: frozen dataclasses filled from defaults, then a TOML file, then ``--set a.b=c``.

Every settings class is a plain frozen dataclass that lives beside the code it configures;
nothing else in the package reads configuration. pydantic validates them, and here an unknown
key is an error that names the nearest known one.

    @dataclass(frozen=True, kw_only=True)
    class SamplerSettings:
        steps: int = 30
        \"\"\"denoising steps\"\"\"

    settings = load(SamplerSettings, toml=path, overrides=["steps=6"])
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import itertools
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from semibody.files import parse_toml, read_text
from semibody.types import SemibodyError

T = TypeVar("T")

_MOST_REPEATED = 80
"""Letters of the user's words that a message repeats."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """The command-line option of a setting, where it does not follow from name, type and docstring."""

    name: str = ""
    """with dashes; empty: the field's name"""
    short: str = ""
    """one letter with a dash"""
    metavar: str = ""
    """the value's placeholder in the help; empty: follows from the type"""
    at_least: float | None = None
    at_most: float | None = None


def option(
    default: T,
    *,
    name: str = "",
    short: str = "",
    metavar: str = "",
    at_least: float | None = None,
    at_most: float | None = None,
) -> T:
    """A field of a settings class with its default and its ``Option``."""
    made_option = Option(name=name, short=short, metavar=metavar, at_least=at_least, at_most=at_most)
    made: T = dataclasses.field(default=default, metadata={"option": made_option})
    return made


def option_of(item: dataclasses.Field[Any]) -> Option:
    """The ``Option`` of a field, with its name."""
    found = item.metadata.get("option", Option())
    assert isinstance(found, Option)
    return dataclasses.replace(found, name=found.name or f"--{item.name.replace('_', '-')}")


def load(cls: type[T], *, toml: Path | None = None, overrides: Sequence[str] = ()) -> T:
    """Build settings ``cls``: its defaults < the TOML file < ``key=value`` overrides.

    Raises SemibodyError for an unreadable file, an unknown key or a value of the wrong type.
    """
    return build(cls, merge(read_toml(toml) if toml else {}, overrides), str(toml or "settings"))


def build(cls: type[T], values: Mapping[str, Any], source: str = "settings") -> T:
    """Build the dataclass ``cls`` from nested ``values``; ``source`` is named in errors.

    A dataclass whose keys have changed since files were written with them has a static method
    ``read_old_keys(values)`` that returns the same values under the current keys.
    """
    from pydantic import TypeAdapter, ValidationError

    values = _with_current_keys(cls, values)
    _reject_unknown_keys(cls, values, source)
    try:
        return TypeAdapter(cls).validate_python(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        got = f", got {_start_of(repr(first['input']))}" if first["type"] != "missing" else ""
        raise SemibodyError(f"{source}: {where}: {first['msg']}{got}") from None


def to_dict(settings: Any) -> dict[str, Any]:
    """Nested plain values of a settings dataclass, ready for JSON or a checkpoint."""
    from pydantic import TypeAdapter

    values = TypeAdapter(type(settings)).dump_python(settings, mode="json")
    assert isinstance(values, dict)
    return values


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file. Raises SemibodyError naming the file and the line at fault."""
    return parse_toml(read_text(path, "give a TOML file"), str(path))


def merge(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return ``values`` with ``a.b=c`` overrides applied; ``c`` is read as TOML, else as a string."""
    merged = _copy(values)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise SemibodyError(f"--set {_start_of(override)}: write it as key=value, for example steps=6")
        *parents, last = key.strip().split(".")
        table = merged
        for parent in parents:
            table = table.setdefault(parent, {})
            if not isinstance(table, dict):
                raise SemibodyError(f"--set {_start_of(override)}: {parent} is a value, not a table")
        table[last] = _parse_value(text.strip())
    return merged


def describe(cls: type) -> Iterator[tuple[str, str, str]]:
    """Yield (dotted key, default, docstring) of every setting, for ``--help`` and the docs."""
    docs = field_docs(cls)
    hints = typing.get_type_hints(cls)
    for item in dataclasses.fields(cls):
        nested = _nested_dataclass(hints[item.name])
        if nested is not None:
            for key, default, doc in describe(nested):
                yield f"{item.name}.{key}", default, doc
            continue
        if item.default is not dataclasses.MISSING:
            default = repr(item.default)
        elif item.default_factory is not dataclasses.MISSING:
            default = repr(item.default_factory())
        else:
            default = "required"
        yield item.name, default, docs.get(item.name, "")


def _with_current_keys(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` as ``read_old_keys`` of ``cls`` and of the dataclasses inside it give them."""
    read_old_keys = getattr(cls, "read_old_keys", dict)
    made: dict[str, Any] = read_old_keys(values)
    hints = typing.get_type_hints(cls)
    for key, value in made.items():
        nested = _nested_dataclass(hints.get(key))
        if nested is not None and isinstance(value, Mapping):
            made[key] = _with_current_keys(nested, value)
    return made


def _reject_unknown_keys(cls: type, values: Mapping[str, Any], source: str, prefix: str = "") -> None:
    hints = typing.get_type_hints(cls)
    known = {item.name for item in dataclasses.fields(cls)}
    for key, value in values.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known: {', '.join(sorted(known))}"
            raise SemibodyError(f"{source}: unknown setting {prefix}{_start_of(key)}; {hint}")
        nested = _nested_dataclass(hints[key])
        if nested is not None and isinstance(value, Mapping):
            _reject_unknown_keys(nested, value, source, f"{prefix}{key}.")


def _nested_dataclass(hint: Any) -> type | None:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return hint
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        for option in typing.get_args(hint):
            if dataclasses.is_dataclass(option) and isinstance(option, type):
                return option
    return None


def _start_of(text: str) -> str:
    """The user's words as a message can repeat them: printable, and the first of many."""
    start = text if len(text) <= _MOST_REPEATED else f"{text[:_MOST_REPEATED]}…"
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in start)


def _copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copy(v) if isinstance(v, Mapping) else v for k, v in values.items()}


def _parse_value(text: str) -> Any:
    try:
        return parse_toml(f"value = {text}", text)["value"]
    except SemibodyError:
        return text


def field_docs(cls: type) -> dict[str, str]:
    """The docstring under each field of a settings class, which Python itself does not keep; a field that
    the class does not define itself has that of the class it comes from."""
    docs: dict[str, str] = {}
    for one in reversed(cls.__mro__):
        docs |= _own_field_docs(one) if dataclasses.is_dataclass(one) else {}
    return docs


def _own_field_docs(cls: type) -> dict[str, str]:
    import ast
    import textwrap

    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except (OSError, TypeError):
        return {}
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    docs: dict[str, str] = {}
    for item, after in itertools.pairwise(body):
        if (
            isinstance(item, ast.AnnAssign)
            and isinstance(item.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        ):
            docs[item.target.id] = " ".join(after.value.value.split())
    return docs
