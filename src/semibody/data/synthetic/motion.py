"""Movement of a person over a clip: where every bone is, and how much every face unit acts.

Arms are solved analytically from wrist targets in the torso's frame (two-bone inverse kinematics);
targets follow minimum-jerk paths between gestures, with beats in step with the speech. Fingers move
between canonical hand shapes. Hands are pushed out of the body and away from each other before posing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semibody.data.synthetic.person import UNITS, Person

Floats = NDArray[np.float64]

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


@dataclass(frozen=True)
class Motion:
    """Bones: ``rotations`` (f, B, 3, 3), ``positions`` (f, B, 3); ``face`` (f, units); ``jaw`` (f,) 0..1."""

    rotations: Floats
    positions: Floats
    face: Floats
    jaw: NDArray[np.float32]
    gaze: Floats


def draw_motion(
    person: Person, mouth: NDArray[np.float32], loud: NDArray[np.float32], fps: float,
    rng: np.random.Generator, *, liveliness: float = 1.0, sway: float = 1.0,
) -> Motion:  # fmt: skip
    """Draw the movement of a clip.

    ``mouth`` (f, 6) as speech.SHAPES · ``loud`` (f,) 0..1, for beats and nods · ``liveliness`` scales how
    often and how far the hands leave their place · ``sway`` how far head and torso wander.
    """
    frames = len(mouth)
    times = np.arange(frames) / fps
    pose = _Pose(person, frames)
    beat = np.convolve(np.pad(loud, 2), np.hanning(5) / np.hanning(5).sum(), "valid")

    torso = np.deg2rad(np.stack([_wander(rng, times, sway * a, 2.5) for a in (2.5, 4.0, 2.0)], -1))
    torso[:, 0] += np.deg2rad(0.5) * np.sin(2 * np.pi * times / rng.uniform(3, 5) + rng.uniform(0, 6))
    for bone in ("spine05", "spine04", "spine03", "spine02", "spine01"):
        pose.turn(bone, _euler(torso / 5))
    still = np.deg2rad(rng.normal(0, 1, 3) * (2.5, 4.5, 1.5))
    head = still + np.deg2rad(np.stack([_wander(rng, times, sway * a, 1.2) for a in (4, 6, 2.5)], -1))
    head[:, 0] += sway * np.deg2rad(rng.uniform(1, 4)) * (beat - beat.mean())
    for bone in ("neck01", "neck02", "neck03", "head"):
        pose.turn(bone, _euler(head / 4))
    jaw = mouth[:, 0].astype(np.float64)
    pose.turn("jaw", _axis_angle(np.array([1.0, 0, 0]), 0.27 * jaw))
    pose.turn("tongue01", _axis_angle(np.array([1.0, 0, 0]), -0.25 * jaw))

    # The eyes hold the camera against the head's turning, with saccades away from it.
    gaze = -0.75 * (head + torso)[:, :2] + np.deg2rad(_steps(rng, times, (3.0, 6.0), 0.9, 0.06))
    gaze = np.clip(gaze, -0.45, 0.45)
    for bone in ("eye.L", "eye.R"):
        pose.turn(bone, _euler(np.concatenate([gaze, np.zeros((frames, 1))], axis=1)))

    _move_arms(pose, times, beat, rng, liveliness)
    rotations, positions = pose.solve()
    return Motion(rotations, positions, _face(mouth, beat, times, rng), mouth[:, 0].copy(), gaze)


def bone_columns(person: Person, motion: Motion) -> NDArray[np.float32]:
    """(4 B, 3 f): what ``person.skin`` is multiplied with to give all positions of all frames."""
    moved = motion.positions - np.einsum("fbij,bj->fbi", motion.rotations, person.heads)
    full = np.concatenate([motion.rotations, moved[..., None]], axis=-1)  # f b i (j, 1)
    return full.transpose(1, 3, 0, 2).reshape(-1, 3 * len(motion.jaw)).astype(np.float32)


def _face(mouth: NDArray[np.float32], beat: Floats, times: Floats, rng: np.random.Generator) -> Floats:
    face = np.zeros((len(times), len(UNITS)))
    at = {name: i for i, name in enumerate(UNITS)}
    _, rounded, wide, press, lower, upper = mouth.T.astype(np.float64)
    face[:, at["mouth-protusion"]] = 0.75 * rounded
    face[:, at["mouth-retraction"]] = 0.4 * wide
    face[:, at["mouth-compression"]] = 0.5 * press
    face[:, at["mouth-depression"]] = 0.0 * lower
    face[:, at["mouth-upward-retraction"]] = 0.25 * upper
    face[:, at["mouth-corner-puller"]] = np.clip(
        rng.uniform(0.05, 0.5) + _wander(rng, times, 0.1, 2.0), 0, 0.65
    )
    blink = _blinks(rng, times)
    for unit in ("eye-left-closure", "eye-right-closure"):
        face[:, at[unit]] = blink
    # Brows that come down look angry: mostly they rise, their inner ends a little more.
    brows = np.clip(_wander(rng, times, 0.3, 1.5) + 0.35 * (beat - 0.3), -0.12, 0.9)
    open_look = rng.uniform(0.1, 0.45)
    for side in ("left", "right"):
        face[:, at[f"eyebrows-{side}-up"]] = np.clip(brows, 0, 1)
        face[:, at[f"eyebrows-{side}-inner-up"]] = open_look
        face[:, at[f"eyebrows-{side}-down"]] = np.clip(-brows, 0, 1)
    return face


def _blinks(rng: np.random.Generator, times: Floats) -> Floats:
    closed = np.zeros(len(times))
    at = -rng.uniform(0, 3)
    while at < times[-1] + 0.3:
        closed = np.maximum(closed, np.exp(-(((times - at) / 0.065) ** 2)))
        at += rng.uniform(1.6, 5.0)
    return np.where(closed > 0.04, closed, 0.0)


# --- arms and hands ---------------------------------------------------------------------------------


def _move_arms(pose: _Pose, times: Floats, beat: Floats, rng: np.random.Generator, liveliness: float) -> None:
    schedule = _schedule(rng, times, liveliness)
    plans = {}
    together = rng.random() < 0.55
    first = _draw_gestures(rng, len(schedule), liveliness)
    for side in ("L", "R"):
        other = [_vary(rng, g) for g in first] if together and side == "R" else None
        plans[side] = first if side == "L" else (other or _draw_gestures(rng, len(schedule), liveliness))
    wrists, turns, curls = {}, {}, {}
    for side in ("L", "R"):
        places = np.array([g.place for g in plans[side]])
        path = _blend(schedule, places, times)
        path[:, 1] -= rng.uniform(0.0, 0.05) * liveliness * beat
        path += np.stack([_wander(rng, times, 0.012, 0.8) for _ in range(3)], -1)
        sign = 1.0 if side == "L" else -1.0
        length = pose.arm_length(side)
        wrists[side] = pose.rest_head(f"upperarm01.{side}") + path * length * np.array([sign, 1, 1])
        turns[side] = _blend(schedule, np.array([g.turn for g in plans[side]]), times)
        curls[side] = _blend(schedule, np.array([g.fingers for g in plans[side]]), times)
        curls[side][:, :5] += np.stack([_wander(rng, times, 0.05, 0.7) for _ in range(5)], -1)
    swivel = {side: float(rng.uniform(-0.15, 0.35)) for side in ("L", "R")}
    pose.place_arms(wrists, turns, swivel)
    for side in ("L", "R"):
        pose.curl_fingers(side, curls[side])


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


def _blend(schedule: Floats, values: Floats, times: Floats) -> Floats:
    """Follow ``values`` (n, k): the i-th is reached at the end of the i-th move, on a minimum-jerk path."""
    out = np.repeat(values[:1], len(times), axis=0)
    for (start, end), before, after in zip(schedule[1:], values[:-1], values[1:], strict=False):
        s = np.clip((times - start) / (end - start), 0, 1)[:, None]
        out += (after - before) * (s**3 * (10 - 15 * s + 6 * s**2))
    return out


def _wander(rng: np.random.Generator, times: Floats, size: float, period: float) -> Floats:
    """Smooth noise of standard deviation ``size`` that changes over about ``period`` seconds."""
    total = np.zeros(len(times))
    for _ in range(3):
        total += np.sin(2 * np.pi * times / (period * rng.uniform(0.7, 2.2)) + rng.uniform(0, 2 * np.pi))
    return total * size / np.sqrt(1.5)


def _steps(
    rng: np.random.Generator, times: Floats, sizes: tuple[float, ...], hold: float, move: float
) -> Floats:
    out = np.zeros((len(times), len(sizes)))
    at, before = -1.0, np.zeros(len(sizes))
    while at < times[-1]:
        after = rng.normal(0, 1, len(sizes)) * sizes * (rng.random() < 0.5)
        s = np.clip((times - at) / move, 0, 1)[:, None]
        out += (after - before) * s
        before, at = after, at + rng.exponential(hold) + 0.15
    return out


class _Pose:
    """Bones of one clip being posed. Rotations are in rest axes; a bone without one follows its parent."""

    def __init__(self, person: Person, frames: int) -> None:
        self._person, self._frames = person, frames
        self._at = {name: i for i, name in enumerate(person.bones)}
        self._local: dict[int, Floats] = {}
        self._in_torso: dict[int, Floats] = {}
        self._body = _BodyFront(person)

    def rest_head(self, bone: str) -> Floats:
        return self._person.heads[self._at[bone]].astype(np.float64)

    def arm_length(self, side: str) -> float:
        shoulder, elbow, wrist = (
            self.rest_head(f"{b}.{side}") for b in ("upperarm01", "lowerarm01", "wrist")
        )
        return float(np.linalg.norm(elbow - shoulder) + np.linalg.norm(wrist - elbow))

    def turn(self, bone: str, rotation: Floats) -> None:
        self._local[self._at[bone]] = rotation

    def place_arms(
        self, wrists: dict[str, Floats], turns: dict[str, Floats], swivel: dict[str, float]
    ) -> None:
        for _ in range(4):
            hands = {
                side: self._solve_arm(side, wrists[side], turns[side], swivel[side]) for side in ("L", "R")
            }
            for side, points in hands.items():
                wrists[side] = wrists[side] + self._body.push(points)
            apart = _separation(hands["L"], hands["R"])
            wrists["L"] = wrists["L"] + apart / 2
            wrists["R"] = wrists["R"] - apart / 2
        for side in ("L", "R"):
            self._solve_arm(side, wrists[side], turns[side], swivel[side])

    def _solve_arm(self, side: str, wrist: Floats, turn: Floats, swivel: float) -> Floats:
        """Set the arm's bones; returns (f, 5, 3) points along forearm and hand for the contact checks."""
        sign = 1.0 if side == "L" else -1.0
        shoulder, elbow0, wrist0 = (
            self.rest_head(f"{b}.{side}") for b in ("upperarm01", "lowerarm01", "wrist")
        )
        a0, b0 = elbow0 - shoulder, wrist0 - elbow0
        a, b = np.linalg.norm(a0), np.linalg.norm(b0)
        reach = wrist - shoulder
        distance = np.linalg.norm(reach, axis=1, keepdims=True)
        e = reach / distance.clip(1e-6)
        d = np.clip(distance, 0.45 * (a + b), 0.97 * (a + b))
        along = (a**2 - b**2 + d**2) / (2 * d)
        aside = np.sqrt(np.clip(a**2 - along**2, 0, None))
        pole = np.array([sign * (0.4 + swivel), -1.0, -0.5]) - 0 * e
        pole = _unit(pole - (pole * e).sum(1, keepdims=True) * e)
        elbow = shoulder + e * along + pole * aside
        upper, fore = _unit(elbow - shoulder), _unit(shoulder + e * d - elbow)
        hinge = _unit(np.cross(upper, fore))
        hinge0 = _unit(np.cross(a0, b0)[None])[0]
        g_upper = _frame(upper, hinge) @ _frame(_unit(a0[None]), hinge0[None]).transpose(0, 2, 1)
        g_fore = _frame(fore, hinge) @ _frame(_unit(b0[None]), hinge0[None]).transpose(0, 2, 1)
        # Upper arm: swing at the shoulder, the twist along the bone shared by its two halves.
        swing = _swing(_unit(a0[None])[0], upper)
        half = _halfway(swing, g_upper)
        palm0 = self._palm(side)
        neutral = _angle_about(_unit(b0[None])[0], palm0, sign * hinge0)
        twist = neutral + sign * np.clip(turn[:, 0], -1.35, 1.45)
        g_hand = _axis_angle(fore, twist) @ g_fore
        palm = g_hand @ palm0
        g_hand = _axis_angle(_unit(np.cross(fore, palm)), np.clip(turn[:, 1], -0.7, 0.7)) @ g_hand
        g_hand = _axis_angle(palm, np.clip(turn[:, 2], -0.3, 0.3)) @ g_hand
        raised = np.clip((upper[:, 1] + 0.35) * 0.5, 0, 0.45)
        bones: dict[str, Floats] = {
            "clavicle": _axis_angle(np.array([0, 0, sign]), 0.3 * raised),
            "shoulder01": _partway(g_upper, 0.25), "upperarm01": half, "upperarm02": g_upper,
            "lowerarm01": g_fore, "lowerarm02": _axis_angle(fore, 0.5 * twist) @ g_fore, "wrist": g_hand,
        }  # fmt: skip
        for name, rotation in bones.items():
            self._in_torso[self._at[f"{name}.{side}"]] = np.broadcast_to(rotation, (self._frames, 3, 3))
        at = shoulder + e * d
        tip0 = self._person.heads[self._at[f"finger3-3.{side}"]] - wrist0
        base0 = self._person.heads[self._at[f"finger3-1.{side}"]] - wrist0
        return np.stack(
            [
                elbow + 0.55 * (at - elbow),
                at,
                at + 0.5 * (g_hand @ base0),
                at + g_hand @ base0,
                at + 1.15 * (g_hand @ tip0),
            ],
            axis=1,
        )

    def _palm(self, side: str) -> Floats:
        wrist = self.rest_head(f"wrist.{side}")
        index, little = (self.rest_head(f"finger{k}-1.{side}") - wrist for k in (2, 5))
        normal = np.cross(index, little) * (-1.0 if side == "L" else 1)
        return _unit(normal[None])[0]

    def curl_fingers(self, side: str, curls: Floats) -> None:
        """``curls`` (f, 6): five curls and the spread."""
        palm = self._palm(side)
        across = self.rest_head(f"finger5-1.{side}") - self.rest_head(f"finger2-1.{side}")
        across = across / np.linalg.norm(across)
        sign = 1.0 if side == "L" else -1.0
        for finger in range(1, 6):
            joints = [self.rest_head(f"finger{finger}-{k}.{side}") for k in (1, 2, 3)]
            tip = self._person.tails[self._at[f"finger{finger}-3.{side}"]]
            points = [*joints, tip]
            curl = np.clip(curls[:, finger - 1], 0, 1)
            for k in range(3):
                bone = _unit((points[k + 1] - points[k])[None])[0]
                towards = palm if finger > 1 else _unit((across + 0.5 * palm)[None])[0]
                axis = _unit(np.cross(bone, towards)[None])[0]
                # The rest pose is slightly bent already.
                reach = ((1.35, 1.7, 1.1) if finger > 1 else (0.35, 0.75, 0.9))[k]
                angle = curl * reach - (0.18, 0.22, 0.15)[k] * (finger > 1)
                rotation = _axis_angle(axis, angle)
                if k == 0 and finger > 1:
                    fan = sign * (finger - 3) * 0.14 * (np.clip(curls[:, 5], 0, 1) - 0.35)
                    rotation = _axis_angle(palm, -fan) @ rotation
                self._local[self._at[f"finger{finger}-{k + 1}.{side}"]] = rotation

    def solve(self) -> tuple[Floats, Floats]:
        person, frames = self._person, self._frames
        rotations = np.tile(np.eye(3), (frames, len(person.bones), 1, 1))
        positions = np.zeros((frames, len(person.bones), 3))
        torso = self._at["spine01"]
        for bone, parent in enumerate(person.parents):
            if parent < 0:
                positions[:, bone] = person.heads[bone]
                continue
            rotations[:, bone] = rotations[:, parent]
            if bone in self._in_torso:
                rotations[:, bone] = rotations[:, torso] @ self._in_torso[bone]
            elif bone in self._local:
                rotations[:, bone] = rotations[:, parent] @ self._local[bone]
            offset = person.heads[bone] - person.heads[parent]
            positions[:, bone] = positions[:, parent] + rotations[:, parent] @ offset
        return rotations, positions


