"""What the networks are conditioned on: of a portrait once, of frames when a window needs them.

    conditions = ClipConditions(model, portrait, pose, gesture, waveform, fps)
    model.denoise(latents, t, conditions.of(window))      # every window and step
    conditions.finish(latents, window)                    # the clip's latents -> its frames

``encode_portrait`` and ``EncodedPortrait.conditions`` assemble ``Conditions`` from tensors; training and the
counting of work use them as ``ClipConditions`` does.
"""

from __future__ import annotations

import copy
import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from numpy.typing import NDArray
from torch import Tensor

from semibody import media
from semibody.conditioning.evidence import Evidence
from semibody.conditioning.lips import parted
from semibody.conditioning.mouth import Drawn, channels_last
from semibody.conditioning.movement import Frames, Movement
from semibody.diffusion.windows import Window
from semibody.networks.audio_encoders import LogMelEncoder, audible
from semibody.networks.model import Conditions, Model
from semibody.networks.restorer import PortraitDetail, resized
from semibody.networks.unet import AudioProjection, KeyValues
from semibody.types import Gesture, Picture, Pose, Speech

CACHE_BYTES = 256 * 2**20
"""Pose features kept between steps, and as much of audio's keys and values; the rest is computed again. With
one step nothing but what neighbouring windows share is asked for twice, and nothing else is kept."""
GROUP = 4
"""Neighbouring frames whose pose features, or audio, are computed together."""


@dataclass(frozen=True)
class EncodedPortrait:
    """b portraits, encoded for the denoiser."""

    latents: Float[Tensor, "b c h w"]
    base: Float[Tensor, "b c h w"] | None
    """``Model.base``"""
    reference: KeyValues
    own_features: Float[Tensor, "b d h w"] | None
    """pose features of their own poses, which are subtracted from those of frames; None: not subtracted"""

    def conditions(
        self,
        model: Model,
        *,
        pose: Float[Tensor, "b f d h w"],
        audio: AudioProjection,
        audio_mask: Float[Tensor, "b f h w"] | None = None,
        hints: Mapping[str, Float[Tensor, "b f _ h w"]] | None = None,
    ) -> Conditions:
        """Conditions of frames: their pose features, their audio, and flow and cover of arms and hands."""
        return Conditions(
            base=self.base,
            reference=self.reference,
            audio=audio,
            audio_mask=audio_mask,
            pose=pose if self.own_features is None else pose - self.own_features[:, None],
            concatenated=model.concatenated(self.latents, hints or {}),
        )


def encode_portrait(
    model: Model,
    latents: Float[Tensor, "b c h w"],
    base: Float[Tensor, "b c h w"] | None,
    own_map: Float[Tensor, "b 3 H W"] | None,
    *,
    compare: bool,
) -> EncodedPortrait:
    """Encode a portrait's latents and own pose map (0..1) for the denoiser.

    ``compare``: its own pose features are subtracted from the frames' (``Evidence.compares_poses``).
    """
    features = model.pose_encoder(own_map) if compare and own_map is not None else None
    return EncodedPortrait(latents, base, model.project_reference(latents, own_map), features)


