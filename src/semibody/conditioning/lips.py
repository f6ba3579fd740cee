"""The lips of one portrait in the shapes that its speech asks for.

    lips = Lips(face, aspect)                 # joints of the portrait's face
    face + lips.offsets(shape)                # of one frame: shape (6,), columns as ``clips.mouth.SHAPES``

Everything is relative to the portrait's own mouth: a smile keeps its corners, full lips stay fuller than thin
ones. Only how far lips are apart is absolute: an open mouth shuts in silence and at m, b and p.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from semibody.clips.mouth import SHAPES
from semibody.pose.head import smooth
from semibody.types import Floats

_WIDEST = 0.155
"""Gap of the inner lips at an opening of 1, in heights of the face."""
_CLOSED = 0.05
"""Openings up to this are closed lips."""
_PARTED, _OVER = 0.006, 0.5
"""From which gap, in heights of the face, a portrait's lips are parted, and by how much more than that gap
they are closed."""
_TOUCHING = 0.008
"""How far apart the joints of lips that touch may be found, in heights of the face; of lips that do not touch
they are twice as far apart."""
_UPPER_LIP = 0.15
"""Share of an opening that the upper lip makes."""
_SHUTS = (0.22, 0.5)
"""Predicted closures between which lips go from open to shut: a short b is predicted with doubt."""
_BITES = (0.25, 0.6)
"""The same of a lower lip that goes to the upper teeth."""
_TO_TEETH, _FUNNEL = 0.018, 0.02
"""Gap of f and v, and what rounding adds to that of the jaw, in heights of the face."""
_SHOWS_TEETH = 0.012
"""How far the upper lip is raised, in heights of the face."""
_ROUND, _SPREAD = 0.115, 0.1
"""How far each corner goes in for rounded lips, and out for spread ones, in widths of the mouth."""
_THICKER = np.array([(-0.15, -0.15), (0.2, 0.2), (-0.25, -0.05), (-0.3, -0.12), (-0.2, -0.2), (-0.15, 0.0)])
"""How much thicker the upper and the lower lip are for each shape: a jaw that opens stretches them, rounding
pushes them forward, pressing rolls them in, and behind the teeth there is less of the lower lip to see."""
_USUAL_WIDTH = 0.8
"""Width of a mouth at rest, as ``predict_mouth`` gives it."""

Shape = Float[NDArray[np.float32], " 6"]


@dataclass(frozen=True)
class Lips:
    """How far the lips of one portrait go, in fractions of the picture."""

    own: Floats
    """the face (68, 2), in heights of the picture"""
    aspect: float

    def offsets(self, shape: Shape) -> Floats:
        """(68, 2): of the middles of the inner and outer lips, and of the corners."""
        jaw, rounded, wide, press, lower, upper = (float(value) for value in shape)
        size, width = float(np.ptp(self.own[:, 1])), float(np.hypot(*(self.own[64] - self.own[60])))
        shut, bites = _step(press, _SHUTS), _step(lower, _BITES)
        gap = (_WIDEST * float(parted(np.array(jaw))) + _FUNNEL * rounded) * size
        gap = (gap + bites * (_TO_TEETH * size - gap)) * (1 - shut)
        own = float(np.hypot(*(self.own[66] - self.own[62])))
        # Joints lie on the lips' edges, and teeth shine through beside them.
        over = _OVER * own if own > _PARTED * size else 0.0
        apart = min(gap / (_PARTED * size), 1.0)
        touching = own * float(smooth(np.array(2 - own / (_TOUCHING * size))))
        more = gap - own - over * (1 - apart) + apart * touching
        raised = _SHOWS_TEETH * size * upper * (1 - shut) if gap > 0 else 0.0
        moved = np.zeros_like(self.own)
        moved[62, 1] = -_UPPER_LIP * more - raised
        moved[66, 1] = (1 - _UPPER_LIP) * more - raised
        upper_lip, lower_lip = np.array([jaw, rounded, wide, shut, bites, upper]) @ _THICKER
        moved[51, 1] = moved[62, 1] - upper_lip * (self.own[62, 1] - self.own[51, 1])
        moved[57, 1] = moved[66, 1] + lower_lip * (self.own[57, 1] - self.own[66, 1])
        wider = (_SPREAD * wide - _ROUND * rounded) * width
        moved[60, 0], moved[64, 0] = -wider, wider
        return moved / (self.aspect, 1.0)

    def shapes_of(self, mouths: Float[NDArray[np.float32], "f 2"]) -> Float[NDArray[np.float32], "f 6"]:
        """Shapes for weights that predict only the opening and the width over the distance of the eyes
        (``LogMelEncoder.predict_mouth``)."""
        eyes = float(np.hypot(*(self.own[42:48].mean(0) - self.own[36:42].mean(0))))
        width = float(np.hypot(*(self.own[64] - self.own[60])))
        wider = (mouths[:, 1] - _USUAL_WIDTH) * eyes / (2 * max(width, 1e-6))
        shapes = np.zeros((len(mouths), len(SHAPES)), np.float32)
        shapes[:, 0] = mouths[:, 0]
        shapes[:, 1], shapes[:, 2] = (-wider / _ROUND).clip(0, 1), (wider / _SPREAD).clip(0, 1)
        return shapes


def parted(jaw: Floats) -> Floats:
    """How far lips are apart for an opening of the jaw, as a share of the widest."""
    return np.clip((np.asarray(jaw) - _CLOSED) / (1 - _CLOSED), 0.0, None)


def apart(shapes: Float[NDArray[np.float32], "f 6"]) -> Floats:
    """(f,) how far lips are apart, 0..1: the jaw's opening, and none where lips are pressed."""
    return np.array([float(parted(row[:1])[0]) * (1 - _step(float(row[3]), _SHUTS)) for row in shapes])


def _step(value: float, between: tuple[float, float]) -> float:
    return float(smooth(np.array((value - between[0]) / (between[1] - between[0]))))
