"""Pose files that crash a reader or fill the memory: each a SemibodyError, in little time and memory."""

from __future__ import annotations

import io
import pickle
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import made
from semibody.files import read_npz
from semibody.pose.files import Stated, load_gesture, save_gesture
from semibody.types import N_JOINTS, Gesture, SemibodyError

LIMITED = """
import resource, sys
from semibody.pose.files import load_gesture
from semibody.types import SemibodyError
import numpy, semibody.pose.formats.reading
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
resource.setrlimit(resource.RLIMIT_AS, (6 * 10**9, 6 * 10**9))
try:
    load_gesture(sys.argv[1])
except SemibodyError as error:
    print(f"refused: {error}")
print("grown", (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def read_limited(path: Path) -> str:
    """What a process of its own prints about ``path``; it fails if that takes 100 MB or 20 seconds."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 0, f"died with {done.returncode}: {done.stderr[-300:]}"
    printed, grown = done.stdout.rsplit("grown ", 1)
    assert int(grown) < 100, f"grew by {grown} MB"
    return printed


def npy(path: Path, program: bytes) -> Path:
    """A pickled 0-d object array whose pickle is ``program``."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"shape": (), "fortran_order": False, "descr": "|O"})
        file.write(program)
    return path


class Made:
    """Pickles as a call of ``function`` with ``arguments``, and a state that is then set."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.reduced = (function, arguments, state) if state is not None else (function, arguments)

    def __reduce__(self) -> Any:
        return self.reduced


RECONSTRUCT = np.zeros(1).__reduce__()[0]


def array(shape: Any, dtype: Any, content: Any) -> Made:
    """An array as numpy pickles one, with whatever dtype and content."""
    return Made(RECONSTRUCT, np.ndarray, (0,), b"b", state=(1, shape, dtype, False, content))


def dtype_with(*state: Any, code: str = "f8") -> Made:
    return Made(np.dtype, code, False, True, state=state)


def programs() -> dict[str, Any]:
    """Values whose pickles rewrite dtypes, claim sizes, or stand for more than they hold."""
    laughs: list[Any] = [1.0] * 10
    for _ in range(30):
        laughs = [laughs] * 10
    fields = {"a": (np.dtype("f8"), 2**30)}
    deep: Any = 1.0
    for _ in range(400):
        deep = [deep]
    pointers = struct.pack("<Q", 0x4141414141414141) * 21
    return {
        "pointers": array((21,), dtype_with(3, "|", None, None, None, -1, -1, 63, code="O8"), pointers),
        "flags": array((21,), dtype_with(3, "<", None, None, None, 8, 8, 63), pointers),
        "fields": array((2,), dtype_with(3, "|", None, ("a",), fields, 8, 1, 16, code="V8"), b"0" * 16),
        "fields of a number": array((2,), dtype_with(3, "<", None, ("a",), fields, 8, 1, 16), b"0" * 16),
        "subarray": array(
            (2,), dtype_with(3, "<", (np.dtype("f8"), (2**28,)), None, None, 8, 8, 0), b"0" * 16
        ),
        "shape": array((2**40, 21), np.dtype("f8"), b"0" * 16),
        "negative": array((-2, -1), np.dtype("f8"), b"0" * 16),
        "overflow": array((2**62, 4), np.dtype("f8"), b""),
        "objects": array((2,), np.dtype("O"), [1, 2]),
        "strings": array((2,), np.dtype("U1000000000"), b"0"),
        "scalar": Made(np.float64(0).__reduce__()[0], np.dtype("O"), pointers[:8]),
        "huge array": Made(np.ndarray, (2**32,)),
        "laughs": laughs,
        "deep": deep,
        "integer": 10**5000,
    }


@pytest.mark.parametrize("kind", sorted(programs()))
def test_a_pickle_is_not_run(tmp_path: Path, kind: str) -> None:
    value = {**made.official_pose(), "hands": programs()[kind]}
    path = npy(tmp_path / "0.npy", pickle.dumps(value, protocol=3))
    assert len(path.read_bytes()) < 20_000
    assert f"refused: {path}" in read_limited(path)


@pytest.mark.parametrize("kind", ["laughs", "deep"])
def test_nested_parameters_are_not_expanded(tmp_path: Path, kind: str) -> None:
    value = {**made.official_pose(), "draw_pose_params": [programs()[kind]] * 6}
    path = npy(tmp_path / "0.npy", pickle.dumps(value, protocol=3))
    assert "'draw_pose_params'" in read_limited(path)


