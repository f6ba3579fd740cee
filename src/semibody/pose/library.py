"""The gestures that come with Semibody, made by moving a skeleton from key pose to key pose.

    gesture = find_gesture("wave")            # a name, or the path of any gesture file

``GESTURES`` are the scripts: key poses of both arms by name (``POSES``), seconds to move there and to
hold. ``build`` plays one; the packaged ``.npz`` files are what ``python -m semibody.pose.library`` writes.
Every gesture starts and ends at rest, so it can be looped or follow any other.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from semibody.files import exists, printable
from semibody.pose.files import Stated, load_gesture, save_gesture
from semibody.pose.kinematics import ANGLES, Body, pose_bodies, reach
from semibody.types import Floats, Gesture, SemibodyError

FPS = 24.0
FRONT = (0.0, 0.0, 1.0)
UP = (0.0, -1.0, 0.0)

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class ArmPose:
    """Where an arm is to be; ``kinematics.reach`` explains the numbers."""

    wrist: Vector
    palm: Vector
    fingers: Vector
    shape: str
    elbow_out: float = 0.25


# x outwards, y down, z to the viewer; directions likewise.
POSES: dict[str, ArmPose] = {
    "rest": ArmPose((0.20, 1.03, 0.50), (0.0, 0.25, -1.0), (-1.0, 0.30, 0.1), "relaxed"),
    "rest_over": ArmPose((0.17, 0.98, 0.56), (0.0, 0.25, -1.0), (-1.0, 0.25, 0.1), "relaxed"),
    "ready": ArmPose((0.40, 0.80, 0.66), (-0.55, -0.55, -0.35), (-0.75, 0.0, 0.6), "soft"),
    "raised": ArmPose((0.46, 0.50, 0.68), (-0.75, 0.0, 0.35), (-0.35, -0.85, 0.3), "soft"),
    "struck": ArmPose((0.43, 0.70, 0.74), (-0.65, -0.45, 0.25), (-0.50, -0.55, 0.55), "soft", 0.30),
    "raised_wide": ArmPose((0.66, 0.42, 0.62), (-0.5, -0.2, 0.7), (0.0, -1.0, 0.2), "soft", 0.3),
    "open_low": ArmPose((0.60, 0.74, 0.66), (-0.1, -0.75, 0.6), (0.75, -0.05, 0.65), "open", 0.2),
    "open_high": ArmPose((0.64, 0.46, 0.60), (-0.1, -0.4, 0.9), (0.50, -0.80, 0.35), "open", 0.25),
    "offer": ArmPose((0.52, 0.70, 0.78), (-0.15, -0.9, 0.45), (0.25, -0.25, 0.9), "open", 0.2),
    "stop": ArmPose((0.52, 0.26, 0.74), FRONT, UP, "flat"),
    "one": ArmPose((0.56, 0.16, 0.58), FRONT, UP, "one"),
    "two": ArmPose((0.56, 0.16, 0.58), FRONT, UP, "two"),
    "three": ArmPose((0.56, 0.16, 0.58), FRONT, UP, "three"),
    "count_low": ArmPose((0.55, 0.30, 0.60), FRONT, UP, "fist"),
    "point_ready": ArmPose((0.46, 0.46, 0.55), (-0.8, 0.1, 0.5), (-0.2, -0.9, 0.4), "one"),
    "point": ArmPose((0.62, 0.30, 0.88), (-0.45, 0.35, 0.8), (0.35, -0.80, 0.5), "one", 0.3),
    "wave_in": ArmPose((0.66, -0.02, 0.48), FRONT, (-0.42, -1.0, 0.0), "open", 0.3),
    "wave_out": ArmPose((0.80, 0.0, 0.48), FRONT, (0.42, -1.0, 0.0), "open", 0.3),
    "thumb_low": ArmPose((0.46, 0.66, 0.72), (-1.0, 0.0, 0.0), (-0.5, -0.2, 0.8), "thumb"),
    "thumb": ArmPose((0.48, 0.46, 0.80), (-1.0, 0.0, 0.1), (-0.6, -0.2, 0.7), "thumb"),
    "fist_low": ArmPose((0.48, 0.46, 0.62), (-0.7, 0.0, 0.7), (-0.1, -1.0, 0.2), "fist"),
    "fist": ArmPose((0.52, 0.20, 0.62), (-0.55, 0.0, 0.85), (-0.05, -1.0, 0.1), "fist", 0.3),
    "salute": ArmPose((0.60, -0.42, 0.34), (-0.15, 0.65, 0.55), (-0.80, -0.50, 0.0), "flat", 0.62),
    "cross_over": ArmPose((-0.20, 0.44, 0.62), (0.0, 0.0, -1.0), (-0.75, -0.65, 0.1), "flat", 0.25),
    "cross_under": ArmPose((-0.20, 0.48, 0.50), (0.0, 0.0, -1.0), (-0.75, -0.65, 0.1), "flat", 0.25),
    "finger_heart": ArmPose((0.50, 0.20, 0.66), (-0.35, 0.0, 1.0), (-0.25, -1.0, 0.1), "finger_heart"),
    "together": ArmPose((0.075, 0.52, 0.66), (-1.0, 0.0, 0.0), (0.0, -1.0, 0.15), "flat", 0.50),
    "clasped": ArmPose((0.13, 0.70, 0.66), (-0.9, -0.1, -0.5), (-0.75, -0.35, 0.6), "soft", 0.40),
    "chest": ArmPose((0.02, 0.36, 0.40), (0.0, 0.1, -1.0), (-0.95, -0.2, 0.0), "flat", 0.35),
    "pinch": ArmPose((0.50, 0.34, 0.70), (-0.6, 0.1, 0.8), (-0.3, -0.9, 0.3), "pinch"),
    "pinch_down": ArmPose((0.47, 0.52, 0.78), (-0.6, 0.2, 0.7), (-0.3, -0.75, 0.55), "pinch"),
}
"""Poses of one arm by name; the other arm's are their mirror images."""


