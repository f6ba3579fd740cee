"""A person who speaks what a microphone hears, a little later: sound in, frames out (floor 6).

    live = Live(Animator.load("starter"), "portrait.png", width=256, height=256)
    for chunk in microphone:                   # float32 (n,) at 16 kHz, of any length
        for frames in live.hear(chunk):        # uint8 (f, height, width, 3), each f / fps seconds long
            show(frames)
    for frames in live.finish(): ...           # what is left when the voice has ended

Frame i belongs to second i / fps of the sound, and is made when AHEAD more seconds were heard: strokes of
the hands have to begin before the syllable they end on. What is planned of the whole recording elsewhere
(gesture, loudness) follows from what was heard of late here, so the frames are not those of
``Animator.animate``. Memory does not grow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from semibody.animator import Animator
from semibody.diffusion.sample import sample
from semibody.diffusion.schedule import build_scheduler
from semibody.diffusion.stream import FrameNoise
from semibody.inputs import Inputs, name_of, read_portrait
from semibody.networks.audio_encoders import LogMelEncoder, mel_power
from semibody.pose import alive, anchor
from semibody.pose.body import face_found
from semibody.pose.covered import dim_covered_hands
from semibody.pose.matte import find_matte
from semibody.pose.plan import Improvisation
from semibody.pose.prosody import Listener
from semibody.types import RATE, Picture, SemibodyError, Speech

Sound = NDArray[np.float32]

AHEAD = 0.9
"""Seconds of sound after a frame's own that are heard before it is made."""
AT_ONCE = 4
"""Parts of a second that are made at once."""


class Live:
    """One person, for one voice."""

    def __init__(self, animator: Animator, portrait: str | Path | Picture, **settings: Any) -> None:
        """``settings`` are fields of Settings; those of a recording or a given gesture have no effect.

        Raises SemibodyError for weights that need the whole recording or several frames at once, and for a
        portrait without a person.
        """
        self.settings = chosen = animator.settings(**settings)
        config = animator.model.config
        if config.audio.kind != "logmel" or config.unet.motion:
            raise SemibodyError(
                f"{animator.origin or 'these weights'}: need a whole recording; use the starter live"
            )
        fitted = read_portrait(portrait, chosen)
        if fitted.pose is None or not face_found(fitted.pose):
            name = name_of(portrait, "the portrait")
            raise SemibodyError(f"{name}: shows no face; live sound needs a portrait with one")
        self._animator, self._seed, own = animator, fitted.seed, fitted.pose
        self._own, self._aspect = own, chosen.width / chosen.height
        inputs = Inputs(
            portrait=fitted.picture,
            speech=Speech(np.zeros(RATE, np.float32)),
            gesture=anchor.rest(own, 1, chosen.fps, self._aspect),
            portrait_pose=own,
            person=find_matte(fitted.picture),
        )
        with torch.inference_mode():
            self._conditions = animator.conditions(inputs, chosen)
        self._movement = self._conditions.movement
        dimmed = dim_covered_hands(fitted.picture, own)
        self._repertoire = anchor.AnchoredRepertoire(
            dimmed,
            self._aspect,
            seed=self._seed,
            liveliness=chosen.liveliness,
            apart=self._movement is not None and self._movement.apart,
        )
        self._plan = Improvisation(self._repertoire, often=self._repertoire.often, seed=self._seed)
        self._listener, self._spectrum = Listener(), RunningSpectrum(animator.model.audio_encoder)
        shape = (config.vae.latent_channels, *self._conditions.cells)
        self._noise = FrameNoise(shape, seed=chosen.seed, shared=chosen.shared_noise)
        self._made = 0
        """frames made so far"""

    @property
    def at_once(self) -> int:
        """Frames that are made together."""
        return max(1, round(self.settings.fps / AT_ONCE))

    def hear(self, sound: Sound) -> Iterator[Picture]:
        """Take the next samples (n,), float32 in −1..1 at 16 kHz; give the frames that have become possible.

        Raises SemibodyError for samples of another kind.
        """
        if sound.ndim != 1 or sound.dtype != np.float32 or not np.isfinite(sound).all():
            raise SemibodyError("live sound: give mono float32 samples in -1..1 at 16000 a second")
        self._listener.hear(sound)
        self._spectrum.hear(sound)
        while (self._made + self.at_once) / self.settings.fps + AHEAD <= self._listener.seconds:
            yield from self._make(self.at_once)

    def finish(self) -> Iterator[Picture]:
        """The frames of the sound that was heard and not shown yet."""
        left = int(self._listener.seconds * self.settings.fps) - self._made
        silence = np.zeros(int((AHEAD + 1 / AT_ONCE) * RATE), np.float32)
        self._listener.hear(silence)
        self._spectrum.hear(silence)
        for start in range(0, left, self.at_once):
            yield from self._make(min(self.at_once, left - start))

    @torch.inference_mode()
    def _make(self, count: int) -> Iterator[Picture]:
        """The next frames."""
        settings, first = self.settings, self._made
        prosody = self._listener.recent()
        self._plan.follow(prosody, first / settings.fps)
        states = self._plan.states(first, count, settings.fps)
        gesture = self._repertoire.render(states, np.zeros(count), settings.fps, first)
        life = None
        if not settings.still_head:
            life = alive.enliven(
                self._own, prosody, frames=count, fps=settings.fps, aspect=self._aspect, seed=self._seed,
                liveliness=settings.liveliness, first=first,
            )  # fmt: skip
        movement = None if self._movement is None else self._movement.following(gesture, life)
        spectrum = self._spectrum
        self._conditions = conditions = self._conditions.following(
            gesture, spectrum.rows, first - round(spectrum.dropped * settings.fps), movement
        )
        animator = self._animator
        latents = conditions.undrawn(count)
        if conditions.draws:
            latents = sample(
                animator.denoiser(conditions, settings),
                self._noise(range(first, first + count)).to(animator.device),
                build_scheduler(animator.schedule, settings.solver, settings.steps),
                lambda step: [list(range(count))],  # noqa: ARG005
            )
        self._made += count
        yield np.concatenate(list(animator.decode(latents, conditions)))


