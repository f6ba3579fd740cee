"""Posing the bones of a person: arms by wrist targets, fingers, and hands kept out of the body.

    posing = Posing(person, frames=72)
    posing.turn("head", rotations)
    posing.place_arms({"L": path, "R": path})
    rotations, positions = posing.solve()

Arms are solved analytically in the torso's frame (two-bone inverse kinematics).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from semibody.data.synthetic.person import Person
from semibody.types import Floats

_WRIST, _FOREARM = 1.25, 1.55
"""How far a wrist bends, and a forearm turns from the thumb up, in radians."""
_THICK = 0.85
"""Distance (dm) that the middles of two hands or forearms keep."""


@dataclass(frozen=True)
class ArmPath:
    """An arm over a clip, in the torso's frame.

    ``wrist`` (f, 3) dm · ``elbow`` (f, 3) or (3,) to which side of the line from shoulder to wrist it is. The
    hand either by ``turn`` (f, 3), pronation, flexion and deviation in radians, or by ``hand`` (f, 3, 3),
    columns out of the palm, along the fingers, to the thumb's side. Fingers either by ``curls`` (f, 6), thumb
    to little 0 straight … 1 closed and the spread, or by ``fingers`` (f, 5, 3, 3), their bones' directions in
    the hand's axes, thumb first.
    """

    wrist: Floats
    elbow: Floats
    turn: Floats | None = None
    hand: Floats | None = None
    curls: Floats | None = None
    fingers: Floats | None = None


class Posing:
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

    def place_arms(self, paths: dict[str, ArmPath], *, over: bool = False) -> None:
        """Pose both arms (keys L and R), pushed out of the body and apart.

        ``over``: hands that meet pass one before the other, as they do in gestures that cross; otherwise
        they are parted sideways.
        """
        wrists = {side: path.wrist for side, path in paths.items()}
        for _ in range(4):
            arms = {side: self._solve_arm(side, path, wrists[side]) for side, path in paths.items()}
            for side, points in arms.items():
                wrists[side] = wrists[side] + self._body.push(points)
            left, right = _in_depth(arms["L"], arms["R"]) if over else _sideways(arms["L"], arms["R"])
            wrists["L"] = wrists["L"] + left
            wrists["R"] = wrists["R"] + right
        for side, path in paths.items():
            self._solve_arm(side, path, wrists[side])
            if path.curls is not None:
                self._curl_fingers(side, path.curls)
            else:
                assert path.fingers is not None
                self._point_fingers(side, path.fingers)

    def _solve_arm(self, side: str, path: ArmPath, wrist: Floats) -> Floats:
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
        pole = path.elbow - (path.elbow * e).sum(1, keepdims=True) * e
        elbow = shoulder + e * along + unit(pole) * aside
        upper, fore = unit(elbow - shoulder), unit(shoulder + e * d - elbow)
        hinge = unit(np.cross(upper, fore))
        hinge0 = unit(np.cross(a0, b0)[None])[0]
        g_upper = frame(upper, hinge) @ frame(unit(a0[None]), hinge0[None]).transpose(0, 2, 1)
        g_fore = frame(fore, hinge) @ frame(unit(b0[None]), hinge0[None]).transpose(0, 2, 1)
        # Upper arm: swing at the shoulder, the twist along the bone shared by its two halves.
        half = halfway(swing(unit(a0[None])[0], upper), g_upper)
        neutral = angle_about(unit(b0[None])[0], self.hand_axes(side)[:, 0], sign * hinge0)
        if path.turn is not None:
            twist, g_hand = self._turn_hand(side, path.turn, fore, g_fore, neutral)
        else:
            assert path.hand is not None
            twist, g_hand = self._aim_hand(side, path.hand, fore, g_fore, neutral)
        raised = np.clip((upper[:, 1] + 0.35) * 0.5, 0, 0.45)
        bones: dict[str, Floats] = {
            "clavicle": axis_angle(np.array([0, 0, sign]), 0.3 * raised),
            "shoulder01": partway(g_upper, 0.25), "upperarm01": half, "upperarm02": g_upper,
            "lowerarm01": g_fore, "lowerarm02": axis_angle(fore, 0.5 * twist) @ g_fore, "wrist": g_hand,
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

    def _turn_hand(
        self, side: str, turn: Floats, fore: Floats, g_fore: Floats, neutral: float
    ) -> tuple[Floats, Floats]:
        """Twist of the forearm (f,) and rotation of the hand from pronation, flexion and deviation (f, 3)."""
        sign = 1.0 if side == "L" else -1.0
        twist = neutral + sign * np.clip(turn[:, 0], -1.35, 1.45)
        g_hand = axis_angle(fore, twist) @ g_fore
        palm = g_hand @ self.hand_axes(side)[:, 0]
        g_hand = axis_angle(unit(np.cross(fore, palm)), np.clip(turn[:, 1], -0.7, 0.7)) @ g_hand
        return twist, axis_angle(palm, np.clip(turn[:, 2], -0.3, 0.3)) @ g_hand

    def _aim_hand(
        self, side: str, hand: Floats, fore: Floats, g_fore: Floats, neutral: float
    ) -> tuple[Floats, Floats]:
        """The same from where palm, fingers and thumb are to be (f, 3, 3), as near as the limits allow."""
        wanted = hand @ self.hand_axes(side).T
        rest = axis_angle(fore, neutral) @ g_fore
        turned = wanted @ rest.transpose(0, 2, 1)
        # The part of the turn that is about the forearm (swing-twist decomposition).
        skew = np.stack([turned[:, 2, 1] - turned[:, 1, 2], turned[:, 0, 2] - turned[:, 2, 0],
                         turned[:, 1, 0] - turned[:, 0, 1]], axis=-1)  # fmt: skip
        twist = 2 * np.arctan2((skew * fore).sum(1), 1 + np.trace(turned, axis1=1, axis2=2))
        bend = turned @ axis_angle(fore, -twist)
        angle = np.arccos(np.clip((np.trace(bend, axis1=1, axis2=2) - 1) / 2, -1, 1))
        bend = partway(bend, np.minimum(1.0, _WRIST / angle.clip(1e-6)))
        twist = neutral + np.clip(twist, -_FOREARM, _FOREARM)
        return twist, bend @ axis_angle(fore, twist) @ g_fore

    def hand_axes(self, side: str) -> Floats:
        """(3, 3) of the rest pose, columns: out of the palm, along the fingers, to the thumb's side."""
        wrist = self.rest_head(f"wrist.{side}")
        index, middle, little = (self.rest_head(f"finger{k}-1.{side}") - wrist for k in (2, 3, 5))
        palm = unit((np.cross(index, little) * (-1.0 if side == "L" else 1))[None])[0]
        along = unit((middle - palm * (middle @ palm))[None])[0]
        thumb = np.cross(palm, along) * (1.0 if side == "L" else -1.0)
        return np.stack([palm, along, thumb], axis=1)

    def _point_fingers(self, side: str, fingers: Floats) -> None:
        """Turn each finger's three bones into ``fingers`` (f, 5, 3, 3), directions in the hand's axes."""
        directions = fingers @ self.hand_axes(side).T
        for finger in range(1, 6):
            turned = np.tile(np.eye(3), (self._frames, 1, 1))
            for k, bone in enumerate(self._finger_bones(side, finger)):
                wanted = np.einsum("fji,fj->fi", turned, directions[:, finger - 1, k])
                local = swing(bone, wanted)
                self._local[self._at[f"finger{finger}-{k + 1}.{side}"]] = local
                turned = turned @ local

    def _finger_bones(self, side: str, finger: int) -> list[Floats]:
        """Directions of a finger's three bones in the rest pose; finger 1 is the thumb."""
        joints = [self.rest_head(f"finger{finger}-{k}.{side}") for k in (1, 2, 3)]
        points = [*joints, self._person.tails[self._at[f"finger{finger}-3.{side}"]]]
        return [unit((points[k + 1] - points[k])[None])[0] for k in range(3)]

    def _curl_fingers(self, side: str, curls: Floats) -> None:
        """``curls`` (f, 6): five curls and the spread."""
        palm = self.hand_axes(side)[:, 0]
        across = self.rest_head(f"finger5-1.{side}") - self.rest_head(f"finger2-1.{side}")
        across = across / np.linalg.norm(across)
        sign = 1.0 if side == "L" else -1.0
        for finger in range(1, 6):
            curl = np.clip(curls[:, finger - 1], 0, 1)
            for k, bone in enumerate(self._finger_bones(side, finger)):
                towards = palm if finger > 1 else unit((across + 0.5 * palm)[None])[0]
                axis = unit(np.cross(bone, towards)[None])[0]
                # The rest pose is slightly bent already.
                reach = ((1.35, 1.7, 1.1) if finger > 1 else (0.35, 0.75, 0.9))[k]
                angle = curl * reach - (0.18, 0.22, 0.15)[k] * (finger > 1)
                rotation = axis_angle(axis, angle)
                if k == 0 and finger > 1:
                    fan = sign * (finger - 3) * 0.14 * (np.clip(curls[:, 5], 0, 1) - 0.35)
                    rotation = axis_angle(palm, -fan) @ rotation
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


