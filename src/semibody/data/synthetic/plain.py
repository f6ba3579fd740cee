"""Plain people: skin, eyes and hair painted by code, for a body that comes without textures."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from semibody.data.synthetic.assets import Array, Index, Mesh
from semibody.data.synthetic.landmarks import EAR_VERTICES, FACE_VERTICES

Picture = NDArray[np.uint8]
Triple = tuple[float, float, float]

_TONES = {"caucasian": (0.85, 0.66, 0.56), "asian": (0.82, 0.65, 0.51), "african": (0.40, 0.26, 0.19)}
_IRISES = (
    (0.24, 0.14, 0.08), (0.33, 0.21, 0.12), (0.42, 0.33, 0.18), (0.35, 0.40, 0.24),
    (0.36, 0.46, 0.52), (0.30, 0.42, 0.60), (0.45, 0.48, 0.50),
)  # fmt: skip
IRISES = len(_IRISES)

_UPPER_LIP = (48, 49, 50, 51, 52, 53, 54, 64, 63, 62, 61, 60)
_LOWER_LIP = (48, 60, 67, 66, 65, 64, 54, 55, 56, 57, 58, 59)
_IRIS, _PUPIL = 0.155, 0.062
"""Radii in the eye's texture, where 0.5 is the back of the eyeball."""


def paint_skin(
    body: Mesh, base: Array, ancestry: dict[str, float], tone: Triple, hair: Triple, seed: int, size: int
) -> Picture:
    """Skin of one person (size, size, 4): a blotchy tone, lips, brows and the shade of hair on the scalp."""
    rng = np.random.default_rng([seed, 5])
    colour = sum(np.array(_TONES[kind]) * share for kind, share in ancestry.items()) * np.array(tone)
    picture = np.tile(colour.astype(np.float32), (size, size, 1))
    for scale, strength in ((size / 5, 0.025), (size / 24, 0.012), (1.2, 0.03)):
        noise = cv2.GaussianBlur(rng.normal(0, 1, (size, size)).astype(np.float32), (0, 0), scale)
        noise = noise / max(float(noise.std()), 1e-6)
        picture *= 1 + strength * noise[..., None] * np.array([0.7, 1.0, 1.0], np.float32)
    places = _texture_places(body, size)
    face = places[list(FACE_VERTICES)]
    red = colour * np.array([0.92, 0.60, 0.60])
    for outline in (_UPPER_LIP, _LOWER_LIP):
        _fill(picture, face[list(outline)], red, 0.85, size / 200)
    bushy = float(rng.uniform(0.003, 0.007)) * size
    for brow in (face[17:22], face[22:27]):
        _stroke(picture, brow, np.array(hair) * 0.6, bushy, size / 400)
    shade = np.array(hair) * 0.7 + 0.12 * colour
    scalp = body.triangles[on_scalp(base, base[body.corner_of][body.triangles].mean(axis=1))]
    mask = np.zeros((size, size), np.float32)
    for triangle in (_texture_points(body.uv, size)[scalp] * 16).round().astype(np.int32):
        cv2.fillConvexPoly(mask, triangle, 1.0, cv2.LINE_AA, 4)
    mask = cv2.GaussianBlur(mask, (0, 0), size / 90)[..., None]
    picture = picture * (1 - 0.9 * mask) + 0.9 * mask * shade.astype(np.float32)
    return _opaque(picture)


def paint_eye(seed: int, dark: bool, size: int) -> Picture:
    """The eyeball seen from the front (size, size, 4): sclera, iris with its darker rim, pupil."""
    rng = np.random.default_rng([seed, 6])
    iris = np.array(_IRISES[0 if dark else int(rng.integers(IRISES))]) * rng.uniform(0.85, 1.15)
    y, x = (np.mgrid[0:size, 0:size] + 0.5) / size - 0.5
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    rays = sum(np.sin(angle * int(k) + rng.uniform(0, 6)) for k in rng.integers(9, 60, 6))
    sclera = np.array([0.88, 0.86, 0.83]) - np.clip(radius - 0.2, 0, 1)[..., None] * (0.2, 0.6, 0.6)
    ring = np.clip((radius - _PUPIL) / (_IRIS - _PUPIL), 0, 1)
    inner = iris * (1.15 + 0.08 * rays - 0.75 * ring**3)[..., None]
    edge = 1.2 / size
    picture = np.where((radius < _IRIS)[..., None], inner, sclera)
    blend = np.clip((_IRIS - radius) / (3 * edge) + 0.5, 0, 1)[..., None]
    picture = sclera * (1 - blend) + np.where((radius < _IRIS + 4 * edge)[..., None], inner, picture) * blend
    picture = picture * np.clip((radius - _PUPIL) / edge + 0.5, 0.03, 1)[..., None]
    return _opaque(picture)


