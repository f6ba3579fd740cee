"""One person: what is drawn for them (``Look``) and the fitted geometry, ready to be posed (``Person``).

Everything is fitted once. Posing is then one matrix product for all frames of a clip: the columns of
``Person.skin`` are bone weights times rest position, so positions = skin @ bone matrices.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semibody.data.synthetic import plain
from semibody.data.synthetic.assets import Array, Assets, Fit, Index

SKIN, CLOTH, HAIR, EYE, TEETH, MOUTH, LASH, SHELL = range(8)
"""Kinds of surface; the shader lights each in its own way."""

UNITS = (
    "mouth-protusion", "mouth-retraction", "mouth-compression", "mouth-corner-puller",
    "mouth-upward-retraction", "mouth-open", "eye-left-closure", "eye-right-closure",
    "eyebrows-left-up", "eyebrows-right-up", "eyebrows-left-inner-up", "eyebrows-right-inner-up",
    "eyebrows-left-down", "eyebrows-right-down", "nose-compression", "mouth-pursing", "mouth-elevation",
)  # fmt: skip
"""Face movements (MakeHuman's expression units) that motion may use, in the order of ``Motion.face``."""

_HAIR_COLOURS = (
    (0.05, 0.04, 0.04), (0.09, 0.06, 0.045), (0.16, 0.10, 0.065), (0.25, 0.16, 0.095), (0.33, 0.17, 0.09),
    (0.45, 0.31, 0.17), (0.60, 0.46, 0.28), (0.72, 0.60, 0.42), (0.42, 0.41, 0.40), (0.74, 0.73, 0.71),
)  # fmt: skip
_OWN_PARTS = {
    EYE: ("helper-l-eye", "helper-r-eye"),
    TEETH: ("helper-upper-teeth", "helper-lower-teeth"),
    MOUTH: ("helper-tongue",),
}
"""Shapes of the base mesh that serve where a folder has no finer part."""
GROUPS = ((SKIN, EYE, TEETH, MOUTH), (CLOTH, SHELL), (HAIR, LASH))
"""Kinds drawn together: those whose back is never seen, cloth, and what fades at its edges."""
_DARK, _DARK_SKIN, _DARK_GAMMA = 150, (1.0, 0.67, 0.50), 0.82
"""Red level below which a skin is dark, the proportions of its colour then, and by how much it is lifted."""
_LOWER_TEETH, _UPPER_TEETH = (0.0, 0.06, 0.03), (0.0, 0.055, -0.01)
"""How far (dm) teeth are moved down and back."""
_PLAIN_TEXTURE = (230, 225, 215, 255)
_LOWEST = -2.2
"""Geometry whose every corner is below this height (dm, rest pose) is never in the picture."""


@dataclass(frozen=True)
class Look:
    """All that is drawn for a person; plain values, so that it can be written into the manifest."""

    seed: int
    sex: float
    age: float
    ancestry: dict[str, float]
    muscle: float
    weight: float
    height: float
    details: dict[str, float]
    skin: str
    skin_tone: tuple[float, float, float]
    eyes: int
    brows: str
    lashes: str
    teeth: str
    hair: str
    hair_colour: tuple[float, float, float]
    hair_volume: float
    cap: float
    clothes: str
    cloth: dict[str, Any] = field(default_factory=dict)

    @property
    def dark_eyes(self) -> bool:
        return self.eyes < 0


def draw_look(seed: int, assets: Assets) -> Look:
    """Draw a person from ``seed``: the same seed and assets give the same person."""
    rng = np.random.default_rng([seed, 1])
    female = bool(rng.random() < 0.5)
    sex = float(rng.uniform(0.0, 0.15) if female else rng.uniform(0.85, 1.0))
    age = float(rng.beta(1.3, 2.0))
    kinds = ("caucasian", "african", "asian")
    main = int(rng.integers(3))
    shares = rng.dirichlet([0.6, 0.6, 0.6]) * 0.35
    shares[main] += 0.65
    skin = _draw_skin(rng, assets, kinds[main], female, age)
    dark = main != 0
    grey = rng.random() < max(0.0, age - 0.35) * 1.4
    palette = (8, 9) if grey else ((0, 0, 1, 1, 2) if dark else (0, 1, 2, 2, 3, 4, 5, 6, 7))
    colour = np.array(_HAIR_COLOURS[int(rng.choice(palette))]) * rng.uniform(0.85, 1.2)
    if rng.random() < 0.03:
        colour = np.clip(colour.mean() + rng.uniform(-0.15, 0.3, 3), 0.03, 0.8)
    return Look(
        seed=seed,
        sex=sex,
        age=age,
        ancestry=dict(zip(kinds, map(float, shares), strict=True)),
        muscle=float(rng.beta(2.5, 2.5)),
        weight=float(rng.beta(2.2, 2.6)),
        height=float(rng.beta(3, 3)),
        details=_draw_details(rng, assets),
        skin=skin,
        skin_tone=_draw_tone(rng),
        eyes=int(rng.integers(len(assets.eye_pictures()) or plain.IRISES) if not dark else -1),
        brows=_draw_brows(rng, assets),
        lashes=str(rng.choice(assets.choices("eyelashes"))) if assets.choices("eyelashes") else "",
        teeth=str(rng.choice(assets.choices("teeth"))) if assets.choices("teeth") else "",
        hair=_draw_hair(rng, assets, female),
        hair_colour=_triple(colour),
        hair_volume=float(rng.uniform(-0.01, 0.06)),
        cap=0.0 if assets.choices("hair") else round(float(rng.uniform(0.05, 0.35)), 4),
        clothes=_draw_clothes(rng, assets, female),
        cloth=_draw_cloth(rng, female),
    )


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    r, g, b = (round(float(v), 4) for v in values)
    return r, g, b


def _draw_skin(rng: np.random.Generator, assets: Assets, ancestry: str, female: bool, age: float) -> str:
    years = "young" if age < 0.4 else ("middleage" if age < 0.72 else "old")
    sex = "_female" if female else "_male"
    names = assets.skins()
    for wanted in ((years, ancestry, sex), (ancestry, sex), (sex,), ()):
        fitting = [n for n in names if all(w in n for w in wanted)]
        if fitting:
            return str(rng.choice(fitting))
    return ""


def _draw_tone(rng: np.random.Generator) -> tuple[float, float, float]:
    light = rng.uniform(0.8, 1.12)
    warmth = rng.uniform(-0.03, 0.03)  # no wider: skin turns orange or purple
    return _triple(light * np.array([1 + warmth, 1.0, 1 - 1.2 * warmth]))


def _draw_details(rng: np.random.Generator, assets: Assets) -> dict[str, float]:
    """Small changes of face, head, neck and torso, each pair of targets drawn independently."""
    details: dict[str, float] = {}
    folders = (
        "head/",
        "forehead/",
        "eyes/",
        "nose/",
        "mouth/",
        "chin/",
        "cheek/",
        "ears/",
        "neck/",
        "torso/",
    )
    for name in assets.target_names:
        if not name.startswith(folders) or "/r-" in name or "age" in name or "trans-in" in name:
            continue
        if "torso-trans" in name or "head-trans" in name or "neck-trans" in name or rng.random() > 0.22:
            continue
        amount = float(min(abs(rng.normal(0, 0.3)), 0.8))
        amount *= 0.6 if name.startswith(("mouth/", "eyes/")) else 1.0
        details[name] = round(amount, 4)
        mirrored = name.replace("/l-", "/r-")
        if mirrored != name:
            details[mirrored] = round(amount * float(rng.uniform(0.85, 1.15)), 4)
    for name in ("breast/female-young-averagemuscle-averageweight-maxcup-averagefirmness",):
        details[name] = round(float(rng.uniform(0, 0.5)), 4)
    return details


def _draw_brows(rng: np.random.Generator, assets: Assets) -> str:
    names = assets.choices("eyebrows")
    if not names:
        return ""

    def slant(name: str) -> float:
        points = assets.fit("eyebrows", name).place(assets.base)
        points = points[points[:, 0] > 0]
        inner, outer = np.percentile(points[:, 0], (25, 60))
        return float(points[points[:, 0] > outer, 1].mean() - points[points[:, 0] < inner, 1].mean())

    # Brows that rise towards the temples make every face angry.
    return str(rng.choice([n for n in names if slant(n) < 0.04] or names))


def _draw_hair(rng: np.random.Generator, assets: Assets, female: bool) -> str:
    names = assets.choices("hair")
    if not names or (not female and rng.random() < 0.08):
        return ""
    short = [n for n in names if "short" in n or "afro" in n] or names
    long = [n for n in names if n not in short or "short0" not in n or rng.random() < 0.35] or names
    return str(rng.choice(long if female else short))


def _draw_clothes(rng: np.random.Generator, assets: Assets, female: bool) -> str:
    if rng.random() < 0.58:
        return ""  # a garment of our own, cut from the body's surface
    fitting = [n for n in assets.choices("clothes") if n.startswith("female") == female]
    return str(rng.choice(fitting)) if fitting else ""


def _draw_cloth(rng: np.random.Generator, female: bool) -> dict[str, Any]:
    import colorsys

    def colour() -> list[float]:
        vivid = rng.random() < 0.55
        saturation = rng.uniform(0.25, 0.8) if vivid else rng.uniform(0.0, 0.2)
        return [round(c, 4) for c in colorsys.hsv_to_rgb(rng.random(), saturation, rng.uniform(0.08, 0.85))]

    return {
        "recolour": bool(rng.random() < 0.9),
        "colour": colour(),
        "second": colour(),
        "pattern": int(
            rng.choice([0, 0, 0, 1, 2, 3, 4, 5])
        ),  # plain, stripes, pinstripes, checks, dots, print
        "scale": round(float(rng.uniform(0.18, 0.6)), 4),
        "neckline": round(float(rng.uniform(0.0, 1.0)), 4),
        "vee": round(float(rng.uniform(0, 1.4) if rng.random() < (0.5 if female else 0.25) else 0), 4),
        "sleeve": round(float(rng.choice([0.3, 0.45, 0.78, 0.86, 0.88]) if rng.random() < 0.95 else 0.1), 4),
        "loose": round(float(rng.uniform(0.06, 0.16)), 4),
        "open_front": bool(rng.random() < 0.25),
    }


@dataclass(frozen=True)
class Person:
    """A fitted person of n corners, m triangles and B bones.

    ``rest`` (n, 3) dm · ``normals`` (n, 3) · ``uv`` (n, 2) · ``layer`` (n,) texture · ``kind`` (n,) surface ·
    ``triangles`` (m, 3), by GROUPS, of each as many as ``groups`` says · ``skin`` (n, 4 B) float32 ·
    ``moving_face`` (k,) corners that face units move, with ``face_units`` (units, k, 3) · ``textures``
    (layers, s, s, 4) uint8 · ``base`` (V, 3) the whole base mesh (landmarks) with ``base_weights`` (V, B) and
    ``base_units`` (units, V, 3) · ``heads``/``tails`` (B, 3).
    """

    look: Look
    rest: Array
    normals: Array
    uv: Array
    layer: NDArray[np.uint8]
    kind: NDArray[np.uint8]
    triangles: Index
    groups: tuple[int, ...]
    skin: Array
    moving_face: Index
    face_units: Array
    textures: NDArray[np.uint8]
    base: Array
    base_weights: Array
    base_units: Array
    bones: tuple[str, ...]
    parents: tuple[int, ...]
    heads: Array
    tails: Array


@dataclass
class _Part:
    rest: Array
    uv: Array
    triangles: Index
    weights: Array
    units: Array
    layer: int
    kind: int


def build_person(look: Look, assets: Assets, texture_size: int = 512) -> Person:
    """Shape, dress and rig a person; about a second."""
    base = shape(look, assets)
    units = _units(assets, look)
    textures: list[NDArray[np.uint8]] = []

    def layer(picture: NDArray[np.uint8]) -> int:
        textures.append(picture)
        return len(textures) - 1

    hidden = np.zeros(len(base), bool)
    parts = []
    for kind, fit, volume in _fits(look, assets):
        hidden[fit.hidden] = True
        placed, uv = fit.place(base), fit.mesh.uv
        if volume:
            normals = _normals(placed, fit.mesh.triangles, fit.mesh.corner_of)
            placed = (placed + volume * normals).astype(np.float32)
        texture = fit.texture
        if kind == EYE and texture is None:
            uv, picture = plain.eye_places(placed), plain.paint_eye(look.seed, look.dark_eyes, texture_size)
        elif texture is None:
            picture = np.full((texture_size, texture_size, 4), _PLAIN_TEXTURE, np.uint8)
        else:
            texture = assets.eye_pictures()[look.eyes] if kind == EYE and look.eyes >= 0 else texture
            picture = _paint(assets.picture(texture, texture_size), kind, look)
        if kind == TEETH:  # speakers show the upper teeth; the lower ones stand behind the lip
            jaw = fit.carry(assets.rig.weights)[:, assets.rig.names.index("jaw")]
            placed = placed - np.where(jaw[:, None] > 0.5, _LOWER_TEETH, _UPPER_TEETH).astype(np.float32)
        moves = np.stack([fit.carry(u) for u in units])
        weights = fit.carry(assets.rig.weights)
        parts.append(_Part(placed, uv, fit.mesh.triangles, weights, moves, layer(picture), kind))
    body = _Part(base[assets.body.corner_of], assets.body.uv, assets.body.triangles,
                 assets.rig.weights[assets.body.corner_of], units[:, assets.body.corner_of],
                 layer(_skin_picture(look, assets, base, texture_size)), SKIN)  # fmt: skip
    if not look.hair and look.cap:
        parts.append(
            _cap(base, body, assets, look, layer(plain.paint_hair(look.seed, look.hair_colour, texture_size)))
        )
    corners = assets.body.corner_of
    if not look.clothes:
        lines = garment_lines(np.stack([base[i].mean(0) for i in assets.rig.heads]), assets.rig.names)
        hands = _hands(body.weights, assets.rig.names)
        shell = _shell(base, body, corners, hands, look, lines, layer(_weave(look.seed, texture_size)))
        parts.append(shell)
        covered = _covered(base[corners], lines, look, margin=-0.3) & ~hands
        body.triangles = body.triangles[~covered[body.triangles].all(axis=1)]
    else:
        body.triangles = body.triangles[~hidden[corners][body.triangles].any(axis=1)]
    ordered = [part for group in GROUPS for part in (*parts, body) if part.kind in group]
    return _assemble(look, ordered, textures, base, units, assets)


def shape(look: Look, assets: Assets) -> Array:
    """The base mesh (V, 3) in the person's proportions: MakeHuman's macro targets, then the details."""
    base = assets.base.copy()
    known = set(assets.target_names)

    def add(name: str, amount: float) -> None:
        if amount > 1e-4 and name in known:
            index, offsets = assets.target(name)
            base[index] += np.float32(amount) * offsets

    sexes = {"female": 1 - look.sex, "male": look.sex}
    ages = {"young": 1 - look.age, "old": look.age}

    def thirds(value: float, name: str) -> dict[str, float]:
        low, high = max(0.0, 1 - 2 * value), max(0.0, 2 * value - 1)
        return {f"min{name}": low, f"average{name}": 1 - low - high, f"max{name}": high}

    for sex, s in sexes.items():
        for age, a in ages.items():
            for ancestry, r in look.ancestry.items():
                add(f"macrodetails/{ancestry}-{sex}-{age}", s * a * r)
            for muscle, m in thirds(look.muscle, "muscle").items():
                for weight, w in thirds(look.weight, "weight").items():
                    add(f"macrodetails/universal-{sex}-{age}-{muscle}-{weight}", s * a * m * w)
            for height, h in thirds(look.height, "height").items():
                add(f"macrodetails/height/{sex}-{age}-averagemuscle-averageweight-{height}", s * a * h * 0.5)
    for name, amount in look.details.items():
        add(name, amount * (sexes["female"] if name.startswith("breast") else 1.0))
    return base


def _units(assets: Assets, look: Look) -> Array:
    main = max(look.ancestry, key=lambda k: look.ancestry[k])
    known = set(assets.target_names)
    units = np.zeros((len(UNITS), len(assets.base), 3), np.float32)
    for row, unit in enumerate(UNITS):
        for ancestry in (main, "caucasian"):
            name = f"expression/units/{ancestry}/{unit}"
            if name in known:
                index, offsets = assets.target(name)
                units[row, index] = offsets
                break
    return units


def _fits(look: Look, assets: Assets) -> list[tuple[int, Fit, float]]:
    wanted: list[tuple[int, str, str, float]] = [
        (EYE, "eyes", "low-poly" if "low-poly" in assets.choices("eyes") else "", 0.0),
        (TEETH, "teeth", look.teeth, 0.0),
        (MOUTH, "tongue", (assets.choices("tongue") or [""])[0], 0.0),
        (CLOTH, "clothes", look.clothes, 0.0),
        (LASH, "eyebrows", look.brows, 0.0),
        (LASH, "eyelashes", look.lashes, 0.0),
        (HAIR, "hair", look.hair, look.hair_volume),
    ]
    fits = [(kind, assets.fit(folder, name), volume) for kind, folder, name, volume in wanted if name]
    fitted = {kind for kind, _, _ in fits}
    return fits + [(k, assets.base_part(*v), 0.0) for k, v in _OWN_PARTS.items() if k not in fitted]


def _paint(picture: NDArray[np.uint8], kind: int, look: Look) -> NDArray[np.uint8]:
    """Colour a texture: hair and lashes by the hair's colour, cloth by the drawn colour, eyes as they are."""
    if kind in (TEETH, MOUTH) or (kind == EYE and not look.dark_eyes):
        return picture
    rgb = picture[..., :3].astype(np.float32) / 255
    alpha = picture[..., 3:]
    seen = alpha[..., 0] > 64
    grey = rgb @ np.array([0.3, 0.59, 0.11], np.float32)
    level = float(np.percentile(grey[seen], 70)) if seen.any() else 0.5
    if kind == EYE:  # MakeHuman's brown is red in bright light
        chroma = np.clip((rgb.max(axis=2) - rgb.min(axis=2) - 0.15) / 0.15, 0, 1)[..., None]
        brown = grey[..., None] * np.array([1.25, 0.88, 0.62], np.float32)
        rgb = rgb * (1 - 0.85 * chroma) + 0.85 * chroma * brown
    elif kind == HAIR:
        detail = np.clip(grey / max(level, 0.05), 0.25, 1.8) ** 0.9
        rgb = detail[..., None] * np.array(look.hair_colour, np.float32)
    elif kind == LASH:
        rgb = np.broadcast_to(np.array(look.hair_colour, np.float32) * 0.55, rgb.shape)
    elif look.cloth["recolour"]:
        detail = np.clip(grey / max(level, 0.12), 0.15, 1.5)
        colour = np.array(look.cloth["colour"], np.float32)
        # What is much brighter or darker than the cloth (a shirt under a suit, buttons) keeps its own colour.
        own = np.clip((np.abs(grey - level) - 0.25) / 0.15, 0, 1)[..., None]
        rgb = own * rgb + (1 - own) * detail[..., None] * colour
    return np.dstack([np.clip(rgb * 255, 0, 255).astype(np.uint8), alpha])


def _skin_picture(look: Look, assets: Assets, base: Array, size: int) -> NDArray[np.uint8]:
    if not look.skin:
        return plain.paint_skin(
            assets.body, base, look.ancestry, look.skin_tone, look.hair_colour, look.seed, size
        )
    picture = assets.picture(assets.skin_picture(look.skin), size)
    skin = picture[..., :3].astype(np.float64) * np.array(look.skin_tone)
    typical = np.median(skin[::8, ::8].reshape(-1, 3), axis=0)
    if typical[0] < _DARK:  # the pack's dark skins are redder and darker than skin in a lit room
        skin = skin * np.clip(np.array(_DARK_SKIN) * typical[0] / typical, 1.0, 1.6) ** 0.85
        skin = 255 * (skin / 255).clip(0, 1) ** _DARK_GAMMA
    rgb = np.clip(skin, 0, 255).astype(np.uint8)
    return np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)])


