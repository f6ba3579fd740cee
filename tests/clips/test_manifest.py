"""The manifest: what is written is read, what is broken is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semibody.clips.manifest import ClipEntry, Line, read_lines, read_manifest, split_of, write_manifest
from semibody.types import SemibodyError


def entry(folder: Path, name: str = "a", person: str = "p0", **changes: object) -> ClipEntry:
    values: dict[str, object] = {
        "id": name,
        "split": "train",
        "person": person,
        "kind": "full",
        "source": "synthetic",
        "video": folder / "clips" / f"{name}.mp4",
        "audio": folder / "clips" / f"{name}.wav",
        "gesture": folder / "clips" / f"{name}.gesture.npz",
        "truth": None,
        "frames": 36,
        "fps": 24.0,
        "width": 256,
        "height": 256,
        "seconds": 1.5,
        "seed": 7,
        "parameters": {"age": 0.5, "voice": "en"},
    }
    return ClipEntry(**{**values, **changes})  # type: ignore[arg-type]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written = [entry(tmp_path, "b"), entry(tmp_path, "a", "p1", split="val", audio=None)]
    write_manifest(written, tmp_path)
    assert read_manifest(tmp_path) == [written[1], written[0]]
    assert read_manifest(tmp_path / "manifest.jsonl")[0].audio is None


def test_paths_in_the_file_are_relative_so_that_a_folder_can_move(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    write_manifest([entry(tmp_path / "old")], tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    assert read_manifest(tmp_path / "new")[0].video == tmp_path / "new" / "clips" / "a.mp4"


def test_a_file_outside_the_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SemibodyError, match="outside"):
        write_manifest([entry(tmp_path, video=Path("/elsewhere/a.mp4"))], tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("split", "training"),
        ("kind", "half"),
        ("frames", 0),
        ("fps", "24"),
        ("width", True),
        ("video", ""),
        ("gesture", "../g.npz"),
        ("person", 3),
    ],
)
def test_a_wrong_value_is_named_with_its_line(tmp_path: Path, field: str, value: object) -> None:
    write_manifest([entry(tmp_path)], tmp_path)
    file = tmp_path / "manifest.jsonl"
    line = json.loads(file.read_text())
    file.write_text("\n" + json.dumps({**line, field: value}))
    with pytest.raises(SemibodyError, match=rf"manifest\.jsonl:2: {field}"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 2}', '{"version": 1, "id": "a"}'])
def test_a_broken_line_is_one_message(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.jsonl").write_text(text)
    with pytest.raises(SemibodyError, match=r"manifest\.jsonl:1"):
        read_manifest(tmp_path)


def test_a_missing_manifest_names_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(SemibodyError, match=r"manifest\.jsonl: cannot be read .*synthesise"):
        read_manifest(tmp_path)


def test_a_person_in_two_splits_and_a_repeated_id_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SemibodyError, match="two splits"):
        write_manifest([entry(tmp_path, "a"), entry(tmp_path, "b", split="val")], tmp_path)
    with pytest.raises(SemibodyError, match="twice"):
        write_manifest([entry(tmp_path), entry(tmp_path)], tmp_path)


@given(st.text(min_size=1, max_size=20))
def test_the_split_depends_on_the_name_alone(person: str) -> None:
    assert split_of(person) == split_of(person)
    assert split_of(person, val=1.0) == "val"
    assert split_of(person, val=0.0, test=0.0) == "train"


def test_splits_have_about_their_share() -> None:
    splits = [split_of(f"person{i}", val=0.1, test=0.2) for i in range(2000)]
    assert abs(splits.count("val") / 2000 - 0.1) < 0.03
    assert abs(splits.count("test") / 2000 - 0.2) < 0.03


# -- any manifest --------------------------------------------------------------------------------------


def lines_of(folder: Path, *lines: str) -> list[Line]:
    (folder / "manifest.jsonl").write_text("\n".join(lines))
    return read_lines(folder / "manifest.jsonl", "name another file")


def test_files_of_a_line(tmp_path: Path) -> None:
    first, second, third = lines_of(
        tmp_path, '{"id": "one", "video": "a/v.mp4", "audio": "", "truth": null, "unknown": 3}', "",
        '{"gesture": "../g.npz", "person": "p"}', '{"video": "/elsewhere/w.mp4"}',
    )  # fmt: skip
    assert [line.id for line in (first, second, third)] == ["one", "g", "w"]
    assert first.file("video") == tmp_path / "a" / "v.mp4"
    assert first.file("audio") is first.file("truth") is first.file("portrait") is None
    assert (second.person, third.person) == ("p", "")
    assert second.require("gesture") == tmp_path / ".." / "g.npz"
    assert third.require("video") == Path("/elsewhere/w.mp4")
    assert second.where == f"{tmp_path / 'manifest.jsonl'}:3"  # the empty line counts
    with pytest.raises(SemibodyError, match=r"manifest\.jsonl:3: names no video"):
        second.require("video")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "names no video: it is no JSON object"),
        ('{"video": "v.mp4"}', "the id v occurs twice"),
        ('{"video": 7}', "video = 7 is not a path"),
        ('{"video": "w.mp4", "audio": ["w.wav"]}', "audio = .* is not a path"),
    ],
)
def test_a_broken_line_of_any_manifest_is_named_with_its_number(
    tmp_path: Path, line: str, message: str
) -> None:
    with pytest.raises(SemibodyError, match=rf"manifest\.jsonl:2: {message}") as caught:
        [each.file("audio") for each in lines_of(tmp_path, '{"video": "v.mp4"}', line)]
    assert "\n" not in str(caught.value)


def test_lines_without_a_name_are_not_twice_the_same(tmp_path: Path) -> None:
    assert [line.id for line in lines_of(tmp_path, "{}", "{}")] == ["", ""]


def test_a_file_that_cannot_be_read_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(SemibodyError, match=r"gone\.jsonl: cannot be read .*name another file"):
        read_lines(tmp_path / "gone.jsonl", "name another file")
