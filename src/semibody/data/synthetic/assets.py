"""Reads a MakeHuman data folder: base mesh hm08, rig, targets and fitted parts (hair, clothes, eyes …).

Units are decimetres, y up, z forward, +x the person's left. The formats are MakeHuman's own text files:
``.obj``, ``.target`` (index and offset), ``.mhclo`` (barycentric fit), ``.mhskel`` and ``.mhw`` (rig).
"""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semibody.media import read_image
from semibody.types import SemibodyError

Array = NDArray[np.float32]
Index = NDArray[np.int64]

_REQUIRED = ("3dobjs/base.obj", "rigs/default.mhskel", "rigs/default_weights.mhw", "targets", "skins", "eyes")


@dataclass(frozen=True)
class Mesh:
    """Unique pairs of vertex and uv: ``corner_of`` (n,) the vertex, ``uv`` (n, 2), ``triangles`` (m, 3)."""

    corner_of: Index
    uv: Array
    triangles: Index


@dataclass(frozen=True)
class Fit:
    """How a part hangs on the base mesh: v = Σ weights·base[vertices] + offsets·scale.

    ``scales`` per axis: two base vertices and the distance they have where the scale is 1.
    """

    vertices: Index
    weights: Array
    offsets: Array
    scales: tuple[tuple[int, int, float], ...]
    mesh: Mesh
    hidden: Index
    texture: Path | None

    def place(self, base: Array) -> Array:
        """Positions (n, 3) of the part's corners on a body whose vertices are ``base``."""
        size = np.array(
            [abs(base[a, axis] - base[b, axis]) / d for axis, (a, b, d) in enumerate(self.scales)],
            np.float32,
        )
        return (self.carry(base) + (self.offsets * size)[self.mesh.corner_of]).astype(np.float32)

    def carry(self, values: Array) -> Array:
        """Values (V, k) of base vertices carried to the part's corners (n, k): weights, displacements."""
        mixed = np.einsum("vi,vik->vk", self.weights, values[self.vertices])
        return mixed[self.mesh.corner_of].astype(np.float32)


@dataclass(frozen=True)
class Rig:
    """Bones in the order parents first. ``heads``/``tails`` name joints; ``weights`` (V, bones) is dense."""

    names: tuple[str, ...]
    parents: tuple[int, ...]
    heads: tuple[Index, ...]
    tails: tuple[Index, ...]
    weights: Array


