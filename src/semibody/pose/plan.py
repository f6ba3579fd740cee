"""Gestures from speech alone: strokes on stressed syllables, hands at rest in pauses.

    planned = plan_gesture(speech, seed=3)
    save_gesture(planned.gesture, "talk.npz")

The terms of gesture research (Kendon; McNeill): hands *prepare*, make the *stroke* whose end falls on the
stressed syllable, *hold*, and *retract* to rest when a pause is long enough. The strokes are those of a
``Repertoire``: the library's, or movements in the user's own gestures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from semibody.pose import library
from semibody.pose.body import USUAL_SHOULDERS, shoulder_width
from semibody.pose.kinematics import ANGLES, HIGH, LOW, N_ARM, Body
from semibody.pose.prosody import Prosody, Syllable, analyse
from semibody.pose.timing import resample
from semibody.types import FACE, HANDS, N_JOINTS, Floats, Gesture, SemibodyError, Speech

FASTEST = 9.0
"""Shoulder widths a second, about 3.5 m/s: the speed of hands in lively speech."""
LEAST_LIVELY, MOST_LIVELY = 0.1, 3.0
LONG_PAUSE = 0.9
"""Seconds without a stroke and with a pause after which hands go to rest."""
_STROKE, _PREPARE, _RETRACT, _HOLD = 0.20, 0.42, 0.75, 0.25
"""Usual seconds of each phase of a movement."""
_SETTLED = 0.15
"""Seconds after which more sound does not change a syllable's stress much."""
_PEAK_OF_MINIMUM_JERK = 1.875
"""Highest speed of such a movement over its mean speed."""


@dataclass(frozen=True)
class Stroke:
    """A movement from ``start`` to ``end``, each a state (d,) of its repertoire."""

    start: Floats
    end: Floats


class Repertoire(Protocol):
    """Strokes in families that go together, and how states become a gesture."""

    @property
    def rest(self) -> Floats: ...

    @property
    def families(self) -> Sequence[Sequence[Stroke]]: ...

    def top_speed(self, a: Floats, b: Floats) -> float:
        """Of the fastest hand joint on its way from state a to b in one second, in shoulder widths."""
        ...

    def vary(self, state: Floats, rng: np.random.Generator) -> Floats:
        """A slightly varied state, so that repeated strokes differ."""
        ...

    def render(self, states: Floats, nods: Floats, fps: float) -> Gesture:
        """States (f, d) and nods of the head with strokes (f,) 0..1, as a gesture."""
        ...


@dataclass(frozen=True)
class PlannedStroke:
    """``time`` in seconds at which the stroke ends, on a syllable of this ``stress``."""

    time: float
    stress: float


@dataclass(frozen=True)
class PlannedGesture:
    gesture: Gesture
    strokes: tuple[PlannedStroke, ...]
    prosody: Prosody
    rests: tuple[tuple[float, float], ...]
    """(start, end) seconds in which the hands are at rest"""
    states: Floats | None = None
    """(f, 57) the arms in space, as in ``library.state``; None for strokes from sources, without depth"""


def plan_gesture(
    speech: Speech,
    *,
    seed: int = 0,
    fps: float = 24.0,
    sources: Sequence[Gesture] = (),
    liveliness: float = 1.0,
    seconds: float | None = None,
    prosody: Prosody | None = None,
) -> PlannedGesture:
    """Plan the hands for a recording; ``seconds`` defaults to its length.

    ``prosody`` is the result of ``analyse`` for the speech, if it is known already.

    ``sources``: gestures to take strokes from instead of the library. ``liveliness`` 0.3 … 2 makes strokes
    less or more frequent. The same arguments give the same gesture. Raises SemibodyError when the
    sources hold no movement.
    """
    if not LEAST_LIVELY <= liveliness <= MOST_LIVELY:
        raise SemibodyError(f"liveliness {liveliness:g} must be from {LEAST_LIVELY:g} to {MOST_LIVELY:g}")
    arms = None if sources else LibraryRepertoire()
    repertoire: Repertoire = arms or SourceRepertoire(sources, fps)
    prosody = prosody or analyse(speech)
    length = seconds if seconds is not None else speech.seconds
    timed = time_strokes(repertoire, prosody, length, fps=fps, often=liveliness, seed=seed)
    gesture = repertoire.render(timed.states, timed.nods, fps)
    made = Gesture(gesture.joints, gesture.confidence, fps, gesture.aspect, "planned")
    lively = arms.enliven(timed.states, timed.nods, fps) if arms else None
    return PlannedGesture(made, timed.strokes, prosody, timed.rests, lively)


