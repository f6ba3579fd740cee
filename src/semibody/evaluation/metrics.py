"""What can be measured: the list of metrics, and how each is made of what was gathered.

Standard metrics carry the field's names and are only computed with the field's networks. A stand-in carries
the name of what it is made of (``FID-effnet``) and never appears under the standard's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semibody.evaluation import distributions, faces, frames, hands, lips
from semibody.evaluation.cache import key_of
from semibody.evaluation.distributions import Interval
from semibody.evaluation.extract import KINDS
from semibody.evaluation.gather import Gathered, Side
from semibody.evaluation.protocol import Item
from semibody.pose.hands import hand_confidence, hand_variation
from semibody.types import LEFT_HAND, RIGHT_HAND, Floats, SemibodyError

Series = tuple[NDArray[Any], NDArray[Any]]
"""Numbers of frames and a value for each, to be drawn over time."""

_JACKKNIFE_GROUPS = 10


@dataclass(frozen=True)
class OneClip:
    """A metric's value of one clip; NaN when it has none. ``counts`` are added up over clips."""

    value: float
    series: Series | None = None
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """A metric's value of the whole set. ``real`` is the same measure of the real clips, where that means
    something."""

    value: float
    clips: dict[str, float] = field(default_factory=dict)
    interval: Interval | None = None
    real: float | None = None
    counts: dict[str, int] = field(default_factory=dict)
    series: dict[str, Series] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Metric:
    """A column of the table.

    ``family`` what stand-ins and standard share · ``better`` "higher", "lower", "zero" or "" (neither) ·
    ``kinds`` what must be found in the files · ``needs`` of "real", "truth", "sound" · ``absent`` why it
    can never be computed here, for a standard metric we have no network for.
    """

    name: str
    family: str
    standard: bool
    better: str
    unit: str
    about: str
    kinds: tuple[str, ...]
    needs: tuple[str, ...]
    measure: Callable[[Gathered], Measured]
    absent: str = ""

    @property
    def stand_in(self) -> bool:
        """Whether it stands in for a standard metric of its family (and is not a measure of our own)."""
        return not self.standard and self.family in _STANDARD_FAMILIES

    def missing(self) -> str:
        """Empty when this machine can compute it; otherwise what is missing and how to get it."""
        return self.absent or next((why for kind in self.kinds if (why := _missing(kind))), "")


def _missing(kind: str) -> str:
    if kind == "pixels":
        return ""
    return faces.expressions_missing() if kind == "expressions" else KINDS[kind].missing()


def files_kinds(metrics: Iterable[Metric]) -> set[str]:
    """The kinds of ``extract.KINDS`` that must be gathered for these metrics."""
    named = {kind for metric in metrics for kind in metric.kinds} - {"pixels"}
    return {"faces" if kind == "expressions" else kind for kind in named}


# -- means over clips ----------------------------------------------------------------------------------


def over_clips(
    gathered: Gathered,
    one: Callable[[Gathered, Item, Side], OneClip | None],
    *,
    mean: Callable[[Floats], float] = lambda values: float(values.mean()),
    real: bool = False,
) -> Measured:
    """The mean over clips of ``one`` clip's value, with a bootstrap interval; clips without a value are
    counted."""
    found = {item.name: one(gathered, item, "generated") for item in gathered.items}
    known = {name: clip for name, clip in found.items() if clip is not None and not math.isnan(clip.value)}
    values = np.array([clip.value for clip in known.values()])
    counts = _sum([clip.counts for clip in found.values() if clip is not None])
    without = _without(len(found) - len(known), len(found))
    if not known:
        return Measured(math.nan, counts=counts, notes=("no clip has a value",))
    theirs = None
    if real:
        others = [one(gathered, item, "real") for item in gathered.items if item.real is not None]
        finite = [clip.value for clip in others if clip is not None and math.isfinite(clip.value)]
        theirs = float(np.mean(finite)) if finite else None
    return Measured(
        mean(values),
        {name: clip.value for name, clip in known.items()},
        distributions.bootstrap_mean(values),
        theirs,
        counts,
        {name: clip.series for name, clip in known.items() if clip.series is not None},
        (without,) if without else (),
    )


