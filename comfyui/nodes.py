"""The nodes: load weights, look at a portrait, choose or find a gesture, animate.

Saved workflows know inputs by their order, so new ones go to the end, as optional ones (a required one would
be missing in what was saved before), and none is ever moved. ComfyUI puts required inputs before optional
ones, so they stand in that order here.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from comfy_api.latest import ComfyAPISync, ComfyExtension, InputImpl, Types, io

MODEL, GESTURE = io.Custom("SEMIBODY_MODEL"), io.Custom("SEMIBODY_GESTURE")
CATEGORY = "Semibody"
WEIGHTS = ("starter", "accelerated", "official", "folder")


class LoadWeights(io.ComfyNode):
    """The networks, once for all nodes behind it."""

    @classmethod
    def define_schema(cls) -> Any:
        return io.Schema(
            node_id="SemibodyLoadWeights",
            display_name="Semibody: load weights",
            category=CATEGORY,
            description="The starter comes with Semibody; fetch the others with `semibody weights fetch`.",
            inputs=[
                io.Combo.Input("weights", options=list(WEIGHTS), default="starter"),
                io.Combo.Input("precision", options=["auto", "bf16", "fp16", "fp32"], default="auto"),
                io.String.Input("folder", default="", optional=True, tooltip="Where weights is folder."),
            ],
            outputs=[MODEL.Output(display_name="model")],
        )

    @classmethod
    def execute(cls, weights: str, precision: str = "auto", folder: str = "") -> Any:
        from semibody import Animator

        return io.NodeOutput(Animator.load(folder if weights == "folder" else weights, precision=precision))


class CheckPortrait(io.ComfyNode):
    """What may go wrong with a portrait, before minutes of computing."""

    @classmethod
    def define_schema(cls) -> Any:
        return io.Schema(
            node_id="SemibodyCheckPortrait",
            display_name="Semibody: check portrait",
            category=CATEGORY,
            description="Lists what may go wrong, and shows the picture as it will be framed.",
            inputs=[io.Image.Input("portrait"), MODEL.Input("model")],
            outputs=[io.Image.Output(display_name="framed"), io.String.Output(display_name="findings")],
        )

    @classmethod
    def execute(cls, portrait: torch.Tensor, model: Any) -> Any:
        from semibody.inputs import fit

        fitted = fit(_picture(portrait), None, None, model.settings())
        findings = "\n".join(f"{one.level}: {one.line()}" for one in fitted.findings)
        return io.NodeOutput(_image(fitted.portrait[None]), findings or "nothing to say")


class ChooseGesture(io.ComfyNode):
    """A gesture by name, from a file, or planned from the speech."""

    @classmethod
    def define_schema(cls) -> Any:
        return io.Schema(
            node_id="SemibodyGesture",
            display_name="Semibody: gesture",
            category=CATEGORY,
            description="auto plans it from the speech; path is a file or folder of poses.",
            inputs=[
                io.Combo.Input("kind", options=["auto", "still", *_library(), "path"], default="auto"),
                io.String.Input("path", default="", optional=True),
            ],
            outputs=[GESTURE.Output(display_name="gesture")],
        )

    @classmethod
    def execute(cls, kind: str, path: str = "") -> Any:
        return io.NodeOutput(path if kind == "path" else kind)


class GestureFromVideo(io.ComfyNode):
    """The poses of a person in a video."""

    @classmethod
    def define_schema(cls) -> Any:
        return io.Schema(
            node_id="SemibodyGestureFromVideo",
            display_name="Semibody: gesture from video",
            category=CATEGORY,
            inputs=[io.Video.Input("video"), io.Int.Input("person", default=0, min=0, max=20)],
            outputs=[GESTURE.Output(display_name="gesture")],
        )

    @classmethod
    def execute(cls, video: Any, person: int = 0) -> Any:
        from semibody.pose.detectors import shared_detector
        from semibody.types import Gesture, Pose, SemibodyError

        parts = video.get_components()
        frames = (parts.images.cpu().numpy() * 255).round().astype(np.uint8)
        poses: list[Pose] = []
        report = _progress(len(frames))
        with shared_detector() as detector:
            for number, frame in enumerate(frames):
                _stop_if_asked()
                seen = detector.follow(frame, poses[-1]) if poses and poses[-1].confidence.any() else None
                if seen is None:
                    people = detector.people(frame)
                    seen = people[person] if person < len(people) else Pose.empty()
                poses.append(seen)
                report("poses", number + 1, len(frames))
        if not any(pose.confidence.any() for pose in poses):
            raise SemibodyError("the video shows nobody whom the detector finds; use one of a half body")
        height, width = frames.shape[1:3]
        rate = float(parts.frame_rate)
        return io.NodeOutput(Gesture.from_poses(poses, rate, width / height, "the video"))


class Animate(io.ComfyNode):
    """Portrait, speech and gesture to a video."""

    @classmethod
    def define_schema(cls) -> Any:
        return io.Schema(
            node_id="SemibodyAnimate",
            display_name="Semibody: animate",
            category=CATEGORY,
            description="A person who speaks and gestures. 0: as the weights have it.",
            inputs=[
                MODEL.Input("model"),
                io.Image.Input("portrait"),
                io.Audio.Input("speech"),
                io.Int.Input("seed", default=0, min=0, max=2**53, control_after_generate=True),
                io.Int.Input("steps", default=0, min=0, max=1000),
                io.Float.Input("guidance", default=0.0, min=0.0, max=30.0, step=0.1),
                io.Int.Input("width", default=0, min=0, max=4096, step=8),
                io.Int.Input("height", default=0, min=0, max=4096, step=8),
                io.Int.Input("frames", default=0, min=0, max=1_000_000, tooltip="0: as long as the speech."),
                io.Float.Input("liveliness", default=1.0, min=0.0, max=3.0, step=0.1),
                GESTURE.Input("gesture", optional=True),
            ],
            outputs=[
                io.Video.Output(display_name="video"),
                io.Image.Output(display_name="images"),
                io.String.Output(display_name="notes"),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        portrait: torch.Tensor,
        speech: dict[str, Any],
        gesture: Any = "auto",
        **changes: Any,
    ) -> Any:
        from semibody.inputs import prepare

        names = {"frames": "length"}
        # 0 is "as the weights have it" but for seed and liveliness, where it is a value.
        given = {
            names.get(name, name): value
            for name, value in changes.items()
            if value or name in ("seed", "liveliness")
        }
        settings = model.settings(**given)
        inputs = prepare(_picture(portrait), _speech(speech), gesture, settings)
        report = _progress(1)
        slices = []
        for pixels in model.frames(inputs, settings, progress=_checked(report)):
            slices.append(pixels)
            report("decode", sum(map(len, slices)), len(inputs), pixels[-1])
        images = _image(np.concatenate(slices))
        video = InputImpl.VideoFromComponents(
            Types.VideoComponents(
                images=images,
                audio=speech,
                frame_rate=Fraction(settings.fps).limit_denominator(1001),
            )
        )
        return io.NodeOutput(video, images, "\n".join(inputs.notices))


class SemibodyExtension(ComfyExtension):
    """All nodes of this pack."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [LoadWeights, CheckPortrait, ChooseGesture, GestureFromVideo, Animate]


