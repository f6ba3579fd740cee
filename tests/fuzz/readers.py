"""Every reader of files from outside, with whole files for it to begin from.

    for reader in READERS: reader.read(path)     # a value, or SemibodyError; anything else is a fault

``seeds`` makes the whole files that mutations start from.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

import made
from semibody import config, media, resume
from semibody.batch import jobs
from semibody.clips.listing import read_listing
from semibody.clips.manifest import read_entry, read_manifest
from semibody.clips.truth import Truth
from semibody.data import ingest
from semibody.data.dataset import PackedClip, Packing, pack_clip
from semibody.data.folder import filling
from semibody.data.synthetic import assets
from semibody.diffusion.schedule import ScheduleConfig, build_scheduler
from semibody.diffusion.state import SamplingState
from semibody.evaluation.cache import Cache
from semibody.evaluation.protocol import pair_clips
from semibody.media.segments import Coding, Segments
from semibody.networks import loading
from semibody.pose import track
from semibody.pose.files import load_gesture, save_gesture
from semibody.quality import bench, photographs
from semibody.training import card, checkpoint, recipe, report
from semibody.weights import hub, state, store

Seeds = Callable[[], list[bytes]]


@dataclass(frozen=True)
class Reader:
    """``read`` of a file named ``name`` (in an empty folder)."""

    title: str
    name: str
    read: Callable[[Path], Any]
    seeds: Seeds
    slow: bool = False
    """takes more than a few milliseconds a file"""


def text(*lines: Any) -> Seeds:
    """A file of lines, each given as text or as what JSON can hold."""
    rows = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    return lambda: ["\n".join(rows).encode() + b"\n"]


def written(*writers: Callable[[Path], Any], name: str = "seed") -> Seeds:
    """What each of the writers writes to a path."""

    def make() -> list[bytes]:
        with tempfile.TemporaryDirectory() as folder:
            contents = []
            for number, write in enumerate(writers):
                path = Path(folder) / f"{number}-{name}"
                write(path)
                contents.append(path.read_bytes())
            return contents

    return make


def npz(**arrays: Any) -> Seeds:
    def make() -> list[bytes]:
        stored, packed = io.BytesIO(), io.BytesIO()
        np.savez(stored, **arrays)
        np.savez_compressed(packed, **arrays)
        return [stored.getvalue(), packed.getvalue()]

    return make


def into(name: str, read: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """Read the folder in which the file has the place ``name``."""

    def placed(path: Path) -> Any:
        target = path.parent / name
        if target != path:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
        return read(path.parent)

    return placed


def _beside(read: Callable[[Path], Any], *names: str) -> Callable[[Path], Any]:
    """Read a file that names these files, which are there."""

    def placed(path: Path) -> Any:
        for name in names:
            (path.parent / name).touch()
        return read(path)

    return placed


# -- readers whose result is used once, since some files are read when they are used ----------------------


def _video(path: Path) -> int:
    with media.VideoReader(path) as video:
        return sum(1 for _ in zip(video.frames(12.0), range(48), strict=False)) + sum(video.size)


def _clip(path: Path) -> Any:
    clip = PackedClip(path)
    shown = range(min(2, len(clip)))
    return clip.pictures(shown), clip.labels(shown), clip.portrait_pose(0), clip.gesture(), clip.speech()


def _cache(path: Path) -> Any:
    return Cache(path.parent.parent).load("entry")


def _checkpoint(folder: Path) -> Any:
    module = torch.nn.Linear(2, 2)
    average = {name: p.detach().clone() for name, p in module.named_parameters()}
    (folder / "weights.safetensors").write_bytes(_linear())
    (folder / "average.safetensors").write_bytes(_linear())
    found = checkpoint.read(folder)
    checkpoint.put(found, module, torch.optim.AdamW(module.parameters()), average, str(folder))
    return found


def _weights(folder: Path) -> Any:
    module = torch.nn.Linear(2, 2)
    place = folder / "step-1"
    (place / "state.json").write_text('{"step": 3}')
    (place / "average.safetensors").write_bytes(_linear())
    average = {name: p.detach().clone() for name, p in module.named_parameters()}
    found = checkpoint.read(place)
    checkpoint.put(found, module, torch.optim.AdamW(module.parameters()), average, str(place))
    return found


def _linear() -> bytes:
    from safetensors.torch import save

    return save({"weight": torch.ones(2, 2), "bias": torch.ones(2)})


def _state(path: Path) -> Any:
    found = state.read_state(path)
    state.check(found, {"weight": (2, 2), "bias": (2,)}, str(path))
    return {key: float(value.double().sum()) for key, value in found.items()}


def _index(folder: Path) -> Any:
    info = loading.describe(folder)
    config.build(ScheduleConfig, info.schedule, str(folder))
    return loading._empty_model(info.model, folder)


def _record(folder: Path) -> None:
    with filling(folder, "made.json", {"seed": 1}):
        pass


def _chunk(path: Path) -> Any:
    (path.parent / "run.json").write_text(json.dumps({"fps": 24}), encoding="utf-8")
    return track._Unfinished(path.parent, {"fps": 24}).load()


def _segments(path: Path) -> Any:
    """A state whose checksum is right, whatever it holds: the file's numbers in another state's place."""
    with contextlib.closing(Segments(Coding("libx264", "yuv420p", {}), Fraction(24), (64, 64))) as taken:
        return [len(packets) for packets in taken.go_on(resume.Unfinished(path.parent))]


def _sampling(path: Path) -> Any:
    latents = torch.zeros(2, 4, 8, 8)
    found = SamplingState(latents, build_scheduler(ScheduleConfig(), "unipc", 3))
    found.load(resume.Unfinished(path.parent))
    return found.step


def _saved(name: str, facts: dict[str, Any], **arrays: Any) -> Callable[[Path], Any]:
    """Write a state as ``resume`` does."""

    def write(path: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            resume.Unfinished(Path(folder)).save(name, arrays, facts)
            path.write_bytes((Path(folder) / name).read_bytes())

    return write


def _summed(read: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """Read a state whose checksum is made right: as if another version had written it."""

    def corrected(path: Path) -> Any:
        content = path.read_bytes()[: -hashlib.sha256().digest_size]
        path.write_bytes(content + hashlib.sha256(content).digest())
        return read(path)

    return corrected


def _fit(path: Path) -> Any:
    (path.parent / "a.obj").write_text(OBJ)
    (path.parent / "a.mhmat").write_text("diffuseTexture a.png")
    return assets._read_fit(path, 4)


def _rig(path: Path) -> Any:
    (path.parent / "bones.json").write_bytes(path.read_bytes())
    (path.parent / "weights.json").write_text(json.dumps(WEIGHTS))
    return assets._read_rig(path.parent, ("bones.json", "weights.json"), {}, 4)


def _rig_weights(path: Path) -> Any:
    (path.parent / "bones.json").write_text(json.dumps(BONES))
    return assets._read_rig(path.parent, ("bones.json", path.name), {}, 4)


def _card(path: Path) -> Any:
    (path.parent / "run").mkdir()
    (path.parent / "run" / "recipe.json").write_bytes(path.read_bytes())
    (path.parent / "run" / "log.jsonl").write_text('{"stage": "vae", "step": 1, "loss": 0.5}\n')
    (path.parent / "w").mkdir()
    (path.parent / "w" / store.INDEX).write_text('{"model": {}}')
    return card.write_card(path.parent / "run", weights=path.parent / "w", out=path.parent / "card.md")


def _results(path: Path) -> Any:
    found = card._read_json(path)
    with card._as_written(path):
        return list(card._numbers(found)), card.cases(found), list(card._limits(found, None))


def _override(path: Path) -> Any:
    override = os.fsdecode(path.read_bytes())  # as a command line has it
    return recipe.load_recipe("tiny", [override])


OBJ = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nvt 0 0\nvt 1 1\ng body\nf 1/1 2/2 3/1\nf 1 2 3 4\n"
FIT = """basemesh hm08
obj_file a.obj
material a.mhmat
x_scale 0 1 1.0
y_scale 0 2 1.0
z_scale 0 3 1.0
verts 0
0 1 2 0.3 0.3 0.4 0.0 0.01 0.0
1
2
3
delete_verts
0 - 2
"""
BONES = {
    "joints": {"a": [0], "b": [1, 2]},
    "bones": {
        "root": {"head": "a", "tail": "b", "parent": ""},
        "spine01": {"head": {"strategy": "VERTEX", "vertex_index": 2},
                    "tail": {"strategy": "MEAN", "vertex_indices": [1, 3]}, "parent": "root"},
        "toe": {"head": "a", "tail": "b", "parent": "spine01"},
    },
}  # fmt: skip
WEIGHTS = {"weights": {"root": [[0, 1.0], [1, 0.5]], "spine01": [[1, 0.5]], "toe": [[2, 1.0], [3, 1.0]]}}
MEASURED = {
    "portrait": "a",
    "speech": "b",
    "size": "256",
    "values": {"identity": 0.9, "x": None},
    "said": ["a"],
}
RESULTS = {
    "metrics": {"PSNR-face": {"value": 21.5, "unit": "dB", "clips": {"a": 20.0, "b": None, "c": 22.0}}},
    "goals": [{"name": "PSNR", "value": 18.2, "goal": 24.0, "met": False}],
    "not_computed": {"sync": "needs a part"},
}  # fmt: skip
MANIFEST = {
    "version": 1, "id": "a",
    "split": "train", "person": "p", "kind": "full", "source": "real", "video": "a.mp4",
    "audio": "a.wav", "gesture": "a.npz", "truth": "t.npz", "frames": 24, "fps": 24.0, "width": 64,
    "height": 64, "seconds": 1.0, "parameters": {"seed": 1},
}  # fmt: skip
JOB = {"portrait": "a.png", "speech": "a.wav", "out": "b.mp4", "gesture": "auto", "seed": 7, "steps": 4}
REJECTED = {"id": "a", "video": "v.mp4", "start": 0.0, "stop": 1.0, "why": "short", "detail": "0.4 s"}
OPENPOSE = {
    "people": [{
        "pose_keypoints_2d": [x for i in range(18) for x in (10.0 + i, 20.0 + i, 0.9)],
        "hand_left_keypoints_2d": [x for i in range(21) for x in (30.0 + i, 40.0, 0.8)],
        "hand_right_keypoints_2d": [x for i in range(21) for x in (50.0 + i, 40.0, 0.8)],
        "face_keypoints_2d": [x for i in range(70) for x in (40.0 + i / 5, 30.0, 0.7)],
    }],
    "canvas_width": 128, "canvas_height": 128,
}  # fmt: skip


def _pickled() -> list[bytes]:
    stream = io.BytesIO()
    np.save(stream, np.array(made.official_pose(), dtype=object), allow_pickle=True)
    return [stream.getvalue()]


def _pictures() -> list[bytes]:
    from PIL import Image

    contents = []
    picture = Image.fromarray(made.picture(64, 64))
    for kind in ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"):
        stream = io.BytesIO()
        picture.save(stream, kind)
        contents.append(stream.getvalue())
    return contents


def _packed() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = pack_clip(
            Path(folder), "a", np.zeros((3, 64, 64, 3), np.uint8), made.gesture(3), made.tone(0.2), None,
            person="p", kind="full", split="train", packing=Packing(size=64, fps=12.0),
        )  # fmt: skip
        return [path.read_bytes()]


def _torch_file(path: Path) -> None:
    torch.save({"weight": torch.ones(2, 2), "bias": torch.ones(2)}, path)


def _bundled(room: dict[str, Path]) -> Seeds:
    return lambda: [path.read_bytes() for path in room.values()]


_POSES = npz(
    joints=np.zeros((3, 128, 2), np.float32), confidence=np.ones((3, 128), np.float32),
    people=np.ones(3, np.int64), samples=np.zeros((2, 8, 8), np.uint8), width=64, height=64,
)  # fmt: skip


def _gesture(path: Path) -> None:
    save_gesture(made.gesture(3), path)


READERS = [
    Reader("image", "p.png", media.read_image, _pictures),
    Reader(
        "audio",
        "s.wav",
        media.read_speech,
        written(lambda p: media.write_speech(p, made.tone(0.1)), name="s.wav"),
    ),
    Reader("video", "v.mp4", _video, written(lambda p: made.write_video(p, 4), name="v.mp4"), slow=True),
    Reader(
        "metadata",
        "v.mp4",
        media.read_metadata,
        written(lambda p: made.write_video(p, 2), name="v.mp4"),
        slow=True,
    ),
    Reader("gesture npz", "g.npz", load_gesture, written(_gesture, name="g.npz")),
    Reader("pose npy", "0.npy", load_gesture, _pickled),
    Reader("pose folder", "0.npy", lambda p: load_gesture(p.parent), _pickled),
    Reader("OpenPose JSON", "o.json", load_gesture, text(OPENPOSE)),
    Reader("OpenPose folder", "0_keypoints.json", lambda p: load_gesture(p.parent), text(OPENPOSE)),
    Reader("manifest", "manifest.jsonl", read_manifest, text(MANIFEST, {**MANIFEST, "id": "b"})),
    Reader("entry", "a.json", lambda p: read_entry(p, p.parent), text(MANIFEST)),
    Reader("evaluate manifest", "manifest.jsonl", lambda p: pair_clips(p, None), text(MANIFEST)),
    Reader(
        "bench cases",
        "manifest.jsonl",
        _beside(bench.read_cases, "a.wav", "a.npz", "a.mp4", "t.npz"),
        text(MANIFEST),
    ),
    Reader("jobs", "jobs.jsonl", _beside(jobs.read_jobs, "a.png", "a.wav"), text(JOB)),
    Reader("recipe", "r.toml", recipe.load_recipe, _bundled(recipe.bundled())),
    Reader(
        "override", "set.txt", _override, lambda: [b"vae.optimiser.lr=0.001", b"data.fps=4", b"data.size=64"]
    ),
    Reader(
        "bench recipe",
        "b.toml",
        lambda p: config.load(bench.BenchRecipe, toml=p),
        _bundled({"starter": bench.bundled()["starter"]}),
    ),
    Reader("truth", "t.npz", Truth.load, npz(jaw=np.zeros(3), **{"boxes/face": np.zeros((3, 4))})),
    Reader("evaluation cache", "en/entry.npz", _cache, npz(jaw=np.zeros(3))),
    Reader("ingested poses", "p.npz", ingest._load_poses, _POSES),
    Reader("rejected", "r.json", ingest._read_rejection, text(REJECTED)),
    Reader(
        "listing",
        "l.csv",
        read_listing,
        text("url,start,stop", "https://youtu.be/abc,0:01,0:05", "x.mp4,1,2"),
    ),
    Reader(
        "extraction",
        "000000.npz",
        _chunk,
        npz(
            joints=np.zeros((track.CHUNK, 128, 2)),
            confidence=np.zeros((track.CHUNK, 128)),
            people=np.zeros(track.CHUNK, np.int64),
        ),
    ),
    Reader("packed clip", "a.clip.safetensors", _clip, _packed),
    Reader("safetensors", "w.safetensors", _state, lambda: [_linear()]),
    Reader("pth", "w.pth", _state, written(_torch_file, name="w.pth")),
    Reader(
        "index",
        store.INDEX,
        into(store.INDEX, _index),
        _bundled({"starter": Path(str(loading.__file__)).parent.parent / "starter" / "semibody.json"}),
        slow=True,
    ),
    Reader(
        "checkpoint",
        "state.json",
        into("state.json", _checkpoint),
        text({"step": 3, "seconds": 1.0, "recipe": {}, "stage": "vae", "scale": 1.0}),
    ),
    Reader(
        "log",
        "log.jsonl",
        into("log.jsonl", report.read_log),
        text({"stage": "vae", "step": 1, "loss": 0.5}, {"stage": "vae", "step": 2, "loss": 0.4}),
    ),
    Reader("record", "made.json", into("made.json", _record), text({"seed": 1})),
    Reader(
        "state",
        "state",
        lambda p: resume.Unfinished(p.parent).load("state"),
        written(_saved("state", {"a": 1}, b=np.ones(3))),
    ),
    Reader(
        "sampling state",
        "latents",
        _summed(_sampling),
        written(
            _saved(
                "latents",
                {
                    "step": 1,
                    "windows": 0,
                    "solvers": [{"_step_index": 1, "model_outputs": [None, {"tensor": "0/m", "on": "cpu"}]}],
                },
                latents=np.zeros((2, 4, 8, 8), np.float32),
                **{"0/m": np.zeros((2, 4, 8, 8), np.float32)},
            ),
            _saved(
                "latents",
                {"step": 0, "windows": 1, "solvers": [{}]},
                latents=np.zeros((2, 4, 8, 8), np.float32),
                prediction=np.zeros((2, 4, 8, 8), np.float32),
                counts=np.ones((2, 1, 1, 1), np.float32),
            ),
        ),
    ),
    Reader(
        "segment",
        "segment-0000000",
        _summed(_segments),
        written(
            _saved(
                "segment-0000000",
                {},
                content=np.zeros(40, np.uint8),
                table=np.array([[0, 30, 1], [1, 10, 0]]),
            )
        ),
    ),
    Reader(
        "slice",
        "frames-0000000-000",
        _summed(_segments),
        written(_saved("frames-0000000-000", {}, frames=np.zeros((2, 64, 64, 3), np.uint8))),
    ),
    Reader("mesh", "a.obj", assets._read_obj, lambda: [OBJ.encode()]),
    Reader(
        "target",
        "a.target",
        lambda p: assets._read_target(p, 4),
        lambda: [b"# a\n0 0.1 0.2 0.3\n3 -.1 0 0\n"],
    ),
    Reader(
        "packed target",
        "a.target.gz",
        lambda p: assets._read_target(p, 4),
        lambda: [gzip.compress(b"0 0.1 0.2 0.3\n" * 9)],
    ),
    Reader(
        "fit",
        "a.mhclo",
        _fit,
        lambda: [FIT.encode()],
    ),
    Reader("rig", "r.json", _rig, text(BONES)),
    Reader("rig's weights", "w.json", _rig_weights, text(WEIGHTS)),
    Reader("measured", "m.json", photographs.Measured.read, text(MEASURED)),
    Reader(
        "card's recipe",
        "recipe.json",
        _card,
        lambda: [json.dumps(config.to_dict(recipe.load_recipe("tiny"))).encode()],
    ),
    Reader("card's results", "results.json", _results, text(RESULTS)),
    Reader(
        "checkpoint's weights",
        "weights.safetensors",
        into("step-1/weights.safetensors", _weights),
        lambda: [_linear()],
    ),
    Reader("lock", hub.LOCK, into(hub.LOCK, hub._read_lock), text({"a/b": "0" * 40})),
]