def _sideways(left: Floats, right: Floats) -> tuple[Floats, Floats]:
    """(f, 3) each: how far the hands must part so that no two of their points are nearer than 1.15 dm."""
    gap = left[:, None, 1:] - right[:, 1:, None]
    distance = np.linalg.norm(gap, axis=-1).reshape(len(left), -1)
    need = np.clip(1.15 - distance.min(axis=1), 0, None)
    crossed = np.clip(0.3 - (left[:, 1, 0] - right[:, 1, 0]), 0, None)
    out = np.zeros((len(left), 3))
    out[:, 0] = _smooth_over_time(np.maximum(need, crossed))
    return out / 2, -out / 2


def _in_depth(left: Floats, right: Floats) -> tuple[Floats, Floats]:
    """(f, 3) each: how far one arm must come forwards to pass before the other one.

    The arm that is in front where they are nearest to each other is so for the whole clip.
    """
    gap = left[:, None] - right[:, :, None]
    aside, depth = np.linalg.norm(gap[..., :2], axis=-1), gap[..., 2]
    nearest = np.unravel_index(np.linalg.norm(gap, axis=-1).argmin(), aside.shape)
    front = 1.0 if depth[nearest] > 0 else -1.0
    clear = np.sqrt(np.clip(_THICK**2 - aside**2, 0, None))
    need = np.where(clear > 0, clear - front * depth, 0).max(axis=(1, 2)).clip(0)
    forwards = np.zeros((len(left), 3))
    forwards[:, 2] = _smooth_over_time(need)
    return (forwards, 0 * forwards) if front > 0 else (0 * forwards, forwards)


