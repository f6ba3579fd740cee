"""Poses as users have them: other tools' files, several people, frames without people, other pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import made
from semibody.pose.draw import draw_pose
from semibody.pose.files import Stated, load_gesture, save_gesture
from semibody.types import BODY, FACE, HANDS, LEFT_HAND, N_JOINTS, RIGHT_HAND, Gesture, SemibodyError


def save(path: Path, value: dict[str, Any]) -> None:
    np.save(path, np.array(value, dtype=object), allow_pickle=True)


def person(at: float = 0.5, confidence: float = 0.9, size: float = 1.0) -> dict[str, Any]:
    """OpenPose's person with all joints at one place."""
    counts = {"pose": 25, "face": 70, "hand_left": 21, "hand_right": 21}
    return {f"{part}_keypoints_2d": [at * size, at * size, confidence] * n for part, n in counts.items()}


# -- draw_pose_params ----------------------------------------------------------------------


def test_poses_of_a_tall_picture_are_where_the_published_code_draws_them(tmp_path: Path) -> None:
    """A 432 x 768 picture is pasted into columns 168 to 600 of 768: a joint at its right edge is at 600."""
    pose = made.official_pose()
    pose["hands"][:] = 0.25, 0.75
    pose["hands"][0, 8] = 1.0, 0.5
    pose["draw_pose_params"] = [768, 432, 0, 768, 168, 600]
    save(tmp_path / "0.npy", pose)
    hands = load_gesture(tmp_path).hands[0] * 768
    np.testing.assert_allclose(hands[0, 8], (600, 384))
    np.testing.assert_allclose(hands[1], np.tile((168 + 108, 576), (21, 1)))


@pytest.mark.parametrize(
    ("parameters", "place"),
    [
        ([768, 768, 0, 768, 0, 768], (0.25, 0.75)),
        ([512, 512, 0, 512, 0, 512], (0.25, 0.75)),  # fills a canvas of another size
        ([384, 768, 192, 576, 0, 768], (0.25, 0.25 + 0.75 * 0.5)),
        ([256, 512, 128, 384, 0, 512], (0.25, 0.25 + 0.75 * 0.5)),
        ([384, 384, 384, 768, 0, 384], (0.125, 0.875)),  # the lower left quarter of the published canvas
        (np.array([768, 432, 0, 768, 168, 600]), ((168 + 108) / 768, 0.75)),
    ],
)
def test_the_place_of_a_pasted_picture(tmp_path: Path, parameters: Any, place: tuple[float, float]) -> None:
    pose = made.official_pose()
    pose["hands"][:] = 0.25, 0.75
    pose["draw_pose_params"] = parameters
    save(tmp_path / "0.npy", pose)
    np.testing.assert_allclose(load_gesture(tmp_path).hands[0].reshape(-1, 2), [place] * 42)


@pytest.mark.parametrize("parameters", [[1, 2], [768] * 6, "text", [768, "a", 0, 768, 168, 600], [[]] * 6, 3])
def test_impossible_parameters_are_named(tmp_path: Path, parameters: Any) -> None:
    save(tmp_path / "0.npy", {**made.official_pose(), "draw_pose_params": parameters})
    with pytest.raises(SemibodyError, match=r"0\.npy: 'draw_pose_params'"):
        load_gesture(tmp_path)


def test_a_tall_folder_draws_as_the_same_poses_of_the_whole_canvas(shared_inputs: Path) -> None:
    tall, full = (
        load_gesture(shared_inputs / "field" / f"fight_{kind}") for kind in ("tall_432", "full_ref")
    )
    for frame in range(len(full)):
        drawn, wanted = (draw_pose(gesture[frame], 768, 768) for gesture in (tall, full))
        np.testing.assert_array_equal(drawn, wanted)
        assert drawn.any()


def test_written_poses_are_correct_without_parameters(tmp_path: Path) -> None:
    pose = made.official_pose()
    pose["draw_pose_params"] = [768, 432, 0, 768, 168, 600]
    save(tmp_path / "0.npy", pose)
    gesture = load_gesture(tmp_path)
    save_gesture(gesture, tmp_path / "written")
    content = np.load(tmp_path / "written" / "0.npy", allow_pickle=True).item()
    np.testing.assert_array_equal(content["hands"].reshape(42, 2), gesture.joints[0, HANDS])
    assert content["draw_pose_params"] == [768, 768, 0, 768, 0, 768]


