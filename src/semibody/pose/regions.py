"""Where in a picture audio attention may write: masks made from joints.

Used in training (Audio Diffusion, Head Partial Attention) and, for models with an ``audio_region``, when
animating.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from semibody.pose.skeleton import GROUPS
from semibody.types import FACE, Floats, Pose

Region = Literal["none", "lips", "face", "body"]
"""Where audio attention may write: nowhere, on the lips, on the face, everywhere."""

_SEEN = 0.05
"""Confidence above which a joint is part of a mask (occluded joints have 0.3)."""


_LOWER_FACE = FACE.start + np.array([*range(3, 14), *range(31, 36), *range(48, 68)])
"""The jaw without its upper ends, the nostrils, the lips."""


def audio_mask(
    pose: Pose, region: Region, height: int, width: int, dilation: float, *, oversample: int = 8
) -> NDArray[np.float32]:
    """Where audio attention may write for one frame, (height, width) in 0..1, soft at its edge.

    ``lips`` and ``face`` are the hull of their joints, grown by ``dilation`` of its longer side; a region
    without found joints is empty.
    """
    if region in ("none", "body"):
        return np.full((height, width), float(region == "body"), np.float32)
    joints = GROUPS[region]
    points = pose.joints[joints[pose.confidence[joints] > _SEEN]]
    return hull_mask(points, height, width, dilation, oversample=oversample)


def mouth_region(pose: Pose, height: int, width: int) -> NDArray[np.float32]:
    """The region that a mouth moves: lips, chin and the cheeks beside them, (height, width) in 0..1; empty
    without a face."""
    points = pose.joints[_LOWER_FACE[pose.confidence[_LOWER_FACE] > _SEEN]]
    return hull_mask(points, height, width, 0.04)


def hull_mask(
    points: Floats, height: int, width: int, dilation: float, *, oversample: int = 8
) -> NDArray[np.float32]:
    """Coverage 0..1 of each cell by the dilated hull of ``points`` (k, 2), fractions of the picture."""
    if len(points) == 0:
        return np.zeros((height, width), np.float32)
    size = np.array([width, height]) * oversample
    pixels = np.clip(np.round(points * size), -32000, 32000).astype(np.int32)
    canvas = np.zeros((height * oversample, width * oversample), np.uint8)
    hull = cv2.convexHull(pixels)
    cv2.fillConvexPoly(canvas, hull, 255)
    radius = round(dilation * float(np.ptp(pixels, axis=0).max()))
    if radius > 0:
        # A thick outline grows the hull evenly, and costs less than a large structuring element.
        cv2.polylines(canvas, [hull], isClosed=True, color=255, thickness=2 * radius + 1)
    return cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
