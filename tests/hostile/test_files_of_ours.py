"""Files that Semibody once wrote - truth, caches, logs, checkpoints, clips - and that were changed since."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import made
from semibody import config
from semibody.batch.jobs import Job
from semibody.batch.work import Task, make
from semibody.clips.listing import read_listing
from semibody.clips.manifest import read_manifest
from semibody.clips.truth import Truth
from semibody.data.dataset import PackedClip, Packing, pack_clip, packed_path
from semibody.data.folder import filling
from semibody.data.ingest import _load_poses, _read_rejection, ingest_video
from semibody.data.synthetic.order import Order
from semibody.data.wanted import Wanted
from semibody.diffusion.schedule import ScheduleConfig
from semibody.evaluation.cache import Cache
from semibody.files import atomic_write, path_of, read_json, temporary_folder, unfinished_name
from semibody.networks import loading
from semibody.networks.model import ModelConfig
from semibody.processes.local import in_processes
from semibody.quality.bench import read_cases
from semibody.training import checkpoint
from semibody.training.report import read_log
from semibody.types import SemibodyError
from semibody.weights import store
from semibody.weights.state import fill, mismatches, read_state

DIGITS = "9" * 5000
"""Python refuses to read so long a number, with a ValueError that is no JSONDecodeError."""
DEEP = "[" * 100_000


def damaged_zips(path: Path) -> list[Path]:
    """An npz with one fault each: another packing, a broken stream, an encrypted member, no npy inside."""
    np.savez_compressed(path, jaw=np.zeros(3))
    whole = path.read_bytes()
    at, directory = whole.index(b"jaw.npy"), whole.rindex(b"PK\1\2")
    stream = bytearray(whole)
    stream[at + 40 : at + 60] = b"\xff" * 20
    lzma = path.with_name("lzma.npz")
    with zipfile.ZipFile(lzma, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("jaw.npy", whole * 20)
    broken = bytearray(lzma.read_bytes())
    broken[60:90] = b"\xff" * 30
    encrypted, version = bytearray(whole), bytearray(whole)
    encrypted[directory + 8] |= 1
    version[directory + 6] = 94
    plain = path.with_name("plain.npz")
    with zipfile.ZipFile(plain, "w") as archive:
        archive.writestr("jaw", b"no array")
    found = [lzma, plain]
    contents = {"stream": stream, "broken": broken, "encrypted": encrypted, "version": version}
    for name, content in contents.items():
        found.append(path.with_name(f"{name}.npz"))
        found[-1].write_bytes(bytes(content))
    return found


def test_damaged_archives(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    cache.save("abc", {"jaw": np.zeros(3)})
    assert cache.has("abc")
    entry = next((tmp_path / "cache").rglob("*.npz"))
    for path in damaged_zips(tmp_path / "a.npz"):
        for read in (Truth.load, _load_poses):
            with pytest.raises(SemibodyError, match=rf"{path.name}: ") as error:
                read(path)
            assert "\n" not in str(error.value)
        entry.write_bytes(path.read_bytes())
        assert cache.load("abc") is None
        assert not cache.has("abc")


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"jaw": np.float64(1)},
        {"jaw": np.array(["a", "b"])},
        {"jaw": np.array([1j, 2j])},
        {"jaw": np.array([np.nan, 1])},
        {"jaw": np.array([np.inf, 1])},
        {"jaw": np.zeros((3, 2))},
        {"jaw": np.zeros(3), "boxes/face": np.zeros((2, 4))},
        {"jaw": np.zeros(3), "boxes/face": np.full((3, 4), np.inf)},
        {"jaw": np.zeros(3), "boxes/face": np.float64(0)},
    ],
)
def test_a_truth_that_is_none(tmp_path: Path, arrays: dict[str, Any]) -> None:
    np.savez(tmp_path / "t.npz", **arrays)
    with pytest.raises(SemibodyError, match=r"t\.npz: .*make the data again"):
        Truth.load(tmp_path / "t.npz")


# -- logs, checkpoints, records ------------------------------------------------------------

NO_RECORDS = [
    "",
    "[]",
    '"a"',
    "1",
    "null",
    "{",
    DEEP,
    '{"a": ' + DIGITS + "}",
    '{"a": "\\ud800"}',
    "\0",
    "{}",
]


def test_a_log_leaves_out_what_is_no_entry(tmp_path: Path) -> None:
    good = '{"stage": "vae", "step": 1, "loss": 0.5}'
    bad = [
        '{"stage": [], "step": 1, "loss": 1}',
        '{"stage": "../up", "step": 1, "loss": 1}',
        '{"stage": "vae", "step": "1", "loss": 1}',
        '{"stage": "vae", "step": true, "loss": 1}',
        '{"stage": "vae", "step": 1e400, "loss": 1}',
        '{"stage": "vae", "step": -1, "loss": 1}',
        '{"stage": "vae"}',
    ]
    odd = '{"stage": "vae", "step": 2, "loss": "low", "lr": [1], "gradient": NaN, "minutes": 3}'
    lines = [*NO_RECORDS, good, *bad, odd]
    (tmp_path / "log.jsonl").write_bytes("\n".join(lines).encode() + b"\n\xff\xfe\n")
    assert read_log(tmp_path) == {"vae": {"loss": ([1], [0.5]), "minutes": ([2], [3.0])}}


def snapshot() -> checkpoint.Snapshot:
    return checkpoint.Snapshot(step=3, weights={"w": torch.ones(2)}, ema={"w": torch.ones(2)}, moments={})


@pytest.mark.parametrize(
    "text",
    [
        *NO_RECORDS,
        '{"step": "1"}',
        '{"step": 1e400}',
        '{"step": -1}',
        '{"step": true}',
        '{"step": 1, "seconds": "long"}',
        '{"step": 1, "scaler": 3}',
        '{"step": 1, "recipe": []}',
    ],
)
def test_a_checkpoint_that_is_none(tmp_path: Path, text: str) -> None:
    checkpoint.write(tmp_path / "step-3", snapshot())
    (tmp_path / "step-3" / checkpoint.STATE).write_text(text)
    with pytest.raises(SemibodyError, match=r"state\.json: .*delete this checkpoint to use the one before"):
        checkpoint.read(tmp_path / "step-3")


@pytest.mark.parametrize(
    ("average", "moments"),
    [
        ({}, {}),
        ({"w": torch.ones(3)}, {}),
        ({"w": torch.ones(2)}, {"w": torch.ones(2)}),
        ({"w": torch.ones(2)}, {"exp_avg/v": torch.ones(2)}),
        ({"w": torch.ones(2)}, {"exp_avg/w": torch.ones(5)}),
        ({"w": torch.ones(2)}, {"hook/w": torch.ones(2)}),
    ],
)
def test_a_checkpoint_of_other_tensors(average: dict[str, Any], moments: dict[str, Any]) -> None:
    module = torch.nn.Module()
    module.w = torch.nn.Parameter(torch.zeros(2))
    adam = torch.optim.AdamW(module.parameters())
    wrong = checkpoint.Snapshot(step=1, weights={"w": torch.ones(2)}, ema=average, moments=moments)
    with pytest.raises(SemibodyError, match="step-1"):
        checkpoint.put(wrong, module, adam, {"w": torch.zeros(2)}, "step-1")
    assert float(module.w.detach().sum()) == 0


@pytest.mark.parametrize("text", NO_RECORDS)
def test_records_of_folders(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(SemibodyError, match=r"r\.json: "):
        _read_rejection(tmp_path / "r.json")
    with pytest.raises(SemibodyError), filling(tmp_path, "r.json", {"size": 3}):
        pass


@pytest.mark.parametrize("row", ["a,1,inf", "a,nan,2", "a,1," + DIGITS, 'a,"1', "a,x,y", "\0,1,"])
def test_lists_of_videos(tmp_path: Path, row: str) -> None:
    (tmp_path / "l.csv").write_text(f"URL,start_timecode,end_timecode\n{row}\n")
    try:
        assert "a" in read_listing(tmp_path / "l.csv") or "\0" in row
    except SemibodyError as error:
        assert "l.csv:2" in str(error)


# -- packed clips --------------------------------------------------------------------------


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    return pack_clip(
        tmp_path, "a", np.zeros((12, 64, 64, 3), np.uint8), made.gesture(), None, None, person="p",
        kind="full", split="train", packing=Packing(size=64, fps=12.0),
    )  # fmt: skip


def rewrite(path: Path, arrays: dict[str, Any] | None = None, **facts: str | None) -> None:
    from safetensors import safe_open
    from safetensors.numpy import save_file

    with safe_open(str(path), framework="np") as file:
        kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        known = dict(file.metadata())
    known = {k: v for k, v in {**known, **facts}.items() if v is not None}
    kept = {k: v for k, v in {**kept, **(arrays or {})}.items() if v is not None}
    save_file(kept, path, metadata=known or None)


@pytest.mark.parametrize(
    "facts",
    [
        *({name: None} for name in ("id", "person", "kind", "split", "frames", "fps", "size", "valid")),
        {"frames": "9"}, {"frames": "-1"}, {"frames": DIGITS}, {"fps": "nan"}, {"fps": "inf"}, {"size": "x"},
        {"valid": "[1"}, {"valid": "[]"}, {"valid": "3"}, {"valid": "[0, 0, NaN, 1]"}, {"valid": DEEP},
    ],
)  # fmt: skip
def test_a_packed_clip_with_other_facts(packed: Path, facts: dict[str, Any]) -> None:
    assert len(PackedClip(packed)) == 12
    rewrite(packed, **facts)
    with pytest.raises(SemibodyError, match=r"a\.clip\.safetensors: .*delete it"):
        PackedClip(packed)


@pytest.mark.parametrize(
    "arrays",
    [
        {"jaw": None},
        {"jaw": np.zeros(12, np.float64)},
        {"joints": np.zeros((12, 5, 2), np.float32)},
        {"joints": np.full((12, 128, 2), np.nan, np.float32)},
        {"offsets": np.zeros(13, np.int64)},
        {"offsets": np.arange(13)[::-1].copy()},
        {"offsets": np.arange(13) + 2**40},
        {"jpeg": np.zeros(10, np.uint8)},
        {"jaw": np.full(12, np.inf, np.float32)},
    ],
)
def test_a_packed_clip_with_other_tensors(packed: Path, arrays: dict[str, Any]) -> None:
    rewrite(packed, arrays)
    with pytest.raises(SemibodyError, match=r"a\.clip\.safetensors: .*delete it"):
        clip = PackedClip(packed)
        clip.pictures([0]), clip.labels([0]), clip.gesture(), clip.jaw(), clip.speech()


# -- ids are no paths ----------------------------------------------------------------------

BAD_IDS = ["../up", "/etc/x", "a/b", "a\\b", "..", ".", "a\nb", "x" * 300, "a\u202eb"]


@pytest.mark.parametrize("name", [*BAD_IDS, "", "a\0b", "a\ud800"])
def test_an_id_is_never_a_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(SemibodyError, match="cannot be a file's name"):
        path_of(tmp_path, name, ".mp4")
    with pytest.raises(SemibodyError, match="cannot be a file's name"):
        packed_path(tmp_path, name)


def test_ordinary_ids_are_names(tmp_path: Path) -> None:
    for name in ("p00001c00", "real-ann__1-0003", "语" * 40, "a b.c", "~", "é"):
        assert path_of(tmp_path, name, ".mp4").parent == tmp_path


@pytest.mark.parametrize("name", BAD_IDS)
def test_manifests_with_paths_as_ids(tmp_path: Path, name: str) -> None:
    made.write_video(tmp_path / "v.mp4")
    (tmp_path / "g.npz").write_bytes(b"1")
    line = {
        "version": 1, "id": name, "split": "train", "person": "p", "kind": "full", "source": "real",
        "video": "v.mp4", "audio": "v.mp4", "gesture": "g.npz", "truth": "", "frames": 1, "fps": 1.0,
        "width": 1, "height": 1, "seconds": 1.0,
    }  # fmt: skip
    (tmp_path / "manifest.jsonl").write_text(json.dumps(line | {"id": "good"}))
    assert len(read_manifest(tmp_path)) == 1
    (tmp_path / "manifest.jsonl").write_text(json.dumps(line))
    for read in (read_manifest, read_cases):
        with pytest.raises(SemibodyError, match=r"manifest\.jsonl:1: the id .* cannot be a file's name"):
            read(tmp_path / "manifest.jsonl")


# -- one bad job ---------------------------------------------------------------------------


def test_a_job_that_kills_its_process_twice_is_given_up(tmp_path: Path) -> None:
    jobs = [(str(tmp_path / str(n)), n == 2) for n in range(5)]
    found = sorted(in_processes(_deadly, jobs, workers=2, given_up=_given_up))
    assert found == ["0 made", "1 made", "2 given up", "3 made", "4 made"]
    assert int((tmp_path / "2").read_text()) >= 2


def _deadly(mark: str, deadly: bool) -> str:
    path = Path(mark)
    path.write_text(str(int(path.read_text()) + 1 if path.exists() else 1))
    if deadly:
        os._exit(1)
    return f"{path.name} made"


def _given_up(mark: str, deadly: bool) -> str:
    assert deadly
    return f"{Path(mark).name} given up"


def test_a_batch_goes_on_after_a_foreign_error(tmp_path: Path) -> None:
    class Broken:
        def settings(self, seed: int) -> Any:
            if seed == 0:
                raise ZeroDivisionError("deep inside\nof a library")
            if seed == 1:
                raise OSError(28, "No space left on device")
            raise SemibodyError("never")

    jobs = [
        Job(portrait=tmp_path, speech=tmp_path, out=tmp_path / f"{n}.mp4", settings={"seed": n})
        for n in (0, 2, 1)
    ]
    results = (make(Broken(), Task(job=job, key="")) for job in jobs)  # type: ignore[arg-type]
    first = next(results)
    assert (first.state, first.notices[0]) == (
        "failed", f"ZeroDivisionError: deep inside; {tmp_path / 'errors.log'} has the details",
    )  # fmt: skip
    assert "in settings" in (tmp_path / "errors.log").read_text()
    assert next(results).notices == ("never",)
    with pytest.raises(OSError, match="No space"):
        next(results)


def test_an_ingest_records_a_foreign_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise LookupError("nobody thought of it")

    monkeypatch.setattr("semibody.data.ingest._Video", fails)
    (tmp_path / "v.mp4").write_bytes(b"readable")
    assert ingest_video(str(tmp_path / "v.mp4"), "v", None, str(tmp_path), Wanted()) == ("v", "")
    told = _read_rejection(tmp_path / "rejected" / "v.json")
    assert told.why == "failed"
    assert "LookupError: nobody thought of it" in told.detail
    assert read_json(tmp_path / "videos" / "v.json", "") == {"video": "v.mp4", "clips": 0}
    assert "LookupError" in (tmp_path / "errors.log").read_text()


# -- weights -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "weird",
    [
        torch.ones(2, 3, dtype=torch.int8), torch.ones(2, 3, dtype=torch.complex64), torch.ones(2, 3).bool(),
        torch.ones(2, 3, dtype=torch.int64), torch.ones(2, 3).to(torch.float8_e5m2),
    ],
)  # fmt: skip
def test_tensors_that_are_no_weights(weird: torch.Tensor) -> None:
    assert mismatches({"w": torch.ones(2, 3)}, {"w": (2, 3)}) == []
    assert "not floating numbers" in mismatches({"w": weird}, {"w": (2, 3)})[0]


@pytest.mark.parametrize("weird", [torch.ones(1).expand(1 << 14, 1 << 14), torch.eye(3).to_sparse()])
def test_tensors_without_their_numbers_in_the_file(tmp_path: Path, weird: torch.Tensor) -> None:
    torch.save({"good": torch.ones(3, 2).T, "scalar": torch.tensor(1.0)}, tmp_path / "good.pth")
    assert set(read_state(tmp_path / "good.pth")) == {"good", "scalar"}
    torch.save({"w": weird}, tmp_path / "w.pth")
    with pytest.raises(SemibodyError, match=r"w\.pth: w is no plain tensor"):
        read_state(tmp_path / "w.pth")


@pytest.mark.parametrize(
    "view",
    [
        torch.full((1,), 3.0).expand(1000, 1000),
        torch.arange(7.0).as_strided((4, 4), (1, 1)),
        torch.arange(500.0).as_strided((2, 2), (0, 100)),
    ],
)
def test_views_take_no_pages_of_their_neighbours(tmp_path: Path, view: torch.Tensor) -> None:
    """Files of tensors expanded from one number are common; what lies beside them in the file stays."""
    other = torch.arange(300_000.0).reshape(300, 1000)
    torch.save({"weight": view, "other.weight": other}, tmp_path / "w.pth")
    with torch.device("meta"):
        network = torch.nn.Linear(view.shape[1], view.shape[0], bias=False)
        beside = torch.nn.Linear(1000, 300, bias=False)
        network.add_module("other", beside)
    state = read_state(tmp_path / "w.pth")
    fill(network, state, dtype=torch.float32, device=torch.device("cpu"), source="w")
    assert torch.equal(network.weight, view)
    assert torch.equal(beside.weight, other)


@pytest.mark.parametrize("stops_at", range(1, 6))
def test_a_conversion_that_stops_leaves_the_old_weights_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stops_at: int
) -> None:
    source, target = made.weights_folder(tmp_path / "new"), made.weights_folder(tmp_path / "old")
    before = {p.name: p.read_bytes() for p in target.iterdir()}
    count = 0

    def write(*words: Any) -> None:
        nonlocal count
        count += 1
        if count == stops_at:
            raise KeyboardInterrupt
        wanted(*words)

    wanted = store.write_network
    monkeypatch.setattr(store, "write_network", write)
    with pytest.raises(KeyboardInterrupt):
        loading.convert(source, target, dtype=torch.float16)
    assert {p.name: p.read_bytes() for p in target.iterdir()} == before


@pytest.mark.parametrize("after", range(1, 7))
def test_a_conversion_that_stops_while_it_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Stopped after so many renames: there are the new weights, or no index and nothing that loads."""
    source, target = made.weights_folder(tmp_path / "new"), made.weights_folder(tmp_path / "old")
    renamed = 0
    replace = Path.replace

    def stopping(path: Path, to: Path) -> Path:
        nonlocal renamed
        done = replace(path, to)
        renamed += Path(to).parent == target
        if renamed == after:
            raise KeyboardInterrupt
        return done

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", stopping)
        loading.convert(source, target, dtype=torch.float16)
    if after == 6:
        assert all(not problems for problems in loading.verify(target).values())
        assert read_state(target / "vae.safetensors")["encoder.conv_in.weight"].dtype == torch.float16
    else:
        assert not store.is_store(target)
        assert all(loading.verify(target).values())
        with pytest.raises(SemibodyError, match=str(target)):
            loading.load_model(target)