@pytest.mark.parametrize(
    "program",
    [
        b"",
        b".",
        b"(" * 1000 + b".",
        b"]" + b"a" * 100 + b".",
        b"0.",
        b"\x80\x03]\x94" + b"h\x00" * 10_000 + b".",
        b"\x80\x03" + b"(" * 100_000 + b"t" * 100_000 + b".",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x80\x02\x8b\xff\xff\xff\x7f0.",
        b"\x80\x03N\x86r\xff\xff\xff\x7f.",
        b"cnumpy\ndtype\n(S'f8'\ntR(dS'a'\nNsb.",
        b"ccopyreg\n_reconstructor\n.",
        b"\x80\x03c__builtin__\neval\n.",
        b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.",
        b"\x80\x03]]\x93.",
        b"\x80\x02\x82\x01.",
        b"P1\n.",
    ],
)
def test_a_damaged_pickle_is_named(tmp_path: Path, program: bytes) -> None:
    path = npy(tmp_path / "0.npy", program)
    with pytest.raises(SemibodyError, match=r"0\.npy"):
        load_gesture(path)


def test_mutated_poses_are_read_or_refused(tmp_path: Path) -> None:
    """600 seeded mutations of a good file."""
    good = io.BytesIO()
    np.save(good, np.array(made.official_pose(), dtype=object), allow_pickle=True)
    rng = np.random.default_rng(0)
    path = tmp_path / "0.npy"
    refused = 0
    for _ in range(600):
        content = bytearray(good.getvalue())
        for _ in range(int(rng.integers(1, 6))):
            # Most bytes are coordinates; what describes them is what can do harm.
            at = int(rng.integers(0, len(content))) if rng.random() < 0.3 else int(rng.integers(0, 500))
            content[at] = int(rng.integers(0, 256))
        path.write_bytes(bytes(content))
        try:
            load_gesture(path)
        except SemibodyError as error:
            refused += 1
            assert str(path) in str(error)
            assert "\n" not in str(error)
    assert refused > 150


def test_numbers_far_apart_take_no_memory(tmp_path: Path) -> None:
    folder = made.official_folder(tmp_path / "poses", 1)
    (folder / "60000000.npy").write_bytes((folder / "0.npy").read_bytes())
    printed = read_limited(folder)
    assert "pose 1.npy is missing (59999999 in all)" in printed


@pytest.mark.parametrize("name", ["9" * 30, "²", "١", "1e3"])
def test_names_that_are_no_number_are_left_out(tmp_path: Path, name: str) -> None:
    folder = made.official_folder(tmp_path / "poses", 1)
    (folder / f"{name}.npy").write_bytes((folder / "0.npy").read_bytes())
    gesture = load_gesture(folder)
    assert len(gesture) == 1
    assert "left out" in gesture.notices[0]


# -- .npz ----------------------------------------------------------------------------------


def npz(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def member(array: Any = 0.0, header: str | None = None) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(array))
    if header is None:
        return file.getvalue()
    text = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def bombs() -> dict[str, Callable[[Path], Path]]:
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({2**29},)}}"
    return {
        "claims": lambda path: npz(path, {"joints": member(header=header)}),
        "negative": lambda path: npz(
            path, {"joints": member(header="{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}")}
        ),
        "objects": lambda path: npz(
            path, {"joints": member(header="{'descr': '|O', 'fortran_order': False, 'shape': ()}")}
        ),
        "itemsize": lambda path: npz(
            path, {"joints": member(header="{'descr': '|V2000000000', 'fortran_order': False, 'shape': ()}")}
        ),
        "tokens": lambda path: npz(path, {"joints": member(header="{'descr': ('")}),
        "nested": lambda path: npz(path, {"joints": member(header="(" * 100)}),
        "many": lambda path: npz(path, {f"a{i}": member() for i in range(5000)}),
        "lzma": lambda path: npz(path, {"joints": member()}, zipfile.ZIP_LZMA),
        "text": lambda path: npz(path, {"joints": b"text"}),
    }


@pytest.mark.parametrize("kind", sorted(bombs()))
def test_an_npz_is_checked_before_it_is_unpacked(tmp_path: Path, kind: str) -> None:
    path = bombs()[kind](tmp_path / "a.npz")
    with pytest.raises(SemibodyError, match=r"a\.npz"):
        load_gesture(path)


