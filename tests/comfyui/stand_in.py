"""A stand-in of ``comfy_api.latest``: as much of it as the nodes use, with the parameters that it has.

Names and parameters are those of ComfyUI's ``comfy_api/latest/_io.py`` and ``__init__.py`` of late 2026; one
that is not there is a TypeError here as it is there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any


@dataclass
class Input:
    id: str
    display_name: str | None = None
    optional: bool = False
    tooltip: str | None = None
    lazy: bool | None = None
    is_widget = False


@dataclass
class Widget(Input):
    default: Any = None
    socketless: bool | None = None
    force_input: bool | None = None
    is_widget = True


@dataclass
class Number(Widget):
    min: float | None = None
    max: float | None = None
    step: float | None = None
    display_mode: Any = None


@dataclass
class IntInput(Number):
    control_after_generate: bool | None = None


@dataclass
class FloatInput(Number):
    round: float | None = None


@dataclass
class StringInput(Widget):
    multiline: bool = False
    placeholder: str | None = None
    dynamic_prompts: bool | None = None


@dataclass
class ComboInput(Widget):
    options: list[str] = field(default_factory=list)
    control_after_generate: bool | None = None


@dataclass
class Output:
    id: str | None = None
    display_name: str | None = None
    tooltip: str | None = None
    is_output_list: bool = False


@dataclass
class Schema:
    node_id: str
    display_name: str | None = None
    category: str = "sd"
    inputs: list[Input] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    description: str = ""


class NodeOutput:
    def __init__(self, *args: Any) -> None:
        self.args = args


class ComfyNode:
    pass


def _kind(name: str, given: type[Input] = Input) -> Any:
    made_input = type(f"{name}Input", (given,), {"io_type": name})
    return SimpleNamespace(Input=made_input, Output=type(f"{name}Output", (Output,), {"io_type": name}))


@dataclass
class VideoComponents:
    images: Any
    frame_rate: Any
    audio: Any = None
    metadata: Any = None


class VideoFromComponents:
    def __init__(self, components: VideoComponents) -> None:
        self.components = components

    def get_components(self) -> VideoComponents:
        return self.components


class StoppedError(BaseException):
    """What ComfyUI raises where the user has asked for a stop."""


class State:
    """What the nodes reported, and whether the user has asked for a stop."""

    progress: list[tuple[float, float, bool]] = []  # noqa: RUF012
    stop = False


def install() -> dict[str, ModuleType]:
    """The modules, for ``sys.modules``."""
    latest = ModuleType("comfy_api.latest")
    latest.io = SimpleNamespace(  # type: ignore[attr-defined]
        ComfyNode=ComfyNode, Schema=Schema, NodeOutput=NodeOutput, Custom=_kind,
        Int=_kind("INT", IntInput), Float=_kind("FLOAT", FloatInput), String=_kind("STRING", StringInput),
        Combo=_kind("COMBO", ComboInput), Image=_kind("IMAGE"), Audio=_kind("AUDIO"), Video=_kind("VIDEO"),
    )  # fmt: skip
    latest.ComfyExtension = type("ComfyExtension", (), {})  # type: ignore[attr-defined]
    latest.InputImpl = SimpleNamespace(VideoFromComponents=VideoFromComponents)  # type: ignore[attr-defined]
    latest.Types = SimpleNamespace(VideoComponents=VideoComponents)  # type: ignore[attr-defined]

    def set_progress(value: float, max_value: float, node_id: Any = None, preview_image: Any = None) -> None:
        assert 0 <= value <= max_value
        State.progress.append((value, max_value, preview_image is not None))

    api = SimpleNamespace(execution=SimpleNamespace(set_progress=set_progress))
    latest.ComfyAPISync = lambda: api  # type: ignore[attr-defined]

    def throw() -> None:
        if State.stop:
            raise StoppedError

    comfy = ModuleType("comfy")
    comfy.model_management = SimpleNamespace(  # type: ignore[attr-defined]
        throw_exception_if_processing_interrupted=throw
    )
    return {"comfy_api": ModuleType("comfy_api"), "comfy_api.latest": latest, "comfy": comfy}
