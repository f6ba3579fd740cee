"""The user's portrait, recording and gesture, read and fitted to the settings and to each other (floor 3).

    inputs = prepare("portrait.png", "speech.wav", "wave", Settings(width=512, height=512))
    for finding in inputs.findings: print(finding.level, finding.line())

The person is looked for in the portrait; the picture is framed as the training pictures are, the gesture
is given the person's build, and whatever may go wrong is said (``pose.check``). Without the detector
(the ``pose`` extra) picture and gesture are used as they are, which is what the published code does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from semibody import media
from semibody.diffusion.schedule import Solver
from semibody.networks.audio_encoders import frame_count
from semibody.networks.model import ModelConfig
from semibody.pose import check, timing
from semibody.pose.align import Alignment, align
from semibody.pose.check import Finding
from semibody.pose.detectors import open_detector
from semibody.pose.frame import Framing, frame_portrait, keep_whole
from semibody.pose.library import find_gesture
from semibody.pose.plan import plan_gesture
from semibody.pose.prosody import Prosody, analyse
from semibody.types import RATE, Gesture, MissingPartError, Picture, Pose, SemibodyError, Speech

AUTO = "auto"
"""As a gesture: planned from the speech."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a clip is made. Weights bring defaults of their own; what the user sets goes over them."""

    width: int = 768
    height: int = 768
    fps: float = 24.0
    steps: int = 30
    """denoising steps"""
    guidance: float = 2.5
    """1.0: none (twice as fast); 1.5 to 3.0: higher is livelier lips, lower a cleaner picture"""
    solver: Solver = "ddim"
    """ddim as published; dpm++ or unipc need fewer steps"""
    seed: int = 3407
    shared_noise: float = 0.0
    """share of the first noise that all frames have in common: 0 as published, 1 flickers least"""
    length: int | None = None
    """most frames to make; None: as long as the speech"""
    window: int = 12
    """frames denoised together"""
    overlap: int = 3
    """frames that neighbouring windows share"""
    shift: int = 3
    """frames by which windows move on after every step"""
    on_short_gesture: timing.OnShort = "pingpong"
    """what to do when the poses end before the speech: pingpong, loop, hold or stop"""
    frame: Literal["auto", "keep"] = "auto"
    """auto: frame the person as in training; keep: all of the picture, continued where needed"""
    align: Literal["auto", "none"] = "auto"
    """auto: fit the gesture's body to the portrait's; none: take its coordinates as they are"""
    find_person: bool = False
    """look for the person in the portrait even where neither framing nor alignment asks for it; always on for
    models that are shown the portrait's own pose"""
    strict: bool = False
    """stop at warnings about the inputs"""
    allow_silence: bool = False
    """animate even if nothing can be heard"""


SHORTEST_SECONDS = 0.1
SILENT_BELOW = 1e-3
"""RMS level under which a recording counts as silent (−60 dB)."""
SMALLEST_SIDE = 64
LARGEST_ASPECT = 4.0


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The user's files, read and fitted to each other."""

    portrait: Picture
    """(height, width, 3)"""
    speech: Speech
    gesture: Gesture
    """exactly as many poses as the clip has frames"""
    portrait_pose: Pose | None = None
    """the person in the portrait, in fractions of it; None when none was looked for or found"""
    findings: tuple[Finding, ...] = ()
    """what was changed to make them fit, and what may go wrong"""

    def __len__(self) -> int:
        return len(self.gesture)

    @property
    def notices(self) -> tuple[str, ...]:
        """The findings that are worth a line."""
        return tuple(finding.line() for finding in self.findings if finding.level != "good")