@pytest.mark.parametrize(
    "values",
    [
        {"train_steps": 10**9}, {"train_steps": 0}, {"beta_end": float("inf")}, {"beta_start": float("nan")},
        {"beta_start": -1.0}, {"beta_start": 0.5, "beta_end": 0.1},
    ],
)  # fmt: skip
def test_schedules_that_are_none(values: dict[str, Any]) -> None:
    config.build(ScheduleConfig, {"train_steps": 1000}, "semibody.json")
    with pytest.raises(SemibodyError, match=r"semibody\.json: .*(train_steps|betas) must be"):
        config.build(ScheduleConfig, values, "semibody.json")


@pytest.mark.parametrize(
    "values",
    [
        {"unet": {"layers": 10**9}}, {"unet": {"layers": 0}}, {"unet": {"motion_frames": 10**12}},
        {"unet": {"heads": -1}}, {"vae": {"widths": [32] * 1000}}, {"vae": {"widths": [10**9, 32]}},
        {"vae": {"scale": float("nan")}}, {"vae": {"patch": 0}}, {"audio": {"before": 10**9}},
        {"restorer": {"middle": 10**9}}, {"side": 10**9},
    ],
)  # fmt: skip
def test_models_of_impossible_sizes(tmp_path: Path, values: dict[str, Any]) -> None:
    (tmp_path / store.INDEX).write_text(json.dumps({"model": values}))
    with pytest.raises(SemibodyError, match=r"semibody\.json: "):
        loading.describe(tmp_path)


