"""Many files in few shards: the same arrays, nothing lost by a kill or a full disk, damage named."""

from __future__ import annotations

import errno
import hashlib
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from semibody.data import shards
from semibody.data.dataset import (
    CLIP,
    LATENTS,
    LatentStore,
    PackedClip,
    Packing,
    clips_in,
    pack_clip,
    packed_clips,
)
from semibody.data.shards import INDEX, gather, read_shards
from semibody.training.drawn import draw_clip
from semibody.types import SemibodyError

PACKING = Packing(size=64)
END = ".x.safetensors"


def arrays(number: int) -> dict[str, Any]:
    rng = np.random.default_rng(number)
    return {
        "a": rng.standard_normal((5, 3, 2)).astype(np.float16),
        "b": rng.integers(0, 255, 7 + number, np.uint8),
        "none": np.zeros((0, 4), np.float32),
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(10):
        save_file(arrays(number), tmp_path / f"n{number}{END}", metadata={"id": f"n{number}"})
    return tmp_path


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def check(folder: Path, count: int = 10) -> None:
    found = read_shards(folder, END)
    assert sorted(found) == [f"n{number}" for number in range(count)]
    for number in range(count):
        assert found[f"n{number}"].facts == {"id": f"n{number}"}
        with found[f"n{number}"].open() as file:
            for name, wanted in arrays(number).items():
                part = file.get_slice(name)
                assert np.array_equal(file.get_tensor(name), wanted)
                assert tuple(part.get_shape()) == wanted.shape
            part = file.get_slice("a")
            assert np.array_equal(part[1:4], arrays(number)["a"][1:4])
            assert np.array_equal(part[-1], arrays(number)["a"][-1])
            assert part[3:2].shape == (0, 3, 2)
            with pytest.raises(IndexError):
                part[5]


def test_what_goes_in_comes_out_and_any_tool_reads_it(folder: Path) -> None:
    size = (folder / f"n0{END}").stat().st_size
    assert gather(folder, END, largest=4 * size + 40) == 10
    assert sorted(path.name for path in folder.iterdir()) == [
        f"xs-0000{n}{end}" for n in range(3) for end in (INDEX, ".tar")
    ]
    check(folder)
    with tarfile.open(folder / "xs-00000.tar") as tar:
        assert tar.getnames() == [f"n{number}{END}" for number in range(4)]


def test_later_files_go_into_further_shards(folder: Path) -> None:
    gather(folder, END)
    for number in range(10, 12):
        save_file(arrays(number), folder / f"n{number}{END}", metadata={"id": f"n{number}"})
    assert gather(folder, END) == 2
    assert sorted(path.name for path in folder.glob("*.tar")) == ["xs-00000.tar", "xs-00001.tar"]
    assert len(read_shards(folder, END)) == 12
    assert gather(folder, END) == 0


@pytest.mark.parametrize("after", ["shard", "index", "half of the files"])
def test_a_kill_anywhere_loses_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch, after: str) -> None:
    gather_all = {**digests(folder)}
    write, unlinked = shards._write_index, []
    unlink = Path.unlink

    def stop(*given: Any) -> None:
        if after == "shard":
            raise KeyboardInterrupt
        write(*given)
        if after == "index":
            raise KeyboardInterrupt

    def stop_half_way(path: Path, missing_ok: bool = False) -> None:
        if path.name.endswith(END):
            unlinked.append(path)
            if len(unlinked) == 5:
                raise KeyboardInterrupt
        unlink(path, missing_ok)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(shards, "_write_index", stop)
        if after == "half of the files":
            patched.setattr(Path, "unlink", stop_half_way)
        gather(folder, END)
    alone = list(folder.glob(f"*{END}"))
    assert all(digests(folder)[path.name] == gather_all[path.name] for path in alone)
    check(folder)
    gather(folder, END)
    assert not list(folder.glob(f"*{END}"))
    check(folder)


def test_a_full_disk_is_one_line_and_loses_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size, add, added = (folder / f"n0{END}").stat().st_size, tarfile.TarFile.addfile, []
    before = digests(folder)

    def full(*given: Any) -> None:
        added.append(1)
        if len(added) == 7:
            raise OSError(errno.ENOSPC, "No space left on device")
        add(*given)

    with monkeypatch.context() as patched, pytest.raises(SemibodyError, match="No space left on device"):
        patched.setattr(tarfile.TarFile, "addfile", full)
        gather(folder, END, largest=4 * size + 40)
    # The first shard stays; the files of the second are as they were.
    assert len(list(folder.glob("*.tar"))) == 1
    assert not list(folder.glob(".*"))
    assert len(read_shards(folder, END)) == 4
    left = {path.name for path in folder.glob(f"*{END}")}
    assert left == {f"n{number}{END}" for number in range(4, 10)}
    assert all(digests(folder)[name] == before[name] for name in left)
    gather(folder, END, largest=4 * size + 40)
    check(folder)


