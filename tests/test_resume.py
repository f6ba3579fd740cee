"""Runs that are killed at any moment and continued give the same bits as those that were not."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import faults
import made
from semibody import media, resume
from semibody.animator import Animator
from semibody.conditioning.clip import FrameCache
from semibody.inputs import Inputs, prepare
from semibody.media import segments
from semibody.resume import digest, folder_of, forget, unfinished_work
from semibody.types import SemibodyError

ARRAYS: dict[str, NDArray[Any]] = {
    "a": np.arange(12, dtype=np.float32).reshape(3, 4),
    "b": np.zeros((0, 2), np.int64),
}


# -- the folder -----------------------------------------------------------------------------


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    with unfinished_work(tmp_path / "o.mp4", "key") as work:
        assert work.load("state") is None
        work.save("state", ARRAYS, {"step": 3, "of": [None, "x"]})
        saved = work.load("state")
        assert saved is not None
        assert saved.facts == {"step": 3, "of": [None, "x"]}
        assert all((saved.arrays[name] == ARRAYS[name]).all() for name in ARRAYS)
        work.drop("state")
        assert work.load("state") is None
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_state_is_none(tmp_path: Path) -> None:
    """Every byte of the file counts: changed, missing or added."""
    with unfinished_work(tmp_path / "o.mp4", "key") as work:
        work.save("state", ARRAYS, {"step": 3})
        file = work.folder / "state"
        whole = file.read_bytes()
        for at in range(len(whole)):
            changed = bytearray(whole)
            changed[at] ^= 1 << at % 8
            file.write_bytes(bytes(changed))
            assert work.load("state") is None, at
            file.write_bytes(whole[:at])
            assert work.load("state") is None, at
        file.write_bytes(whole + b"\0")
        assert work.load("state") is None
        file.write_bytes(whole)
        assert work.load("state") is not None


def test_a_state_belongs_to_its_key(tmp_path: Path) -> None:
    out = tmp_path / "o.mp4"
    for key, kept in (("a", False), ("a", True), ("b", False), ("a", False)):
        with pytest.raises(KeyboardInterrupt), unfinished_work(out, key) as work:
            assert (work.load("state") is not None) == kept
            work.save("state", ARRAYS, {})
            raise KeyboardInterrupt
    with pytest.raises(SemibodyError), unfinished_work(out, "a"):
        raise SemibodyError("impossible")
    assert not folder_of(out).exists()


def test_names_have_folders_of_their_own(tmp_path: Path) -> None:
    names = ["o.mp4", "o.mov", "x" * 250 + ".mp4", "x" * 249 + "y.mp4"]
    folders = {folder_of(tmp_path / name) for name in names}
    assert len(folders) == len(names)
    for folder in folders:
        folder.mkdir()


def test_one_run_at_a_time(tmp_path: Path) -> None:
    out = tmp_path / "o.mp4"
    code = (
        "import sys, time; from pathlib import Path; from semibody.resume import unfinished_work\n"
        "with unfinished_work(Path(sys.argv[1]), 'key'):\n    print('in', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(out)], stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None
        other.stdout.readline()
        with (
            pytest.raises(SemibodyError, match=r"o\.mp4: another run is making it"),
            unfinished_work(out, "key"),
        ):
            pass
        forget(out)
        assert folder_of(out).exists(), "what a living process uses is left alone"
    finally:
        other.send_signal(signal.SIGKILL)
        other.communicate()
    forget(out)
    assert not folder_of(out).exists()


def test_digests_differ_when_content_does(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"1")
    parts: list[Any] = [
        None, 0, 0.0, False, "", "0", [], [[]], {}, {"a": 1}, {"a": "1"}, file, np.zeros(2), np.zeros((2, 1)),
        np.zeros(2, np.float32), [1, 2], [12], ["a", "b"], ["ab"], made.gesture(2), made.gesture(3),
    ]  # fmt: skip
    assert len({digest(part) for part in parts}) == len(parts)
    before = digest(file)
    file.write_bytes(b"2")
    assert digest(file) != before
    with pytest.raises(TypeError):
        digest(object())


# -- what the bits depend on ------------------------------------------------------------------


def test_frames_are_computed_in_the_same_groups_wherever_one_begins() -> None:
    def make(log: list[tuple[int, ...]]) -> FrameCache[Any]:
        def compute(frames: Any) -> list[Any]:
            log.append(tuple(frames))
            return [np.full(3, i) for i in frames]

        return FrameCache(compute, 10)

    a: list[tuple[int, ...]] = []
    b: list[tuple[int, ...]] = []
    forwards, later = make(a), make(b)
    assert [int(x[0]) for x in forwards.of([8, 9, 0, 1, 2])] == [8, 9, 0, 1, 2]
    forwards.of([3, 4, 5])
    assert [int(x[0]) for x in later.of([5, 6, 7, 8])] == [5, 6, 7, 8]
    later.of([0])
    assert set(a) == set(b) == {(0, 1, 2, 3), (4, 5, 6, 7), (8, 9)}


def test_segments_join_into_one_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames keep their times and pictures whatever the segments' length; the last may be a single frame."""
    monkeypatch.setattr(segments, "SEGMENT", 5)
    shown = np.stack([np.full((64, 64, 3), 10 * i, np.uint8) for i in range(21)])
    with media.VideoWriter(tmp_path / "a.mp4", fps=12, width=64, height=64, speech=made.tone(2.0)) as video:
        for start, stop in ((0, 3), (3, 4), (4, 12), (12, 21)):
            video.write(shown[start:stop])
    clip = media.read_clip(tmp_path / "a.mp4")
    assert clip.frames.shape == shown.shape
    assert np.abs(clip.frames.mean(axis=(1, 2, 3)) - shown.mean(axis=(1, 2, 3))).max() < 2
    with media.VideoReader(tmp_path / "a.mp4") as reader:
        assert reader.frame_count == 21
        assert reader.fps == 12
        assert len(list(reader.frames(12.0))) == 21