def test_networks_that_cannot_be_built(tmp_path: Path) -> None:
    """Sizes within the bounds may still not fit each other."""
    (tmp_path / store.INDEX).write_text(json.dumps({"model": {"vae": {"widths": [32, 1, 128]}}}))
    with pytest.raises(SemibodyError, match=r"semibody\.json: describes networks that cannot be built"):
        loading.verify(tmp_path)


def test_published_and_bundled_models_are_within_the_bounds() -> None:
    from semibody.weights.hub import STARTER

    assert ModelConfig().side is None
    assert loading.describe(STARTER).model.networks


@pytest.mark.parametrize("seconds", [1e9, 601.0, float("inf"), float("nan"), -1.0])
def test_orders_beyond_all_memory(seconds: float) -> None:
    with pytest.raises(SemibodyError, match="seconds"):
        Order(seconds=seconds)


# -- leftovers -----------------------------------------------------------------------------


def leave(folder: Path) -> Path:
    """The unfinished file of a process that has ended."""
    code = f"from semibody.files import unfinished_name as u; p = u(__import__('pathlib').Path({str(folder / 'o.mp4')!r})); p.touch(); print(p)"  # noqa: E501
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return Path(told.stdout.strip())


def test_what_killed_runs_left_is_removed(tmp_path: Path) -> None:
    left, mine = leave(tmp_path), unfinished_name(tmp_path / "o.mp4")
    mine.touch()
    others = [".o.mp4.unfinished", ".o.0000-1-ffff.unfinished.mp4", "o.unfinished.mp4", ".hidden"]
    for name in others:
        (tmp_path / name).touch()
    folder = leave(tmp_path)
    folder.unlink()
    folder.mkdir()
    (folder / "inside").touch()
    assert left.exists()
    with atomic_write(tmp_path / "o.mp4") as unfinished:
        unfinished.write_text("whole")
    assert {p.name for p in tmp_path.iterdir()} == {"o.mp4", mine.name, *others}


