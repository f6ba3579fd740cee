"""Hints: what small denoisers are conditioned on beside the published conditions.

The published networks are conditioned on the portrait through the reference network alone, and of the frames'
poses on drawn hands only. Networks of a few million parameters need more. ``Hints()`` is as published.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class Hints:
    """Which hints a model is conditioned on; the defaults are as published: none."""

    portrait: Literal["reference", "concat", "residual"] = "reference"
    """how the portrait's latents enter: through the reference network only; also concatenated with the noisy
    latents; or concatenated, and the network predicts what to add to them (for weights that predict the
    sample: the initial prediction is already right where nothing moves)"""
    base: Literal["portrait", "plate"] = "portrait"
    """which latents are concatenated or added to: the portrait's, or those of its clean plate
    (``networks.plate``), so that arms need only be added, never removed"""
    pose: Literal["frames", "own", "change"] = "frames"
    """which poses are drawn: those of the frames; also the portrait's own, for the reference network; or also
    that, and the denoiser is given the frames' features less the portrait's, which show where hands arrive
    and where they leave"""
    own_parts: tuple[str, ...] = ("hands",)
    """parts of the body (lips, head, body, hands) that are drawn in the portrait's own pose map: its whole
    pose is known, while frames are conditioned on hands only"""
    limbs: bool = False
    """the portrait's latents with arms and hands carried to where the frame's pose has them (``pose.limbs``)
    are concatenated too, because small networks learn long movements slowly"""
    audio_region: Literal["body", "face", "lips"] = "body"
    """where audio attention may write: everywhere, as published, or about the portrait's face or lips, so
    that small models need not learn where the mouth is"""
    audio_dilation: float = 0.5
    """how far the hull of face or lips grows for that, as a share of its longer side"""

    def __post_init__(self) -> None:
        if not self.concatenates and (self.limbs or self.base == "plate"):
            raise ValueError('hints.limbs and hints.base need hints.portrait = "concat" or "residual"')

    @property
    def concatenates(self) -> bool:
        """Whether latents are concatenated with the noisy ones."""
        return self.portrait != "reference"

    @property
    def own_pose(self) -> bool:
        """Whether the portrait's own pose is drawn."""
        return self.pose != "frames"

    def channels(self, latents: int) -> int:
        """Input channels of the denoiser for latents of so many channels."""
        return latents * (1 + self.concatenates + self.limbs) + self.limbs


_SAME = ("audio_region", "audio_dilation", "limbs")
"""Hints that kept their names."""


def read_old_keys(values: Mapping[str, Any]) -> dict[str, Any]:
    """A ModelConfig's plain values as older versions wrote them, with their hints in ``hints``.

    Until now every hint was a key beside the networks' sizes, most of them booleans, and the denoiser's input
    channels, which follow from the hints, were stated. Values of today come back as they are.
    """
    model = dict(values)
    if not isinstance(model.get("hints", {}), Mapping):
        return model  # refused when the model's settings are built
    hints = dict(model.pop("hints", {}))

    def choose(hint: str, published: str, *old: tuple[str, str]) -> None:
        """``old``: (key, what it means when true), each of which includes the ones before."""
        meanings = [published, *(meaning for _, meaning in old)]
        if hints.get(hint, published) not in meanings:
            return  # refused when the hints are built
        for level, (key, meaning) in enumerate(old, start=1):
            given = model.pop(key) if isinstance(model.get(key), bool) else None
            reached = meanings.index(hints.get(hint, published))
            if given and reached < level:
                hints[hint] = meaning
            elif given is False and reached >= level:
                hints[hint] = meanings[level - 1]

    choose("portrait", "reference", ("concat_portrait", "concat"), ("residual_portrait", "residual"))
    choose("pose", "frames", ("reference_pose", "own"), ("pose_change", "change"))
    choose("base", "portrait", ("plate_latents", "plate"))
    if "portrait_parts" in model:
        hints["own_parts"] = model.pop("portrait_parts")
    hints |= {key: model.pop(key) for key in _SAME if key in model}
    if isinstance(model.get("unet"), Mapping):
        model["unet"] = {key: value for key, value in model["unet"].items() if key != "in_channels"}
    return {**model, "hints": hints} if hints else model
