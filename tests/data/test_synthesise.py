"""Rendered people: the same seed, the same bytes; nothing lost by a kill; mistakes named in one line."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import require_renderer, shared_folder
from semibody.clips.manifest import read_manifest
from semibody.clips.truth import Truth
from semibody.data import folder
from semibody.data.synthetic import assets as assets_module
from semibody.data.synthetic import produce, render, speech
from semibody.data.synthetic.order import Order
from semibody.data.synthetic.produce import synthesise
from semibody.media import read_clip
from semibody.pose import library
from semibody.pose.files import load_gesture, save_gesture
from semibody.processes import Workers
from semibody.types import FACE, HANDS, MissingPartError, SemibodyError, Speech
from semibody.voices import espeak

ORDER = Order(people=2, clips=2, seconds=0.25, size=64, seed=3, head_share=0.5)

needs_espeak = pytest.mark.skipif(espeak.find_library() is None, reason="espeak-ng is not installed")


@pytest.fixture(scope="module")
def assets() -> Path:
    require_renderer()
    return shared_folder("assets") / "makehuman"


@pytest.fixture(scope="module")
def made(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The set ORDER, made by one worker without a break."""
    out = tmp_path_factory.mktemp("made")
    synthesise(out, assets, ORDER, Workers(workers=1))
    return out


