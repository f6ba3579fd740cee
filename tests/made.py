"""Small inputs made by the tests themselves: pictures, sounds, videos, poses, models, weights folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from parity.golden import WHISPER_NAMES
from semibody import demo, media
from semibody.animator import Animator
from semibody.networks.model import NETWORKS, Model, ModelConfig
from semibody.types import FACE, N_JOINTS, Gesture, Pose, Speech


def picture(height: int = 96, width: int = 96) -> NDArray[np.uint8]:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], axis=2).astype(np.uint8)


def tone(seconds: float = 1.0, rate: int = 16000, hertz: float = 220.0) -> Speech:
    t = np.arange(int(seconds * rate)) / rate
    return Speech((0.3 * np.sin(2 * np.pi * hertz * t)).astype(np.float32), rate)


STRESSES = [0.92, 1.92, 2.92, 4.17, 5.17, 6.42, 7.17, 8.42]
"""Seconds of the syllables that ``spoken`` stresses in most tests."""


def spoken(stresses: list[float], seconds: float, gaps: list[tuple[float, float]] = ()) -> Speech:  # type: ignore[assignment]
    """A voice that hums syllables four a second; at ``stresses`` louder, higher, longer."""
    rate = 16000
    time = np.arange(int(seconds * rate)) / rate
    pitch, level = np.full(len(time), 110.0), np.full(len(time), 1e-3)
    for start in np.arange(0.1, seconds - 0.2, 0.25):
        strong = any(abs(start + 0.07 - s) < 0.125 for s in stresses)
        length, loud = (0.17, 1.0) if strong else (0.10, 0.3)
        inside = (time >= start) & (time < start + length)
        level[inside] = loud * np.sin(np.pi * (time[inside] - start) / length) ** 0.7
        pitch[inside] = 150.0 if strong else 112.0
    for start, stop in gaps:
        level[(time >= start) & (time < stop)] = 1e-4
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    wave = sum(np.sin(k * phase) / k for k in range(1, 12))
    noise = np.random.default_rng(0).normal(0, 1e-4, len(time))
    return Speech((0.25 * level * wave + noise).astype(np.float32), rate)


def gesture(frames: int = 24, fps: float = 24.0) -> Gesture:
    rng = np.random.default_rng(0)
    joints = 0.5 + 0.2 * np.cumsum(rng.normal(0, 0.02, (frames, N_JOINTS, 2)), axis=0)
    return Gesture(joints, np.ones((frames, N_JOINTS)), fps, name="made")


def official_pose(number: int = 0, people: int = 1) -> dict[str, Any]:
    rng = np.random.default_rng(number)
    return {
        "bodies": {
            "candidate": rng.random((18 * people, 2)),
            "subset": np.arange(18.0)[None].repeat(people, 0),
            "score": rng.random((people, 18)),
        },
        "hands": rng.random((2 * people, 21, 2)),
        "hands_score": rng.random((2 * people, 21)),
        "faces": rng.random((people, 68, 2)),
        "faces_score": rng.random((people, 68)),
        "num": number,
        "draw_pose_params": [768, 768, 0, 768, 0, 768],
    }


def official_folder(folder: Path, frames: int = 5) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(frames):
        np.save(folder / f"{number}.npy", np.array(official_pose(number), dtype=object), allow_pickle=True)
    return folder


def small_config() -> ModelConfig:
    return demo.small_model()


def animator(**settings: Any) -> Animator:
    """Small, and without the search for a person, whom ``picture`` does not show."""
    published = {"frame": "keep", "align": "none"}
    defaults = {"width": 64, "height": 64, "steps": 2, "guidance": 1.0, "fps": 12.0, **published, **settings}
    return Animator.random(small_config(), seed=0, **defaults)


def weights_folder(folder: Path) -> Path:
    from semibody.networks.loading import save_model

    made = animator()
    save_model(folder, made.model, made.info())
    return folder


def published_folder(folder: Path, model: Model) -> Path:
    """Write ``model`` as the files that EchoMimicV2 publishes."""
    states = {part: getattr(model, part).state_dict() for part in NETWORKS}
    for sub in ("sd-vae-ft-mse", "audio_processor"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    denoiser = states["denoising_unet"]
    for ending in ("", "_acc"):
        motion = {k: v for k, v in denoiser.items() if "motion_modules" in k}
        torch.save(motion, folder / f"motion_module{ending}.pth")
        rest = {k: v for k, v in denoiser.items() if k not in motion}
        torch.save(rest, folder / f"denoising_unet{ending}.pth")
    torch.save(states["reference_unet"], folder / "reference_unet.pth")
    torch.save(states["pose_encoder"], folder / "pose_encoder.pth")
    torch.save(states["vae"], folder / "sd-vae-ft-mse" / "diffusion_pytorch_model.bin")
    whisper = {}
    for key, value in states["audio_encoder"].items():
        for ours, theirs in WHISPER_NAMES:
            key = key.replace(ours, theirs)  # noqa: PLW2901
        whisper[key] = value
    whisper |= {"encoder.ln_post.weight": torch.ones(384), "decoder.token_embedding.weight": torch.ones(2, 2)}
    torch.save({"dims": {"n_mels": 80}, "model_state_dict": whisper}, folder / "audio_processor" / "tiny.pt")
    return folder


def write_video(path: Path, frames: int = 12, *, sound: bool = True, fps: float = 12.0) -> Path:
    moving = np.stack([np.roll(picture(), 4 * i, axis=1) for i in range(frames)])
    speech = tone(frames / fps) if sound else None
    with media.VideoWriter(path, fps=fps, width=96, height=96, speech=speech, metadata={"seed": 1}) as video:
        video.write(moving)
    return path


def half_body(x: float) -> Gesture:
    """Face from 0.2 to 0.3, elbows down to 0.8, neck at ``x``."""
    joints = np.full((2, N_JOINTS, 2), 0.5)
    joints[:, FACE, 1] = np.linspace(0.2, 0.3, 68)
    joints[:, 0:7, 1] = 0.8
    joints[:, 1, 0] = x
    return Gesture(joints, np.ones((2, N_JOINTS)))


class PersonDetector:
    """Finds ``half_body(0.5)`` in every picture."""

    name = "fake"

    def people(self, image: NDArray[np.uint8]) -> list[Pose]:
        return [half_body(0.5)[0]]

    def follow(self, image: NDArray[np.uint8], last: Pose) -> Pose:
        return half_body(0.5)[0]

    def close(self) -> None: ...

    def __enter__(self) -> PersonDetector:
        return self

    def __exit__(self, *_: object) -> None: ...
