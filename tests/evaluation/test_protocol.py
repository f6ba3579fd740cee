"""Pairing by name, checks of headers before work, the cache."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import made
from semibody import config, media
from semibody.evaluation.cache import Cache, key_of
from semibody.evaluation.protocol import Item, Protocol, check, pair_clips
from semibody.files import digest
from semibody.types import SemibodyError


def folder(path: Path, *names: str) -> Path:
    path.mkdir()
    for name in names:
        (path / name).write_bytes(b"x")
    return path


def test_pairs_by_name_and_reports_what_has_no_partner(tmp_path: Path) -> None:
    ours = folder(tmp_path / "ours", "a.mp4", "b.mov", ".hidden.mp4", "notes.txt")
    real = folder(tmp_path / "real", "a.avi", "c.mp4")
    portraits = folder(tmp_path / "portraits", "a.png")
    items, problems = pair_clips(ours, real, portraits)
    assert [item.name for item in items] == ["a"]
    assert items[0].real == real / "a.avi"
    assert items[0].portrait == portraits / "a.png"
    assert {problem.name for problem in problems} == {"b", "c"}
    assert all(problem.fatal for problem in problems)


def test_two_single_files_are_a_pair_whatever_their_names(tmp_path: Path) -> None:
    here = folder(tmp_path / "x", "a.mp4", "b.mp4")
    items, problems = pair_clips(here / "a.mp4", here / "b.mp4")
    assert items == [Item("a", here / "a.mp4", here / "b.mp4")]
    assert not problems


def test_a_missing_portrait_is_reported_but_not_fatal(tmp_path: Path) -> None:
    ours = folder(tmp_path / "ours", "a.mp4")
    items, problems = pair_clips(ours, None, folder(tmp_path / "p", "z.png"))
    assert items[0].portrait is None
    assert [problem.fatal for problem in problems] == [False]


def test_manifest_names_truth_and_sound(tmp_path: Path) -> None:
    lines = [{"id": "one", "video": "v.mp4", "audio": "v.wav", "truth": "", "unknown": 3}, {"video": "w.mp4"}]
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    items, _ = pair_clips(tmp_path)
    assert [item.name for item in items] == ["one", "w"]
    assert items[0].speech == tmp_path / "v.wav"
    assert items[0].truth is None


@pytest.mark.parametrize(
    ("line", "message"),
    [("{", "not JSON"), ("[]", "names no video"), ('{"video": ""}', "names no video"), ("", "lists no clip")],
)
def test_broken_manifests_are_named_with_their_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_text(line)
    with pytest.raises(SemibodyError, match=message):
        pair_clips(path)


@pytest.mark.parametrize("names", [("a.mp4", "a.mov"), (), ("a.txt",)])
def test_folders_without_a_clear_answer_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(SemibodyError):
        pair_clips(folder(tmp_path / "x", *names))


def test_nothing_in_common_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(SemibodyError, match="same name in both"):
        pair_clips(folder(tmp_path / "x", "a.mp4"), folder(tmp_path / "y", "b.mp4"))
    with pytest.raises(SemibodyError, match="no such file"):
        pair_clips(tmp_path / "nowhere")


def test_headers_are_compared_first(tmp_path: Path) -> None:
    ours = made.write_video(tmp_path / "ours.mp4", frames=12, fps=12)
    longer = made.write_video(tmp_path / "longer.mp4", frames=24, fps=12)
    faster = made.write_video(tmp_path / "faster.mp4", frames=24, fps=24)
    small, wide = tmp_path / "small.mp4", tmp_path / "wide.mp4"
    for path, width in ((small, 48), (wide, 96)):
        with media.VideoWriter(path, fps=12, width=width, height=48) as video:
            video.write(np.zeros((12, 48, width, 3), np.uint8))
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video")

    def checked(real: Path) -> tuple[int, str]:
        kept, problems = check([Item("clip", ours, real)])
        return len(kept), " ".join(problem.what for problem in problems)

    assert checked(ours) == (1, "")
    assert checked(longer) == (1, "lasts 1.00 s, real 2.00 s; compared over 1.00 s")
    assert checked(faster) == (1, "real has 24 fps; it is sampled at the generated 12 fps")
    assert checked(small)[0] == 1
    assert "scaled to the generated size" in checked(small)[1]
    assert checked(wide)[0] == 0
    assert "different shapes" in checked(wide)[1]
    kept, text = checked(broken)
    assert kept == 0
    assert "broken.mp4" in text


def test_rules_are_settings() -> None:
    assert config.load(Protocol, overrides=["features_every=2"]).features_every == 2
    with pytest.raises(SemibodyError, match="did you mean features_every"):
        config.load(Protocol, overrides=["feature_every=2"])
    with pytest.raises(SemibodyError, match="must be 1 or more"):
        Protocol(hands_every=0)
    assert all(doc for _, _, doc in config.describe(Protocol))


def test_cache_keeps_arrays_and_takes_damage_for_a_miss(tmp_path: Path) -> None:
    cache, key = Cache(tmp_path), key_of("kind", 1, {"every": 2})
    assert cache.load(key) is None
    cache.save(key, {"a": np.arange(3), "empty": np.zeros((0, 4))})
    loaded = cache.load(key)
    assert loaded is not None
    assert loaded["a"].tolist() == [0, 1, 2]
    assert loaded["empty"].shape == (0, 4)
    (file,) = tmp_path.rglob("*.npz")
    file.write_bytes(file.read_bytes()[:20])
    assert cache.load(key) is None
    assert not cache.has(key)
    assert key_of("kind", 1, {"every": 3}) != key


def test_content_not_name_is_the_key(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"same")
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
