"""The user's portrait, recording and gesture, read and fitted to the settings and to each other.

    inputs = prepare("portrait.png", "speech.wav", "wave", Settings(width=512, height=512))
    for finding in inputs.findings: print(finding.level, finding.line())

The person is detected in the portrait; the picture is framed as the training pictures are, the gesture
is given the person's build, and whatever may go wrong becomes a finding (``pose.check``). Without the
detector (the ``pose`` extra) picture and gesture are used as they are, which is what the published code does.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semibody import media
from semibody.files import exists
from semibody.networks.audio_encoders import frame_count
from semibody.pose import alive, anchor, check, timing
from semibody.pose.align import align
from semibody.pose.alive import Life
from semibody.pose.check import Finding
from semibody.pose.covered import dim_covered_hands
from semibody.pose.detectors import shared_detector
from semibody.pose.formats.reading import Stated
from semibody.pose.frame import Framing, frame_portrait, keep_whole
from semibody.pose.library import REST_NAME, find_gesture, in_library
from semibody.pose.matte import find_matte, shows
from semibody.pose.plan import LEAST_LIVELY, plan_gesture
from semibody.pose.prosody import Prosody, analyse
from semibody.settings import AUTO, COLOUR, STILL, Settings, Words
from semibody.types import RATE, Gesture, MissingPartError, Picture, Pose, SemibodyError, Speech
from semibody.voices.speaking import say

_GREY = (128, 128, 128)
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
    """the person in the portrait, in fractions of it; None: not detected"""
    life: Life | None = None
    """small movements of head, lids and shoulders; None: none"""
    person: media.Opacity | None = None
    """her share of each pixel of the portrait; None: not known"""
    matte: media.Matte | None = None
    """what takes the person out of the frames again; None: the video is not transparent"""
    findings: tuple[Finding, ...] = ()
    """what was changed to make them fit, and what may go wrong"""
    sources: Mapping[str, Path] = field(default_factory=dict)
    """the files of portrait and speech, where they are files"""

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

    ``gesture`` is a file or folder, the name of a gesture of the library, ``auto`` or ``still``. Raises
    SemibodyError for what cannot work, and with ``settings.strict`` for whatever is likely to disappoint.
    """
    fitted = fit(portrait, speech, gesture, settings)
    _refuse(fitted.findings, strict=settings.strict)
    assert fitted.speech is not None and fitted.gesture is not None
    return Inputs(
        portrait=fitted.portrait,
        speech=fitted.speech,
        gesture=fitted.gesture,
        portrait_pose=fitted.portrait_pose,
        life=fitted.life,
        person=fitted.person,
        matte=fitted.matte,
        findings=fitted.findings,
        sources=files_of(portrait=portrait, speech=speech),
    )


def files_of(**inputs: object) -> dict[str, Path]:
    """Those of the inputs that are files, by what they are."""
    return {what: Path(given) for what, given in inputs.items() if isinstance(given, str | Path)}


def _find_person(portrait: FittedPortrait) -> media.Opacity | None:
    """Where in the portrait the person is, from its own opacity if it has one."""
    if portrait.matte is not None:
        return np.asarray(portrait.matte.opacity, np.float32)
    return None if portrait.pose is None else find_matte(portrait.picture)


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A portrait, and what there was of speech and gesture, fitted to each other; as in ``Inputs``."""

    portrait: Picture
    portrait_pose: Pose | None
    speech: Speech | None
    """None: not given, or not usable: then an error is among the findings"""
    gesture: Gesture | None
    """as long as the speech, if there is one"""
    life: Life | None
    """as many frames as the gesture's"""
    person: media.Opacity | None
    matte: media.Matte | None
    findings: tuple[Finding, ...]


def fit(
    portrait: str | Path | Picture,
    speech: str | Path | Speech | None,
    gesture: str | Path | Gesture | None,
    settings: Settings,
) -> Fitted:
    """Read what is given and fit it to the settings and to each other; what is wrong is among the findings.

    Raises SemibodyError for files that cannot be read, and for ``auto`` without speech.
    """
    fitted = read_portrait(portrait, settings)
    sound, prosody, findings = _read_speech(speech, settings)
    poses: Gesture | None = None
    person = _find_person(fitted)
    if gesture is not None and not (sound is None and speech is not None):
        frames = None if sound is None else clip_frames(sound, settings)
        if str(gesture) in (AUTO, STILL) and fitted.pose is not None:
            poses, more = _anchored(str(gesture), fitted, frames, settings, sound, prosody, person)
        else:
            read = read_gesture(gesture, settings, sound, prosody)
            poses, more = _fit_gesture(read, gesture, fitted, frames, settings)
        findings = [*more, *findings]
    return Fitted(
        portrait=fitted.picture,
        portrait_pose=fitted.pose,
        speech=sound,
        gesture=poses,
        life=_enliven(fitted, poses, prosody, settings),
        person=person,
        matte=fitted.matte,
        findings=(*fitted.findings, *findings),
    )