def test_a_packed_npz_takes_no_memory(tmp_path: Path) -> None:
    """64 MB of zeros in 64 kB, where 1 MB is allowed."""
    np.savez_compressed(tmp_path / "a.npz", joints=np.zeros(2**23))
    tracemalloc.start()
    with pytest.raises(SemibodyError, match="unpacks to more than 1 MB"):
        read_npz(tmp_path / "a.npz", "give another", largest=2**20)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_mutated_npz_are_read_or_refused(tmp_path: Path) -> None:
    save_gesture(Gesture(np.zeros((3, N_JOINTS, 2)), np.ones((3, N_JOINTS))), tmp_path / "good.npz")
    good = (tmp_path / "good.npz").read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "a.npz"
    refused = 0
    for _ in range(500):
        content = bytearray(good)
        for _ in range(int(rng.integers(1, 6))):
            content[int(rng.integers(0, len(content)))] = int(rng.integers(0, 256))
        path.write_bytes(
            bytes(content[: int(rng.integers(1, len(good) + 1))] if rng.random() < 0.1 else content)
        )
        try:
            load_gesture(path)
        except SemibodyError as error:
            refused += 1
            assert "a.npz" in str(error)
    assert refused > 150


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"fps": 1e9}, "poses a second"),
        ({"fps": 1e-9}, "poses a second"),
        ({"fps": np.inf}, "not a number"),
        ({"fps": np.array([24.0, 25.0])}, "'fps' is not a number"),
        ({"fps": "24"}, "'fps' is not a number"),
        ({"aspect": 1e-300}, "times as wide as high"),
        ({"aspect": np.nan}, "not a number"),
        ({"version": np.array([1, 2])}, "'version' is not a number"),
        ({"confidence": -np.ones((4, N_JOINTS))}, "below 0"),
        ({"confidence": np.full((4, N_JOINTS), 1e9)}, "they go from 0 to 1"),
        ({"joints": np.full((4, N_JOINTS, 2), 1e200)}, "pixels"),
        (
            {"joints": np.where(np.arange(256).reshape(1, 128, 2) < 2, 1e9, np.zeros((4, 128, 2)))},
            "far outside",
        ),
        ({"joints": np.full((4, N_JOINTS, 2), "a")}, "no numbers"),
        ({"joints": np.zeros((0, N_JOINTS, 2)), "confidence": np.zeros((0, N_JOINTS))}, "shapes"),
    ],
)
def test_impossible_values_are_named(tmp_path: Path, facts: dict[str, Any], message: str) -> None:
    good = {"joints": np.zeros((4, N_JOINTS, 2)), "confidence": np.ones((4, N_JOINTS)), "fps": 24.0}
    np.savez(tmp_path / "a.npz", **{**good, **facts})
    with pytest.raises(SemibodyError, match=message):
        load_gesture(tmp_path / "a.npz")


def test_a_slow_gesture_of_days_is_refused(tmp_path: Path) -> None:
    """20000 poses at 0.5 a second would become a million when played at 24."""
    save_gesture(Gesture(np.zeros((20_000, N_JOINTS, 2)), np.ones((20_000, N_JOINTS))), tmp_path / "a.npz")
    with pytest.raises(SemibodyError, match="longer than 4 hours"):
        load_gesture(tmp_path / "a.npz", Stated(fps=0.5))


# -- JSON ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000,
        '{"people": ' * 50_000,
        '{"people": [], "fps": ' + "1" * 5000 + "}",
        '{"people": [], "fps": 1e999}',
        '{"people": [], "fps": 1e-9}',
        '{"people": [], "fps": true}',
        '{"people": [], "fps": [24]}',
        '{"people": [], "fps": ' + "9" * 400 + "}",
        '{"people": [], "aspect": NaN}',
        '{"people": [], "canvas_width": "wide", "canvas_height": "x"}',
        '{"people": [], "canvas_width": [1], "canvas_height": 1e999}',
        '{"people": [], "canvas_width": -5, "canvas_height": 5}',
        '{"people": [3]}',
        '{"people": [{"pose_keypoints_2d": {"a": 1}}]}',
        '{"people": [{"pose_keypoints_2d": [' + "9" * 400 + "]}]}",
        '{"people": "\\u0000"}',
        '{"people": [], "\\ud800": 1}',
        '{"frames": {"a": 1}}',
        '{"instance_info": 3}',
        '{"instance_info": [3]}',
        '{"instance_info": [{"frame_id": 0, "instances": []}, {"frame_id": 1e300, "instances": 3}]}',
        '{"instance_info": [{"frame_id": 0, "instances": []}, {"frame_id": 60000000, "instances": []}]}',
        '{"instance_info": [{"frame_id": 1, "instances": []}, {"frame_id": 1, "instances": []}]}',
        '[{"keypoints": "a", "keypoint_scores": [1]}]',
        '[{"image_id": [1], "keypoints": [1]}]',
        '{"annotations": [{"image_id": 1, "keypoints": [1], "face_kpts": [1]}]}',
        '{"people": []} trailing',
        "\ufeff\ufeff{}",
        "",
    ],
)  # fmt: skip
def test_json_that_is_no_pose(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(SemibodyError, match=r"a\.json") as error:
        load_gesture(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["a\0b", "a\ud800.json", "x" * 300 + ".npz"])
def test_names_that_no_file_has(name: str) -> None:
    with pytest.raises(SemibodyError) as error:
        load_gesture(name)
    str(error.value).encode()


def test_the_given_samples(shared_inputs: Path) -> None:
    """None of the samples is a gesture."""
    for path in sorted((shared_inputs / "hostile").iterdir()):
        if path.suffix in (".npy", ".npz", ".json"):
            with pytest.raises(SemibodyError):
                load_gesture(path)