class ClipConditions:
    """The conditions of a whole clip: the portrait's encoded once, those of frames for a window."""

    def __init__(
        self,
        model: Model,
        portrait: Picture,
        own: Pose | None,
        gesture: Gesture,
        speech: Speech,
        fps: float,
        steps: int = 2,
        movement: Movement | None = None,
    ) -> None:
        """``own``: the pose in the portrait, if one was found. The clip has as many frames as the gesture.

        ``steps``: how often all windows are asked for. With a ``movement`` the networks draw what it leaves
        to them, and it moves the finished frames.
        """
        self.decode: Callable[[Tensor], Tensor] = model.decode
        """scaled latents to pixels, about −1..1; of models without a restorer another may take its place"""
        self._model, self._device, self._dtype = model, model.device, model.dtype
        self._gesture, self._fps = movement.for_networks if movement else gesture, fps
        self._movement, self._still = movement, movement is not None and movement.moves_arms
        # Networks that draw everything were trained on the mouth that their own encoder hears.
        self._lip_shapes = model.lips if movement is not None and movement.deforms else None
        height, width = model.config.working_size(*portrait.shape[:2])
        self._full, self._picture = portrait, media.resize_image(portrait, width, height)
        self._evidence = evidence = Evidence(model.config, own, height, width)
        self._rows = model.audio_encoder.rows(audible(torch.from_numpy(speech.waveform).to(self._device)))
        self._first = 0
        """which frame of the sound is the clip's first"""
        mask = evidence.audio_mask()
        self._audio_mask = None if mask is None else torch.from_numpy(mask).to(self._device, self._dtype)
        restorer = model.restorer
        self.draws = not self._still or restorer is None or not restorer.config.heard
        """whether anything that the networks draw is seen; else the portrait is moved, and lips by what is
        heard"""
        if self.draws:
            self._encode(pixels_of(self._picture).to(self._device, self._dtype))
        kept, frames = cache_bytes(steps), len(self._gesture)
        self._features = FrameCache(self._encode_poses, frames, kept)
        self._audio = FrameCache(self._project_audio, frames, kept)

    def following(
        self, gesture: Gesture, rows: Float[Tensor, "r ..."], first: int, movement: Movement | None
    ) -> ClipConditions:
        """Conditions of other frames of the same portrait, which is not encoded again.

        ``rows`` as of ``AudioEncoder.rows``; ``first``: which of their frames is the first.
        """
        made = copy.copy(self)
        made._gesture, made._movement = movement.for_networks if movement else gesture, movement
        made._rows, made._first = rows.to(self._device), first
        made._audio = FrameCache(made._project_audio, len(gesture), 0)
        if not self._still:
            made._features = FrameCache(made._encode_poses, len(gesture), 0)
        return made

    def _encode(self, pixels: Float[Tensor, "1 3 H W"]) -> None:
        """Compute everything that depends on the portrait alone."""
        model, evidence = self._model, self._evidence
        drawn, hidden = evidence.own_map(self._gesture[0]), evidence.hidden()
        own_map = None if drawn is None else self._maps_on_device(torch.from_numpy(drawn)[None])
        plate = model.predict_plate(
            pixels, None if hidden is None else torch.from_numpy(hidden)[None].to(self._device)
        )
        latents = model.encode(pixels)
        base = model.base(latents, plate)
        self.portrait = encode_portrait(model, latents, base, own_map, compare=evidence.compares_poses)
        self._encoded: PortraitDetail | None = None
        if model.restorer is not None:
            assert own_map is not None, "a restorer comes with the portrait's own pose map"
            lips = None if self._audio_mask is None else self._audio_mask[None, None]
            self._encoded = model.restorer.encode(pixels, model.decode(latents), own_map, lips, plate)
            self._encoded_full = self._encoded_at_full_size(self._encoded)

    def _encoded_at_full_size(self, encoded: PortraitDetail) -> PortraitDetail:
        """The same portrait and plate at the size of the finished pictures."""
        if self._picture.shape == self._full.shape:
            return encoded
        pixels, plate = self._whole, encoded.plate
        hidden = dataclasses.replace(
            self._evidence, height=len(self._full), width=self._full.shape[1]
        ).hidden()
        if plate is not None:
            # Where no arms were, the plate is the portrait itself.
            there = torch.zeros(1) if hidden is None else torch.from_numpy(hidden)[None]
            plate = torch.lerp(pixels, resized(plate.float(), pixels), there.to(self._device))
        return dataclasses.replace(encoded, pixels=pixels, plate=plate)

    @property
    def movement(self) -> Movement | None:
        """How finished frames are moved; None: as the networks draw them."""
        return self._movement

    @property
    def cells(self) -> tuple[int, int]:
        """Height and width of the latents."""
        return self._evidence.cells

    def __len__(self) -> int:
        return len(self._gesture)

    def of(self, window: Window) -> Conditions:
        """All conditions of a window."""
        # Where all poses are the same, so is what they give: computed of one, and repeated.
        hints = {
            name: torch.from_numpy(values)[None].to(self._device)
            for name, values in self._evidence.hints(self._poses(window)).items()
        }
        made = self.portrait.conditions(
            self._model,
            pose=torch.stack(self._pose_features(window))[None],
            audio=AudioProjection.joined(self._audio.of(window)),
            audio_mask=None if self._audio_mask is None else self._audio_mask.expand(1, len(window), -1, -1),
            hints=hints,
        )
        carried = made.concatenated
        if carried is None:
            return made
        return dataclasses.replace(made, concatenated=carried.expand(1, len(window), *carried.shape[2:]))

    def none(self) -> Conditions:
        """The unconditional half of guidance."""
        return Conditions(base=self.portrait.base)

    def finish(
        self, latents: Float[Tensor, "n c h w"], frames: Sequence[int], start: int = 0
    ) -> Float[Tensor, "f 3 H W"]:
        """These frames of the clip as pictures in about −1..1.

        ``latents``: of all frames, or of those from ``start`` on; the clip's first are to be finished first.
        """
        movement = self._movement
        if movement is None or self.draws:
            given = latents[[frame - start for frame in frames]].to(self._dtype).contiguous()
            return self.restored(self.decode(given), frames)
        portrait = np.broadcast_to(self._portrait_alone, (len(frames), *self._full.shape))
        return self._moved(movement, portrait, None, frames, self._lips(frames))

    def undrawn(self, frames: int) -> Float[Tensor, "n 0 h w"]:
        """The latents of a clip of which networks draw nothing."""
        return torch.zeros(frames, 0, *self.cells)

    def restored(self, pixels: Float[Tensor, "f 3 H W"], frames: Sequence[int]) -> Float[Tensor, "f 3 H W"]:
        """Decoded frames at the portrait's size, with its fine detail if the model has a restorer, and moved
        if there is a movement.

        What the restorer predicts at the size the networks work at holds for the pictures in full size: they
        are as sharp as the portrait wherever it is taken from there.
        """
        restorer, encoded, movement = self._model.restorer, self._encoded, self._movement
        if restorer is None or encoded is None:
            return self._at_full_size(pixels)
        carried = self._carried(self._picture, frames)
        mouth, lips = self._heard(frames) if restorer.config.heard else (None, None)
        mixture = restorer.predict(pixels, self.maps(frames), encoded, mouth, carried)
        if self._full.shape != self._picture.shape:
            carried = self._carried(self._full, frames)
        made = restorer.mix(self._at_full_size(pixels), mixture, self._encoded_full, carried)
        base = self._where_moving(made, frames, mouth=movement is None or mouth is None)
        if movement is None:
            return base
        drawn = Drawn(channels_last(made))
        return self._moved(movement, channels_last(base), drawn, frames, lips)

    @cached_property
    def _whole(self) -> Float[Tensor, "1 3 H W"]:
        """The portrait at its full size, in −1..1."""
        return pixels_of(self._full).to(self._device)

    @cached_property
    def _portrait_alone(self) -> Frames:
        """(1, H, W, 3): the picture that is moved where networks draw nothing."""
        return channels_last(self._whole)

    def _moved(
        self,
        movement: Movement,
        pictures: Frames,
        drawn: Drawn | None,
        frames: Sequence[int],
        lips: Tensor | None,
    ) -> Float[Tensor, "f 3 H W"]:
        mouths = None if lips is None else lips.float().cpu().numpy()
        moved = movement.apply(pictures, drawn, frames, mouths)
        return torch.from_numpy(moved).permute(0, 3, 1, 2).to(self._device)

    def _at_full_size(self, pixels: Float[Tensor, "f 3 H W"]) -> Float[Tensor, "f 3 H W"]:
        size = self._full.shape[:2]
        if pixels.shape[2:] == size:
            return pixels
        return F.interpolate(pixels.float(), size=size, mode="bicubic", align_corners=False)

    def _where_moving(
        self, made: Float[Tensor, "f 3 H W"], frames: Sequence[int], *, mouth: bool
    ) -> Float[Tensor, "f 3 H W"]:
        """``made`` where conditions move something; elsewhere the frame is the portrait itself."""
        moving = self._evidence.moving(self._poses(frames), mouth=mouth)
        if moving is None:
            return made
        share = resized(self._of_poses(moving, frames), made)
        return torch.lerp(self._whole.expand_as(made), made, share)

    def _poses(self, frames: Sequence[int]) -> list[Pose]:
        """The poses of frames, as networks are conditioned on them; one for all if they are the same."""
        return [self._gesture[i] for i in (frames[:1] if self._still else frames)]

    def _of_poses(self, values: NDArray[Any], frames: Sequence[int]) -> Tensor:
        """What ``_poses`` gave, for every frame."""
        return torch.from_numpy(values).to(self._device).expand(len(frames), *values.shape[1:])

    # -- of frames -----------------------------------------------------------------------------

    def _encode_poses(self, frames: Sequence[int]) -> list[Float[Tensor, "d h w"]]:
        return list(self._model.pose_encoder(self.maps(frames)))

    def _pose_features(self, frames: Sequence[int]) -> list[Float[Tensor, "d h w"]]:
        return self._features.of([0] * len(frames) if self._still else frames)

    def _project_audio(self, frames: Sequence[int]) -> list[AudioProjection]:
        projected = self._model.project_audio(self.tokens(frames).to(self._device, self._dtype))
        return [projected.frame(i) for i in range(len(frames))]

    def _carried(self, picture: Picture, frames: Sequence[int]) -> UInt8[Tensor, "f 4 H W"] | None:
        """The picture's arms and hands where frames have them."""
        carried = self._evidence.carried(picture, self._poses(frames))
        return None if carried is None else self._of_poses(carried, frames)

    def _mouth(self, frames: Sequence[int]) -> Float[Tensor, "f 2"]:
        """Opening and width of the mouth, predicted from speech, for the networks that draw its inside."""
        return self._heard(frames)[0]

    def _heard(self, frames: Sequence[int]) -> tuple[Float[Tensor, "f 2"], Float[Tensor, "f c"]]:
        """``_mouth`` and ``_lips``."""
        lips = self._lips(frames)
        if self._lip_shapes is None:
            return lips, lips
        mouth = self._predict_mouth(frames)
        mouth[:, 0] = torch.from_numpy(parted(lips[:, 0].float().cpu().numpy())).to(mouth)
        return mouth, lips

    def _lips(self, frames: Sequence[int]) -> Float[Tensor, "f c"]:
        """The shapes of the lips (f, 6), or without their network opening and width of the mouth (f, 2)."""
        lips = self._lip_shapes
        if lips is None:
            return self._predict_mouth(frames)
        return lips(lips.windows(self._rows, self._of_sound(frames), self._fps))

    def _predict_mouth(self, frames: Sequence[int]) -> Float[Tensor, "f 2"]:
        encoder = self._model.audio_encoder
        assert isinstance(encoder, LogMelEncoder)
        return encoder.predict_mouth(encoder.windows(self._rows, self._of_sound(frames), self._fps))

    def tokens(self, frames: Sequence[int]) -> Float[Tensor, "f l d"]:
        """Audio tokens of frames."""
        tokens = self._model.audio_encoder.tokens(self._rows, self._of_sound(frames), self._fps)
        if self._lip_shapes is not None:
            encoder = self._model.audio_encoder
            assert isinstance(encoder, LogMelEncoder)
            tokens[:, -1] = encoder.tell(self._mouth(frames).to(tokens))
        return tokens

    def _of_sound(self, frames: Sequence[int]) -> Int[Tensor, " f"]:
        """The frames' numbers in the sound."""
        return torch.tensor([self._first + frame for frame in frames])

    def maps(self, frames: Sequence[int]) -> Float[Tensor, "f 3 H W"]:
        """Drawn pose maps of frames, in 0..1."""
        drawn = self._maps_on_device(torch.from_numpy(self._evidence.maps(self._poses(frames))))
        return drawn.expand(len(frames), -1, -1, -1)

    def _maps_on_device(self, maps: UInt8[Tensor, "f 3 H W"]) -> Float[Tensor, "f 3 H W"]:
        """Drawn maps in 0..1."""
        unit = (maps.float() / 255).to(self._device, self._dtype)
        return unit.contiguous(memory_format=torch.channels_last)


