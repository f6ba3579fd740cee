"""Whether a generated mouth says which sound it is, as one JSON line.

    python benchmarks/visemes.py --out out/visemes --assets PACK
    python benchmarks/visemes.py --out out/visemes --assets PACK --weights OTHER

Rendered people speak sentences in voices that nothing is trained on: their true clips are at hand, and the
time of every phoneme. The first frame of each clip is animated with the clip's sound. A face mesh measures
the mouths of true and of generated frames alike; a linear discriminant, trained on the true mouths of other
people (``--train`` of them), names the viseme of every frame (``speech.CLASSES``).

``true``, ``made``: mean over classes of the share of frames named rightly; ``share``: the second over the
first, and ``interval`` its 5th and 95th percentile over people drawn again. ``shut_true``, ``shut_made``: of
all m, b and p the share in which the gap of the inner lips falls below 15 % of the way from its least to its
95th percentile in the true clip. ``confused``: rows true classes, columns those named in generated frames.
What was rendered and measured is kept in ``--out``.
"""

import argparse
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semibody.animator import Animator
from semibody.data.synthetic.speech import CLASSES, phoneme_class
from semibody.evaluation.faces import Face
from semibody.inputs import prepare
from semibody.settings import AUTO
from semibody.types import Picture, Speech

Array = NDArray[Any]

SIZE, FPS, SECONDS = 512, 24.0, 3.0
SEED = 9300
"""Of people that no training renders, and whom nobody looked at when amplitudes were chosen (9100 then)."""
CONTEXT = (-2, -1, 0, 1, 2)
"""Frames around one that name its viseme with it."""
SHUT = 0.15
EYES, CHIN, NOSE = (33, 263), 152, 1
PAIRS = (
    (13, 14),
    (82, 87),
    (312, 317),
    (0, 17),
    (61, 291),
    (78, 308),
    (0, 13),
    (14, 17),
    (NOSE, 0),
    (NOSE, CHIN),
)
"""Points of the face mesh whose distances tell the mouth's shape; the first three are the gap."""


class Mesh:
    """The face mesh with its finer lips and eyes."""

    def __init__(self) -> None:
        from mediapipe.python.solutions.face_mesh import FaceMesh

        self._model = FaceMesh(static_image_mode=True, max_num_faces=1, refine_landmarks=True)

    def find(self, picture: Picture) -> Face | None:
        found = self._model.process(np.ascontiguousarray(picture)).multi_face_landmarks
        if not found:
            return None
        points = np.array([(point.x, point.y) for point in found[0].landmark], np.float64)
        return Face(points * np.array(picture.shape[1::-1], np.float64), None)

    def mouths(self, frames: Array) -> Array:
        """(f, 10) ``PAIRS`` over the distance of the eyes; what is not found is as in the frame before."""
        rows: list[Array] = []
        for frame in frames:
            face = self.find(frame)
            if face is None:
                rows.append(rows[-1] if rows else np.zeros(len(PAIRS)))
                continue
            eyes = np.hypot(*(face.points[EYES[0]] - face.points[EYES[1]]))
            rows.append(np.array([np.hypot(*(face.points[a] - face.points[b])) for a, b in PAIRS]) / eyes)
        return np.stack(rows)


def truth_of(out: Path, assets: Path, number: int, mesh: Mesh, seed: int = SEED) -> dict[str, Array]:
    """Person ``number``: portrait, sound, phonemes, and the mouths of the true clip."""
    path = out / f"true-{number}.npz"
    if not path.exists():
        from semibody.data.synthetic.clip import Style, clip_seed, render_clip, render_person
        from semibody.data.synthetic.render import shared_stage

        person = render_person(seed, number, assets, SIZE)
        style = Style(sway=0.12, articulation=1.8, held_out_voices=True)
        take = clip_seed(seed, number, 0)
        clip = render_clip(shared_stage(SIZE), person, take, SECONDS, FPS, style=style)
        speech = clip.clip.speech
        assert speech is not None
        np.savez(
            path, portrait=clip.clip.frames[0], sound=speech.waveform, mouths=mesh.mouths(clip.clip.frames),
            phonemes=json.dumps(clip.parameters["phonemes"]), voice=clip.parameters["voice"],
        )  # fmt: skip
    with np.load(path, allow_pickle=False) as kept:
        return dict(kept)


def made_of(
    out: Path, number: int, known: dict[str, Array], weights: str, animator: Any, mesh: Mesh
) -> Array:
    """The mouths of the generated clip."""
    path = out / f"made-{Path(weights).name}-{number}.npy"
    if not path.exists():
        settings = dataclasses.replace(animator.settings(), width=SIZE, height=SIZE, fps=FPS)
        inputs = prepare(known["portrait"], Speech(known["sound"], 16000), AUTO, settings)
        frames = np.concatenate(list(animator.frames(inputs, settings)))
        np.save(path, mesh.mouths(frames))
    return np.asarray(np.load(path, allow_pickle=False))