@functools.cache
def arm(name: str) -> tuple[float, ...]:
    """Angles (27,) of a named arm pose."""
    pose = POSES[name]
    return reach(pose.wrist, pose.palm, pose.fingers, pose.shape, pose.elbow_out)


Turn = tuple[float, float, float]
"""Of the head, in degrees: to its left, down, tilted to its left."""
AHEAD: Turn = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Key:
    """Move to these arm poses in ``move`` seconds and hold them for ``hold``."""

    left: str
    right: str
    move: float
    hold: float = 0.0
    head: Turn = AHEAD


REST = Key("rest", "rest_over", 0.0)
REST_NAME = "rest"
"""Of the gesture whose hands hardly move."""


@dataclass(frozen=True)
class Script:
    """A gesture as key poses after rest; the return to rest is added."""

    about: str
    keys: tuple[Key, ...]
    back: float = 0.7


def _both(name: str, move: float, hold: float = 0.0, head: Turn = AHEAD) -> Key:
    return Key(name, name, move, hold, head)


def _right(name: str, move: float, hold: float = 0.0, head: Turn = AHEAD) -> Key:
    return Key(REST.left, name, move, hold, head)


def _left(name: str, move: float, hold: float = 0.0, head: Turn = AHEAD) -> Key:
    return Key(name, REST.right, move, hold, head)