@dataclass(frozen=True)
class Timed:
    """A plan over time: ``states`` (f, d) of a repertoire, ``nods`` (f,), and as in ``PlannedGesture``."""

    states: Floats
    nods: Floats
    strokes: tuple[PlannedStroke, ...]
    rests: tuple[tuple[float, float], ...]


def time_strokes(
    repertoire: Repertoire, prosody: Prosody, seconds: float, *, fps: float, often: float, seed: int
) -> Timed:
    """Strokes of a repertoire on the stressed syllables of ``seconds`` of speech, rest in between.

    ``often`` 0.1 … 3 makes them less or more frequent. Without strokes the hands are always at rest.
    """
    timeline = _Timeline(repertoire, np.random.default_rng([seed, 17]))
    if repertoire.families:
        for group in _groups(choose_stresses(prosody, often), prosody):
            timeline.add_group(group, prosody)
    states, nods, rests = timeline.play(seconds, fps)
    return Timed(states, nods, tuple(s for s in timeline.strokes if s.time < seconds), rests)


def _apart(liveliness: float) -> float:
    """Seconds between strokes, at least."""
    return 0.56 / liveliness**0.5


def choose_stresses(prosody: Prosody, liveliness: float = 1.0) -> list[Syllable]:
    """The syllables that get a stroke: the most stressed first, with a minimum distance."""
    apart = _apart(liveliness)
    certain, possible = 0.5 / liveliness, 0.1 / liveliness
    enough = 0.85 * liveliness * sum(end - start for start, end in prosody.phrases)
    chosen: list[Syllable] = []
    for syllable in sorted(prosody.syllables, key=lambda s: -s.stress):
        if syllable.stress < (certain if len(chosen) >= enough else possible):
            break
        reachable = syllable.time >= _STROKE + _PREPARE
        if reachable and all(abs(syllable.time - other.time) >= apart for other in chosen):
            chosen.append(syllable)
    return sorted(chosen, key=lambda s: s.time)


def _groups(syllables: list[Syllable], prosody: Prosody) -> list[list[Syllable]]:
    """Groups of strokes without a long pause in between, within which hands do not return to rest."""
    pauses = prosody.pauses(LONG_PAUSE)
    groups: list[list[Syllable]] = []
    for syllable in syllables:
        before = groups[-1][-1].time if groups else -np.inf
        paused = any(before <= start and end <= syllable.time for start, end in pauses)
        if groups and not paused and syllable.time - before < 3.0:
            groups[-1].append(syllable)
        else:
            groups.append([syllable])
    return groups


