from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from semibody import config
from semibody.types import SemibodyError


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.5
    """how fast"""


@dataclass(frozen=True, kw_only=True)
class Outer:
    steps: int = 30
    """how many"""
    inner: Inner = field(default_factory=Inner)


def test_precedence(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("steps = 6\n[inner]\nrate = 2.0\n")
    assert config.load(Outer) == Outer()
    assert config.load(Outer, toml=tmp_path / "a.toml").steps == 6
    loaded = config.load(Outer, toml=tmp_path / "a.toml", overrides=["inner.rate=3", "steps=7"])
    assert loaded == Outer(steps=7, inner=Inner(rate=3.0))
    assert config.build(Outer, config.to_dict(loaded)) == loaded


@pytest.mark.parametrize(
    ("override", "says"),
    [("stepz=3", "did you mean steps"), ("inner.rat=3", r"did you mean inner\.rate"), ("steps=a", "steps"),
     ("steps", "key=value"), ("steps.a=3", "steps")],
)  # fmt: skip
def test_mistakes_are_explained(override: str, says: str) -> None:
    with pytest.raises(SemibodyError, match=says):
        config.load(Outer, overrides=[override])


def test_bad_files(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("steps = = 3")
    for name in ("bad.toml", "missing.toml"):
        with pytest.raises(SemibodyError, match=name):
            config.load(Outer, toml=tmp_path / name)


def test_describe_gives_docs() -> None:
    assert list(config.describe(Outer)) == [("steps", "30", "how many"), ("inner.rate", "0.5", "how fast")]
