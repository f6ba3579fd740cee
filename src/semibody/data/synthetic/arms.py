"""Movement of arms and fingers: drawn at random, planned from the speech, or lifted from gestures."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from semibody.data.synthetic.curves import blend, wander
from semibody.data.synthetic.rig import ArmPath, Posing
from semibody.pose import library
from semibody.pose.files import load_gesture
from semibody.pose.kinematics import ANGLES, place_arm
from semibody.pose.lift import lift, require_arms, wrists_seen
from semibody.pose.plan import plan_gesture
from semibody.pose.timing import fill_index, resample
from semibody.types import Floats, Gesture, SemibodyError, Speech

HAND_SHAPES: dict[str, tuple[float, float, float, float, float, float]] = {
    # curl of thumb, index, middle, ring, little (0 straight … 1 fist), spread
    "relaxed": (0.25, 0.28, 0.34, 0.40, 0.42, 0.15),
    "flat": (0.1, 0.05, 0.05, 0.06, 0.08, 0.0),
    "spread": (0.0, 0.04, 0.04, 0.06, 0.06, 1.0),
    "cup": (0.2, 0.3, 0.3, 0.3, 0.32, 0.4),
    "fist": (0.75, 0.95, 1.0, 1.0, 1.0, 0.0),
    "point": (0.7, 0.03, 0.9, 0.95, 0.95, 0.0),
    "two": (0.8, 0.03, 0.03, 0.95, 0.95, 0.5),
    "three": (0.8, 0.03, 0.03, 0.03, 0.95, 0.5),
    "pinch": (0.45, 0.52, 0.3, 0.25, 0.2, 0.3),
    "ring": (0.5, 0.58, 0.12, 0.1, 0.1, 0.5),
    "thumb": (0.0, 0.95, 1.0, 1.0, 1.0, 0.0),
}
_USUAL = ("relaxed", "relaxed", "relaxed", "flat", "flat", "spread", "cup", "cup", "pinch", "ring", "point",
          "two", "three", "fist", "thumb")  # fmt: skip

# Wrist zones relative to the shoulder in arm lengths: outwards, up, forwards (centre, then half range).
_ZONES = {
    "rest": ((-0.30, -0.54, 0.20), (0.10, 0.06, 0.06)),
    "front": ((-0.20, -0.38, 0.26), (0.14, 0.12, 0.09)),
    "side": ((0.16, -0.34, 0.20), (0.09, 0.12, 0.09)),
    "high": ((0.06, -0.12, 0.25), (0.12, 0.12, 0.10)),
}


# --- drawn movements -------------------------------------------------------------------------------


def draw_arms(
    pose: Posing, times: Floats, beat: Floats, rng: np.random.Generator, liveliness: float
) -> dict[str, ArmPath]:
    """Paths from gesture to gesture at minimum jerk, with beats in step with the speech ``beat`` (f,)."""
    schedule = _schedule(rng, times, liveliness)
    plans = {}
    together = rng.random() < 0.55
    first = _draw_gestures(rng, len(schedule), liveliness)
    for side in ("L", "R"):
        other = [_vary(rng, g) for g in first] if together and side == "R" else None
        plans[side] = first if side == "L" else (other or _draw_gestures(rng, len(schedule), liveliness))
    paths = {}
    for side, sign in (("L", 1.0), ("R", -1.0)):
        path = blend(schedule, np.array([g.place for g in plans[side]]), times)
        path[:, 1] -= rng.uniform(0.0, 0.05) * liveliness * beat
        path += np.stack([wander(rng, times, 0.012, 0.8) for _ in range(3)], -1)
        wrist = pose.rest_head(f"upperarm01.{side}") + path * pose.arm_length(side) * (sign, 1, 1)
        curls = blend(schedule, np.array([g.fingers for g in plans[side]]), times)
        curls[:, :5] += np.stack([wander(rng, times, 0.05, 0.7) for _ in range(5)], -1)
        turn = blend(schedule, np.array([g.turn for g in plans[side]]), times)
        elbow = np.array([sign * (0.4 + rng.uniform(-0.15, 0.35)), -1.0, -0.5])
        paths[side] = ArmPath(wrist, elbow, turn=turn, curls=curls)
    return paths


@dataclass(frozen=True)
class _Gesture:
    place: Floats  # (3,) in arm lengths
    turn: Floats  # (3,) pronation, flexion, deviation in radians
    fingers: Floats  # (6,)


def _draw_gestures(rng: np.random.Generator, count: int, liveliness: float) -> list[_Gesture]:
    zones = ("rest", "front", "side", "high")
    weights = np.array([0.28, 0.36, 0.22, 0.14])
    if rng.random() < 0.18 * (2 - liveliness):  # a hand that stays down
        weights = np.array([0.9, 0.1, 0, 0])
    return [_draw_gesture(rng, str(rng.choice(zones, p=weights))) for _ in range(count)]


def _draw_gesture(rng: np.random.Generator, zone: str) -> _Gesture:
    centre, spread = (np.array(v) for v in _ZONES[zone])
    pronation = {"rest": (10, 60), "front": (-50, 60), "side": (-60, 40), "high": (-30, 70)}[zone]
    turn = np.deg2rad([rng.uniform(*pronation), rng.uniform(-35, 25), rng.uniform(-12, 12)])
    shape = "relaxed" if zone == "rest" and rng.random() < 0.7 else str(rng.choice(_USUAL))
    fingers = np.array(HAND_SHAPES[shape]) + np.r_[rng.normal(0, 0.05, 5), rng.normal(0, 0.1)]
    return _Gesture(centre + rng.uniform(-1, 1, 3) * spread, turn, np.clip(fingers, 0, 1))


def _vary(rng: np.random.Generator, gesture: _Gesture) -> _Gesture:
    return _Gesture(
        gesture.place + rng.normal(0, 0.04, 3), gesture.turn + rng.normal(0, 0.12, 3),
        np.clip(gesture.fingers + rng.normal(0, 0.05, 6), 0, 1),
    )  # fmt: skip


def _schedule(rng: np.random.Generator, times: Floats, liveliness: float) -> Floats:
    """(n, 2): when each movement to the next gesture starts and ends."""
    moves, at = [], -rng.uniform(0.2, 2.0)
    while at < times[-1] + 0.5:
        start = at + rng.uniform(0.15, 1.3) / max(liveliness, 0.2)
        at = start + rng.uniform(0.35, 0.85)
        moves.append((start, at))
    return np.array(moves)


# --- planned and lifted movements -----------------------------------------------------------------


@dataclass(frozen=True)
class Followed:
    """Arms in space that a person's own are to follow.

    ``states`` (f, 57) as ``pose.library.state`` · ``lengths`` (2, 3) factors on the bones, as ``pose.lift`` ·
    ``facts`` what is stored with the clip.
    """

    states: Floats
    lengths: Floats
    facts: dict[str, Any]


def follow(pose: Posing, followed: Followed) -> dict[str, ArmPath]:
    """The arms of ``followed`` on this person: wrists at the same shoulder widths, hands turned alike."""
    n = len(ANGLES)
    shoulders = {side: pose.rest_head(f"upperarm01.{side}") for side in ("L", "R")}
    width = float(np.linalg.norm(shoulders["L"] - shoulders["R"]))
    paths = {}
    for number, (side, sign) in enumerate((("L", 1.0), ("R", -1.0))):
        arm = place_arm(followed.states[:, number * n : (number + 1) * n])
        to_rig = np.array([sign, -1.0, 1.0])  # x outwards and y down, there
        upper, fore, _ = followed.lengths[number]
        elbow = upper * arm.elbow
        wrist = elbow + fore * (arm.wrist - arm.elbow)
        palm = arm.turned * (-1.0, 1.0, 1.0)
        chains = arm.hand[:, 1:].reshape(-1, 5, 4, 3)
        bones = np.diff(chains, axis=2)
        bones /= np.linalg.norm(bones, axis=-1, keepdims=True)
        # A straight arm does not determine the plane of its elbow: then the usual plane is used.
        held = elbow * to_rig + _HELD * np.array([sign * 0.4, -1.0, -0.5])
        paths[side] = ArmPath(
            shoulders[side] + width * wrist * to_rig, held, hand=palm * to_rig[:, None],
            fingers=np.einsum("fix,fkji->fkjx", palm, bones),
        )  # fmt: skip
    return paths


_HELD = 0.03


def plan_arms(
    speech: Speech, frames: int, fps: float, liveliness: float, rng: np.random.Generator
) -> Followed:
    """Strokes planned from the clip's own speech, or now and then a gesture of the library."""
    if rng.random() < _WHOLE_GESTURE:
        name = str(rng.choice([n for n in library.names() if n != "rest"]))
        played = library.perform(name, fps)
        start = int(rng.integers(max(1, len(played) - frames // 2)))
        states = played[(start + np.arange(frames)) % len(played)]
        facts: dict[str, Any] = {"kind": "library", "gesture": name, "start": round(start / fps, 3)}
    else:
        # Half of the clips start in the middle of a talk: the recording is planned as its own repetition.
        spoken = np.concatenate([speech.waveform] * (2 if rng.random() < 0.5 else 1))
        seed = int(rng.integers(2**31))
        plan = plan_gesture(Speech(spoken, speech.rate), seed=seed, fps=fps, liveliness=1.6 * liveliness)
        assert plan.states is not None
        states = plan.states[-frames:]
        facts = {"kind": "planned", "seed": seed, "talking": len(spoken) > len(speech.waveform)}
    states = states.copy()
    n = len(ANGLES)
    for arm in (slice(0, n), slice(n, 2 * n)):
        states[:, arm] += _habit(rng)
    return _perhaps_mirrored(Followed(states, np.ones((2, 3)), facts), rng)


_WHOLE_GESTURE = 0.3
"""Share of the planned clips that play a gesture of the library as it is."""
_HABIT = np.radians([5.0, 4.0, 5.0, 7.0, 8.0, 5.0, 3.0])
"""Standard deviations of how a speaker's posture differs from the library's."""


def _habit(rng: np.random.Generator) -> Floats:
    """Angles (27,) by which somebody holds an arm differently: a little wider apart, as a rule."""
    habit = np.zeros(len(ANGLES))
    habit[:7] = rng.normal(0, 1, 7) * _HABIT
    habit[1] += np.radians(rng.uniform(0, 6))
    habit[2] -= np.radians(rng.uniform(0, 14))
    habit[7:] = rng.normal(0, np.radians(2.0), len(ANGLES) - 7)
    return habit


def lift_arms(source: Path | str, frames: int, fps: float, rng: np.random.Generator) -> Followed:
    """A stretch of a gesture file or folder, lifted into space; it starts where hands are seen."""
    gesture = _load(str(source), fps)
    seen = wrists_seen(gesture).max(axis=1).astype(np.float64)
    last = max(0, len(gesture) - frames)
    share = np.convolve(seen, np.ones(min(frames, len(seen))) / min(frames, len(seen)), "valid")[: last + 1]
    start = int(rng.choice(np.flatnonzero(share >= 0.9 * share.max())))
    index = start + fill_index(len(gesture) - start, frames, "pingpong")
    part = Gesture(gesture.joints[index], gesture.confidence[index], fps, gesture.aspect, gesture.name)
    lifted = lift(part)
    facts = {"kind": "lifted", "gesture": Path(source).name, "start": round(start / fps, 3)}
    return _perhaps_mirrored(Followed(lifted.states, lifted.lengths, facts), rng)


@functools.lru_cache(maxsize=8)
def _load(source: str, fps: float) -> Gesture:
    return resample(load_gesture(source), fps)


def _perhaps_mirrored(followed: Followed, rng: np.random.Generator) -> Followed:
    mirrored = bool(rng.random() < 0.5)
    facts = followed.facts | {"mirrored": mirrored}
    if not mirrored:
        return Followed(followed.states, followed.lengths, facts)
    n = len(ANGLES)
    states = np.concatenate(
        [followed.states[:, n : 2 * n], followed.states[:, :n], followed.states[:, 2 * n :]], axis=1
    )
    return Followed(states, followed.lengths[::-1], facts)


def gesture_sources(folder: Path | str) -> list[Path]:
    """The gestures in a folder, by name: .npz and .json files and folders of poses, or the folder itself.

    Raises SemibodyError when there is none.
    """
    folder = Path(folder)
    if _is_poses(folder):
        found = [folder]
    else:
        files = sorted(folder.iterdir()) if folder.is_dir() else [folder]
        found = [p for p in files if p.suffix in (".npz", ".json") or _is_poses(p)]
    if not found:
        raise SemibodyError(
            f"{folder}: holds no gesture; give a folder of .npz or .json files or of folders of poses"
        )
    return found


def require_gestures(sources: list[Path]) -> None:
    """Raise SemibodyError, naming it, when a gesture is damaged or shows no arms."""
    for path in sources:
        require_arms(load_gesture(path))


def _is_poses(folder: Path) -> bool:
    """Whether this is one gesture: a published folder (0.npy, 1.npy …) or OpenPose's (a file a frame)."""
    if not folder.is_dir():
        return False
    names = [p.name for p in folder.iterdir()]
    return any(re.fullmatch(r"\d+\.npy|.+_keypoints\.json", name) for name in names)