class _Timeline:
    """Key states in time: (arrival, state). Between two of them the hands move at minimum jerk."""

    def __init__(self, repertoire: Repertoire, rng: np.random.Generator) -> None:
        self._repertoire, self._rng = repertoire, rng
        self._keys: list[tuple[float, Floats]] = [(0.0, repertoire.rest)]
        self._family: Sequence[Stroke] = ()
        self.strokes: list[PlannedStroke] = []

    def add_group(self, group: list[Syllable], prosody: Prosody) -> None:
        """Prepare, strokes with holds, retract; strokes for which there is no time are left out."""
        # Hands at rest in a long pause start to move when speech starts.
        spoken = (end for _, end in prosody.pauses(LONG_PAUSE) if end <= group[0].time)
        earliest = max(spoken, default=0.0)
        self._choose_family()
        placed = 0
        for syllable in group:
            placed += self._add_stroke(syllable, earliest if placed == 0 else 0.0)
        if placed:
            end = self._keys[-1][0]
            self._hold_until(end + _HOLD + 0.2 * self._rng.random())
            self._move_to(self._repertoire.rest, _RETRACT)

    def _choose_family(self) -> None:
        families = [f for f in self._repertoire.families if f is not self._family]
        self._family = families[self._rng.integers(len(families))] if families else self._family

    def _add_stroke(self, syllable: Syllable, earliest: float) -> int:
        now, state = self._keys[-1]
        stroke = self._family[self._rng.integers(len(self._family))]
        if len(self.strokes) and self._rng.random() < 0.18:
            self._choose_family()
        start, end = (self._repertoire.vary(s, self._rng) for s in (stroke.start, stroke.end))
        reach = float(np.clip(0.7 + 0.25 * syllable.stress, 0.55, 1.15))
        end = start + reach * (end - start)
        striking = max(_STROKE, self._seconds(start, end))
        ready = syllable.time - striking
        preparing = self._seconds(state, start)
        if ready - max(now, earliest) < preparing:
            return 0
        if ready - now > _PREPARE:
            self._hold_until(max(earliest, ready - max(_PREPARE, preparing), now))
        self._keys += [(ready, start), (syllable.time, end)]
        self.strokes.append(PlannedStroke(syllable.time, syllable.stress))
        return 1

    def _seconds(self, a: Floats, b: Floats) -> float:
        return self._repertoire.top_speed(a, b) / FASTEST

    def _hold_until(self, time: float) -> None:
        if time > self._keys[-1][0]:
            self._keys.append((time, self._keys[-1][1]))

    def _move_to(self, state: Floats, seconds: float) -> None:
        now, before = self._keys[-1]
        self._keys.append((now + max(seconds, self._seconds(before, state)), state))

    def add_late(self, syllable: Syllable, shown: float) -> None:
        """A stroke on a syllable, if there is time for it after second ``shown``."""
        if self._keys[-1][1] is self._repertoire.rest:
            self._choose_family()
        self._hold_until(shown)
        self._add_stroke(syllable, shown)

    def retract_late(self, shown: float, *, paused: bool) -> None:
        """Begin to go to rest if hands have been held for long enough at second ``shown``."""
        held = shown - self._keys[-1][0]
        at_rest = self._keys[-1][1] is self._repertoire.rest
        if not at_rest and held >= (_HOLD if paused else LONG_PAUSE):
            self._hold_until(shown)
            self._move_to(self._repertoire.rest, _RETRACT)

    def play_from(self, first: int, frames: int, fps: float) -> Floats:
        """States (f, d) of frames from number ``first`` on; what was before is forgotten."""
        start, end = first / fps, (first + frames) / fps
        passed = [number for number, (time, _) in enumerate(self._keys) if time <= start]
        self._keys = self._keys[passed[-1] if passed else 0 :]
        arrivals, points = zip(
            *self._keys, (max(end, self._keys[-1][0]) + 1.0, self._keys[-1][1]), strict=True
        )
        return library.glide([time - start for time in arrivals], points, frames, fps)

    def play(self, seconds: float, fps: float) -> tuple[Floats, Floats, tuple[tuple[float, float], ...]]:
        """States (f, d), nods (f,) and the stretches of rest."""
        frames = max(1, round(seconds * fps))
        self._cut(frames / fps)
        arrivals, points = zip(*self._keys, strict=True)
        states = library.glide(arrivals, points, frames, fps)
        time = np.arange(frames) / fps
        nods = np.zeros(frames)
        for stroke in self.strokes:
            nods += np.clip(0.5 + 0.3 * stroke.stress, 0, 1.2) * np.exp(-(((time - stroke.time) / 0.13) ** 2))
        return states, nods, tuple(self._rests(frames / fps))

    def _cut(self, seconds: float) -> None:
        """Hold the last state to the end; a recording may also end before the hands are back at rest."""
        if self._keys[-1][0] < seconds:
            self._keys.append((seconds, self._keys[-1][1]))

    def _rests(self, seconds: float) -> list[tuple[float, float]]:
        rest = self._repertoire.rest
        found = []
        for (start, a), (end, b) in zip(self._keys, self._keys[1:], strict=False):
            if a is rest and b is rest and start < seconds:
                found.append((start, min(end, seconds)))
        return found