GESTURES: dict[str, Script] = {
    "rest": Script("hands folded in front, hardly moving", (Key("rest", "rest_over", 2.0, 2.0),), back=0.0),
    "beat": Script(
        "both hands beat the rhythm of speech",
        (
            _both("raised", 0.55),
            _both("struck", 0.22, 0.25, (0, 4, 0)),
            _both("raised", 0.35),
            _both("struck", 0.2, 0.3, (3, 3, 0)),
            _both("raised", 0.4),
            _both("struck", 0.22, 0.4, (-3, 4, 0)),
        ),
    ),
    "beat_left": Script(
        "the left hand beats, the right one rests",
        (
            _left("raised", 0.5),
            _left("struck", 0.22, 0.3, (4, 4, 0)),
            _left("raised", 0.4),
            _left("struck", 0.22, 0.4, (4, 3, 0)),
        ),
    ),
    "beat_right": Script(
        "the right hand beats, the left one rests",
        (
            _right("raised", 0.5),
            _right("struck", 0.22, 0.3, (-4, 4, 0)),
            _right("raised", 0.4),
            _right("struck", 0.22, 0.4, (-4, 3, 0)),
        ),
    ),
    "open_palms": Script(
        "both palms open to the sides",
        (_both("ready", 0.5), _both("open_low", 0.45, 0.8, (0, -3, 0)), _both("offer", 0.6, 0.4)),
    ),
    "welcome": Script(
        "arms open wide, palms to the viewer",
        (_both("ready", 0.45), _both("open_high", 0.5, 0.9, (0, -4, 2)), _both("open_low", 0.6, 0.3)),
    ),
    "offer": Script(
        "both hands hold something out", (_both("clasped", 0.5), _both("offer", 0.4, 1.0, (0, 3, 0)))
    ),
    "explain": Script(
        "the hands take turns, on the one side and on the other",
        (
            Key("offer", "ready", 0.6, 0.4, (5, 2, 2)),
            Key("ready", "offer", 0.5, 0.4, (-5, 2, -2)),
            Key("offer", "ready", 0.5, 0.3, (5, 2, 2)),
        ),
    ),
    "precise": Script(
        "thumb and index finger make the point exactly",
        (
            _right("pinch", 0.55),
            _right("pinch_down", 0.2, 0.3, (0, 4, 0)),
            _right("pinch", 0.35),
            _right("pinch_down", 0.2, 0.4, (0, 4, 0)),
        ),
    ),
    "count": Script(
        "one, two, three on the right hand",
        (
            _right("count_low", 0.5),
            _right("one", 0.3, 0.5, (0, 3, 0)),
            _right("two", 0.3, 0.5, (0, 2, 0)),
            _right("three", 0.3, 0.6, (0, 3, 0)),
        ),
    ),
    "point": Script(
        "the right index finger points up to the side",
        (_right("point_ready", 0.5), _right("point", 0.35, 0.9, (-8, 0, -2))),
    ),
    "wave": Script(
        "the right hand waves",
        (
            _right("wave_in", 0.65, 0, (0, 0, 3)),
            *(_right(n, 0.24, 0, (0, 0, 4)) for n in ("wave_out", "wave_in") * 3),
        ),
        back=0.8,
    ),
    "thumbs_up": Script(
        "the right thumb up", (_right("thumb_low", 0.5), _right("thumb", 0.3, 1.1, (0, 5, 0)))
    ),
    "fist": Script(
        "the right fist, raised in encouragement",
        (
            _right("fist_low", 0.5),
            _right("fist", 0.3, 0.3, (0, -3, 0)),
            _right("fist_low", 0.22),
            _right("fist", 0.24, 0.7, (0, -3, 0)),
        ),
    ),
    "salute": Script("the right hand to the brow", (_right("salute", 0.75, 1.1, (0, 0, 0)),), back=0.8),
    "stop": Script(
        "both palms to the viewer: stop", (_both("raised", 0.45), _both("stop", 0.35, 0.9, (0, 3, 0)))
    ),
    "crossed_forearms": Script(
        "the forearms crossed before the chest: no",
        (_both("raised", 0.45), Key("cross_under", "cross_over", 0.45, 1.0, (0, 4, 0)), _both("raised", 0.4)),
    ),
    "finger_heart": Script(
        "a heart of thumb and index finger",
        (_right("ready", 0.4), _right("finger_heart", 0.45, 1.2, (0, 2, -5))),
    ),
    "hands_together": Script(
        "the palms together: thanks", (_both("clasped", 0.5), _both("together", 0.5, 1.0, (0, 9, 0)))
    ),
    "hand_on_chest": Script("the right hand on the chest: myself", (_right("chest", 0.6, 1.0, (0, 4, -3)),)),
}
"""The library by name."""


def state(left: str, right: str, head: Turn = AHEAD) -> Floats:
    """Arms and head as one vector: left arm 27, right arm 27, head 3, all in radians."""
    return np.concatenate([arm(left), arm(right), np.radians(head)])


def render(states: Floats, fps: float, name: str = "", body: Body | None = None) -> Gesture:
    """States (f, 57) to a gesture."""
    n = len(ANGLES)
    return pose_bodies(
        body or Body(), states[:, :n], states[:, n : 2 * n], fps, head=states[:, 2 * n :], name=name
    )


def minimum_jerk(share: Floats) -> Floats:
    """Share of a hand's path after ``share`` of its time: minimum jerk (Flash & Hogan 1985)."""
    return share**3 * (10 - 15 * share + 6 * share**2)


