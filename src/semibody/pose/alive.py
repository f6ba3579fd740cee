"""What moves in a person who speaks, beside the hands: head, brows, lids, eyes and breath.

    life = enliven(portrait_pose, prosody, frames=72, fps=24.0, seed=3)
    life.joints(portrait_pose, frame)       # (128, 2), head, face and shoulders moved, all else in its place

The head sways slowly, more while speaking than in pauses, and nods on stressed syllables; brows rise on the
strongest. Blinks come at random, 14 a minute on average, which is within what is measured of people who
speak. Now and then the eyes glance aside. Shoulders rise with the breath. All of it begins at the portrait's
own pose, and the same arguments give the same movements.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from semibody import scratch
from semibody.pose.body import SHOULDERS, face_found, shoulder_distance, shoulders_seen
from semibody.pose.head import Head, smooth
from semibody.pose.prosody import Prosody
from semibody.pose.skeleton import HEAD_BODY_JOINTS
from semibody.types import FACE, N_JOINTS, Floats, Pose

_TURN, _NOD, _TILT = np.radians([1.6, 0.9, 0.8])
"""How far the head sways about its three axes, root mean square."""
_BEAT = np.radians(1.8)
"""How far it nods on a syllable one standard deviation above the others."""
_BEAT_SECONDS = 0.13
_RATES = ((0.07, 0.13), (0.19, 0.27), (0.41, 0.55))
"""Ranges of the frequencies of which a sway is made, in hertz, the slow ones largest."""
_SIZES = np.array([1.0, 0.55, 0.25])
_IN_PAUSES = 0.55
"""How much of the sway is left while nobody speaks."""
_AHEAD, _ABOVE, _PIVOT = 0.35, 0.5, 0.45
"""How far the face's middle is before the axis of the neck and above its pivot, and the pivot below the chin,
in heights of the face."""
_BEGIN = 0.8
"""Seconds over which everything begins."""
_BROWS = 0.035
"""How far brows rise, in heights of the face."""
_EMPHATIC, _BROWS_SECONDS, _BROWS_AHEAD = 0.9, 0.22, 0.05
"""Stress from which brows rise, for how long, and how much earlier, in seconds."""
_BREATH, _BREATHS = 0.012, 0.25
"""How far shoulders rise, in shoulder widths, and how often a second."""
_WITH_BREATH = 0.4
"""Share of the breath that the head goes along with."""

_BLOCK = 1024
"""Frames whose heads are turned at once."""

_HEAD = np.array([*range(FACE.start, FACE.stop), *HEAD_BODY_JOINTS])
_BROW_JOINTS = slice(FACE.start + 17, FACE.start + 27)

_FIRST_BLINK = (0.9, 2.6)
_SHORTEST, _MEAN = 1.4, 4.3
"""Seconds between blinks, least and mean."""
_CLOSE, _SHUT, _OPEN = 0.09, 0.05, 0.18
"""Seconds in which lids close, stay closed and open."""
_FIRST_GLANCE, _GLANCES, _GLANCE = (1.2, 3.0), (2.2, 5.5), (0.35, 1.1)
"""Seconds to the first glance aside, from its end to the next, and how long one lasts."""
_ASIDE = (0.35, 1.0)
"""How far glances go, of as far as they may."""
_SACCADE = 0.045
"""Seconds in which eyes move to another place."""


@dataclass(frozen=True)
class Life:
    """``offsets`` (f, 128, 2) of joints from the portrait's, in fractions of the picture."""

    offsets: Float[NDArray[np.float32], "f 128 2"]
    closed: Float[NDArray[np.float32], " f"]
    """how far the lids are shut, 0..1"""
    gaze: Float[NDArray[np.float32], " f"]
    """how far the eyes look aside, from −1, the left of the picture, to 1"""

    def joints(self, portrait: Pose, frame: int) -> Floats:
        """The portrait's joints (128, 2), moved as in ``frame``."""
        return np.asarray(portrait.joints + self.offsets[frame])

    def __len__(self) -> int:
        return len(self.offsets)


def enliven(
    portrait: Pose,
    prosody: Prosody | None,
    *,
    frames: int,
    fps: float,
    aspect: float = 1.0,
    seed: int = 0,
    liveliness: float = 1.0,
    first: int = 0,
) -> Life | None:
    """The small movements of ``frames`` frames from number ``first`` on; None for a portrait without a face.

    ``portrait`` is in fractions of a picture ``aspect`` times as wide as high. Without ``prosody`` nobody
    speaks. ``liveliness`` 0..3 sizes the head's movements: from half of the usual to half more.
    """
    if not face_found(portrait):
        return None
    rng = np.random.default_rng([seed, 31])
    time = (first + np.arange(frames)) / fps
    begun, points = smooth(time / _BEGIN), portrait.joints * (aspect, 1.0)
    head, offsets = Head.of(points), scratch.empty((frames, N_JOINTS, 2), np.float32)
    offsets[:] = 0
    breath = _breathe(time)
    angles = _sway(time, begun, prosody, rng, 0.5 + 0.5 * min(liveliness, 2.0))
    for start in range(0, frames, _BLOCK):  # memory does not grow with the recording
        block = slice(start, start + _BLOCK)
        offsets[block, _HEAD] = _turned(head, angles[:, block], points[_HEAD])
    closed = _blink(time, fps, rng)
    offsets[:, _BROW_JOINTS, 1] -= _BROWS * head.size * _emphasis(time, prosody)[:, None]
    if shoulders_seen(portrait.confidence):
        rise = _BREATH * float(shoulder_distance(points)) * breath
        offsets[:, SHOULDERS, 1] -= rise[:, None]
        offsets[:, _HEAD, 1] -= _WITH_BREATH * rise[:, None]
    gaze = _glance(time, np.random.default_rng([seed, 37]))
    offsets /= np.array([aspect, 1.0], np.float32)
    return Life(offsets, closed, gaze)


