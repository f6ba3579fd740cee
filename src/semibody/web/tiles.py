"""Gestures as small moving drawings: SVG that animates itself, a few kilobytes each.

draw_tile(find_gesture("wave"))              # moves for ever
draw_tile(find_gesture("wave"), still=True)  # for those who asked their system for less motion
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from semibody.pose.skeleton import ARMS
from semibody.types import Floats, Gesture

SIDE = 100
"""Units of the drawing's width and height."""
KEYS = 24
"""Poses of a drawing; between them the browser moves the lines."""
BODY_COLOUR, ARM_COLOUR, HAND_COLOUR = "#9aa3b5", "#6b7488", "#5b5bd6"
MARGIN = 8
FINGERS = tuple((0, *range(first, first + 4)) for first in (1, 5, 9, 13, 17))
"""Joints of a hand from the wrist to each tip."""


def draw_tile(gesture: Gesture, *, still: bool = False) -> str:
    """The upper body, the arms and the hands of a gesture of somebody, as SVG."""
    keys = _keys(gesture)
    if still:  # the pose whose hands are highest says most
        keys = keys[[int(np.argmin(keys[:, [4, 7], 1].min(axis=1)))]]
    points = _fit(keys)
    seconds = gesture.seconds
    neck, nose = points[:, 1], points[:, 0]
    chin = nose + (neck - nose) * (_head(points[0]) / max(np.linalg.norm(neck - nose, axis=1).mean(), 1e-9))
    head = f"<circle r='{_head(points[0]):.1f}' {_moving(('cx', 'cy'), nose, seconds)}"
    shoulders = [2, 1, 5]
    hips = np.stack([points[:, 2] * (1, 0) + (4, SIDE), points[:, 5] * (1, 0) + (-4, SIDE)], axis=1)
    torso = np.concatenate([points[:, [2]], points[:, [5]], hips[:, [1]], hips[:, [0]]], axis=1)
    parts = [
        _line("polygon", torso, seconds, f"fill='{BODY_COLOUR}' fill-opacity='.22'"),
        f"<g fill='{BODY_COLOUR}' fill-opacity='.45'>{head}</g>",
        _line("polyline", points[:, shoulders], seconds,
              f"fill='none' stroke='{BODY_COLOUR}' stroke-width='3'"),
        _line("polyline", np.stack([neck, chin], axis=1), seconds,
              f"fill='none' stroke='{BODY_COLOUR}' stroke-width='3'"),
    ]  # fmt: skip
    for hand, shoulder, elbow, wrist in ARMS:
        arm = points[:, [shoulder, elbow, wrist]]
        parts.append(_line("polyline", arm, seconds, f"fill='none' stroke='{ARM_COLOUR}' stroke-width='3.4'"))
        joints = points[:, hand]
        parts += [
            _line(
                "polyline",
                joints[:, list(f)],
                seconds,
                f"fill='none' stroke='{HAND_COLOUR}' stroke-width='1.9'",
            )
            for f in FINGERS
        ]
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {SIDE} {SIDE}' stroke-linecap='round' "
        f"stroke-linejoin='round'>{''.join(parts)}</svg>"
    )


def _keys(gesture: Gesture) -> Floats:
    """Some poses (k, joint, 2) in units of the picture's height; the last is the first again."""
    frames = np.linspace(0, len(gesture), KEYS, endpoint=False).astype(int)
    joints = gesture.joints[frames] * (gesture.aspect, 1.0)
    return np.concatenate([joints, joints[:1]])


def _fit(keys: Floats) -> Floats:
    """Poses moved and scaled so that head, arms and hands stay in the drawing."""
    seen = np.concatenate([keys[:, :8], *(keys[:, hand] for hand, *_ in ARMS)], axis=1)
    shoulders = np.linalg.norm(keys[:, 2] - keys[:, 5], axis=1).mean()
    low, high = seen.min(axis=(0, 1)), seen.max(axis=(0, 1))
    low = np.minimum(low, keys[:, 0].min(axis=0) - 0.55 * shoulders)  # room for the head
    scale = min((SIDE - 2 * MARGIN) / (high - low).max(), 42 / shoulders)
    middle = (keys[:, 1, 0].mean(), (low[1] + high[1]) / 2)
    reach = np.abs(seen[..., 0] - middle[0]).max()
    scale = min(scale, (SIDE / 2 - MARGIN) / reach)
    return np.asarray((keys - middle) * scale + SIDE / 2)


def _head(pose: Floats) -> float:
    return float(0.33 * np.linalg.norm(pose[2] - pose[5]))


def _line(shape: str, points: Floats, seconds: float, style: str) -> str:
    """A line or an area through points (k, n, 2)."""
    texts = [" ".join(f"{x:.1f},{y:.1f}" for x, y in pose) for pose in points]
    return f"<{shape} {style} points='{texts[0]}'>{_animate('points', texts, seconds)}</{shape}>"


def _moving(names: tuple[str, str], points: Floats, seconds: float) -> str:
    """The attributes of a circle whose middle moves through points (k, 2), and its end."""
    columns = [[f"{value:.1f}" for value in points[:, axis]] for axis in (0, 1)]
    first = " ".join(f"{name}='{texts[0]}'" for name, texts in zip(names, columns, strict=True))
    moved = "".join(_animate(name, texts, seconds) for name, texts in zip(names, columns, strict=True))
    return f"{first}>{moved}</circle>"


def _animate(name: str, values: Sequence[str], seconds: float) -> str:
    if len(set(values)) == 1:
        return ""
    return (
        f"<animate attributeName='{name}' dur='{seconds:.1f}s' repeatCount='indefinite' "
        f"values='{';'.join(values)}'/>"
    )
