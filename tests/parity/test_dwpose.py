"""DWPose's arithmetic around its networks, against the published detector fed with made-up outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from parity.golden import Case, cases
from semibody.pose.detectors import dwpose

ALL = cases("dwpose_*.npz")
BINS_X, BINS_Y = 576, 768


def picture(case: Case) -> NDArray[np.uint8]:
    """The recorded picture, or the small one that it was enlarged from."""
    if "image" in case:
        return case["image"]
    height, width = case.meta["image_hw"]
    return np.asarray(Image.fromarray(case["image_grid"]).resize((width, height), Image.Resampling.BICUBIC))


class Networks:
    """Stand-ins for the two ONNX networks that answer with the recorded outputs and keep their inputs."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.inputs: list[NDArray[Any]] = []

    def detector_output(self) -> NDArray[np.float32]:
        rows = np.zeros((1, 8400, 85), np.float32)
        rows[0, self.case["det_anchor"]] = self.case["det_rows"]
        return rows

    def simcc(self, person: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        made = []
        for axis, bins in (("x", BINS_X), ("y", BINS_Y)):
            curve = np.zeros((133, bins), np.float32)
            at, top = self.case[f"simcc_argmax_{axis}{person}"][0], self.case[f"simcc_max_{axis}{person}"][0]
            curve[np.arange(133), at] = top
            made.append(curve)
        return made[0], made[1]


@pytest.mark.parametrize("case", ALL)
def test_detector(case: Case, compare: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    networks = Networks(case)
    inputs: list[NDArray[Any]] = []
    detector = object.__new__(dwpose.DWPose)
    detector._find, detector._point = "find", "point"

    def run(_self: Any, network: Any, given: NDArray[Any]) -> list[NDArray[np.float32]]:
        inputs.append(given)
        if network == "find":
            return [networks.detector_output()]
        return [curve[None] for curve in networks.simcc(len(inputs) - 2)]

    monkeypatch.setattr(dwpose.DWPose, "_run", run)
    image = picture(case)
    pose = detector.official(image)
    compare(inputs[0][0, :, ::16, ::16], case["det_input"], 0, "detector input")
    compare(inputs[1][0, :, ::16, ::16], case["pose_input0"], 1e-6, "pose input")
    _, ratio = dwpose.letterbox(image)
    boxes = dwpose.decode_boxes(networks.detector_output(), ratio)
    compare(boxes.reshape(case["boxes"].shape), case["boxes"], 1e-4, "boxes")
    body = pose.pop("bodies")
    made = {**pose, "candidate": body["candidate"], "subset": body["subset"], "body_score": body["score"]}
    for key, value in made.items():
        compare(value, case[key], 1e-6, key)
