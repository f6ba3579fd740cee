"""What the README promises is there: its snippet runs, its commands and options exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import made
from semibody import (
    cli,  # noqa: F401 - registers the commands
    media,
)
from semibody.cli.app import app
from semibody.pose.files import save_gesture

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
TEXTS = [README, *(p.read_text(encoding="utf-8") for p in sorted((ROOT / "docs").glob("*.md")))]


def test_python_snippet_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    made.weights_folder(tmp_path / "home" / "weights" / "accelerated")
    media.write_image(tmp_path / "portrait.png", made.picture())
    media.write_speech(tmp_path / "speech.wav", made.tone(0.5))
    save_gesture(made.gesture(), tmp_path / "hands.npz")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEMIBODY_HOME", str(tmp_path / "home"))
    exec(compile(snippet.replace("hands/", "hands.npz"), "README.md", "exec"), {})
    assert media.read_metadata("out.mp4")["settings"]["seed"] == 7


def commands() -> dict[str, set[str]]:
    """Every command and its options: ``gesture plan`` -> {--seed, …}."""
    import typer

    def walk(command: Any, words: tuple[str, ...]) -> dict[str, set[str]]:
        if hasattr(command, "commands"):
            found = [walk(inner, (*words, name)) for name, inner in command.commands.items()]
            return {name: options for part in found for name, options in part.items()}
        return {
            " ".join(words): {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"--help"}
        }

    return walk(typer.main.get_command(app), ())


def test_commands_and_options_in_the_docs_exist() -> None:
    known = commands()
    everywhere = set().union(*known.values()) | {"--version", "--debug"}
    for text in TEXTS:
        for line in re.findall(r"semibody ([a-z][^`\n]*)", text):
            words = line.split()
            name = next((n for n in (" ".join(words[:2]), words[0]) if n in known), None)
            options = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]+)", line))
            assert name or words[0] in {n.split()[0] for n in known} or not options, line
            assert not name or options <= known[name], f"{line}: {options - known[name]}"
        options = set(re.findall(r"`(--[a-z][a-z-]+)", text))
        assert options <= everywhere, options - everywhere


def test_make_targets_named_in_the_docs_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in {name for text in TEXTS for name in re.findall(r"(?:`|^)make ([a-z-]+)", text, flags=re.M)}:
        assert f"\n{target}:" in makefile, target


def test_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / link).exists(), link
