"""Camera, light and rooms: everything around a person, drawn per clip."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from semibody.data.synthetic.landmarks import FACE_VERTICES
from semibody.data.synthetic.person import Person
from semibody.data.synthetic.render import Scene
from semibody.pose.frame import ABOVE, BELOW, MARGIN
from semibody.types import FACE, HANDS

_PLANE = 0.45
"""Depth (dm) at which the picture's height is measured."""

Floats = NDArray[np.float64]
Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Drawn:
    scene: Scene
    parameters: dict[str, Any]


def draw_scene(
    person: Person,
    rng: np.random.Generator,
    size: int,
    kind: Literal["full", "head"],
    backgrounds: list[Picture],
    joints: Floats,
) -> Drawn:
    """Draw the surroundings of a clip.

    ``backgrounds`` are the user's own pictures (may be empty); ``joints`` (f, 128, 3) where the person will
    move, which decides the framing.
    """
    crown = float(person.rest[:, 1].max())
    chin = float(person.heads[person.bones.index("jaw"), 1]) - 0.75
    head = crown - chin
    field = np.deg2rad(rng.uniform(20, 34))
    if kind == "full":
        centre, height = _frame_body(joints, crown, head, field, rng)
    else:
        height = head / rng.uniform(0.5, 0.68)
        top = crown + height * rng.uniform(0.1, 0.2)
        centre = np.array([rng.normal(0, 0.018) * height, top - height / 2, _PLANE])
    distance = height / 2 / np.tan(field / 2)
    yaw, rise = np.deg2rad(rng.normal(0, 7)), np.deg2rad(rng.normal(2, 3))
    eye = centre + distance * np.array([np.sin(yaw) * np.cos(rise), np.sin(rise), np.cos(yaw) * np.cos(rise)])
    roll = np.deg2rad(rng.normal(0, 0.8))
    view = _look_at(eye, centre, roll)
    projection = _perspective(field, distance * 0.4, distance * 1.8)

    key_direction = _direction(rng.uniform(-65, 65), rng.uniform(15, 55))
    fill_direction = _direction(-np.sign(key_direction[0]) * rng.uniform(30, 90), rng.uniform(-5, 30))
    warmth = rng.uniform(-0.12, 0.12)
    key = rng.uniform(0.75, 1.35) * np.array([1 + warmth, 1.0, 1 - warmth])
    fill = rng.uniform(0.12, 0.45) * np.array([1 - 0.6 * warmth, 1.0, 1 + 0.6 * warmth])
    sky = rng.uniform(0.22, 0.5) * np.array([1.0, 1.0, 1.04])
    ground = sky * rng.uniform(0.45, 0.8) * np.array([1.05, 1.0, 0.94])
    exposure = rng.uniform(0.85, 1.1) / (0.45 * key.mean() + sky.mean() + 0.4 * fill.mean())
    background, room = draw_background(rng, size, backgrounds, warmth)
    scene = Scene(
        view_projection=projection @ view,
        light_projection=_light(key_direction, centre),
        eye=eye,
        key_direction=key_direction,
        key=key,
        fill_direction=fill_direction,
        fill=fill,
        sky=sky,
        ground=ground,
        exposure=float(exposure),
        background=background,
        mouth=_mouth(person),
    )
    parameters = {
        "field_of_view": float(np.rad2deg(field)), "camera_yaw": float(np.rad2deg(yaw)),
        "camera_rise": float(np.rad2deg(rise)), "roll": float(np.rad2deg(roll)), "head_share": head / height,
        "key_direction": key_direction.tolist(), "key": key.tolist(), "fill": fill.tolist(),
        "sky": sky.tolist(), "exposure": float(exposure), "background": room,
    }  # fmt: skip
    return Drawn(scene, parameters)