def prepare(
    portrait: str | Path | Picture,
    speech: str | Path | Speech,
    gesture: str | Path | Gesture,
    settings: Settings,
) -> Inputs:
    """Read the inputs and fit them to the settings and to each other.

    ``gesture`` is a file or folder, the name of a gesture of the library, or ``auto``. Raises SemibodyError
    for what cannot work, and with ``settings.strict`` for whatever is likely to disappoint.
    """
    sound = speech if isinstance(speech, Speech) else media.read_speech(speech, RATE)
    _require_speech(sound, name_of(speech, "the speech"), settings)
    picture = portrait if isinstance(portrait, np.ndarray) else media.read_image(portrait)
    shown = fit_portrait(picture, settings, name_of(portrait, "the portrait"))
    findings = list(shown.findings)

    frames = max(1, frame_count(sound.seconds, settings.fps))
    if settings.length is not None:
        frames = min(frames, settings.length)
    prosody = analyse(sound)
    poses = read_gesture(gesture, settings, sound, prosody)
    findings += check.check_gesture(poses)
    poses, alignment = _align(poses, shown, settings)
    if alignment is not None:
        findings.append(Finding("good", "align", alignment.line()))
        findings += check.check_fit(poses, alignment, shown.pose or Pose.empty())
    poses = timing.resample(poses, settings.fps)
    if len(poses) < frames:
        findings.append(_short_gesture(name_of(gesture, "the gesture"), len(poses), frames, settings))
    poses = timing.fill(poses, frames, settings.on_short_gesture)
    findings += check.check_speech(sound, prosody)
    if settings.strict:
        _refuse(findings)
    return Inputs(
        portrait=shown.picture,
        speech=sound,
        gesture=poses,
        portrait_pose=shown.pose,
        findings=tuple(findings),
    )


# -- the portrait --------------------------------------------------------------------------


@dataclass(frozen=True)
class Shown:
    """A portrait at the wanted size: the person's ``pose`` in fractions of it, if one was found."""

    picture: Picture
    pose: Pose | None = None
    framing: Framing | None = None
    findings: tuple[Finding, ...] = ()


def fit_portrait(picture: Picture, settings: Settings, name: str = "the portrait") -> Shown:
    """Bring a picture to the wanted size without stretching it.

    ``frame`` auto frames the person (``pose.frame``), or without a person the middle and top of the
    picture; keep shows all of it. Beyond the picture's edges the edge is continued.
    """
    height, width = picture.shape[:2]
    aspect = width / height
    if min(height, width) < SMALLEST_SIDE or not 1 / LARGEST_ASPECT <= aspect <= LARGEST_ASPECT:
        raise SemibodyError(
            f"{name}: is {width} x {height} pixels; give a half-body picture of at least "
            f"{SMALLEST_SIDE} x {SMALLEST_SIDE} that is at most {LARGEST_ASPECT:g} times longer than wide"
        )
    people, findings = _find_people(picture, settings)
    pose = people[0] if people else None
    wanted = settings.width / settings.height
    if settings.frame == "keep":
        framing = Framing(keep_whole(width, height, wanted), True)
    else:
        framing = frame_portrait(pose or Pose.empty(), width, height, wanted)
    framed = media.resize_image(framing.crop.apply(picture), settings.width, settings.height)
    if pose is not None:
        findings += check.check_portrait(picture, pose)
        inside = framing.crop.joints(pose.joints)
        pose = Pose(inside, np.where(_within(inside), pose.confidence, 0.0))
        findings += check.check_framing(framing, pose)
    return Shown(framed, pose, framing, tuple(findings))


def _find_people(picture: Picture, settings: Settings) -> tuple[list[Pose], list[Finding]]:
    if settings.frame == "keep" and settings.align == "none" and not settings.find_person:
        return [], []
    try:
        with open_detector() as detector:
            people = detector.people(picture)
    except MissingPartError as error:
        text = "the person in the portrait was not looked for, so framing and gesture may not fit"
        return [], [Finding("note", "person", text, str(error))]
    return people, check.check_people(people)


