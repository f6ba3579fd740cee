"""The model that comes with the package: found by name, used when nothing is named, shown by the demo."""

from __future__ import annotations

import importlib.util
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import made
from semibody import cli, demo, media
from semibody.animator import Animator
from semibody.networks.loading import describe
from semibody.pipeline import SemibodyPipeline
from semibody.types import SemibodyError
from semibody.weights import hub, store


@pytest.fixture
def no_starter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation without the starter's weights, and a home without any."""
    folder = tmp_path / "starter"
    monkeypatch.setattr(hub, "STARTER", folder)
    monkeypatch.setenv("SEMIBODY_HOME", str(tmp_path / "home"))
    return folder


@pytest.fixture
def starter(no_starter: Path) -> Path:
    """A stand-in for it: small random weights, a portrait and half a second of sound."""
    made.weights_folder(no_starter)
    media.write_image(no_starter / "portrait.png", made.picture(128, 128))
    media.write_speech(no_starter / "speech.wav", made.tone(0.5))
    media.write_image(no_starter / "portrait-shirt.png", made.picture(96, 96))
    media.write_speech(no_starter / "speech-shirt.flac", made.tone(0.4))
    return no_starter


def run(capsys: Any, monkeypatch: Any, *words: object) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["semibody", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    out, err = capsys.readouterr()
    return int(left.value.code or 0), out, err


def test_it_is_found_by_name(starter: Path) -> None:
    assert hub.find_weights("starter") == (starter, None)
    assert Animator.load("starter", precision="fp32").settings().steps == 2
    assert SemibodyPipeline.from_pretrained("starter").animator.defaults.width == 64


def test_what_is_missing_is_named_with_the_remedy(no_starter: Path, capsys: Any, monkeypatch: Any) -> None:
    with pytest.raises(SemibodyError, match="make starter"):
        Animator.load()
    code, out, _ = run(capsys, monkeypatch, "weights", "list", "--json")
    assert code == 0
    assert "not part of this installation" in json.loads(out)["starter"]


def test_it_is_the_default_until_published_weights_are_fetched(starter: Path, tmp_path: Path) -> None:
    assert hub.default_weights() == "starter"
    # A fetch that stopped on the way does not count.
    (tmp_path / "home" / "weights" / hub.FOLDER).mkdir(parents=True)
    assert hub.default_weights() == "starter"
    made.weights_folder(tmp_path / "home" / "weights" / "accelerated")
    assert hub.default_weights() == "accelerated"
    made.weights_folder(tmp_path / "home" / "weights" / "official")
    assert hub.default_weights() == "official"


def test_nothing_is_fetched_for_it(starter: Path) -> None:
    with pytest.raises(SemibodyError, match="comes with the package"):
        hub.fetch("starter")


def test_converting_keeps_the_settings_weights_were_made_for(
    starter: Path, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    code, _, err = run(
        capsys, monkeypatch, "weights", "convert", "starter", tmp_path / "bf16", "--precision", "bf16"
    )
    assert code == 0, err
    assert describe(tmp_path / "bf16").defaults == describe(starter).defaults


@pytest.mark.parametrize("who", demo.PEOPLE)
def test_the_demo_is_what_animate_makes(
    starter: Path, tmp_path: Path, capsys: Any, monkeypatch: Any, who: str
) -> None:
    code, _, err = run(capsys, monkeypatch, "demo", "-q", "--who", who, "-o", tmp_path / "demo.mp4")
    assert code == 0, err
    (line,) = [line for line in err.splitlines() if " animate " in line]
    words = shlex.split(line)[shlex.split(line).index("animate") :]
    words[words.index("-o") + 1] = str(tmp_path / "again.mp4")
    code, _, err = run(capsys, monkeypatch, *words)
    assert code == 0, err
    one, other = (media.read_clip(tmp_path / name) for name in ("demo.mp4", "again.mp4"))
    assert np.array_equal(one.frames, other.frames)
    assert one.speech is not None
    assert one.speech.seconds == pytest.approx({"suit": 0.5, "shirt": 0.4}[who], abs=0.1)


def test_an_unknown_person_of_the_demo_is_refused(starter: Path, tmp_path: Path) -> None:
    with pytest.raises(SemibodyError, match="--who hat is unknown; choose suit or shirt"):
        demo.make_demo(tmp_path / "a.mp4", "hat")
    assert not list(tmp_path.glob("*.mp4"))


def test_animate_without_weights_uses_it(
    starter: Path, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    words = (starter / "portrait.png", starter / "speech.wav", "-o", tmp_path / "a.mp4", "-L", "2")
    code, _, err = run(capsys, monkeypatch, "animate", *words)
    assert code == 0, err
    assert media.read_metadata(tmp_path / "a.mp4")["weights"] == "random weights"


def test_without_it_the_demo_is_drawn(no_starter: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(demo, "make_drawn_demo", lambda out, progress: [f"drawn {out.name}"])
    assert demo.make_demo(tmp_path / "demo.mp4") == ["drawn demo.mp4"]


@pytest.mark.parametrize("files", demo.PEOPLE.values(), ids=demo.PEOPLE)
def test_portraits_and_speeches_are_in_the_package(files: demo.Person) -> None:
    assert media.read_image(hub.STARTER / files.portrait).shape == (512, 512, 3)
    assert 5 <= media.read_speech(hub.STARTER / files.speech).seconds <= 8
    assert (hub.STARTER / files.portrait).stat().st_size < 400_000
    assert (hub.STARTER / files.speech).stat().st_size < 250_000


@pytest.mark.skipif(not store.is_store(hub.STARTER), reason="the starter's weights are not in this checkout")
def test_its_weights_are_whole_and_small() -> None:
    from semibody.networks.loading import verify

    assert not any(verify(hub.STARTER).values())
    assert sum(p.stat().st_size for p in hub.STARTER.glob("*.safetensors")) <= 40e6
    assert (hub.STARTER / "MODEL_CARD.md").is_file()


def tool(name: str) -> Any:
    """A script of tools/ as a module."""
    path = hub.STARTER.parents[2] / "tools" / f"{name}.py"
    if not path.is_file():
        pytest.skip("tools/ is not beside this installation")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_weights_are_mixed_by_shares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import load_file, save_file

    for name, value in (("plain", 0.0), ("sharp", 4.0)):
        (tmp_path / name).mkdir()
        save_file({"w": torch.full((2,), value)}, tmp_path / name / "restorer.safetensors")
        (tmp_path / name / "semibody.json").write_text(json.dumps({"origin": name}))
    words = [tmp_path / "plain", tmp_path / "sharp", "--share", 0.75, "--out", tmp_path / "mixed"]
    monkeypatch.setattr(sys, "argv", ["mix_weights.py", *map(str, words)])
    tool("mix_weights").main()
    assert torch.equal(load_file(tmp_path / "mixed" / "restorer.safetensors")["w"], torch.tensor([3.0, 3.0]))
    assert "0.75" in json.loads((tmp_path / "mixed" / "semibody.json").read_text())["origin"]
    save_file({"v": torch.zeros(2)}, tmp_path / "plain" / "restorer.safetensors")
    with pytest.raises(SystemExit, match="different networks"):
        tool("mix_weights").main()


def test_the_demos_gif_is_as_large_as_it_may_be(tmp_path: Path) -> None:
    module = tool("demo_gif")
    video = made.write_video(tmp_path / "a.mp4", frames=24)
    summary = module.make_gif(video, tmp_path / "large.gif", 3.0)
    assert "12.5 a second, 96 x 96" in summary
    size = (tmp_path / "large.gif").stat().st_size
    module.make_gif(video, tmp_path / "small.gif", 0.6 * size / 1e6)
    assert (tmp_path / "small.gif").stat().st_size <= 0.6 * size