def _cap(base: Array, body: _Part, assets: Assets, look: Look, layer: int) -> _Part:
    corners = assets.body.corner_of
    normals = _normals(base[corners], body.triangles, corners)
    lifted = _smooth(base, body.triangles, corners, rounds=2)
    rest, triangles = plain.hair_cap(assets.body, base, lifted, normals, look.cap)
    return _Part(rest, body.uv, triangles, body.weights, body.units * 0, layer, HAIR)


def _weave(seed: int, size: int) -> NDArray[np.uint8]:
    """The fine grain of a fabric."""
    rng = np.random.default_rng([seed, 2])
    grain = rng.normal(232, 7, (size, size)) + rng.normal(0, 5, (size, 1)) + rng.normal(0, 5, (1, size))
    grey = np.clip(grain, 0, 255).astype(np.uint8)
    return np.dstack([grey, grey, grey, np.full_like(grey, 255)])


def _shell(
    base: Array, body: _Part, corners: Index, hands: NDArray[np.bool_], look: Look,
    lines: tuple[float, float, float], layer: int,
) -> _Part:  # fmt: skip
    """A garment cut from the body's surface: smoothed so that it hangs, then moved outwards."""
    lifted = _smooth(base, body.triangles, corners, rounds=6)
    normals = _normals(base[corners], body.triangles, corners)
    # Smoothing sinks into shoulders and chest: come out again, then stand off, wider at the waist.
    sunk = -((lifted[corners] - base[corners]) * normals).sum(axis=1, keepdims=True)
    height = np.clip((base[corners][:, 1:2] - 1.0) / 4.0, 0, 1)
    _, shoulder, arm = lines
    along = np.clip((np.abs(base[corners][:, :1]) - shoulder) / arm, 0, 1)  # narrower towards the wrist
    stand = look.cloth["loose"] * (1.6 - 0.8 * height) * (1 - 0.6 * along)
    rest = lifted[corners] + normals * (np.maximum(sunk, 0) + stand)
    kept = _covered(base[corners], lines, look, margin=0.45) & ~hands
    return _Part(rest.astype(np.float32), body.uv, body.triangles[kept[body.triangles].any(axis=1)],
                 body.weights, body.units * 0, layer, SHELL)  # fmt: skip


