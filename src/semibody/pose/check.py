"""Checks of a portrait, a gesture and a recording before anything is computed.

Each function checks one thing and returns Findings: level, topic, what was found, what to do. The thresholds
are at the top.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from semibody.pose.align import Alignment, portrait_notices
from semibody.pose.anchor import movable
from semibody.pose.body import SEEN, face_found, face_height, hands_found
from semibody.pose.covered import DARK, face_lightness
from semibody.pose.frame import Framing
from semibody.pose.prosody import Prosody
from semibody.types import BODY, FACE, Floats, Gesture, Picture, Pose, Speech

Level = Literal["good", "note", "warning", "error"]
LEVELS: tuple[Level, ...] = ("good", "note", "warning", "error")

SMALL_FACE, LARGE_FACE, SMALL_FACE_PIXELS = 0.10, 0.40, 56
"""Height of the face, brows to chin, as a share of the frame (two) and in pixels of the portrait."""
FEWEST_SYLLABLES = 2.5
"""Syllables in a second of sound: people speak 3 to 7, music has fewer peaks that look like one."""
LITTLE_HEAD_ROOM, MUCH_HEAD_ROOM = 0.05, 0.30
"""Space above the brows as a share of the frame."""
BLURRED = 12.0
"""Variance of the Laplacian of the face at 128 pixels, contrast normalised."""
TURNED = 0.55
"""How far the nose is from the middle of the face, in halves of its width."""
HANDS_OUTSIDE = 0.25
CLIPPED = 0.002
QUIET_DB = -38.0
NOISY_DB = (6.0, 28.0)
"""Quiet parts that are between these below the voice are heard as speech: white noise 24 dB below it opens
the starter's mouth by a fifth in pauses, 14 dB by half; 34 dB does nothing (measured)."""
ENDS_DB = 20.0
"""A recording whose last moment is less than this below the voice was cut in a word."""
SHORTEST_SECONDS, SHORT_SECONDS = 0.1, 1.0
SILENT_BELOW = 1e-3
"""RMS level under which a recording counts as silent (−60 dB)."""
SCALE = (0.7, 1.4)
CHIN, EYES = 8, slice(36, 48)
"""Of the 68 points of a face."""


@dataclass(frozen=True)
class Finding:
    """``level`` of ``topic``; ``text`` what was found, ``remedy`` what to do about it (may be empty)."""

    level: Level
    topic: str
    text: str
    remedy: str = ""

    def line(self) -> str:
        return f"{self.text}; {self.remedy}" if self.remedy else self.text


def worst(findings: Sequence[Finding]) -> Level:
    return max((finding.level for finding in findings), key=LEVELS.index, default="good")


def check_people(people: Sequence[Pose], *, needed: bool = False) -> list[Finding]:
    """Is there one person, and can the networks see them? ``needed``: without one nothing is to be made."""
    if not people:
        remedy = "use a photograph of a person from head to waist"
        if needed:
            remedy += ", or animate it as it is with --frame keep --align none"
        return [
            Finding("error" if needed else "warning", "person", "no person was found in the portrait", remedy)
        ]
    found = []
    if len(people) > 1:
        found.append(
            Finding("warning", "people", f"{len(people)} people are in the portrait; the largest is animated",
                    "crop the picture to one person")
        )  # fmt: skip
    pose = people[0]
    if not face_found(pose):
        found.append(Finding("warning", "face", "no face was found", "use a picture that shows the face"))
    return found


def quarter_turns(pose: Pose, width: int, height: int) -> int:
    """By how many quarters to the left (``numpy.rot90``) a picture must be turned for its face to stand
    upright: 0 where none was found. ``pose`` in fractions."""
    if not face_found(pose):
        return 0
    face = pose.joints[FACE] * (width, height)
    # From the chin to the middle of the eyes; y goes down.
    x, y = face[EYES].mean(axis=0) - face[CHIN]
    return round(float(np.arctan2(x, -y)) / (np.pi / 2)) % 4


def check_turn(turns: int, *, turned: bool) -> list[Finding]:
    """Does the person stand upright, or was the picture ``turned`` for that?"""
    if turns == 0:
        return []
    degrees = {1: "90 degrees to the left", 2: "upside down", 3: "90 degrees to the right"}[turns]
    if turned:
        text = "the portrait was turned upright" + ("" if turns == 2 else f": {degrees}")
        return [Finding("note", "rotation", text, "use --frame keep to leave it as it is")]
    lies = "the person in the portrait is upside down" if turns == 2 else "the person in the portrait lies"
    remedy = "turn it upright" if turns == 2 else f"turn it by {degrees}"
    return [Finding("warning", "rotation", lies, f"{remedy}, or use --frame auto")]


