"""Tables of an evaluation, as files of several formats."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

from semibody.evaluation.distributions import Interval
from semibody.evaluation.measures import Measured
from semibody.evaluation.protocol import Item, Problem, Protocol
from semibody.evaluation.run import Evaluation
from semibody.evaluation.tables import as_latex, as_markdown, write_table
from semibody.types import SemibodyError


@pytest.fixture
def found() -> Evaluation:
    results = {
        "PSNR": Measured(math.inf, {"a": math.inf}),
        "SSIM": Measured(0.91234, {"a": 0.9}, Interval(0.5, 0.95, 0.95, "bootstrap")),
        "Sync-C": Measured(math.nan, {}, None, 7.25),
        "FID-effnet": Measured(3.5e-12),
        "hand-error-shoulders": Measured(4.0),
    }
    return Evaluation(
        results, {"FID": "needs a_file & 50 % more\nsecond line"}, (Item("a", Path("a.mp4")),),
        (Problem("b", "is damaged", fatal=True),), Protocol(device="cpu"), {"python": "3"}, {}, 1.0,
    )  # fmt: skip


def test_markdown_has_a_row_a_metric_and_says_what_is_not_computed(found: Evaluation) -> None:
    lines = as_markdown(found).splitlines()
    assert "| PSNR ↑ | ∞ |  |  |" in lines
    assert "| SSIM ↑ | 0.9123 | 0.5 … 0.95 |  |" in lines
    assert "| Sync-C ↑ | – |  | 7.25 |" in lines
    assert any(line.startswith("FID: not computed") for line in lines)


def test_latex_has_four_cells_a_row_and_no_sign_that_tex_would_act_on(found: Evaluation) -> None:
    text = as_latex(found)
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")].splitlines()[1:]
    assert len(body) == len(found.results)
    for row in body:
        assert row.endswith(r"\\")
        assert len(re.split(r"(?<!\\)&", row)) == 4
        assert not re.search(r"(?<!\\)[%#]", row)
        assert row.count("$") % 2 == 0 and row.count("{") == row.count("}")
    assert r"PSNR $\uparrow$ (dB) & $\infty$ &  &  \\" in body
    assert r"SSIM $\uparrow$ & $0.9123$ & $0.5$ \ldots\ $0.95$ &  \\" in body
    assert r"FID-effnet $\downarrow$ & $3.50 \cdot 10^{-12}$ &  &  \\" in body
    assert r"(\% of shoulders)" in text
    assert all(line.startswith("% ") for line in text[text.index(r"\end{tabular}") :].splitlines()[1:])


def test_a_files_ending_is_its_format(found: Evaluation, tmp_path: Path) -> None:
    for name in ("t.md", "t.tex", "t.json", "t.TEX"):
        write_table(found, tmp_path / name)
    assert (tmp_path / "t.md").read_text() == as_markdown(found)
    assert (tmp_path / "t.TEX").read_text() == (tmp_path / "t.tex").read_text() == as_latex(found)
    facts = json.loads((tmp_path / "t.json").read_text())
    assert facts["metrics"]["PSNR"]["value"] == "inf" and facts["protocol"]["device"] == "cpu"
    with pytest.raises(SemibodyError, match=r"t\.pdf: the report is written as \.md, \.tex, \.json, \.html"):
        write_table(found, tmp_path / "t.pdf")
    assert not (tmp_path / "t.pdf").exists()
