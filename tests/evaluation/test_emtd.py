"""A test set built of videos; the official crop itself is tested with ``pose.frame``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import made
from semibody import media
from semibody.evaluation import emtd
from semibody.evaluation.protocol import pair_clips
from semibody.pose.files import load_gesture
from semibody.types import N_JOINTS, Gesture, SemibodyError


def test_a_test_set_is_built_and_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semibody.pose.detectors.open_detector", lambda name: made.PersonDetector())
    videos = tmp_path / "videos"
    videos.mkdir()
    made.write_video(videos / "one.mp4", frames=12, fps=12)
    made.write_video(videos / "silent.mp4", frames=6, sound=False)
    problems = emtd.build(videos, tmp_path / "set")
    assert [problem.name for problem in problems] == ["silent"]
    items, _ = pair_clips(tmp_path / "set")
    assert [item.name for item in items] == ["one"]
    clip = media.read_clip(items[0].generated)
    assert clip.frames.shape[1:] == (768, 768, 3)
    assert clip.fps == 24
    assert items[0].gesture is not None
    assert len(load_gesture(items[0].gesture)) == len(clip)
    with pytest.raises(SemibodyError, match="holds no videos"):
        emtd.build(tmp_path / "nowhere", tmp_path / "set")


def test_a_person_at_the_edge_is_padded_with_black_and_a_clip_without_a_person_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    made.write_video(videos / "one.mp4", frames=3, fps=24)
    at = made.half_body(0.05)
    monkeypatch.setattr("semibody.pose.detectors.open_detector", lambda name: made.PersonDetector())
    monkeypatch.setattr("semibody.pose.track.detect_gesture", lambda *_, **__: at)
    assert emtd.build(videos, tmp_path / "set") == []
    portrait = media.read_image(tmp_path / "set" / "one.png")
    assert (portrait[384, :100] == 0).all() and portrait[384, -100:].any()
    at = Gesture(np.zeros((2, N_JOINTS, 2)), np.zeros((2, N_JOINTS)), name="one.mp4")
    with pytest.raises(SemibodyError, match=r"one\.mp4: shows no half body"):
        emtd.build(videos, tmp_path / "another")


def test_pieces_of_whole_videos_are_cut_where_the_list_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("semibody.pose.detectors.open_detector", lambda name: made.PersonDetector())
    videos = tmp_path / "videos"
    videos.mkdir()
    with media.VideoWriter(
        videos / "abc_-1.mp4", fps=24, width=96, height=96, speech=made.tone(3.0), crf=0
    ) as video:
        for number in range(72):
            video.write(np.full((96, 96, 3), 3 * number, np.uint8))
    listing = tmp_path / "list.txt"
    listing.write_text(
        "URL,start_timecode,end_timecode\n"
        "https://www.youtube.com/watch?v=abc_-1,0:00:00,0:00:00.5\n"
        "https://www.youtube.com/watch?v=abc_-1,0:00:01,0:00:02.5\n"
        "https://www.youtube.com/watch?v=abc_-1,0:01:00,0:01:01\n"
        "https://youtu.be/other,0:00:01,0:00:02\n"
    )
    problems = {p.name: p.what for p in emtd.build(videos, tmp_path / "set", listing=listing)}
    assert set(problems) == {"other", "abc_-1-3"}
    assert "download it" in problems["other"] and "ends before second 60" in problems["abc_-1-3"]
    items, _ = pair_clips(tmp_path / "set")
    lengths = {item.name: len(media.read_clip(item.generated)) for item in items}
    assert lengths == {"abc_-1": 12, "abc_-1-2": 36}
    assert media.read_speech(tmp_path / "set" / "abc_-1-2.wav").seconds == pytest.approx(1.5, abs=0.05)
    for name, first in (("abc_-1", 0), ("abc_-1-2", 24)):
        middle = media.read_image(tmp_path / "set" / f"{name}.png")[384, 384]
        assert np.abs(middle.astype(float) - 3 * first).max() <= 1
    assert sorted(p.name for p in (tmp_path / "set").iterdir() if p.is_dir()) == []