def garment_lines(heads: Array, bones: tuple[str, ...]) -> tuple[float, float, float]:
    """Height of the neck's root, the shoulder's distance from the middle, from there to the wrist (dm)."""
    at = {name: heads[i] for i, name in enumerate(bones)}
    shoulder = float(at["upperarm01.L"][0])
    return float(at["neck01"][1]), shoulder, float(at["wrist.L"][0]) - shoulder


def _covered(
    points: Array, lines: tuple[float, float, float], look: Look, margin: float
) -> NDArray[np.bool_]:
    """Which rest positions the own garment covers, ``margin`` dm beyond its hems; the shader cuts exactly."""
    neck, shoulder, arm = lines
    along = (np.abs(points[:, 0]) - shoulder) / arm
    front = look.cloth["vee"] * 0.75 if margin < 0 else 0.0
    low = neck - 0.5 + 0.5 * look.cloth["neckline"] - front
    return (points[:, 1] < low + margin) & (along < look.cloth["sleeve"] + margin * 0.3)


def _hands(weights: Array, bones: tuple[str, ...]) -> NDArray[np.bool_]:
    """Which corners belong to a hand: a thumb lies no further out than a sleeve's end, and yet is bare."""
    hand = [i for i, name in enumerate(bones) if name.startswith(("wrist", "metacarpal", "finger"))]
    return np.asarray(weights[:, hand].sum(axis=1) > 0.5)