def _refuse(findings: Sequence[Finding], *, strict: bool) -> None:
    for finding in findings:
        if finding.level == "error":
            raise SemibodyError(finding.line())
    grave = [finding for finding in findings if finding.level == "warning"]
    if strict and grave:
        more = f" ({len(grave) - 1} more: run `semibody check`)" if len(grave) > 1 else ""
        raise SemibodyError(f"{grave[0].line()}{more}; or leave out --strict")


# -- the speech ----------------------------------------------------------------------------


def choose_speech(recording: str | Path | None, words: Words) -> str | Path | Speech | None:
    """The recording, or ``words`` spoken; None where neither is given.

    Raises SemibodyError for both, for a voice without words, and as ``say`` does.
    """
    if words.say is None:
        if words.voice is not None:
            raise SemibodyError(f"--voice {words.voice}: there is nothing to say; add --say TEXT")
        return recording
    if recording is not None:
        raise SemibodyError(f"{recording}: give either a recording or --say, not both")
    return say(words.say, words.voice).speech


def _read_speech(
    speech: str | Path | Speech | None, settings: Settings
) -> tuple[Speech | None, Prosody | None, list[Finding]]:
    """The recording and its prosody, or None where it is not usable, and the findings."""
    if speech is None:
        return None, None, []
    sound = speech if isinstance(speech, Speech) else media.read_speech(speech, RATE)
    name = name_of(speech, "the speech")
    if sound.rate != RATE:
        raise SemibodyError(f"{name}: has {sound.rate} samples a second; read it with media.read_speech")
    tracks = 1 if isinstance(speech, Speech) else media.count_tracks(speech)
    if tracks > 1:
        name += f" (the first of its {tracks} sound tracks)"
    faults = check.check_sound(sound, name, allow_silence=settings.allow_silence)
    if any(finding.level == "error" for finding in faults):
        return None, None, faults
    prosody = analyse(sound)
    found = faults or check.check_speech(sound, prosody)
    if tracks > 1:
        found.append(Finding("note", "speech", f"{name}: is used", "to use another, save it alone"))
    text = (
        f"{sound.seconds:.1f} s, {_counted(len(prosody.syllables), 'syllable')} "
        f"in {_counted(len(prosody.phrases), 'phrase')}"
    )
    return sound, prosody, found or [Finding("good", "speech", text)]


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def clip_frames(sound: Speech, settings: Settings) -> int:
    """How many frames the clip has."""
    frames = max(1, frame_count(sound.seconds, settings.fps))
    return frames if settings.length is None else min(frames, settings.length)


# -- the portrait --------------------------------------------------------------------------


@dataclass(frozen=True)
class FittedPortrait:
    """A portrait at the wanted size: the person's ``pose`` in fractions of it, if one was found."""

    picture: Picture
    pose: Pose | None = None
    findings: tuple[Finding, ...] = ()
    opacity: media.Opacity | None = None
    """at the wanted size; None: opaque everywhere"""
    matte: media.Matte | None = None
    """for a transparent video"""
    seed: int = 0
    """of what is planned for it, see ``seed_of``"""


def read_portrait(portrait: str | Path | Picture, settings: Settings) -> FittedPortrait:
    """Read a portrait, fit it, and put ``settings.background`` behind it.

    Raises SemibodyError for a file or background that cannot be read, and for an opaque portrait where the
    video is to be transparent.
    """
    background, name = _read_background(settings), name_of(portrait, "the portrait")
    if isinstance(portrait, np.ndarray):
        return fit_portrait(portrait, settings, name)
    # Grey, where another background follows: beside white or black, scaling would clip the edges.
    plain = background if isinstance(background, tuple) and not settings.alpha else _GREY
    picture, opacity = media.read_cutout(portrait, plain)
    fitted = fit_portrait(picture, settings, name, opacity)
    if fitted.opacity is None:
        return dataclasses.replace(fitted, findings=(*fitted.findings, *_check_opaque(name, settings)))
    if settings.alpha:
        key = media.key_colour(fitted.picture, fitted.opacity)
        behind = media.put_behind(fitted.picture, fitted.opacity, plain, key)
        return dataclasses.replace(fitted, picture=behind, matte=media.Matte(behind, fitted.opacity, key))
    if not isinstance(background, tuple):
        behind = media.put_behind(fitted.picture, fitted.opacity, plain, background)
        return dataclasses.replace(fitted, picture=behind)
    return fitted