def digests(where: Path) -> dict[str, str]:
    files = [p for p in sorted(where.rglob("*")) if p.is_file() and p.name != ".lock"]
    return {p.relative_to(where).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


# --- the same seed gives the same bytes ---------------------------------------------------------------


@needs_espeak
def test_earlier_sentences_do_not_change_a_voice() -> None:
    first = espeak.utter("Many people build a blue house.", "en-us+f2", 150, 60)
    espeak.utter("Our neighbours keep the map.", "de+m3", 170, 30)
    assert espeak.utter("Many people build a blue house.", "en-us+f2", 150, 60) == first


def test_workers_and_order_do_not_change_a_byte(made: Path, assets: Path, tmp_path: Path) -> None:
    synthesise(tmp_path / "two", assets, ORDER, Workers(workers=2))
    assert digests(tmp_path / "two") == digests(made)
    assert list(produce.make_people(tmp_path / "backwards", assets, ORDER, [1, 0], Workers(workers=1))) == [
        None,
        None,
    ]
    clips = {n: d for n, d in digests(made).items() if n.startswith("clips/")}
    assert digests(tmp_path / "backwards") == clips


def test_ray_gives_the_same_bytes(
    made: Path, assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="could not import ray (pip install 'semibody[cluster]')")
    monkeypatch.chdir(tmp_path)
    synthesise(Path("there"), assets, ORDER, Workers(workers=2, ray="local"))
    assert digests(tmp_path / "there") == digests(made)


def test_another_seed_is_another_person(assets: Path) -> None:
    look, same, other = (produce_look(assets, Order(seed=seed), 0) for seed in (3, 3, 4))
    assert look == same != other


# --- what is stored -----------------------------------------------------------------------------------


def test_every_clip_is_complete_and_consistent(made: Path) -> None:
    entries = read_manifest(made)
    assert len(entries) == ORDER.people * ORDER.clips
    for entry in entries:
        gesture, truth = load_gesture(entry.gesture), Truth.load(entry.truth or Path())
        assert len(gesture) == len(truth.jaw) == entry.frames == 6
        assert np.isfinite(gesture.joints).all()
        assert ((truth.jaw >= 0) & (truth.jaw <= 1)).all()
        assert entry.parameters["look"]["skin"]
        assert entry.parameters["motion"]["kind"] in ("drawn", "planned", "library")
        if entry.kind == "full":
            face = gesture.joints[:, FACE][gesture.confidence[:, FACE] > 0.5]
            assert ((face > 0) & (face < 1)).all()
            assert (gesture.confidence[:, HANDS] > 0.5).mean() > 0.6


@needs_espeak
def test_lips_close_on_m_and_in_silence_and_open_with_the_voice() -> None:
    rng = np.random.default_rng(5)
    fps, frames = 24.0, 96
    correlations = []
    for female in (True, False) * 4:
        spoken = speech.speak(rng, frames / fps, female)
        track = speech.mouth_track(spoken, frames, fps)
        loud = speech.loudness(spoken.speech, frames, fps)
        correlations.append(np.corrcoef(track[:, 0], loud)[0, 1])
        assert track[loud < 1e-3, 0].max(initial=0) < 0.05
        for start, end, symbol in spoken.phonemes:
            frame = int((start + end) / 2 * fps)
            if symbol in ("m", "b", "p") and end - start > 0.06 and frame < frames and loud[frame] > 0.05:
                assert track[max(frame - 1, 0) : frame + 2, 3].max() > 0.4
    assert np.mean(correlations) > 0.6


@needs_espeak
def test_mouths_do_not_depend_on_the_frame_rate() -> None:
    # Few frames a second once meant means of a quarter of a second: mouths late, and half shut.
    spoken = speech.speak(np.random.default_rng(3), 6.0, True)
    few, many = speech.mouth_track(spoken, 24, 4.0), speech.mouth_track(spoken, 144, 24.0)
    np.testing.assert_allclose(few, many[::6], atol=0.05)


def test_a_recording_of_the_user_is_spoken_to_its_end() -> None:
    wave = np.concatenate([np.zeros(8000), np.sin(np.arange(8000) / 8)]).astype(np.float32)
    track = speech.mouth_from_energy(Speech(wave, 16000), 24, 24.0)
    assert track[:10, 0].max() < 0.05 < 0.5 < track[14:, 0].min()


def test_arms_follow_the_users_gestures(assets: Path, tmp_path: Path) -> None:
    gestures = tmp_path / "gestures"
    for name in ("wave", "beat"):
        save_gesture(library.build(name), gestures / f"{name}.npz")
    order = Order(people=1, clips=2, seconds=0.25, size=64, seed=3, head_share=0, gestures=str(gestures))
    entries = synthesise(tmp_path / "once", assets, order)
    motions = [entry.parameters["motion"] for entry in entries]
    assert {t["kind"] for t in motions} == {"lifted"}
    assert {t["gesture"] for t in motions} <= {"wave.npz", "beat.npz"}
    assert list(produce.make_people(tmp_path / "again", assets, order, [0], Workers(workers=1))) == [None]
    clips = {n: d for n, d in digests(tmp_path / "once").items() if n.startswith("clips/")}
    assert digests(tmp_path / "again") == clips


def test_a_damaged_gesture_is_named_before_anything_is_made(assets: Path, tmp_path: Path) -> None:
    (tmp_path / "gestures").mkdir()
    with pytest.raises(SemibodyError, match="holds no gesture"):
        synthesise(tmp_path / "out", assets, Order(gestures=str(tmp_path / "gestures")))
    (tmp_path / "gestures" / "torn.npz").write_bytes(b"half a gesture")
    with pytest.raises(SemibodyError, match=r"torn\.npz"):
        synthesise(tmp_path / "out", assets, Order(gestures=str(tmp_path / "gestures")))
    assert not (tmp_path / "out").exists()


# --- kills and mistakes -------------------------------------------------------------------------------


def test_a_killed_run_continues_where_it_was(made: Path, assets: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "semibody", "data", "synthesise", str(tmp_path), "--assets", str(assets)]
    command += ["--people", "2", "--clips", "2", "--seconds", "0.25", "--size", "64", "--seed", "3"]
    command += ["--heads", "0.5", "--workers", "1"]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: any(tmp_path.glob("clips/*.json")))
    run.send_signal(signal.SIGKILL)
    run.wait()
    wait_for(lambda: not lock_is_held(tmp_path))
    time.sleep(0.3)  # the worker follows its parent
    finished = {p: p.stat().st_mtime_ns for p in tmp_path.glob("clips/*.json")}
    assert 0 < len(finished) < 4, "killed too late to show anything"
    (tmp_path / "clips/.p00001c00.0badcafe.unfinished.mp4").write_bytes(b"half a video")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {p: p.stat().st_mtime_ns for p in finished} == finished
    assert digests(tmp_path) == digests(made)


@pytest.mark.slow
def test_ctrl_c_stops_the_workers_at_once(assets: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "semibody", "data", "synthesise", str(tmp_path), "--assets", str(assets)]
    command += ["--people", "2", "--clips", "1", "--seconds", "20", "--size", "128", "--workers", "2"]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    wait_for((tmp_path / "order.json").exists)
    time.sleep(6)  # the workers draw
    os.killpg(run.pid, signal.SIGINT)
    _, errors = run.communicate(timeout=10)
    assert run.returncode == 130
    assert "stopped" in errors and "Traceback" not in errors
    assert not list(tmp_path.glob("clips/*"))


def lock_is_held(where: Path) -> bool:
    try:
        with folder.only_run(where):
            return False
    except SemibodyError:
        return True


