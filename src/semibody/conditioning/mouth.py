"""The inside of the mouth, drawn by the networks: all that is shown of them when the portrait's own pixels
are moved.

    mouth = DrawnMouth(model, encoded, own_pose, own_map, carried, latents[:1], mouths[:1])
    drawn = mouth.draw(latents, mouths)          # any frames of the same clip
    drawn.at(frame, across, down, (512, 512))    # pixels of one

Decoder and restorer work on the latent cells about the mouth, with the statistics of the whole picture
(``networks.norms``); what lies farther away than ``_MARGIN`` cells hardly reaches the mouth.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from semibody.networks.model import Model
from semibody.networks.norms import with_statistics
from semibody.networks.restorer import PortraitDetail
from semibody.pose.skeleton import LIPS
from semibody.types import FACE, Pose

_MARGIN = 3
"""Latent cells around the lips that are computed with them."""
_OPENS = 0.25
"""Heights of the face by which the lower lip may come down."""


@dataclass(frozen=True)
class Part:
    """A part of a picture, in latent cells."""

    rows: slice
    columns: slice
    of: tuple[int, int]
    """rows and columns of the whole"""

    @classmethod
    def whole(cls) -> Part:
        """All of a picture."""
        return cls(slice(0, 1), slice(0, 1), (1, 1))

    @classmethod
    def about_mouth(cls, own: Pose, cells: tuple[int, int]) -> Part:
        """Around the lips of a pose in fractions of the picture."""
        face = own.joints[FACE]
        lips = face[LIPS]
        low, high = lips.min(axis=0), lips.max(axis=0)
        high[1] += _OPENS * np.ptp(face[:, 1])
        size = np.array(cells[::-1])
        first = np.clip(np.floor(low * size).astype(int) - _MARGIN, 0, size - 1)
        last = np.clip(np.ceil(high * size).astype(int) + _MARGIN, first + 1, size)
        return cls(slice(first[1], last[1]), slice(first[0], last[0]), cells)

    def of_picture(self, x: Tensor) -> Tensor:
        """This part of (n, c, h, w) of any multiple of the cells."""
        down, across = x.shape[2] // self.of[0], x.shape[3] // self.of[1]
        rows = slice(self.rows.start * down, self.rows.stop * down)
        columns = slice(self.columns.start * across, self.columns.stop * across)
        return x[:, :, rows, columns].contiguous()

    @property
    def share(self) -> tuple[float, float]:
        """Its height and width as shares of the picture's."""
        rows, columns = self.rows.stop - self.rows.start, self.columns.stop - self.columns.start
        return rows / self.of[0], columns / self.of[1]


@dataclass(frozen=True)
class Drawn:
    """A part of frames in −1..1, of pictures whose whole has another size."""

    pictures: Float[NDArray[np.float32], "f h w 3"]
    part: Part

    def at(
        self,
        frame: int,
        across: Float[NDArray[np.float32], "h w"],
        down: Float[NDArray[np.float32], "h w"],
        size: tuple[int, int],
    ) -> Float[NDArray[np.float32], "h w 3"]:
        """The frame at columns and rows of a whole picture of ``size`` (height, width)."""
        picture, part = self.pictures[frame], self.part
        rows, columns = (n / share for n, share in zip(picture.shape[:2], part.share, strict=True))
        top, left = part.rows.start / part.of[0] * rows, part.columns.start / part.of[1] * columns
        x = (across + 0.5) * np.float32(columns / size[1]) - np.float32(left + 0.5)
        y = (down + 0.5) * np.float32(rows / size[0]) - np.float32(top + 0.5)
        return np.asarray(cv2.remap(picture, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE))


class DrawnMouth:
    """Decoder and restorer of one clip in which all but the mouth is the portrait."""

    def __init__(
        self,
        model: Model,
        encoded: PortraitDetail,
        own: Pose,
        own_map: Float[Tensor, "1 3 H W"],
        carried: UInt8[Tensor, "1 4 H W"] | None,
        latents: Float[Tensor, "1 c h w"],
        mouth: Float[Tensor, "1 2"] | None,
    ) -> None:
        """``latents`` and ``mouth``: of one frame, whose statistics stand for all frames'."""
        assert model.restorer is not None
        self.part = part = Part.about_mouth(own, (latents.shape[2], latents.shape[3]))
        # Attention in the middle of a decoder would see the part alone.
        self._vae, self._decode = None, model.decode
        if model.config.vae.middle_attention:
            whole = model.decode(latents)
        else:
            self._vae, whole = with_statistics(model.vae, lambda vae: vae.decode(latents))
        self._restorer, _ = with_statistics(
            model.restorer, lambda restorer: restorer.predict(whole, own_map, encoded, mouth, carried)
        )
        self._encoded = PortraitDetail(
            part.of_picture(encoded.pixels),
            part.of_picture(encoded.features),
            None if encoded.lips is None else part.of_picture(encoded.lips),
            None if encoded.plate is None else part.of_picture(encoded.plate),
        )
        self._map = part.of_picture(own_map)
        self._carried = None if carried is None else part.of_picture(carried)

    def draw(self, latents: Float[Tensor, "n c h w"], mouths: Float[Tensor, "n 2"] | None) -> Drawn:
        """``latents`` of whole frames, and openings and widths of their mouths."""
        n = len(latents)
        decoded = self._decoded(latents)
        carried = None if self._carried is None else self._carried.expand(n, -1, -1, -1)
        maps = self._map.expand(n, -1, -1, -1)
        mixture = self._restorer.predict(decoded, maps, self._encoded, mouths, carried)
        # Flows are in halves of the picture, which is a part here.
        factor = decoded.new_tensor(self.part.share[::-1]).float()[:, None, None]
        mixture = dataclasses.replace(mixture, flows=tuple(flow / factor for flow in mixture.flows))
        pixels = self._restorer.mix(decoded, mixture, self._encoded, carried)
        return Drawn(channels_last(pixels), self.part)

    def _decoded(self, latents: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 3 H W"]:
        """The part of decoded frames."""
        if self._vae is None:
            return self.part.of_picture(self._decode(latents))
        return self._vae.decode(self.part.of_picture(latents))


def channels_last(pixels: Float[Tensor, "f 3 H W"]) -> Float[NDArray[np.float32], "f H W 3"]:
    """As arrays of OpenCV."""
    return np.ascontiguousarray(pixels.float().permute(0, 2, 3, 1).cpu().numpy())