def check_portrait(image: Picture, pose: Pose) -> list[Finding]:
    """The face's size, sharpness and direction, and what of the body shows; ``pose`` in fractions."""
    found = []
    height, width = image.shape[:2]
    if face_found(pose):
        points = pose.joints * (width, height)
        face, tall = points[FACE], float(face_height(points))
        if tall < SMALL_FACE_PIXELS:
            found.append(Finding("warning", "face size", f"the face is only {tall:.0f} pixels high",
                                 "use a larger picture"))  # fmt: skip
        if face_lightness(image, pose) < DARK:
            found.append(Finding("warning", "light", "the picture is very dark",
                                 "brighten it; until then hands stay at rest"))  # fmt: skip
        sharpness = face_sharpness(image, face)
        if sharpness < BLURRED:
            found.append(Finding("warning", "sharpness", "the face looks blurred", "use a sharper picture"))
        if abs(face_turn(face)) > TURNED:
            found.append(Finding("warning", "direction", "the head is turned to the side",
                                 "use a picture that faces the camera"))  # fmt: skip
    notices = [notice for notice in portrait_notices(pose) if "no face" not in notice]
    found += [Finding("note", "body", notice, _shown_remedy(notice)) for notice in notices]
    return found


def _shown_remedy(notice: str) -> str:
    return f"use a picture that shows {'the person to the waist' if 'shoulders' in notice else 'both hands'}"


def check_framing(framing: Framing, pose: Pose, *, auto_helps: bool = False) -> list[Finding]:
    """Head room and size in the frame; ``pose`` in fractions of the frame.

    ``auto_helps``: the picture was kept as it is, and framing it would change that.
    """
    auto = "use --frame auto, or " if auto_helps else ""
    found = [Finding("note", "framing", notice) for notice in framing.notices]
    if not face_found(pose):
        return found
    brows, chin = pose.joints[FACE, 1].min(), pose.joints[FACE, 1].max()
    if chin - brows < SMALL_FACE:
        text = f"the face fills only {chin - brows:.0%} of the frame's height"
        remedy = f"{auto}crop the picture closer to the person"
        found.append(Finding("warning", "face size", text, remedy))
    if chin - brows > LARGE_FACE:
        text = f"the face fills {chin - brows:.0%} of the frame's height: chin and neck may swell or darken"
        found.append(Finding("warning", "close-up", text, "use a picture that shows the person to the waist"))
        return found
    if brows < LITTLE_HEAD_ROOM:
        found.append(Finding("warning", "head room", "the head touches or crosses the upper edge",
                             f"{auto}use a picture with some space above the head"))  # fmt: skip
    elif brows > MUCH_HEAD_ROOM:
        text = f"{brows:.0%} of the frame is empty above the brows: the person may be stretched"
        remedy = f"{auto}cut the upper part of the picture away, or use one that shows more below"
        found.append(Finding("warning", "head room", text, remedy))
    return found


def check_gesture(gesture: Gesture) -> list[Finding]:
    """Whether the gesture has hands that can be drawn, and what of it was left out."""
    found = [Finding("note", "gesture", notice) for notice in gesture.notices]
    seen = np.median(gesture.hands_confidence, axis=2) >= SEEN
    left, right = seen.mean(axis=0)
    if not seen.any():
        return [*found, Finding("warning", "gesture", "no hand can be seen in the gesture",
                                "extract it again from a video that shows the hands")]  # fmt: skip
    for side, share in (("left", left), ("right", right)):
        if share < 0.5:
            found.append(
                Finding("note", "gesture", f"the {side} hand is missing in {1 - share:.0%} of the poses")
            )
    return found


def check_movable(portrait: Pose, aspect: float = 1.0) -> list[Finding]:
    """Which hands that the portrait shows a planned gesture leaves at rest."""
    moves = movable(portrait, aspect)
    resting = [
        side
        for side, found, free in zip(("left", "right"), hands_found(portrait), moves.hands, strict=True)
        if found and not free
    ]
    if not resting:
        return []
    hands = "hands stay" if len(resting) == 2 else f"{resting[0]} hand stays"
    text = (
        f"the portrait's {hands} at rest: half hidden, holding something, or at the face, an arm or the edge"
    )
    return [Finding("note", "hands", text, "use a picture with free hands, or name a gesture, to move them")]


def check_fit(
    aligned: Gesture, alignment: Alignment, portrait: Pose, *, may_align: bool = True
) -> list[Finding]:
    """Whether the gesture fits the portrait."""
    found = []
    if alignment.by == "nothing":
        found.append(Finding("note", "fit", "the gesture could not be compared with the portrait"))
    elif not may_align and not SCALE[0] <= alignment.scale <= SCALE[1]:
        text = f"the gesture's body is {1 / alignment.scale:.2f} times the portrait's"
        found.append(Finding("warning", "fit", text, "use --align auto"))
    if alignment.outside > HANDS_OUTSIDE:
        text = f"{alignment.outside:.0%} of the hands lie outside the frame"
        remedy = "choose another gesture, or a portrait with more space around"
        found.append(Finding("warning", "hands", text, remedy))
    jump = first_jump(aligned, portrait)
    if jump > 0.35:
        text = "the gesture starts far from the portrait's hands, so the first frames may be blurred"
        found.append(Finding("note", "start", text, "choose a gesture that starts near the portrait's pose"))
    return found