def test_leftovers_of_containers(tmp_path: Path) -> None:
    """There the next run often has the number of the one before, and the machine another name."""
    mine = unfinished_name(tmp_path / "o.mp4")
    same = mine.with_name(re.sub(r"-[0-9a-f]{4}\.unf", "-0000.unf", mine.name))
    other, old = tmp_path / ".o.0000-1-ffff.unfinished.mp4", tmp_path / ".o.0000-2-ffff.unfinished.mp4"
    for path in (mine, same, other, old):
        path.touch()
    os.utime(old, (0, 0))
    with atomic_write(tmp_path / "a.txt"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {mine.name, other.name, "a.txt"}


def test_a_training_without_data_leaves_no_folder(tmp_path: Path) -> None:
    from semibody.training.recipe import load_recipe
    from semibody.training.trainer import train

    either: list[dict[str, Any]] = [{"data": tmp_path / "none"}, {"packed": tmp_path / "none"}]
    for given in either:
        with pytest.raises(SemibodyError, match="none"):
            train(load_recipe("starter"), tmp_path / "o", device="cpu", **given)
        assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    left = leave(tmp_path)
    left.unlink()
    left.mkdir()
    (left / "weights.safetensors").touch()
    for _ in range(2):  # the second one takes the first one's place
        checkpoint.save(tmp_path, snapshot(), 2)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000003"]


def test_a_temporary_folder_goes_whatever_happens(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), temporary_folder(tmp_path / "w") as folder:
        (folder / "a").touch()
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_stop_while_the_command_loads_is_no_traceback() -> None:
    code = (
        "import sys\n"
        "class Stop:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'semibody.cli': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Stop())\n"
        "from semibody.__main__ import main\nmain()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "semibody: stopped\n")
