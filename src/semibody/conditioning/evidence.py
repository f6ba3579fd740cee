"""What a model is conditioned on of a portrait and of the poses of frames, as arrays.

    evidence = Evidence(model.config, portrait_pose, 256, 256)
    evidence.own_map(), evidence.hidden(), evidence.audio_mask()    # of the portrait, once
    evidence.maps(poses), evidence.hints(poses)                     # of frames
    evidence.carried(portrait, poses)

This is the only reader of the switches that choose among them (``networks.hints``, and those of the
restorer). What a model is not conditioned on, or what is not known, is None. No network is called here, so
training's data workers use it as an animation does.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from numpy.typing import NDArray

from semibody.networks.model import ModelConfig
from semibody.pose.body import face_found
from semibody.pose.draw import draw_parts
from semibody.pose.limbs import carry_limbs, limb_cover, move_limbs, moved_cover
from semibody.pose.regions import audio_mask, mouth_region
from semibody.types import Picture, Pose

_SOFT = 7
"""Pixels over which what moves fades into the portrait."""
HANDS_ONLY = ("hands",)
"""What is drawn of the frames' poses, as published."""


@dataclass(frozen=True)
class Evidence:
    """Of one portrait, in pictures of ``height`` x ``width`` pixels; poses are in fractions of them."""

    config: ModelConfig
    own: Pose | None
    """the portrait's own pose; None: not detected"""
    height: int
    width: int

    # -- of the portrait ---------------------------------------------------------------------

    def own_map(
        self, otherwise: Pose | None = None, parts: Collection[str] = ()
    ) -> UInt8[NDArray[np.uint8], "3 H W"] | None:
        """The portrait's own pose map, with ``parts`` beside those the model always has there.

        Without an own pose, the hands of ``otherwise``, as if the portrait were the gesture's first frame.
        """
        if not self.config.hints.own_pose:
            return None
        if self.own is not None:
            return self._draw(self.own, {*parts, *self.config.hints.own_parts})
        return None if otherwise is None else self._draw(otherwise, HANDS_ONLY)

    @property
    def compares_poses(self) -> bool:
        """Whether the portrait's own pose features are subtracted from the frames'."""
        return self.config.hints.pose == "change" and self.own is not None

    def hidden(self) -> Float[NDArray[np.float32], "1 H W"] | None:
        """1 about the portrait's arms and hands, which the clean plate leaves out."""
        if self.config.plate is None or self.own is None:
            return None
        return limb_cover(self.own, self.height, self.width)[None]

    def audio_mask(self) -> Float[NDArray[np.float32], "h w"] | None:
        """Where audio attention may write, in latent cells; None: everywhere."""
        hints = self.config.hints
        if hints.audio_region == "body" or self.own is None:
            return None
        mask = audio_mask(self.own, hints.audio_region, *self.cells, hints.audio_dilation)
        return mask if mask.any() else None

    # -- of frames ---------------------------------------------------------------------------

    def maps(
        self, poses: Sequence[Pose], parts: Collection[str] = HANDS_ONLY
    ) -> UInt8[NDArray[np.uint8], "f 3 H W"]:
        """The drawn pose maps of frames."""
        made = np.empty((len(poses), 3, self.height, self.width), np.uint8)
        for pose, planes in zip(poses, made, strict=True):
            drawn = draw_parts(pose, self.height, self.width, parts)
            for number, plane in enumerate(planes):
                cv2.extractChannel(drawn, number, plane)
        return made

    def hints(self, poses: Sequence[Pose]) -> dict[str, NDArray[np.float32]]:
        """What frames are conditioned on beside their pose maps, by name, for ``Model.concatenated``.

        ``limbs`` (f, 3, h, w).
        """
        limbs = self._limbs(poses)
        return {} if limbs is None else {"limbs": limbs}

    def _limbs(self, poses: Sequence[Pose]) -> Float[NDArray[np.float32], "f 3 h w"] | None:
        """Flow and cover, by latent cell, that carry the portrait's arms and hands to the frames' place."""
        if not self.config.hints.limbs or self.own is None:
            return None
        own, aspect = self.own, self.width / self.height
        return np.stack([move_limbs(own, pose, *self.cells, aspect).planes for pose in poses])

    def carried(self, portrait: Picture, poses: Sequence[Pose]) -> UInt8[NDArray[np.uint8], "f 4 H W"] | None:
        """The portrait's arms and hands carried there, as pixels and their cover, for the restorer."""
        restorer = self.config.restorer
        if restorer is None or not restorer.limbs or self.own is None:
            return None
        own = self.own
        return np.stack([carry_limbs(portrait, own, pose) for pose in poses]).transpose(0, 3, 1, 2)

    def moving(
        self, poses: Sequence[Pose], *, mouth: bool = True
    ) -> Float[NDArray[np.float32], "f 1 H W"] | None:
        """Where frames can differ from the portrait, softly: about the mouth, and arms and hands that are not
        where the portrait has them; without ``mouth`` only about these. None, everywhere: without a restorer
        conditioned on the limbs, or when no person was found."""
        restorer = self.config.restorer
        if restorer is None or not restorer.limbs or self.own is None or not face_found(self.own):
            return None
        own, size = self.own, (self.height, self.width)
        always = self._mouth if mouth else np.float32(0)
        moving = [np.maximum(always, moved_cover(own, pose, *size)) for pose in poses]
        return np.stack([cv2.blur(cover, (_SOFT, _SOFT)) for cover in moving])[:, None]

    @cached_property
    def _mouth(self) -> Float[NDArray[np.float32], "H W"]:
        """What the portrait's mouth moves: the same for every frame."""
        assert self.own is not None
        return mouth_region(self.own, self.height, self.width)

    @property
    def cells(self) -> tuple[int, int]:
        """Height and width in latent cells."""
        factor = self.config.vae.factor
        return self.height // factor, self.width // factor

    def _draw(self, pose: Pose, parts: Collection[str]) -> UInt8[NDArray[np.uint8], "3 H W"]:
        return self.maps([pose], parts)[0]