def _within(joints: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(((joints >= 0) & (joints <= 1)).all(axis=1))


# -- the gesture ---------------------------------------------------------------------------


def read_gesture(
    gesture: str | Path | Gesture, settings: Settings, speech: Speech | None, prosody: Prosody | None
) -> Gesture:
    """A gesture as it is, from a file or folder, by its name in the library, or for ``auto`` planned.

    ``prosody`` is what ``analyse`` found in the speech. Raises SemibodyError for a gesture that cannot be
    found or read, and for ``auto`` without speech.
    """
    if isinstance(gesture, Gesture):
        return gesture
    if str(gesture) != AUTO:
        return find_gesture(gesture)
    if speech is None:
        raise SemibodyError("a gesture planned from speech needs the recording; name it too")
    return plan_gesture(speech, seed=settings.seed, fps=settings.fps, prosody=prosody).gesture


def _align(poses: Gesture, shown: Shown, settings: Settings) -> tuple[Gesture, Alignment | None]:
    if settings.align == "none" or shown.pose is None:
        return poses, None
    return align(poses, shown.pose, settings.width / settings.height)


def _short_gesture(name: str, poses: int, frames: int, settings: Settings) -> Finding:
    name = "the planned gesture" if name == AUTO else name
    if poses == 1:
        return Finding("note", "length", f"{name}: has one pose, so the hands stay still")
    does = {
        "pingpong": "they go back and forth",
        "loop": "they start over",
        "hold": "the last one is held",
        "stop": "the video ends with them",
    }[settings.on_short_gesture]
    text = f"{name}: {poses} poses for {frames} frames; {does}"
    return Finding("note", "length", text, "change it with --on-short-gesture, or use --gesture auto")


# -- what cannot work ----------------------------------------------------------------------


def _require_speech(speech: Speech, name: str, settings: Settings) -> None:
    if speech.rate != RATE:
        raise SemibodyError(f"{name}: has {speech.rate} samples a second; read it with media.read_speech")
    if speech.seconds < SHORTEST_SECONDS:
        raise SemibodyError(
            f"{name}: lasts {speech.seconds:.2f} s; give at least {SHORTEST_SECONDS} s of speech"
        )
    level = float(np.sqrt(np.mean(np.square(speech.waveform, dtype=np.float64))))
    if not np.isfinite(level):
        raise SemibodyError(f"{name}: holds samples that are not numbers; export it again")
    if level < SILENT_BELOW and not settings.allow_silence:
        raise SemibodyError(f"{name}: is silent; give a recording of speech, or add --allow-silence")


def _refuse(findings: Sequence[Finding]) -> None:
    grave = [finding for finding in findings if finding.level in ("warning", "error")]
    if grave:
        more = f" ({len(grave) - 1} more: run `semibody check`)" if len(grave) > 1 else ""
        raise SemibodyError(f"{grave[0].line()}{more}; or leave out --strict")


def check_settings(settings: Settings, model: ModelConfig) -> Settings:
    """Raise SemibodyError for settings that cannot work together; fit them to the model.

    The size is rounded to its latent cells, and a model that is shown the portrait's pose asks for it.
    """
    grid = model.vae.factor
    fault = None
    if min(settings.width, settings.height) < 8 * grid:
        fault = f"--size {settings.width}x{settings.height} is too small; use at least {8 * grid}"
    elif settings.steps < 1 or settings.steps > 1000:
        fault = f"--steps {settings.steps} must be from 1 to 1000"
    elif not 1.0 <= settings.fps <= 120.0:
        fault = f"--fps {settings.fps:g} must be from 1 to 120"
    elif not 0.0 <= settings.guidance <= 30.0:
        fault = f"--guidance {settings.guidance:g} must be from 0 to 30"
    elif settings.length is not None and settings.length < 1:
        fault = f"--length {settings.length} must be at least 1 frame"
    elif not 0 <= settings.overlap < settings.window:
        fault = f"--overlap {settings.overlap} must be smaller than --context {settings.window}"
    elif model.unet.motion and settings.window > model.unet.motion_frames:
        fault = f"--context {settings.window} is more than these weights allow ({model.unet.motion_frames})"
    elif not 0.0 <= settings.shared_noise <= 1.0:
        fault = f"shared_noise = {settings.shared_noise:g} must be from 0 to 1"
    elif not 0 <= settings.seed < 2**63:
        fault = f"--seed {settings.seed} must be a positive whole number"
    if fault:
        raise SemibodyError(fault)
    return dataclasses.replace(
        settings,
        width=_to_grid(settings.width, grid),
        height=_to_grid(settings.height, grid),
        find_person=settings.find_person or model.hints.own_pose,
    )


def _to_grid(length: int, grid: int) -> int:
    return max(grid, round(length / grid) * grid)


def name_of(source: object, otherwise: str) -> str:
    """How messages call an input: its path, or ``otherwise`` for one that is in memory."""
    return str(source) if isinstance(source, str | Path) else otherwise
