"""The nodes in a real ComfyUI, which is started here and asked over its HTTP API.

    SEMIBODY_COMFYUI=~/ComfyUI SEMIBODY_COMFYUI_PYTHON=~/ComfyUI/.venv/bin/python pytest tests/comfyui

``SEMIBODY_COMFYUI`` is a checkout; its Python needs what ComfyUI and Semibody need. Nothing is written there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import made
from semibody import Animator, media
from semibody.weights.hub import STARTER
from web.served import free_port

PACK = Path(__file__).parent.parent.parent / "comfyui"
PATIENCE = 240.0
"""Seconds that a busy machine may take to start ComfyUI, or for a clip."""


@dataclass(frozen=True)
class Running:
    """A ComfyUI that answers."""

    address: str
    base: Path
    """its folder of inputs, outputs and node packs"""
    heard: Path
    """what it told its pages, a line of JSON a message"""

    def ask(self, path: str, body: Any = None) -> Any:
        """A GET, or a POST of JSON; its answer. A refusal is given as it stands there."""
        data = None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(f"http://{self.address}{path}", data, timeout=30) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            with error:
                text = error.read()
        return json.loads(text) if text else None

    def begin(self, prompt: dict[str, Any]) -> str:
        answer = self.ask("/prompt", {"prompt": prompt, "client_id": "tests"})
        assert "prompt_id" in answer, answer
        return str(answer["prompt_id"])

    def end(self, number: str) -> dict[str, Any]:
        """Wait for a prompt's end; its entry in the history."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            history = self.ask(f"/history/{number}")
            if history:
                return dict(history[number])
            time.sleep(0.2)
        raise AssertionError(f"ComfyUI has not ended {number}")

    def messages(self, kind: str) -> list[dict[str, Any]]:
        lines = self.heard.read_text().splitlines()
        return [one for line in lines if (one := json.loads(line))["type"] == kind]


@pytest.fixture(scope="module")
def comfyui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    given = os.environ.get("SEMIBODY_COMFYUI", "")
    if not given:
        pytest.skip("set SEMIBODY_COMFYUI to a checkout of ComfyUI, SEMIBODY_COMFYUI_PYTHON to its Python")
    python = os.environ.get("SEMIBODY_COMFYUI_PYTHON", sys.executable)
    base = tmp_path_factory.mktemp("comfyui")
    for name in ("custom_nodes", "input", "output"):
        (base / name).mkdir()
    (base / "custom_nodes" / "semibody").symlink_to(PACK)
    shutil.copy(STARTER / "portrait.png", base / "input" / "portrait.png")
    media.write_speech(base / "input" / "speech.wav", made.tone(0.5))
    address, heard = f"127.0.0.1:{free_port()}", base / "heard.jsonl"
    port = address.rpartition(":")[2]
    command = [python, "main.py", "--cpu", "--listen", "127.0.0.1", "--port", port, "--disable-auto-launch"]
    command += ["--base-directory", str(base), "--database-url", f"sqlite:///{base / 'comfyui.db'}"]
    log = base / "log.txt"
    with log.open("w") as written, heard.open("w") as told:
        server = subprocess.Popen(command, cwd=given, stdout=written, stderr=written)
        listener = None
        running = Running(address, base, heard)
        try:
            _wait(running, server, log)
            listen = [python, str(Path(__file__).parent / "listen.py"), f"ws://{address}/ws?clientId=tests"]
            listener = subprocess.Popen(listen, stdout=told)
            until = time.monotonic() + PATIENCE
            while not heard.read_text():
                assert time.monotonic() < until, "ComfyUI told its page nothing"
                time.sleep(0.1)
            yield running
        finally:
            for process in filter(None, (listener, server)):
                process.kill()
                process.wait()


