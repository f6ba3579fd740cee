"""The nodes of ComfyUI, called as it calls them, on a stand-in of its interface."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import made
from semibody import Animator
from semibody.types import SemibodyError

ROOT = Path(__file__).parent.parent.parent / "comfyui"


def _load(name: str, path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


stand_in = _load("comfyui_stand_in", Path(__file__).parent / "stand_in.py")


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        for name, module in stand_in.install().items():
            patch.setitem(sys.modules, name, module)
        yield _load("comfyui_semibody_nodes", ROOT / "nodes.py")


@pytest.fixture(autouse=True)
def _fresh() -> None:
    stand_in.State.progress.clear()
    stand_in.State.stop = False


@pytest.fixture(scope="module")
def animator() -> Animator:
    return made.animator()


def image() -> torch.Tensor:
    return torch.from_numpy(made.picture())[None].float() / 255


def audio(seconds: float = 0.3, rate: int = 44100) -> dict[str, Any]:
    wave = torch.from_numpy(made.tone(seconds, rate).waveform)
    return {"waveform": torch.stack([wave, wave])[None], "sample_rate": rate}


def schemas(nodes: Any) -> dict[str, Any]:
    extension = asyncio.run(nodes.comfy_entrypoint())
    return {(one := node.define_schema()).node_id: one for node in asyncio.run(extension.get_node_list())}


def test_every_schema_names_what_execute_takes(nodes: Any) -> None:
    import inspect

    found = schemas(nodes)
    assert list(found) == [
        "SemibodyLoadWeights", "SemibodyCheckPortrait", "SemibodyGesture", "SemibodyGestureFromVideo",
        "SemibodyAnimate",
    ]  # fmt: skip
    extension = asyncio.run(nodes.comfy_entrypoint())
    for node in asyncio.run(extension.get_node_list()):
        ids = [one.id for one in node.define_schema().inputs]
        parameters = inspect.signature(node.execute).parameters
        open_ended = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())
        assert open_ended or set(ids) == set(parameters)
        optional = [one.optional for one in node.define_schema().inputs]
        assert optional == sorted(optional), "ComfyUI puts required inputs first, whatever their order here"
        assert len(ids) == len(set(ids))


def test_inputs_are_never_moved(nodes: Any) -> None:
    """Saved workflows know them by their order; add new ones at the end of a list here."""
    order = {name: [one.id for one in schema.inputs] for name, schema in schemas(nodes).items()}
    assert order == {
        "SemibodyLoadWeights": ["weights", "precision", "folder"],
        "SemibodyCheckPortrait": ["portrait", "model"],
        "SemibodyGesture": ["kind", "path"],
        "SemibodyGestureFromVideo": ["video", "person"],
        "SemibodyAnimate": [
            "model", "portrait", "speech", "seed", "steps", "guidance", "width", "height", "frames",
            "liveliness", "gesture",
        ],
    }  # fmt: skip


def test_a_graph_makes_the_animators_own_clip(nodes: Any, animator: Animator) -> None:
    (gesture,) = nodes.ChooseGesture.execute("wave").args
    video, images, _ = nodes.Animate.execute(
        animator, image(), audio(), gesture, seed=3, steps=1, width=0
    ).args
    parts = video.get_components()
    assert (tuple(images.shape), float(parts.frame_rate)) == ((3, 64, 64, 3), 12.0)
    assert float(images.min()) >= 0
    assert float(images.max()) <= 1
    own = animator.animate(made.picture(), made.tone(0.3), "wave", seed=3, steps=1).frames
    assert np.abs((images.numpy() * 255).round() - own).mean() < 2, "the sound was resampled from 44.1 kHz"
    assert stand_in.State.progress[-1] == (3, 3, True)


def test_a_stop_ends_it(nodes: Any, animator: Animator) -> None:
    stand_in.State.stop = True
    with pytest.raises(stand_in.StoppedError):
        nodes.Animate.execute(animator, image(), audio(), "wave")


def test_weights_and_their_mistakes(nodes: Any, tmp_path: Path) -> None:
    made.weights_folder(tmp_path / "w")
    (loaded,) = nodes.LoadWeights.execute("folder", "fp32", str(tmp_path / "w")).args
    assert loaded.defaults.width == 64
    with pytest.raises(SemibodyError, match="none"):
        nodes.LoadWeights.execute("folder", folder=str(tmp_path / "none"))


def test_an_older_comfyui_is_told_to_update(nodes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "ComfyAPISync", object)
    with pytest.raises(RuntimeError, match=r"update it to 0\.3\.75 or newer"):
        asyncio.run(nodes.comfy_entrypoint())


def test_a_portrait_is_checked(nodes: Any, animator: Animator) -> None:
    framed, findings = nodes.CheckPortrait.execute(image(), animator).args
    assert tuple(framed.shape) == (1, 64, 64, 3)
    assert findings


def test_a_gesture_follows_one_person(nodes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    poses = [made.gesture()[n] for n in range(3)]

    class Detector:
        def people(self, _: Any) -> list[Any]:
            return [poses[2], poses[0]]

        def follow(self, _: Any, last: Any) -> Any:
            return poses[1] if last is poses[0] else None

    monkeypatch.setattr("semibody.pose.detectors.shared_detector", lambda: contextlib.nullcontext(Detector()))
    parts = stand_in.VideoComponents(images=image().repeat(2, 1, 1, 1), frame_rate=25)
    (gesture,) = nodes.GestureFromVideo.execute(stand_in.VideoFromComponents(parts), person=1).args
    assert gesture.fps == 25
    np.testing.assert_array_equal(gesture.joints, [poses[0].joints, poses[1].joints])
    monkeypatch.setattr(Detector, "people", lambda *_: [])
    with pytest.raises(SemibodyError, match="shows nobody"):
        nodes.GestureFromVideo.execute(stand_in.VideoFromComponents(parts))


def test_the_example_fits_the_nodes(nodes: Any) -> None:
    found = schemas(nodes)
    graph = json.loads((ROOT / "example_workflows" / "speak.json").read_text())
    by_id = {node["id"]: node for node in graph["nodes"]}
    for node in graph["nodes"]:
        schema = found.get(node["type"])
        if schema is None:
            continue
        sockets = [one for one in schema.inputs if not one.is_widget]
        assert [one["name"] for one in node["inputs"]] == [one.id for one in sockets]
        assert [one["type"] for one in node["inputs"]] == [one.io_type for one in sockets]
        assert [one["type"] for one in node["outputs"]] == [one.io_type for one in schema.outputs]
        widgets = [one for one in schema.inputs if one.is_widget]
        extra = sum(bool(getattr(one, "control_after_generate", None)) for one in widgets)
        assert len(node["widgets_values"]) == len(widgets) + extra
    for link, start, slot, end, into, kind in graph["links"]:
        assert by_id[start]["outputs"][slot]["type"] == kind
        assert link in by_id[start]["outputs"][slot]["links"]
        assert by_id[end]["inputs"][into] == {**by_id[end]["inputs"][into], "link": link, "type": kind}


def test_the_pack_describes_itself() -> None:
    described = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert {"PublisherId", "DisplayName", "requires-comfyui"} <= described["tool"]["comfy"].keys()
    assert described["project"]["dependencies"] == ["semibody[pose]>=0.1"]