class Improvisation:
    """Strokes for a voice that is still speaking: what is shown stays, and little is known of what follows.

        plan = Improvisation(repertoire, often=1.0, seed=3)
        plan.follow(listener.recent(), shown=4.5)     # as often as more is heard
        plan.states(108, 6, 24.0)                     # of frames from second 4.5 on

    A syllable gets a stroke if it is stressed, the last stroke is long enough ago, and there is time to
    prepare. Hands that are held go to rest when a pause follows or nothing is stressed. A movement that has
    begun is finished.
    """

    def __init__(self, repertoire: Repertoire, *, often: float, seed: int) -> None:
        """``often`` 0.1 … 3 makes strokes less or more frequent."""
        self._timeline = _Timeline(repertoire, np.random.default_rng([seed, 17]))
        self._often, self._can_move = often, bool(repertoire.families)
        self._considered = 0.0
        """syllables up to this second have their stroke, or none"""

    @property
    def strokes(self) -> Sequence[PlannedStroke]:
        """Those planned so far."""
        return self._timeline.strokes

    def follow(self, prosody: Prosody, shown: float) -> None:
        """Plan on what was heard by now; frames before second ``shown`` are made already."""
        if not self._can_move:
            return
        for syllable in prosody.syllables:
            # The last one may still grow.
            if self._considered < syllable.time < prosody.seconds - _SETTLED:
                self._considered = syllable.time
                if self._wanted(syllable):
                    self._timeline.add_late(syllable, shown)
        spoken = prosody.phrases[-1][1] if prosody.phrases else 0.0
        self._timeline.retract_late(shown, paused=spoken < shown)

    def _wanted(self, syllable: Syllable) -> bool:
        strokes = self._timeline.strokes
        since = syllable.time - strokes[-1].time if strokes else np.inf
        if since < _apart(self._often):
            return False
        # After some time without a stroke a weaker stress is enough.
        return syllable.stress > (0.5 if since < 1.5 else 0.1) / self._often

    def states(self, first: int, frames: int, fps: float) -> Floats:
        """States (f, d) of frames from number ``first`` on; earlier ones are forgotten."""
        return self._timeline.play_from(first, frames, fps)


# -- repertoires ---------------------------------------------------------------------------

_BOTH, _RIGHT, _LEFT = "both", "right", "left"
_FAMILIES: tuple[tuple[tuple[str, str, str], ...], ...] = (
    ((_BOTH, "raised", "struck"), (_BOTH, "raised", "struck"), (_BOTH, "ready", "offer")),
    ((_BOTH, "raised_wide", "open_low"), (_BOTH, "raised", "offer")),
    ((_RIGHT, "raised", "struck"), (_RIGHT, "ready", "offer")),
    ((_LEFT, "raised", "struck"), (_LEFT, "ready", "offer")),
    ((_RIGHT, "pinch", "pinch_down"), (_RIGHT, "pinch", "pinch_down"), (_RIGHT, "raised", "struck")),
    ((_BOTH, "ready", "open_high"), (_BOTH, "raised", "open_low")),
    ((_LEFT, "ready", "offer"), (_RIGHT, "ready", "offer")),
)
"""Which arms move, from which pose to which, in families; a speaker changes the family from time to time."""

