"""Forearms and hands as what lies before the body and the room: how opaque they are in the portrait.

    foreground = Foreground.of(picture, portrait_pose, matte, behind)
    foreground.opacity      # of forearms and hands
    foreground.free         # where they lie before the room, which shows when they go away

Bones of the pose tell where they are, roughly; before the room, colours tell exactly: a pixel is the limb's
as far as its colour is nearer to the limb's own around it than to the room behind. Before the body the
bones alone decide.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from semibody.media import Opacity
from semibody.pose.body import SHOULDERS, shoulder_distance
from semibody.pose.head import Points, smooth
from semibody.pose.limbs import arm_bones, off_segment
from semibody.pose.skeleton import ARM_JOINTS
from semibody.types import Floats, Pose

Frame = Float[NDArray[np.float32], "H W 3"]

_ROWS = 256
"""Of the grid on which distances from bones are computed."""
_OUTER, _CORE = 1.3, 0.35
"""Thicknesses of a bone within which a pixel may be its limb's, and is for certain."""
_SOFT, _SOFT_BODY = 0.03, 0.06
"""Shoulder widths over which limbs and body end."""
_HALF, _UPPER_ARM, _COLLAR = 0.42, 0.12, 0.1
"""Half the torso's width, the thickness of an upper arm, and how far the body reaches over the line between
the shoulders, in shoulder widths."""
_AROUND = 0.02
"""Heights of the picture around a pixel from which a limb's own colour is taken."""
_DIFFERS = 0.02
"""Squared difference of colours (each −1 to 1) from which they tell limb and room apart."""
_FROM, _TO = 0.25, 0.75
"""How far from the room's colour to the limb's a pixel may be to be the room's, and has to be, the limb's."""


@dataclass(frozen=True)
class Foreground:
    """Of one portrait."""

    opacity: Opacity
    """of forearms and hands"""
    free: Float[NDArray[np.float32], "H W"]
    """1 where they and a margin about them lie before the room, 0 before the body and elsewhere"""

    @classmethod
    def of(cls, picture: Frame, own: Pose, person: Opacity, behind: Frame) -> Foreground:
        """``person``: her matte; ``behind``: the picture without her; both pictures in −1..1."""
        height, width = person.shape
        grid = _Grid.of(own, width / height)
        limbs, core, body = (
            cv2.resize(mask, (width, height)) for mask in (*grid.limbs(_OUTER, _CORE), grid.body())
        )
        body *= person
        share = np.maximum(_share_of_limb(picture, behind, core, body), core)
        return cls((2 * limbs).clip(0, 1) * person * share, limbs * (1 - body))


@dataclass(frozen=True)
class _Grid:
    """Points of a portrait (2, n), in heights of it, and the person there."""

    own: Pose
    aspect: float
    points: Points
    shape: tuple[int, int]
    width: float
    """of the shoulders"""

    @classmethod
    def of(cls, own: Pose, aspect: float) -> _Grid:
        rows, columns = _ROWS, max(2, round(_ROWS * aspect))
        x, y = (np.arange(columns) + 0.5) * (aspect / columns), (np.arange(rows) + 0.5) / rows
        points = np.stack([part.ravel() for part in np.meshgrid(x, y)]).astype(np.float32)
        width = max(float(shoulder_distance(own.joints * (aspect, 1.0))), 1e-3)
        return cls(own, aspect, points, (rows, columns), width)

    def limbs(self, *thick: float) -> list[NDArray[np.float32]]:
        """For each of ``thick``, 1 within so many thicknesses of a forearm's or hand's bone."""
        limbs = np.zeros((len(thick), self.points.shape[1]))
        for joints in ARM_JOINTS:
            bones = arm_bones(self.own, self.own, self.aspect, joints, "fore")
            if bones is not None:
                distance = bones.distance(bones.beside(self.points))
                for limb, times in zip(limbs, thick, strict=True):
                    beyond = (distance - times * bones.thick[:, None]).min(axis=0)
                    np.maximum(limb, self._within(beyond, _SOFT), out=limb)
        return [limb.reshape(self.shape).astype(np.float32) for limb in limbs]

    def body(self) -> NDArray[np.float32]:
        """1 on torso and upper arms, roughly."""
        points = self.own.joints * (self.aspect, 1.0)
        x, y = self.points - points[SHOULDERS].mean(axis=0)[:, None]
        torso = self._within(np.abs(x) - _HALF * self.width, _SOFT_BODY)
        body = torso * self._within(-y - _COLLAR * self.width, _SOFT_BODY)
        for shoulder, elbow in ARM_JOINTS[:, :2]:
            off = off_segment(self.points, points[shoulder], points[elbow])
            body = np.maximum(body, self._within(off - _UPPER_ARM * self.width, _SOFT_BODY))
        return body.reshape(self.shape).astype(np.float32)

    def _within(self, beyond: Floats, soft: float) -> Floats:
        """1 for negative distances, 0 for positive ones, over ``soft`` shoulder widths about 0."""
        return smooth(0.5 - beyond / (soft * self.width))


def _share_of_limb(picture: Frame, behind: Frame, core: Opacity, body: Opacity) -> Opacity:
    """How far each pixel is a limb's by its colour; 1 before the body, and where colours do not tell."""
    sigma = _AROUND * len(picture)
    weight = cv2.GaussianBlur(core, (0, 0), sigma)
    limb = cv2.GaussianBlur(picture * core[..., None], (0, 0), sigma) / np.maximum(weight, 1e-4)[..., None]
    way = limb - behind
    length = np.square(way).sum(axis=2)
    along = ((picture - behind) * way).sum(axis=2) / np.maximum(length, 1e-6)
    told = (length / _DIFFERS).clip(0, 1) * (1 - body)
    return np.asarray(1 - told * (1 - ((along - _FROM) / (_TO - _FROM)).clip(0, 1)), np.float32)