def _smooth(base: Array, triangles: Index, corners: Index, rounds: int) -> Array:
    edges = corners[np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])]
    edges = np.unique(np.sort(edges, axis=1), axis=0)
    count = np.bincount(edges.ravel(), minlength=len(base)).clip(1)[:, None]
    smooth = base.copy()
    for _ in range(rounds):
        total = np.zeros_like(smooth)
        for axis in range(3):
            total[:, axis] = np.bincount(edges[:, 0], smooth[edges[:, 1], axis], len(base))
            total[:, axis] += np.bincount(edges[:, 1], smooth[edges[:, 0], axis], len(base))
        smooth = np.where(count > 1, 0.5 * smooth + 0.5 * total / count, smooth).astype(np.float32)
    return smooth


def _normals(rest: Array, triangles: Index, corner_of: Index) -> Array:
    """Unit normals (n, 3), the same for corners that share a vertex."""
    a, b, c = (rest[triangles[:, i]] for i in range(3))
    faces = np.cross(b - a, c - a)
    size = int(corner_of.max()) + 1
    total = np.zeros((size, 3))
    for i in range(3):
        for axis in range(3):
            total[:, axis] += np.bincount(corner_of[triangles[:, i]], faces[:, axis], size)
    normals = total[corner_of]
    return (normals / np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-9)).astype(np.float32)


