"""Which part of a portrait is the person: a matte, so that the background stays where it is when she moves.

    matte = find_matte(picture)                    # (H, W) in 0..1; None where no network for it is installed
    matte = with_hands(matte, portrait_pose)       # fingers that the network misses, from the pose
    behind = fill_behind(picture, matte)           # the picture with the person painted over

The network is mediapipe's selfie segmentation, which comes with the offline detector.
"""

from __future__ import annotations

import functools
import threading
from typing import Any

import cv2
import numpy as np

from semibody.media import Opacity
from semibody.pose.detectors.mediapipe import import_solutions, quiet
from semibody.pose.limbs import move_limbs
from semibody.types import FACE, MissingPartError, Picture, Pose

_LOW, _HIGH = 0.1, 0.9
"""What the network is unsure of becomes certain below and above."""
_HAND_CORE = 0.75
"""Cover of ``pose.limbs`` from which a pixel is hand or arm for certain."""
_FOUND = 0.6
"""Share of the face that a matte has at least."""
_TRACE = 0.05
"""A matte from which a pixel has something of the person, which must not stay behind."""
_AROUND = 5
"""Pixels by which the person is grown before she is painted over, of a picture 512 pixels high."""

_one_at_a_time = threading.Lock()


def find_matte(picture: Picture) -> Opacity | None:
    """The person's share of each pixel."""
    try:
        network = _network()
    except MissingPartError:
        return None
    with _one_at_a_time, quiet():
        found = np.asarray(network.process(np.ascontiguousarray(picture)).segmentation_mask, np.float32)
    return ((found - _LOW) / (_HIGH - _LOW)).clip(0.0, 1.0)


@functools.cache
def _network() -> Any:
    """One a process: opening it for every clip would cost memory each time."""
    with quiet():
        return import_solutions().selfie_segmentation.SelfieSegmentation(model_selection=0)


def shows(matte: Opacity, own: Pose) -> bool:
    """Whether the person's face is in the matte; else the network took her for something else."""
    height, width = matte.shape
    x, y = np.round(own.joints[FACE] * (width, height)).astype(int).T
    return bool(matte[y.clip(0, height - 1), x.clip(0, width - 1)].mean() > _FOUND)


def with_hands(matte: Opacity, own: Pose) -> Opacity:
    """The matte with hands and arms where the portrait's own pose has them."""
    height, width = matte.shape
    cover = move_limbs(own, own, -(-height // 2), -(-width // 2), width / height).cover
    cover = cv2.resize(cover, (width, height))
    return np.maximum(matte, ((cover - _HAND_CORE) / (1 - _HAND_CORE)).clip(0.0, 1.0).astype(np.float32))


def fill_behind(picture: Picture, matte: Opacity) -> Picture:
    """The picture with the person painted over from around her (Telea's inpainting)."""
    size = 2 * max(1, round(_AROUND * len(picture) / 1024)) + 1
    person = cv2.dilate((matte > _TRACE).astype(np.uint8), np.ones((size, size), np.uint8))
    return np.asarray(cv2.inpaint(np.ascontiguousarray(picture), person, 4, cv2.INPAINT_TELEA))
