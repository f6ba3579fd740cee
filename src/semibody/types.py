"""The types that all of Semibody shares: Pose, Gesture, Speech, Clip, SemibodyError.

Axis legend, used in every docstring and shape annotation of the package:

========  ======================================================
``b``     batch
``f``     frame
``c``     channel
``h w``   height, width (of the array at hand: pixels or latents)
``l d``   tokens, width of a token
``j``     joint
``t``     timestep of the diffusion, 0 (clean) … 999 (noise)
========  ======================================================

Nothing here reads or writes files, and nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Picture = NDArray[np.uint8]
"""(h, w, 3) RGB."""
Solver = Literal["ddim", "dpm++", "unipc"]
"""Solvers of the denoising differential equation."""
Memory = Literal["full", "low", "lowest"]
"""How much of the weights is in memory at a time (``networks.turns``)."""

N_BODY, N_FACE, N_HAND = 18, 68, 21
N_JOINTS = N_BODY + N_FACE + 2 * N_HAND
"""A pose has 128 joints: body 18, face 68, left hand 21, right hand 21, in this order."""

BODY = slice(0, N_BODY)
FACE = slice(N_BODY, N_BODY + N_FACE)
LEFT_HAND = slice(N_BODY + N_FACE, N_BODY + N_FACE + N_HAND)
RIGHT_HAND = slice(N_BODY + N_FACE + N_HAND, N_JOINTS)
HANDS = slice(N_BODY + N_FACE, N_JOINTS)

LONGEST_MESSAGE = 1200
"""Letters of an error's message."""

RATE = 16000
"""Samples of speech per second: the rate of all audio encoders."""


class SemibodyError(Exception):
    """A mistake that the user can correct.

    The message is one line: it names the file or setting at fault and the remedy. The command
    line prints it and leaves with exit code 2; nothing half-written stays behind.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(one_line(message))


def one_line(message: str) -> str:
    """A message as one line that can be printed anywhere, the middle of a very long one left out.

    Messages repeat what files contain: line ends would make several lines of one, control characters would
    be orders to a terminal, and half a surrogate pair cannot be encoded.
    """
    if len(message) > LONGEST_MESSAGE:
        message = f"{message[: LONGEST_MESSAGE * 2 // 3]} … {message[-LONGEST_MESSAGE // 3 :]}"
    line = "".join(c if c.isprintable() else " " if c in "\n\r\t" else _escaped(c) for c in message)
    return line.strip()


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode()


class MissingPartError(SemibodyError):
    """An optional package or a weights file that this call needs is not installed."""


@dataclass(frozen=True, slots=True)
class Pose:
    """Joints of one person in one frame.

    ``joints``      (j=128, 2) x and y as fractions of the picture's width and height; may lie outside 0..1.
    ``confidence``  (j=128,) 0 = not seen; about 1 = certain (SimCC maxima may slightly exceed 1).
    """

    joints: Floats
    confidence: Floats

    def __post_init__(self) -> None:
        _require_shape("Pose.joints", self.joints, (N_JOINTS, 2))
        _require_shape("Pose.confidence", self.confidence, (N_JOINTS,))

    @classmethod
    def empty(cls) -> Pose:
        """A pose in which no joint was seen."""
        return cls(np.zeros((N_JOINTS, 2)), np.zeros(N_JOINTS))


@dataclass(frozen=True, slots=True)
class Gesture:
    """A sequence of poses.

    ``joints``      (f, j=128, 2) x and y as fractions of the picture.
    ``confidence``  (f, j=128).
    ``fps``         frames per second.
    ``aspect``      width / height of the picture the fractions refer to (1.0 for the published sets).
    ``name``        for messages only.
    ``notices``     what the user should know of how it was read, a line each.
    """

    joints: Floats
    confidence: Floats
    fps: float = 24.0
    aspect: float = 1.0
    name: str = ""
    notices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        frames = len(self.joints)
        _require_shape("Gesture.joints", self.joints, (frames, N_JOINTS, 2))
        _require_shape("Gesture.confidence", self.confidence, (frames, N_JOINTS))
        if frames == 0:
            raise ValueError("a Gesture needs at least one pose")
        if not self.fps > 0:
            raise ValueError(f"Gesture.fps must be positive, got {self.fps}")
        if not self.aspect > 0:
            raise ValueError(f"Gesture.aspect must be positive, got {self.aspect}")

    def __len__(self) -> int:
        return len(self.joints)

    def __getitem__(self, frame: int) -> Pose:
        return Pose(self.joints[frame], self.confidence[frame])

    @property
    def seconds(self) -> float:
        return len(self) / self.fps

    @property
    def hands(self) -> Floats:
        """(f, hand=2, j=21, 2), left hand first: a view."""
        return self.joints[:, HANDS].reshape(len(self), 2, N_HAND, 2)

    @property
    def hands_confidence(self) -> Floats:
        """(f, hand=2, j=21), left hand first: a view."""
        return self.confidence[:, HANDS].reshape(len(self), 2, N_HAND)

    @classmethod
    def from_poses(
        cls,
        poses: Sequence[Pose],
        fps: float = 24.0,
        aspect: float = 1.0,
        name: str = "",
        notices: tuple[str, ...] = (),
    ) -> Gesture:
        if not poses:
            raise ValueError("a Gesture needs at least one pose")
        joints = np.stack([p.joints for p in poses])
        confidence = np.stack([p.confidence for p in poses])
        return cls(joints, confidence, fps, aspect, name, notices)


@dataclass(frozen=True, slots=True)
class Speech:
    """A mono recording: ``waveform`` (n,) float32 in −1..1 at ``rate`` samples per second.

    ``recording`` is the file it was read from, from its beginning: a video carries that file's own sound,
    with its rate and channels, rather than this one. What begins later in a recording has none.
    """

    waveform: NDArray[np.float32]
    rate: int = RATE
    recording: Path | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.waveform.ndim != 1:
            raise ValueError(f"Speech.waveform must be (n,), got {self.waveform.shape}")
        if self.rate <= 0:
            raise ValueError(f"Speech.rate must be positive, got {self.rate}")

    @property
    def seconds(self) -> float:
        return len(self.waveform) / self.rate


@dataclass(frozen=True, slots=True)
class Clip:
    """A video in memory: ``frames`` (f, h, w, 3) uint8 RGB, ``fps``, optionally its ``speech``.

    ``metadata`` (seed, settings, weights …) is written into the video file.
    """

    frames: NDArray[np.uint8]
    fps: float = 24.0
    speech: Speech | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.frames.ndim != 4 or self.frames.shape[3] != 3 or self.frames.dtype != np.uint8:
            raise ValueError(
                f"Clip.frames must be uint8 (f, h, w, 3), got {self.frames.dtype} {self.frames.shape}"
            )

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def seconds(self) -> float:
        return len(self) / self.fps


def _require_shape(name: str, array: NDArray[Any], shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")


class Progress(Protocol):
    """How long work reports its progress: called with the stage's name, units done and units in all.

    The command line draws bars with the remaining time; a library user may pass any callable.
    """

    def __call__(self, stage: str, done: int, total: int) -> None: ...


def silent(stage: str, done: int, total: int) -> None:
    """The Progress that shows nothing."""