async def comfy_entrypoint() -> SemibodyExtension:
    """What ComfyUI calls when it loads the folder. Raises RuntimeError for one that is too old."""
    if not hasattr(ComfyAPISync(), "execution"):
        raise RuntimeError("Semibody's nodes need a newer ComfyUI; update it to 0.3.75 or newer")
    return SemibodyExtension()


# -- between ComfyUI's types and Semibody's --------------------------------------------------


def _picture(image: torch.Tensor) -> Any:
    """The first of (b, h, w, 3) in 0..1 as uint8; transparent parts on white."""
    one = image[0].detach().cpu().float().clamp(0, 1)
    if one.shape[-1] == 4:
        one = one[..., :3] * one[..., 3:] + (1 - one[..., 3:])
    return (one * 255).round().to(torch.uint8).numpy()


def _image(pixels: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(pixels)).float() / 255


def _speech(audio: dict[str, Any]) -> Any:
    """ComfyUI's sound (b, channels, n) at any rate as speech at 16 kHz, read as a recording's file is."""
    import tempfile

    from semibody import media
    from semibody.types import Speech

    mono = audio["waveform"][0].detach().cpu().float().mean(0).numpy().astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        media.write_speech(path, Speech(mono, int(audio["sample_rate"])))
        read = media.read_speech(path)
    return Speech(read.waveform, read.rate)


def _progress(total: int) -> Callable[..., None]:
    """Reports to ComfyUI's bar, with a preview where there is one."""
    api = ComfyAPISync()

    def report(stage: str, done: int, of: int = total, preview: Any = None) -> None:  # noqa: ARG001
        shown = None if preview is None else _image(preview[None])
        api.execution.set_progress(value=done, max_value=max(1, of), preview_image=shown)

    return report


def _checked(report: Callable[..., None]) -> Callable[[str, int, int], None]:
    """A Progress that ends the work where the user has asked for it."""

    def progress(stage: str, done: int, total: int) -> None:
        _stop_if_asked()
        if stage != "decode":
            report(stage, done, total)

    return progress


def _stop_if_asked() -> None:
    from comfy import model_management

    model_management.throw_exception_if_processing_interrupted()


def _library() -> list[str]:
    from semibody.pose.library import names

    return list(names())