# -- frames without anybody ----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["openpose.json", "openpose", "own.npz", "published", "mmpose.json"])
def test_a_frame_without_a_person_is_filled_in(tmp_path: Path, kind: str) -> None:
    """From 0.2 to 0.6 over a gap of one frame is 0.4 in the middle, in every format."""
    path = tmp_path / kind
    places = [0.2, None, 0.6, 0.6]
    if kind == "openpose.json":
        frames = [{"people": [] if at is None else [person(at)]} for at in places]
        path.write_text(json.dumps(frames))
    elif kind == "openpose":
        path.mkdir()
        for number, at in enumerate(places):
            people = [] if at is None else [person(at, size=100)]
            content: dict[str, Any] = {"canvas_width": 100, "canvas_height": 100, "people": people}
            (path / f"a_{number:012}_keypoints.json").write_text(json.dumps(content))
    elif kind == "own.npz":
        joints = np.stack([np.full((N_JOINTS, 2), at or 0.0) for at in places])
        save_gesture(Gesture(joints, np.array([[float(at is not None)] * N_JOINTS for at in places])), path)
    elif kind == "published":
        path.mkdir()
        for number, at in enumerate(places):
            pose = made.official_pose()
            for key in ("hands", "hands_score"):
                pose[key][:] = (at if key == "hands" else 1.0) if at is not None else 0.0
            save(path / f"{number}.npy", pose)
    else:
        instances: list[Any] = [
            {"frame_id": i, "instances": [] if at is None else [instance(at * 768)]}
            for i, at in enumerate(places)
        ]
        path.write_text(json.dumps({"instance_info": instances}))
    gesture = load_gesture(path, Stated(canvas=(768, 768)) if kind == "mmpose.json" else Stated())
    np.testing.assert_allclose(gesture.joints[:, HANDS].mean(axis=(1, 2)), [0.2, 0.4, 0.6, 0.6])
    assert (gesture.confidence[1, HANDS] > 0).all()
    assert any("2 hand poses were missing" in notice for notice in gesture.notices)


def test_nobody_in_any_frame(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"people": []}] * 3))
    with pytest.raises(SemibodyError, match=r"a\.json: shows nobody in any frame"):
        load_gesture(tmp_path / "a.json")


def test_a_long_absence_is_not_filled_in(tmp_path: Path) -> None:
    frames = [{"people": [] if 1 <= i <= 12 else [person()]} for i in range(14)]
    (tmp_path / "a.json").write_text(json.dumps(frames))
    assert not load_gesture(tmp_path / "a.json").confidence[1:13].any()


def test_the_empty_frame_of_a_real_folder(shared_inputs: Path) -> None:
    folder = shared_inputs / "field" / "body25_emptyframe"
    assert json.loads((folder / "clip_000000000010_keypoints.json").read_text())["people"] == []
    gesture = load_gesture(folder)
    assert (gesture.confidence[10] > 0).all()
    between = gesture.joints[[9, 11]]
    inside = (gesture.joints[10] >= between.min(axis=0)) & (gesture.joints[10] <= between.max(axis=0))
    assert inside.all()


# -- other tools ---------------------------------------------------------------------------


def instance(at: float = 0.0, score: float = 0.9) -> dict[str, Any]:
    """mmpose's person with all joints at one place."""
    return {"keypoints": [[at, at]] * 133, "keypoint_scores": [score] * 133}


def points_133() -> np.ndarray[Any, Any]:
    """Every point at its own place: (number, 2 x number) pixels."""
    return np.stack([np.arange(133.0), 2 * np.arange(133.0)], axis=1)


