"""Drawn people who move their hands and mouth: data without assets, for ``tiny`` and for tests.

They are cartoons, so networks trained on them are useless for photographs. But pictures, joints and sound
agree, so a training can be checked: hands at their joints, a mouth that opens with the loudness.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from semibody.clips.truth import Truth
from semibody.data.dataset import PackedClip, pack_clip, packed_path
from semibody.pose.frame import box_crop
from semibody.pose.skeleton import HAND_EDGES
from semibody.training.recipe import Recipe
from semibody.types import FACE, LEFT_HAND, N_JOINTS, RIGHT_HAND, Floats, Gesture, Speech

RATE = 16000
_SHARP = 2
"""Pictures are drawn this many times larger, then scaled down."""


def make_drawn_clips(
    folder: Path, recipe: Recipe, *, people: int = 4, frames: int = 24, heads: int = 0, held_out: int = 0
) -> list[PackedClip]:
    """Pack clips of ``people`` drawn persons, the first ``heads`` of them cut to the head, the last
    ``held_out`` as validation; resumable."""
    data = recipe.data
    packing = data.packing
    made = []
    for number in range(people):
        name, place = f"drawn-{number:04d}", folder / packing.key
        if not packed_path(place, name).exists():
            pictures, gesture, speech, truth = draw_clip(recipe.seed, number, frames, data.size, data.fps)
            if number < heads:
                pictures, gesture = _head_of(pictures, gesture)
            pack_clip(
                place, name, pictures, gesture, speech, truth, person=name,
                kind="head" if number < heads else "full",
                split="val" if number >= people - held_out else "train", packing=packing,
            )  # fmt: skip
        made.append(PackedClip(packed_path(place, name)))
    return made


def draw_clip(
    seed: int, number: int, frames: int, size: int, fps: float
) -> tuple[NDArray[np.uint8], Gesture, Speech, Truth]:
    """One clip of drawn person ``number``: pictures, gesture, speech and truth."""
    rng = np.random.default_rng([seed, number, 77])
    colours = {part: rng.uniform(40, 230, 3) for part in ("back", "skin", "shirt", "hair")}
    phase, pace = rng.random(4) * 2 * np.pi, 0.5 + rng.random(4)
    syllables = 2.5 + 2 * rng.random()
    time = np.arange(frames) / fps
    jaw = np.clip(np.sin(2 * np.pi * syllables * time + phase[0]), 0, None)
    speech = _voice(frames / fps, syllables, float(phase[0]), 120 + 80 * rng.random())
    joints, confidence = np.zeros((frames, N_JOINTS, 2)), np.zeros((frames, N_JOINTS))
    pictures = []
    for frame in range(frames):
        swing = np.sin(2 * np.pi * pace * time[frame] + phase)
        joints[frame] = _joints(swing, float(jaw[frame]))
        confidence[frame, [*range(8), *range(14, 18)]] = 1.0
        confidence[frame, FACE] = confidence[frame, LEFT_HAND] = confidence[frame, RIGHT_HAND] = 1.0
        pictures.append(_picture(joints[frame], float(jaw[frame]), colours, size))
    gesture = Gesture(joints, confidence, fps, name=f"drawn-{number}")
    return np.stack(pictures), gesture, speech, Truth(jaw.astype(np.float32), {})


def _head_of(pictures: NDArray[np.uint8], gesture: Gesture) -> tuple[NDArray[np.uint8], Gesture]:
    """The upper middle of a clip, where the head is, as a clip of its own; hands are out of it."""
    side = pictures.shape[1]
    top, left, width = (round(share * side) for share in (0.05, 0.27, 0.46))
    crop = box_crop(left, top, left + width, top + width, side, side)
    joints = crop.joints(gesture.joints)
    inside = ((joints >= 0) & (joints <= 1)).all(axis=2)
    cut = np.stack([crop.apply(picture) for picture in pictures])
    return cut, dataclasses.replace(gesture, joints=joints, confidence=gesture.confidence * inside)


def _voice(seconds: float, syllables: float, phase: float, pitch: float) -> Speech:
    t = np.arange(round(seconds * RATE)) / RATE
    loud = np.clip(np.sin(2 * np.pi * syllables * t + phase), 0, None)
    buzz = np.sin(2 * np.pi * pitch * t) + 0.5 * np.sin(4 * np.pi * pitch * t)
    return Speech((0.3 * loud * buzz).astype(np.float32), RATE)


def _joints(swing: Floats, jaw: float) -> Floats:
    """(j, 2): a person from the front; the four ``swing`` values move head, and hands up and sideways."""
    joints = np.zeros((N_JOINTS, 2))
    head = np.array([0.5 + 0.01 * swing[0], 0.27])
    face = np.zeros((68, 2))
    jawline = np.linspace(np.pi, 0, 17)
    face[:17] = head + np.stack([0.1 * np.cos(jawline), 0.13 * np.sin(jawline) + 0.01 * jaw], axis=1)
    for side, (brow, eye) in ((-1, (17, 36)), (1, (22, 42))):
        centre = head + np.array([0.045 * side, -0.02])
        face[brow : brow + 5] = centre + np.stack([np.linspace(-0.03, 0.03, 5), np.full(5, -0.035)], axis=1)
        around = np.linspace(0, 2 * np.pi, 6, endpoint=False)
        face[eye : eye + 6] = centre + np.stack([0.02 * np.cos(around), 0.01 * np.sin(around)], axis=1)
    face[27:36] = head + np.stack([np.zeros(9), np.linspace(-0.02, 0.035, 9)], axis=1)
    mouth = head + np.array([0, 0.075])
    outer, inner = np.linspace(np.pi, 3 * np.pi, 12, endpoint=False), np.linspace(np.pi, 3 * np.pi, 8, False)
    face[48:60] = mouth + np.stack([0.035 * np.cos(outer), (0.008 + 0.028 * jaw) * np.sin(outer)], axis=1)
    face[60:68] = mouth + np.stack([0.028 * np.cos(inner), 0.024 * jaw * np.sin(inner)], axis=1)
    joints[FACE] = face
    neck = np.array([0.5, 0.45])
    joints[0], joints[1] = head, neck
    for side, first, eye, ear, where in ((-1, 2, 14, 16, RIGHT_HAND), (1, 5, 15, 17, LEFT_HAND)):
        lift, spread = (swing[1], swing[3]) if side < 0 else (swing[2], -swing[3])
        shoulder = neck + np.array([0.14 * side, 0.04])
        wrist = np.array([0.5 + side * (0.24 + 0.05 * spread), 0.78 - 0.1 * lift])
        elbow = (shoulder + wrist) / 2 + np.array([0.06 * side, 0.06])
        joints[first], joints[first + 1], joints[first + 2] = shoulder, elbow, wrist
        joints[eye], joints[ear] = head + np.array([0.045 * side, -0.02]), head + np.array([0.1 * side, 0])
        turn = 0.3 * side * lift
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        joints[where] = wrist + (_HAND * [side, 1]) @ rotation.T
    return joints


def _open_hand() -> Floats:
    """(21, 2) an open hand pointing up, wrist at the origin, as a fraction of the picture."""
    points = [np.zeros(2)]
    for lean, length in ((0.9, 0.08), (0.3, 0.11), (0.05, 0.12), (-0.2, 0.11), (-0.45, 0.09)):
        direction = np.array([-np.sin(lean), -np.cos(lean)])
        points += [direction * length * s for s in np.linspace(0.5, 1.0, 4)]
    return np.stack(points)


_HAND = _open_hand()


def _picture(joints: Floats, jaw: float, colours: dict[str, Floats], size: int) -> NDArray[np.uint8]:
    side = size * _SHARP
    canvas = np.empty((side, side, 3), np.uint8)
    shade = np.linspace(1.0, 0.7, side)[:, None, None]
    canvas[:] = (colours["back"] * shade).astype(np.uint8)

    def at(point: Floats) -> tuple[int, int]:
        return round(float(point[0]) * side), round(float(point[1]) * side)

    def colour(part: str, factor: float = 1.0) -> tuple[float, ...]:
        return tuple(float(v) * factor for v in colours[part])

    def ellipse(centre: Floats, rx: float, ry: float, fill: tuple[float, ...]) -> None:
        radii = (max(1, round(rx * side)), max(1, round(ry * side)))
        cv2.ellipse(canvas, at(centre), radii, 0, 0, 360, fill, -1, cv2.LINE_AA)

    head, neck = joints[0], joints[1]
    outline = [neck + v for v in ([-0.15, 0.03], [0.15, 0.03], [0.17, 0.6], [-0.17, 0.6])]
    cv2.fillPoly(canvas, [np.array([at(p) for p in outline], np.int32)], colour("shirt"), cv2.LINE_AA)
    ellipse(head - np.array([0, 0.03]), 0.115, 0.15, colour("hair"))
    ellipse(head + np.array([0, 0.01]), 0.095, 0.125, colour("skin"))
    ellipse(neck - np.array([0, 0.03]), 0.04, 0.05, colour("skin", 0.9))
    for eye in (joints[14], joints[15]):
        ellipse(eye, 0.02, 0.012, (245.0, 245.0, 245.0))
        ellipse(eye, 0.009, 0.009, (30.0, 30.0, 30.0))
    mouth = head + np.array([0, 0.075])
    ellipse(mouth, 0.036, 0.01 + 0.03 * jaw, (170.0, 60.0, 60.0))
    if jaw > 0.05:
        ellipse(mouth, 0.027, 0.024 * jaw, (40.0, 10.0, 10.0))
    for first, where in ((2, RIGHT_HAND), (5, LEFT_HAND)):
        limb = joints[[first, first + 1, first + 2]]
        for a, b in ((0, 1), (1, 2)):
            cv2.line(canvas, at(limb[a]), at(limb[b]), colour("shirt", 0.85), round(0.06 * side), cv2.LINE_AA)
        hand = joints[where]
        ellipse(hand[[0, 5, 17]].mean(axis=0), 0.035, 0.04, colour("skin"))
        for a, b in HAND_EDGES:
            cv2.line(canvas, at(hand[a]), at(hand[b]), colour("skin"), round(0.018 * side), cv2.LINE_AA)
    return np.asarray(cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA), np.uint8)
