"""The model card: every number comes from a file, what is missing is stated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import made
from semibody import config, media
from semibody.training.card import cases, write_card
from semibody.types import SemibodyError
from training.nano import nano, packed


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "recipe.json").write_text(json.dumps(config.to_dict(nano("name=starter", "about=Small."))))
    log = [
        {"stage": "vae", "step": 3, "loss": 0.5, "minutes": 30.0},
        {"stage": "vae", "step": 6, "val/psnr": 28.5, "val/psnr_face": 21.25},
        {"stage": "audio", "step": 7, "val/jaw_r": 0.96875, "val/loss": 0.5},
        {"stage": "still", "step": 5, "loss": 0.4, "minutes": 90.0},
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    return folder


def row(measure: str, value: float | None, *, reached: bool) -> dict[str, Any]:
    return {"measure": measure, "unit": "dB", "repeat": 18.2, "value": value, "interval": [20.0, 22.0],
            "real": None, "goal": "≥ 24", "reached": reached}  # fmt: skip


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """Results of eight clips, with the clips."""
    folder, values = tmp_path / "bench", {f"c{k}": 20.0 + k for k in range(8)}
    media.write_image(tmp_path / "portrait.png", made.picture())
    video = made.write_video(tmp_path / "clip.mp4")
    for side in ("clips", "real"):
        (folder / side).mkdir(parents=True)
        lines = [{"id": n, "video": str(video), "portrait": str(tmp_path / "portrait.png")} for n in values]
        (folder / side / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)))
    results = {
        "clips": list(values),
        "metrics": {"PSNR-face": {"clips": values}},
        "not_computed": {"jaw-correlation": "needs a part"},
        "table": [row("PSNR", 23.75, reached=False), row("SSIM", 0.875, reached=True),
                  row("hands-found", None, reached=False)],
    }  # fmt: skip
    (folder / "results.json").write_text(json.dumps(results))
    return folder / "results.json"


def test_all_numbers_are_read_from_files(run: Path, bench: Path, tmp_path: Path) -> None:
    weights, clips = made.weights_folder(tmp_path / "weights"), packed(tmp_path / "packed")
    (tmp_path / "notes.md").write_text("- Its thumbs are short.\n")
    out = tmp_path / "card" / "MODEL_CARD.md"
    written = write_card(
        run, weights=weights, out=out, packed=clips, bench=bench, notes=tmp_path / "notes.md",
        pictures=tmp_path / "docs" / "starter",
    )  # fmt: skip
    text = out.read_text()
    assert "| vae | 6 | 4 | " in text
    assert "psnr_face 21.25 dB" in text
    assert "| jaw_r 0.9688 |" in text
    assert "| all | | | | 2.00 | |" in text  # 30 and 90 minutes
    assert "| 24 | 2, 1 | 3 | 0 | 24 |" in text  # three drawn people, 8 frames each, one held out
    assert "| PSNR (dB) | 18.2 | 23.75 | 20 … 22 |  | ≥ 24 | **no** |" in text
    assert "Goals not reached: PSNR." in text
    assert "Goals not measured: hands-found." in text
    assert "jaw-correlation: not computed: needs a part" in text
    assert "- Its thumbs are short." in text
    assert [path.name for path in written] == ["MODEL_CARD.md", "starter-curves.png", "starter-cases.png"]
    for picture in written[1:]:
        assert f"](../docs/{picture.name})" in text
        assert media.read_image(picture).ndim == 3
    assert f"| all | {sum(v.numel() for v in made.animator().model.state_dict().values()):,} |" in text


def test_what_was_not_measured_is_stated(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "card.md"
    assert write_card(run, weights=made.weights_folder(tmp_path / "w"), out=out) == [out]
    assert "Not counted for this card." in out.read_text()
    assert "Not measured for this card." in out.read_text()


def test_typical_cases_lie_at_the_median_and_the_worst_at_the_end() -> None:
    values = dict(zip("abcdefghi", np.arange(9.0), strict=True)) | {"unseen": None}
    chosen = cases({"metrics": {"PSNR-face": {"clips": values}}})
    assert chosen["worst"] == ["a", "b", "c"]
    assert set(chosen["typical"]) == {"d", "e", "f"}
    assert cases({}) == {}


def test_a_folder_without_a_training_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SemibodyError, match=r"recipe\.json: cannot be read"):
        write_card(tmp_path, weights=tmp_path, out=tmp_path / "card.md")