def test_every_point_of_coco_wholebody_finds_its_joint(tmp_path: Path) -> None:
    """By COCO-WholeBody's own list: 0 nose, 5 and 6 shoulders, 9 left wrist, 23.. face, 91.. left hand."""
    points = points_133()
    flat = np.column_stack([points, np.ones(133)])
    parts = {"keypoints": (0, 17), "foot_kpts": (17, 23), "face_kpts": (23, 91)}
    parts |= {"lefthand_kpts": (91, 112), "righthand_kpts": (112, 133)}
    annotation = {"image_id": 7, **{key: flat[a:b].ravel().tolist() for key, (a, b) in parts.items()}}
    contents: dict[str, Any] = {
        "mmpose": {
            "instance_info": [
                {"frame_id": 1, "instances": [{"keypoints": points.tolist(), "keypoint_scores": [1.0] * 133}]}
            ]
        },
        "inferencer": [
            {"frame_id": 0, "instances": [{"keypoints": points.tolist(), "keypoint_scores": [1.0] * 133}]}
        ],
        "picture": [{"keypoints": points.tolist(), "keypoint_scores": [1.0] * 133}],
        "results": [{"image_id": 3, "category_id": 1, "keypoints": flat.ravel().tolist(), "score": 0.9}],
        "annotations": {"images": [{"id": 7, "width": 1000, "height": 500}], "annotations": [annotation]},
    }
    for name, content in contents.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
        gesture = load_gesture(tmp_path / f"{name}.json", Stated(canvas=(1000, 500)))
        pixels = gesture.joints[0] * (1000, 500)
        openpose = [0, 5.5, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3]
        np.testing.assert_allclose(pixels[BODY], np.column_stack([openpose, 2 * np.array(openpose)]))
        np.testing.assert_allclose(pixels[FACE], points[23:91])
        np.testing.assert_allclose(pixels[LEFT_HAND], points[91:112])
        np.testing.assert_allclose(pixels[RIGHT_HAND], points[112:])
        assert (gesture.aspect, len(gesture)) == (2.0, 1)
    assert load_gesture(tmp_path / "annotations.json").aspect == 2.0


def test_mmpose_frames_that_were_left_out_are_filled_in(tmp_path: Path) -> None:
    frames = [{"frame_id": i, "instances": [instance(10.0 * i)]} for i in (5, 6, 8)]
    (tmp_path / "a.json").write_text(json.dumps({"instance_info": frames}))
    gesture = load_gesture(tmp_path / "a.json", Stated(canvas=(100, 100)))
    np.testing.assert_allclose(gesture.joints[:, LEFT_HAND.start, 0], [0.5, 0.6, 0.7, 0.8])


def test_a_body_without_hands_is_refused(tmp_path: Path) -> None:
    content = [{"keypoints": [[1.0, 2.0]] * 17, "keypoint_scores": [1.0] * 17}]
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(SemibodyError, match="17 points, not the 133"):
        load_gesture(tmp_path / "a.json")


def test_openpose_without_the_size_of_its_picture(tmp_path: Path) -> None:
    for number in range(3):
        content = {"version": 1.3, "people": [person(0.9, size=1000)]}
        (tmp_path / f"clip_{number:012}_keypoints.json").write_text(json.dumps(content))
    gesture = load_gesture(tmp_path, Stated(canvas=(1000, 2000), fps=25))
    np.testing.assert_allclose(gesture.joints[:, HANDS], np.tile((0.9, 0.45), (3, 42, 1)))
    assert (gesture.aspect, gesture.fps, gesture.notices) == (0.5, 25.0, ())
    assumed = load_gesture(tmp_path)
    np.testing.assert_allclose(assumed.joints[0, HANDS.start], (900 / 1024, 900 / 1024))
    assert "1024 x 1024 is assumed" in assumed.notices[0]


@pytest.mark.parametrize("name", ["body25_nocanvas", "mmpose133.json"])
def test_real_files_of_other_tools(shared_inputs: Path, name: str) -> None:
    """Both were made of one clip: hands of the same person in the same places, in heights of the picture."""
    gesture = load_gesture(shared_inputs / "field" / name)
    other = load_gesture(shared_inputs / "field" / "two_people")
    assert len(gesture) == 24
    assert gesture.aspect == (16 / 9 if name == "body25_nocanvas" else 1.0)
    np.testing.assert_allclose(gesture.joints[:, HANDS], other.joints[:, HANDS], atol=1e-9)


# -- what the user states ------------------------------------------------------------------


