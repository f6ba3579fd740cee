"""The reference pages are as the code is."""

from __future__ import annotations

import pytest
import write_reference


def test_no_page_is_stale() -> None:
    assert not write_reference.stale(), "run python tools/write_reference.py"


def test_a_changed_page_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_reference, "settings", lambda: "other")
    assert write_reference.stale() == ["settings.md"]


def test_pages_name_what_there_is() -> None:
    made = write_reference.pages()
    for word in ("semibody batch", "`--workers`", "semibody weights export", "semibody provenance"):
        assert word in made["command-line.md"], word
    for word in (
        "## Animator",
        "### Animator.animate_to",
        "## animate_many",
        "### SemibodyPipeline.__call__",
    ):
        assert word in made["python.md"], word
    assert " at 0x" not in made["python.md"]
