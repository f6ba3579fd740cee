"""Every command, end to end, and every mistake: one line, exit code 2, nothing half-written."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import made
from semibody import cli, demo, media
from semibody.pose.files import save_gesture


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    media.write_image(folder / "portrait.png", made.picture())
    media.write_speech(folder / "speech.wav", made.tone(0.5))
    save_gesture(made.gesture(), folder / "gesture.npz")
    made.weights_folder(folder / "weights")
    return folder


def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: object
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["semibody", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    out, err = capsys.readouterr()
    return int(left.value.code or 0), out, err


def animate(files: Path, target: Path, **changes: object) -> list[object]:
    words: dict[str, object] = {"portrait": files / "portrait.png", "speech": files / "speech.wav"}
    options: dict[str, object] = {
        "gesture": files / "gesture.npz", "weights": files / "weights", "out": target, "precision": "fp32",
    }  # fmt: skip
    for key, value in changes.items():
        (words if key in words else options)[key] = value
    flat = [part for key, value in options.items() for part in (f"--{key.replace('_', '-')}", value)]
    return ["animate", *words.values(), *flat]


def test_animate(files: Path, tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    out = tmp_path / "new" / "a.mp4"
    code, _, err = run(capsys, monkeypatch, *animate(files, out, size="64x80", seed=5))
    assert code == 0, err
    clip = media.read_clip(out)
    assert clip.frames.shape == (6, 80, 64, 3)
    assert clip.metadata["settings"]["seed"] == 5
    assert [p.name for p in out.parent.iterdir()] == ["a.mp4"]


def test_dry_run_writes_nothing(files: Path, tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    code, out, _ = run(capsys, monkeypatch, *animate(files, tmp_path / "a.mp4"), "--dry-run")
    assert code == 0
    assert "estimated memory" in out
    assert not list(tmp_path.iterdir())


def mistakes(files: Path, tmp_path: Path) -> dict[str, dict[str, object]]:
    (tmp_path / "text").write_text("text " * 50)
    (tmp_path / "empty").write_bytes(b"")
    media.write_image(tmp_path / "long.png", np.zeros((10, 10000, 3), np.uint8))
    media.write_speech(tmp_path / "short.wav", made.tone(0.05))
    media.write_speech(tmp_path / "mute.wav", made.tone(0.5, hertz=0))
    nan = made.gesture()
    nan.joints[3, 100] = np.nan
    save_gesture(nan, tmp_path / "nan.npz")
    return {
        "missing portrait": {"portrait": tmp_path / "none.png"},
        "text portrait": {"portrait": tmp_path / "text"},
        "empty portrait": {"portrait": tmp_path / "empty"},
        "folder portrait": {"portrait": tmp_path},
        "long portrait": {"portrait": tmp_path / "long.png"},
        "missing speech": {"speech": tmp_path / "none.wav"},
        "text speech": {"speech": tmp_path / "text"},
        "short speech": {"speech": tmp_path / "short.wav"},
        "silent speech": {"speech": tmp_path / "mute.wav"},
        "missing gesture": {"gesture": tmp_path / "none"},
        "nan gesture": {"gesture": tmp_path / "nan.npz"},
        "text gesture": {"gesture": tmp_path / "text"},
        "no gesture": {"gesture": ""},
        "missing weights": {"weights": tmp_path / "none"},
        "weights without files": {"weights": tmp_path},
        "bad size": {"size": "big"},
        "tiny size": {"size": "8"},
        "bad solver": {"solver": "euler"},
        "bad preset": {"preset": "other"},
        "bad precision": {"precision": "int4"},
        "bad device": {"device": "cuda:77"},
        "bad background": {"background": "blue"},
        "bad ending": {"out": tmp_path / "a.gif"},
        "zero steps": {"steps": 0},
    }


KINDS = [
    "missing portrait", "text portrait", "empty portrait", "folder portrait", "long portrait",
    "missing speech", "text speech", "short speech", "silent speech",
    "missing gesture", "nan gesture", "text gesture", "no gesture",
    "missing weights", "weights without files", "bad size", "tiny size", "bad solver", "bad preset",
    "bad precision", "bad device", "bad background", "bad ending", "zero steps",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_mistakes(files: Path, tmp_path: Path, capsys: Any, monkeypatch: Any, kind: str) -> None:
    changes = mistakes(files, tmp_path)[kind]
    out = tmp_path / "out" / "a.mp4"
    out.parent.mkdir()
    out.write_bytes(b"precious")
    code, _, err = run(capsys, monkeypatch, *animate(files, out, **changes))
    assert code == 2
    messages = [line for line in err.splitlines() if line.startswith("semibody:")]
    assert len(messages) == 1
    assert "Traceback" not in err
    assert out.read_bytes() == b"precious"
    assert [p.name for p in out.parent.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [(KeyboardInterrupt(), 130, "stopped"), (MemoryError(), 2, "memory"),
     (OSError(28, "No space left on device"), 2, "space"), (RuntimeError("CUDA out of memory"), 2, "memory")],
)  # fmt: skip
def test_trouble_on_the_way(
    files: Path, tmp_path: Path, capsys: Any, monkeypatch: Any, error: BaseException, code: int, says: str
) -> None:
    from semibody.animator import Animator

    def fail(*_args: object, **_kwargs: object) -> None:
        raise error

    monkeypatch.setattr(Animator, "decode", fail)
    left, _, err = run(capsys, monkeypatch, *animate(files, tmp_path / "a.mp4"))
    assert left == code
    assert says in err
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


def test_weights_commands(files: Path, tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("SEMIBODY_HOME", str(tmp_path / "home"))
    code, out, _ = run(capsys, monkeypatch, "weights", "list", "--json")
    assert code == 0
    assert set(json.loads(out)) >= {"official", "accelerated", "face-landmarker"}
    code, _, err = run(
        capsys, monkeypatch, "weights", "convert", files / "weights", tmp_path / "half", "--precision", "bf16"
    )
    assert code == 0, err
    code, out, _ = run(capsys, monkeypatch, "weights", "verify", tmp_path / "half", "--json")
    assert code == 0
    assert not any(json.loads(out).values())
    (tmp_path / "half" / "vae.safetensors").unlink()
    code, _, err = run(capsys, monkeypatch, "weights", "verify", tmp_path / "half")
    assert code == 2
    assert "vae" in err


def test_doctor(capsys: Any, monkeypatch: Any) -> None:
    code, out, _ = run(capsys, monkeypatch, "doctor", "--json")
    assert code == 0
    assert {"torch", "memory", "disk", "cpu", "weights official"} <= json.loads(out).keys()


@pytest.mark.slow
def test_the_drawn_demo(tmp_path: Path) -> None:
    assert "RANDOM" in " ".join(demo.make_drawn_demo(tmp_path / "demo.mp4"))
    assert len(media.read_clip(tmp_path / "demo.mp4")) == 72


def test_help_is_instant_and_light() -> None:
    code = (
        "import sys; sys.argv = ['semibody', '--help']\n"
        "from semibody.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "sys.exit(any(m in sys.modules for m in ('torch', 'av', 'cv2', 'diffusers')))"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, "--help loads a heavy library"
    assert "animate" in done.stdout
    assert time.perf_counter() - start < 20


def test_unknown_option_is_a_mistake(capsys: Any, monkeypatch: Any) -> None:
    code, _, err = run(capsys, monkeypatch, "animate", "--nonsense")
    assert code == 2
    assert "Traceback" not in err