class _BodyFront:
    """The front of the torso and head as a height field, to keep hands out of it (torso frame)."""

    def __init__(self, person: Person) -> None:
        trunk = [
            i for i, n in enumerate(person.bones) if n.startswith(("spine", "root", "neck", "head", "jaw"))
        ]
        points = person.base[:13380][person.base_weights[:13380, trunk].sum(1) > 0.6]
        self.low, self.step = -1.0, 0.25
        count = 42
        level = np.clip(((points[:, 1] - self.low) / self.step).astype(int), 0, count - 1)
        self.front, self.half = np.zeros(count), np.full(count, 0.1)
        np.maximum.at(self.front, level, points[:, 2])
        np.maximum.at(self.half, level, np.abs(points[:, 0]))
        self.front = np.maximum(
            self.front, np.convolve(np.pad(self.front, 1, "edge"), [0.5, 0, 0.5], "valid")
        )

    def push(self, points: Floats) -> Floats:
        """(f, 3): how far the wrist must go forwards so that ``points`` (f, k, 3) clear the body."""
        level = np.clip(((points[..., 1] - self.low) / self.step).astype(int), 0, len(self.front) - 1)
        share = np.clip(np.abs(points[..., 0]) / (self.half[level] + 0.25), 0, 1)
        surface = self.front[level] * np.sqrt(1 - share**2) + 0.5 * (share < 1)
        need = np.where(share < 1, surface - points[..., 2], 0).max(axis=1).clip(0)
        forward = np.zeros((len(points), 3))
        forward[:, 2] = _smooth_over_time(need)
        return forward


