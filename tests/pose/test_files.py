from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import made
from semibody.pose.files import Stated, load_gesture, save_gesture
from semibody.types import BODY, FACE, HANDS, SemibodyError


def save(path: Path, value: Any) -> Path:
    np.save(path, np.array(value, dtype=object), allow_pickle=True)
    return path


def test_official_folder(tmp_path: Path) -> None:
    folder = made.official_folder(tmp_path / "g", 12)
    (folder / "readme.txt").write_text("stray")
    (folder / "preview.npy").write_bytes(b"stray")
    (folder / ".DS_Store").write_bytes(b"hidden")
    gesture = load_gesture(folder)
    assert len(gesture) == 12
    assert gesture.notices == (
        f"{folder}: preview.npy and 1 more are left out, not poses named 0.npy, 1.npy, …",
    )
    for number in (0, 2, 11):  # numeric order, not 0 1 10 11 2
        pose = made.official_pose(number)
        np.testing.assert_array_equal(gesture.joints[number, HANDS], pose["hands"].reshape(42, 2))
        np.testing.assert_array_equal(gesture.joints[number, BODY], pose["bodies"]["candidate"])
        np.testing.assert_array_equal(gesture.confidence[number, FACE], pose["faces_score"][0])


def test_two_people_left_hands_come_first(tmp_path: Path) -> None:
    (tmp_path / "g").mkdir()
    pose = made.official_pose(0, people=2)
    save(tmp_path / "g" / "0.npy", pose)
    for person in (0, 1):
        gesture = load_gesture(tmp_path / "g", Stated(person=person))
        np.testing.assert_array_equal(gesture.hands[0], pose["hands"][[person, 2 + person]])
        np.testing.assert_array_equal(gesture.joints[0, FACE], pose["faces"][person])
        assert gesture.notices == ()
    with pytest.raises(SemibodyError, match="2 people and no number 2"):
        load_gesture(tmp_path / "g", Stated(person=2))


def test_npz_round_trip(tmp_path: Path) -> None:
    gesture = made.gesture()
    save_gesture(gesture, tmp_path / "g.npz")
    read = load_gesture(tmp_path / "g.npz")
    np.testing.assert_array_equal(read.joints, gesture.joints)
    np.testing.assert_array_equal(read.confidence, gesture.confidence)
    assert (read.fps, read.aspect) == (gesture.fps, gesture.aspect)


class Evil:
    def __reduce__(self) -> Any:
        import os

        return os.system, ("touch /tmp/semibody-was-here",)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_pose_file_cannot_run_code(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "g").mkdir()
    path = tmp_path / "g" / "0.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"shape": (), "fortran_order": False, "descr": "|O"})
        pickle.dump({"hands": Evil()}, file, protocol=protocol)
    with pytest.raises(SemibodyError, match=r"asks to load (posix|os|nt)\.system"):
        load_gesture(tmp_path / "g")
    assert not Path("/tmp/semibody-was-here").exists()


def broken() -> dict[str, Any]:
    nan = made.official_pose()
    nan["hands"][0, 3, 1] = np.nan
    shape = {**made.official_pose(), "hands": np.zeros((2, 20, 2))}
    missing = made.official_pose()
    del missing["hands_score"]
    text = {**made.official_pose(), "hands": "text"}
    faceless = {**made.official_pose(), "faces": np.zeros((0, 68, 2)), "faces_score": np.zeros((0, 68))}
    bodiless = {**made.official_pose(), "bodies": {"candidate": np.zeros((18, 2)), "score": np.zeros(())}}
    number = {**made.official_pose(), "hands": 3.0}
    return {
        "faceless": faceless,
        "bodiless": bodiless,
        "number": number,
        "nan": nan,
        "shape": shape,
        "missing": missing,
        "text": text,
        "list": [1, 2],
    }


@pytest.mark.parametrize(
    "kind", ["nan", "shape", "missing", "text", "list", "faceless", "bodiless", "number"]
)
def test_broken_poses_are_named(tmp_path: Path, kind: str) -> None:
    folder = made.official_folder(tmp_path / "g", 3)
    path = save(folder / "1.npy", broken()[kind])
    with pytest.raises(SemibodyError, match=r"1\.npy") as error:
        load_gesture(folder)
    assert str(path) in str(error.value)


def test_other_bad_gestures(tmp_path: Path) -> None:
    gap = made.official_folder(tmp_path / "gap", 4)
    (gap / "2.npy").unlink()
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.npz").write_text("text")
    (tmp_path / "text.txt").write_text("text")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    np.savez(tmp_path / "shape.npz", joints=np.zeros((3, 5, 2)), confidence=np.zeros((3, 5)), fps=24.0)
    plain = made.official_folder(tmp_path / "plain", 1)
    np.save(plain / "0.npy", np.zeros(3))
    for name in ("gap", "empty", "text.npz", "text.txt", "other.npz", "shape.npz", "plain", "missing"):
        with pytest.raises(SemibodyError) as error:
            load_gesture(tmp_path / name)
        assert name in str(error.value)


def test_published_sets(shared_inputs: Path) -> None:
    for folder in sorted((shared_inputs / "gestures").iterdir()):
        gesture = load_gesture(folder)
        assert len(gesture) == len(list(folder.glob("*.npy")))