_SAMPLES = 12
"""Times in a movement at which its speed is measured."""


class LibraryRepertoire:
    """Strokes between the library's arm poses; a state is the library's vector of angles."""

    def __init__(self) -> None:
        self.rest = library.state(library.REST.left, library.REST.right)
        self.families = [[self._stroke(*one) for one in family] for family in _FAMILIES]

    def _stroke(self, side: str, start: str, end: str) -> Stroke:
        def both(name: str) -> Floats:
            left = name if side in (_BOTH, _LEFT) else library.REST.left
            right = name if side in (_BOTH, _RIGHT) else library.REST.right
            return library.state(left, right)

        return Stroke(both(start), both(end))

    def top_speed(self, a: Floats, b: Floats) -> float:
        # Joint angles are interpolated, so hands move on arcs with varying speed.
        share = library.minimum_jerk(np.linspace(0, 1, _SAMPLES + 1))
        placed = library.render(a + share[:, None] * (b - a), 24.0)
        moved = np.diff(placed.joints[:, HANDS], axis=0)
        return float(np.hypot(moved[..., 0], moved[..., 1]).max()) * _SAMPLES / Body().shoulders

    def vary(self, state: Floats, rng: np.random.Generator) -> Floats:
        n = len(ANGLES)
        varied = state.copy()
        for start, rest in ((0, self.rest[:n]), (n, self.rest[n : 2 * n])):
            if np.array_equal(state[start : start + n], rest):
                continue  # an arm at rest stays at rest
            noise = rng.normal(0, np.radians(2.0), n)
            noise[:N_ARM] = rng.normal(0, np.radians(4.0), N_ARM)
            varied[start : start + n] = np.clip(state[start : start + n] + noise, LOW, HIGH)
        return varied

    def render(self, states: Floats, nods: Floats, fps: float) -> Gesture:
        return library.render(self.enliven(states, nods, fps), fps, "planned")

    def enliven(self, states: Floats, nods: Floats, fps: float) -> Floats:
        """The states (f, 57) with small movements of head and raised arms."""
        moved = states.copy()
        n = len(ANGLES)
        for number, start in enumerate((0, n)):
            # Only raised arms get the small movements; an arm at rest is still.
            away = np.abs(states[:, start : start + n] - self.rest[start : start + n]).max(axis=1)
            alive = np.clip(away / np.radians(20), 0, 1)[:, None]
            moved[:, start : start + N_ARM] += alive * _drift(len(states), fps, N_ARM, number)
        moved[:, :-3] = np.clip(moved[:, :-3], np.tile(LOW, 2), np.tile(HIGH, 2))
        moved[:, -3:] += _sway(len(states), fps)
        moved[:, -2] += np.radians(4.5) * nods
        return moved


def _sway(frames: int, fps: float) -> Floats:
    """Slow aperiodic movement of the head (f, 3) in radians."""
    time = np.arange(frames) / fps
    rates = np.array([[0.11, 0.29, 0.47], [0.13, 0.23, 0.53], [0.07, 0.19, 0.37]])
    sizes = np.radians([[2.6, 1.4, 0.7], [1.0, 0.7, 0.4], [1.0, 0.7, 0.3]])
    return (sizes[None] * np.sin(2 * np.pi * rates[None] * time[:, None, None] + rates[None] * 40)).sum(
        axis=2
    )


def _drift(frames: int, fps: float, count: int, number: int) -> Floats:
    """Slow movement of about a degree (f, count) in radians, another for every ``number``."""
    time = np.arange(frames)[:, None, None] / fps
    rates = 0.23 + 0.17 * np.arange(3)[None] + 0.013 * np.arange(count)[:, None]
    phases = 2.4 * np.arange(3)[None] + 1.7 * np.arange(count)[:, None] + 5.0 * number
    return np.radians(0.9) * np.sin(2 * np.pi * rates * time + phases).sum(axis=2)