def phonemes_of(known: dict[str, Array]) -> list[tuple[float, float, str]]:
    return [(float(a), float(b), str(s)) for a, b, s in json.loads(str(known["phonemes"]))]


def classes(phonemes: list[tuple[float, float, str]], frames: int) -> NDArray[np.int64]:
    """(f,) the viseme in the middle of each frame's exposure."""
    named = np.zeros(frames, np.int64)
    for start, end, symbol in phonemes:
        times = (np.arange(frames) + 0.5) / FPS
        named[(times >= start) & (times < end)] = CLASSES.index(phoneme_class(symbol))
    return named


def features(mouths: Array) -> Array:
    """(f, k): mouths relative to the portrait's own, with those around."""
    own = mouths - mouths[0]
    at = np.arange(len(own))
    return np.concatenate([own[(at + k).clip(0, len(own) - 1)] for k in CONTEXT], axis=1)


class Discriminant:
    """Linear discriminant analysis, its covariance shrunk to its diagonal, all classes alike likely."""

    def __init__(self, x: Array, y: Array, shrink: float = 0.1) -> None:
        self.mean, self.scale = x.mean(axis=0), x.std(axis=0) + 1e-6
        x = (x - self.mean) / self.scale
        self.centres = np.stack([x[y == k].mean(axis=0) if (y == k).any() else np.full(x.shape[1], 1e3)
                                 for k in range(len(CLASSES))])  # fmt: skip
        within = np.cov((x - self.centres[y]).T)
        self.inverse = np.linalg.inv((1 - shrink) * within + shrink * np.diag(np.diag(within)) + 1e-6)

    def name(self, x: Array) -> NDArray[np.int64]:
        off = ((x - self.mean) / self.scale)[:, None] - self.centres
        return np.asarray(np.einsum("nki,ij,nkj->nk", off, self.inverse, off).argmin(axis=1))


def recall(named: Array, y: Array) -> float:
    """Mean over the classes that occur of the share named rightly."""
    return float(np.mean([(named[y == k] == k).mean() for k in range(len(CLASSES)) if (y == k).any()]))


def shut(phonemes: list[tuple[float, float, str]], gap: Array, true_gap: Array) -> Iterator[bool]:
    """Of each m, b and p, whether the lips meet in some frame of it."""
    least, most = np.percentile(true_gap, [0, 95])
    for start, end, symbol in phonemes:
        if phoneme_class(symbol) != "closed" or end > len(gap) / FPS:
            continue
        first = max(0, int(np.floor((start - 0.03) * FPS)))
        during = gap[first : max(first + 1, int(np.ceil((end + 0.03) * FPS)))]
        yield bool(during.min() < least + SHUT * (most - least))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--weights", default="starter")
    parser.add_argument("--people", type=int, default=8)
    parser.add_argument("--train", type=int, default=14)
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    mesh = Mesh()
    known = [
        truth_of(arguments.out, arguments.assets, n, mesh, arguments.seed)
        for n in range(arguments.people + arguments.train)
    ]
    tested, trained = known[: arguments.people], known[arguments.people :]
    x = np.concatenate([features(one["mouths"]) for one in trained])
    y = np.concatenate([classes(phonemes_of(one), len(one["mouths"])) for one in trained])
    discriminant = Discriminant(x, y)
    animator = Animator.load(arguments.weights)
    truth, right, made, closed_true, closed_made = [], [], [], [], []
    for number, one in enumerate(tested):
        mouths = made_of(arguments.out, number, one, arguments.weights, animator, mesh)
        frames = min(len(mouths), len(one["mouths"]))
        phonemes = phonemes_of(one)
        truth.append(classes(phonemes, frames))
        right.append(discriminant.name(features(one["mouths"][:frames])))
        made.append(discriminant.name(features(mouths[:frames])))
        gaps = [part[:frames, :3].mean(axis=1) for part in (one["mouths"], mouths)]
        closed_true += list(shut(phonemes, gaps[0], gaps[0]))
        closed_made += list(shut(phonemes, gaps[1], gaps[0]))
    y, named, said = (np.concatenate(part) for part in (truth, right, made))
    confused = np.zeros((len(CLASSES), len(CLASSES)), int)
    np.add.at(confused, (y, said), 1)
    true, generated = recall(named, y), recall(said, y)
    rng, shares = np.random.default_rng(0), []
    for _ in range(1000):
        again = rng.integers(len(tested), size=len(tested))
        who, those, these = (np.concatenate([part[n] for n in again]) for part in (truth, right, made))
        shares.append(recall(these, who) / recall(those, who))
    print(json.dumps({
        "people": len(tested), "frames": len(y), "classes": CLASSES, "true": true, "made": generated,
        "share": generated / true, "interval": np.percentile(shares, [5, 95]).tolist(),
        "closures": len(closed_true), "shut_true": float(np.mean(closed_true)),
        "shut_made": float(np.mean(closed_made)), "confused": confused.tolist(),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
