"""Looking at a data set: the numbers are right, the page stands alone, broken clips are named."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from semibody.cli import main
from semibody.clips.manifest import ClipEntry, write_manifest
from semibody.clips.mouth import correlation
from semibody.clips.truth import BOXES, Truth
from semibody.data.inspect import measure, survey, write_report
from semibody.media import loudness, write_clip, write_speech
from semibody.pose.files import save_gesture
from semibody.types import LEFT_HAND, N_JOINTS, RIGHT_HAND, Clip, Gesture, SemibodyError, Speech

FRAMES, FPS = 24, 24.0


def clip(folder: Path, name: str = "a", person: str = "p0") -> ClipEntry:
    """A clip whose numbers are known: both hands in half of the frames, the left one moves 10 px of 768."""
    rng = np.random.default_rng(0)
    joints = np.full((FRAMES, N_JOINTS, 2), 0.5)
    joints[::2, LEFT_HAND, 0] += 10 / 768
    joints[1::2, LEFT_HAND, 0] -= 10 / 768
    confidence = np.ones((FRAMES, N_JOINTS))
    confidence[FRAMES // 2 :, RIGHT_HAND] = 0.3
    jaw = (0.5 - 0.5 * np.cos(np.arange(FRAMES) / 2)).astype(np.float32)
    loud = np.repeat(jaw, round(16000 / FPS))[:16000]
    speech = Speech((loud * rng.uniform(-0.5, 0.5, len(loud))).astype(np.float32), 16000)
    entry = ClipEntry(
        id=name, split="train", person=person, kind="full", source="synthetic",
        video=folder / f"{name}.mp4", audio=folder / f"{name}.wav", gesture=folder / f"{name}.npz",
        truth=folder / f"{name}.truth.npz", frames=FRAMES, fps=FPS, width=32, height=32, seconds=1.0,
    )  # fmt: skip
    frames = rng.integers(0, 255, (FRAMES, 32, 32, 3)).astype(np.uint8)
    write_clip(Clip(frames, FPS, speech), entry.video)
    assert entry.audio is not None and entry.truth is not None
    write_speech(entry.audio, speech)
    save_gesture(Gesture(joints, confidence, FPS), entry.gesture)
    boxes = np.tile(np.array([0.2, 0.2, 0.6, 0.6], np.float32), (FRAMES, 1))
    Truth(jaw, dict.fromkeys(BOXES, boxes)).save(entry.truth)
    return entry


def test_numbers_of_a_known_clip(tmp_path: Path) -> None:
    numbers = measure(clip(tmp_path))
    assert numbers.face == 1.0
    assert numbers.both_hands == pytest.approx(0.5)
    assert numbers.hands_cut == 0.0
    assert numbers.confidence == pytest.approx(1 - 0.25 * 0.7)
    # The left hand moves by 10 px in x alone; the right one stands still: sqrt(mean(100, 0, 0, 0)).
    assert numbers.variation == pytest.approx(5.0)
    assert numbers.jaw_follows_voice > 0.9
    assert sum(numbers.jaw) == pytest.approx(1.0)


def test_silence_has_no_correlation_and_a_level_envelope() -> None:
    loud = loudness(Speech(np.zeros(16000, np.float32), 16000), 24, 24.0, 0.08)
    assert loud.shape == (24,) and not loud.any()
    assert np.isnan(correlation(loud, np.arange(24)))


def test_the_page_needs_no_other_file(tmp_path: Path) -> None:
    write_manifest([clip(tmp_path, "a"), clip(tmp_path, "b", "p1")], tmp_path)
    out = tmp_path / "elsewhere" / "page.html"
    numbers = survey(tmp_path)
    write_report(tmp_path, out, numbers)
    page = out.read_text(encoding="utf-8")
    assert (numbers.clips, numbers.people, numbers.seconds) == (2, 2, 2.0)
    assert page.count("data:image/jpeg;base64,") == page.count("<img") >= 3
    assert 'src="http' not in page and 'href="' not in page


def test_broken_clips_are_named_and_the_rest_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    good, cut, lost, shorter = (clip(tmp_path, n, n) for n in ("good", "cut", "lost", "shorter"))
    cut.video.write_bytes(cut.video.read_bytes()[:200])
    lost.gesture.unlink()
    save_gesture(Gesture(np.zeros((3, N_JOINTS, 2)), np.ones((3, N_JOINTS))), shorter.gesture)
    write_manifest([good, cut, lost, shorter], tmp_path)
    assert run(monkeypatch, "data", "inspect", tmp_path, "--json") == 0
    values = json.loads(capsys.readouterr().out)
    assert sorted(name for name, _ in values["faults"]) == ["cut", "lost", "shorter"]
    assert values["both_hands"] == pytest.approx(0.5)
    assert run(monkeypatch, "data", "inspect", tmp_path) == 0
    assert (tmp_path / "report.html").exists()


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["semibody", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


def test_a_folder_without_clips_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(SemibodyError, match="cannot be read"):
        survey(tmp_path)
    write_manifest([], tmp_path)
    with pytest.raises(SemibodyError, match="lists no clip"):
        survey(tmp_path)