def _sum(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for one in counts:
        for name, count in one.items():
            total[name] = total.get(name, 0) + count
    return total


def _column(name: str, *, mean: Callable[[Floats], float] | None = None) -> Callable[[Gathered], Measured]:
    """A metric that is the mean over frames, then clips, of a column of the pair comparison."""
    average = mean or (lambda values: float(np.nanmean(values)) if np.isfinite(values).any() else math.nan)

    def one(gathered: Gathered, item: Item, side: Side) -> OneClip | None:
        arrays = gathered.arrays(item.name, side, "pixels")
        if arrays is None:
            return None
        return OneClip(average(arrays[name]), (arrays["frame"], arrays[name]))

    return lambda gathered: over_clips(gathered, one, mean=mean or (lambda values: float(values.mean())))


def _finite_psnr(values: Floats) -> float:
    """The mean over the frames in which the part is seen."""
    return frames.mean_psnr(values[~np.isnan(values)])


def _psnr(gathered: Gathered) -> Measured:
    measured = _column("psnr", mean=frames.mean_psnr)(gathered)
    same = sum(
        int(np.isinf(arrays["psnr"]).sum())
        for item in gathered.items
        if (arrays := gathered.arrays(item.name, "generated", "pixels")) is not None
    )
    return replace(measured, counts={"identical frames": same}) if same else measured


def _energy(where: str) -> Callable[[Gathered], Measured]:
    """Energy of the changes from frame to frame, generated over real; NaN where the real clip has none."""

    def one(gathered: Gathered, item: Item, side: Side) -> OneClip | None:
        arrays = gathered.arrays(item.name, side, "pixels")
        if arrays is None:
            return None
        ours, theirs = (float(np.nansum(arrays[f"{name}/{where}"])) for name in ("energy", "real-energy"))
        return OneClip(ours / theirs if theirs else math.nan, (arrays["frame"], arrays[f"energy/{where}"]))

    return lambda gathered: over_clips(gathered, one)


# -- distances between sets ----------------------------------------------------------------------------

Rows = Callable[[Gathered, Item, Side], NDArray[Any] | None]


def _between_sets(gathered: Gathered, rows: Rows) -> Measured:
    """Fréchet distance between all generated and all real vectors, with a jackknife interval over clips."""
    broken = 0

    def finite_rows(item: Item, side: Side) -> NDArray[Any] | None:
        nonlocal broken
        found = rows(gathered, item, side)
        if found is None:
            return None
        good = np.isfinite(found).all(axis=1)
        broken += int((~good).sum())
        return found[good]

    pairs = [(finite_rows(item, "generated"), finite_rows(item, "real")) for item in gathered.items]
    known = [(g, r) for g, r in pairs if g is not None and r is not None and len(g) and len(r)]
    if not known or sum(len(g) for g, _ in known) < 2 or sum(len(r) for _, r in known) < 2:
        return Measured(math.nan, notes=("fewer than 2 feature vectors; give more or longer clips",))

    def distance(kept: Sequence[int], *, quick: bool = True) -> float:
        ours = np.concatenate([known[k][0] for k in kept])
        theirs = np.concatenate([known[k][1] for k in kept])
        if min(len(ours), len(theirs)) < 2:
            return math.nan
        return distributions.frechet_distance(ours, theirs, quick=quick)

    everything = range(len(known))
    key = _print(known)
    stored = gathered.cache.load(key)
    if stored is None:
        interval = distributions.jackknife(_JACKKNIFE_GROUPS, distance, len(known))
        bounds = [interval.low, interval.high] if interval else []
        stored = {"value": np.array(distance(everything, quick=False)), "bounds": np.array(bounds)}
        gathered.cache.save(key, stored)
    interval = None
    if len(stored["bounds"]):
        low, high = (float(v) for v in stored["bounds"])
        method = f"delete-a-group jackknife over {len(known)} clips"
        interval = Interval(max(low, 0.0), high, 0.95, method)
    count = sum(len(g) for g, _ in known), sum(len(r) for _, r in known)
    warning = distributions.too_few(*count, known[0][0].shape[1])
    counts = {"generated vectors": count[0], "real vectors": count[1]}
    if broken:
        counts["vectors left out because they are not finite"] = broken
    without = _without(len(pairs) - len(known), len(pairs))
    notes = tuple(filter(None, [warning, without]))
    return Measured(float(stored["value"]), {}, interval, None, counts, {}, notes)


def _print(known: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> str:
    """A key of the vectors themselves, so that the singular values are not sought again."""
    import hashlib

    digest = hashlib.sha256(b"frechet 2")
    for pair in known:
        for side in pair:
            digest.update(str(side.shape).encode())
            digest.update(np.ascontiguousarray(side).tobytes())
    return digest.hexdigest()


def _without(count: int, total: int) -> str:
    return f"{count} of {total} clips have no value" if count else ""


def _features(kind: str) -> Callable[[Gathered], Measured]:
    def rows(gathered: Gathered, item: Item, side: Side) -> NDArray[Any] | None:
        arrays = gathered.arrays(item.name, side, kind)
        return arrays["features"] if arrays is not None else None

    return lambda gathered: _between_sets(gathered, rows)


def _windows_of_features(gathered: Gathered) -> Measured:
    rules = gathered.rules
    length = max(rules.window // rules.features_every, 2)
    step = max(rules.window_step // rules.features_every, 1)

    def rows(gathered: Gathered, item: Item, side: Side) -> NDArray[Any] | None:
        arrays = gathered.arrays(item.name, side, "effnet")
        if arrays is None or len(arrays["features"]) < length:
            return None
        windows = np.lib.stride_tricks.sliding_window_view(arrays["features"], length, axis=0)[::step]
        change = np.abs(np.diff(windows, axis=-1)).mean(axis=-1)
        return np.concatenate([windows.mean(axis=-1), change], axis=1)

    return _between_sets(gathered, rows)


def _expressions(gathered: Gathered) -> Measured:
    unseen = {"frames without a face": 0}

    def rows(gathered: Gathered, item: Item, side: Side) -> NDArray[Any] | None:
        arrays = gathered.arrays(item.name, side, "faces")
        if arrays is None:
            return None
        known = np.isfinite(arrays["expression"]).all(axis=1)
        if side == "generated":
            unseen["frames without a face"] += int((~known).sum())
        # The neutral share (column 0) is no expression; percent, so that distances are not tiny.
        return arrays["expression"][known][:, 1:].astype(np.float64) * 100

    measured = _between_sets(gathered, rows)
    return replace(measured, counts={**measured.counts, **unseen})


# -- identity ------------------------------------------------------------------------------------------


def _reference(gathered: Gathered, item: Item, kind: str) -> tuple[NDArray[Any] | None, str]:
    """The embedding a clip's face is held against, and where it comes from."""
    sides: tuple[tuple[Side, str], ...] = (
        ("portrait", "portrait"), ("real", "REAL's first face"), ("generated", "its own first face"),
    )  # fmt: skip
    for side, origin in sides:
        arrays = gathered.arrays(item.name, side, kind)
        if arrays is None:
            continue
        known = arrays["embedding"][np.isfinite(arrays["embedding"]).all(axis=1)]
        if len(known):
            return known[0], origin
    return None, ""


def _identity(
    kind: str, compare: Callable[[NDArray[Any], NDArray[Any]], Floats]
) -> Callable[[Gathered], Measured]:
    def measure(gathered: Gathered) -> Measured:
        origins: dict[str, int] = {}

        def one(gathered: Gathered, item: Item, side: Side) -> OneClip | None:
            arrays = gathered.arrays(item.name, side, kind)
            reference, origin = _reference(gathered, item, kind)
            if arrays is None or reference is None:
                return None
            if side == "generated":
                origins[origin] = origins.get(origin, 0) + 1
            return _mean_of_faces(arrays, lambda known: compare(known, reference))

        measured = over_clips(gathered, one, real=True)
        against = "; ".join(f"{count} clips against {origin}" for origin, count in origins.items())
        return replace(measured, notes=(*measured.notes, *filter(None, [against])))

    return measure


def _mean_of_faces(arrays: dict[str, NDArray[Any]], value: Callable[[NDArray[Any]], Floats]) -> OneClip:
    known = np.isfinite(arrays["embedding"]).all(axis=1)
    counts = {"frames without a face": int((~known).sum())}
    if not known.any():
        return OneClip(math.nan, None, counts)
    values = value(arrays["embedding"][known])
    return OneClip(float(values.mean()), (arrays["frame"][known], values), counts)


def _identity_of_pairs(
    kind: str, centre: Callable[[], NDArray[Any] | float]
) -> Callable[[Gathered], Measured]:
    """Cosine between the faces of the generated and of the real frame of the same moment."""

    def one(gathered: Gathered, item: Item, side: Side) -> OneClip | None:
        ours, real = (gathered.arrays(item.name, which, kind) for which in (side, "real"))
        if ours is None or real is None:
            return None
        frames = min(len(ours["embedding"]), len(real["embedding"]))
        pairs = ours["embedding"][:frames].astype(np.float64), real["embedding"][:frames].astype(np.float64)
        known = np.isfinite(pairs[0]).all(axis=1) & np.isfinite(pairs[1]).all(axis=1)
        counts = {"pairs of frames without two faces": int((~known).sum())}
        if not known.any():
            return OneClip(math.nan, None, counts)
        values = np.array(
            [
                faces.cosine(a, b, centre()).item()
                for a, b in zip(*(rows[known] for rows in pairs), strict=True)
            ]
        )
        return OneClip(float(values.mean()), (ours["frame"][:frames][known], values), counts)

    return lambda gathered: over_clips(gathered, one)


def _dlib_centre() -> NDArray[Any]:
    return faces.dlib_centre()


def _dlib_cosine(vectors: NDArray[Any], reference: NDArray[Any]) -> Floats:
    return faces.cosine(vectors, reference, faces.dlib_centre())


def _distance(vectors: NDArray[Any], reference: NDArray[Any]) -> Floats:
    return np.linalg.norm(vectors.astype(np.float64) - reference, axis=1)


def _steadiness(gathered: Gathered) -> Measured:
    def one(gathered: Gathered, item: Item, side: Side) -> OneClip | None:
        arrays = gathered.arrays(item.name, side, "dlib")
        if arrays is None:
            return None
        return _mean_of_faces(arrays, lambda known: _distance(known, known.astype(np.float64).mean(axis=0)))

    return over_clips(gathered, one, real=True)


def _nearest_person(kind: str) -> Callable[[Gathered], Measured]:
    """Share of clips whose face is nearer to its own person's portraits than to any other person's."""

    def measure(gathered: Gathered) -> Measured:
        portraits: dict[str, list[NDArray[Any]]] = {}
        for item in gathered.items:
            arrays = gathered.arrays(item.name, "portrait", kind)
            if arrays is not None and np.isfinite(arrays["embedding"][0]).all():
                portraits.setdefault(item.person or item.name, []).append(arrays["embedding"][0])
        people = {name: np.mean(rows, axis=0) for name, rows in portraits.items()}

        def one(gathered: Gathered, item: Item, side: Side) -> OneClip | None:
            arrays, own = gathered.arrays(item.name, side, kind), item.person or item.name
            if arrays is None or own not in people:
                return None
            known = arrays["embedding"][np.isfinite(arrays["embedding"]).all(axis=1)]
            if not len(known):
                return OneClip(0.0, None, {"clips without a face": 1})
            face = known.mean(axis=0)
            nearest = min(people, key=lambda name: float(np.linalg.norm(people[name] - face)))
            return OneClip(float(nearest == own))

        if len(people) < 2:
            return Measured(math.nan, notes=("needs the portraits of at least two people",))
        measured = over_clips(gathered, one, real=True)
        return replace(measured, notes=(*measured.notes, f"among {len(people)} people"))

    return measure


# -- lips ----------------------------------------------------------------------------------------------


def _jaw(gathered: Gathered, item: Item, side: Side) -> Floats | None:
    arrays = gathered.arrays(item.name, side, "faces")
    if arrays is None or not np.isfinite(arrays["expression"]).any():
        return None
    return arrays["expression"][:, faces.JAW_OPEN].astype(np.float64)


_UPPER_LIP, _LOWER_LIP, _CORNERS = 35, 25, (0, 10)
"""Places in ``faces.LIPS``: the middles of the inner lips, the corners of the mouth."""


def _mouth(gathered: Gathered, item: Item, side: Side) -> Floats | None:
    """Distance of the inner lips over the width of the mouth, from the points of the face: (f,)."""
    arrays = gathered.arrays(item.name, side, "faces")
    if arrays is None or not np.isfinite(arrays["lips"]).any():
        return None
    points = arrays["lips"].astype(np.float64)
    width = np.linalg.norm(points[:, _CORNERS[0]] - points[:, _CORNERS[1]], axis=1)
    return np.linalg.norm(points[:, _UPPER_LIP] - points[:, _LOWER_LIP], axis=1) / np.maximum(width, 1e-6)


def _jaw_lag(
    value: Callable[[lips.Lag], float],
    against: str,
    still: float,
    *,
    search: bool = True,
    opening: Callable[[Gathered, Item, Side], Floats | None] = _jaw,
) -> Callable[[Gathered], Measured]:
    """The jaw of a clip against its sound ("sound") or against the true jaw, or REAL's ("truth").

    ``still`` is the value of a jaw that does not move; ``search`` for the best lag, or take none;
    ``opening`` says how far the mouth of a clip is open.
    """

    def leader(gathered: Gathered, item: Item, side: Side) -> Floats | None:
        if against == "sound":
            arrays = gathered.arrays(item.name, side, "sound")
            return arrays["loudness"] if arrays is not None and len(arrays["loudness"]) else None
        truth = gathered.truth(item)
        return truth.jaw if truth is not None else opening(gathered, item, "real")

    def one(gathered: Gathered, item: Item, side: Side) -> OneClip | None:
        jaw, wanted = opening(gathered, item, side), leader(gathered, item, side)
        if jaw is None or wanted is None:
            return None
        lag = lips.best_lag(jaw, wanted, gathered.rules.max_lag if search else 0)
        unseen = {"frames without a face": int(np.isnan(jaw).sum())}
        if lag is None:  # a mouth that never moves follows nothing
            return OneClip(still, None, unseen)
        return OneClip(value(lag), (np.arange(len(jaw)), jaw), unseen)

    return lambda gathered: over_clips(gathered, one, real=True)


def _sync(kind: str, value: Callable[[lips.Sync], float]) -> Callable[[Gathered], Measured]:
    def one(gathered: Gathered, item: Item, side: Side) -> OneClip | None:
        arrays = gathered.arrays(item.name, side, kind)
        if arrays is None:
            return None
        found = lips.sync(arrays["video"], arrays["audio"], gathered.rules.sync_shift)
        return OneClip(value(found)) if found is not None else None

    return lambda gathered: over_clips(gathered, one, real=True)


def _sync_small(value: Callable[[lips.Sync], float]) -> Callable[[Gathered], Measured]:
    def one(gathered: Gathered, item: Item, side: Side) -> OneClip | None:
        scores = _small_scores(gathered, item, side)
        return OneClip(value(scores)) if scores is not None else None

    return lambda gathered: over_clips(gathered, one, real=True)


def _small_scores(gathered: Gathered, item: Item, side: Side) -> lips.Sync | None:
    """What our own sync network finds in a clip, kept in the cache beside what it is made of."""
    from semibody.evaluation import sync_small

    shift = gathered.rules.sync_shift
    sources = [gathered.keys.get((item.name, side, kind), "") for kind in ("faces", "sound")]
    key = key_of("sync-small", sync_small.VERSION, shift, *sources)
    stored = gathered.cache.load(key)
    if stored is None:
        found, sound = (gathered.arrays(item.name, side, kind) for kind in ("faces", "sound"))
        if found is None or sound is None:
            return None
        both = sync_small.embed(found, sound["mfcc"], gathered.fps[item.name])
        scores = lips.sync(*both, shift, inside=True) if both is not None else None
        row = [scores.offset, scores.confidence, scores.distance] if scores is not None else []
        stored = {"scores": np.array(row, np.float64)}
        gathered.cache.save(key, stored)
    if not len(stored["scores"]):
        return None
    offset, confidence, distance = stored["scores"].tolist()
    return lips.Sync(int(offset), confidence, distance)


# -- hands ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Hands:
    """``points`` (f, 2, 21, 2) in pixels of the protocol's crop · ``confidence`` (f, 2, 21) · ``frame``
    (f,)."""

    points: Floats
    confidence: Floats
    frame: NDArray[Any]


def _hands(gathered: Gathered, item: Item, side: Side, kind: str) -> _Hands | None:
    arrays = gathered.arrays(item.name, side, kind)
    if arrays is None:
        return None
    scale = arrays["size"] / max(arrays["size"]) * gathered.rules.crop
    joints, confidence = arrays["joints"].astype(np.float64), arrays["confidence"].astype(np.float64)
    both = [joints[:, LEFT_HAND], joints[:, RIGHT_HAND]]
    sure = np.stack([confidence[:, LEFT_HAND], confidence[:, RIGHT_HAND]], axis=1)
    return _Hands(np.stack(both, axis=1) * scale, sure, arrays["frame"])


def _unseen(found: _Hands, threshold: float) -> dict[str, int]:
    seen = (found.confidence >= threshold).any(axis=2)
    none, one = int((~seen.any(axis=1)).sum()), int((seen.sum(axis=1) == 1).sum())
    return {"frames looked at": len(seen), "of them without a hand": none, "with one hand": one}


def _hkc(kind: str) -> Callable[[Gathered], Measured]:
    def one(gathered: Gathered, item: Item, side: Side) -> OneClip | None:
        found = _hands(gathered, item, side, kind)
        if found is None:
            return None
        series = (found.frame, found.confidence.mean(axis=(1, 2)))
        return OneClip(
            hand_confidence(found.confidence), series, _unseen(found, gathered.rules.hand_threshold)
        )

    return lambda gathered: over_clips(gathered, one, real=True)


def _hkv(kind: str, *, normalised: bool) -> Callable[[Gathered], Measured]:
    def one(gathered: Gathered, item: Item, side: Side) -> OneClip | None:
        found = _hands(gathered, item, side, kind)
        if found is None:
            return None
        threshold = gathered.rules.hand_threshold
        variation = hand_variation(found.points, found.confidence, threshold=threshold)
        if normalised:
            sizes = distributions.finite(hands.hand_size(found.points, found.confidence, threshold=threshold))
            variation = variation / sizes.mean() if len(sizes) else math.nan
        return OneClip(variation, None, _unseen(found, threshold))

    return lambda gathered: over_clips(gathered, one, real=True)


def _hand_errors(value: Callable[[hands.HandErrors], float]) -> Callable[[Gathered], Measured]:
    def one(gathered: Gathered, item: Item, side: Side) -> OneClip | None:
        both, rules = _both_hands(gathered, item, side), gathered.rules
        if both is None:
            return None
        found, wanted = both
        errors = hands.hand_errors(
            found.points, found.confidence, wanted.points, wanted.confidence,
            tolerance=rules.pck, threshold=rules.hand_threshold,
        )  # fmt: skip
        return OneClip(value(errors))

    return lambda gathered: over_clips(gathered, one, real=True)


def _true_hands(gathered: Gathered, item: Item, kind: str) -> _Hands | None:
    """From the clip's gesture file, else as found in REAL."""
    gesture = gathered.gesture(item)
    if gesture is None:
        return _hands(gathered, item, "real", kind)
    longer = max(gesture.aspect, 1.0)
    scale = np.array([gesture.aspect / longer, 1 / longer]) * gathered.rules.crop
    # Joints that the rendering hides have the confidence 0.3 at most: they are not asked for.
    known = np.isfinite(gesture.hands).all(axis=-1) & (gesture.hands_confidence > 0.3)
    sure = np.where(known, gesture.hands_confidence, 0.0)
    fps = gathered.fps[item.name]
    frame = np.floor(np.arange(int(gesture.seconds * fps + 1e-6)) / fps * gesture.fps + 1e-6).astype(int)
    frame = frame.clip(0, len(gesture) - 1)
    return _Hands(np.nan_to_num(gesture.hands[frame]) * scale, sure[frame], np.arange(len(frame)))


def _hands_found(gathered: Gathered) -> Measured:
    """Of the hands that the truth shows, the share in which the detector sees a hand."""

    def one(gathered: Gathered, item: Item, side: Side) -> OneClip | None:
        both = _both_hands(gathered, item, side)
        if both is None:
            return None
        found, wanted = both
        threshold = gathered.rules.hand_threshold
        shown = (wanted.confidence >= threshold).mean(axis=2) > 0.5
        seen = (found.confidence >= threshold).mean(axis=2) > 0.5
        if not shown.any():
            return OneClip(math.nan)
        return OneClip(float(seen[shown].mean()), None, {"hands shown": int(shown.sum())})

    return over_clips(gathered, one, real=True)


def _hand_error_in_shoulders(gathered: Gathered) -> Measured:
    """Mean distance of found hand keypoints from the truth, in percent of the true shoulders' width."""

    def one(gathered: Gathered, item: Item, side: Side) -> OneClip | None:
        both, gesture = _both_hands(gathered, item, side), gathered.gesture(item)
        if both is None or gesture is None:
            return None
        found, wanted = both
        threshold = gathered.rules.hand_threshold
        known = (found.confidence >= threshold) & (wanted.confidence >= threshold)
        scale = np.array([gesture.aspect, 1.0]) / max(gesture.aspect, 1.0) * gathered.rules.crop
        shoulders = np.linalg.norm((gesture.joints[:, 2] - gesture.joints[:, 5]) * scale, axis=1)
        width = float(np.median(shoulders))
        if not known.any() or not width > 0:
            return OneClip(math.nan)
        distance = np.linalg.norm(found.points - wanted.points, axis=-1)
        return OneClip(100 * float(distance[known].mean()) / width)

    return over_clips(gathered, one, real=True)


def _both_hands(gathered: Gathered, item: Item, side: Side) -> tuple[_Hands, _Hands] | None:
    """The hands that are found in a clip and those that should be, in the frames that have both."""
    kind = "joints-dwpose" if (item.name, side, "joints-dwpose") in gathered.keys else "joints"
    found, wanted = _hands(gathered, item, side, kind), _true_hands(gathered, item, kind)
    if found is None or wanted is None:
        return None
    both = np.intersect1d(found.frame, wanted.frame)
    return tuple(  # type: ignore[return-value]
        _Hands(h.points[at], h.confidence[at], h.frame[at])
        for h in (found, wanted)
        for at in [np.isin(h.frame, both)]
    )


# -- the list ------------------------------------------------------------------------------------------

_NO_FACE_MODEL = (
    "the 3D face models of the field's E-FID (Deep3DFaceRecon and kin) stand on face data whose licence "
    "forbids passing them on, and no single one is agreed on; E-FID-mediapipe measures the same idea"
)


def _table() -> tuple[Metric, ...]:
    pair, clip = ("real",), ()

    def correlation(lag: lips.Lag) -> float:
        return lag.correlation

    def frames_late(lag: lips.Lag) -> float:
        return float(abs(lag.frames))

    rows = [
        Metric("FID", "FID", True, "lower", "", "Fréchet distance of Inception-v3 pool features of frames",
               ("inception",), pair, _features("inception")),
        Metric("FID-effnet", "FID", False, "lower", "", "Fréchet distance of EfficientNet-lite0 features",
               ("effnet",), pair, _features("effnet")),
        Metric("FVD", "FVD", True, "lower", "", "Fréchet distance of I3D logits of 16-frame windows",
               ("i3d",), pair, _features("i3d")),
        Metric("FVD-effnet", "FVD", False, "lower", "",
               "Fréchet distance of windows of EfficientNet-lite0 features: their mean and mean change",
               ("effnet",), pair, _windows_of_features),
        Metric("PSNR", "PSNR", True, "higher", "dB", "mean over frames; 8-bit RGB, range 255",
               ("pixels",), pair, _psnr),
        Metric("SSIM", "SSIM", True, "higher", "", "mean over frames; 11×11 Gaussian window, σ 1.5, RGB",
               ("pixels",), pair, _column("ssim")),
        *(
            Metric(f"PSNR-{where}", "regions", False, "higher", "dB", f"the same over the {about} alone",
                   ("pixels",), pair, _column(f"psnr/{where}", mean=_finite_psnr))
            for where, about in (("face", "box of the face"), ("hands", "boxes of the hands"))
        ),
        Metric("E-FID", "E-FID", True, "lower", "", "Fréchet distance of 3D face model expressions", (), pair,
               _expressions, _NO_FACE_MODEL),
        Metric("E-FID-mediapipe", "E-FID", False, "lower", "",
               "Fréchet distance of MediaPipe's blendshapes (in percent) of frames", ("expressions",), pair,
               _expressions),
        Metric("CSIM", "CSIM", True, "higher", "", "cosine of ArcFace embeddings, reference to frames",
               ("arcface",), clip, _identity("arcface", faces.cosine)),
        Metric("CSIM-dlib", "CSIM", False, "higher", "", "cosine of dlib embeddings taken from their centre",
               ("dlib",), clip, _identity("dlib", _dlib_cosine)),
        Metric("ID-L2-dlib", "CSIM", False, "lower", "", "L2 distance of dlib embeddings; people: 0.6",
               ("dlib",), clip, _identity("dlib", _distance)),
        Metric("ID-pair", "CSIM", False, "higher", "", "cosine of ArcFace embeddings at the same moment",
               ("arcface",), pair, _identity_of_pairs("arcface", lambda: 0.0)),
        Metric("ID-pair-dlib", "CSIM", False, "higher", "", "dlib embeddings at the same moment: cosine",
               ("dlib",), pair, _identity_of_pairs("dlib", _dlib_centre)),
        Metric("ID-nearest-dlib", "identity", False, "higher", "",
               "share of clips whose face is nearest to its own person's portraits (dlib)", ("dlib",), clip,
               _nearest_person("dlib")),
        Metric("ID-drift-dlib", "stability", False, "lower", "",
               "mean L2 distance of a clip's embeddings from their mean: an identity that wavers",
               ("dlib",), clip, _steadiness),
        Metric("Sync-C", "Sync", True, "higher", "", "SyncNet confidence", ("syncnet",), clip,
               _sync("syncnet", lambda found: found.confidence)),
        Metric("Sync-D", "Sync", True, "lower", "", "SyncNet distance", ("syncnet",), clip,
               _sync("syncnet", lambda found: found.distance)),
        Metric("Sync-C-small", "Sync", False, "higher", "", "confidence of our own small network",
               ("expressions", "sound"), clip, _sync_small(lambda found: found.confidence)),
        Metric("Sync-D-small", "Sync", False, "lower", "", "distance of our own small network",
               ("expressions", "sound"), clip, _sync_small(lambda found: found.distance)),
        Metric("Sync-offset-small", "Sync", False, "zero", "frames at 25 fps",
               "size of the offset that network finds",
               ("expressions", "sound"), clip, _sync_small(lambda found: float(abs(found.offset)))),
        Metric("Sync-jaw", "Sync", False, "higher", "", "correlation of jaw and loudness at the best lag",
               ("expressions", "sound"), clip, _jaw_lag(correlation, "sound", 0.0)),
        Metric("Sync-jaw-lag", "Sync", False, "zero", "frames", "size of the lag of jaw and loudness",
               ("expressions", "sound"), clip, _jaw_lag(frames_late, "sound", math.nan)),
        Metric("HKC", "HKC", True, "higher", "", "mean confidence of DWPose's hand keypoints",
               ("joints-dwpose",), clip, _hkc("joints-dwpose")),
        Metric("HKC-mediapipe", "HKC", False, "higher", "", "mean confidence of MediaPipe's hands",
               ("joints",), clip,
               _hkc("joints")),
        Metric("HKV", "HKV", True, "", "px of 768", "spread over time of DWPose's hand keypoints",
               ("joints-dwpose",), clip, _hkv("joints-dwpose", normalised=False)),
        Metric("HKV-mediapipe", "HKV", False, "", "px of 768", "spread over time of MediaPipe's hands",
               ("joints",), clip,
               _hkv("joints", normalised=False)),
        Metric("HKV-mediapipe-norm", "HKV", False, "", "hand sizes", "the same in sizes of the hand",
               ("joints",), clip, _hkv("joints", normalised=True)),
        Metric("PCK", "hands", False, "higher", "", "hand keypoints within 0.2 hand sizes of the truth",
               ("joints",), ("truth or real",), _hand_errors(lambda errors: errors.pck)),
        Metric("hand-error", "hands", False, "lower", "px of 768", "mean distance of found hand keypoints",
               ("joints",), ("truth or real",), _hand_errors(lambda errors: errors.error)),
        Metric("hands-found", "hands", False, "higher", "", "share of the hands to be seen that are found",
               ("joints",), ("truth or real",), _hands_found),
        Metric("hand-error-shoulders", "hands", False, "lower", "% of shoulders",
               "mean distance of found hand keypoints over the true shoulders' width", ("joints",),
               ("truth or real",), _hand_error_in_shoulders),
        Metric("mouth-correlation", "mouth", False, "higher", "",
               "correlation of the opening of the lips with the true jaw", ("faces",), ("truth or real",),
               _jaw_lag(correlation, "truth", 0.0, search=False, opening=_mouth)),
        Metric("mouth-lag", "mouth", False, "zero", "frames", "size of the lag at which they fit best",
               ("faces",), ("truth or real",),
               _jaw_lag(frames_late, "truth", math.nan, opening=_mouth)),
        Metric("jaw-correlation", "jaw", False, "higher", "", "correlation of the jaw with the true jaw",
               ("expressions",), ("truth or real",), _jaw_lag(correlation, "truth", 0.0, search=False)),
        Metric("jaw-lag", "jaw", False, "zero", "frames", "size of the lag at which they fit best",
               ("expressions",), ("truth or real",), _jaw_lag(frames_late, "truth", math.nan)),
        Metric("background-drift", "stability", False, "lower", "grey levels",
               "change since the first frame where the real video has none", ("pixels",), pair,
               _column("drift")),
        *(
            Metric(f"change-{where}", "stability", False, better, "",
                   f"energy of changes from frame to frame over the real clip's, {about}", ("pixels",), pair,
                   _energy(where))
            for where, better, about in (("moving", "", "where that moves"),
                                         ("still", "lower", "where that is still"),
                                         ("away", "lower", "more than 4 pixels from what moves"))
        ),
        *(
            Metric(f"flicker-{where}", "stability", False, "lower", "grey levels",
                   f"temporal high frequencies where the real video is still: {where}", ("pixels",), pair,
                   _column(f"flicker/{where}"))
            for where in ("face", "hands", "rest")
        ),
    ]  # fmt: skip
    return tuple(rows)


_STANDARD_FAMILIES = frozenset({"FID", "FVD", "PSNR", "SSIM", "E-FID", "CSIM", "Sync", "HKC", "HKV"})
METRICS: dict[str, Metric] = {metric.name: metric for metric in _table()}


def choose(wanted: Sequence[str]) -> list[Metric]:
    """Metrics by name or family; none named: of every family the standard where it can be had, else
    stand-ins.

    Raises SemibodyError for an unknown name.
    """
    if not wanted:
        return default_metrics()
    chosen: dict[str, Metric] = {}
    for name in wanted:
        found = [m for m in METRICS.values() if name.lower() in (m.name.lower(), m.family.lower())]
        exact = [m for m in found if m.name.lower() == name.lower()]
        if not found:
            raise SemibodyError(f"--metrics {name}: unknown; choose from {', '.join(METRICS)}")
        chosen |= {m.name: m for m in (exact or found)}
    return list(chosen.values())


def default_metrics() -> list[Metric]:
    """Standard metrics all (so that what is missing is told), stand-ins where their family lacks the
    standard."""
    missing = [m for m in METRICS.values() if m.standard and m.missing()]
    lacking, told = {m.family for m in missing}, {m.kinds for m in missing if m.kinds}
    return [
        m
        for m in METRICS.values()
        if m.standard or (m.kinds not in told and (m.family in lacking or not m.stand_in))
    ]