def pixels_of(picture: Picture) -> Float[Tensor, "1 3 H W"]:
    """A picture in −1..1."""
    return torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1


def cache_bytes(steps: int) -> int:
    """The limit of each of the two caches of a clip."""
    return CACHE_BYTES if steps > 1 else 0


class _Sized(Protocol):
    @property
    def nbytes(self) -> int: ...


T = TypeVar("T", bound=_Sized)


class FrameCache(Generic[T]):
    """Values of single frames: computed at the first request, the oldest dropped beyond ``limit`` bytes.

    Frames are always computed in the same groups of neighbours, whatever is asked for first: a network may
    round differently in a batch of another size, and a clip must not depend on where its making began.
    """

    def __init__(
        self, make: Callable[[Sequence[int]], Sequence[T]], frames: int, limit: int = CACHE_BYTES
    ) -> None:
        """``frames``: how many there are."""
        self._make, self._frames, self._limit = make, frames, limit
        self._kept: OrderedDict[int, T] = OrderedDict()

    def of(self, frames: Sequence[int]) -> list[T]:
        """The values of these frames."""
        for group in dict.fromkeys(i // GROUP for i in frames):
            members = range(group * GROUP, min((group + 1) * GROUP, self._frames))
            if any(i in frames and i not in self._kept for i in members):
                self._kept.update(zip(members, self._make(members), strict=True))
        found = [self._kept[i] for i in frames]
        most = max(len(frames), self._limit // max(1, found[0].nbytes))
        while len(self._kept) > most:
            self._kept.popitem(last=False)
        return found