class SourceRepertoire:
    """Strokes cut from gestures of the user's own; a state is the joints of a pose, flattened.

    A stroke goes from one local minimum of the hands' speed to the next, with a fast movement in
    between; rest is the pose nearest to the median.
    """

    def __init__(self, gestures: Sequence[Gesture], fps: float) -> None:
        self._aspect = gestures[0].aspect
        points, seen = gestures[0].joints * (self._aspect, 1.0), gestures[0].confidence > 0
        self._scale = shoulder_width(points, seen) or USUAL_SHOULDERS
        poses = [resample(gesture, fps) for gesture in gestures]
        self.families = [family for family in (self._strokes(gesture) for gesture in poses) if family]
        if not self.families:
            names = ", ".join(gesture.name or "the gesture" for gesture in gestures)
            raise SemibodyError(f"{names}: the hands hardly move; give gestures with movement")
        self.rest = self._rest(poses[0])
        self._confidence = np.max([np.median(gesture.confidence, axis=0) for gesture in poses], axis=0)

    def _strokes(self, gesture: Gesture) -> list[Stroke]:
        speed = self._speed(gesture)
        slow = [
            0,
            *(np.flatnonzero((speed[1:-1] <= speed[:-2]) & (speed[1:-1] < speed[2:])) + 1),
            len(speed) - 1,
        ]
        strokes, start = [], 0
        for stop in slow[1:]:
            top = speed[start : stop + 1].max()
            if top < 0.8:
                start = stop
            elif self._distance(self._state(gesture, start), self._state(gesture, stop)) > 0.2:
                strokes.append(Stroke(self._state(gesture, start), self._state(gesture, stop)))
                start = stop
        return strokes

    def _speed(self, gesture: Gesture) -> Floats:
        """Of the faster hand, in shoulder widths a second; of hands that are not seen 0."""
        hands = gesture.hands.mean(axis=2) * (self._aspect, 1.0)
        seen = gesture.hands_confidence[..., 0] > 0
        step = np.linalg.norm(np.diff(hands, axis=0, prepend=hands[:1]), axis=-1)
        step[~(seen & np.roll(seen, 1, axis=0))] = 0.0
        return np.convolve(step.max(axis=1), np.ones(3) / 3, mode="same") * gesture.fps / self._scale

    def _rest(self, gesture: Gesture) -> Floats:
        states = gesture.joints[:, HANDS].reshape(len(gesture), -1)
        middle = np.median(states, axis=0)
        return self._state(gesture, int(np.abs(states - middle).sum(axis=1).argmin()))

    @staticmethod
    def _state(gesture: Gesture, frame: int) -> Floats:
        return gesture.joints[frame].ravel()

    def top_speed(self, a: Floats, b: Floats) -> float:
        return _PEAK_OF_MINIMUM_JERK * self._distance(a, b)

    def _distance(self, a: Floats, b: Floats) -> float:
        """How far the farthest hand joint moves, in shoulder widths."""
        moved = (a - b).reshape(N_JOINTS, 2)[HANDS] * (self._aspect, 1.0)
        return float(np.hypot(moved[:, 0], moved[:, 1]).max()) / self._scale

    def vary(self, state: Floats, rng: np.random.Generator) -> Floats:
        varied = state.reshape(N_JOINTS, 2).copy()
        for hand in (slice(HANDS.start, HANDS.start + 21), slice(HANDS.start + 21, HANDS.stop)):
            varied[hand] += rng.normal(0, 0.02 * self._scale, 2)
        return varied.ravel()

    def render(self, states: Floats, nods: Floats, fps: float) -> Gesture:
        joints = states.reshape(len(states), N_JOINTS, 2).copy()
        head = [*range(FACE.start, FACE.stop), 0, 14, 15, 16, 17]
        joints[:, head, 1] += 0.02 * self._scale * nods[:, None]
        confidence = np.tile(self._confidence, (len(states), 1))
        return Gesture(joints, confidence, fps, self._aspect, "planned")