# -- kills ------------------------------------------------------------------------------------


def animated(animator: Animator, inputs: Inputs, out: Path, log: Path, **settings: Any) -> faults.Work:
    """Work that makes a video and notes in ``log`` every window that was denoised and slice decoded."""

    def work() -> None:
        def progress(stage: str, done: int, total: int) -> None:
            if stage in ("denoise", "decode"):
                with log.open("a") as file:
                    file.write(f"{stage} {done} {total}\n")

        animator.write(out, inputs, animator.settings(**settings), resume=True, progress=progress)

    return work


def kill_until_done(work: faults.Work, points: int, seed: int, most: int) -> int:
    """Run ``work`` again and again, killed at points drawn with ``seed``, ``most`` times; then to its end."""
    draw = random.Random(seed)
    for kills in range(most):
        if faults.run(work, faults.Kill(draw.randint(1, points))).how == "done":
            return kills
    assert faults.run(work).how == "done"
    return most


def killed_and_continued(
    animator: Animator, inputs: Inputs, folder: Path, seed: int, *, most: int, **settings: Any
) -> tuple[Path, int, int, int]:
    """A video that is killed at least twice has the bytes of one that is not. Returns it, the kills, the
    lines of its log, and those of the other one's."""
    whole, out, log = (folder / name / "o.mp4" for name in ("whole", "out", "log"))
    log.parent.mkdir()
    reference = faults.run(animated(animator, inputs, whole, log, **settings))
    assert reference.how == "done", reference
    needed = len(log.read_text().splitlines())
    log.unlink()
    kills = kill_until_done(animated(animator, inputs, out, log, **settings), reference.points, seed, most)
    assert kills >= 2
    assert out.read_bytes() == whole.read_bytes()
    return out, kills, len(log.read_text().splitlines()), needed