def _read_background(settings: Settings) -> media.Colour | Picture:
    """A colour, or a picture. Raises SemibodyError."""
    given = settings.background
    if COLOUR.fullmatch(given):
        red, green, blue = bytes.fromhex(given[1:])
        return red, green, blue
    if not exists(Path(given)):
        raise SemibodyError(
            f"--background {given}: no such picture; write a colour as #rrggbb, for example #ffffff, or name "
            "a picture"
        )
    return media.read_image(given)


def _check_opaque(name: str, settings: Settings) -> list[Finding]:
    """What was asked for and needs a transparent portrait."""
    remedy = "cut the person out with any background remover and save it as png"
    text = f"{name}: has no transparent part"
    if settings.alpha:
        return [Finding("error", "alpha", f"{text}, which --alpha keeps", remedy)]
    if settings.background != Settings.background:
        return [Finding("warning", "background", f"{text}, so --background is not used", remedy)]
    return []


def fit_portrait(
    picture: Picture,
    settings: Settings,
    name: str = "the portrait",
    opacity: media.Opacity | None = None,
) -> FittedPortrait:
    """Bring a picture to the wanted size without stretching it, and its opacity with it.

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
    seed = seed_of(picture, settings.seed)
    turns, people, findings = _find_people(picture, settings)
    picture = np.ascontiguousarray(np.rot90(picture, turns))
    height, width = picture.shape[:2]
    pose = people[0] if people else None
    wanted = settings.width / settings.height
    if settings.frame == "keep":
        framing = Framing(keep_whole(width, height, wanted), True)
    else:
        framing = frame_portrait(pose or Pose.empty(), width, height, wanted)
    framed = media.resize_image(framing.crop.apply(picture), settings.width, settings.height)
    if pose is not None:
        findings += check.check_portrait(picture, pose)
        auto_helps = settings.frame == "keep" and not frame_portrait(pose, width, height, wanted).kept
        inside = framing.crop.joints(pose.joints)
        pose = Pose(inside, np.where(_within(inside), pose.confidence, 0.0))
        findings += check.check_framing(framing, pose, auto_helps=auto_helps)
    if not framing.kept:
        x0, y0, (wide, high) = framing.crop.x0, framing.crop.y0, framing.crop.size
        text = f"the portrait is cut to {wide} x {high} pixels at {x0}, {y0}"
        findings.append(Finding("good", "framing", text))
    if pose is not None and not findings:
        findings.append(Finding("good", "portrait", "one person, well framed"))
    if opacity is not None:
        opacity = _fit_opacity(np.rot90(opacity, turns), framing, settings)
    return FittedPortrait(framed, pose, tuple(findings), opacity, seed=seed)


def _fit_opacity(opacity: media.Opacity, framing: Framing, settings: Settings) -> media.Opacity | None:
    """Framed and scaled as the picture was; None where the frame shows no transparent part."""
    levels = np.repeat(np.rint(opacity * 255).astype(np.uint8)[..., None], 3, axis=2)
    framed = media.resize_image(framing.crop.apply(levels), settings.width, settings.height)[..., 0]
    return framed.astype(np.float32) / 255 if (framed < 255).any() else None


def _find_people(picture: Picture, settings: Settings) -> tuple[int, list[Pose], list[Finding]]:
    """Quarter turns to the left that make the picture upright where ``frame`` is auto and the person lies in
    it, and who is in it then."""
    if not settings.looks_for_person:
        return 0, [], []
    try:
        with shared_detector() as detector:
            people = detector.people(picture)
            turns = check.quarter_turns(people[0], *picture.shape[1::-1]) if people else 0
            tries = (() if turns == 0 else (turns,)) if people else (1, 3)
            for tried in tries if settings.frame == "auto" else ():
                upright = np.ascontiguousarray(np.rot90(picture, tried))
                found = detector.people(upright)
                if found and check.quarter_turns(found[0], *upright.shape[1::-1]) == 0:
                    findings = [*check.check_turn(tried, turned=True), *check.check_people(found)]
                    return tried, found, findings
    except MissingPartError as error:
        text = "the person in the portrait was not detected, so framing and gesture may not fit"
        return 0, [], [Finding("note", "person", text, str(error))]
    needed = settings.frame == "auto" or settings.align == "auto"
    findings = check.check_people(people, needed=needed)
    return 0, people, [*check.check_turn(turns, turned=False), *findings]


def _within(joints: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(((joints >= 0) & (joints <= 1)).all(axis=1))


def _stated(settings: Settings) -> Stated:
    """What the user says of a gesture's file."""
    canvas, size = settings.gesture_canvas, None
    if canvas is not None:
        sides = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", canvas.lower().strip())
        if sides is None:
            raise SemibodyError(
                f"--gesture-canvas {canvas}: write it as width x height, for example 1280x720"
            )
        size = (int(sides[1]), int(sides[2]))
    return Stated(fps=settings.gesture_fps, canvas=size, person=settings.person)


# -- the gesture ---------------------------------------------------------------------------


