"""A short fuzzing of every reader; ``make fuzz`` is the long one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.mutate import mutate
from fuzz.readers import READERS, Reader
from fuzz.run import fault_of

LEFT_OUT = {"metadata"}
"""Reads the same container as video."""


@pytest.mark.parametrize("reader", READERS, ids=lambda one: one.title)
def test_whole_files_are_read(tmp_path: Path, reader: Reader) -> None:
    for number, content in enumerate(reader.seeds()):
        path = tmp_path / str(number) / reader.name
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        reader.read(path)


@pytest.mark.parametrize("reader", [r for r in READERS if r.title not in LEFT_OUT], ids=lambda one: one.title)
def test_damaged_files_are_read_or_refused(tmp_path: Path, reader: Reader) -> None:
    draw, seeds = random.Random(reader.title), reader.seeds()
    for number in range(3 if reader.slow else 25):
        content = mutate(seeds, draw)
        folder = tmp_path / str(number) / "in"
        folder.mkdir(parents=True)
        wrong = fault_of(reader, content, folder)
        assert not wrong, f"{content[:200]!r}: {wrong}"
        assert [*folder.parent.iterdir()] == [folder], "nothing is written elsewhere"


TEXTS = [r for r in READERS if r.name.endswith((".json", ".jsonl", ".toml", ".csv", ".txt")) and not r.slow]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(content=st.binary(max_size=200) | JSON.map(lambda value: repr(value).encode(errors="surrogatepass")),
       number=st.integers(0, len(TEXTS) - 1))  # fmt: skip
def test_any_text_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, number: int
) -> None:
    folder = tmp_path_factory.mktemp("text")
    assert not fault_of(TEXTS[number], content, folder)