def wait_for(condition: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_two_runs_cannot_fill_one_folder(tmp_path: Path) -> None:
    with (
        folder.only_run(tmp_path),
        pytest.raises(SemibodyError, match="another run"),
        folder.only_run(tmp_path),
    ):
        pass


def test_a_finished_set_is_not_made_again_and_another_order_is_refused(made: Path, assets: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in (made / "clips").iterdir()}
    synthesise(made, assets, ORDER)
    assert {p: p.stat().st_mtime_ns for p in (made / "clips").iterdir()} == before
    with pytest.raises(SemibodyError, match="seed"):
        synthesise(made, assets, Order(people=2, clips=2, seconds=0.25, size=64, seed=9, head_share=0.5))


def test_no_egl_names_the_packages(monkeypatch: pytest.MonkeyPatch, assets: Path, tmp_path: Path) -> None:
    import moderngl

    def refuse(**_: Any) -> None:
        raise Exception("libEGL.so.1 not loaded")

    monkeypatch.setattr(moderngl, "create_context", refuse)
    with pytest.raises(SemibodyError, match="libegl1 libgl1-mesa-dri"):
        synthesise(tmp_path / "out", assets, ORDER)
    assert not (tmp_path / "out").exists()


def test_no_moderngl_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "moderngl", None)
    with pytest.raises(MissingPartError, match=r"semibody\[synth\]"):
        render.require_renderer()


def test_missing_assets_are_named(tmp_path: Path) -> None:
    with pytest.raises(SemibodyError, match=r"base\.obj.*--assets"):
        synthesise(tmp_path / "out", tmp_path, ORDER)


def test_without_a_pack_people_are_plain(tmp_path: Path) -> None:
    require_renderer()
    pytest.importorskip("anny")
    entries = synthesise(tmp_path, None, Order(people=1, clips=1, seconds=0.1, size=64, head_share=0))
    look = entries[0].parameters["look"]
    assert (look["skin"], look["hair"], look["clothes"]) == ("", "", "")
    frame = read_clip(entries[0].video, with_speech=False).frames[0]
    assert frame.std() > 10


def test_without_a_pack_and_anny_both_ways_out_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingPartError, match=r"--assets.*semibody\[synth\]"):
        assets_module.find_assets(None)


def test_a_damaged_texture_costs_its_person_only(assets: Path, tmp_path: Path) -> None:
    pack = tmp_path / "pack"
    shutil.copytree(assets, pack, copy_function=os.link)
    order = Order(people=2, clips=1, seconds=0.1, size=64, seed=3)
    skin = produce_look(pack, order, 1).skin
    texture = next((pack / "skins" / skin).glob("*.png"))
    texture.unlink()
    texture.write_bytes(b"no picture")
    assert produce_look(pack, order, 0).skin != skin
    with pytest.raises(SemibodyError, match=rf"1 of 2 people .*{texture.name}"):
        synthesise(tmp_path / "out", pack, order)
    assert [e.id for e in read_manifest(tmp_path / "out")] == ["p00000c00"]


def produce_look(pack: Path, order: Order, person: int) -> Any:
    from semibody.data.synthetic.assets import load_assets
    from semibody.data.synthetic.clip import person_seed
    from semibody.data.synthetic.person import draw_look

    return draw_look(person_seed(order.seed, person), load_assets(str(pack)))


def test_a_full_disk_stops_the_run_and_is_named(
    monkeypatch: pytest.MonkeyPatch, assets: Path, tmp_path: Path
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(produce, "save_gesture", full)
    with pytest.raises(SemibodyError, match=r"No space left on device.*finished clips are kept"):
        produce.make_person(str(tmp_path), str(assets), ORDER, 0)
    assert not list(tmp_path.glob("clips/*.json"))
    assert not list(tmp_path.glob("clips/.*"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_disk_that_fills_up_while_the_video_is_written(assets: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "semibody", "data", "synthesise", str(tmp_path), "--assets", str(assets)]
    command += ["--people", "1", "--clips", "1", "--seconds", "2", "--size", "256", "--workers", "1"]

    def limit() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=limit)
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert not list(tmp_path.glob("clips/*"))


@pytest.mark.parametrize(
    "wrong", [{"seconds": 0.0}, {"people": 0}, {"size": 63}, {"fps": -1.0}, {"planned": 1.5}]
)
def test_a_zero_length_or_odd_order_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SemibodyError, match=next(iter(wrong))):
        Order(**wrong)


def test_without_any_synthesiser_the_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(espeak, "find_library", lambda: None)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(MissingPartError, match="apt install espeak-ng"):
        speech.speak(np.random.default_rng(0), 1.0, True)