def _smooth_over_time(values: Floats, reach: int = 4) -> Floats:
    """At least ``values``, without jumps: a moving maximum, then a moving mean of the same reach."""
    if not values.any():
        return values
    padded = np.pad(values, 2 * reach, "edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1).max(axis=1)
    return np.lib.stride_tricks.sliding_window_view(windows, 2 * reach + 1).mean(axis=1)


# --- rotations --------------------------------------------------------------------------------------


def unit(v: Floats) -> Floats:
    return v / np.linalg.norm(v, axis=-1, keepdims=True).clip(1e-9)


def frame(first: Floats, second: Floats) -> Floats:
    """(…, 3, 3) with columns first, second, first × second."""
    return np.stack([first, second, np.cross(first, second)], axis=-1)


def axis_angle(axis: Floats, angle: Floats | float) -> Floats:
    axis, angle = np.broadcast_arrays(axis, np.asarray(angle)[..., None])
    angle = angle[..., :1, None]
    x, y, z = np.moveaxis(axis, -1, 0)
    zero = np.zeros_like(x)
    k = np.stack([np.stack([zero, -z, y], -1), np.stack([z, zero, -x], -1), np.stack([-y, x, zero], -1)], -2)
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * (k @ k)


def euler(angles: Floats) -> Floats:
    """(f, 3) pitch, yaw, roll in radians -> (f, 3, 3)."""
    x, y, z = (axis_angle(np.eye(3)[i], angles[:, i]) for i in range(3))
    return y @ x @ z


def swing(start: Floats, end: Floats) -> Floats:
    axis = np.cross(start, end)
    size = np.linalg.norm(axis, axis=-1)
    return axis_angle(axis / size[:, None].clip(1e-9), np.arctan2(size, end @ start))


def angle_about(axis: Floats, start: Floats, end: Floats) -> float:
    start, end = start - (start @ axis) * axis, end - (end @ axis) * axis
    return float(np.arctan2(np.cross(start, end) @ axis, start @ end))


def partway(rotation: Floats, share: Floats | float) -> Floats:
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
    return axis_angle(unit(axis), share * angle)


def halfway(start: Floats, end: Floats) -> Floats:
    return start @ partway(start.transpose(0, 2, 1) @ end, 0.5)