def _separation(left: Floats, right: Floats) -> Floats:
    """(f, 3): how far the hands must part so that no two of their points are nearer than 1.1 dm."""
    gap = left[:, None, 1:] - right[:, 1:, None]
    distance = np.linalg.norm(gap, axis=-1).reshape(len(left), -1)
    need = np.clip(1.15 - distance.min(axis=1), 0, None)
    crossed = np.clip(0.3 - (left[:, 1, 0] - right[:, 1, 0]), 0, None)
    out = np.zeros((len(left), 3))
    out[:, 0] = _smooth_over_time(np.maximum(need, crossed))
    return out


def _smooth_over_time(values: Floats, reach: int = 4) -> Floats:
    """At least ``values``, without jumps: a moving maximum, then a moving mean of the same reach."""
    if not values.any():
        return values
    padded = np.pad(values, 2 * reach, "edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1).max(axis=1)
    return np.lib.stride_tricks.sliding_window_view(windows, 2 * reach + 1).mean(axis=1)


# --- rotations --------------------------------------------------------------------------------------


def _unit(v: Floats) -> Floats:
    return v / np.linalg.norm(v, axis=-1, keepdims=True).clip(1e-9)


def _frame(first: Floats, second: Floats) -> Floats:
    """(…, 3, 3) with columns first, second, first × second."""
    return np.stack([first, second, np.cross(first, second)], axis=-1)


def _axis_angle(axis: Floats, angle: Floats | float) -> Floats:
    axis, angle = np.broadcast_arrays(axis, np.asarray(angle)[..., None])
    angle = angle[..., :1, None]
    x, y, z = np.moveaxis(axis, -1, 0)
    zero = np.zeros_like(x)
    k = np.stack([np.stack([zero, -z, y], -1), np.stack([z, zero, -x], -1), np.stack([-y, x, zero], -1)], -2)
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * (k @ k)


def _euler(angles: Floats) -> Floats:
    """(f, 3) pitch, yaw, roll in radians -> (f, 3, 3)."""
    x, y, z = (_axis_angle(np.eye(3)[i], angles[:, i]) for i in range(3))
    return y @ x @ z


def _swing(start: Floats, end: Floats) -> Floats:
    axis = np.cross(start, end)
    size = np.linalg.norm(axis, axis=-1)
    return _axis_angle(axis / size[:, None].clip(1e-9), np.arctan2(size, end @ start))


def _angle_about(axis: Floats, start: Floats, end: Floats) -> float:
    start, end = start - (start @ axis) * axis, end - (end @ axis) * axis
    return float(np.arctan2(np.cross(start, end) @ axis, start @ end))


def _partway(rotation: Floats, share: float) -> Floats:
    """``share`` of the way from no rotation to ``rotation`` (f, 3, 3)."""
    cosine = np.clip((np.trace(rotation, axis1=-2, axis2=-1) - 1) / 2, -1, 1)
    angle = np.arccos(cosine)
    axis = np.stack(
        [
            rotation[:, 2, 1] - rotation[:, 1, 2],
            rotation[:, 0, 2] - rotation[:, 2, 0],
            rotation[:, 1, 0] - rotation[:, 0, 1],
        ],
        -1,
    )
    return _axis_angle(_unit(axis), share * angle)


def _halfway(start: Floats, end: Floats) -> Floats:
    return start @ _partway(start.transpose(0, 2, 1) @ end, 0.5)