@pytest.mark.parametrize(("seed", "solver"), [(0, "ddim"), (1, "dpm++"), (2, "unipc")])
def test_killed_and_continued_gives_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, solver: str, seed: int
) -> None:
    """14 frames in two windows, 4 steps, guidance; 4 slices in 2 segments; killed up to 8 times."""
    monkeypatch.setattr(segments, "SEGMENT", 8)
    monkeypatch.setattr(resume, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(resume, "SAVE_SHARE", 1e9)
    animator = made.animator(steps=4, solver=solver, guidance=2.0)
    inputs = prepare(made.picture(), made.tone(1.2), made.gesture(), animator.settings())
    out, kills, lines, needed = killed_and_continued(animator, inputs, tmp_path, seed, most=8)
    assert list(out.parent.iterdir()) == [out], "nothing is left"
    # Of what was finished nothing is computed twice: a kill costs at most the window or slice at hand, or the
    # line of the log.
    assert abs(lines - needed) <= kills


def test_killed_and_continued_with_reused_features_gives_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is reused is not saved, so a group of two steps begins anew."""
    monkeypatch.setattr(resume, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(resume, "SAVE_SHARE", 1e9)
    animator = made.animator(steps=6, guidance=2.0, cache=2)
    inputs = prepare(made.picture(), made.tone(1.2), made.gesture(), animator.settings())
    _, kills, lines, needed = killed_and_continued(animator, inputs, tmp_path, 1, most=4)
    assert lines < (kills + 1) * needed, "finished groups are not computed again"


@pytest.mark.slow
def test_a_killed_run_with_the_starter(tmp_path: Path) -> None:
    animator = Animator.load("starter", precision="fp32", device="cpu")
    settings = {"width": 128, "height": 128, "fps": 8.0}
    # Made by hand: the detector has threads of its own, which a fork does not.
    inputs = Inputs(portrait=made.picture(128, 128), speech=made.tone(1.0), gesture=made.gesture(6, 8.0))
    out, *_ = killed_and_continued(animator, inputs, tmp_path, 3, most=3, **settings)
    assert list(out.parent.iterdir()) == [out]


def test_other_settings_begin_anew(tmp_path: Path) -> None:
    animator = made.animator(steps=3)
    inputs = prepare(made.picture(), made.tone(), made.gesture(), animator.settings())
    out, log = tmp_path / "o.mp4", tmp_path / "log"
    first = faults.run(animated(animator, inputs, tmp_path / "other.mp4", log, seed=1))
    killed = faults.run(animated(animator, inputs, out, log, seed=1), faults.Kill(first.points - 50))
    assert killed.how == "killed"
    assert folder_of(out).exists()
    log.unlink()
    assert faults.run(animated(animator, inputs, out, log, seed=2)).how == "done"
    assert log.read_text().startswith("denoise 1 ")
    assert out.read_bytes() != (tmp_path / "other.mp4").read_bytes()
    assert not folder_of(out).exists()


def test_a_run_without_resume_removes_the_state_at_its_end(tmp_path: Path) -> None:
    animator = made.animator(steps=1)
    inputs = prepare(made.picture(), made.tone(0.3), made.gesture(), animator.settings())
    with pytest.raises(KeyboardInterrupt), unfinished_work(tmp_path / "o.mp4", "key"):
        raise KeyboardInterrupt
    animator.write(tmp_path / "o.mp4", inputs, animator.settings())
    assert list(tmp_path.iterdir()) == [tmp_path / "o.mp4"]


def test_sampling_state_holds_all_that_a_solver_remembers() -> None:
    """A solver that remembers what cannot be saved says so, instead of going on differently."""
    from semibody.diffusion.state import _as_plain

    with pytest.raises(TypeError, match="remembers a set"):
        _as_plain({1}, "0/x", {})
    tensors: dict[str, torch.Tensor] = {}
    assert _as_plain([None, torch.ones(1)], "0/x", tensors) == [None, {"tensor": "0/x/1", "on": "cpu"}]
    assert list(tensors) == ["0/x/1"]