def _assemble(
    look: Look,
    parts: list[_Part],
    textures: list[NDArray[np.uint8]],
    base: Array,
    units: Array,
    assets: Assets,
) -> Person:
    rest, triangles, normals, start = [], [], [], 0
    keep_units, keep_at = [], []
    for part in parts:
        seen = part.triangles[(part.rest[part.triangles][..., 1] > _LOWEST).any(axis=1)]
        used, compact = np.unique(seen, return_inverse=True)
        part.triangles = compact.reshape(-1, 3)
        # Corners at one place share their normal, whatever their uv.
        _, place = np.unique(np.round(part.rest[used], 4), axis=0, return_inverse=True)
        part.rest, part.uv = part.rest[used], part.uv[used]
        part.weights, part.units = part.weights[used], part.units[:, used]
        normals.append(_normals(part.rest, part.triangles, place.ravel()))
        rest.append(part.rest)
        triangles.append(part.triangles + start)
        moved = np.flatnonzero(np.abs(part.units).max(axis=(0, 2)) > 1e-5)
        keep_units.append(part.units[:, moved])
        keep_at.append(moved + start)
        start += len(part.rest)
    points, weights = np.concatenate(rest), np.concatenate([p.weights for p in parts])
    homogeneous = np.concatenate([points, np.ones((len(points), 1), np.float32)], axis=1)
    rig = assets.rig
    return Person(
        look=look,
        rest=points,
        normals=np.concatenate(normals),
        uv=np.concatenate([p.uv for p in parts]),
        layer=np.concatenate([np.full(len(p.rest), p.layer, np.uint8) for p in parts]),
        kind=np.concatenate([np.full(len(p.rest), p.kind, np.uint8) for p in parts]),
        triangles=np.concatenate(triangles),
        groups=tuple(sum(len(p.triangles) for p in parts if p.kind in group) for group in GROUPS),
        skin=(weights[:, :, None] * homogeneous[:, None, :]).reshape(len(points), -1).astype(np.float32),
        moving_face=np.concatenate(keep_at),
        face_units=np.concatenate(keep_units, axis=1),
        textures=np.stack(textures),
        base=base,
        base_weights=rig.weights,
        base_units=units,
        bones=rig.names,
        parents=rig.parents,
        heads=np.stack([base[i].mean(0) for i in rig.heads]),
        tails=np.stack([base[i].mean(0) for i in rig.tails]),
    )
