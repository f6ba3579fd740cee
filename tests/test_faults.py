"""Long work meets faults at random points: whatever strikes, the next run ends as if nothing had been.

SEMIBODY_FAULTS=100 makes that many of each kind for each work (``make faults``).
"""

from __future__ import annotations

import errno
import hashlib
import os
import random
import resource
import shutil
import signal
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

import faults
import made
from conftest import require_renderer
from loopback import StandIn
from pose.test_detect import ScriptedDetector, standing
from semibody.batch.jobs import Job
from semibody.batch.work import Task
from semibody.batch.work import make as make_clip
from semibody.clips.truth import Truth
from semibody.evaluation.cache import Cache
from semibody.inputs import prepare
from semibody.media import segments, write_image, write_speech
from semibody.networks import loading
from semibody.pose import track
from semibody.pose.files import save_gesture
from semibody.resume import folder_of
from semibody.training import checkpoint
from semibody.types import SemibodyError

TIMES = int(os.environ.get("SEMIBODY_FAULTS", "3"))
Make = Callable[[Path], faults.Work]
"""From a folder for results, what is done in it; it can be done again in the same folder."""


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the works read."""
    folder = tmp_path_factory.mktemp("given")
    write_image(folder / "p.png", made.picture())
    write_speech(folder / "s.wav", made.tone(0.6))
    made.write_video(folder / "v.mp4", 12, sound=False)
    made.weights_folder(folder / "w")
    return folder


def animate(given: Path) -> Make:
    animator = made.animator(steps=2)
    inputs = prepare(given / "p.png", given / "s.wav", made.gesture(), animator.settings())
    return lambda out: lambda: animator.write(out / "o.mp4", inputs, animator.settings(), resume=True)


def many(given: Path) -> Make:
    animator = made.animator(steps=1, length=3)
    poses = given / "g.npz"
    save_gesture(made.gesture(), poses)

    def make(out: Path) -> faults.Work:
        identity = {"weights": "random", "settings": asdict(animator.defaults), "precision": "fp32"}
        jobs = [
            Job(
                line=n,
                portrait=given / "p.png",
                speech=given / "s.wav",
                gesture=str(poses),
                out=out / f"{n}.mp4",
            )
            for n in range(2)
        ]

        def work() -> None:
            for job in jobs:
                result = make_clip(animator, Task(job=job, key=job.key(identity)))
                if result.state == "failed":
                    raise SemibodyError(result.notices[0])

        return work

    return make


def extract(given: Path) -> Make:
    def make(out: Path) -> faults.Work:
        def work() -> None:
            detector = ScriptedDetector([[standing()]] * 12)
            target = out / "g.npz"
            found = track.extract(given / "v.mp4", 12.0, detector=detector, keep=folder_of(target))
            save_gesture(found.gesture, target)

        return work

    return make


def convert(given: Path) -> Make:
    return lambda out: lambda: loading.convert(given / "w", out, dtype=torch.bfloat16)


def keep_training(given: Path) -> Make:
    tensors = {"w": torch.arange(1000.0)}

    def make(out: Path) -> faults.Work:
        def work() -> None:
            for step in (1, 2, 3):
                found = checkpoint.Snapshot(step=step, weights=tensors, ema=tensors, moments={})
                checkpoint.save(out, found, 1)

        return work

    return make


def measure(given: Path) -> Make:
    def make(out: Path) -> faults.Work:
        def work() -> None:
            cache = Cache(out)
            for number in range(3):
                key = hashlib.sha256(bytes([number])).hexdigest()
                if not cache.has(key) or cache.load(key) is None:
                    cache.save(key, {"a": np.arange(number + 3)})
            Truth(jaw=np.zeros(3, np.float32), boxes={}).save(out / "t.npz")

        return work

    return make


def train_stage(given: Path) -> Make:
    from semibody.training.trainer import train
    from training.nano import nano, packed

    clips = packed(given / "packed")
    changes = ("vae.optimiser.steps=3", "run.checkpoint_minutes=0", "run.validate_every=1000")
    recipe = nano('stages=["vae"]', *changes)
    return lambda out: lambda: train(recipe, out, device="cpu", packed=clips, resume=True)


def ingest_videos(given: Path) -> Make:
    pytest.importorskip("scenedetect")
    from data import test_ingest as scenes
    from semibody.data.ingest import ingest

    if not (given / "in").exists():
        scenes.video(given / "in" / "a.mp4", [scenes.GOOD, scenes.EMPTY])
        scenes.video(given / "in" / "b.mp4", [scenes.GOOD[::-1]])
    return lambda out: lambda: ingest(given / "in", out, scenes.WANTED)


def synthesise_people(given: Path) -> Make:
    require_renderer()
    pytest.importorskip("anny")
    from semibody.data.synthetic.order import Order
    from semibody.data.synthetic.produce import synthesise

    order = Order(people=1, clips=2, seconds=0.25, size=64, seed=3, head_share=0.5)
    return lambda out: lambda: synthesise(out, None, order)


def evaluate_clips(given: Path) -> Make:
    from semibody.evaluation.report import write_report
    from semibody.evaluation.run import evaluate

    for name in ("real", "ours"):
        if not (given / name).exists():
            (given / name).mkdir()
            made.write_video(given / name / "a.mp4", 4)

    def make(out: Path) -> faults.Work:
        def work() -> None:
            names = ["PSNR", "SSIM"]
            found = evaluate(given / "ours", given / "real", metrics=names, cache=out / "cache", workers=1)
            write_report(found, out / "report.html")

        return work

    return make


def fetch_weights(given: Path) -> Make:
    from semibody.weights import hub

    return lambda out: lambda: hub.fetch("official", folder=out)


WORKS = [
    animate, many, extract, convert, keep_training, measure,
    train_stage, ingest_videos, synthesise_people, evaluate_clips, fetch_weights,
]  # fmt: skip
TIMED = ("log.jsonl", "state.json", "report.html", "-curves.png")
"""Files with times in them: that they are there is compared, and not what they say."""


NOTED_ON_THE_WAY = {"ingest_videos", "keep_training", "train_stage", "fetch_weights"}
"""Works whose checkpoints or locks are whole files that later ones replace."""


def _name(work: Make) -> str:
    return work.__qualname__.partition(".")[0]


def contents(folder: Path) -> dict[str, str]:
    """Every file by its name, also hidden ones: what is left behind is seen. Left out are logs of errors, the
    lock of a folder, and what the Hub's client keeps to continue."""
    return {
        str(path.relative_to(folder)): (
            "" if path.name.endswith(TIMED) else hashlib.sha256(path.read_bytes()).hexdigest()
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("errors.log", ".lock") and ".hub" not in path.parts
    }


@pytest.fixture(params=WORKS, ids=lambda one: one.__name__)
def work(
    request: pytest.FixtureRequest, given: Path, monkeypatch: pytest.MonkeyPatch, stand_in: type[StandIn]
) -> Make:
    from data import test_ingest as scenes
    from semibody.data import ingest, lips, people

    monkeypatch.setattr(ingest, "open_detector", lambda name: scenes.ByColour())
    # mediapipe, which finds faces, does not survive a fork.
    monkeypatch.setattr(lips, "measure_here", lambda: None)
    monkeypatch.setattr(people, "network_missing", lambda: "these pictures show no faces")
    monkeypatch.setattr(ingest, "run_jobs", lambda function, jobs, *_, **__: (function(*j) for j in jobs))
    monkeypatch.setattr(segments, "SEGMENT", 4)
    monkeypatch.setattr(track, "CHUNK", 5)
    return request.param(given)


def test_kills_lose_nothing(work: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After a kill the next run ends with the same files, and no others."""
    whole = faults.run(work(tmp_path / "whole"))
    assert whole.how == "done", whole
    expected = contents(tmp_path / "whole")
    assert not [name for name in expected if Path(name).name.startswith(".")]
    draw = random.Random(1)
    for number in range(TIMES):
        out = tmp_path / str(number)
        while faults.run(work(out), faults.Kill(draw.randint(1, whole.points))).how != "killed":
            shutil.rmtree(out)  # what waits for an answer has not always as many points
        assert faults.run(work(out)).how == "done"
        assert contents(out) == expected
        shutil.rmtree(out)
    if "SEMIBODY_FAULTS" in os.environ:
        name, points = _name(work), whole.points
        with capsys.disabled():
            print(f"\n{name}: {TIMES} kills at {points} points: 0 lost, 0 differing, 0 stray files")  # noqa: T201


@pytest.mark.parametrize(
    "code", [errno.ENOSPC, errno.EACCES, errno.EIO, errno.ENOMEM], ids=errno.errorcode.get
)
def test_failing_calls_end_in_one_line(work: Make, tmp_path: Path, code: int) -> None:
    """A full disk, a refusal, a broken disk, no memory: never a traceback, never half a file."""
    whole = faults.run(work(tmp_path / "whole"))
    expected = contents(tmp_path / "whole")
    draw = random.Random(code)
    for number in range(TIMES):
        out = tmp_path / str(number)
        ended = faults.run(work(out), faults.Fail(draw.randint(1, whole.points), code))
        assert ended.how in ("done", "refused", "disk", "memory"), ended.how
        if out.exists():
            shown = {name: sum_ for name, sum_ in contents(out).items() if not name.startswith(".")}
            assert shown.items() <= expected.items() or _name(work) in NOTED_ON_THE_WAY
        assert faults.run(work(out)).how == "done"
        assert contents(out) == expected


def test_a_disk_that_fills_up(work: Make, tmp_path: Path) -> None:
    """No file may grow beyond a size drawn at random, as on a full disk, also not by other libraries."""
    assert faults.run(work(tmp_path / "whole")).how == "done"
    expected = contents(tmp_path / "whole")
    largest = max(path.stat().st_size for path in (tmp_path / "whole").rglob("*") if path.is_file())
    draw = random.Random(2)
    for number in range(TIMES):
        out, limit = tmp_path / str(number), draw.randint(0, largest - 1)

        def limited(out: Path = out, limit: int = limit) -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then writing fails with EFBIG
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            work(out)()

        ended = faults.run(limited)
        assert ended.how in ("refused", "disk"), (ended.how, limit)
        assert faults.run(work(out)).how == "done"
        assert contents(out) == expected


def test_a_state_that_was_damaged_is_begun_anew(tmp_path: Path, given: Path) -> None:
    """Every file of a killed run's state is damaged in turn; the video has the same bytes."""
    work = animate(given)
    whole = faults.run(work(tmp_path / "whole"))
    expected, draw = contents(tmp_path / "whole"), random.Random(3)
    for number in range(TIMES):
        out = tmp_path / str(number)
        faults.run(work(out), faults.Kill(draw.randint(whole.points // 3, whole.points)))
        state = [path for path in folder_of(out / "o.mp4").glob("*") if path.stat().st_size]
        if state:
            path = draw.choice(sorted(state))
            damaged = bytearray(path.read_bytes())
            damaged[draw.randrange(len(damaged))] ^= 0xFF
            path.write_bytes(bytes(damaged))
        assert faults.run(work(out)).how == "done"
        assert contents(out) == expected


def test_networks_that_give_garbage(given: Path, tmp_path: Path) -> None:
    """NaN and infinity in the weights stop the run with the remedy, and leave no video and no state."""
    for network in ("denoising_unet", "vae", "pose_encoder"):
        animator = made.animator(steps=1)
        for parameter in getattr(animator.model, network).parameters():
            parameter.data.fill_(float("nan"))
        inputs = prepare(given / "p.png", given / "s.wav", made.gesture(), animator.settings())
        with pytest.raises(SemibodyError, match=r"not finite in float32; .*semibody weights verify"):
            animator.write(tmp_path / "o.mp4", inputs, animator.settings(), resume=True)
        assert list(tmp_path.iterdir()) == []