# -- the head ------------------------------------------------------------------------------


def _sway(
    time: Floats, begun: Floats, prosody: Prosody | None, rng: np.random.Generator, size: float
) -> Floats:
    """Turn, nod and tilt (3, f) in radians."""
    speaking = _speaking(time, prosody)
    slow = np.stack([angle * _noise(time, rng) for angle in (_TURN, _NOD, _TILT)])
    swayed = slow * begun * (_IN_PAUSES + (1 - _IN_PAUSES) * speaking) * size
    for syllable in prosody.syllables if prosody else ():
        if syllable.stress > 0:
            near, beat = _bump(time, syllable.time, _BEAT_SECONDS)
            swayed[1, near] += _BEAT * min(syllable.stress, 2.0) * 0.5 * beat * begun[near] * size
    return swayed


def _bump(time: Floats, moment: float, width: float) -> tuple[slice, Floats]:
    """A Gaussian about a moment, where it is not 0: those frames, and its values there."""
    near = slice(*np.searchsorted(time, (moment - 4 * width, moment + 4 * width)))
    return near, np.exp(-np.square((time[near] - moment) / width))


def _noise(time: Floats, rng: np.random.Generator) -> Floats:
    """A slow aperiodic signal of about unit root mean square."""
    rates = np.array([rng.uniform(*limits) for limits in _RATES])
    phases = rng.uniform(0, 2 * np.pi, len(_RATES))
    waves = np.sin(2 * np.pi * rates[:, None] * time + phases[:, None])
    return np.asarray(_SIZES @ waves / np.sqrt(np.square(_SIZES).sum() / 2))


def _speaking(time: Floats, prosody: Prosody | None) -> Floats:
    """(f,) 1 within phrases, 0 between them, softly."""
    if prosody is None:
        return np.zeros_like(time)
    speaking = np.zeros_like(time)
    for start, end in prosody.phrases:
        near = slice(*np.searchsorted(time, (start - 0.2, end + 0.2)))
        voice = smooth((time[near] - start + 0.2) / 0.4) * smooth((end + 0.2 - time[near]) / 0.4)
        speaking[near] = np.maximum(speaking[near], voice)
    return speaking


def _turned(head: Head, angles: Floats, points: Floats) -> Floats:
    """Where points (n, 2) go when the head is turned by angles (3, f): offsets (f, n, 2)."""
    turn, nod, tilt = angles
    pivot = np.array([head.face[:, 0].mean(), head.face[:, 1].max() + _PIVOT * head.size])
    depth = head.size * head.depth(points.T)
    across, down = (points - pivot).T
    tilted = np.stack([-down, across], axis=1) * tilt[:, None, None]
    ahead = np.outer(turn, _AHEAD * head.size + depth)
    nodded = np.outer(nod, _ABOVE * head.size + depth)
    return np.asarray(tilted + np.stack([ahead, nodded], axis=2))


# -- lids, brows, breath -------------------------------------------------------------------


def _blink(time: Floats, fps: float, rng: np.random.Generator) -> Float[NDArray[np.float32], " f"]:
    """(f,) how far the lids are shut."""
    closed = np.zeros_like(time)
    # In frames from the middle of a video, lids also close for a blink that comes after these.
    last = (time[-1] + _CLOSE if time[0] > 0 else time[-1]) if len(time) else 0.0
    for moment in _blinks(float(last), rng):
        # A frame is where the lids are shut, so that a short blink is not missed between two frames.
        shut = np.ceil(moment * fps) / fps
        near = slice(*np.searchsorted(time, (shut - _CLOSE, shut + _SHUT + _OPEN)))
        after = time[near] - shut
        down, up = smooth(1 + after / _CLOSE), smooth(1 - (after - _SHUT) / _OPEN)
        closed[near] = np.maximum(closed[near], np.where(after < 0, down, up))
    return closed.astype(np.float32)


def _blinks(seconds: float, rng: np.random.Generator) -> list[float]:
    """Moments of blinks."""
    moments, now = [], float(rng.uniform(*_FIRST_BLINK))
    while now < seconds:
        moments.append(now)
        now += _SHORTEST + float(rng.exponential(_MEAN - _SHORTEST))
    return moments


def _glance(time: Floats, rng: np.random.Generator) -> Float[NDArray[np.float32], " f"]:
    """(f,) where the eyes look: at the camera, and for moments aside."""
    gaze, now = np.zeros_like(time), float(rng.uniform(*_FIRST_GLANCE))
    while len(time) and now < time[-1]:
        lasts = float(rng.uniform(*_GLANCE))
        aside = float(rng.uniform(*_ASIDE)) * float(rng.choice([-1, 1]))
        near = slice(*np.searchsorted(time, (now, now + lasts + _SACCADE)))
        after = time[near] - now
        gaze[near] = aside * (smooth(after / _SACCADE) - smooth((after - lasts) / _SACCADE))
        now += lasts + float(rng.uniform(*_GLANCES))
    return gaze.astype(np.float32)


def _emphasis(time: Floats, prosody: Prosody | None) -> Floats:
    """(f,) 0..1, on the most stressed syllables."""
    raised = np.zeros_like(time)
    for syllable in prosody.syllables if prosody else ():
        if syllable.stress > _EMPHATIC:
            near, bump = _bump(time, syllable.time - _BROWS_AHEAD, _BROWS_SECONDS)
            raised[near] = np.maximum(raised[near], bump)
    return raised * smooth(time / _BEGIN)


def _breathe(time: Floats) -> Floats:
    """(f,) 0..1, beginning at 0."""
    return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * _BREATHS * time))
