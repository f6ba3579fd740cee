"""What the README promises is there: its snippet runs, its commands and options exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import made
from semibody import media
from semibody.pose.files import save_gesture

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


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


def help_of(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "semibody", *words, "--help"],
        capture_output=True, text=True, check=True, env={**__import__("os").environ, "COLUMNS": "200"},
    )  # fmt: skip
    return done.stdout


def test_options_named_in_the_readme_exist() -> None:
    known = help_of("animate") + help_of("weights", "convert") + help_of("weights", "fetch")
    for option in set(re.findall(r"(--[a-z][a-z-]+)", README)):
        assert option in known, option


def test_make_targets_named_in_the_docs_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    texts = [README, *(p.read_text(encoding="utf-8") for p in (ROOT / "docs").glob("*.md"))]
    for target in {name for text in texts for name in re.findall(r"(?:`|^)make ([a-z-]+)", text, flags=re.M)}:
        assert f"\n{target}:" in makefile, target


def test_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / link).exists(), link