def test_damage_is_named(folder: Path) -> None:
    gather(folder, END)
    shard, index = folder / "xs-00000.tar", folder / f"xs-00000{INDEX}"
    content, lines = shard.read_bytes(), index.read_text()
    index.unlink()
    check(folder)
    assert index.read_text() == lines, "a lost index is made again"
    shard.write_bytes(content[: read_shards(folder, END)["n9"].start + 10])
    with pytest.raises(SemibodyError, match=r"xs-00000\.tar: is shorter than its index says; copy it again"):
        read_shards(folder, END)
    index.unlink()
    with pytest.raises(SemibodyError, match=r"xs-00000\.tar: is no shard that can be read"):
        read_shards(folder, END)
    index.write_text(lines)
    shard.unlink()
    with pytest.raises(SemibodyError, match=r"xs-00000\.tar: is missing; copy it again, or delete xs-00000"):
        read_shards(folder, END)
    shard.write_bytes(content)
    index.write_text('{"name": 3}\n')
    with pytest.raises(SemibodyError, match=r"index\.jsonl:1: is no line of an index; delete it"):
        read_shards(folder, END)


def drawn(folder: Path, count: int = 3) -> list[PackedClip]:
    for number in range(count):
        pictures, gesture, speech, truth = draw_clip(0, number, 6, 64, 24.0)
        pack_clip(
            folder / PACKING.key, f"c{number}", pictures, gesture, speech, truth, person=f"p{number}",
            kind="full", split="train", packing=PACKING, source="drawn",
        )  # fmt: skip
    return packed_clips(folder, PACKING)


def test_clips_and_latents_read_the_same_from_shards(tmp_path: Path) -> None:
    alone = drawn(tmp_path)
    store = LatentStore(tmp_path / "latents")
    rng = np.random.default_rng(0)
    made = {clip.id: rng.standard_normal((6, 4, 8, 8)).astype(np.float16) for clip in alone}
    waiting = list(made.values())
    store.fill(alone, lambda _: waiting.pop(0), lambda _: np.ones((9, 2), np.float16))
    before = [(clip.id, clip.pictures([4, 1]), clip.labels([2]), clip.speech(), clip.jaw()) for clip in alone]

    assert gather(tmp_path / PACKING.key, CLIP) == 3
    assert gather(tmp_path / "latents", LATENTS) == 3
    clips, store = packed_clips(tmp_path, PACKING), LatentStore(tmp_path / "latents")
    facts = ("id", "person", "kind", "split", "frames", "fps", "size", "valid", "source", "silent")
    for clip, was, (name, pictures, labels, speech, jaw) in zip(clips, alone, before, strict=True):
        assert [getattr(clip, fact) for fact in facts] == [getattr(was, fact) for fact in facts]
        assert clip.id == name and np.array_equal(clip.pictures([4, 1]), pictures)
        assert np.array_equal(clip.labels([2])[0].pose.joints, labels[0].pose.joints)
        assert np.array_equal(clip.speech().waveform, speech.waveform)
        assert np.array_equal(clip.jaw(), jaw)
        for frames in ([1, 2, 3], [5, 0]):
            assert np.array_equal(store.latents(clip, frames), made[name][frames].astype(np.float32))
        assert np.array_equal(store.rows(clip), np.ones((9, 2)))

    def never(*_: Any) -> Any:
        raise AssertionError("encoded again")

    store.fill(clips, never, never)


def test_a_clip_beside_shards_joins_them(tmp_path: Path) -> None:
    drawn(tmp_path)
    gather(tmp_path / PACKING.key, CLIP)
    assert [clip.id for clip in drawn(tmp_path, 4)] == ["c0", "c1", "c2", "c3"]
    assert len(list((tmp_path / PACKING.key).glob(f"*{CLIP}"))) == 4
    gather(tmp_path / PACKING.key, CLIP)
    assert len(clips_in(tmp_path / PACKING.key)) == 4
    assert not list((tmp_path / PACKING.key).glob(f"*{CLIP}"))


def test_less_colour_and_quality_take_less_room(tmp_path: Path) -> None:
    pictures, gesture, speech, truth = draw_clip(0, 0, 6, 64, 24.0)
    sizes = {}
    for packing in (PACKING, Packing(size=64, quality=90, chroma="420")):
        path = pack_clip(
            tmp_path / packing.key, "c", pictures, gesture, speech, truth, person="p", kind="full",
            split="train", packing=packing,
        )  # fmt: skip
        sizes[packing.chroma] = path.stat().st_size
        assert np.abs(PackedClip(path).pictures([0])[0].astype(int) - pictures[0]).mean() < 8
    assert len({PACKING.key, Packing(size=64, quality=90, chroma="420").key}) == 2
    assert sizes["420"] < 0.9 * sizes["444"]