def eye_places(rest: Array) -> Array:
    """Texture places (n, 2) of eyeball corners (n, 3): the angle from straight ahead grows outwards."""
    places = np.zeros((len(rest), 2), np.float32)
    for side in (rest[:, 0] > 0, rest[:, 0] <= 0):
        if not side.any():
            continue
        around = rest[side] - (rest[side].min(axis=0) + rest[side].max(axis=0)) / 2
        around /= np.linalg.norm(around, axis=1, keepdims=True).clip(1e-6)
        out = np.arccos(np.clip(around[:, 2], -1, 1)) / (2 * np.pi)
        across = around[:, :2] / np.linalg.norm(around[:, :2], axis=1, keepdims=True).clip(1e-6)
        places[side] = 0.5 + out[:, None] * across
    return places


def paint_hair(seed: int, colour: Triple, size: int) -> Picture:
    """Strands (size, size, 4) of one colour."""
    rng = np.random.default_rng([seed, 7])
    fine = cv2.GaussianBlur(rng.normal(0, 1, (size, size)).astype(np.float32), (0, 0), 1.2, sigmaY=9)
    wide = cv2.GaussianBlur(rng.normal(0, 1, (size, size)).astype(np.float32), (0, 0), 6, sigmaY=40)
    strands = 1 + 0.3 * fine / fine.std() + 0.12 * wide / wide.std()
    return _opaque(np.clip(strands, 0.3, 1.7)[..., None] * np.array(colour, np.float32))


def hair_cap(body: Mesh, base: Array, lifted: Array, normals: Array, thick: float) -> tuple[Array, Index]:
    """Hair as a cap over the scalp: places (n, 3) for all of the body's corners, and its triangles.

    ``thick`` dm at the crown; it thins out towards the hairline.
    """
    inside = _hairline(base, base[body.corner_of])
    stand = thick * np.clip(inside / 0.5, 0, 1) ** 0.6
    places = lifted[body.corner_of] + normals * stand[:, None]
    return places.astype(np.float32), body.triangles[(inside[body.triangles] > -0.05).all(axis=1)]


def on_scalp(base: Array, points: Array) -> NDArray[np.bool_]:
    """Which of ``points`` (n, 3) of the rest pose hair grows on."""
    return _hairline(base, points) > 0


def _hairline(base: Array, points: Array) -> Array:
    """How far (dm) above the hairline points lie: high over the brows, past the ears, low in the neck."""
    face, ears = base[list(FACE_VERTICES)], base[list(EAR_VERTICES)]
    brow, chin = face[17:27].mean(axis=0), face[8]
    ear = ears.mean(axis=0)
    front = brow[1] + 0.33 * (brow[1] - chin[1])
    depths = [ear[2] - 0.9, ear[2] - 0.25, ear[2] + 0.15, brow[2] - 0.55, brow[2]]
    heights = [chin[1] + 0.35, chin[1] + 0.5, ear[1] + 0.55, front - 0.1, front]
    line = np.interp(points[:, 2], depths, heights)
    return np.asarray(points[:, 1] - line, np.float32)


def _texture_places(body: Mesh, size: int) -> NDArray[np.float64]:
    """Where in the texture each base vertex lies (V, 2); vertices of the body only."""
    places = np.zeros((int(body.corner_of.max()) + 1, 2))
    places[body.corner_of] = _texture_points(body.uv, size)
    return places


def _texture_points(uv: Array, size: int) -> NDArray[np.float64]:
    return np.stack([uv[:, 0] * size, (1 - uv[:, 1]) * size], axis=1)


def _fill(
    picture: Array, outline: NDArray[np.float64], colour: NDArray[np.float64], share: float, soft: float
) -> None:
    mask = np.zeros(picture.shape[:2], np.float32)
    cv2.fillPoly(mask, [(outline * 16).round().astype(np.int32)], 1.0, cv2.LINE_AA, 4)
    _mix(picture, mask, colour, share, soft)


def _stroke(
    picture: Array, line: NDArray[np.float64], colour: NDArray[np.float64], thick: float, soft: float
) -> None:
    mask = np.zeros(picture.shape[:2], np.float32)
    points = [(line * 16).round().astype(np.int32)]
    cv2.polylines(mask, points, False, 1.0, max(1, round(thick)), cv2.LINE_AA, 4)
    _mix(picture, mask, colour, 0.85, soft)


def _mix(picture: Array, mask: Array, colour: NDArray[np.float64], share: float, soft: float) -> None:
    mask = share * cv2.GaussianBlur(mask, (0, 0), max(soft, 0.5))[..., None]
    picture[:] = picture * (1 - mask) + mask * colour.astype(np.float32)


def _opaque(picture: NDArray[Any]) -> Picture:
    rgb = np.clip(picture * 255, 0, 255).astype(np.uint8)
    return np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)])