class Assets:
    """A MakeHuman data folder, parsed once per process and kept.

    Raises SemibodyError naming the file that is missing or damaged.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        for name in _REQUIRED:
            if not (self.folder / name).exists():
                raise SemibodyError(
                    f"{self.folder / name}: not found; give --assets a MakeHuman data folder (base mesh hm08)"
                )
        self.base, groups = _read_obj(self.folder / "3dobjs/base.obj")
        self.body = groups["body"]
        self.rig = _read_rig(self.folder, len(self.base))
        self._fits: dict[Path, Fit] = {}
        self._targets: dict[str, tuple[Index, Array]] = {}
        self._pictures: dict[tuple[Path, int], NDArray[np.uint8]] = {}

    def fingerprint(self) -> str:
        """Changes when files of the folder are added, lost or exchanged: a hash of their names and sizes."""
        files = sorted(p for p in self.folder.rglob("*") if p.is_file())
        lines = [f"{p.relative_to(self.folder).as_posix()} {p.stat().st_size}" for p in files]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]

    def target(self, name: str) -> tuple[Index, Array]:
        """A shape change: vertex numbers (k,) and offsets (k, 3)."""
        if name not in self._targets:
            self._targets[name] = _read_target(self.folder / "targets" / f"{name}.target")
        return self._targets[name]

    @functools.cached_property
    def target_names(self) -> tuple[str, ...]:
        root = self.folder / "targets"
        return tuple(sorted(p.relative_to(root).with_suffix("").as_posix() for p in root.rglob("*.target")))

    def choices(self, kind: str) -> list[str]:
        """Names of the parts of a kind (hair, clothes …) this folder holds."""
        return sorted(p.stem for p in (self.folder / kind).glob("*/*.mhclo"))

    def skins(self) -> list[str]:
        return sorted(p.parent.name for p in (self.folder / "skins").glob("*/*.mhmat"))

    def fit(self, kind: str, name: str) -> Fit:
        path = self.folder / kind / name / f"{name}.mhclo"
        if path not in self._fits:
            self._fits[path] = _read_fit(path)
        return self._fits[path]

    def picture(self, path: Path, size: int) -> NDArray[np.uint8]:
        """A texture as uint8 (size, size, 4) RGBA; a lost or damaged file raises SemibodyError."""
        import cv2

        key = (path, size)
        if key not in self._pictures:
            white, black = read_image(path), read_image(path, background=(0, 0, 0))
            # Over white and over black the pictures differ by exactly what is transparent.
            alpha = 255 - (white.astype(np.int16) - black).max(axis=2).clip(0, 255)
            opaque = np.maximum(alpha, 1)[..., None]
            colour = (black.astype(np.int32) * 255 // opaque).clip(0, 255)
            rgba = np.dstack([colour, alpha]).astype(np.uint8)
            self._pictures[key] = cv2.resize(rgba, (size, size), interpolation=cv2.INTER_AREA)
        return self._pictures[key]

    def skin_picture(self, name: str) -> Path:
        return _texture_of(next((self.folder / "skins" / name).glob("*.mhmat")))

    def eye_pictures(self) -> list[Path]:
        return sorted((self.folder / "eyes" / "materials").glob("*_eye.png"))


@functools.lru_cache(maxsize=2)
def load_assets(folder: str) -> Assets:
    return Assets(folder)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise SemibodyError(f"{path}: cannot be read ({error.strerror}); the assets are incomplete") from None


def _read_obj(path: Path) -> tuple[Array, dict[str, Mesh]]:
    vertices: list[list[float]] = []
    uvs: list[list[float]] = []
    faces: dict[str, list[tuple[int, int]]] = {}
    group = ""
    try:
        for line in _lines(path):
            kind, _, rest = line.partition(" ")
            if kind == "v":
                vertices.append([float(x) for x in rest.split()[:3]])
            elif kind == "vt":
                uvs.append([float(x) for x in rest.split()[:2]])
            elif kind == "g":
                group = rest.strip()
            elif kind == "f":
                corners = [
                    (int(c.split("/")[0]) - 1, int([*c.split("/"), "0"][1] or 0) - 1) for c in rest.split()
                ]
                triangles = faces.setdefault(group, [])
                for i in range(1, len(corners) - 1):
                    triangles += [corners[0], corners[i], corners[i + 1]]
    except (ValueError, IndexError):
        raise SemibodyError(f"{path}: not a readable mesh; unpack the assets again") from None
    texcoords = np.array(uvs or [[0.0, 0.0]], np.float32)
    meshes = {}
    for name, corners in faces.items():
        pairs, inverse = np.unique(np.array(corners), axis=0, return_inverse=True)
        meshes[name] = Mesh(pairs[:, 0], texcoords[pairs[:, 1]], inverse.reshape(-1, 3))
    return np.array(vertices, np.float32), meshes


def _read_target(path: Path) -> tuple[Index, Array]:
    text = " ".join(line for line in _lines(path) if line and not line.startswith("#"))
    try:
        table = np.array(text.split(), np.float32).reshape(-1, 4)
    except ValueError:
        raise SemibodyError(f"{path}: not a readable target; unpack the assets again") from None
    return table[:, 0].astype(np.int64), table[:, 1:]


def _read_fit(path: Path) -> Fit:
    scales: dict[str, tuple[int, int, float]] = {}
    rows: list[list[float]] = []
    hidden: list[int] = []
    obj, material, section = "", "", ""
    for line in _lines(path):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] in ("verts", "delete_verts"):
            section = words[0]
        elif words[0][0].isalpha():  # settings may stand between the word verts and its rows
            if words[0] == "obj_file":
                obj = words[1]
            elif words[0] == "material":
                material = words[1]
            elif words[0] in ("x_scale", "y_scale", "z_scale"):
                scales[words[0][0]] = (int(words[1]), int(words[2]), float(words[3]))
        elif section == "verts":
            numbers = [float(w) for w in words]
            rows.append(numbers if len(numbers) >= 9 else [numbers[0]] * 3 + [1.0, 0, 0, 0, 0, 0])
        elif section == "delete_verts":
            hidden += _ranges(line)
    table = np.array([r[:9] for r in rows], np.float32)
    _, groups = _read_obj(path.parent / obj)
    mesh = _joined(list(groups.values()))
    return Fit(
        table[:, :3].astype(np.int64),
        table[:, 3:6],
        table[:, 6:9],
        (scales["x"], scales["y"], scales["z"]),
        mesh,
        np.array(hidden, np.int64),
        _texture_of(path.parent / material) if material else None,
    )


def _joined(meshes: list[Mesh]) -> Mesh:
    starts = np.cumsum([0] + [len(m.corner_of) for m in meshes])
    return Mesh(
        np.concatenate([m.corner_of for m in meshes]),
        np.concatenate([m.uv for m in meshes]),
        np.concatenate([m.triangles + s for m, s in zip(meshes, starts, strict=False)]),
    )


def _ranges(line: str) -> list[int]:
    numbers: list[int] = []
    words = line.replace("-", " - ").split()
    i = 0
    while i < len(words):
        if i + 2 < len(words) and words[i + 1] == "-":
            numbers += range(int(words[i]), int(words[i + 2]) + 1)
            i += 3
        else:
            numbers.append(int(words[i]))
            i += 1
    return numbers


def _texture_of(material: Path) -> Path:
    for line in _lines(material):
        words = line.split()
        if words and words[0] == "diffuseTexture":
            return material.parent / words[1]
    raise SemibodyError(f"{material}: names no diffuseTexture; the assets are incomplete")


_KEPT = ("root", "spine", "clavicle", "shoulder", "upperarm", "lowerarm", "wrist", "metacarpal", "finger",
         "neck", "head", "jaw", "eye.", "tongue00", "tongue01", "tongue02", "tongue03")  # fmt: skip


def _read_rig(folder: Path, vertices: int) -> Rig:
    """The bones that move; the weights of all others (face muscles, legs, toes) go to the nearest mover."""
    try:
        skeleton = json.loads((folder / "rigs/default.mhskel").read_text(encoding="utf-8"))
        tables = json.loads((folder / "rigs/default_weights.mhw").read_text(encoding="utf-8"))["weights"]
        bones, joints = skeleton["bones"], skeleton["joints"]
    except (OSError, ValueError, KeyError) as error:
        raise SemibodyError(
            f"{folder / 'rigs'}: not a readable rig ({error}); unpack the assets again"
        ) from None

    def depth(name: str) -> int:
        return 0 if bones[name]["parent"] is None else 1 + depth(bones[name]["parent"])

    def mover(name: str) -> str:
        return name if name.startswith(_KEPT) else mover(bones[name]["parent"])

    names = tuple(sorted((n for n in bones if n.startswith(_KEPT)), key=lambda n: (depth(n), n)))
    place = {n: i for i, n in enumerate(names)}
    parents = tuple(-1 if bones[n]["parent"] is None else place[mover(bones[n]["parent"])] for n in names)
    weights = np.zeros((vertices, len(names)), np.float32)
    for bone, table in tables.items():
        pairs = np.array(table, np.float64).reshape(-1, 2)
        np.add.at(weights[:, place[mover(bone)]], pairs[:, 0].astype(np.int64), pairs[:, 1])
    weights[weights.sum(1) == 0, place["root"]] = 1
    weights /= weights.sum(1, keepdims=True)
    heads = tuple(np.array(joints[bones[n]["head"]], np.int64) for n in names)
    tails = tuple(np.array(joints[bones[n]["tail"]], np.int64) for n in names)
    return Rig(names, parents, heads, tails, weights)
