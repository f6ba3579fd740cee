"""Finished frames set in motion: the portrait's own pixels, deformed to what the pose asks for.

    movement = Movement(portrait, portrait_pose, gesture, life, matte)
    movement.for_networks                     # the gesture that is left to the networks
    frames = movement.apply(frames, drawn, range(0, 4))

Networks draw what a deformation cannot: arms that go far (``pose.deform.FARTHEST``). Everything else is taken
from the photograph: arms that stay near their place, lips and jaw as the speech has them
(``conditioning.lips``), and head, eyes and shoulders (``pose.alive``); only what is behind parted lips is
drawn (``conditioning.inside``).
Where there is a matte the person is moved before her background, which stays as it is. It belongs to models
with a restorer; it is neither in the paper nor in the published code.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from semibody.conditioning.inside import Inside
from semibody.conditioning.lips import Lips, Shape
from semibody.conditioning.mouth import Drawn
from semibody.media import Opacity
from semibody.networks.restorer import RestorerConfig
from semibody.pose import anchor
from semibody.pose.alive import Life
from semibody.pose.body import face_found
from semibody.pose.deform import Before, Deformation, Moved
from semibody.pose.eyes import Eyes
from semibody.pose.foreground import Foreground
from semibody.pose.head import Mouth
from semibody.pose.matte import fill_behind, shows, with_hands
from semibody.pose.skeleton import ARM_JOINTS
from semibody.types import FACE, Gesture, Picture, Pose

_SEPARATES = 1.5
"""Pixels of movement over which the person comes off her background; less is not seen."""

_ARMS = ARM_JOINTS[:, 1:].ravel()
"""Elbows, wrists and hands."""

Frames = Float[NDArray[np.float32], "f H W 3"]
Frame = Float[NDArray[np.float32], "H W 3"]
Floats32 = Float[NDArray[np.float32], "H W"]
Shown = Callable[[Floats32, Floats32], Frame]
"""Pixels at columns and rows of the portrait."""


class Movement:
    """The movement of one clip. ``gesture`` and ``own`` are in fractions of the picture."""

    def __init__(
        self,
        picture: Picture,
        own: Pose,
        gesture: Gesture,
        life: Life | None,
        matte: Opacity | None,
        *,
        deform_arms: bool = True,
    ) -> None:
        height, width = picture.shape[:2]
        unit = _unit(picture)
        self._own, self._gesture, self._life = own, gesture, life
        # Arms that networks draw are not where the matte has them.
        known = matte is not None and deform_arms and shows(matte, own)
        self._deformation = Deformation(own, width / height, apart=known)
        self._eyes = Eyes(())
        if life is not None and face_found(own):
            self._eyes = Eyes.of(unit, own.joints[FACE] * (width, height))
        self._lips = Lips(own.joints[FACE] * (width / height, 1.0), width / height)
        self._inside = Inside.of(unit, own.joints[FACE] * (width, height))
        self.deforms = deform_arms
        """whether the portrait is deformed as far as it can be; else networks draw arms and mouth"""
        self.moves_arms = deform_arms and self._deformation.reaches(gesture)
        """whether arms are deformed; else they are the networks' task"""
        self._matte = with_hands(matte, own) if matte is not None and known and self.moves_arms else None
        self._behind: Frame | None = None
        if self._matte is not None:
            behind = fill_behind(picture, self._matte)
            self._behind = _unit(behind)
            self._room = (behind == picture).all(axis=2) & (self._matte == 0)
            """(H, W) what is background for certain"""
            self._foreground = Foreground.of(unit, own, self._matte, self._behind)

    @property
    def apart(self) -> bool:
        """Whether forearms and hands pass before the body."""
        return self._matte is not None

    def following(self, gesture: Gesture, life: Life | None) -> Movement:
        """The same portrait's movement in other frames."""
        made = copy.copy(self)
        made._gesture, made._life = gesture, life
        return made

    @property
    def for_networks(self) -> Gesture:
        """The gesture with the portrait's own pose wherever a deformation brings it about."""
        if not self.moves_arms:
            return self._gesture
        still = anchor.rest(self._own, len(self._gesture), self._gesture.fps, self._gesture.aspect)
        return dataclasses.replace(still, name=self._gesture.name)

    def pose(self, frame: int, shape: Shape | None = None) -> Pose:
        """What the portrait is deformed to; ``shape``: of the lips in this frame."""
        joints = self._own.joints.copy() if self._life is None else self._life.joints(self._own, frame)
        if self.moves_arms:
            joints[_ARMS] = self._gesture.joints[frame, _ARMS]
        if shape is not None:
            joints[FACE] += self._lips.offsets(shape)
        return Pose(joints, self._own.confidence)

    def apply(
        self,
        pictures: Frames,
        drawn: Drawn | None,
        frames: Sequence[int],
        mouths: Float[NDArray[np.float32], "f c"] | None = None,
    ) -> Frames:
        """Pictures in −1..1 of the portrait, moved as in these frames.

        ``mouths``: the shapes of the lips (f, 6), as ``networks.lips`` predicts them, or of weights without
        that network opening and width (f, 2), as ``LogMelEncoder.predict_mouth`` gives them. Where networks
        draw everything, what an open mouth shows is taken from ``drawn``, what they drew of the same frames;
        without ``mouths`` it is in the pictures already.
        """
        shapes = self._lips.shapes_of(mouths) if mouths is not None and mouths.shape[1] == 2 else mouths

        def move(n: int) -> Frame:
            shape = None if shapes is None else shapes[n]
            picture, pose = pictures[n], self.pose(frames[n], shape)
            if self._life is not None:
                frame = frames[n]
                picture = self._eyes.draw(picture, self._life.closed[frame], self._life.gaze[frame])
            return self._move(picture, self._behind_lips(drawn, n, picture, shape), pose)

        # Most of it is NumPy's and OpenCV's work on one core each, during which other threads run.
        with ThreadPoolExecutor(max(1, cv2.getNumThreads())) as threads:
            return np.stack(list(threads.map(move, range(len(frames)))))

    def _behind_lips(self, drawn: Drawn | None, number: int, picture: Frame, shape: Shape | None) -> Shown:
        """What an open mouth shows: networks that draw everything draw it too; else it is drawn for the
        photograph, at its own size."""
        height, width = picture.shape[:2]
        if shape is None or not self.deforms:
            assert drawn is not None, "networks that draw the mouth have drawn it"
            return lambda across, down: drawn.at(number, across, down, (height, width))
        face, away = (part * (width, height) for part in (self._own.joints[FACE], self._lips.offsets(shape)))
        return lambda across, down: self._inside.draw(Mouth.of(face, away, across + 0.5, down + 0.5))

    def _move(self, picture: Frame, behind_lips: Shown, pose: Pose) -> Frame:
        height, width = picture.shape[:2]
        moved = self._deformation.flow(pose, height, width)
        return picture if moved is None else self._deform(picture, moved, behind_lips)

    def _deform(self, picture: Frame, moved: Moved, behind_lips: Shown) -> Frame:
        across, down = _places(moved.flow)
        made = cv2.remap(picture, across, down, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        if moved.mouth is not None:
            _show_in(moved.mouth, made, behind_lips, moved.around)
        if self._matte is None or self._behind is None:
            return np.asarray(made)
        person = cv2.remap(self._matte, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        separated = np.minimum(cv2.magnitude(*moved.flow) / np.float32(_SEPARATES), 1)
        # At her edge, whose pixels are of both, she comes off gradually; the room stays in any case.
        separated[self._room & (person == 0)] = 1
        before = moved.before
        if before is not None:
            box = before.rows, before.columns
            # What is left of forearms behind themselves; later than they are drawn, else both would be thin.
            left = cv2.remap(self._foreground.free, across[box], down[box], cv2.INTER_LINEAR)
            left *= (before.off / np.float32(_SEPARATES) - 1).clip(0, 1)
            person[box] *= 1 - left
            separated[box] = np.maximum(separated[box], left)
        separated *= 1 - person
        # NumPy multiplies by one number a pixel several times as slowly as by one for each channel.
        behind = self._behind - made
        behind *= cv2.merge([separated] * 3)
        made = np.add(made, behind, out=behind)
        if before is not None:
            self._draw_before(made, picture, before)
        return np.asarray(made)

    def _draw_before(self, made: Frame, picture: Frame, before: Before) -> None:
        """Draw forearms and hands over ``made``."""
        box = before.rows, before.columns
        across, down = _places(before.flow, top=before.rows.start, left=before.columns.start)
        opacity = cv2.remap(self._foreground.opacity, across, down, cv2.INTER_LINEAR)
        opacity *= np.minimum(before.off / np.float32(_SEPARATES), 1)
        drawn = cv2.remap(picture, across, down, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        drawn -= made[box]
        drawn *= cv2.merge([opacity] * 3)
        made[box] += drawn


def can_move(config: RestorerConfig | None, own: Pose | None) -> bool:
    """Whether frames of such a model and portrait are set in motion; else it draws every frame itself."""
    return config is not None and config.limbs and own is not None and face_found(own)


def draws_nothing(config: RestorerConfig | None, own: Pose | None, gesture: Gesture, arms: str) -> bool:
    """Whether networks draw nothing of such a model's clip (``ClipConditions.draws``); ``arms`` as in
    ``Settings``."""
    if own is None or not can_move(config, own) or arms == "networks":
        return False
    return config is not None and config.heard and Deformation(own, gesture.aspect).reaches(gesture)


def _places(
    flow: Float[NDArray[np.float32], "2 H W"], *, top: int = 0, left: int = 0
) -> tuple[Floats32, Floats32]:
    """Columns and rows that pixels are taken from, of a part of a picture whose first pixel is at these."""
    height, width = flow.shape[1:]
    columns = np.arange(left, left + width, dtype=np.float32)
    rows = np.arange(top, top + height, dtype=np.float32)
    return flow[0] + columns, flow[1] + rows[:, None]


def _show_in(
    mouth: Floats32, made: Frame, behind_lips: Shown, flow: Float[NDArray[np.float32], "2 H W"]
) -> None:
    """Put into ``made`` what the open mouth shows; computed about the mouth only."""
    rows, columns = (np.flatnonzero(mouth.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    across, down = (place[box] for place in _places(flow))
    shown = behind_lips(across, down)
    made[box] += mouth[box][..., None] * (shown - made[box])


def _unit(picture: Picture) -> Frame:
    """0..255 to −1..1."""
    return np.asarray(picture.astype(np.float32) / 127.5 - 1)