def test_stated_values_replace_those_of_the_file(tmp_path: Path) -> None:
    content = {
        "fps": 30,
        "aspect": 2.0,
        "canvas_width": 200,
        "canvas_height": 100,
        "people": [person(0.5, size=100)],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    read = load_gesture(tmp_path / "a.json")
    assert (read.fps, read.aspect, *read.joints[0, 0]) == (30.0, 2.0, 0.25, 0.5)
    stated = load_gesture(tmp_path / "a.json", Stated(fps=12.5, canvas=(100, 100)))
    assert (stated.fps, stated.aspect, *stated.joints[0, 0]) == (12.5, 1.0, 0.5, 0.5)
    save_gesture(made.gesture(), tmp_path / "b.npz")
    assert load_gesture(tmp_path / "b.npz", Stated(fps=60)).seconds == pytest.approx(0.4)


@pytest.mark.parametrize(
    "stated",
    [
        {"fps": 0.0},
        {"fps": 1e-9},
        {"fps": float("inf")},
        {"canvas": (0, 5)},
        {"canvas": (1, 1e4)},
        {"person": -1},
    ],
)
def test_absurd_statements_are_refused(stated: Any) -> None:
    with pytest.raises(SemibodyError, match="gesture"):
        Stated(**stated)


def test_pixels_where_fractions_are_expected(tmp_path: Path) -> None:
    pose = made.official_pose()
    for values in (pose["hands"], pose["faces"], pose["bodies"]["candidate"]):
        np.multiply(values, 768, out=values)
    folder = tmp_path / "pixels"
    folder.mkdir()
    save(folder / "0.npy", pose)
    with pytest.raises(SemibodyError, match=r"pixels: is in pixels .* --gesture-canvas"):
        load_gesture(folder)
    hands = load_gesture(folder, Stated(canvas=(768, 768))).hands[0]
    np.testing.assert_allclose(hands, pose["hands"] / 768)


# -- several people ------------------------------------------------------------------------


def test_one_person_is_tracked_in_any_order(tmp_path: Path) -> None:
    """Two people whose order changes from frame to frame: the one who is seen better, throughout."""
    frames = []
    for i in range(6):
        left, right = person(0.2 + 0.01 * i, 0.5), person(0.7, 0.9)
        frames.append({"people": [left, right] if i % 2 == 0 else [right, left]})
    (tmp_path / "a.json").write_text(json.dumps(frames))
    best = load_gesture(tmp_path / "a.json")
    np.testing.assert_allclose(best.joints[:, HANDS], 0.7)
    assert "6 of 6 poses hold several people" in best.notices[0]
    first = load_gesture(tmp_path / "a.json", Stated(person=0))
    np.testing.assert_allclose(first.joints[:, 0, 0], 0.2 + 0.01 * np.arange(6))
    with pytest.raises(SemibodyError, match="no number 2"):
        load_gesture(tmp_path / "a.json", Stated(person=2))


def test_only_the_first_of_several_people_has_a_face(tmp_path: Path) -> None:
    """The published preparation keeps all bodies and hands, and one face."""
    pose = made.official_pose(people=2)
    pose["faces"], pose["faces_score"] = pose["faces"][:1], pose["faces_score"][:1]
    save(tmp_path / "0.npy", pose)
    gesture = load_gesture(tmp_path, Stated(person=1))
    np.testing.assert_array_equal(gesture.hands[0], pose["hands"][[1, 3]])
    assert not gesture.confidence[0, FACE].any()


def test_two_real_people(shared_inputs: Path) -> None:
    folder = shared_inputs / "field" / "two_people"
    scores = [load_gesture(folder, Stated(person=n)).confidence.mean() for n in (0, 1)]
    best = load_gesture(folder)
    assert best.confidence.mean() == max(scores)


# -- names ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("names", "ending"), [(("7", "07"), "npy"), (("a_7", "a_07"), "json")])
def test_the_same_number_twice_is_an_error(tmp_path: Path, names: tuple[str, str], ending: str) -> None:
    for name in names:
        if ending == "npy":
            save(tmp_path / f"{name}.npy", made.official_pose())
        else:
            (tmp_path / f"{name}.json").write_text(json.dumps({"people": [person()]}))
    with pytest.raises(SemibodyError, match="same number as"):
        load_gesture(tmp_path)


def test_json_files_go_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (9, 10, 100):
        (tmp_path / f"frame{number}_keypoints.json").write_text(
            json.dumps({"people": [person(number / 100)]})
        )
    np.testing.assert_allclose(load_gesture(tmp_path).joints[:, 0, 0], [0.09, 0.1, 1.0])


def test_what_is_no_pose_file_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "talk.mp4").write_bytes(b"video")
    (tmp_path / "poses.zip").write_bytes(b"PK")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "0.png").write_bytes(b"picture")
    save_gesture(made.gesture(3), tmp_path / "set" / "hands")
    for name, says in {
        "talk.mp4": r"is a video; take its poses with `semibody gesture extract talk\.mp4`",
        "poses.zip": "is an archive; unpack it",
        "pictures": "pictures are no poses: .*gesture extract",
        "set": r"give .*set.hands",
    }.items():
        with pytest.raises(SemibodyError, match=says):
            load_gesture(tmp_path / name)
