"""Real videos ingested: cut at scenes, tested with reasons, cropped, resumable; broken ones are named."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from conftest import shared_folder
from semibody.clips.manifest import read_manifest
from semibody.clips.truth import Truth
from semibody.data import ingest as room
from semibody.data import lips, people
from semibody.data.ingest import (
    caption_share,
    emtd_square,
    find_videos,
    ingest,
    ingest_video,
)
from semibody.data.wanted import Wanted
from semibody.media import VideoReader, VideoWriter, read_speech, write_speech
from semibody.pose.files import load_gesture
from semibody.pose.frame import box_crop
from semibody.processes import Workers, run_jobs
from semibody.types import (
    FACE,
    LEFT_HAND,
    N_JOINTS,
    RIGHT_HAND,
    MissingPartError,
    Pose,
    SemibodyError,
    Speech,
)

pytest.importorskip("scenedetect")

FPS, SIZE = 12, 96
WANTED = Wanted(size=64, fps=FPS, shortest=1.0, longest=3.0)
GOOD, EMPTY, CROWD, HANDLESS, MUTE_LIPS = (
    (30, 90, 150),
    (200, 40, 40),
    (240, 240, 240),
    (40, 40, 120),
    (220, 220, 90),
)
"""Colours of scenes; the detector below returns poses by them."""


def loudness(frame: int) -> float:
    return 0.5 - 0.5 * np.cos(2 * np.pi * frame / 7)


def pose(opening: float, hands: bool) -> Pose:
    """A person in the middle of the picture, whose mouth is open by ``opening``."""
    joints = np.zeros((N_JOINTS, 2))
    joints[0:5] = [(0.5, 0.3), (0.5, 0.45), (0.38, 0.45), (0.34, 0.6), (0.4, 0.7)]
    joints[5:8] = [(0.62, 0.45), (0.66, 0.6), (0.6, 0.7)]
    angles = np.linspace(np.pi, 0, 17)
    face = np.full((68, 2), 0.3)
    face[:, 0] = 0.5
    face[:17] = np.stack([0.5 + 0.1 * np.cos(angles), 0.28 + 0.12 * np.sin(angles)], axis=1)
    face[17:27] = [(0.42 + 0.018 * i, 0.22) for i in range(10)]
    face[61:64, 1], face[65:68, 1] = 0.34 - 0.012 * opening, 0.34 + 0.012 * opening
    joints[FACE] = face
    confidence = np.zeros(N_JOINTS)
    confidence[:8] = 0.9
    confidence[FACE] = 0.9
    for part, x in ((LEFT_HAND, 0.6), (RIGHT_HAND, 0.4)):
        joints[part] = (x, 0.7)
        joints[part] += np.stack([np.linspace(0, 0.06, 21), np.linspace(0, 0.03, 21)], axis=1)
        confidence[part] = 0.8 if hands else 0.0
    return Pose(joints, confidence)


class ByColour:
    """Finds what the picture's background says, and reads the mouth off a grey patch in the corner."""

    name = "by colour"
    detections = 0

    def people(self, image: Any) -> list[Pose]:
        ByColour.detections += 1
        near = {
            c: np.abs(image[5, -5].astype(int) - c).sum() for c in (GOOD, EMPTY, CROWD, HANDLESS, MUTE_LIPS)
        }
        scene = min(near, key=lambda c: near[c])
        if scene == EMPTY:
            return []
        opening = 0.2 if scene == MUTE_LIPS else float(image[2:10, 2:10].mean()) / 255
        one = pose(opening, hands=scene != HANDLESS)
        return [one, one] if scene == CROWD else [one]

    def follow(self, image: Any, last: Pose) -> Pose | None:
        found = self.people(image)
        return found[0] if found else None

    def close(self) -> None: ...

    def __enter__(self) -> ByColour:
        return self

    def __exit__(self, *_: object) -> None: ...