def _frame_body(
    joints: Floats, crown: float, head: float, field: float, rng: np.random.Generator
) -> tuple[Floats, float]:
    """Middle and height (dm) of what the camera shows: EMTD's rule, with hands in view in nearly all frames.

    From the brows to the lowest of elbows and wrists plus a margin, then lower and wider as the hands need;
    what is nearer to the camera counts as it will appear.
    """
    margin = MARGIN * rng.uniform(0.85, 1.2)
    spare = rng.uniform(0.02, 0.06)
    brows, arms, hands = joints[:, FACE][:, 17:27], joints[:, [3, 4, 6, 7]], joints[:, HANDS]
    across = float(joints[:, 1, 0].mean()) + rng.normal(0, 0.018) * 3.5 * head
    centre, height = np.array([across, crown - 1.6 * head, _PLANE]), 3.5 * head
    for _ in range(4):
        distance = height / 2 / np.tan(field / 2)

        def seen(points: Floats, centre: Floats = centre, distance: float = distance) -> Floats:
            nearer = distance / (distance - (points[..., 2:] - _PLANE))
            return np.asarray((points - centre)[..., :2] * nearer + centre[:2])

        top, low = seen(brows)[..., 1].max(), seen(arms)[..., 1].min()
        person = top - low
        high = max(top + ABOVE * margin * person, crown + spare * height)
        lowest = np.percentile(seen(hands)[..., 1].min(axis=1), 3) - spare * height
        low = min(low - BELOW * margin * person, lowest)
        wide = 2 * np.percentile(np.abs(seen(hands)[..., 0] - across).max(axis=1), 95) * (1 + spare)
        height = float(np.clip(max(high - low, wide), head / 0.34, head / 0.21))
        centre = np.array([across, high - height / 2, _PLANE])
    return centre, height


def _mouth(person: Person) -> Floats:
    """Between the lips, in the rest pose."""
    inner = list(FACE_VERTICES[60:68])
    return person.base[inner].mean(axis=0).astype(np.float64)


def _direction(yaw: float, rise: float) -> Floats:
    y, r = np.deg2rad(yaw), np.deg2rad(rise)
    return np.array([np.sin(y) * np.cos(r), np.sin(r), np.cos(y) * np.cos(r)], dtype=np.float64)


def _look_at(eye: Floats, at: Floats, roll: float) -> Floats:
    back = (eye - at) / np.linalg.norm(eye - at)
    up = np.array([np.sin(roll), np.cos(roll), 0])
    side = np.cross(up, back)
    side /= np.linalg.norm(side)
    view = np.eye(4)
    view[:3, :3] = np.stack([side, np.cross(back, side), back])
    view[:3, 3] = -view[:3, :3] @ eye
    return view


def _perspective(field: float, near: float, far: float) -> Floats:
    f = 1 / np.tan(field / 2)
    matrix = np.zeros((4, 4))
    matrix[0, 0] = matrix[1, 1] = f
    matrix[2, 2], matrix[2, 3] = (far + near) / (near - far), 2 * far * near / (near - far)
    matrix[3, 2] = -1
    return matrix


def _light(direction: Floats, centre: Floats, reach: float = 6.5) -> Floats:
    view = _look_at(centre + direction * 20, centre, 0.0)
    ortho = np.diag([1 / reach, 1 / reach, -1 / 14.0, 1.0])
    ortho[2, 3] = -20 / 14.0
    return ortho @ view


# --- backgrounds -----------------------------------------------------------------------------------------


def draw_background(
    rng: np.random.Generator, size: int, pictures: list[Picture], warmth: float
) -> tuple[Picture, str]:
    """A picture (size, size, 3) out of focus and its name: room, gradient or the user's own."""
    import cv2

    if pictures and rng.random() < 0.6:
        picture = _random_crop(rng, pictures[int(rng.integers(len(pictures)))], size)
        name = "picture"
    elif rng.random() < 0.22:
        picture, name = _gradient(rng, size), "gradient"
    else:
        picture, name = _room(rng, size), "room"
    blur = size * (rng.uniform(0.004, 0.022) if name != "gradient" else 0.03)
    soft = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), blur)
    cast = np.array([1 + 0.5 * warmth, 1.0, 1 - 0.5 * warmth])
    soft = soft * cast * rng.uniform(0.7, 1.05)
    return np.clip(soft + rng.normal(0, 0.8, soft.shape), 0, 255).astype(np.uint8), name


def _random_crop(rng: np.random.Generator, picture: Picture, size: int) -> Picture:
    import cv2

    side = int(min(picture.shape[:2]) * rng.uniform(0.6, 1.0))
    y, x = (int(rng.integers(n - side + 1)) for n in picture.shape[:2])
    return cv2.resize(picture[y : y + side, x : x + side], (size, size), interpolation=cv2.INTER_AREA)


