"""Write the pages of the documentation that follow from the code: command line, Python, settings.

python tools/write_reference.py           # docs/reference/*.md
python tools/write_reference.py --check   # exit code 1 if a page is not as the code is now
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "docs" / "reference"
_MADE = "<!-- Written by tools/write_reference.py; change the code, then run that. -->\n\n"


def pages() -> dict[str, str]:
    """The text of every page by its file's name."""
    return {"command-line.md": command_line(), "python.md": python(), "settings.md": settings()}


def command_line() -> str:
    """Every command with its arguments and options."""
    import typer

    from semibody.cli.app import app

    root = typer.main.get_command(app)
    parts = [
        f"{_MADE}# Command line\n\nAfter this page you know every command and option. "
        "`semibody COMMAND --help` prints the same.\n"
    ]
    parts += [_command(words, command) for words, command in _commands(root, ("semibody",))]
    return "\n".join(parts)


def _commands(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from _commands(inner, (*words, name))
    else:
        yield " ".join(words), command


def _command(words: str, command: Any) -> str:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    usage = " ".join([words, *((one.name or "").upper() for one in arguments), "[OPTIONS]"])
    rows = [f"| `{(one.name or '').upper()}` | {_cell(one.help)} |" for one in arguments]
    for one in command.params:
        if one.param_type_name != "option":
            continue
        names = ", ".join(f"`{name}`" for name in [*one.opts, *one.secondary_opts])
        given = one.default is not None and one.default is not False and one.default != ""
        default = f" Default: `{one.default}`." if given and not callable(one.default) else ""
        rows.append(f"| {names} | {_cell(one.help)}{default} |")
    table = "\n".join(["| | |", "| --- | --- |", *rows]) + "\n" if rows else ""
    return f"## {words}\n\n{_plain(command.help)}\n\n```\n{usage}\n```\n\n{table}"


def python() -> str:
    """Every public name with its signature and docstring."""
    import semibody

    parts = [
        f"{_MADE}# Python\n\nAfter this page you can do from Python whatever the command line does. "
        "All names are in `semibody`.\n"
    ]
    for name in sorted(set(semibody.__all__) - {"__version__"}, key=str.lower):
        parts.append(_public(name, getattr(semibody, name)))
    return "\n".join(parts)


def _public(name: str, thing: Any) -> str:
    text = f"## {name}\n\n```python\n{name}{_signature(thing)}\n```\n\n{_plain(inspect.getdoc(thing))}\n"
    if not inspect.isclass(thing):
        return text
    for inner, member in vars(thing).items():
        function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        if (inner.startswith("_") and inner != "__call__") or not inspect.isfunction(function):
            continue
        if not inspect.getdoc(function):
            continue
        text += f"\n### {name}.{inner}\n\n```python\n{inner}{_signature(function)}\n```\n"
        text += f"\n{_plain(inspect.getdoc(function))}\n"
    return text


def _signature(thing: Any) -> str:
    """Parameters and what is returned, a line each where they are many."""
    try:
        signature = inspect.signature(thing)
    except ValueError:
        return ""
    given = [one for one in signature.parameters.values() if one.name not in ("self", "cls")]
    parts, kinds = [_parameter(one) for one in given], [one.kind for one in given]
    if inspect.Parameter.KEYWORD_ONLY in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds:
        parts.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
    back = signature.return_annotation
    end = "" if back is inspect.Signature.empty else f" -> {back}"
    one_line = f"({', '.join(parts)}){end}"
    if len(one_line) < 80:
        return one_line
    return "(\n" + "".join(f"    {part},\n" for part in parts) + f"){end}"


def _parameter(one: inspect.Parameter) -> str:
    marks: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    stars = marks.get(one.kind, "")
    kind = "" if one.annotation is inspect.Parameter.empty else f": {one.annotation}"
    if one.default is inspect.Parameter.empty:
        return f"{stars}{one.name}{kind}"
    default = one.default.__name__ if inspect.isfunction(one.default) else repr(one.default)
    return f"{one.name}{kind} = {'…' if ' at 0x' in default or 'factory' in default else default}"


def settings() -> str:
    """Every setting of a clip with its default."""
    from semibody import config
    from semibody.settings import Settings

    docs = config.field_docs(Settings)
    rows = [
        f"| `{item.name}` | `{item.default!r}` | {_cell(docs.get(item.name))} |"
        for item in dataclasses.fields(Settings)
    ]
    return (
        f"{_MADE}# Settings of a clip\n\nAfter this page you know what can be changed about a clip. These "
        "are keyword arguments of `Animator.animate`, keys of a job of `semibody batch`, and, with dashes, "
        "options of `semibody animate`. Weights bring defaults of their own.\n\n"
        "| setting | default | what it does |\n| --- | --- | --- |\n" + "\n".join(rows) + "\n"
    )


def _cell(text: str | None) -> str:
    return _plain(text).replace("\n", " ").replace("|", "\\|")


def _plain(text: str | None) -> str:
    """A docstring in Markdown: code in single backticks, angles kept as they are."""
    return inspect.cleandoc(text or "").replace("``", "`").replace("<", "&lt;").strip()


def stale() -> list[str]:
    """Names of pages that are not as the code is now."""
    return [
        name
        for name, text in pages().items()
        if not (FOLDER / name).is_file() or (FOLDER / name).read_text(encoding="utf-8") != text
    ]


def main() -> None:
    if "--check" in sys.argv:
        found = stale()
        if found:
            print(f"run python tools/write_reference.py: {', '.join(found)}")
        sys.exit(bool(found))
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
