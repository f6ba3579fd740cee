"""Measures of the starter's table, on arrays whose answer is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import made
from semibody.evaluation import frames
from semibody.evaluation.cache import Cache
from semibody.evaluation.gather import Gathered
from semibody.evaluation.metrics import METRICS
from semibody.evaluation.protocol import Item, Protocol
from semibody.pose.files import save_gesture
from semibody.types import LEFT_HAND, RIGHT_HAND, Gesture, SemibodyError

FRAMES = 12


@pytest.fixture
def gathered(tmp_path: Path) -> Gathered:
    return Gathered([], Protocol(), Cache(tmp_path / "cache"), {})


def put(gathered: Gathered, name: str, side: Any, kind: str, **arrays: Any) -> None:
    key = f"{abs(hash((name, side, kind))):064x}"
    gathered.keys[name, side, kind] = key
    gathered.cache.save(key, {k: np.asarray(v) for k, v in arrays.items()})


def with_hands(gathered: Gathered, tmp_path: Path, shift: float, missed: int) -> None:
    """A clip whose hands are ``shift`` beside the truth, the left one unseen in ``missed`` frames."""
    true = made.gesture(FRAMES, fps=12)
    joints = true.joints.copy()
    joints[:, 2], joints[:, 5] = [0.4, 0.5], [0.6, 0.5]  # shoulders a fifth of the picture apart
    save_gesture(Gesture(joints, true.confidence, 12.0), tmp_path / "g.npz")
    gathered.items = [Item("a", tmp_path / "a.mp4", gesture=tmp_path / "g.npz")]
    gathered.fps["a"] = 12.0
    confidence = np.ones((FRAMES, 128))
    confidence[:missed, LEFT_HAND] = 0.0
    found = joints.copy()
    found[:, LEFT_HAND] += [shift, 0]
    found[:, RIGHT_HAND] += [shift, 0]
    put(gathered, "a", "generated", "joints", frame=np.arange(FRAMES), size=[256, 256], joints=found,
        confidence=confidence)  # fmt: skip


def test_pixels_are_compared_from_a_frame_on(tmp_path: Path) -> None:
    clip = made.write_video(tmp_path / "a.mp4", frames=6)
    found = frames.compare(clip, clip, {}, start=4)
    assert found["frame"].tolist() == [4, 5]
    assert np.isinf(found["psnr"]).all()
    with pytest.raises(SemibodyError, match="after the first 6"):
        frames.compare(clip, clip, {}, start=6)


def test_hands_found_and_their_error_in_shoulders(gathered: Gathered, tmp_path: Path) -> None:
    with_hands(gathered, tmp_path, shift=0.02, missed=3)
    found = METRICS["hands-found"].measure(gathered)
    assert found.value == pytest.approx((FRAMES + FRAMES - 3) / (2 * FRAMES))
    assert found.counts == {"hands shown": 2 * FRAMES}
    # A fiftieth of the picture is a tenth of the shoulders' width.
    assert METRICS["hand-error-shoulders"].measure(gathered).value == pytest.approx(10.0, rel=1e-4)


def test_the_nearest_person(gathered: Gathered, tmp_path: Path) -> None:
    faces = {"p0": [0.0, 0.0], "p1": [1.0, 0.0], "p2": [0.0, 1.0]}
    shown = {"c0": ("p0", [0.1, 0.1]), "c1": ("p1", [0.2, 0.0]), "c2": ("p2", [np.nan, np.nan])}
    for name, (person, face) in shown.items():
        gathered.items.append(Item(name, tmp_path / "x.mp4", person=person))
        put(gathered, name, "portrait", "dlib", frame=[0], embedding=[faces[person]])
        put(gathered, name, "generated", "dlib", frame=[0, 6], embedding=[face, face])
    measured = METRICS["ID-nearest-dlib"].measure(gathered)
    assert measured.clips == {"c0": 1.0, "c1": 0.0, "c2": 0.0}  # c1 is nearer to p0, c2 shows no face
    assert "among 3 people" in measured.notes


def test_mouth_correlation_and_lag_with_the_true_jaw(gathered: Gathered, tmp_path: Path) -> None:
    jaw = np.clip(np.sin(np.arange(40) * 0.9) + 0.3 * np.sin(np.arange(40) * 2.1), 0, 1)
    np.savez(tmp_path / "t.npz", jaw=jaw)
    for name, opening, wanted, lag in (("on time", jaw, 1.0, 0.0), ("late", np.roll(jaw, 2), None, 2.0),
                                       ("still", np.zeros(40), 0.0, None)):  # fmt: skip
        points = np.zeros((40, 40, 2))
        points[:, 10] = [1.0, 0.0]  # the corners are one apart
        points[:, 25, 1] = opening  # the lower lip
        gathered.items = [Item(name, tmp_path / "x.mp4", truth=tmp_path / "t.npz")]
        put(gathered, name, "generated", "faces", lips=points, expression=np.zeros((40, 52)))
        if wanted is not None:
            measured = METRICS["mouth-correlation"].measure(gathered)
            assert measured.value == pytest.approx(wanted, abs=1e-6)
        if lag is not None:
            assert METRICS["mouth-lag"].measure(gathered).value == lag