def _wait(running: Running, server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + PATIENCE
    while server.poll() is None and time.monotonic() < until:
        try:
            running.ask("/system_stats")
        except OSError:
            time.sleep(0.5)
        else:
            return
    raise AssertionError(f"ComfyUI does not answer:\n{log.read_text()[-3000:]}")


def as_prompt(running: Running, workflow: dict[str, Any]) -> dict[str, Any]:
    """A saved workflow as ComfyUI's page sends it: values of widgets go to inputs in the server's order."""
    sources = {link: [str(start), slot] for link, start, slot, *_ in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        described = running.ask(f"/object_info/{node['type']}")[node["type"]]
        linked = {one["name"]: sources[one["link"]] for one in node["inputs"] if one["link"] is not None}
        values = iter(node["widgets_values"])
        inputs: dict[str, Any] = {}
        for group in ("required", "optional"):
            for name in described["input_order"].get(group, []):
                kind, *options = described["input"][group][name]
                if name in linked:
                    inputs[name] = linked[name]
                elif isinstance(kind, list) or kind in ("COMBO", "INT", "FLOAT", "STRING", "BOOLEAN"):
                    inputs[name] = next(values)
                    if options and options[0].get("control_after_generate"):
                        next(values)
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


@pytest.fixture
def example(comfyui: Running) -> dict[str, Any]:
    return as_prompt(comfyui, json.loads((PACK / "example_workflows" / "speak.json").read_text()))


def named(prompt: dict[str, Any], kind: str) -> tuple[str, dict[str, Any]]:
    """The number and the inputs of the one node of a kind."""
    ((number, node),) = [(key, one) for key, one in prompt.items() if one["class_type"] == kind]
    return number, node["inputs"]


def test_the_example_workflow_makes_the_animators_own_clip(
    comfyui: Running, example: dict[str, Any], tmp_path: Path
) -> None:
    assert named(example, "SemibodyLoadWeights")[1] == {
        "weights": "starter", "precision": "auto", "folder": "",
    }  # fmt: skip
    ended = comfyui.end(comfyui.begin(example))
    assert ended["status"]["status_str"] == "success", ended["status"]
    (saved,) = ended["outputs"][named(example, "SaveVideo")[0]]["images"]
    path = comfyui.base / "output" / saved["subfolder"] / saved["filename"]
    made_there = media.read_clip(path)
    own = Animator.load("starter").animate(
        comfyui.base / "input" / "portrait.png", comfyui.base / "input" / "speech.wav", seed=7
    )
    assert made_there.frames.shape == own.frames.shape
    assert made_there.fps == pytest.approx(own.fps)
    error = (made_there.frames.astype(float) - own.frames) ** 2
    assert 10 * np.log10(255**2 / error.mean()) > 30, "the same but for ComfyUI's own compression"
    assert np.abs(media.read_speech(path).waveform).max() > 0.1

    animate = named(example, "SemibodyAnimate")[0]
    states = [one["data"]["nodes"].get(animate) for one in comfyui.messages("progress_state")]
    reported = [(one["value"], one["max"]) for one in states if one]
    assert (len(own.frames), len(own.frames)) in reported, "every frame was reported"
    assert comfyui.messages("preview")


def test_its_stop_button_ends_a_clip_and_the_next_one_is_made(
    comfyui: Running, example: dict[str, Any]
) -> None:
    _, inputs = named(example, "SemibodyAnimate")
    inputs |= {"steps": 1000, "seed": 8}
    number = comfyui.begin(example)
    until, before = time.monotonic() + PATIENCE, len(comfyui.messages("progress_state"))
    while len(comfyui.messages("progress_state")) < before + 8 and time.monotonic() < until:
        time.sleep(0.1)
    comfyui.ask("/interrupt", {})
    told = [kind for kind, _ in comfyui.end(number)["status"]["messages"]]
    assert "execution_interrupted" in told
    inputs |= {"steps": 1, "frames": 2}
    assert comfyui.end(comfyui.begin(example))["status"]["status_str"] == "success"


def test_a_mistake_is_said_in_one_line(comfyui: Running, example: dict[str, Any]) -> None:
    number, inputs = named(example, "SemibodyLoadWeights")
    inputs |= {"weights": "folder", "folder": "/nowhere"}
    messages = dict(comfyui.end(comfyui.begin(example))["status"]["messages"])
    said = messages["execution_error"]
    assert said["node_id"] == number
    assert said["exception_message"].strip().startswith("/nowhere: no such weights folder")


def test_all_nodes_in_one_graph(comfyui: Running, example: dict[str, Any]) -> None:
    """The portrait is checked, and the gesture taken from a video of the first clip."""
    comfyui.end(comfyui.begin(example))
    video = max((comfyui.base / "output" / "video").glob("*.mp4"), key=lambda path: path.stat().st_size)
    shutil.copy(video, comfyui.base / "input" / "wave.mp4")
    number, inputs = named(example, "SemibodyAnimate")
    weights, portrait = named(example, "SemibodyLoadWeights")[0], named(example, "LoadImage")[0]
    example |= {
        "20": {"class_type": "LoadVideo", "inputs": {"file": "wave.mp4"}},
        "21": {"class_type": "SemibodyGestureFromVideo", "inputs": {"video": ["20", 0], "person": 0}},
        "22": {
            "class_type": "SemibodyCheckPortrait",
            "inputs": {"portrait": [portrait, 0], "model": [weights, 0]},
        },
        "23": {"class_type": "PreviewAny", "inputs": {"source": ["22", 1]}},
        "24": {"class_type": "SaveImage", "inputs": {"images": ["22", 0], "filename_prefix": "framed"}},
        "25": {"class_type": "PreviewAny", "inputs": {"source": [number, 2]}},
    }
    inputs |= {"gesture": ["21", 0], "frames": 2, "steps": 1}
    ended = comfyui.end(comfyui.begin(example))
    assert ended["status"]["status_str"] == "success", ended["status"]
    assert ended["outputs"]["23"]["text"][0]
    assert len(list((comfyui.base / "output").glob("framed*.png"))) == 1
