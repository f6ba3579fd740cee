"""The demo: a bundled portrait, animated with a bundled speech.

The starter, two portraits and their speeches come with the package; the demo is exactly what
``semibody animate`` makes of them. Where the starter's weights are missing, small random networks animate a
drawn person instead: the output is noise, but every stage runs, and beside it the video shows the inputs.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from semibody import media
from semibody.animator import Animator
from semibody.inputs import prepare
from semibody.networks.audio_encoders import AudioConfig
from semibody.networks.model import ModelConfig
from semibody.networks.pose_encoder import PoseEncoderConfig
from semibody.networks.unet import UNetConfig
from semibody.networks.vae import VAEConfig
from semibody.pose.draw import draw_pose
from semibody.types import (
    LEFT_HAND,
    N_JOINTS,
    RATE,
    RIGHT_HAND,
    Floats,
    Gesture,
    Progress,
    SemibodyError,
    Speech,
    silent,
)
from semibody.weights import hub, store

SIDE, SECONDS, FPS = 256, 3.0, 24.0


@dataclass(frozen=True)
class Person:
    """Files of the starter: a portrait and what the person says."""

    portrait: str
    speech: str


PEOPLE = {
    "suit": Person("portrait.png", "speech.wav"),
    "shirt": Person("portrait-shirt.png", "speech-shirt.flac"),
}
"""Who may be shown, by what they wear; the first is the one of the README."""
WHO = next(iter(PEOPLE))


def small_model() -> ModelConfig:
    """The same networks as the published ones, a thousandth of their size."""
    return ModelConfig(
        unet=UNetConfig(
            widths=(32, 64, 64),
            layers=1,
            attention=(False, True, True),
            heads=4,
            audio_width=64,
            motion_heads=4,
        ),
        pose_encoder=PoseEncoderConfig(out_channels=32, widths=(8, 16, 32, 32)),
        vae=VAEConfig(widths=(16, 16, 32, 32), layers=1, groups=8),
        audio=AudioConfig(kind="logmel", width=64, before=7, after=8),
    )


def make_demo(out: Path, who: str = WHO, *, progress: Progress = silent) -> list[str]:
    """Write the demo video and return the lines to print about it.

    Raises SemibodyError for somebody who is not among ``PEOPLE``.
    """
    if who not in PEOPLE:
        raise SemibodyError(f"--who {who} is unknown; choose {' or '.join(PEOPLE)}")
    if store.is_store(hub.STARTER):
        return make_starter_demo(out, who, progress=progress)
    return make_drawn_demo(out, progress=progress)


def make_starter_demo(out: Path, who: str = WHO, *, progress: Progress = silent) -> list[str]:
    """Animate a bundled portrait with its speech; the gesture is planned from the speech."""
    started = time.monotonic()
    portrait, speech = bundled(PEOPLE[who].portrait), bundled(PEOPLE[who].speech)
    other = next(name for name in PEOPLE if name != who)
    animator = Animator.load("starter", progress=progress)
    # The portrait is framed like the training pictures already.
    inputs = animator.animate_to(out, portrait, speech, frame="keep", progress=progress)
    settings, seconds = animator.settings(), time.monotonic() - started
    frames, size = len(inputs), f"{settings.width} x {settings.height}"
    return [
        *(f"note: {notice}" for notice in inputs.notices),
        f"{out}: {frames} frames, {size}, {frames / settings.fps:.1f} s of video, made in {seconds:.0f} s",
        "Person and voice are synthetic; the picture is deformed as the planned gesture and "
        "the mouth predicted from the sound ask, and the small model draws the rest.",
        "The same in full, to change one thing at a time:",
        f"  {_command()} animate {portrait} {speech} --gesture auto --frame keep --weights starter -o {out}",
        f"Another person: {_command()} demo --who {other}; other gestures: {_command()} gesture list; "
        f"your own picture: {_command()} check PICTURE",
    ]


def bundled(name: str) -> Path:
    """The path of a file of the starter, relative to the current folder where that is shorter."""
    path = hub.STARTER / name
    relative = Path(os.path.relpath(path))
    return path if ".." in relative.parts else relative


def _command() -> str:
    """How this installation is called."""
    if shutil.which("semibody"):
        return "semibody"
    python = Path(os.path.relpath(sys.executable))
    return f"{sys.executable if '..' in python.parts else python} -m semibody"


def make_drawn_demo(out: Path, *, progress: Progress = silent) -> list[str]:
    """Every stage of an animation with small seeded random weights, on inputs drawn by code."""
    animator = Animator.random(small_model(), seed=0, width=SIDE, height=SIDE, steps=4, guidance=1.0, fps=FPS,
        frame="keep", align="none",
    )  # fmt: skip
    settings = animator.settings()
    inputs = prepare(draw_portrait(SIDE), babble(SECONDS), waving_hands(SECONDS), settings)
    done = 0
    with media.VideoWriter(
        out, fps=FPS, width=3 * SIDE, height=SIDE, speech=inputs.speech, metadata=animator.metadata(settings)
    ) as video:
        for made in animator.frames(inputs, settings, progress=progress):
            for frame in made:
                poses = draw_pose(inputs.gesture[done], SIDE, SIDE)
                video.write(np.concatenate([inputs.portrait, poses, frame], axis=1))
                done += 1
    return [
        f"{out}: {done} frames; left the portrait, in the middle the hand poses, right what the network made",
        "The starter's weights are not in this installation, so small RANDOM ones are used and the picture "
        "is noise: this shows that every stage runs.",
        "For a real video: semibody weights fetch accelerated, then semibody animate --weights accelerated …",
    ]


def draw_portrait(side: int) -> NDArray[np.uint8]:
    """A plain drawn half body on a soft background, uint8 (side, side, 3)."""
    y = np.linspace(0, 1, side)[:, None, None]
    canvas = np.ascontiguousarray(
        np.broadcast_to((1 - y) * [206, 216, 226] + y * [150, 164, 178], (side, side, 3)).astype(np.uint8)
    )

    def at(*points: tuple[float, float]) -> NDArray[np.int32]:
        return np.array([[round(x * side), round(y * side)] for x, y in points], np.int32)

    def ellipse(x: float, y: float, rx: float, ry: float, colour: tuple[int, int, int]) -> None:
        centre, axes = (round(x * side), round(y * side)), (round(rx * side), round(ry * side))
        cv2.ellipse(canvas, centre, axes, 0, 0, 360, colour, -1, cv2.LINE_AA)

    skin, shirt, hair, dark = (224, 180, 152), (58, 92, 140), (70, 48, 36), (60, 40, 40)
    ellipse(0.5, 0.24, 0.135, 0.17, hair)
    cv2.fillPoly(
        canvas, [at((0.22, 1.0), (0.25, 0.58), (0.42, 0.48), (0.58, 0.48), (0.75, 0.58), (0.78, 1.0))], shirt
    )
    cv2.fillPoly(canvas, [at((0.45, 0.36), (0.55, 0.36), (0.56, 0.5), (0.5, 0.55), (0.44, 0.5))], skin)
    ellipse(0.5, 0.28, 0.108, 0.145, skin)
    for x in (0.458, 0.542):
        ellipse(x, 0.265, 0.02, 0.011, (250, 250, 250))
        ellipse(x, 0.265, 0.009, 0.009, dark)
        ellipse(x, 0.235, 0.026, 0.006, hair)
    ellipse(0.5, 0.305, 0.012, 0.014, (206, 158, 132))
    ellipse(0.5, 0.355, 0.034, 0.012, (172, 84, 84))
    for x in (0.3, 0.7):
        ellipse(x, 0.8, 0.05, 0.06, skin)
    return canvas


def babble(seconds: float) -> Speech:
    """Vowel-like syllables, four a second: a buzz through two moving resonances, silent in between."""
    t = np.arange(int(seconds * RATE)) / RATE
    pitch = 120 + 20 * np.sin(2 * np.pi * 0.7 * t)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    first, second = 500 + 250 * np.sin(2 * np.pi * 1.3 * t), 1500 + 500 * np.sin(2 * np.pi * 0.9 * t)
    sound = np.zeros_like(t)
    for harmonic in range(1, 25):
        hertz = harmonic * pitch
        gain = np.exp(-(((hertz - first) / 220) ** 2)) + 0.5 * np.exp(-(((hertz - second) / 320) ** 2))
        sound += gain * np.sin(harmonic * phase)
    syllables = np.clip(np.sin(2 * np.pi * 4 * t), 0, None) ** 0.7
    sound *= syllables
    return Speech((0.5 * sound / np.abs(sound).max()).astype(np.float32), RATE)


def waving_hands(seconds: float) -> Gesture:
    """Two open hands that rise and sink and turn, in turn."""
    frames = int(seconds * FPS)
    joints, confidence = np.zeros((frames, N_JOINTS, 2)), np.zeros((frames, N_JOINTS))
    hand = open_hand()
    for frame in range(frames):
        for place, side, delay in ((RIGHT_HAND, -1, 0.0), (LEFT_HAND, 1, 0.5)):
            swing = np.sin(2 * np.pi * (0.6 * frame / FPS + delay))
            angle = side * (0.25 + 0.35 * swing)
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            wrist = np.array([0.5 + side * 0.24, 0.74 - 0.14 * swing])
            joints[frame, place] = wrist + (hand * [side, 1]) @ turn.T
            confidence[frame, place] = 1.0
    return Gesture(joints, confidence, FPS, name="demo")


def open_hand() -> Floats:
    """(21, 2) an upright open hand with its wrist at the origin, as a fraction of the picture."""
    points = [(0.0, 0.0)]
    for finger, (spread, length) in enumerate(
        ((1.0, 0.08), (0.32, 0.12), (0.05, 0.13), (-0.2, 0.12), (-0.45, 0.1))
    ):
        direction = np.array([-np.sin(spread), -np.cos(spread)])
        knuckle = 0.3 if finger == 0 else 0.5
        points += [tuple(direction * length * s) for s in np.linspace(knuckle, 1.0, 4)]
    return np.array(points)