def play(keys: list[tuple[float, float, Floats]], fps: float) -> Floats:
    """Move through (move seconds, hold seconds, state) one after the other: states (f, d) at ``fps``.

    The first state is where the motion starts; the last frame is one step before the end, so that a
    motion which ends where it starts loops without a repeated frame.
    """
    arrivals, targets = [0.0], [keys[0][2]]
    for move, hold, target in keys[1:]:
        arrivals += [arrivals[-1] + move, arrivals[-1] + move + hold]
        targets += [target, target]
    return glide(arrivals, targets, max(1, round(arrivals[-1] * fps)), fps)


def glide(arrivals: Sequence[float], states: Sequence[Floats], frames: int, fps: float) -> Floats:
    """States (f, d) on a minimum-jerk path that is at each of ``states`` at its second of ``arrivals``.

    Two or more states, in the order of time; the last is kept.
    """
    times, points = np.array(arrivals), np.stack(states)
    time = np.arange(frames) / fps
    index = np.clip(np.searchsorted(times, time, side="right") - 1, 0, len(times) - 2)
    share = (time - times[index]) / np.maximum(times[index + 1] - times[index], 1e-9)
    return points[index] + minimum_jerk(np.clip(share, 0, 1))[:, None] * (points[index + 1] - points[index])


def build(name: str, fps: float = FPS) -> Gesture:
    """Play a gesture of the library from its script."""
    return render(perform(name, fps), fps, name)


def perform(name: str, fps: float = FPS) -> Floats:
    """The states (f, 57) of a gesture of the library."""
    script = GESTURES[name]
    rest = state(REST.left, REST.right)
    keys = [(0.0, 0.0, rest)]
    keys += [(key.move, key.hold, state(key.left, key.right, key.head)) for key in script.keys]
    if script.back:
        keys.append((script.back, 0.3, rest))
    return _breathe(play(keys, fps))


def _breathe(states: Floats) -> Floats:
    """Slow sway of the head and arms, as of breathing; in whole periods, so that it can be looped."""
    phase = 2 * np.pi * np.arange(len(states)) / len(states)
    moved = states.copy()
    n = len(ANGLES)
    for arm_start in (0, n):
        moved[:, arm_start] += 0.010 * np.sin(phase)
        moved[:, arm_start + 3] += 0.012 * np.sin(phase + 0.6)
    moved[:, 2 * n] += 0.03 * np.sin(phase + 1.0)
    moved[:, 2 * n + 1] += 0.015 * np.sin(2 * phase)
    moved[:, 2 * n + 2] += 0.012 * np.sin(phase + 2.2)
    return moved


def names() -> list[str]:
    """The gestures that come with the package."""
    return list(GESTURES)


def in_library(source: str | Path) -> bool:
    """Whether this names a gesture of the library, and no file of the same name is here."""
    return str(source) in GESTURES and not exists(Path(source))


def find_gesture(source: str | Path, stated: Stated | None = None) -> Gesture:
    """Load a gesture by the name it has in the library, or from a file or folder.

    An existing file of this name has priority; ``stated`` as in ``load_gesture``. Raises
    SemibodyError naming the nearest gesture for a wrong name.
    """
    stated = stated or Stated()
    name, path = str(source), Path(source)
    if in_library(source):
        with resources.as_file(_packaged(name)) as packaged:
            return load_gesture(packaged, stated)
    if exists(path) or path.suffix or len(path.parts) > 1:
        return load_gesture(path, stated)
    raise SemibodyError(
        f"{printable(name)}: neither a file nor one of the gestures {', '.join(names())}; "
        "see `semibody gesture list`"
    )


def _packaged(name: str) -> resources.abc.Traversable:
    return resources.files("semibody") / "gestures" / f"{name}.npz"


def write_library(folder: Path) -> None:
    """Write every gesture as a small ``.npz``; joints are rounded to a ten-thousandth of the picture."""
    for name in names():
        gesture = build(name)
        rounded = Gesture(gesture.joints.round(4), gesture.confidence, gesture.fps, gesture.aspect, name)
        save_gesture(rounded, folder / f"{name}.npz")


if __name__ == "__main__":
    write_library(Path(sys.argv[1]))