def _colour(rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]) -> Floats:
    return (
        np.array(
            colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(*value)), dtype=np.float64
        )
        * 255
    )


def _gradient(rng: np.random.Generator, size: int) -> Picture:
    y, x = np.mgrid[0:size, 0:size] / size
    middle = rng.uniform(0.25, 0.75, 2)
    distance = np.hypot(x - middle[0], y - middle[1])[..., None]
    a, b = _colour(rng, (0, 0.35), (0.5, 0.95)), _colour(rng, (0, 0.4), (0.15, 0.6))
    return np.clip(a + (b - a) * np.clip(distance * rng.uniform(0.8, 1.3), 0, 1), 0, 255).astype(np.uint8)


def _room(rng: np.random.Generator, size: int) -> Picture:
    """A wall with a lit side, perhaps a window, shelves, pictures, a lamp, a plant, a table's edge."""
    wall = _colour(rng, (0.03, 0.3), (0.4, 0.92))
    y, x = np.mgrid[0:size, 0:size] / size
    side = rng.uniform(-0.5, 0.5)
    shade = 1 + side * (x - 0.5) - rng.uniform(0, 0.35) * (y - 0.3)
    canvas = np.clip(wall * shade[..., None], 0, 255).astype(np.float32)
    if rng.random() < 0.3:  # a corner of the room
        edge = rng.uniform(0.1, 0.9)
        canvas[x > edge + 0.02 * (y - 0.5)] *= rng.uniform(0.65, 0.88)
    things = [_window, _shelf, _frames, _frames, _lamp, _plant, _curtain, _panel]
    count = int(rng.integers(1, 5))
    for i in rng.choice(len(things), count, replace=False):
        things[i](canvas, rng)
    if rng.random() < 0.35:
        top = int(size * rng.uniform(0.72, 0.9))
        canvas[top:] = (
            _colour(rng, (0.1, 0.6), (0.2, 0.7)) * np.linspace(1.05, 0.8, size - top)[:, None, None]
        )
    return np.clip(canvas, 0, 255).astype(np.uint8)


def _box(canvas: NDArray[np.float32], x0: float, y0: float, x1: float, y1: float) -> tuple[slice, slice]:
    size = len(canvas)
    cut = [int(np.clip(v, 0, 1) * size) for v in (y0, y1, x0, x1)]
    return slice(cut[0], cut[1]), slice(cut[2], cut[3])


def _window(canvas: NDArray[np.float32], rng: np.random.Generator) -> None:
    x, y, w, h = (
        rng.uniform(-0.1, 0.75),
        rng.uniform(-0.1, 0.15),
        rng.uniform(0.2, 0.4),
        rng.uniform(0.4, 0.7),
    )
    canvas[_box(canvas, x - 0.015, y - 0.015, x + w + 0.015, y + h + 0.015)] = _colour(
        rng, (0, 0.15), (0.6, 0.95)
    )
    glass = _box(canvas, x, y, x + w, y + h)
    rows = canvas[glass].shape[0]
    low = _colour(rng, (0.1, 0.5), (0.3, 0.7))
    sky = np.linspace(0, 1, max(rows, 1))[:, None, None] * (low - 235) + 235
    canvas[glass] = sky
    bar = _box(canvas, x + w / 2 - 0.008, y, x + w / 2 + 0.008, y + h)
    canvas[bar] = 225


def _shelf(canvas: NDArray[np.float32], rng: np.random.Generator) -> None:
    left, width, wood = rng.uniform(-0.1, 0.6), rng.uniform(0.3, 0.55), _colour(rng, (0.1, 0.6), (0.2, 0.8))
    for level in np.arange(rng.uniform(0.08, 0.25), 0.95, rng.uniform(0.17, 0.26)):
        x = left
        while x < left + width - 0.02:
            book = rng.uniform(0.012, 0.035)
            if rng.random() < 0.85:
                tall = rng.uniform(0.07, 0.13)
                canvas[_box(canvas, x, level - tall, x + book, level)] = _colour(
                    rng, (0.1, 0.75), (0.15, 0.85)
                )
            x += book
        canvas[_box(canvas, left - 0.01, level, left + width + 0.01, level + 0.014)] = wood


