"""Movement of a person over a clip: where every bone is, and how much every face unit acts.

Head, torso, gaze and face are drawn here, in step with the speech; ``arms`` moves arms and fingers,
and ``rig`` poses the bones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semibody.data.synthetic.arms import Followed, draw_arms, follow
from semibody.data.synthetic.curves import steps, wander
from semibody.data.synthetic.person import UNITS, Person
from semibody.data.synthetic.rig import Posing, axis_angle, euler
from semibody.types import Floats


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
    rng: np.random.Generator, *, liveliness: float = 1.0, sway: float = 1.0, followed: Followed | None = None,
) -> Motion:  # fmt: skip
    """Draw the movement of a clip.

    ``mouth`` (f, 6) as speech.SHAPES · ``loud`` (f,) 0..1, for beats and nods · ``liveliness`` scales how
    often and how far the hands leave their place · ``sway`` how far head and torso wander · ``followed`` the
    movement that arms and fingers take; without it theirs is drawn too.
    """
    frames = len(mouth)
    times = np.arange(frames) / fps
    pose = Posing(person, frames)
    beat = np.convolve(np.pad(loud, 2), np.hanning(5) / np.hanning(5).sum(), "valid")

    torso = np.deg2rad(np.stack([wander(rng, times, sway * a, 2.5) for a in (2.5, 4.0, 2.0)], -1))
    torso[:, 0] += np.deg2rad(0.5) * np.sin(2 * np.pi * times / rng.uniform(3, 5) + rng.uniform(0, 6))
    for bone in ("spine05", "spine04", "spine03", "spine02", "spine01"):
        pose.turn(bone, euler(torso / 5))
    still = np.deg2rad(rng.normal(0, 1, 3) * (2.5, 4.5, 1.5))
    head = still + np.deg2rad(np.stack([wander(rng, times, sway * a, 1.2) for a in (4, 6, 2.5)], -1))
    head[:, 0] += sway * np.deg2rad(rng.uniform(1, 4)) * (beat - beat.mean())
    for bone in ("neck01", "neck02", "neck03", "head"):
        pose.turn(bone, euler(head / 4))
    jaw = mouth[:, 0].astype(np.float64)
    pose.turn("jaw", axis_angle(np.array([1.0, 0, 0]), 0.27 * jaw))
    pose.turn("tongue01", axis_angle(np.array([1.0, 0, 0]), -0.25 * jaw))

    # The eyes hold the camera against the head's turning, with saccades away from it.
    gaze = -0.75 * (head + torso)[:, :2] + np.deg2rad(steps(rng, times, (3.0, 6.0), 0.9, 0.06))
    gaze = np.clip(gaze, -0.45, 0.45)
    for bone in ("eye.L", "eye.R"):
        pose.turn(bone, euler(np.concatenate([gaze, np.zeros((frames, 1))], axis=1)))

    if followed is None:
        pose.place_arms(draw_arms(pose, times, beat, rng, liveliness))
    else:
        pose.place_arms(follow(pose, followed), over=True)
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
    face[:, at["mouth-protusion"]] = 0.4 * rounded
    face[:, at["mouth-pursing"]] = 0.4 * rounded
    face[:, at["mouth-retraction"]] = 0.4 * wide
    # At f and v the lower lip is up at the upper teeth, which show below a raised upper lip.
    face[:, at["mouth-compression"]] = np.maximum(0.7 * press, 0.6 * lower)
    face[:, at["mouth-elevation"]] = 0.45 * lower
    face[:, at["mouth-upward-retraction"]] = 0.25 * upper * (1 - lower)
    face[:, at["mouth-corner-puller"]] = np.clip(
        rng.uniform(0.05, 0.5) + wander(rng, times, 0.1, 2.0), 0, 0.65
    )
    blink = _blinks(rng, times)
    for unit in ("eye-left-closure", "eye-right-closure"):
        face[:, at[unit]] = blink
    # Brows that come down look angry: mostly they rise, their inner ends a little more.
    brows = np.clip(wander(rng, times, 0.3, 1.5) + 0.35 * (beat - 0.3), -0.12, 0.9)
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