def check_sound(speech: Speech, name: str, *, allow_silence: bool = False) -> list[Finding]:
    """Whether the recording ``name`` can be used. A silent one can where silence is allowed."""
    if speech.seconds < SHORTEST_SECONDS:
        return [Finding("error", "speech", f"{name}: lasts {speech.seconds:.2f} s",
                        f"give at least {SHORTEST_SECONDS} s of speech")]  # fmt: skip
    level = float(np.sqrt(np.mean(np.square(speech.waveform, dtype=np.float64))))
    if not np.isfinite(level):
        text = f"{name}: holds samples that are not numbers"
        return [Finding("error", "speech", text, "export it again")]
    if level >= SILENT_BELOW:
        return []
    if allow_silence:
        return [Finding("note", "speech", f"{name}: is silent")]
    remedy = "give a recording of speech, or add --allow-silence"
    return [Finding("error", "speech", f"{name}: is silent", remedy)]


def check_speech(speech: Speech, prosody: Prosody | None = None) -> list[Finding]:
    """Whether a usable recording is loud, clean and long enough."""
    wave = speech.waveform
    found = []
    level = 10 * np.log10(float(np.percentile(_power(speech), 90)) + 1e-12)
    if level < QUIET_DB:
        text = f"the speech is very quiet ({level:.0f} dB); it is raised for the model, not in the video"
        found.append(Finding("warning", "speech", text, "record it louder, because noise is raised too"))
    if float((np.abs(wave) > 0.999).mean()) > CLIPPED:
        found.append(
            Finding("warning", "speech", "the recording is clipped (too loud)", "record or export it softer")
        )
    if speech.seconds < SHORT_SECONDS:
        found.append(Finding("warning", "speech", f"the recording lasts only {speech.seconds:.1f} s",
                             "give at least a second"))  # fmt: skip
    if prosody is not None and not prosody.syllables:
        found.append(Finding("warning", "speech", "no speech was found in the recording",
                             "music and noise move the lips little"))  # fmt: skip
    elif prosody is not None and speech.seconds >= 2 and prosody.rate < FEWEST_SYLLABLES:
        text = f"the recording hardly sounds like speech ({prosody.rate:.1f} syllables a second)"
        remedy = "with music alone the mouth hangs open; give the voice without it"
        found.append(Finding("warning", "speech", text, remedy))
    return found or _check_pauses(speech)


def _check_pauses(speech: Speech) -> list[Finding]:
    """Whether lips can close between the words of a loud and clean recording, and after the last."""
    if speech.seconds < 2:
        return []
    levels = 10 * np.log10(_power(speech) + 1e-12)
    quiet, loud = np.percentile(levels, (5, 90))
    found = []
    if NOISY_DB[0] < loud - quiet < NOISY_DB[1]:
        text = f"noise or music is only {loud - quiet:.0f} dB below the voice: lips may not close in pauses"
        found.append(Finding("warning", "speech", text, "record it in a quieter place, or remove the noise"))
    elif loud - quiet >= NOISY_DB[1] and levels[-3:].max() > loud - ENDS_DB:
        text = "the recording ends in the middle of a word: the video ends with an open mouth"
        found.append(Finding("note", "speech", text, "let it end with half a second of silence"))
    return found


def face_sharpness(image: Picture, face: Floats) -> float:
    """Variance of the Laplacian of the face, brought to 128 pixels and even contrast."""
    low, high = face.min(axis=0), face.max(axis=0)
    x0, y0 = (int(v) for v in np.clip(low, 0, None))
    x1, y1 = (int(v) + 1 for v in np.clip(high, None, image.shape[1::-1]))
    if x1 - x0 < 8 or y1 - y0 < 8:
        return 0.0
    grey = cv2.cvtColor(np.ascontiguousarray(image[y0:y1, x0:x1]), cv2.COLOR_RGB2GRAY)
    grey = cv2.resize(grey, (128, 128), interpolation=cv2.INTER_AREA).astype(np.float64)
    even = (grey - grey.mean()) / max(float(grey.std()), 4.0) * 40
    return float(cv2.Laplacian(even, cv2.CV_64F).var())


def face_turn(face: Floats) -> float:
    """How far the nose's tip is off the middle of the jaw's ends, in halves of the face's width."""
    left, right = face[0, 0], face[16, 0]
    half = max(abs(right - left) / 2, 1e-6)
    return float((face[30, 0] - (left + right) / 2) / half)


def first_jump(gesture: Gesture, portrait: Pose) -> float:
    """Distance from the portrait's hands to the gesture's first ones, in fractions of the picture."""
    if not any(hands_found(portrait)) or portrait.confidence[BODY].max() < SEEN:
        return 0.0
    both = (portrait.confidence >= SEEN) & (gesture.confidence[0] >= SEEN)
    both[: FACE.stop] = False
    if not both.any():
        return 0.0
    moved = gesture.joints[0][both] - portrait.joints[both]
    return float(np.median(np.hypot(moved[:, 0], moved[:, 1])))


def _power(speech: Speech) -> Floats:
    step = max(1, speech.rate // 50)
    count = max(1, len(speech.waveform) // step)
    used = speech.waveform[: count * step].astype(np.float64)
    return np.asarray((used.reshape(count, -1) ** 2).mean(axis=1))