def _frames(canvas: NDArray[np.float32], rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(1, 4))):
        x, y, w, h = (
            rng.uniform(0, 0.85),
            rng.uniform(0.03, 0.45),
            rng.uniform(0.1, 0.24),
            rng.uniform(0.1, 0.26),
        )
        canvas[_box(canvas, x, y, x + w, y + h)] = _colour(rng, (0, 0.5), (0.05, 0.9))
        canvas[_box(canvas, x + 0.012, y + 0.012, x + w - 0.012, y + h - 0.012)] = _colour(
            rng, (0, 0.2), (0.7, 1)
        )
        m = 0.03
        canvas[_box(canvas, x + m, y + m, x + w - m, y + h - m)] = _colour(rng, (0.1, 0.8), (0.2, 0.9))


def _lamp(canvas: NDArray[np.float32], rng: np.random.Generator) -> None:
    import cv2

    size = len(canvas)
    x, y, r = rng.uniform(0, 1), rng.uniform(0.05, 0.6), rng.uniform(0.03, 0.08)
    yy, xx = np.mgrid[0:size, 0:size] / size
    glow = np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / (2 * (3.2 * r) ** 2))
    canvas += (glow * rng.uniform(40, 110))[..., None] * np.array([1.0, 0.85, 0.6])
    shade = np.array([[x - r, y + r], [x + r, y + r], [x + 0.6 * r, y - r], [x - 0.6 * r, y - r]]) * size
    cv2.fillConvexPoly(canvas, shade.astype(np.int32), (255, 238, 200), lineType=cv2.LINE_AA)


def _plant(canvas: NDArray[np.float32], rng: np.random.Generator) -> None:
    import cv2

    size = len(canvas)
    x, y = rng.uniform(0, 1), rng.uniform(0.5, 0.95)
    for _ in range(int(rng.integers(12, 30))):
        angle, length = rng.uniform(-2.7, -0.4), rng.uniform(0.08, 0.3)
        tip = (int((x + length * np.cos(angle)) * size), int((y + length * np.sin(angle)) * size))
        green = np.array([30, 70, 25]) * rng.uniform(0.6, 2.0) + rng.uniform(0, 25, 3)
        thick = max(1, int(size * rng.uniform(0.008, 0.025)))
        cv2.line(canvas, (int(x * size), int(y * size)), tip, tuple(map(float, green)), thick, cv2.LINE_AA)
    canvas[_box(canvas, x - 0.05, y, x + 0.05, y + 0.12)] = _colour(rng, (0.1, 0.6), (0.3, 0.85))


def _curtain(canvas: NDArray[np.float32], rng: np.random.Generator) -> None:
    left = rng.choice([-0.05, 0.75]) + rng.uniform(-0.05, 0.05)
    cut = _box(canvas, left, 0, left + rng.uniform(0.2, 0.35), 1)
    columns = np.arange(canvas[cut].shape[1]) / len(canvas)
    folds = 0.82 + 0.18 * np.sin(columns * rng.uniform(90, 180) + 2 * np.sin(columns * 31))
    canvas[cut] = _colour(rng, (0.05, 0.6), (0.3, 0.9)) * folds[None, :, None]


def _panel(canvas: NDArray[np.float32], rng: np.random.Generator) -> None:
    """Wood panels, bricks or tiles all over the wall."""
    size = len(canvas)
    wide, tall = rng.uniform(0.06, 0.2), rng.choice([0.05, 0.08, 2.0])
    y, x = np.mgrid[0:size, 0:size] / size
    row = np.floor(y / tall)
    column = np.floor(x / wide + 0.5 * (row % 2))
    tone = 1 + 0.1 * np.sin(column * 12.99 + row * 78.2) * np.cos(column * 4.1 + row * 9.7)
    joint = (np.abs((x / wide + 0.5 * (row % 2)) % 1) < 0.05) | (np.abs((y / tall) % 1) < 0.08 * (tall < 1))
    canvas *= (tone * np.where(joint, 0.78, 1.0))[..., None]