def animate_live(
    animator: Animator, portrait: str | Path | Picture, sound: Iterable[Sound], **settings: Any
) -> Iterator[Picture]:
    """Frames of a voice that is heard in chunks; see ``Live``."""
    live = Live(animator, portrait, **settings)
    for chunk in sound:
        yield from live.hear(chunk)
    yield from live.finish()


class RunningSpectrum:
    """``LogMelEncoder.rows`` of a voice that is still speaking.

    The recording's level, to which rows are brought, is that of the last seconds: it rises with a louder
    voice at once and falls by FALLING a second, so that pauses do not raise the noise of the room.
    """

    SECONDS, FALLING = 3.0, 0.2
    """How long sound counts for its level, and how fast the level falls, in log10 of power."""
    KEPT = 5
    """Seconds of rows that are remembered at least."""
    _EDGE = 2
    """rows on both sides of a piece whose windows reach beyond it"""

    def __init__(self, encoder: Any) -> None:
        assert isinstance(encoder, LogMelEncoder)
        self._encoder, self._hop = encoder, RATE // encoder.rate
        self._wave = torch.zeros(0)
        self._wave_first = 0
        """row of the first sample that is kept"""
        self.rows: Float[Tensor, "r 80"] = torch.zeros(0, 80)
        """those that are remembered"""
        self.dropped = 0
        """seconds before them"""
        self._loud = torch.zeros(0)
        """power over all bands of the last rows"""
        self._level = encoder.usual

    def hear(self, samples: Sound) -> None:
        """Take the next samples (n,)."""
        self._wave = torch.cat([self._wave, torch.from_numpy(samples)])
        before = len(self.rows) + self.dropped * self._encoder.rate
        known = self._wave_first + len(self._wave) // self._hop - self._EDGE
        if known <= before:
            return
        power = mel_power(self._wave)[:, before - self._wave_first : known - self._wave_first]
        self._follow(power.sum(dim=0))
        gain = 10 ** min(max(self._encoder.usual - self._level, -2.0), 2.0)
        rows = (power * gain).clamp_(min=1e-7).log10_().add_(4.0).div_(3.0).T
        self.rows = torch.cat([self.rows, rows])
        # Of sound two rows' windows are left, of rows what frames before now may ask for.
        done = max(0, known - 2 * self._EDGE - self._wave_first)
        self._wave, self._wave_first = self._wave[done * self._hop :], self._wave_first + done
        # In whole seconds, which are whole frames.
        drop = max(0, len(self.rows) // self._encoder.rate - self.KEPT)
        self.rows, self.dropped = self.rows[drop * self._encoder.rate :], self.dropped + drop

    def _follow(self, loud: Float[Tensor, " r"]) -> None:
        self._loud = torch.cat([self._loud, loud])[-round(self.SECONDS * self._encoder.rate) :]
        now = float(self._loud.quantile(0.95).clamp(min=1e-12).log10())
        self._level = max(now, self._level - self.FALLING * len(loud) / self._encoder.rate)