def video(
    path: Path, scenes: Sequence[tuple[int, int, int]], *, seconds: float = 1.5, sound: bool = True
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    count = round(seconds * FPS)
    frames = []
    for scene in scenes:
        for i in range(count):
            frame = np.full((SIZE, SIZE, 3), scene, np.uint8)
            frame[:12, :12] = round(255 * loudness(i))
            frames.append(frame)
    track = np.repeat([loudness(i) for _ in scenes for i in range(count)], round(16000 / FPS))
    noise = np.random.default_rng(0).uniform(-0.4, 0.4, len(track))
    speech = Speech((track * noise).astype(np.float32), 16000) if sound else None
    with VideoWriter(path, fps=FPS, width=SIZE, height=SIZE, speech=speech) as writer:
        writer.write(np.stack(frames))
    return path


@pytest.fixture(autouse=True)
def detector(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything in this process, with the detector above."""
    monkeypatch.setattr(room, "open_detector", lambda name: ByColour())
    monkeypatch.setattr(lips, "measure_here", lambda: None)
    monkeypatch.setattr(people, "network_missing", lambda: "these pictures show no faces")
    inline(monkeypatch)


def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    def call(
        function: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], *_: Any, **__: Any
    ) -> Iterator[Any]:
        for job in jobs:
            yield function(*job)

    monkeypatch.setattr(room, "run_jobs", call)


def digests(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_scenes_are_cut_tested_and_explained(tmp_path: Path) -> None:
    video(tmp_path / "in/talk show.mp4", [GOOD, EMPTY, CROWD, HANDLESS, MUTE_LIPS, GOOD])
    account = ingest(tmp_path / "in", tmp_path / "out", WANTED)
    assert account.reasons() == {
        "nobody": 1, "several people": 1, "hands not seen": 1, "lips do not follow the sound": 1,
    }  # fmt: skip
    assert [c.id for c in account.clips] == ["talk_show-0000", "talk_show-0005"]
    assert read_manifest(tmp_path / "out") == account.clips
    listed = json.loads((tmp_path / "out/rejected.json").read_text())
    assert {r["why"]: r["detail"] for r in listed["rejected"]}["hands not seen"] == "a hand in 0% of frames"


def test_a_clip_agrees_with_its_manifest(tmp_path: Path) -> None:
    video(tmp_path / "a.mp4", [GOOD])
    (entry,) = ingest(tmp_path / "a.mp4", tmp_path / "out", WANTED).clips
    assert (entry.frames, entry.fps, entry.width, entry.source, entry.kind) == (18, FPS, 64, "real", "full")
    gesture, speech = load_gesture(entry.gesture), read_speech(entry.audio or Path())
    truth = Truth.load(entry.truth or Path())
    assert len(gesture) == len(truth.jaw) == 18
    assert speech.seconds == pytest.approx(entry.seconds, abs=0.01)
    # The neck is in the middle, the brows below the upper edge, the elbows above the lower one.
    assert gesture.joints[:, 1, 0] == pytest.approx(0.5, abs=0.02)
    assert 0.05 < gesture.joints[:, FACE, 1].min() < 0.2
    lips = truth.boxes["lips"]
    mouth = gesture.joints[:, FACE][:, 48:68]
    assert (lips[:, None, :2] <= mouth).all() and (mouth <= lips[:, None, 2:]).all()
    assert entry.parameters["truth"] == "detected"
    with VideoReader(entry.video) as reader:
        assert reader.size == (64, 64) and reader.frame_count == 18


def test_a_long_scene_becomes_equal_pieces_and_short_ones_are_reported(tmp_path: Path) -> None:
    video(tmp_path / "long.mp4", [GOOD], seconds=7.0)
    account = ingest(tmp_path / "long.mp4", tmp_path / "out", WANTED)
    assert [c.frames for c in account.clips] == [28, 28, 28]
    video(tmp_path / "short.mp4", [GOOD], seconds=0.5)
    account = ingest(tmp_path / "short.mp4", tmp_path / "other", WANTED)
    assert account.reasons() == {"too short": 1}


def test_heads_are_kept_when_asked_for(tmp_path: Path) -> None:
    video(tmp_path / "a.mp4", [HANDLESS])
    wanted = dataclasses.replace(WANTED, heads=True)
    (entry,) = ingest(tmp_path / "a.mp4", tmp_path / "out", wanted).clips
    assert entry.kind == "head"
    face = load_gesture(entry.gesture).joints[:, FACE]
    assert np.ptp(face[0, :, 1]) > 0.25


def test_broken_mute_and_empty_videos_do_not_stop_the_rest(tmp_path: Path) -> None:
    video(tmp_path / "in/good.mp4", [GOOD])
    video(tmp_path / "in/mute.mp4", [GOOD], sound=False)
    (tmp_path / "in/empty.mp4").write_bytes(b"")
    (tmp_path / "in/text.mp4").write_text("not a video")
    cut = video(tmp_path / "in/cut.mp4", [GOOD])
    cut.write_bytes(cut.read_bytes()[:1500])
    account = ingest(tmp_path / "in", tmp_path / "out", WANTED)
    assert [c.id for c in account.clips] == ["good-0000"]
    why = {r.id: r.why for r in account.rejected}
    assert why["mute-0000"] == "no sound"
    assert {why["empty"], why["text"], why["cut"]} == {"cannot be read"}


def test_a_stopped_run_continues_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video(tmp_path / "in/a.mp4", [GOOD, CROWD, GOOD, GOOD[::-1], GOOD])
    ingest(tmp_path / "in", tmp_path / "whole", WANTED)
    writes: list[Path] = []

    def interrupted(path: Path, speech: Speech) -> None:
        if len(writes) == 1:
            raise KeyboardInterrupt
        writes.append(path)
        write_speech(path, speech)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(room, "write_speech", interrupted)
        ingest(tmp_path / "in", tmp_path / "out", WANTED)
    finished = {p: p.stat().st_mtime_ns for p in (tmp_path / "out/clips").glob("*.json")}
    assert len(finished) == 1
    ByColour.detections = 0
    ingest(tmp_path / "in", tmp_path / "out", WANTED)
    assert ByColour.detections == 0, "found poses are not detected again"
    assert {p: p.stat().st_mtime_ns for p in finished} == finished
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


def in_a_worker(path: str, *job: Any) -> tuple[str, str]:
    """``ingest_video`` in a process of its own, with the detector above; some names bring it down."""
    vars(room)["open_detector"] = lambda name: ByColour()
    if "killed" in path:
        os.kill(os.getpid(), signal.SIGKILL)
    if "exits" in path:
        raise SystemExit("a library's own opinion")
    return ingest_video(path, *job)


def test_a_video_that_kills_its_process_ends_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "killed", "exits", "z"):
        video(tmp_path / f"in/{name}.mp4", [GOOD])
    monkeypatch.setattr(room, "run_jobs", run_jobs)
    monkeypatch.setattr(room, "ingest_video", in_a_worker)
    account = ingest(tmp_path / "in", tmp_path / "out", WANTED, where=Workers(workers=2))
    assert [clip.id for clip in account.clips] == ["a-0000", "z-0000"]
    assert {one.id: one.why for one in account.rejected} == {"killed": "failed", "exits": "failed"}
    assert all("died twice" in one.detail for one in account.rejected)
    # Recorded: the next run does not try them, and one that is asked to does.
    monkeypatch.setattr(room, "ingest_video", ingest_video)
    inline(monkeypatch)
    assert len(ingest(tmp_path / "in", tmp_path / "out", WANTED).rejected) == 2
    account = ingest(tmp_path / "in", tmp_path / "out", WANTED, again=True)
    assert (len(account.clips), account.rejected) == (4, [])
    ingest(tmp_path / "in", tmp_path / "whole", WANTED)
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


@pytest.mark.parametrize("fault", [MemoryError(), OSError(errno.ESTALE, "Stale file handle")])
def test_a_fault_that_may_pass_rejects_no_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    for name in ("a", "b", "c"):
        video(tmp_path / f"in/{name}.mp4", [GOOD])
    detect = room._detect

    def fails_at_the_second(*given: Any) -> Any:
        if len(list((tmp_path / "out/videos").glob("*.json"))) == 1:
            monkeypatch.setattr(room, "_detect", detect)
            raise fault
        return detect(*given)

    monkeypatch.setattr(room, "_detect", fails_at_the_second)
    account = ingest(tmp_path / "in", tmp_path / "out", WANTED)
    assert ([clip.id for clip in account.clips], account.rejected) == (["a-0000", "c-0000"], [])
    assert list(account.unfinished) == ["b"]
    assert [clip.id for clip in read_manifest(tmp_path / "out")] == ["a-0000", "c-0000"]
    account = ingest(tmp_path / "in", tmp_path / "out", WANTED)
    assert (len(account.clips), account.unfinished) == (3, {})
    ingest(tmp_path / "in", tmp_path / "whole", WANTED)
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


def test_a_video_that_the_system_cannot_read_now_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video(tmp_path / "in/a.mp4", [GOOD])
    there = tmp_path / "in/a.mp4"

    def away(*given: Any, **more: Any) -> Any:
        there.rename(tmp_path / "elsewhere")
        return run_jobs_here(*given, **more)

    run_jobs_here = run_jobs
    with monkeypatch.context() as patched:
        patched.setattr(room, "run_jobs", away)
        account = ingest(tmp_path / "in", tmp_path / "out", WANTED)
    assert list(account.unfinished) == ["a"] and not account.rejected
    (tmp_path / "elsewhere").rename(there)
    assert len(ingest(tmp_path / "in", tmp_path / "out", WANTED).clips) == 1


def test_pose_only_keeps_what_has_no_sound_or_another(tmp_path: Path) -> None:
    video(tmp_path / "in/mute.mp4", [GOOD], sound=False)
    video(tmp_path / "in/other.mp4", [MUTE_LIPS])
    wanted = dataclasses.replace(WANTED, pose_only=True, source="humanvid")
    account = ingest(tmp_path / "in", tmp_path / "out", wanted)
    assert [clip.audio for clip in account.clips] == [None, None]
    assert {clip.parameters["collection"] for clip in account.clips} == {"humanvid"}
    assert not list((tmp_path / "out").rglob("*.wav"))
    with VideoReader(account.clips[1].video) as reader:
        assert not reader.has_sound
    with pytest.raises(SemibodyError, match="pose_only = True"):
        ingest(tmp_path / "in", tmp_path / "out", WANTED)


def test_pieces_in_which_the_camera_turns_are_rejected(tmp_path: Path) -> None:
    video(tmp_path / "in/49.mp4", [GOOD, EMPTY, GOOD])
    video(tmp_path / "in/50.mp4", [GOOD])
    (tmp_path / "camera").mkdir()
    angles = [0.0] * 36 + list(np.linspace(0, 8, 18))  # the camera turns in the last scene
    lines = [
        f"{n} 0 0 0 0 {np.sin(np.radians(a) / 2)} 0 {np.cos(np.radians(a) / 2)} 1.39 2.08"
        for n, a in enumerate(angles)
    ]
    (tmp_path / "camera/49.txt").write_text("\n".join(lines))
    account = ingest(tmp_path / "in", tmp_path / "out", WANTED, cameras=tmp_path / "camera")
    assert [clip.id for clip in account.clips] == ["49-0000", "50-0000"]
    assert account.reasons() == {"nobody": 1, "the camera turns": 1}


def test_a_person_of_several_videos_is_in_one_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faces come from the clips' names here: a, b, c show one person, the others another each."""
    names = ["a", "b", "c", *(f"other{n}" for n in range(6))]
    for name in names:
        video(tmp_path / f"in/{name}.mp4", [GOOD])

    def face(clips: Sequence[Path]) -> Any:
        number = names.index(clips[0].stem.rpartition("-")[0])
        return np.eye(128, dtype=np.float32)[0 if number < 3 else number]

    monkeypatch.setattr(people, "network_missing", lambda: "")
    monkeypatch.setattr(people, "face_of", face)
    ingest(tmp_path / "in", tmp_path / "out", WANTED)
    clips = {clip.id.rpartition("-")[0]: clip for clip in read_manifest(tmp_path / "out")}
    assert {clips[name].person for name in "abc"} == {"real-a"}
    assert len({clip.person for clip in clips.values()}) == 7
    assert len({clips[name].split for name in "abc"}) == 1
    # It is kept, so that a later run compares further videos with these.
    video(tmp_path / "in/d.mp4", [GOOD])
    names.insert(3, "d")
    monkeypatch.setattr(people, "face_of", lambda clips: np.eye(128, dtype=np.float32)[0])
    ingest(tmp_path / "in", tmp_path / "out", WANTED)
    assert {c.person for c in read_manifest(tmp_path / "out") if c.id[0] in "abcd"} == {"real-a"}


def test_settings_of_a_folder_cannot_change(tmp_path: Path) -> None:
    video(tmp_path / "a.mp4", [GOOD])
    ingest(tmp_path / "a.mp4", tmp_path / "out", WANTED)
    record = json.loads((tmp_path / "out/ingest.json").read_text())
    del record["pose_only"]  # as it was written before there was this setting
    (tmp_path / "out/ingest.json").write_text(json.dumps(record))
    assert len(ingest(tmp_path / "a.mp4", tmp_path / "out", WANTED).clips) == 1
    with pytest.raises(SemibodyError, match="size = 64"):
        ingest(tmp_path / "a.mp4", tmp_path / "out", dataclasses.replace(WANTED, size=128))


def test_of_a_published_list_only_what_it_names_is_taken(tmp_path: Path) -> None:
    emtd = tmp_path / "emtd.txt"
    emtd.write_text(
        "URL,start_timecode,end_timecode\n"
        "https://www.youtube.com/watch?v=ab-C_1,0:00:01.5,0:00:03\n"
        "https://www.youtube.com/watch?v=ab-C_1,2,4\n"
    )
    humanvid = tmp_path / "pexels.txt"
    humanvid.write_text("https://videos.pexels.com/video-files/49/49-hd_1920_1080_24fps.mp4\n")
    video(tmp_path / "in/ab-C_1.mp4", [GOOD], seconds=5.0)
    video(tmp_path / "in/other.mp4", [GOOD])
    account = ingest(tmp_path / "in", tmp_path / "out", WANTED, emtd)
    # The two pieces overlap: each is read whole.
    assert [(c.id, c.frames) for c in account.clips] == [("ab-C_1-0000", 18), ("ab-C_1-0001", 24)]
    with pytest.raises(SemibodyError, match="none of its 1 videos"):
        ingest(tmp_path / "in", tmp_path / "none", WANTED, humanvid)


def test_nothing_to_ingest_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(SemibodyError, match="holds no video"):
        find_videos(tmp_path)
    with pytest.raises(SemibodyError, match="no such file"):
        find_videos(tmp_path / "nowhere")
    for name in ("a b.mp4", "a_b.mov"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(SemibodyError, match="same name"):
        find_videos(tmp_path)


def test_without_scenedetect_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "scenedetect", None)
    with pytest.raises(MissingPartError, match=r"semibody\[synth\]"):
        ingest(tmp_path, tmp_path / "out", WANTED)


# --- the square ---------------------------------------------------------------------------------------


def test_the_square_follows_the_rule_of_emtd() -> None:
    one = pose(0.5, hands=True)
    square = emtd_square(one.joints[None], one.confidence[None], 1920, 1080)
    top, bottom = 0.22, 0.7  # brows; the right wrist
    margin = 0.25 * (bottom - top)
    x0, y0, x1, y1 = square.x0, square.y0, square.x1, square.y1
    assert (y0, y1 - 1) == (int((top - 0.65 * margin) * 1080), int((bottom + 0.5 * margin) * 1080))
    assert x1 - x0 == y1 - y0 and abs((x0 + x1) / 2 - 0.5 * 1920) <= 1
    back = square.joints(one.joints) * square.size + (x0, y0)
    np.testing.assert_allclose(back, one.joints * (1920, 1080), atol=1e-9)


def test_joints_that_were_not_seen_do_not_move_the_square() -> None:
    one = pose(0.5, hands=True)
    seen = np.stack([one.joints, np.zeros_like(one.joints)])
    sure = np.stack([one.confidence, np.zeros_like(one.confidence)])
    assert emtd_square(seen, sure, 640, 480) == emtd_square(one.joints[None], one.confidence[None], 640, 480)


def test_a_square_beyond_the_edge_is_padded() -> None:
    frame = np.zeros((100, 200, 3), np.uint8)
    frame[:, :, 0] = np.arange(200)
    square = box_crop(-20, 0, 80, 100, 200, 100)
    assert square.outside(200, 100) == pytest.approx(0.2)
    cut = square.apply(frame, "plain")
    assert cut.shape == (100, 100, 3)
    assert not cut[:, :20, 0].any() and cut[50, 99, 0] == 79


# --- captions -----------------------------------------------------------------------------------------


def picture(rng: np.random.Generator) -> Any:
    return cv2.GaussianBlur(rng.integers(60, 200, (720, 720)).astype(np.uint8), (0, 0), 6)


def test_captions_are_seen_and_stripes_are_none() -> None:
    rng = np.random.default_rng(2)
    whole = box_crop(0, 0, 720, 720, 720, 720)
    plain, striped = picture(rng), picture(rng)
    striped[300:700, 200:500] = np.where(np.arange(300) % 14 < 7, 240, 20)
    text = picture(rng)
    for thick, shade in ((9, 0), (2, 255)):
        cv2.putText(text, "and so we went to the sea", (90, 600), cv2.FONT_HERSHEY_DUPLEX, 1.2, shade, thick)
    assert caption_share(plain[None], whole, 720) == 0
    assert caption_share(striped[None], whole, 720) == 0
    assert caption_share(text[None], whole, 720) == 1
    assert caption_share(text[None], box_crop(0, 0, 500, 500, 720, 720), 720) == 0


@pytest.mark.slow
def test_the_shared_clips_with_the_real_detector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mediapipe")
    monkeypatch.undo()
    account = ingest(shared_folder("inputs") / "clips", tmp_path / "out", Wanted(size=256))
    assert len(account.clips) + len(account.rejected) >= 2
    assert "desk_host_two_hands_30fps-0000" in {c.id for c in account.clips}


def test_ray_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="could not import ray (pip install 'semibody[cluster]')")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not have this file
    for name in ("a", "killed", "z"):
        video(tmp_path / f"in/{name}.mp4", [GOOD, EMPTY])
    monkeypatch.setattr(room, "run_jobs", run_jobs)
    monkeypatch.setattr(room, "ingest_video", in_a_worker)
    monkeypatch.chdir(tmp_path)  # paths as seen from here are the workers' too
    account = ingest("in", "there", WANTED, where=Workers(workers=2, ray="local"))
    assert [clip.id for clip in account.clips] == ["a-0000", "z-0000"]
    assert account.reasons() == {"nobody": 2, "failed": 1}
    ingest("in", "here", WANTED, where=Workers(workers=2))
    assert digests(tmp_path / "there") == digests(tmp_path / "here")
