"""Bad command lines: each ends with exit code 2 and one line that names the file or option."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import Any

import hypothesis  # noqa: F401 - its plugin imports it at the end, when Python 3.11 may parse no more
import pytest

import made
from cli.test_cli import run
from semibody import media
from semibody.pose.files import save_gesture

FILES = (
    "p.png", "s.wav", "g.npz", "v.mp4", "w", "text.txt", "empty", "folder", "dir.mp4",
    "bad.jsonl", "bad.toml",
)  # fmt: skip
"""What the fixture makes; ``none.*`` is never there."""

SIZES = (
    "²",
    "",
    "x",
    "0",
    "-64",
    "64x",
    "x64",
    "64x64x64",
    "1e3",
    "abc",
    "0x0",
    "1",
    "100000x64",
    "64x100000",
    "64,64",
    "999999999999999999999",
    "nan",
    "٦٤",
)
FLOATS = ("nan", "inf", "-inf", "-1", "1e999", "x", "²")
NO_FILES = ("none.bin", "folder", "empty", "text.txt", "s.wav/inside", "x" * 300)

ANIMATE = "animate p.png s.wav -w w -o out.mp4"
ROWS: list[tuple[str, str]] = [
    *((f"{ANIMATE} --size {shlex.quote(size)}", "size") for size in SIZES),
    *((f"{ANIMATE} --fps {value}", "fps") for value in (*FLOATS, "0", "1e-9", "121")),
    *((f"{ANIMATE} --guidance {value}", "guidance") for value in (*FLOATS, "31")),
    *((f"{ANIMATE} --guidance-start {value}", "guidance-start") for value in (*FLOATS, "1")),
    *((f"{ANIMATE} --guidance-stop {value}", "guidance-stop") for value in (*FLOATS, "0", "1.1")),
    *((f"{ANIMATE} --cache {value}", "cache") for value in ("0", "-1", "101", "x", "1.5", "²")),
    *((f"{ANIMATE} --shared-noise {value}", "shared-noise") for value in (*FLOATS, "1.1")),
    *((f"{ANIMATE} --liveliness {value}", "liveliness") for value in (*FLOATS, "4")),
    *((f"{ANIMATE} --steps {value}", "steps") for value in ("0", "-1", "1001", "x", "1.5", "1e3", "²")),
    *((f"{ANIMATE} --length {value}", "length") for value in ("0", "-1", "x", "1.5")),
    *((f"{ANIMATE} --context {value}", "context") for value in ("0", "-1", "x", "33", "1e9")),
    *((f"{ANIMATE} --overlap {value}", "overlap") for value in ("-1", "12", "x")),
    *((f"{ANIMATE} --seed {value}", "seed") for value in ("x", "1.5", "9" * 30)),
    *((f"{ANIMATE} --solver {value}", "solver") for value in ("euler", "''")),
    *((f"{ANIMATE} --precision {value}", "precision") for value in ("fp8", "fp16")),
    *((f"{ANIMATE} --device {value}", "device") for value in ("tpu", "cuda:99", "''")),
    *((f"{ANIMATE} --{name} x", "x") for name in ("preset", "frame", "align", "on-short-gesture")),
    *((f"animate {shlex.quote(name)} s.wav -w w -o o.mp4", name[:40]) for name in NO_FILES),
    *((f"animate p.png {shlex.quote(name)} -w w -o o.mp4", name[:40]) for name in NO_FILES),
    *((f"animate p.png s.wav -w {shlex.quote(name)} -o o.mp4", name[:40]) for name in NO_FILES),
    *((f"animate p.png s.wav -w w -g {shlex.quote(name)} -o o.mp4", name[:40]) for name in NO_FILES),
    *(
        (f"animate p.png s.wav -w w -o {shlex.quote(name)}", name[:20].partition("/")[0])
        for name in ("p.png/o.mp4", "p.png", "s.wav", "dir.mp4", "o", "o.txt", "y" * 300 + ".mp4")
    ),
    (f"{ANIMATE} --stream --resume", "--resume"),
    ("animate p.png s.wav -w w --stream -o o.webm", "o.webm"),
    ("animate p.png s.wav -w w --stream -o p.png", "p.png"),
    ("animate p.png s.wav -w w --stream -o p.png/o.mp4", "p.png"),
    ("animate p.png s.wav -w w -o -", "--stream"),
    ("animate", "argument"),
    ("animate p.png", "--say"),
    ("animate p.png s.wav --say Hello -w w -o o.mp4", "not both"),
    ("animate p.png s.wav --voice en-us -w w -o o.mp4", "--say"),
    *(
        (f"{command} --say {shlex.quote(text)}", named)
        for command in ("animate p.png -w w -o o.mp4", "check p.png auto")
        for text, named in (("", "empty"), (" \t ", "empty"), ("word " * 20_000, "100000 characters"))
    ),
    ("say", "text"),
    ("say Hello -o p.png/o.wav", "p.png"),
    ("say Hello -o o.mp3", "o.mp3"),
    (f"{ANIMATE} --nonsense", "--nonsense"),
    (f"{ANIMATE} more", "more"),
    ("nonsense", "nonsense"),
    *((f"check {shlex.quote(name)}", name[:40]) for name in NO_FILES),
    *((f"gesture plan {shlex.quote(name)} -o o.npz", name[:40]) for name in NO_FILES),
    *((f"gesture convert {shlex.quote(name)} o.npz", name[:40]) for name in NO_FILES),
    *((f"gesture extract {shlex.quote(name)} -o o.npz", name[:40]) for name in NO_FILES),
    ("gesture plan s.wav -o p.png/o.npz", "p.png"),
    ("gesture plan s.wav -o s.wav", "s.wav"),
    ("gesture convert g.npz p.png/o.npz", "p.png"),
    ("gesture convert g.npz o.gif", "o.gif"),
    ("gesture extract v.mp4 -o o.npz --crop round", "--crop"),
    ("gesture extract v.mp4 -o o.npz --detector none", "none"),
    *((f"gesture extract v.mp4 -o o.npz --fps {value}", "fps") for value in (*FLOATS, "0")),
    *((f"weights verify {shlex.quote(name)}", name[:40]) for name in NO_FILES),
    *((f"weights convert {shlex.quote(name)} o", name[:40]) for name in NO_FILES),
    ("weights convert w w", "w"),
    ("weights convert w p.png/o", "p.png"),
    ("weights convert w o --precision int8", "int8"),
    ("weights convert w o --variant other", "other"),
    ("weights fetch nothing", "nothing"),
    *((f"batch {shlex.quote(name)} -w w", name[:40]) for name in NO_FILES if name != "text.txt"),
    ("batch text.txt -w w", "text.txt"),
    ("batch bad.jsonl -w w", "bad.jsonl"),
    *((f"evaluate {shlex.quote(name)}", name[:40]) for name in NO_FILES),
    *((f"bench-quality {shlex.quote(name)}", name[:40]) for name in NO_FILES),
    ("bench-quality bad.toml", "bad.toml"),
    *((f"train {shlex.quote(name)} --out o", name[:40]) for name in NO_FILES if name != "empty"),
    ("train tiny", "--out"),
    ("train tiny --out o --set nonsense", "nonsense"),
    ("train tiny --out o --set schedule.train_steps=1000000000", "train_steps"),
    ("train tiny --out o --set vae.optimiser.lr=fast", "lr"),
    ("train tiny --out o --stage nothing", "nothing"),
    ("train starter --out o", "--data"),
    ("train bad.toml --out o", "bad.toml"),
    *((f"data synthesise o --seconds {value}", "seconds") for value in (*FLOATS, "1e9", "0")),
    *((f"data synthesise o --people {value}", "people") for value in ("0", "-1", "x", "1000000000")),
    *((f"data synthesise o --size {value}", "size") for value in ("0", "63", "65", "1000000", "x")),
    *((f"data synthesise o --fps {value}", "fps") for value in (*FLOATS, "0")),
    ("data synthesise o --assets none", "none"),
    *((f"data ingest {shlex.quote(name)} o", name[:40]) for name in ("none.mp4", "folder")),
    *((f"data inspect {shlex.quote(name)}", name[:40]) for name in NO_FILES),
    *((f"gesture show {shlex.quote(name)} -o o.png", name[:40]) for name in NO_FILES),
    ("gesture show g.npz -o p.png/o.png", "p.png"),
    *((f"gesture align {shlex.quote(name)} p.png -o o.npz", name[:40]) for name in NO_FILES),
    *((f"gesture align g.npz {shlex.quote(name)} -o o.npz", name[:40]) for name in NO_FILES),
    *((f"provenance {shlex.quote(name)}", name[:40]) for name in NO_FILES if name != "text.txt"),
    *((f"model-card {shlex.quote(name)} --weights w -o o.md", name[:40]) for name in NO_FILES),
    *((f"weights export {shlex.quote(name)} o", name[:40]) for name in NO_FILES),
    ("weights export w o --precision fp8", "fp8"),
    ("weights export w p.png/o", "p.png"),
    ("weights nonsense", "nonsense"),
    ("gesture nonsense", "nonsense"),
    ("data nonsense", "nonsense"),
    *((f"data people o --seconds {value}", "seconds") for value in (*FLOATS, "1e9")),
    *(
        (f"data people o --{name} {value}", name)
        for name in ("heads", "sway", "photographed", "articulation")
        for value in (*FLOATS, "99")
    ),
    ("data people o --assets none", "none"),
    ("data people o --gestures none", "none"),
    *((f"data ingest v.mp4 o --size {value}", "size") for value in ("0", "-1", "x", "1000000")),
    *((f"data ingest v.mp4 o --fps {value}", "fps") for value in (*FLOATS, "0", "1e-9")),
    *((f"build-emtd {shlex.quote(name)} o", name[:40]) for name in ("none.bin", "empty", "text.txt")),
    ("web --port 0", "port"),
    ("web --port 70000", "port"),
    ("web -w none.bin", "none.bin"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    media.write_image(folder / "p.png", made.picture())
    media.write_speech(folder / "s.wav", made.tone(0.5))
    save_gesture(made.gesture(), folder / "g.npz")
    made.write_video(folder / "v.mp4")
    made.weights_folder(folder / "w")
    (folder / "text.txt").write_text("these are words\n")
    (folder / "empty").touch()
    (folder / "folder").mkdir()
    (folder / "dir.mp4").mkdir()
    (folder / "bad.jsonl").write_text('{"portrait": 1}\n')
    (folder / "bad.toml").write_text("a = " + "[" * 5000)
    return folder


def test_the_table_is_long_enough() -> None:
    assert len({words for words, _ in ROWS}) == len(ROWS) >= 150


@pytest.mark.parametrize(("words", "named"), ROWS, ids=range(len(ROWS)))
def test_a_bad_command_line(folder: Path, words: str, named: str, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(folder)
    code, _, err = run(capsys, monkeypatch, *shlex.split(words))
    left = {p.name for p in folder.iterdir()} - set(FILES)
    for name in left:
        shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()
    assert not left, err
    assert code == 2, err
    said = err.strip().splitlines()
    assert "Traceback" not in err
    if not said[0].startswith("Usage:"):  # typer's own, in a box
        said = [line for line in said if line.startswith("semibody: ")]
        assert len(said) == 1, err
    assert named.lower() in err.replace("\n", " ").lower(), err