def read_gesture(
    gesture: str | Path | Gesture, settings: Settings, speech: Speech | None, prosody: Prosody | None
) -> Gesture:
    """A gesture as it is: from a file or folder, by its name in the library, planned, or still.

    ``auto`` and ``still`` are here those of nobody in particular. ``prosody`` is what ``analyse`` found in
    the speech. Raises SemibodyError for a gesture that cannot be found or read, and for ``auto`` without
    speech.
    """
    if isinstance(gesture, Gesture):
        return gesture
    name = str(gesture)
    if name == STILL or (name == AUTO and settings.liveliness == 0):
        return timing.fill(find_gesture(REST_NAME), 1)
    if name != AUTO:
        return find_gesture(gesture, _stated(settings))
    often = max(settings.liveliness, LEAST_LIVELY)
    spoken = _require_heard(speech)
    return plan_gesture(
        spoken, seed=settings.seed, fps=settings.fps, liveliness=often, prosody=prosody
    ).gesture


def _require_heard(speech: Speech | None) -> Speech:
    if speech is None:
        raise SemibodyError("a gesture planned from speech needs the recording; name it too")
    return speech


def seed_of(picture: Picture, seed: int) -> int:
    """The seed of a plan for this picture, 0 … 2**63 − 1: with the same ``seed`` everybody moves differently.

    It depends on the pixels as they were read, so that one portrait makes the same strokes at any size.
    """
    said = f"{seed} {picture.shape}".encode()
    digest = hashlib.blake2b(np.ascontiguousarray(picture).data, key=said[:64], digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _anchored(
    name: str,
    portrait: FittedPortrait,
    frames: int | None,
    settings: Settings,
    speech: Speech | None,
    prosody: Prosody | None,
    person: media.Opacity | None,
) -> tuple[Gesture, list[Finding]]:
    """``auto`` or ``still`` with the portrait's own hands; without a speech ``still`` is a single pose."""
    own, aspect = portrait.pose, settings.width / settings.height
    assert own is not None
    if name == STILL:
        return anchor.rest(own, frames or 1, settings.fps, aspect), []
    dimmed = dim_covered_hands(portrait.picture, own)
    heard = _require_heard(speech)
    apart = person is not None and shows(person, own)
    repertoire = anchor.AnchoredRepertoire(
        dimmed, aspect, seed=portrait.seed, liveliness=settings.liveliness, apart=apart
    )
    seconds = None if frames is None else frames / settings.fps
    planned = anchor.plan_from(repertoire, heard, fps=settings.fps, seconds=seconds, prosody=prosody)
    # What is drawn keeps the confidence that was found.
    confidence = np.broadcast_to(own.confidence, planned.gesture.confidence.shape)
    return replace(planned.gesture, confidence=confidence), check.check_movable(dimmed, aspect)


def _fit_gesture(
    poses: Gesture,
    source: str | Path | Gesture,
    portrait: FittedPortrait,
    frames: int | None,
    settings: Settings,
) -> tuple[Gesture, list[Finding]]:
    """Give a gesture the portrait's build, the clip's frame rate and, if that is known, its length.

    The library's gestures, and with ``anchor`` all, begin and end at the portrait's pose.
    """
    findings, may_align = check.check_gesture(poses), settings.align == "auto"
    eased = settings.anchor or (may_align and not isinstance(source, Gesture) and in_library(source))
    if portrait.pose is not None:
        aligned, alignment = align(poses, portrait.pose, settings.width / settings.height)
        if may_align:
            poses = aligned
            findings.append(Finding("good", "align", alignment.line()))
        started = anchor.ease(poses, portrait.pose) if eased else poses
        findings += check.check_fit(started, alignment, portrait.pose, may_align=may_align)
    poses = timing.resample(poses, settings.fps)
    if frames is not None:
        if len(poses) < frames and source != STILL:
            findings.append(_short_gesture(name_of(source, "the gesture"), len(poses), frames, settings))
        poses = timing.fill(poses, frames, settings.on_short_gesture)
    if eased and portrait.pose is not None:
        poses = anchor.ease(poses, portrait.pose)
    return poses, findings


def _enliven(
    portrait: FittedPortrait, gesture: Gesture | None, prosody: Prosody | None, settings: Settings
) -> Life | None:
    """Small movements for as long as the gesture is, unless the user wants the head still."""
    if portrait.pose is None or gesture is None or settings.still_head:
        return None
    return alive.enliven(
        portrait.pose, prosody, frames=len(gesture), fps=settings.fps,
        aspect=settings.width / settings.height, seed=portrait.seed, liveliness=settings.liveliness,
    )  # fmt: skip


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


def name_of(source: object, otherwise: str) -> str:
    """The name of an input in messages: its path, or ``otherwise`` for one that is in memory."""
    return str(source) if isinstance(source, str | Path) else otherwise
